"""The folder of a run, written while it trains, so that whatever happens then, what was saved stays.

    config.json               what the run is: settings, players, images, versions (see ganlib.runs.settings)
    history.jsonl             one line a step: its losses
    metrics.jsonl             one line a score
    samples/step-000250.png   a snapshot: the images of the fixed z, eight to a row
    checkpoints/step-001000/  everything that training goes on from (see ganlib.runs.checkpoint)

A checkpoint has its losses in it, too: history.jsonl and metrics.jsonl are for reading, and made anew from it.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ganlib._runtime import durable
from ganlib.runs import checkpoint, frames, settings, state
from ganlib.runs.state import Tensors
from ganlib.steps import GAN
from ganlib.train import History

KEEP = 3  # checkpoints: the last so many, the one with the best score, and those that the settings name
STALL = 30.0  # seconds that a save may take before it is told, and training goes on without it
EVERY = 10.0  # seconds between two additions to the .jsonl files, besides those at each checkpoint


@dataclass
class _Job:
    """What the writing thread is to bring on disk."""

    history: History  # a copy that does not grow, but for its losses
    steps: int  # losses
    tensors: Tensors | None = None  # of a checkpoint, or None
    facts: dict | None = None


class Run:
    """A run's folder while the run goes on; as a context it ends by waiting until everything is written.

    One thread writes while training goes on, so that a drive that stalls does not stop it; two saves never overlap.
    What fails is told once and tried again with the next save.

    Attributes:
        folder: the run's folder.
        history: what ``fit`` adds to.
        fixed_z: [n, z_dim], of the snapshots.
        config: what :func:`ganlib.runs.settings.describe` gives.
        keep_at: the steps whose checkpoints are never removed.
        latest: the step of its newest whole checkpoint, None before the first.
        frames: what to find the snapshots again by that are in the folder.
        random: of a run that is gone on with, the checkpoint that has its global random generators.
    """

    def __init__(self, folder: Path, history: History, fixed_z: Tensor, config: dict):
        self.folder, self.history, self.fixed_z, self.config = folder, history, fixed_z, config
        self.keep_at = settings.steps_of(config["arguments"].get("keep_at", ()))
        self.latest: int | None = None
        self.frames: list[dict] = []
        self.random: tuple[Tensors, dict] | None = None
        self._known = {"history.jsonl": (0, 0), "metrics.jsonl": (0, 0)}  # lines and bytes that are there for sure
        self._thread: threading.Thread | None = None
        self._begun, self._added = 0.0, time.monotonic()
        self._told_stall, self._given_up = False, False
        self._news: list[str] = []  # sentences of the writing thread, printed by the other
        self._said: set[str] = set()
        self._bug: BaseException | None = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_) -> None:
        self._wait()

    def restore_random(self) -> None:
        """If this run was gone on with, set the global random generators to where they were."""
        if self.random:
            state.restore_global_random(*self.random)

    def cut_back(self) -> None:
        """Write the .jsonl files anew: a run that was killed may have got further than what is gone on from.

        Raises:
            OSError: if they cannot be written.
        """
        self._write_record(self.history, self.history.steps)

    def save(self, gan: GAN) -> None:
        """Write a checkpoint; a failure is told, and does not end the run."""
        self._submit(gan)

    def poll(self) -> None:
        """To call at every step: say what there is to say, and add to the .jsonl files now and then."""
        if self._news or self._bug:
            self._speak()
        if time.monotonic() - self._added > EVERY and not self._busy():
            self._submit(None)
        if self._busy() and self._overdue() and not self._told_stall:
            self._told_stall = True
            print(f"Saving to '{self.folder}' has taken {STALL:.0f} s so far; training goes on meanwhile.")

    def finish(self, gan: GAN, whole: bool = True) -> None:
        """Write the last checkpoint, wait for it, and say so if it is not there.

        ``whole`` is False if a step was broken off inside: nothing goes on exactly from there, so it is not saved.
        """
        self._wait()
        if whole and self.latest != gan.steps_done and not self._busy():
            self._submit(gan)
            self._wait()
        last = "no checkpoint" if self.latest is None else f"the checkpoint of step {self.latest:,}"
        if not whole:
            print(
                f"It was broken off inside a step, so the players are not saved; '{self.folder}' has {last}, and "
                "resume=True goes on from there."
            )
        elif self.latest != gan.steps_done:
            print(
                f"Step {gan.steps_done:,} is not saved: '{self.folder}' has {last}. The players are still in memory; "
                "save them elsewhere with ganlib.runs.checkpoint.save."
            )

    def _submit(self, gan: GAN | None) -> None:
        """Hand a copy of the state to the writing thread; wait for the save before, but not for a stalled one."""
        if self._thread:
            self._thread.join(max(0.0, self._begun + STALL - time.monotonic()))
        self._speak()
        if self._busy():
            if gan is not None:
                print(f"Step {gan.steps_done:,} is not saved: the save before it is still being written.")
            return
        h = self.history
        job = _Job(replace(h, losses=dict(h.losses), snapshots=list(h.snapshots), scores=list(h.scores)), h.steps)
        if gan is not None:
            job.tensors, job.facts = state.capture(gan)
        self._begun, self._told_stall, self._added = time.monotonic(), False, time.monotonic()
        self._thread = threading.Thread(target=self._write, args=(job,), daemon=True)
        self._thread.start()

    def _busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _overdue(self) -> bool:
        return time.monotonic() - self._begun > STALL

    def _wait(self) -> None:
        """Until everything is written, or the user has enough of it."""
        told = False
        try:
            while self._busy() and not self._given_up:
                self._thread.join(1.0)
                if self._busy() and self._overdue() and not told:
                    told = True
                    print(
                        f"Saving to '{self.folder}' has taken {STALL:.0f} s so far; interrupt to wait no longer. "
                        "Older checkpoints stay as they are."
                    )
        except KeyboardInterrupt:
            self._given_up = True
            print(f"No longer waiting for '{self.folder}'.")
        self._speak()

    def _speak(self) -> None:
        news, self._news = self._news, []
        for sentence in news:
            print(sentence)
        if self._bug:
            bug, self._bug = self._bug, None
            raise bug

    # --- in the writing thread

    def _write(self, job: _Job) -> None:
        try:
            self._write_record(job.history, job.steps)
            there = {frame["step"] for frame in self.frames}
            for step, images in job.history.snapshots:
                if step not in there:
                    self.frames.append(frames.write(self.folder / "samples", step, images))
            if job.facts is not None:
                self._write_checkpoint(job)
        except OSError as error:
            self._tell(error)
        except BaseException as error:  # told in the training thread
            self._bug = error

    def _tell(self, error: OSError) -> None:
        why = error.strerror or str(error)
        if why not in self._said:
            self._said.add(why)
            kept = "" if self.latest is None else f", and the checkpoint of step {self.latest:,} stays"
            self._news.append(f"Saving to '{self.folder}' failed ({why}). Training goes on{kept}.")

    def _write_record(self, history: History, steps: int) -> None:
        self._write_lines("history.jsonl", steps, lambda k: _losses_line(history, k))
        self._write_lines("metrics.jsonl", len(history.scores), lambda k: _score_line(history, k))

    def _write_lines(self, name: str, count: int, line) -> None:
        """Bring a .jsonl file to ``count`` lines; what a failed attempt left after the last good one goes."""
        path, (lines, size) = self.folder / name, self._known[name]
        if not path.exists() or path.stat().st_size < size:  # somebody removed it
            lines, size = 0, 0
        with path.open("r+b" if path.exists() else "xb") as file:
            file.seek(size)
            file.truncate()
            file.writelines(line(k) for k in range(lines, count))
            file.flush()
            self._known[name] = count, file.tell()

    def _write_checkpoint(self, job: _Job) -> None:
        history, facts, step = job.history, job.facts, job.facts["steps_done"]
        losses, facts["history"] = state.capture_history(history, job.steps)
        facts |= {"frames": list(self.frames), "config": self.config}
        tensors = job.tensors | {"run": {f"loss.{name}": values for name, values in losses.items()}}
        tensors["run"]["fixed_z"] = self.fixed_z.contiguous().cpu()
        folder = checkpoint.step_folder(self.folder, step)
        making = durable.temporary_name(folder)
        try:
            checkpoint.write(making, tensors, facts)
            durable.sync_folder(self.folder / "samples")
            durable.rename_folder(making, folder)
        except OSError:
            durable.clean(folder.parent)  # on a full disk every byte counts
            raise
        self.latest = step
        self._said.clear()
        with contextlib.suppress(OSError):  # what cannot be removed is no harm
            steps = checkpoint.steps_in(self.folder)
            for old in set(steps[:-KEEP]) - {history.best, *self.keep_at}:
                durable.remove_folder(checkpoint.step_folder(self.folder, old))


def _losses_line(history: History, k: int) -> bytes:
    record = {"step": history.first_step + k + 1, **{name: values[k] for name, values in history.losses.items()}}
    return (json.dumps(record) + "\n").encode()


def _score_line(history: History, k: int) -> bytes:
    step, values = history.scores[k]
    return (json.dumps({"step": step, **values}) + "\n").encode()
