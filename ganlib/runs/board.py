"""A run in TensorBoard: losses, scores and snapshots, if the extra ``tensorboard`` is installed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from ganlib.runs.frames import COLUMNS
from ganlib.train import History
from ganlib.viz.images import grid


def check() -> None:
    """See that TensorBoard is there, before a run and not in it.

    Raises:
        ImportError: if it is not installed, with how to.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "tensorboard=True needs TensorBoard, which is not installed: pip install tensorboard, or leave it out."
        ) from error


@contextlib.contextmanager
def board(folder: Path) -> Iterator[Callable[[History], None]]:
    """A function for ``fit``'s ``watch`` that brings what is new in a history into ``folder``.

    What an earlier part of the run left there goes, and is written anew from the history, which has all of it.

    Raises:
        ImportError: if TensorBoard is not installed.
        OSError: if ``folder`` cannot be written.
    """
    check()
    from torch.utils.tensorboard import SummaryWriter

    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    written = {"losses": 0, "scores": 0, "snapshots": 0}
    with SummaryWriter(str(folder)) as writer:

        def watch(history: History) -> None:
            for k in range(written["losses"], history.steps):
                for name, values in history.losses.items():
                    writer.add_scalar(f"loss/{name}", values[k], history.first_step + k + 1)
            for step, values in history.scores[written["scores"] :]:
                for name, value in values.items():
                    writer.add_scalar(f"score/{name}", value, step)
            for step, images in history.snapshots[written["snapshots"] :]:
                writer.add_image("samples", grid(images, cols=COLUMNS), step, dataformats="HWC")
            written.update(losses=history.steps, scores=len(history.scores), snapshots=len(history.snapshots))

        yield watch
