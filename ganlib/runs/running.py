"""A run from its settings to its pictures: what ``ganlib.main`` and ``ganlib train`` do."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from ganlib import models
from ganlib._runtime import device as runtime
from ganlib._runtime import durable
from ganlib.data import loading as data
from ganlib.data.images import ImageSet
from ganlib.runs import board, checkpoint, parallel, resuming, saved, settings
from ganlib.runs import build as games
from ganlib.runs.config import FREE, LENGTH, Config
from ganlib.runs.presets import PRESETS
from ganlib.runs.rules import change, differences, from_json
from ganlib.steps import GAN
from ganlib.train import History, fit, sample
from ganlib.viz import film
from ganlib.viz import images as viz

FRAMES = 60  # of the film
N_SAMPLES = 100
RUN_FILES = ("config.json", "classes.json", "checkpoints", "model.json")

# What can be given for a run that was begun by ``fit`` in a program, of which not all can be rebuilt.
OF_A_PROGRAM = {*FREE - {"epochs", "keep_epochs"}, "batch_size", "ema_decay", "seed", "device", "precision"}


def run(*, preset: str | None = None, **given) -> History | dict[str, History] | None:
    """Train a GAN, or go on training one, and leave its run's folder with pictures, a film and the curves.

    Args:
        preset: settings to start from, by name: see :data:`ganlib.runs.presets.PRESETS`.
        **given: settings of :class:`ganlib.runs.config.Config` by name. With ``resume_path`` the rest is what that run had.

    Returns:
        the history of the whole run; of architecture ``class`` one for each class; None of a dry run.

    Raises:
        ValueError: if a setting is unknown or cannot work, or a run that is gone on with had others.
        OSError: if a file or folder is not there, cannot be read or cannot be written.
        Diverged: if a loss becomes NaN or infinite.
        ImportError: if an extra is asked for that is not installed.
    """
    if given.get("resume_path") is not None:
        if preset is not None or given.get("out") is not None:
            other = "preset" if preset is not None else "out"
            raise ValueError(f"{other} is of a new run, but resume_path goes on with one as it is; leave {other} out.")
        return _go_on(given)
    if preset is not None and preset not in PRESETS:
        near = difflib.get_close_matches(str(preset), PRESETS, 1)
        raise ValueError(f"There is no preset '{preset}'; {f'did you mean {near[0]}?' if near else ', '.join(PRESETS)}")
    return _begin(change(PRESETS[preset] if preset else Config(), given))


@dataclass
class _Job:
    """A run that is about to be made.

    Attributes:
        config: as it was given; None of a run that a program began.
        images, gan, step: what ``fit`` takes.
        arguments: the rest of it.
        folder: of the run; None for one that is yet to be chosen.
        score: for ``fit``.
        resume: whether to go on with what is in ``folder``.
        options: of which dry_run, tensorboard, processes and allow_changes are looked at.
    """

    config: Config | None
    images: ImageSet
    gan: GAN
    step: Callable
    arguments: dict
    folder: Path | None
    score: Callable[[nn.Module], dict[str, float]] | None
    resume: bool = False
    options: Config = field(default_factory=Config)


def _begin(config: Config) -> History | dict[str, History] | None:
    runtime.device(config.device)
    if config.tensorboard:
        board.check()
    if config.out is not None and any((Path(config.out) / name).exists() for name in RUN_FILES):
        raise FileExistsError(
            f"'{config.out}' holds a run already: go on with it (resume_path={shlex.quote(config.out)}), or choose "
            "another folder with out=..."
        )
    return _each_class(config) if config.architecture == "class" else _make(_from_config(config))


def _from_config(config: Config, folder: Path | None = None, resume: bool = False) -> _Job:
    images = games.load_images(config)
    print(images)
    whole = games.fitted(config, images)
    score = None if config.score_every == 0 else games.score_for(images)
    if config.score_every != 0 and score is None:
        print("No score: only MNIST's digits and colour pictures, 128 or more, can be judged here.")
    gan, arguments = games.players(whole, fresh=not resume), games.fit_arguments(whole, images)
    arguments |= {"score_at": ()} if score is None else {}
    folder = folder or (Path(config.out) if config.out is not None else None)
    return _Job(config, images, gan, games.step(whole), arguments, folder, score, resume, config)


def _go_on(given: dict) -> History | dict[str, History] | None:
    folder = Path(given["resume_path"])
    if (folder / "classes.json").is_file():
        before = _stored(folder / "classes.json", lambda plain: plain)
        return _each_class(_changed(folder, before, given), folder, given)
    about = _config_of(folder)
    if "config" not in about:
        return _make(_from_program(folder, about, given))
    before = _stored(folder / "config.json", lambda plain: plain["config"])
    now = _changed(folder, before, given)
    if now.tensorboard:
        board.check()
    job = _from_config(now, folder, resume=True)
    _keep_the_past(job.arguments, about, checkpoint.steps_in(folder))
    return _make(job)


def _changed(folder: Path, before: Config, given: dict) -> Config:
    now = change(before, given)
    if (changes := differences(before, now)) and not now.allow_changes:
        raise ValueError(
            f"The run in '{folder}' had other settings: {' '.join(changes)} Leave them as they were, or go on with the "
            "new ones: allow_changes=True."
        )
    return now


def _from_program(folder: Path, about: dict, given: dict) -> _Job:
    """The run that ``fit`` left in ``folder``, as far as it can be built from there."""
    if wrong := sorted(given.keys() - OF_A_PROGRAM):
        change(Config(), {wrong[0]: given[wrong[0]]})  # it may not even be a setting
        raise ValueError(
            f"{wrong[0]} cannot be given here: the run in '{folder}' was begun by fit in a program or a notebook; "
            "change it there."
        )
    now = change(Config(), given)
    gan, arguments = resuming.rebuild(folder)
    step, there = games.step_named(about["step"]), about["images"]
    wanted = dict(image_size=there["shape"][-1], channels=there["shape"][0], n=there["count"], split=there["split"])
    try:
        name = given.get("dataset", there["name"])
        images = data.load(
            name, root=now.data_root, workers=now.workers, **{k: v for k, v in wanted.items() if v is not None}
        )
        if settings.fingerprint(images.pixels) != there["fingerprint"]:
            raise ValueError(f"What '{name}' gives has other pixels.")
    except (TypeError, ValueError, FileNotFoundError) as error:
        raise ValueError(
            f"The images of the run in '{folder}' ({there['count']:,} of '{there['name']}') were not found: {error} "
            "Go on where it was begun, or give them: dataset=PATH."
        ) from error
    print(images)
    for name in ("batch_size", "ema_decay", "seed", "device", "precision", "checkpoint_every"):
        arguments |= {name: given[name]} if name in given else {}
    if set(LENGTH) & given.keys():
        arguments |= {"steps": now.steps or games.UNTIL_TIME_IS_UP, "seconds": now.seconds}
    for name, every in (("snapshot_at", "snapshot_every"), ("score_at", "score_every")):
        if every in given:
            arguments[name] = range(0, arguments["steps"] + 1, given[every]) if given[every] else ()
    _keep_the_past(arguments, about, checkpoint.steps_in(folder))
    score = None
    if arguments["score_at"]:
        print("Its own score is not here; scores from now on are ganlib's, if there is one for such images.")
        score = games.score_for(images) or (lambda generator: {})
    arguments["print_every"] = now.print_every
    return _Job(None, images, gan, step, arguments, folder, score, True, now)


def _keep_the_past(arguments: dict, about: dict, steps: list[int]) -> None:
    """Let snapshots and scores be after the same steps as they were, as far as the run in hand has got."""
    done = steps[-1] if steps else 0
    for name in ("snapshot_at", "score_at"):
        had, has = about["arguments"][name], arguments[name]
        past = {step for step in had if step <= done}
        if past != {step for step in has if step <= done}:
            arguments[name] = sorted(past | {step for step in has if step > done})


def _make(job: _Job) -> History | None:
    if job.options.dry_run:
        _tell(job)
        return None
    folder = job.folder or runtime.new_run_folder(Path("runs") / _plain_name(job.images.name))
    asked = job.config and asdict(replace(job.config, resume_path=None, allow_changes=False, out=str(folder)))
    how = dict(out=folder, resume=job.resume, allow_changes=job.options.allow_changes, made_from=asked)
    try:
        with contextlib.ExitStack() as stack:
            step, watch = job.step, None
            if job.options.tensorboard:
                watch = stack.enter_context(board.board(folder / "tensorboard"))
            if job.options.processes > 1:
                where = runtime.device(job.arguments["device"])
                stack.enter_context(parallel.followers(job.config, where, folder, job.resume))
                step = parallel.together(job.gan, step)
            history = fit(job.gan, step, job.images, **job.arguments, **how, score=job.score, watch=watch)
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()  # a folder in which nothing came about
        raise
    print(history)
    for step, values in history.scores[-1:]:
        print(" · ".join([f"score after step {step:,}", *(f"{name} {value:.4g}" for name, value in values.items())]))
    if interrupted(history):
        print(f"To go on:  ganlib train --resume-path {shlex.quote(str(folder))}")
    elif history.steps:
        _draw(job.gan, history, folder)
    return history


def interrupted(history: History) -> bool:
    """Whether the run ended because somebody pressed Ctrl-C, or a notebook's stop button."""
    return (history.stopped or "").startswith("interrupted")


def _draw(gan: GAN, history: History, folder: Path) -> None:
    z = torch.randn(N_SAMPLES, gan.z_dim, generator=runtime.rng(7))
    viz.save_png(viz.grid(sample(gan.ema_generator, z), cols=10, scale=2), folder / "samples.png")
    if history.snapshots:
        film.save_gif(film.frames_of(history, FRAMES), folder / "training.gif", fps=8, hold_last=2)
    viz.curves(history).savefig(folder / "curves.png", dpi=120)
    for name in ("samples.png", "training.gif", "curves.png", "checkpoints"):
        if (folder / name).exists():
            print(folder / name)


def _tell(job: _Job) -> None:
    """What a run would be, and nothing done."""
    gan, arguments, images = job.gan, job.arguments, job.images
    models.describe(gan.generator, (gan.z_dim,))
    print()
    models.describe(gan.discriminator, tuple(images.pixels.shape[1:]))
    print()
    for name in ("g_opt", "d_opt"):
        group = getattr(gan, name).param_groups[0]
        betas = f", betas {group['betas']}" if "betas" in group else ""
        print(f"{name}: {type(getattr(gan, name)).__name__}, learning rate {group['lr']:g}{betas}")
    where = runtime.device(arguments["device"])
    n = models.count_parameters(gan.generator) + models.count_parameters(gan.discriminator)
    dtype = str(runtime.choose_precision(where, n, arguments["precision"])).removeprefix("torch.")
    limit = "" if arguments["seconds"] is None else f", at most {arguments['seconds']:g} s"
    print(f"{settings.name_of(job.step)}: {arguments['steps']:,} steps of {arguments['batch_size']} images{limit}")
    done = checkpoint.steps_in(job.folder)[-1:] if job.resume else []
    begun = f", from step {done[0]:,} on" if done else ""
    print(f"On {where} in {dtype}{begun}, into '{job.folder or Path('runs') / _plain_name(images.name)}'.")
    print("Nothing was done, as this is a dry run.")


def _each_class(config: Config, folder: Path | None = None, given: dict | None = None) -> dict[str, History] | None:
    """A run for each class, one after the other, in folders named after them.

    With ``folder`` it goes on with those that are there, and with what was ``given`` for all of them.
    """
    there = games.load_images(replace(config, n=None))
    if not there.classes:
        raise ValueError(f"'{there.name}' has no labels, so no pair for each class; put each class in a folder.")
    names = [there.classes[int(c)] if c not in there.classes else c for c in config.classes] or list(there.classes)
    histories: dict[str, History] = {}
    resume = folder is not None
    if folder is None and not config.dry_run:
        folder = Path(config.out) if config.out else runtime.new_run_folder(Path("runs") / _plain_name(there.name))
        runtime.check_writable(folder)
    if not config.dry_run:
        plain = asdict(replace(config, resume_path=None, allow_changes=False, out=str(folder)))
        durable.write(folder / "classes.json", (json.dumps(plain, indent=2, ensure_ascii=False) + "\n").encode())
    for name in names:
        print(f"\nclass {name}")
        one = _share(config, name, len(names))
        place = (folder or Path("runs")) / _plain_name(name)
        if resume and (place / "config.json").is_file():
            anew = {*LENGTH, *given} - {"resume_path", "architecture", "classes"}
            history = run(resume_path=place, **{key: getattr(one, key) for key in anew})
        else:
            history = _make(_from_config(replace(one, resume_path=None, allow_changes=False), place))
        if history is not None:
            histories[name] = history
            if interrupted(history):
                print(f"And with the other classes:  ganlib train --resume-path {shlex.quote(str(folder))}")
                break
    return histories or None


def _share(config: Config, name: str, k: int) -> Config:
    """The run of the class ``name``: one of ``k`` that share time, steps and images."""
    parts = {key: max(1, getattr(config, key) // k) for key in ("steps", "n") if getattr(config, key) is not None}
    parts |= {} if config.seconds is None else {"seconds": config.seconds / k}
    return replace(config, architecture="conv", classes=(name,), **parts)


def _plain_name(name: str) -> str:
    return re.sub(r"[^\w. -]", "-", name)


def _config_of(folder: Path) -> dict:
    """As :func:`ganlib.runs.saved.config_of`, with the steps of snapshots and scores as collections."""
    about, path = saved.config_of(folder), folder / "config.json"
    try:
        about["arguments"].setdefault("keep_at", [])  # of an older run
        for name in ("snapshot_at", "score_at", "keep_at"):
            about["arguments"][name] = settings.steps_of(about["arguments"][name])
            any(step < 0 for step in about["arguments"][name])  # steps they are, or it is an error
        if "step" not in about:
            raise KeyError("step")
        return about
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' is damaged: it does not say what the run was.") from error


def _stored(path: Path, pick: Callable[[dict], dict]) -> Config:
    try:
        return from_json(pick(json.loads(path.read_text(encoding="utf-8"))))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"'{path}' is damaged, or of another version: {error}") from error
