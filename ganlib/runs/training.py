"""``ganlib.main`` and ``ganlib train``: a run from its settings to its pictures."""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ganlib._runtime import device as runtime
from ganlib._runtime.notebook import someone_there
from ganlib._runtime.progress import Lines
from ganlib._runtime.randomness import rng
from ganlib.conditional import columns
from ganlib.data.archives import file_and_folder
from ganlib.data.loading import known_name
from ganlib.metrics.doctor import Doctor
from ganlib.runs import build, checkpoint, workers
from ganlib.runs.config import Config, change, changed, suggest
from ganlib.runs.folder import Run, config_of
from ganlib.runs.going_back import branch
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
    rank, processes = workers.place()
    if rank:
        log.setLevel(logging.ERROR)
    if workers.restartable():
        preset, given = _restarted(preset, given)
    config = _config(preset, given)
    source = config.resume_path or config.from_run
    device = runtime.device(config.device)
    if config.batch_size % processes:
        raise ValueError(f"batch_size={config.batch_size} cannot be shared by {processes} processes: take a multiple.")
    images = build.load_images(config)
    if not images.summary:  # of your own pictures, load has told more
        log.info(str(images))
    fitted = build.fitted(config, images)
    fresh = not (source and checkpoint.steps_in(source))
    gan = build.players(fitted, fresh, len(images.classes))
    step, how = build.step(fitted), build.fit_arguments(fitted, images)
    default_folder = Path("runs") / re.sub(r"[^\w. -]", "-", images.name)
    if config.dry_run:
        settings = changed(fitted) | how | {"device": device, "out": config.out or config.resume_path or default_folder}
        return print(*(f"{name}={value}" for name, value in settings.items()), "Nothing was done: a dry run.", sep="\n")
    if rank:
        return workers.follow(gan, step, images, device, config.batch_size)
    how["score"] = build.score_for(images) if how["score_every"] else None
    if how["score_every"] and how["score"] is None:
        log.info(f"No score: it takes {build.FEWEST_REALS} pictures or more.")
    # Intervals are saved as numbers, so that they stay the same even if the run is extended.
    config = replace(config, snapshot_every=how["snapshot_every"], score_every=how["score_every"])
    keep_at = {build.steps_of_epochs(fitted, images, k) for k in config.keep_epochs}
    folder = Path(config.resume_path or config.out or runtime.new_run_folder(default_folder))
    if config.from_run:
        branch(config.from_run, folder, config.step)
    noted = _noted(config, folder)
    kept = dict(checkpoint_every=config.checkpoint_every, keep_at=keep_at, keep_every=config.keep_every)
    changes = config.allow_changes or bool(config.from_run)
    run = Run(folder, resume=bool(source), allow_changes=changes, made_from=noted, **kept)
    alone = processes == 1 and someone_there()  # a panel changes the settings of one process only
    shown = panel(gan, step, run=run) if alone else Lines(config.print_every)
    watchers = [shown] + [Doctor()] * (processes == 1)
    try:
        with _shared(gan, step, images, device, folder) if processes > 1 else contextlib.nullcontext(step) as step:
            history = fit(gan, step, images, **how, run=run, watchers=watchers)
    except BaseException:
        with contextlib.suppress(OSError):
            if config.from_run and not (folder / "history.jsonl").exists():
                shutil.rmtree(folder)  # a branch that did not begin
            folder.rmdir()  # a folder that is still empty
        raise
    _finish(gan, history, folder)
    return history


@contextlib.contextmanager
def _shared(gan: GAN, step, images, device: torch.device, folder: Path):
    """``step`` shared by torchrun's processes; says what is left if one of them ends."""
    try:
        with workers.joined(gan, step, images, device) as shared:
            yield shared
    except ConnectionError as error:
        steps = checkpoint.steps_in(folder)
        raise ConnectionError(
            f"{error}. '{folder}' has {f'the checkpoint of step {steps[-1]:,}' if steps else 'no checkpoint yet'}; "
            f"resume it with as many processes as you like:  torchrun ... --resume-path {shlex.quote(str(folder))}"
        ) from error


def _restarted(preset: str | None, given: dict) -> tuple[str | None, dict]:
    """What torchrun starts, for the first time or again: then the run in ``out`` is resumed."""
    if given.get("out") is None:
        if given.get("resume_path") is None:
            raise ValueError("With --max-restarts give the run's folder, out=runs/NAME: a restart resumes what it has.")
    elif (Path(given["out"]) / "config.json").exists():
        return None, {**given, "out": None, "resume_path": given["out"]}
    return preset, given


def _config(preset: str | None, given: dict) -> Config:
    """The checked config of a new run, or of the resumed one with changes."""
    source = given.get("resume_path") or given.get("from_run")
    if source is None:
        if preset not in (None, *PRESETS):
            raise ValueError(f"There is no preset {suggest(preset, PRESETS)}")
        return change(PRESETS[preset] if preset else Config(), given)
    for name, value in (("preset", preset), ("out", given.get("out") if given.get("resume_path") else None)):
        if value is not None:
            raise ValueError(f"{name} is for a new run, but resume_path resumes one as it is; leave {name} out.")
    return change(stored(source), given)


def _noted(config: Config, folder: Path) -> dict:
    """The settings to resume a run with, from whatever folder: its paths become absolute."""
    names = ["data_root", "generator", "discriminator", *["dataset"] * (known_name(config.dataset) is None)]
    paths = {name: Path(value).expanduser() for name in names if (value := getattr(config, name))}
    found = {name: str(path.absolute()) for name, path in paths.items() if file_and_folder(path)[0].exists()}
    only_now = dict(resume_path=None, from_run=None, step=None, allow_changes=False)
    return asdict(replace(config, out=str(folder), **only_now, **found))


def stored(folder: str | Path) -> Config:
    """The config that ``ganlib train`` saved in a run's folder."""
    about = config_of(Path(folder))
    if about.get("config") is None:
        raise ValueError(f"The run in '{folder}' was started by a program: resume it there by Run(..., resume=True).")
    try:
        return change(Config(), about["config"] | {"out": None})
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{folder}/config.json' is damaged, or of another version: {error}") from error


def _finish(gan: GAN, history: History, folder: Path) -> None:
    """Report how a run ended; write its pictures, unless it is to be resumed."""
    log.info(str(history))
    ended = (history.stopped or "").partition(" ")[0]
    if ended == "interrupted":
        log.info(f"To resume:  ganlib train --resume-path {shlex.quote(str(folder))}")
    elif history.steps and ended != "unsaved":
        k = getattr(gan.generator, "classes", None)  # with labels, a column is a class
        z = columns(10, gan.z_dim, k, 7) if k else torch.randn(100, gan.z_dim, generator=rng(7))
        viz.save_png(viz.grid(sample(gan.ema_generator, z), cols=k or 10, scale=2), folder / "samples.png")
        if history.snapshots:
            film.save_gif(viz.spread_snapshots(history, 60), folder / "training.gif", fps=8, hold_last=2)
        viz.curves(history).savefig(folder / "curves.png", dpi=120)
        log.info(f"samples.png, training.gif, curves.png and checkpoints are in '{folder}'.")
