"""``ganlib.main`` and ``ganlib train``: a run from its settings to its pictures.

Under torchrun each process takes its share of every batch, and all have the same players. Rank 0 writes the run's
folder and decides when to stop; the others make the same steps until then. z and the order of the images are drawn
for the whole batch in every process, so resuming needs only the state of rank 0.

    torchrun --nproc-per-node 2 -m ganlib -- train --n 5000 ...     (without the "--", torchrun takes --n for its own)
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import re
import shlex
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.distributed as dist

# Its functions take the group that exists at the first import as their default, and torch's compiler imports it with
# the first optimiser. Imported after the group, it keeps its threads alive, and Python may exit with SIGABRT.
import torch.distributed.nn.functional
from torch import Tensor

from ganlib._runtime import device as runtime
from ganlib._runtime.notebook import someone_there
from ganlib._runtime.progress import Lines
from ganlib._runtime.randomness import rng
from ganlib.runs import build, checkpoint
from ganlib.runs.config import Config, change, changed, suggest
from ganlib.runs.folder import Run, config_of
from ganlib.runs.presets import PRESETS
from ganlib.steps import GAN
from ganlib.train import History, fit, sample
from ganlib.viz import film
from ganlib.viz import images as viz
from ganlib.viz.panel import panel

log = logging.getLogger("ganlib")


def train(*, preset: str | None = None, **given) -> History | None:
    """Train a GAN or resume a run; its folder gets samples, a film and the curves.

    ``preset`` names settings to start from (:data:`ganlib.runs.presets.PRESETS`), ``given`` are settings of
    :class:`ganlib.runs.config.Config`; with ``resume_path`` the others are that run's. Returns the history of the
    whole run, or None for a dry run and in torchrun's processes other than the first.
    """
    rank, processes = place()
    if rank:
        log.setLevel(logging.ERROR)
    config, resumed = _config(preset, given), given.get("resume_path") is not None
    device = runtime.device(config.device)
    if config.batch_size % processes:
        raise ValueError(f"batch_size={config.batch_size} cannot be shared by {processes} processes: take a multiple.")
    if config.tensorboard:
        try:
            importlib.import_module("torch.utils.tensorboard")  # before anything is started
        except ImportError as error:
            raise ImportError("tensorboard=True needs TensorBoard: pip install tensorboard.") from error
    images = build.load_images(config)
    log.info(str(images))
    fitted = build.fitted(config, images)
    gan, step = build.players(fitted, fresh=not resumed), build.step(fitted)
    how = build.fit_arguments(fitted, images)
    default_folder = Path("runs") / re.sub(r"[^\w. -]", "-", images.name)
    if config.dry_run:
        settings = changed(fitted) | how | {"device": device, "out": config.out or config.resume_path or default_folder}
        return print(*(f"{name}={value}" for name, value in settings.items()), "Nothing was done: a dry run.", sep="\n")
    if rank:
        if resumed and checkpoint.steps_in(config.resume_path):
            checkpoint.restore(gan, *checkpoint.newest(config.resume_path), keep_settings=checkpoint.OPTIMISERS)
        precision = Run(config.resume_path, resume=True).precision(config.precision) if resumed else config.precision
        return follow(gan, step, images, device, batch_size=config.batch_size, precision=precision)
    how["score"] = build.score_for(images) if how["score_every"] else None
    if how["score_every"] and how["score"] is None:
        log.info("No score: only MNIST's digits and colour pictures, 128 or more, can be judged here.")
    # Intervals are saved as numbers, so that they stay the same even if the run is extended.
    config = replace(config, snapshot_every=how["snapshot_every"], score_every=how["score_every"])
    keep_at = {build.steps_of_epochs(fitted, images, k) for k in config.keep_epochs}
    folder = Path(config.resume_path or config.out or runtime.new_run_folder(default_folder))
    noted = asdict(replace(config, resume_path=None, allow_changes=False, out=str(folder)))
    kept = dict(checkpoint_every=config.checkpoint_every, keep_at=keep_at, made_from=noted)
    run = Run(folder, resume=resumed, allow_changes=config.allow_changes, **kept)
    alone = processes == 1 and someone_there()  # a panel changes the settings of one process only
    shown = panel(gan, step, run=run) if alone else Lines(config.print_every)
    watchers = [shown] + [Board(folder / "tensorboard")] * config.tensorboard
    try:
        with joined(gan, step, device) if processes > 1 else contextlib.nullcontext(step) as step:
            history = fit(gan, step, images, **how, run=run, watchers=watchers)
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()  # a folder that is still empty
        raise
    _finish(gan, history, folder)
    return history


def _config(preset: str | None, given: dict) -> Config:
    """The checked config of a new run, or of the resumed one with changes."""
    if given.get("resume_path") is None:
        if preset not in (None, *PRESETS):
            raise ValueError(f"There is no preset {suggest(preset, PRESETS)}")
        return change(PRESETS[preset] if preset else Config(), given)
    for name, value in (("preset", preset), ("out", given.get("out"))):
        if value is not None:
            raise ValueError(f"{name} is for a new run, but resume_path resumes one as it is; leave {name} out.")
    return change(stored(given["resume_path"]), given)


def stored(folder: str | Path) -> Config:
    """The config that ``ganlib train`` saved in a run's folder."""
    about = config_of(Path(folder))
    if about.get("config") is None:
        raise ValueError(f"The run in '{folder}' was started by a program: resume it there by Run(..., resume=True).")
    try:
        return change(Config(), dict(about["config"]))
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{folder}/config.json' is damaged, or of another version: {error}") from error


def _finish(gan: GAN, history: History, folder: Path) -> None:
    """Report how a run ended; write its pictures, unless it is to be resumed."""
    log.info(str(history))
    if (history.stopped or "").startswith("interrupted"):
        log.info(f"To resume:  ganlib train --resume-path {shlex.quote(str(folder))}")
    elif history.steps:
        z = torch.randn(100, gan.z_dim, generator=rng(7))
        viz.save_png(viz.grid(sample(gan.ema_generator, z), cols=10, scale=2), folder / "samples.png")
        if history.snapshots:
            film.save_gif(viz.spread_snapshots(history, 60), folder / "training.gif", fps=8, hold_last=2)
        viz.curves(history).savefig(folder / "curves.png", dpi=120)
        log.info(f"samples.png, training.gif, curves.png and checkpoints are in '{folder}'.")


class Board:
    """A TensorBoard watcher for ``fit``; a resumed run is written from its beginning."""

    def __init__(self, folder: Path):
        self.folder, self.writer, self.written = folder, None, (0, 0, -1)

    def __call__(self, history: History) -> None:
        """Write what is new; close the files at the end of the run."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            for old in self.folder.glob("events.out.tfevents.*"):
                old.unlink()
            self.writer = SummaryWriter(str(self.folder))
        losses, scores, snapshot = self.written
        for name, values in history.losses.items():
            for k in range(losses, len(values)):
                self.writer.add_scalar(f"loss/{name}", values[k], history.first_step + k + 1)
        for step, numbers in history.scores[scores:]:
            for name, value in numbers.items():
                self.writer.add_scalar(f"score/{name}", value, step)
        for step, images in ((at, some) for at, some in history.snapshots if at > snapshot):
            self.writer.add_image("samples", viz.grid(images, cols=8), step, dataformats="HWC")
        self.written = history.steps, len(history.scores), history.snapshots[-1][0] if history.snapshots else -1
        if not history.running:
            self.writer.close()


def place() -> tuple[int, int]:
    """The rank of this process and their number; (0, 1) without torchrun."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


@contextlib.contextmanager
def joined(gan: GAN, step: Callable, device: torch.device) -> Iterator[Callable]:
    """``step`` shared by all processes; the optimisers of ``gan`` average from now on."""
    (rank, n), cuda, both = place(), device.type == "cuda", (gan.generator, gan.discriminator)
    gan.device = f"cuda:{os.environ['LOCAL_RANK']}" if cuda else device.type
    gan.sample_z = lambda count: GAN.sample_z(gan, count * n)[rank * count : (rank + 1) * count]
    for optimiser in (gan.g_opt, gan.d_opt):
        optimiser.register_step_pre_hook(lambda o, *_: _average([p.grad for g in o.param_groups for p in g["params"]]))
    gan.g_opt.register_step_post_hook(lambda *_: _average([b for network in both for b in network.buffers()]))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        dist.barrier()  # the others have read what rank 0 is about to add to
        yield _Shared(step)
        if rank == 0:
            _word_of_first(gan, 0)
    finally:
        dist.destroy_process_group()


def follow(gan: GAN, step: Callable, images, device: torch.device, **how) -> None:
    """The loop of the processes other than rank 0: ``fit`` until rank 0 stops."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; rank 0 decides
    # In a thread of its own, fit does not listen to Ctrl-C either.
    with joined(gan, step, device) as shared, ThreadPoolExecutor(1) as pool:
        pool.submit(fit, gan, shared, images, steps=2**62, watchers=(), **how).result()


class _Shared(functools.partial):
    """A step on this process's share of every batch; as a partial it keeps its name."""

    def __call__(self, gan: GAN, batches: Iterator[Tensor]) -> dict[str, Tensor]:
        if not _word_of_first(gan, 1):
            raise KeyboardInterrupt  # ends fit
        rank, n = place()
        losses = super().__call__(gan, (batch.tensor_split(n)[rank] for batch in batches))
        values = torch.stack([value.detach().float() for value in losses.values()])
        _average([values])
        return dict(zip(losses, values, strict=True))


def _word_of_first(gan: GAN, word: int) -> int:
    """The number that rank 0 passes, in every process."""
    told = torch.tensor(word, device=next(gan.generator.parameters()).device)
    dist.broadcast(told, 0)
    return int(told)


@torch.no_grad()
def _average(tensors: list[Tensor | None]) -> None:
    """Average float tensors over the processes in place, in one message."""
    if tensors := [tensor for tensor in tensors if tensor is not None and tensor.is_floating_point()]:
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat)
        parts = (flat / place()[1]).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))
