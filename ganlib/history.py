"""What happened during a run: losses, snapshots, scores; and the refusal to go on after a number that is none."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class History:
    """What happened during a run.

    Attributes:
        losses: name -> one value a step, as the step returned them.
        snapshots: (steps done, uint8 [n, C, H, W]): what the running average makes of the fixed z.
        scores: (steps done, name -> value).
        batch_size: images a batch.
        steps_per_epoch: steps in one pass over the reals; its ragged end is left out.
        seconds: training time; snapshots, scores and checkpoints not counted.
        first_step: steps that the players had done before this run.
        batches: batches of reals that its steps took.
        device, precision: what it ran on, for example ``cpu`` and ``float32``.
        stopped: why it ended before its last step, or None.
    """

    batch_size: int
    steps_per_epoch: float
    device: str
    precision: str
    first_step: int = 0
    batches: int = 0
    losses: dict[str, list[float]] = field(default_factory=dict)
    snapshots: list[tuple[int, Tensor]] = field(default_factory=list)
    scores: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    seconds: float = 0.0
    stopped: str | None = None

    @property
    def steps(self) -> int:
        """Steps of this run: generator updates."""
        return max(map(len, self.losses.values()), default=0)

    @property
    def best(self) -> int | None:
        """The step after which the first number of the score was lowest, as is good of FD, FID and KID; None for none.

        What the players scored before they were trained does not count.
        """
        firsts = [(next(iter(values.values()), math.nan), step) for step, values in self.scores if step]
        return min((pair for pair in firsts if math.isfinite(pair[0])), default=(0, None))[1]

    def __repr__(self) -> str:
        rate = self.steps / self.seconds if self.seconds else 0.0
        last = " · ".join(f"{name} {values[-1]:.3f}" for name, values in self.losses.items())
        ran = f"{self.steps:,} steps in {self.seconds:.0f} s ({rate:.1f} a second, {self.device}, {self.precision})"
        return f"{ran} · {last}"


class Diverged(FloatingPointError):
    """A loss became NaN or infinite. ``history`` holds everything up to that step."""

    def __init__(self, message: str, history: History):
        super().__init__(message)
        self.history = history


def checked(record: dict[str, Tensor], history: History) -> dict[str, Tensor]:
    """What a step returned, as detached scalars.

    Raises:
        ValueError: if it is no dict of scalars ``[]`` with the names that the steps before it returned.
    """
    wanted = "it must return a dict of scalars such as {'d_loss': d_loss, 'g_loss': g_loss}"
    if not isinstance(record, dict) or not record:
        got = "nothing (is there a return?)" if record is None else f"a {type(record).__name__}: {record!r:.40}"
        raise ValueError(f"The step returned {got}; {wanted}.")
    for name, value in record.items():
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"The step's '{name}' has shape {list(value.shape)}; {wanted}: take its mean().")
        if not isinstance(value, Tensor | int | float):
            raise ValueError(f"The step's '{name}' is of type {type(value).__name__}; {wanted}.")
    if history.losses and set(record) != set(history.losses):
        raise ValueError(
            f"The step returned {sorted(record)}, but earlier {sorted(history.losses)}; return the same names."
        )
    return {k: v.detach() if isinstance(v, Tensor) else torch.tensor(float(v)) for k, v in record.items()}


def read(unread: list[dict[str, Tensor]], history: History, out) -> None:
    """Move the losses of ``unread``, scalars ``[]``, into the history; ``out`` is where checkpoints went, or None.

    Raises:
        Diverged: at the first loss that is not a finite number.
    """
    while unread:
        values = {name: value.item() for name, value in unread[0].items()}
        for name, value in values.items():
            if not math.isfinite(value):
                kept = "" if out is None else f" The last checkpoint in '{out}' is from before, if there is one."
                raise Diverged(
                    f"{name} became {value} at step {history.first_step + history.steps + 1:,}; the weights are of no "
                    "use any more. Build the players anew and try a lower learning rate, precision='fp32', or a look "
                    f"at the step: a log or a division of your own is the usual cause.{kept}",
                    history,
                )
        for name, value in values.items():
            history.losses.setdefault(name, []).append(value)
        unread.pop(0)
