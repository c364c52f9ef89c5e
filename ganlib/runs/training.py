"""A run from its settings to its pictures: what ``ganlib.main`` and ``ganlib train`` do."""

from __future__ import annotations

import contextlib
import difflib
import logging
import re
import shlex
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ganlib import models
from ganlib._runtime import device as runtime
from ganlib._runtime.progress import Lines
from ganlib._runtime.randomness import rng
from ganlib.data.images import ImageSet
from ganlib.runs import build, checkpoint, parallel, saved
from ganlib.runs.config import Config, change, differences
from ganlib.runs.folder import Run
from ganlib.runs.presets import PRESETS
from ganlib.steps import GAN
from ganlib.train import History, fit, sample
from ganlib.viz import film
from ganlib.viz import images as viz

log = logging.getLogger("ganlib")


def train(*, preset: str | None = None, **given) -> History | None:
    """Train a GAN, or resume a run, and leave its folder with pictures, a film and the curves.

    ``preset`` names settings to start from (:data:`ganlib.runs.presets.PRESETS`), ``given`` are settings of
    :class:`ganlib.runs.config.Config`; with ``resume_path`` the rest is what that run had. Returns the history of the
    whole run, or None of a dry run and in processes of torchrun other than the first.
    """
    rank, processes = parallel.place()
    if rank:
        log.setLevel(logging.ERROR)
    config, resumed = _config(preset, given), given.get("resume_path") is not None
    device = runtime.device(config.device)
    if config.batch_size % processes:
        raise ValueError(f"batch_size={config.batch_size} cannot be shared by {processes} processes: take a multiple.")
    board = [Board()] if config.tensorboard else []
    images = build.load_images(config)
    log.info(str(images))
    fitted = build.fitted(config, images)
    gan, step = build.players(fitted, fresh=not resumed), build.step(fitted)
    how = build.fit_arguments(fitted, images)
    if config.dry_run:
        return _tell(fitted, gan, images, how)
    if rank:
        if resumed and checkpoint.steps_in(config.resume_path):
            checkpoint.restore(gan, *checkpoint.newest(config.resume_path), keep_settings=checkpoint.OPTIMISERS)
        return parallel.follow(gan, step, images, device, batch_size=config.batch_size, precision=config.precision)
    how["score"] = build.score_for(images) if how["score_every"] else None
    if how["score_every"] and how["score"] is None:
        log.info("No score: only MNIST's digits and colour pictures, 128 or more, can be judged here.")
    # How often is noted as a number, so that the run keeps to it even if it is made longer.
    config = replace(config, snapshot_every=how["snapshot_every"], score_every=how["score_every"])
    keep_at = {build.steps_of_epochs(fitted, images, k) for k in config.keep_epochs}
    folder = Path(config.resume_path or config.out or runtime.new_run_folder(_default_folder(images)))
    noted = asdict(replace(config, resume_path=None, allow_changes=False, out=str(folder)))
    kept = dict(checkpoint_every=config.checkpoint_every, keep_at=keep_at, made_from=noted)
    run = Run(folder, resume=resumed, allow_changes=config.allow_changes, **kept)
    for watcher in board:
        watcher.folder = folder / "tensorboard"
    try:
        with parallel.joined(gan, step, device) if processes > 1 else contextlib.nullcontext(step) as step:
            history = fit(gan, step, images, **how, run=run, watchers=[Lines(config.print_every), *board])
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()  # a folder that stayed empty
        raise
    _finish(gan, history, folder)
    return history


def _config(preset: str | None, given: dict) -> Config:
    """The checked config of a new run, or of one in a folder with what was given anew."""
    if given.get("resume_path") is None:
        if preset not in (None, *PRESETS):
            near = difflib.get_close_matches(str(preset), PRESETS, 1) or PRESETS
            raise ValueError(f"There is no preset '{preset}'; did you mean {' or '.join(near)}?")
        config = change(PRESETS[preset] if preset else Config(), given)
        if config.out and (Path(config.out) / "config.json").exists() and not parallel.place()[0]:
            resume = f"resume_path={shlex.quote(config.out)}"
            raise FileExistsError(f"'{config.out}' already holds a run: resume it ({resume}), or give another out=...")
        return config
    for name, value in (("preset", preset), ("out", given.get("out"))):
        if value is not None:
            raise ValueError(f"{name} is for a new run, but resume_path resumes one as it is; leave {name} out.")
    before = stored(given["resume_path"])
    now = change(before, given)
    if (changes := differences(before, now)) and not now.allow_changes:
        raise ValueError(
            f"The run in '{now.resume_path}' had other settings: {' '.join(changes)} Leave them as they were, or "
            "accept the new ones with allow_changes=True."
        )
    return now


def stored(folder: str | Path) -> Config:
    """The config that ``ganlib train`` noted of the run in ``folder``."""
    about = saved.config_of(Path(folder))
    if about.get("config") is None:
        again = f'run=Run("{folder}", resume=True)'
        raise ValueError(
            f"The run in '{folder}' was begun by fit in a program or a notebook: resume it there, {again}."
        )
    try:
        return change(Config(), dict(about["config"]))
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{folder}/config.json' is damaged, or of another version: {error}") from error


def _default_folder(images: ImageSet) -> Path:
    return Path("runs") / re.sub(r"[^\w. -]", "-", images.name)


def _finish(gan: GAN, history: History, folder: Path) -> None:
    """Tell how a run ended; leave pictures, unless it is to be resumed."""
    log.info(str(history))
    for step, values in history.scores[-1:]:
        log.info(" · ".join([f"score after step {step:,}", *(f"{k} {value:.4g}" for k, value in values.items())]))
    if (history.stopped or "").startswith("interrupted"):
        log.info(f"To resume:  ganlib train --resume-path {shlex.quote(str(folder))}")
    elif history.steps:
        z = torch.randn(100, gan.z_dim, generator=rng(7))
        viz.save_png(viz.grid(sample(gan.ema_generator, z), cols=10, scale=2), folder / "samples.png")
        if history.snapshots:
            film.save_gif(film.frames_of(history), folder / "training.gif", fps=8, hold_last=2)
        viz.curves(history).savefig(folder / "curves.png", dpi=120)
        names = ("samples.png", "training.gif", "curves.png", "checkpoints")
        log.info("\n".join(str(folder / name) for name in names if (folder / name).exists()))


def _tell(config: Config, gan: GAN, images: ImageSet, how: dict) -> None:
    """Print what a run would be."""
    models.describe(gan.generator, (gan.z_dim,))
    print()
    models.describe(gan.discriminator, tuple(images.pixels.shape[1:]))
    where = {
        "device": runtime.device(config.device),
        "out": config.resume_path or config.out or _default_folder(images),
    }
    told = [
        f"{name}={value}" for name, value in (asdict(config) | how | where).items() if value not in (None, (), False)
    ]
    print(f"\n{', '.join(told)}\nNothing was done, as this is a dry run.")


class Board:
    """A watcher for ``fit`` that writes for TensorBoard; an earlier part of the run is written again."""

    folder, writer, written = Path("tensorboard"), None, (0, 0, 0)

    def __init__(self):
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            cure = "pip install tensorboard, or leave it out."
            raise ImportError(f"tensorboard=True needs TensorBoard, which is not installed: {cure}") from error

    def __call__(self, history: History) -> None:
        """Write what is new; close the files when the run has ended."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            for old in self.folder.glob("events.out.tfevents.*"):
                old.unlink()
            self.writer = SummaryWriter(str(self.folder))
        losses, scores, snapshots = self.written
        for name, values in history.losses.items():
            for k in range(losses, len(values)):
                self.writer.add_scalar(f"loss/{name}", values[k], history.first_step + k + 1)
        for step, numbers in history.scores[scores:]:
            for name, value in numbers.items():
                self.writer.add_scalar(f"score/{name}", value, step)
        for step, images in history.snapshots[snapshots:]:
            self.writer.add_image("samples", viz.grid(images, cols=8), step, dataformats="HWC")
        self.written = history.steps, len(history.scores), len(history.snapshots)
        if not history.running:
            self.writer.close()
