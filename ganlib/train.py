"""``fit``: the training loop, with everything around the game itself."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from ganlib._runtime import clock
from ganlib._runtime import device as runtime
from ganlib._runtime.graphs import Captured
from ganlib._runtime.kernels import faster_kernels
from ganlib._runtime.notebook import someone_there, stop_queue
from ganlib._runtime.progress import Bar, interrupts
from ganlib._runtime.randomness import global_generators_kept, seed_step
from ganlib._runtime.scaling import LossScaling
from ganlib._runtime.stage import check_fit, check_record, check_score, memory_layout, set_the_stage, start_up
from ganlib._runtime.threads import Threads
from ganlib.data.images import Batches, quantised, ready
from ganlib.models import count_parameters
from ganlib.steps import GAN, STEPS, form, update_ema

READ_EVERY = 25  # steps, on a GPU
MOST_SNAPSHOTS = 200  # taken under a time limit, however fast the machine
log = logging.getLogger("ganlib")

Step = Callable[[GAN, Iterator[Tensor]], dict[str, Tensor]]
Every = int | Collection[int] | None  # a number of steps, or the steps themselves


def fit(
    gan: GAN,
    step: Step,
    images,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    batch_size: int = 64,
    snapshot_every: Every = None,
    score: Callable[[nn.Module], dict[str, float]] | None = None,
    score_every: Every = None,
    run=None,
    precision: str = "auto",
    watchers: Sequence[Callable[[History], None]] | None = None,
) -> History:
    """Train ``gan`` with ``step`` on ``images`` for ``steps`` or ``seconds``.

    A second call continues where the first stopped. It is safe to interrupt (Ctrl-C, or a notebook's stop button): the
    players stay usable. The same seed gives the same run on a CPU.

    Args:
        gan: the players; they are moved to its device and stay there, in training mode.
        step: one generator update: ``step(gan, batches) -> {name: scalar}``. ``next(batches)`` gives real images,
            float32 [batch_size, C, H, W] in [-1, 1].
        images: the reals, an ImageSet or anything that ``load`` takes; mirrored if they are ``images.with_flips()``.
        steps, seconds: limits, the first of which ends training; a resumed run counts both from its beginning. A GPU is
            asked for its losses and its time every 25 steps, as each answer waits for it.
        batch_size: images a batch.
        snapshot_every: when the running average draws ``gan.fixed_z``: at multiples of a number of steps, or at a
            set of steps. With ``seconds``, the number doubles whenever there are 200, and every second one goes.
        score: called with the averaged generator; returns name -> number. Its attribute ``best``, such as
            ``("fd", "lowest")``, says which checkpoint is the best.
        score_every: when to score, like ``snapshot_every``.
        run: a :class:`ganlib.runs.Run`, which saves everything to disk.
        precision: "fp32", "bf16", "fp16" (on CUDA) or "auto": 16 bits for large networks if that is fast, and on
            resuming what it was. With "fp16" the loss is scaled; the step need not know.
        watchers: called with the history after each step and at the end. Default: a progress bar and, in a notebook,
            samples as they form; ``()`` for none.

    Returns:
        the history of this call, or of the whole run.

    Raises:
        ValueError: for wrong arguments, or a step that returns anything but a dict of scalars.
        Diverged: if a loss becomes NaN or infinite; its ``history`` has the steps before.
    """
    check_fit(gan, step, steps, seconds, batch_size, score, (snapshot_every, score_every), run, watchers)
    device, images = runtime.device(gan.device), ready(images, gan.generator, gan.fixed_z)
    size = count_parameters(gan.generator) + count_parameters(gan.discriminator)
    precision = run.precision(precision) if run else precision
    dtype = runtime.choose_precision(device, size, precision, (gan.g_opt, gan.d_opt))
    batches = Batches(images, batch_size, device, gan.seed, memory_format=memory_layout(device, dtype))
    history = History(batch_size, batches.per_epoch, device.type, str(dtype).removeprefix("torch."), gan.steps_done)
    asked = dict(steps=steps, seconds=seconds, snapshot_every=snapshot_every, score_every=score and score_every)
    faster = LossScaling(gan, device) if dtype == torch.float16 else faster_kernels(device, size)
    look, fast = _Look(gan, history, snapshot_every, score, score_every), (runtime.autocast(device, dtype), faster)
    history.again = partial(_train, gan, step, images, batches, history, asked, look, fast, run, watchers)
    return history.again(begin=True)


def _train(gan, step, images, batches, history, asked, look, fast, run, watchers, begin=False) -> History:
    """Train to the limits that were ``asked`` for; go on to them, unless this is the beginning."""
    history.running, history.stopping, history.stopped = True, False, None
    with interrupts(history.stop), run.training(gan, step, images, history, asked) if run else nullcontext():
        set_the_stage(gan, batches)
        if begin:
            history.start(asked["steps"], asked["seconds"], gan.steps_done, from_the_beginning=bool(run and run.resume))
            start_up(gan, batches, fast[0])
        if batches.device.type == "cuda":
            step = Captured(step, gan, history, batches.device, STEPS.values(), form)
        _loop(gan, step, batches, history, look, fast, run, _all_watchers(gan, batches.device, watchers))
    if history.stopping:
        stop_queue()
    return history


def _all_watchers(gan: GAN, device: torch.device, given) -> Sequence[Callable[[History], None]]:
    if given is None and someone_there():
        from ganlib.viz.panel import panel  # late: only a notebook with a reader needs pictures

        given = [panel(gan, controls=False)]
    return [Threads(device), *([Bar()] if given is None else given)]


def _loop(gan, step, batches, history, look, fast, run, watchers) -> None:
    """Make steps until a limit is reached or training is interrupted."""
    losses = _Losses(history, 1 if batches.device.type == "cpu" else READ_EVERY, gan.ema_generator)
    earlier = batches.epoch * batches.per_epoch + batches.index - history.batches
    with runtime.kept_memory(), global_generators_kept(batches.device):
        try:
            if gan.steps_done == 0:
                look()
            while not history.over(gan.steps_done) and not history.stopping:
                begun = clock.seconds()
                seed_step(gan.seed, gan.steps_done, batches.device)
                history.intact = False
                with fast[0], fast[1]:
                    losses.add(step(gan, batches))
                done = gan.steps_done + 1
                if look.due(done) or (run and run.due(done)) or history.over(done):
                    losses.read()
                update_ema(gan.ema_generator, gan.generator, gan.ema_decay, gan.steps_done)
                gan.steps_done, gan.data_position = done, batches.state_dict()
                history.batches = batches.epoch * batches.per_epoch + batches.index - earlier
                history.seconds += clock.seconds() - begun
                look()
                history.intact = True
                if run:
                    run.after_step(gan)
                for watch in watchers:
                    watch(history)
            if losses.unread:  # the time for what a GPU has still to finish counts, too
                begun = clock.seconds()
                losses.read()
                history.seconds += clock.seconds() - begun
        except KeyboardInterrupt:
            history.stop()
            losses.read()
        finally:
            gan.data_position = batches.state_dict()
            history.finish(gan.steps_done, batches.per_epoch)
            for watch in watchers:
                watch(history)


class _Look:
    """Takes snapshots and scores after the steps chosen for them."""

    def __init__(self, gan, history, snapshot_every: Every, score, score_every: Every):
        self.gan, self.history, self.score = gan, history, score
        self.snapshot_every, self.score_every = snapshot_every, score_every if score else None

    def due(self, step: int) -> bool:
        return due(step, self.interval(step)) or due(step, self.score_every)

    def interval(self, step: int) -> Every:
        """When snapshots are taken around ``step``; it depends on nothing else, so a resumed run has the same."""
        every, timed = self.snapshot_every, self.history.limit is not None
        while timed and isinstance(every, int) and step - self.history.first_step > every * MOST_SNAPSHOTS > 0:
            every *= 2
        return every

    def __call__(self) -> None:
        gan, history = self.gan, self.history
        if due(gan.steps_done, every := self.interval(gan.steps_done)):
            if every != self.snapshot_every:
                history.snapshots[:] = [(at, images) for at, images in history.snapshots if at % every == 0]
            history.snapshots.append((gan.steps_done, sample(gan.ema_generator, gan.fixed_z)))
        if due(gan.steps_done, self.score_every):
            found = check_score(self.score(gan.ema_generator))
            history.best_by = getattr(found, "best", None)
            numbers = {name: value.item() if hasattr(value, "item") else value for name, value in found.items()}
            history.scores.append((gan.steps_done, numbers))


def due(step: int, every: Every) -> bool:
    """Whether ``step`` is a multiple of a number, or in a set; False for None."""
    return every is not None and (every > 0 and step % every == 0 if isinstance(every, int) else step in every)


class _Losses:
    """Values returned by steps, read in blocks, as each read waits for the GPU.

    Of a block with a loss that is not finite nothing stays in the ``average``: it is put back to before the block.
    """

    def __init__(self, history: History, every: int, average: nn.Module):
        self.history, self.every, self.unread = history, every, []
        self.average = list(average.state_dict().values()) if every > 1 else []
        self.good = [value.clone() for value in self.average]

    def add(self, record: dict[str, Tensor]) -> None:
        """Add what a step returned: a dict of scalars ``[]``, always with the same names."""
        check_record(record, earlier=self.unread[0] if self.unread else self.history.losses)
        self.unread.append({k: v.detach() if isinstance(v, Tensor) else torch.tensor(v) for k, v in record.items()})
        if len(self.unread) >= self.every:
            self.read()

    def read(self) -> None:
        """Move the values into the history, up to the first that is not finite."""
        while self.unread:
            values = {name: value.item() for name, value in self.unread.pop(0).items()}
            if bad := next((name for name, value in values.items() if not math.isfinite(value)), None):
                step = self.history.first_step + self.history.steps + 1
                self._copy(self.good, self.average)
                raise Diverged(
                    f"{bad} became {values[bad]} at step {step:,}; the weights are useless now. Build the players "
                    "anew and try a lower learning rate or precision='fp32', or check the step: a log or a division "
                    "of your own is the usual cause. Checkpoints on disk are from before.",
                    self.history,
                )
            for name, value in values.items():
                self.history.losses.setdefault(name, []).append(value)
        self._copy(self.average, self.good)

    def _copy(self, source: list[Tensor], target: list[Tensor]) -> None:
        if source:
            torch._foreach_copy_(target, source)


def sample(generator: nn.Module, z: Tensor, batch_size: int = 500) -> Tensor:
    """Images of ``z`` [n, z_dim] in eval mode, as uint8 [n, C, H, W] on the CPU."""
    device = next(generator.parameters()).device
    with runtime.eval_mode(generator):
        return torch.cat([quantised(generator(part.to(device))).cpu() for part in torch.as_tensor(z).split(batch_size)])


@dataclass
class History:
    """What happened during a run.

    Attributes:
        losses: name -> one value per step, as returned by the step.
        snapshots: (steps done, uint8 [n, C, H, W]): the running average's images of the fixed z.
        scores: (steps done, name -> value).
        best_by: which number of the score decides, and how: ``("fd", "lowest")``, or None.
        batch_size, batches: images a batch, and batches of reals used so far.
        steps_per_epoch: steps in one pass over the reals, without an incomplete last batch.
        seconds: training time, without snapshots, scores and checkpoints.
        first_step: steps of the players before this run.
        device, precision: what it ran on, for example ``cpu`` and ``float32``.
        eager: why a step is not one CUDA graph on a GPU, but many kernels (see ``ganlib._runtime.graphs``), or None.
        total: steps that this run will have; None if only its time is limited.
        limit, seconds_before: seconds allowed for this call, and seconds of earlier calls.
        changes: (steps done, name, value): what was changed by hand during the run (see ``ganlib.steps.change``).
        threads: (steps done, number): how many threads were found fastest on a CPU, if time is limited.
        findings: (steps done, check, what it found), of a :class:`ganlib.metrics.Doctor` among the watchers.
        running, stopping: False once ``fit`` has ended; whether the run was asked to end after the present step.
        intact: whether the players are between two steps, so that training can continue exactly.
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
    best_by: tuple[str, str] | None = None
    seconds: float = 0.0
    total: int | None = None
    limit: float | None = None
    seconds_before: float = 0.0
    changes: list[tuple[int, str, object]] = field(default_factory=list)
    threads: list[tuple[int, int]] = field(default_factory=list)
    findings: list[tuple[int, str, str]] = field(default_factory=list)
    running: bool = False
    stopping: bool = False
    intact: bool = True
    stopped: str | None = None
    eager: str | None = None
    again: Callable[[], History] | None = field(default=None, repr=False, compare=False)

    @property
    def steps(self) -> int:
        """Steps of this run: generator updates."""
        return max(map(len, self.losses.values()), default=0)

    @property
    def best(self) -> int | None:
        """The step with the best score, by ``best_by``, after the first step; or None."""
        name, way = self.best_by or (None, "lowest")
        sign = -1 if way == "highest" else 1
        found = [(sign * values.get(name, math.nan), step) for step, values in self.scores if step]
        return min((pair for pair in found if math.isfinite(pair[0])), default=(0, None))[1]

    def start(self, steps: int | None, seconds: float | None, done: int, from_the_beginning: bool) -> None:
        """Set the limits of a call of ``fit``, from the run's beginning or ``done`` steps."""
        self.seconds_before = 0.0 if from_the_beginning else self.seconds
        self.total = steps if steps is None or from_the_beginning else steps + done - self.first_step
        self.limit = seconds

    def over(self, done: int) -> bool:
        """Whether a limit is reached after ``done`` steps."""
        out_of_time = self.limit is not None and self.seconds - self.seconds_before >= self.limit
        return out_of_time or (self.total is not None and done - self.first_step >= self.total)

    def stop(self) -> None:
        """Ask the run to end after the present step, as Ctrl-C and ■ do."""
        self.stopping = True

    def go_on(self) -> History:
        """Continue an interrupted run to its end; return this history, now longer."""
        if self.again is None or not self.stopping:
            raise ValueError("This run was not interrupted: call fit(...) again to train for longer.")
        return self.again()

    def finish(self, done: int, per_epoch: int) -> None:
        """Record how a call of ``fit`` ended."""
        self.running = False
        if self.batches > self.steps:  # a step may take several batches
            self.steps_per_epoch = per_epoch * self.steps / self.batches
        if self.stopping:
            self.stopped = f"interrupted after {done:,} steps"
            log.info(f"{self.stopped}; nothing is lost: history.go_on() continues what `history = fit(...)` began.")
        elif self.limit is not None and (self.total is None or done - self.first_step < self.total):
            self.stopped = f"time limit of {self.limit:.3g} s after {done - self.first_step:,} steps"

    def __repr__(self) -> str:
        rate = self.steps / self.seconds if self.seconds else 0.0
        last = (f"{name} {values[-1]:.3f}" for name, values in self.losses.items())
        where = f"{self.device}, {self.precision}" + "".join(f", threads {n}" for _, n in self.threads[-1:])
        return f"{self.steps:,} steps in {self.seconds:.0f} s ({rate:.1f} a second, {where}) · {' · '.join(last)}"


class Diverged(FloatingPointError):
    """A loss became NaN or infinite. ``history`` holds everything up to that step."""

    def __init__(self, message: str, history: History):
        super().__init__(message)
        self.history = history
