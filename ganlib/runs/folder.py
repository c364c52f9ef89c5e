"""The folder of a run: what ``fit`` saves there, and how it is resumed and read.

    config.json                          what the run is: settings, players, images, versions (ganlib.runs.provenance)
    history.jsonl, metrics.jsonl         one line a step: its losses; one line a score
    samples/step-000250.png              a snapshot: the images of the fixed z, eight to a row
    checkpoints/step-001000.safetensors  everything that training continues from (ganlib.runs.checkpoint)

A checkpoint contains losses and scores, too: the .jsonl files are for reading, and rewritten from it on resuming.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

import filelock
import torch
from torch import Tensor

from ganlib._runtime import device as runtime
from ganlib._runtime import durable
from ganlib._runtime.checks import check_whole
from ganlib.runs import checkpoint, going_back, provenance
from ganlib.runs.snapshots import read_snapshot, snapshots_in, write_snapshot
from ganlib.steps import GAN
from ganlib.train import Diverged, History

KEPT = 3  # checkpoints kept: this many of the last, the best one, and those in keep_at
RECORD_EVERY = 10.0  # seconds between two writes to the .jsonl files, besides those at each checkpoint
# Of a history, saved as JSON in a checkpoint.
IN_FACTS = ("first_step", "batches", "seconds", "scores", "best_by", "changes", "threads", "findings")

log = logging.getLogger("ganlib")


class Run:
    """A run's folder, for ``fit(..., run=Run("runs/me"))``; pass it again to continue.

    A full disk or a lost drive does not end training: there is one warning, and what was saved stays.

    Args:
        folder: a new folder, or with ``resume`` a run's.
        resume: load the newest intact checkpoint into the players, if the folder has one; ``steps`` and
            ``seconds`` of ``fit`` then count from the beginning of the run. A resumed run ends, on a CPU, bit for bit
            where an uninterrupted one does.
        allow_changes: resume even if settings, players or images differ from the run's.
        checkpoint_every: steps between two checkpoints; there is one more at the end and after the best score yet.
        keep_at: steps whose checkpoints are kept for good, besides the last three and the best.
        keep_every: steps between two others that are kept for good.
        made_from: what the run was made from, in JSON's types; saved in ``config.json``, not compared.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        resume: bool = False,
        allow_changes: bool = False,
        checkpoint_every: int = 1000,
        keep_at: Collection[int] = (),
        keep_every: int | None = None,
        made_from: dict | None = None,
    ):
        check_whole(checkpoint_every=checkpoint_every, keep_every=keep_every)
        if not isinstance(folder, str | os.PathLike) or not str(folder):
            raise ValueError(f"folder is {folder!r}, but must be the path of a run's folder, such as 'runs/mine'.")
        if not isinstance(keep_at, Collection):
            raise ValueError(f"keep_at is {keep_at!r}, but must be a set of steps; keep_every says how often.")
        self.folder, self.resume, self.allow_changes = Path(folder), resume, allow_changes
        self.checkpoint_every, self.made_from = checkpoint_every, made_from
        self.keep_at, self.keep_every = set(keep_at), keep_every
        self._latest: int | None = None  # step of the newest checkpoint
        self._gan: GAN | None = None  # the run's players, still in memory
        self._failure: str | None = None  # why saving failed, once reported

    @contextlib.contextmanager
    def training(self, gan: GAN, step, images, history: History, asked: dict):
        """Start or resume the run, lock its folder during the block, and save at the end."""
        runtime.check_writable(self.folder)
        try:
            lock = filelock.FileLock(self.folder / ".lock", timeout=0).acquire()
        except filelock.Timeout:
            raise FileExistsError(
                f"'{self.folder}' is in use by another process; wait for it, or choose another folder."
            ) from None
        with lock:
            arguments = {name: getattr(history, name) for name in ("batch_size", "device", "precision")} | asked
            arguments |= dict(checkpoint_every=self.checkpoint_every, keep_at=self.keep_at, keep_every=self.keep_every)
            config = provenance.describe(gan, step, images, arguments) | {"config": self.made_from}
            if self._gan is gan and not self.resume:
                self._continue(gan, history, config)
            elif self.resume and checkpoint.steps_in(self.folder):
                self._resume(gan, step, history, config)
            elif not self.resume and any((self.folder / name).exists() for name in ("config.json", "checkpoints")):
                raise FileExistsError(
                    f"'{self.folder}' holds a run, which would be overwritten; choose another folder, or resume it: "
                    f"Run(..., resume=True), or resume_path={self.folder}."
                )
            elif self.resume:
                going_back.check_nothing_is_gone(self.folder)
            self.history, self.config, self._gan = history, config, None
            self._begin()
            try:
                yield
            except Diverged as error:
                how = going_back.note_divergence(self.folder, gan, history, bool(self.made_from))
                raise Diverged(f"{error} {how}", history) from error
            self._gan = gan if history.intact else None  # training cannot continue exactly from the middle of a step
            self._end(gan)

    def precision(self, asked: str) -> str:
        """The precision that is ``asked`` for; in a resumed run "auto" is what it had."""
        if asked == "auto" and self.resume and checkpoint.steps_in(self.folder):
            with contextlib.suppress(OSError, ValueError, KeyError):  # damaged: the checkpoints know, too
                names = {str(dtype): name for name, dtype in runtime.PRECISIONS.items()}
                return names[f"torch.{config_of(self.folder)['arguments']['precision']}"]
        return asked

    def due(self, step: int) -> bool:
        """Whether there is a checkpoint after ``step``."""
        return step % self.checkpoint_every == 0 or self._for_good(step)

    def _for_good(self, step: int) -> bool:
        return step in self.keep_at or bool(self.keep_every and step % self.keep_every == 0)

    def after_step(self, gan: GAN) -> None:
        """Save what is due; the last step is saved when training ends."""
        step, scored = gan.steps_done, self.history.scores[-1:]
        best = bool(scored) and scored[0][0] == step == self.history.best
        if best or (self.due(step) and not self.history.over(step)):
            self._save(gan)
        elif time.monotonic() - self._recorded > RECORD_EVERY:
            self._save(None)

    def save_now(self, gan: GAN) -> None:
        """Save a checkpoint, between two steps."""
        if self._latest != gan.steps_done:
            self._save(gan)

    def _continue(self, gan: GAN, history: History, config: dict) -> None:
        """Continue the history of the players that are still in memory."""
        earlier = self.history
        if (done := earlier.first_step + earlier.steps) != gan.steps_done:
            raise FileExistsError(
                f"'{self.folder}' has these players after {done:,} steps, but by now they have made "
                f"{gan.steps_done:,}; choose another folder, or go back to what it has: resume=True."
            )
        self._compare(self.config, config, done, by_hand=earlier.changes)
        for name in (*IN_FACTS, "losses", "snapshots"):
            setattr(history, name, copy.deepcopy(getattr(earlier, name)))

    def _resume(self, gan: GAN, step, history: History, config: dict) -> None:
        """Load the newest intact checkpoint into players and history."""
        tensors, facts = checkpoint.newest(self.folder)
        before, done = facts["config"], facts["steps_done"]  # config.json may have been written since
        same_z = torch.equal(tensors["run/fixed_z"], gan.fixed_z.cpu())
        by_hand = facts["history"].get("changes", [])
        self._compare(before, config, done, [] if same_z else ["fixed_z was different."], by_hand)
        if not self.allow_changes:
            going_back.check_not_diverged(self.folder)
        if new := provenance.new_surroundings(before, config):
            log.info(f"Resumed with {', '.join(new)}: the numbers may differ in their last digits.")
        changed = [name for name in checkpoint.OPTIMISERS if before["players"][name] != config["players"][name]]
        checkpoint.restore(gan, tensors, facts, keep_settings=changed)
        self._latest = done
        restore_history(history, tensors, facts)
        provenance.make_changes(gan, step, history.changes)
        history.snapshots = []
        for at, path in ((at, path) for at, path in snapshots_in(self.folder) if at <= done):
            try:
                history.snapshots.append((at, read_snapshot(path)))
            except ValueError as error:
                log.warning(error)

    def _compare(self, before: dict, now: dict, done: int, changes: Collection[str] = (), by_hand=()) -> None:
        """Refuse changes that would make it another run; if they are allowed, record them.

        Those made by hand while it ran are part of it: both its first settings and its last will do.
        """
        found = provenance.differences(before, now)
        if by_hand and not provenance.differences(provenance.with_changes(before, by_hand), now):
            found, now["players"], now["step"] = [], before["players"], before["step"]
        changes = [*found, *changes]
        if changes and not self.allow_changes:
            raise ValueError(
                f"The run in '{self.folder}' had other settings: {' '.join(changes)} Give what it had to resume it "
                "exactly, or allow_changes=True to continue with the new ones."
            )
        if told := [*before.get("changes", []), *([{"after_step": done, "what": changes}] if changes else [])]:
            now["changes"] = told

    def _begin(self) -> None:
        """Cut the folder back to the checkpoint: a killed run may have written more."""
        try:
            for path in (self.folder, self.folder / "checkpoints", self.folder / "samples"):
                path.mkdir(exist_ok=True)
                durable.clean(path)
            done = self.history.first_step + self.history.steps
            for step, path in snapshots_in(self.folder):
                if (self.folder / "config.json").exists() and (step > done or not self.history.steps):
                    path.unlink()
            for step in checkpoint.steps_in(self.folder):
                if step > done:  # damaged: its name is needed again, but its owner may want to look
                    path = checkpoint.path_of(self.folder, step)
                    path.rename(runtime.new_file(path.with_name(f"damaged-{path.name}")))
            (self.folder / going_back.DIVERGED).unlink(missing_ok=True)
            self._recorded, self._written, self._snapshots = time.monotonic(), {}, set()
            self._record()
            text = json.dumps(self.config, indent=2, ensure_ascii=False)
            durable.write(self.folder / "config.json", f"{text}\n".encode(errors="backslashreplace"))
        except OSError as error:
            raise type(error)(f"Cannot write in '{self.folder}' ({error.strerror}); make room in it.") from error

    def _save(self, gan: GAN | None) -> None:
        """Write what is new, with ``gan`` a checkpoint too; on failure warn, retry later."""
        try:
            self._recorded = time.monotonic()
            self._record()
            if gan is not None:
                self._checkpoint(gan)
                self._failure = None
        except OSError as error:
            why = error.strerror or str(error)
            if why != self._failure:
                log.warning(f"Saving failed ({why}), and training goes on; {self._kept()}.")
            self._failure = why

    def _record(self) -> None:
        history = self.history
        losses = ({n: v[k] for n, v in history.losses.items()} for k in range(history.steps))
        self._lines("history.jsonl", [(history.first_step + k + 1, some) for k, some in enumerate(losses)])
        self._lines("metrics.jsonl", history.scores)
        there = {self.folder / "samples" / f"step-{step:06d}.png": images for step, images in history.snapshots}
        for path in self._snapshots - {*there}:  # fit keeps only so many of a run with a time limit
            path.unlink(missing_ok=True)
        for path, images in there.items():
            if not path.exists():
                write_snapshot(path, images)
        self._snapshots = {*there}

    def _lines(self, name: str, records: list[tuple[int, dict]]) -> None:
        """Append to a .jsonl file, after removing what a failed attempt left."""
        lines, size = self._written.get(name, (0, 0))
        with (self.folder / name).open("ab") as file:
            if file.tell() < size:  # it was deleted
                lines, size = 0, 0
            file.truncate(size)
            file.writelines((json.dumps({"step": step, **some}) + "\n").encode() for step, some in records[lines:])
            file.flush()
            self._written[name] = len(records), file.tell()

    def _checkpoint(self, gan: GAN) -> None:
        history = self.history
        tensors, facts = checkpoint.capture(gan)
        tensors["run/fixed_z"] = gan.fixed_z.contiguous().cpu()
        tensors |= {f"run/loss.{n}": torch.tensor(v, dtype=torch.float64) for n, v in history.losses.items()}
        told = {name: getattr(history, name) for name in IN_FACTS} | {"losses": list(history.losses)}
        told["changes"] = [(at, name, provenance.plain(value)) for at, name, value in history.changes]
        facts |= {"history": told, "config": self.config}
        checkpoint.write_checkpoint(checkpoint.path_of(self.folder, gan.steps_done), tensors, facts)
        self._latest = gan.steps_done
        steps = checkpoint.steps_in(self.folder)
        for old in (step for step in steps[:-KEPT] if step != history.best and not self._for_good(step)):
            with contextlib.suppress(OSError):  # leftovers do no harm
                checkpoint.path_of(self.folder, old).unlink()

    def _end(self, gan: GAN) -> None:
        """Save the last step, or say why it is not saved."""
        if not self.history.intact:
            log.info(f"Interrupted inside a step, the players are not saved; {self._kept()}, for resume=True.")
        elif self.history.steps and self._latest != gan.steps_done:
            self._save(gan)
            if self._latest != gan.steps_done:
                place = self._save_elsewhere(gan)
                found = f"the players are in '{place}'" if place else "the players are in memory only"
                log.warning(f"Step {gan.steps_done:,} is not saved in its folder: {self._kept()}; {found}.")
                self.history.stopped = f"unsaved in '{self.folder}': {found}"

    def _save_elsewhere(self, gan: GAN) -> Path | None:
        """Save the players outside of a folder that is full or gone; return where."""
        for place in (os.curdir, "~", tempfile.gettempdir()):
            with contextlib.suppress(OSError):
                file = Path(place).expanduser() / f"{self.folder.name}-step-{gan.steps_done:06d}.safetensors"
                return checkpoint.save(gan, runtime.new_file(file)).absolute()

    def _kept(self) -> str:
        last = "no checkpoint yet" if self._latest is None else f"the checkpoint of step {self._latest:,}"
        return f"'{self.folder}' has {last}"


def config_of(folder: Path) -> dict:
    """A run's ``config.json`` (see ganlib.runs.provenance); ValueError if damaged."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))  # editors of Windows put a mark in front
        if len(config["images"]["shape"]) == 3 and {"arguments", "players", "step"} <= config.keys():
            return config
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(
            f"There is no run in '{folder}': 'config.json' is missing; name the folder that a run was trained in."
        ) from error
    except (ValueError, KeyError, TypeError):
        pass  # each of these means a damaged file
    raise ValueError(f"'{path}' is damaged; every checkpoint has the same settings in its metadata, as 'config'.")


def history_of(folder: Path) -> History:
    """A run's history up to its newest intact checkpoint, without snapshots."""
    arguments = config_of(folder)["arguments"]
    history = History(steps_per_epoch=0.0, **{name: arguments[name] for name in ("batch_size", "device", "precision")})
    if checkpoint.steps_in(folder):
        with contextlib.suppress(ValueError):  # none is intact
            restore_history(history, *checkpoint.newest(folder))
    return history


def restore_history(history: History, tensors: dict[str, Tensor], facts: dict) -> None:
    """Fill a history from a checkpoint."""
    for name in IN_FACTS:
        setattr(history, name, facts["history"].get(name, []))  # some are younger than some checkpoints
    for name in ("scores", "changes", "threads", "findings"):
        setattr(history, name, [tuple(row) for row in getattr(history, name)])
    history.losses = {name: tensors[f"run/loss.{name}"].tolist() for name in facts["history"]["losses"]}


def new_file(out: Path | None, default: Path, *others: str) -> Path:
    """``out``, with the suffix of ``default``, or ``default``; numbered if it exists."""
    path = default if out is None else Path(out)
    if path.suffix.lower() != default.suffix:
        raise ValueError(f"out is '{path}', but must be a file that ends in {default.suffix}.")
    return runtime.new_file(path, *others)
