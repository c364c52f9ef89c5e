"""What is wrong with a GAN: one step is listened to, its losses are read, and everything is checked.

``diagnose`` tries a step on copies of the players, :class:`Doctor` does so now and then while ``fit`` trains, and
``checkup`` listens to any loop of PyTorch's while it runs.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import math
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ganlib.data.images import Batches, ImageSet
from ganlib.metrics.checks import CHECKS
from ganlib.metrics.seen import Note, Seen, listening, tried
from ganlib.metrics.symptoms import SYMPTOMS
from ganlib.steps import GAN

SHARE = 0.012  # of the time of a run that the doctor takes, at most
log = logging.getLogger("ganlib")


@dataclass(frozen=True)
class Finding:
    """Something wrong: its name, the numbers that show it, its usual cause, and what to try first."""

    check: str
    name: str
    evidence: str
    cause: str
    first: str
    lesson: str

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.evidence}\n  usual cause: {self.cause}\n  try first: {self.first}\n  see {self.lesson}"
        )


@functools.cache
def texts() -> dict[str, dict]:
    """What is said of each check, and its limit, from ``findings.toml``."""
    return tomllib.loads((Path(__file__).parent / "findings.toml").read_text(encoding="utf-8"))


def measure(seen: Seen) -> dict[str, tuple[float, str]]:
    """Every check that applies: name -> how bad, and the evidence."""
    with torch.no_grad():
        found = {check.__name__: check(seen) for check in (*CHECKS, *SYMPTOMS)}
    return {name: result for name, result in found.items() if result and not math.isnan(result[0])}


def findings(measured: Mapping[str, tuple[float, str]], silent: bool = False) -> list[Finding]:
    """What lies beyond its limit; ``silent``: of checks that false alarms have silenced, too."""
    found = []
    for check, (value, evidence) in measured.items():
        said = texts()[check]
        if value > said["limit"] and (silent or not said.get("silent")):
            words = {part: said[part] for part in ("name", "cause", "first", "lesson")}
            found.append(Finding(check, evidence=evidence, **words))
    return found


def diagnose(gan: GAN, images, step: Callable, history=None, *, batch_size: int = 64, held_out=None) -> list[Finding]:
    """What is wrong, if anything: a list of findings to print.

    ``step`` is tried on copies of the players; neither they nor any random generator change. ``images`` are what
    ``fit`` got, or an iterator of batches. ``history`` is what ``fit`` returned, for what only shows over time;
    ``held_out`` are images that were not trained on. A check speaks only where it is sure: no finding is no proof.
    """
    batches = images
    if isinstance(images, ImageSet | Tensor):
        device = next(gan.generator.parameters()).device
        batches = Batches(images, min(batch_size, len(images)), device, gan.seed)
    seen = tried(gan, step, iter(batches))
    seen.images, seen.held_out = images, held_out
    if history is not None:
        seen.losses, seen.scores, seen.best_by = history.losses, history.scores, history.best_by
    return findings(measure(seen))


@contextlib.contextmanager
def checkup(generator, discriminator, g_opt, d_opt, *, losses: Mapping[str, Sequence[float]] | None = None):
    """Listen to a few iterations of any training loop; what is found is in the list when the block ends.

        with checkup(netG, netD, optG, optD, losses={"d_loss": d_losses, "g_loss": g_losses}) as found:
            for real, _ in itertools.islice(loader, 3):
                ...  # one iteration, as it stands
        print(*found, sep="\\n")

    Training goes on as without it. ``losses`` are those of the run so far.
    """
    seen, found = Seen(generator, discriminator, g_opt, d_opt), []
    with listening(seen):
        yield found
    seen.losses = losses or {}
    found += findings(measure(seen))


class Doctor:
    """A watcher for ``fit`` that says what is wrong, each thing once, and notes it in ``history.findings``.

        history = fit(gan, step, images, steps=2000, watchers=[Bar(), Doctor()])

    It tries a step on copies after the first one and then as often as 1.2% of the time allows. ``held_out`` are images
    that are not trained on, to tell whether the discriminator learns the others by heart.
    """

    def __init__(self, held_out: ImageSet | None = None):
        self.held_out = held_out
        self.notes: list[Note] = []  # of each look, for the next ones
        self.told: set[str] = set()
        self.spent, self.broken = 0.0, False

    def __call__(self, history) -> None:
        """Look if it is time; an error of its own does not end training."""
        if self.broken or not history.running or (self.notes and self.spent > SHARE * history.seconds):
            return
        gan, step, images, batches, *_ = history.again.args
        self.told |= {check for _, check, _ in history.findings}
        try:
            found = self.look(gan, step, copy.copy(batches), history, images)
        except Exception as error:  # a step that cannot be tried on copies, for one
            self.broken, found = True, []
            log.warning(f"The doctor cannot examine this game ({type(error).__name__}: {error}); training goes on.")
        for finding in found:
            history.findings.append((gan.steps_done, finding.check, f"{finding.name}: {finding.evidence}"))
            log.info(f"step {gan.steps_done:,} · {finding.name}: {finding.evidence}; try first: {finding.first}")

    def look(self, gan: GAN, step: Callable, batches: Iterator[Tensor], history, images=None) -> list[Finding]:
        """What is wrong now and was not told before; ``history`` has ``losses``, ``scores`` and ``best_by``."""
        begun = time.perf_counter()
        seen = tried(gan, step, batches)
        seen.losses, seen.scores, seen.best_by = history.losses, history.scores, history.best_by
        seen.images, seen.held_out, seen.earlier = images, self.held_out, self.notes
        measured = measure(seen)
        self.notes.append(seen.note({name: value for name, (value, _) in measured.items()}))
        found = []
        for finding in findings(measured):
            due = texts()[finding.check].get("looks", 1)
            past = [note.values.get(finding.check, 0.0) for note in self.notes[-due:]]
            if finding.check not in self.told and len(past) == due and min(past) > texts()[finding.check]["limit"]:
                found.append(finding)
        self.told |= {finding.check for finding in found}
        self.spent += time.perf_counter() - begun
        return found
