"""``fit``: everything about training a GAN that is not the idea."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ganlib._runtime import device as runtime
from ganlib._runtime import progress as console
from ganlib._runtime.kernels import faster_kernels
from ganlib._runtime.progress import interrupts
from ganlib.data.loading import Batches, ImageSet, to_uint8
from ganlib.models import count_parameters
from ganlib.steps import GAN

READ_EVERY = 25  # steps, on a GPU

__all__ = ["Diverged", "History", "fit", "sample", "update_ema"]

Step = Callable[[GAN, Iterator[Tensor]], dict[str, Tensor]]


def fit(
    gan: GAN,
    step: Step,
    images: ImageSet,
    *,
    steps: int,
    batch_size: int = 64,
    flip: bool = False,
    seconds: float | None = None,
    ema_decay: float = 0.995,
    snapshot_at: Collection[int] = (),
    fixed_z: Tensor | None = None,
    score: Callable[[nn.Module], dict[str, float]] | None = None,
    score_at: Collection[int] = (),
    out: str | os.PathLike | None = None,
    resume: bool = False,
    allow_changes: bool = False,
    checkpoint_every: int = 1000,
    keep_at: Collection[int] = (),
    seed: int = 0,
    device: str | None = None,
    precision: str = "auto",
    progress: bool = True,
    print_every: int | None = None,
    watch: Callable[[History], None] | None = None,
    made_from: dict | None = None,
) -> History:
    """Train ``gan`` with ``step`` on ``images``.

    A second call goes on where the first stopped. Interrupting it (Ctrl-C, or the stop button) is safe: the history so
    far comes back and the players stay usable. With the same seeds a run on the CPU is the same run.

    With ``out`` it leaves a run's folder (see :mod:`ganlib.runs.folder`), and with ``resume`` it goes on from what such
    a folder holds: the same script started again after a crash ends, on the CPU, bit for bit where it would have.
    A training step's own state is saved only as far as it is in the players and optimisers.

    Args:
        gan: the players; they are moved to the device and stay there, in training mode.
        step: one generator update: ``step(gan, batches) -> {name: scalar}``. ``next(batches)`` gives real images,
            float32 [batch_size, C, H, W] in [-1, 1].
        images: the reals.
        steps: generator updates to make; with ``resume``, those included that the run in ``out`` has made already.
        batch_size: images a batch.
        flip: mirror each real left to right with probability 1/2, on the device. Not for digits or letters.
        seconds: stop after so much training time even if steps are left; counted as ``steps`` are.
        ema_decay: the running average keeps this share of itself each step (less during the first steps, see
            :func:`update_ema`).
        snapshot_at: numbers of steps after which to draw what the running average makes of ``fixed_z``; 0 is before
            the first; steps of earlier calls count. A ``range`` will do.
        fixed_z: [n, z_dim], the same latent vectors for every snapshot; 64 of their own seed if None.
        score: called with the running average's generator; returns name -> value. The first is shown in the bar.
        score_at: numbers of steps after which to score.
        out: folder for settings, losses, snapshots and checkpoints, a new one or that of an earlier call; None for
            none. A disk that is full or stalls does not end the run: it is told, and what was saved stays.
        resume: if ``out`` holds a run, give the players the state of its newest whole checkpoint and go on from there;
            else begin it.
        allow_changes: go on with settings, players or images other than the run in ``out`` had.
        checkpoint_every: steps between two checkpoints. There is one more at the end, and one after each score whose
            first number is the lowest yet. The last three and the best are kept.
        keep_at: numbers of steps after which to make a checkpoint that is kept for good, to see later how far the
            players had come by then.
        seed: of the data's order and of dropout.
        device: "cuda", "mps" or "cpu"; None for the best there is.
        precision: "auto" (bfloat16 where the hardware has it in silicon), "fp32" or "bf16".
        progress: whether to show the bar.
        print_every: steps between two lines that take the bar's place where the output is no terminal and no notebook;
            None for the bar everywhere.
        watch: called after each step with the history so far.
        made_from: what the run was made from, in JSON's types; noted in ``config.json`` and compared with nothing.

    Returns:
        the history of this call; where it goes on with the run in ``out``, of that whole run.

    Raises:
        ValueError: if there are fewer images than a batch, a batch of 1 meets BatchNorm, ``step`` returns anything but
            a dict of scalars, an argument is out of range, or the run in ``out`` had other settings (all are named).
        OSError: if ``out`` cannot be written, or holds another run and ``resume`` is not set.
        Diverged: if a loss becomes NaN or infinite; its ``history`` has the steps before.
    """
    from ganlib.runs import resuming, settings  # they import this module

    _check_arguments(gan, steps, batch_size, ema_decay, checkpoint_every, fixed_z, resume and out is None)
    where = runtime.device(device)
    batches = Batches(images, batch_size, where, seed, flip, memory_format=_layout(where))
    weights = count_parameters(gan.generator) + count_parameters(gan.discriminator)
    dtype, kernels = runtime.choose_precision(where, weights, precision), faster_kernels(where, weights)
    if fixed_z is None:
        fixed_z = torch.randn(64, gan.z_dim, generator=runtime.rng(seed + runtime.FIXED_Z_STREAM))
    history = History(batch_size, batches.per_epoch, where.type, str(dtype).removeprefix("torch."), gan.steps_done)
    run = None
    if out is not None:
        kept = dict(batch_size=batch_size, flip=flip, ema_decay=ema_decay, seed=seed, device=where.type)
        kept |= dict(precision="fp32" if dtype == torch.float32 else "bf16", checkpoint_every=checkpoint_every)
        kept |= dict(steps=steps, seconds=seconds, keep_at=keep_at)
        kept |= dict(snapshot_at=snapshot_at, score_at=score_at if score else ())
        config = settings.describe(gan, step, images, kept) | ({"config": made_from} if made_from else {})
        run = resuming.enter(out, gan, history, fixed_z, config, resume=resume, allow_changes=allow_changes)
    _set_the_stage(gan, where)
    if gan.data_position:
        try:
            batches.load_state_dict(gan.data_position)
        except ValueError as error:
            print(f"The images start from their first epoch. {error}")

    # With resume, steps and seconds are counted from the beginning of the run, else from here.
    begun, spent = (history.first_step, 0.0) if resume else (gan.steps_done, history.seconds)
    last, drawn_before = begun + steps, batches.epoch * batches.per_epoch + batches.index - history.batches
    unread: list[dict[str, Tensor]] = []
    shown: dict[str, float] = {}

    def look() -> None:
        """Snapshot and score, where this step asks for them."""
        if gan.steps_done in snapshot_at:
            history.snapshots.append((gan.steps_done, sample(gan.ema_generator, fixed_z)))
        if score and gan.steps_done in score_at:
            found = score(gan.ema_generator).items()
            found = {name: value.item() if hasattr(value, "item") else value for name, value in found}  # for JSON
            history.scores.append((gan.steps_done, found))
            shown.update(list(found.items())[:1])

    def time_is_up() -> bool:
        return seconds is not None and history.seconds - spent >= seconds

    # Reading a loss off a GPU waits for it: there many are read at a time, or when something depends on them.
    read_every = 1 if where.type == "cpu" else READ_EVERY
    cuda = [where] if where.type == "cuda" else []
    bar = console.steps_bar(progress, steps, gan.steps_done - begun, print_every)
    whole = True  # whether the players are between two steps and all is noted, so that a run can go on from there
    with (
        run or contextlib.nullcontext(),
        torch.random.fork_rng(devices=cuda),
        runtime.kept_memory(),
        bar,
        interrupts() as interrupted,
    ):
        if run:
            run.restore_random()
        try:
            if gan.steps_done == 0:
                look()
            while gan.steps_done < last and not interrupted and not time_is_up():
                start = time.perf_counter()
                # Dropout knows no generator but the global one. Seeded at each step, it needs no state to go on from.
                runtime.seed_all((seed * 1_000_003 + gan.steps_done) % 2**63, where)
                whole = False
                with runtime.autocast(where, dtype), kernels:
                    unread.append(checked(step(gan, batches), history))
                done = gan.steps_done + 1
                saving = run is not None and done < last and (done % checkpoint_every == 0 or done in keep_at)
                due = saving or seconds is not None or done in snapshot_at or done in score_at or done == last
                if due or len(unread) >= read_every:
                    read(unread, history, out)
                update_ema(gan.ema_generator, gan.generator, ema_decay, gan.steps_done)
                gan.steps_done, gan.data_position = done, batches.state_dict()
                history.batches = batches.epoch * batches.per_epoch + batches.index - drawn_before
                history.seconds += time.perf_counter() - start
                look()
                whole = True
                if run:
                    run.poll()
                    if saving or (done in score_at and history.best == done):
                        run.save(gan)
                losses = {name: values[-1] for name, values in history.losses.items()}
                bar.set_postfix({k: f"{v:.3g}" for k, v in (losses | shown).items()}, refresh=False)
                if seconds is not None:  # so that the time left is that to the limit
                    made, took = gan.steps_done - begun, history.seconds - spent
                    bar.total = min(steps, round(made * max(1, seconds / took)))
                bar.update()
                if watch:
                    watch(history)
        except KeyboardInterrupt:
            interrupted.append(True)
        finally:
            gan.data_position = batches.state_dict()
            if not whole:  # such players are of no run
                gan.saved_in = None
        read(unread, history, out)
    if watch:
        watch(history)
    if history.batches > history.steps:  # a step may take several batches
        history.steps_per_epoch = batches.per_epoch * history.steps / history.batches
    if interrupted:
        history.stopped = f"interrupted after {gan.steps_done:,} steps"
        print(f"{history.stopped}; nothing is lost: fit(...) again goes on from here.")
    elif gan.steps_done < last:
        history.stopped = f"time limit of {seconds:.3g} s after {gan.steps_done - begun:,} steps"
    if run and history.steps:
        run.finish(gan, whole)
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


def _check_arguments(gan: GAN, steps, batch_size, ema_decay, checkpoint_every, fixed_z, nowhere: bool) -> None:
    """Refuse with a sentence, before anything is touched, what could not work."""
    if nowhere:
        raise ValueError("resume=True goes on with the run in a folder; name it: out=...")
    if steps < 1 or checkpoint_every < 1:
        raise ValueError(f"steps={steps} and checkpoint_every={checkpoint_every}, but both must be at least 1.")
    if not 0 <= ema_decay < 1:
        raise ValueError(f"ema_decay={ema_decay}, but must be at least 0 (no average) and below 1.")
    layers = [*gan.generator.modules(), *gan.discriminator.modules()]
    if batch_size == 1 and any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in layers):
        raise ValueError(
            "batch_size=1 cannot work with BatchNorm, which needs a batch to take statistics of; "
            "use at least 2, better 32 or more."
        )
    if fixed_z is not None and (fixed_z.ndim != 2 or fixed_z.shape[1] != gan.z_dim):
        raise ValueError(
            f"fixed_z has shape {list(fixed_z.shape)}, but must be [n, {gan.z_dim}]: z_dim is {gan.z_dim}."
        )


def _layout(where: torch.device) -> torch.memory_format:
    """Channels last is faster on CPUs and CUDA; on MPS its backward pass has crashed (pytorch#140902)."""
    return torch.contiguous_format if where.type == "mps" else torch.channels_last


def _set_the_stage(gan: GAN, where: torch.device) -> None:
    """Move players and optimisers to the device in the layout and with the kernels that are fast there."""
    for model in (gan.generator, gan.ema_generator, gan.discriminator):
        model.to(where, memory_format=_layout(where))
    gan.generator.train()
    gan.discriminator.train()
    for optimiser in (gan.g_opt, gan.d_opt):
        fused = isinstance(optimiser, torch.optim.Adam | torch.optim.AdamW | torch.optim.SGD)
        for group in optimiser.param_groups:
            if fused and group.get("fused") is None and not group.get("differentiable"):
                group["fused"] = True  # one kernel for all weights
            for weight in group["params"]:
                for name, value in optimiser.state.get(weight, {}).items():
                    if torch.is_tensor(value) and value.shape == weight.shape:
                        # The fused kernel pairs numbers by their place in memory: lay out state as its weight.
                        optimiser.state[weight][name] = torch.empty_like(weight).copy_(value)
                    elif torch.is_tensor(value) and group.get("fused"):
                        optimiser.state[weight][name] = value.to(weight.device)


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
