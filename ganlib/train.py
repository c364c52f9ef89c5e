"""``fit``: everything about training a GAN that is not the idea."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ganlib import checkpoint, runtime
from ganlib.data import Batches, ImageSet, to_uint8
from ganlib.models import count_parameters
from ganlib.steps import GAN

Step = Callable[[GAN, Iterator[Tensor]], dict[str, Tensor]]


@dataclass
class History:
    """What happened during a run.

    Attributes:
        losses: name -> one value a step, as the step returned them.
        snapshots: (steps done, uint8 [n, C, H, W]): what the running average makes of the fixed z.
        scores: (steps done, name -> value).
        batch_size: images a batch.
        steps_per_epoch: batches in one pass over the reals; its ragged end is left out.
        seconds: training time; snapshots, scores and checkpoints not counted.
        device, precision: what it ran on, for example ``cpu`` and ``float32``.
        stopped: why it ended before its last step, or None.
    """

    batch_size: int
    steps_per_epoch: int
    device: str
    precision: str
    losses: dict[str, list[float]] = field(default_factory=dict)
    snapshots: list[tuple[int, Tensor]] = field(default_factory=list)
    scores: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    seconds: float = 0.0
    stopped: str | None = None

    @property
    def steps(self) -> int:
        """Steps of this run: generator updates."""
        return max(map(len, self.losses.values()), default=0)

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


def fit(
    gan: GAN,
    step: Step,
    images: ImageSet,
    *,
    steps: int,
    batch_size: int = 64,
    seconds: float | None = None,
    ema_decay: float = 0.995,
    snapshot_at: Collection[int] = (),
    fixed_z: Tensor | None = None,
    score: Callable[[nn.Module], dict[str, float]] | None = None,
    score_at: Collection[int] = (),
    out: str | os.PathLike | None = None,
    checkpoint_every: int = 1000,
    seed: int = 0,
    device: str | None = None,
    precision: str = "auto",
    progress: bool = True,
) -> History:
    """Train ``gan`` with ``step`` on ``images``.

    A second call goes on where the first stopped. Interrupting it (Ctrl-C, or the stop button) is safe: the history so
    far comes back and the players stay usable. With the same seeds a run on the CPU is the same run.

    Args:
        gan: the players; they are moved to the device and stay there, in training mode.
        step: one generator update: ``step(gan, batches) -> {name: scalar}``. ``next(batches)`` gives real images,
            float32 [batch_size, C, H, W] in [-1, 1].
        images: the reals.
        steps: generator updates to make.
        batch_size: images a batch.
        seconds: stop after so much training time even if steps are left.
        ema_decay: the running average keeps this share of itself each step (less during the first steps, see
            :func:`update_ema`).
        snapshot_at: numbers of steps after which to draw what the running average makes of ``fixed_z``; 0 is before
            the first. A ``range`` will do.
        fixed_z: [n, z_dim], the same latent vectors for every snapshot; 64 of their own seed if None.
        score: called with the running average's generator; returns name -> value. The first is shown in the bar.
        score_at: numbers of steps after which to score.
        out: folder for the checkpoint, written every ``checkpoint_every`` steps and at the end; None for none.
        checkpoint_every: steps between two checkpoints.
        seed: of the data's order and of dropout.
        device: "cuda", "mps" or "cpu"; None for the best there is.
        precision: "auto" (bfloat16 where the hardware has it in silicon), "fp32" or "bf16".
        progress: whether to show the bar.

    Returns:
        the history of this call.

    Raises:
        ValueError: if there are fewer images than a batch, a batch of 1 meets BatchNorm, ``step`` returns anything but
            a dict of scalars, or an argument is out of range.
        Diverged: if a loss becomes NaN or infinite; its ``history`` has the steps before.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}, but a run takes at least 1.")
    if batch_size == 1 and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in _layers(gan)):
        raise ValueError(
            "batch_size=1 cannot work with BatchNorm, which needs a batch to take statistics of; "
            "use at least 2, better 32 or more."
        )
    where = runtime.device(device)
    dtype = _set_the_stage(gan, where, precision)
    batches = Batches(images, batch_size, where, seed, memory_format=torch.channels_last)
    if gan.data_position:
        with contextlib.suppress(ValueError):  # other images or another batch size start at their own first epoch
            batches.load_state_dict(gan.data_position)
    if fixed_z is None:
        fixed_z = torch.randn(64, gan.z_dim, generator=runtime.rng(seed + 1))

    history = History(batch_size, batches.per_epoch, where.type, str(dtype).removeprefix("torch."))
    last, last_saved = gan.steps_done + steps, gan.steps_done
    # Reading a loss off a GPU waits for it, so there losses are read many at a time.
    read_every = 1 if where.type == "cpu" else 25
    unread: list[dict[str, Tensor]] = []
    shown: dict[str, float] = {}

    def look() -> None:
        """Snapshot and score, where this step asks for them."""
        if gan.steps_done in snapshot_at:
            history.snapshots.append((gan.steps_done, sample(gan.ema_generator, fixed_z)))
        if score and gan.steps_done in score_at:
            history.scores.append((gan.steps_done, dict(score(gan.ema_generator))))
            shown.update(list(history.scores[-1][1].items())[:1])

    cuda = [where] if where.type == "cuda" else []
    bar = tqdm(total=steps, unit="step", file=_bar_file(), disable=not progress, mininterval=0.5, dynamic_ncols=True)
    with torch.random.fork_rng(devices=cuda), bar:
        torch.manual_seed(seed + gan.steps_done)  # dropout knows no generator but the global one
        try:
            if gan.steps_done == 0:
                look()
            while gan.steps_done < last:
                start = time.perf_counter()
                with runtime.autocast(where, dtype):
                    unread.append(_checked(step(gan, batches)))
                update_ema(gan.ema_generator, gan.generator, ema_decay, gan.steps_done)
                gan.steps_done += 1
                if len(unread) == read_every or gan.steps_done == last:
                    _read(unread, history)
                history.seconds += time.perf_counter() - start
                look()
                if out is not None and gan.steps_done % checkpoint_every == 0 and gan.steps_done < last:
                    last_saved = gan.steps_done
                    checkpoint.save(gan, out)
                losses = {name: values[-1] for name, values in history.losses.items()}
                bar.set_postfix({k: f"{v:.3g}" for k, v in (losses | shown).items()}, refresh=False)
                if seconds is not None:  # so that the time left is that to the limit
                    bar.total = min(steps, round(history.steps * max(1, seconds / history.seconds)))
                bar.update()
                if seconds is not None and history.seconds >= seconds:
                    history.stopped = f"time limit of {seconds:g} s after {history.steps:,} steps"
                    break
        except KeyboardInterrupt:
            history.stopped = f"interrupted after {gan.steps_done:,} steps"
            bar.write(f"{history.stopped}; nothing is lost: fit(...) again goes on from here.", file=sys.stdout)
        _read(unread, history)
    gan.data_position = batches.state_dict()
    if out is not None and gan.steps_done > last_saved:
        checkpoint.save(gan, out)
    return history


def sample(generator: nn.Module, z: Tensor, batch_size: int = 500) -> Tensor:
    """Images of ``z`` [n, z_dim] as uint8 [n, C, H, W] on the CPU, drawn in eval mode, ``batch_size`` at a time."""
    where = next(generator.parameters()).device
    with runtime.eval_mode(generator):
        return torch.cat([to_uint8(generator(part.to(where))).cpu() for part in z.split(batch_size)])


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the weights and buffers of ``average`` towards those of ``model``: ``w <- decay w + (1 - decay) w_model``.

    In the first steps the decay is at most ``(1 + step) / (10 + step)``, so that the average forgets its start.

    Source: Yazici et al. 2018, arXiv:1806.04498, eq. (3); the warm-up is that of TensorFlow's ExponentialMovingAverage.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    mine, theirs = average.state_dict(keep_vars=True).values(), model.state_dict(keep_vars=True).values()
    pairs = list(zip(mine, theirs, strict=True))
    torch._foreach_lerp_(
        [a for a, _ in pairs if a.is_floating_point()], [m for a, m in pairs if a.is_floating_point()], weight
    )
    for a, m in pairs:
        if not a.is_floating_point():
            a.copy_(m)


def _layers(gan: GAN) -> list[nn.Module]:
    return [*gan.generator.modules(), *gan.discriminator.modules()]


def _set_the_stage(gan: GAN, where: torch.device, precision: str) -> torch.dtype:
    """Move the players to the device in the layout and with the optimiser kernels that are fast there."""
    for model in (gan.generator, gan.ema_generator, gan.discriminator):
        model.to(where, memory_format=torch.channels_last)
    gan.generator.train()
    gan.discriminator.train()
    for optimiser in (gan.g_opt, gan.d_opt):
        for group in optimiser.param_groups:
            if group.get("fused", False) is None:  # one kernel for all weights, where the optimiser has one
                group["fused"] = True
    return runtime.choose_precision(
        where, count_parameters(gan.generator) + count_parameters(gan.discriminator), precision
    )


def _checked(record: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a step returned, detached, if it is a dict of scalars."""
    wanted = "it must return a dict of scalars such as {'d_loss': d_loss, 'g_loss': g_loss}"
    if not isinstance(record, dict) or not record:
        raise ValueError(f"The step returned {'an empty dict' if record == {} else type(record).__name__}; {wanted}.")
    for name, value in record.items():
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"The step's '{name}' has shape {list(value.shape)}; {wanted}: take its mean().")
        if not isinstance(value, Tensor | int | float):
            raise ValueError(f"The step's '{name}' is of type {type(value).__name__}; {wanted}.")
    return {k: v.detach() if isinstance(v, Tensor) else torch.tensor(float(v)) for k, v in record.items()}


def _read(unread: list[dict[str, Tensor]], history: History) -> None:
    """Move the losses of ``unread`` into the history, and stop at the first that is not a number."""
    for record in unread:
        values = {name: value.item() for name, value in record.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                unread.clear()
                raise Diverged(
                    f"{name} became {value} at step {history.steps + 1:,} of this run. The weights are lost from here "
                    "on; build the players anew and try a lower learning rate, precision='fp32', or a look at "
                    "the step: a log or a division of your own is the usual cause.",
                    history,
                )
        for name, value in values.items():
            history.losses.setdefault(name, []).append(value)
    unread.clear()


class _NotebookLine:
    """A file for tqdm that rewrites one line of a notebook cell's output, and leaves the last state standing.

    Written to stderr a bar would be kept in the notebook as an error stream; as a widget, frozen at 0%.
    """

    def __init__(self):
        from IPython.display import display

        self.handle = display({"text/plain": ""}, raw=True, display_id=True)

    def write(self, text: str) -> None:
        """Show ``text``, the bar's new state."""
        line = text.strip("\r\n ")
        if line:
            self.handle.update({"text/plain": line}, raw=True)

    def flush(self) -> None:
        """Nothing is held back."""


def _bar_file():
    """Where the progress bar goes: a line of its own in a notebook, stderr elsewhere."""
    kernel = sys.modules.get("ipykernel.kernelapp")
    return _NotebookLine() if kernel and kernel.IPKernelApp.initialized() else sys.stderr
