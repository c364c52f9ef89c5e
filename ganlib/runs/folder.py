"""The folder of a run: what ``fit`` keeps there, how it is resumed, and how it is read afterwards.

    config.json                          what the run is: settings, players, images, versions (ganlib.runs.settings)
    history.jsonl, metrics.jsonl         one line a step: its losses; one line a score
    samples/step-000250.png              a snapshot: the images of the fixed z, eight to a row
    checkpoints/step-001000.safetensors  everything that training continues from (ganlib.runs.checkpoint)

A checkpoint has losses and scores in it, too: the .jsonl files are for reading, and written anew from it on resuming.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Collection
from pathlib import Path

import filelock
import torch
from torch import Tensor

from ganlib._runtime import device as runtime
from ganlib._runtime import durable
from ganlib.runs import checkpoint, samples, settings
from ganlib.steps import GAN
from ganlib.train import History, due

KEPT = 3  # checkpoints: the last so many, the best one, and those that keep_at names
RECORD_EVERY = 10.0  # seconds between two additions to the .jsonl files, besides those at each checkpoint

log = logging.getLogger("ganlib")


class Run:
    """Where ``fit(..., run=Run("runs/mine"))`` keeps a run. Passed to ``fit`` again, the run continues.

    A full disk or a lost drive does not end training: it is told once, and what was saved stays.

    Args:
        folder: a new one, or with ``resume`` that of a run.
        resume: give the players the state of the newest intact checkpoint, if the folder has one; ``steps`` and
            ``seconds`` of ``fit`` then count from the beginning of the run. A resumed run ends, on a CPU, bit for bit
            where an uninterrupted one does.
        allow_changes: resume with settings, players or images other than the run had.
        checkpoint_every: steps between two checkpoints; there is one more at the end and after the best score yet.
        keep_at: steps whose checkpoints are kept for good, besides the last three and the best.
        made_from: what the run was made from, in JSON's types; noted in ``config.json`` and compared with nothing.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        resume: bool = False,
        allow_changes: bool = False,
        checkpoint_every: int = 1000,
        keep_at: Collection[int] = (),
        made_from: dict | None = None,
    ):
        if checkpoint_every < 1:
            raise ValueError(f"checkpoint_every={checkpoint_every}, but must be at least 1.")
        self.folder, self.resume, self.allow_changes = Path(folder), resume, allow_changes
        self.checkpoint_every, self.keep_at, self.made_from = checkpoint_every, set(keep_at), made_from
        self.latest: int | None = None  # step of the newest checkpoint
        self._gan: GAN | None = None  # the players that the run left in memory
        self._frames: list[dict] = []  # the snapshots on disk: see samples.write_snapshot
        self._written = {"history.jsonl": (0, 0), "metrics.jsonl": (0, 0)}  # lines and bytes that are there for sure
        self._told: set[str] = set()

    @contextlib.contextmanager
    def training(self, gan: GAN, step, images, history: History, asked: dict):
        """Begin or resume the run, hold its folder while the block trains, and save its end."""
        runtime.check_writable(self.folder)
        try:
            lock = filelock.FileLock(self.folder / ".lock", timeout=0).acquire()
        except filelock.Timeout:
            raise FileExistsError(
                f"'{self.folder}' is in use by another process; wait for it, or choose another folder."
            ) from None
        with lock:
            self.history, same = history, self._gan is gan
            self._gan = None  # until training has ended well
            self._enter(gan, self._describe(gan, step, images, asked), same and not self.resume)
            yield
            self._finish(gan)

    def due(self, step: int) -> bool:
        """Whether there is a checkpoint after ``step``."""
        return step % self.checkpoint_every == 0 or step in self.keep_at

    def after_step(self, gan: GAN) -> None:
        """Save what is due; the last step is saved when training ends."""
        step, scored = gan.steps_done, self.history.scores[-1:]
        best = bool(scored) and scored[0][0] == step == self.history.best
        if best or (self.due(step) and not self.history.over(step)):
            self._save(gan)
        elif time.monotonic() - self._recorded > RECORD_EVERY:
            self._save(None)

    def _describe(self, gan: GAN, step, images, asked: dict) -> dict:
        history, precision = self.history, "fp32" if self.history.precision == "float32" else "bf16"
        arguments = dict(batch_size=history.batch_size, flip=getattr(images, "flip", False), ema_decay=gan.ema_decay)
        arguments |= dict(seed=gan.seed, device=history.device, precision=precision, **asked)
        arguments |= dict(checkpoint_every=self.checkpoint_every, keep_at=self.keep_at)
        made_from = {} if self.made_from is None else {"config": self.made_from}
        return settings.describe(gan, step, images, arguments) | made_from

    def _enter(self, gan: GAN, config: dict, in_memory: bool) -> None:
        folder, self.config = self.folder, config
        there = any((folder / name).exists() for name in ("config.json", "checkpoints"))
        if there and not self.resume and not in_memory:
            raise FileExistsError(
                f"'{folder}' holds a run, which would be overwritten; choose another folder, or resume it: resume=True."
            )
        with _explained(folder):
            for path in (folder, folder / "checkpoints", folder / "samples"):
                path.mkdir(exist_ok=True)
                durable.clean(path)
        if found := self._newest_intact():
            self._continue(gan, *found, in_memory)
        with _explained(folder):
            self._recorded, self._written = time.monotonic(), dict.fromkeys(self._written, (0, 0))
            self._record()  # a run that was killed may have come further than its newest checkpoint
            samples.remove_others(folder / "samples", {frame["step"] for frame in self._frames})
            durable.write(folder / "config.json", (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())
        self._gan = gan

    def _newest_intact(self) -> tuple[dict[str, Tensor], dict] | None:
        """The newest intact checkpoint. Damaged ones are told and put aside; None if there never was one."""
        steps, damaged = checkpoint.steps_in(self.folder), []
        for step in reversed(steps):
            path = checkpoint.path_of(self.folder, step)
            try:
                found = checkpoint.read_checkpoint(path)
            except ValueError as error:
                log.warning(f"{error} {'The one before it is taken.' if step != steps[0] else ''}")
                damaged.append(path)
                continue
            for path in damaged:  # not removed: its owner may want to look; but not in the way of the next of its step
                with contextlib.suppress(OSError):
                    path.rename(runtime.new_file(path.with_name(f"damaged-{path.name}")))
            return found
        if steps:
            raise ValueError(f"No checkpoint in '{self.folder}' is intact; begin anew in another folder.")
        return None

    def _continue(self, gan: GAN, tensors: dict[str, Tensor], facts: dict, in_memory: bool) -> None:
        """Give the history, and unless they are in memory the players, what the checkpoint holds."""
        done, now, history = facts["steps_done"], self.config, self.history
        if in_memory and done != gan.steps_done:
            raise FileExistsError(
                f"'{self.folder}' has these players after {done:,} steps, but by now they have made "
                f"{gan.steps_done:,}; choose another folder, or go back to what it has: resume=True."
            )
        before = facts["config"]  # that which led to the checkpoint; config.json may have been written since
        changes = settings.differences(before, now)
        if not torch.equal(tensors["run/fixed_z"], gan.fixed_z.cpu()):
            changes.append("fixed_z was another one.")
        if not in_memory:
            changes += _other_steps(before["arguments"], now["arguments"], done)
        if changes and not self.allow_changes:
            raise ValueError(
                f"The run in '{self.folder}' had other settings: {' '.join(changes)} Give what it had to resume it "
                "exactly, or allow_changes=True to continue with the new ones."
            )
        if new := settings.new_surroundings(before, now):
            log.info(f"Resumed with {', '.join(new)}: the numbers may differ in their last digits.")
        if not in_memory:
            changed = [name for name in checkpoint.OPTIMISERS if before["players"][name] != now["players"][name]]
            checkpoint.restore(gan, tensors, facts, keep_settings=changed)
        told = facts["history"]
        history.first_step, history.batches, history.seconds = told["first_step"], told["batches"], told["seconds"]
        history.losses = {name: tensors[f"run/loss.{name}"].tolist() for name in told["names"]}
        history.scores = [(step, values) for step, values in told["scores"]]
        history.best_by = tuple(told["best_by"]) if told["best_by"] else None
        self._frames, self.latest = list(facts["frames"]), done
        read = [(frame["step"], samples.read_snapshot(self.folder / "samples", frame)) for frame in self._frames]
        history.snapshots = [(step, images) for step, images in read if images is not None]
        if in_memory:  # what is asked for now comes on top
            for name, made in (("steps", history.steps), ("seconds", history.seconds)):
                if now["arguments"][name] is not None:
                    now["arguments"][name] += made
        if told := [*before.get("changes", []), *([{"after_step": done, "what": changes}] if changes else [])]:
            now["changes"] = told

    def _save(self, gan: GAN | None) -> None:
        """Write what is new, and with ``gan`` a checkpoint; a failure is told once and tried again at the next."""
        try:
            self._recorded = time.monotonic()
            self._record()
            if gan is not None:
                self._checkpoint(gan)
                self._told.clear()
        except OSError as error:
            why = error.strerror or str(error)
            if why not in self._told:
                self._told.add(why)
                kept = "" if self.latest is None else f", and the checkpoint of step {self.latest:,} stays"
                log.warning(f"Saving to '{self.folder}' failed ({why}). Training goes on{kept}.")

    def _record(self) -> None:
        history = self.history
        losses = ({n: v[k] for n, v in history.losses.items()} for k in range(history.steps))
        self._lines("history.jsonl", [(history.first_step + k + 1, some) for k, some in enumerate(losses)])
        self._lines("metrics.jsonl", history.scores)
        there = {frame["step"] for frame in self._frames}
        for step, images in history.snapshots:
            if step not in there:
                self._frames.append(samples.write_snapshot(self.folder / "samples", step, images))

    def _lines(self, name: str, records: list[tuple[int, dict]]) -> None:
        """Add what is new to a .jsonl file; what a failed attempt left after the last good line goes."""
        path, (lines, size) = self.folder / name, self._written[name]
        if not path.exists() or path.stat().st_size < size:  # somebody removed it
            lines, size = 0, 0
        with path.open("r+b" if path.exists() else "xb") as file:
            file.seek(size)
            file.truncate()
            file.writelines((json.dumps({"step": step, **some}) + "\n").encode() for step, some in records[lines:])
            file.flush()
            self._written[name] = len(records), file.tell()

    def _checkpoint(self, gan: GAN) -> None:
        history = self.history
        tensors, facts = checkpoint.capture(gan)
        tensors["run/fixed_z"] = gan.fixed_z.contiguous().cpu()
        tensors |= {f"run/loss.{n}": torch.tensor(v, dtype=torch.float64) for n, v in history.losses.items()}
        told = {name: getattr(history, name) for name in ("first_step", "batches", "seconds", "scores", "best_by")}
        facts |= {"history": told | {"names": list(history.losses)}, "frames": self._frames, "config": self.config}
        checkpoint.write_checkpoint(checkpoint.path_of(self.folder, gan.steps_done), tensors, facts)
        self.latest = gan.steps_done
        steps = checkpoint.steps_in(self.folder)
        for old in set(steps[:-KEPT]) - {history.best} - self.keep_at:
            with contextlib.suppress(OSError):  # what cannot be removed is no harm
                checkpoint.path_of(self.folder, old).unlink()

    def _finish(self, gan: GAN) -> None:
        last = "no checkpoint" if self.latest is None else f"the checkpoint of step {self.latest:,}"
        if not self.history.intact:  # nothing continues exactly from inside a step
            self._gan = None
            log.info(
                f"The run was interrupted inside a step, so the players are not saved; '{self.folder}' has {last}, and "
                "resume=True continues from there."
            )
        elif self.history.steps and self.latest != gan.steps_done:
            self._save(gan)
            if self.latest != gan.steps_done:
                log.warning(
                    f"Step {gan.steps_done:,} is not saved: '{self.folder}' has {last}. The players are still in "
                    "memory; save them elsewhere with ganlib.runs.checkpoint.save."
                )


@contextlib.contextmanager
def _explained(folder: Path):
    """Errors of the disk inside the block, with what to do."""
    try:
        yield
    except OSError as error:
        raise type(error)(f"Cannot write in '{folder}' ({error.strerror}); make room, or choose another.") from error


def _other_steps(before: dict, now: dict, done: int) -> list[str]:
    """One sentence for each kind of event that the run had at other steps than it would have had by now."""
    found = []
    for name, what in (("snapshot_every", "a snapshot"), ("score_every", "a score")):
        had, has = ({k for k in range(done + 1) if due(k, arguments[name])} for arguments in (before, now))
        if differ := sorted(had ^ has):
            was = "was" if differ[0] in had else "was not"
            found.append(f"{name} differs: there {was} {what} after step {differ[0]:,}.")
    return found
