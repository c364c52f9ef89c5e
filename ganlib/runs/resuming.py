"""Beginning a run in a folder, or going on with the one that is there, exactly where it was."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from ganlib import models
from ganlib._runtime import device as runtime
from ganlib._runtime import durable
from ganlib.data.augment import augmented
from ganlib.runs import checkpoint, frames, settings, state
from ganlib.runs.folder import Run
from ganlib.runs.state import Tensors
from ganlib.steps import GAN
from ganlib.train import History

OPTIMISERS = ("Adam", "AdamW", "SGD", "RMSprop")
SAMPLE = re.compile(r"step-(\d+)\.png$")


def enter(
    out: str | os.PathLike,
    gan: GAN,
    history: History,
    fixed_z: Tensor,
    config: dict,
    *,
    resume: bool,
    allow_changes: bool,
) -> Run:
    """Begin a run in the folder ``out``, or go on with the one that is there.

    A run is gone on with if ``resume`` is set, or if the players are the very ones that it left in memory.

    Args:
        out: the folder.
        gan: the players. With ``resume`` they get the state of the newest whole checkpoint.
        history: an empty one; filled with that of the run that is gone on with.
        fixed_z: [n, z_dim], of the snapshots.
        config: what :func:`ganlib.runs.settings.describe` gives.
        resume: take the state from the folder, if there is any.
        allow_changes: go on even if the settings are not those that the run had.

    Raises:
        FileExistsError: if ``out`` holds another run and ``resume`` is not set.
        ValueError: if settings changed and ``allow_changes`` is not set, or no checkpoint is whole.
        OSError: if ``out`` cannot be written.
    """
    folder = Path(out)
    runtime.check_writable(folder)
    there = any((folder / name).exists() for name in ("config.json", "checkpoints", "model.json"))
    mine = gan.saved_in == folder.resolve()
    if there and not resume and not mine:
        raise FileExistsError(
            f"'{out}' holds another run, which would be overwritten; choose another folder, number "
            "them with ganlib._runtime.device.new_run_folder, or go on with that run: resume=True."
        )
    if (folder / "model.json").exists():
        raise FileExistsError(
            f"'{out}' holds a single checkpoint, not a run; give ganlib.runs.checkpoint.resume that folder and fit another."
        )
    run = Run(folder, history, fixed_z, config)
    with _told(folder):
        for name in ("checkpoints", "samples"):
            (folder / name).mkdir(exist_ok=True)
        for path in (folder, folder / "checkpoints", folder / "samples"):
            durable.clean(path)
    if found := _newest(folder):
        _go_on(run, gan, *found, resume, allow_changes)
    with _told(folder):
        if there:  # what is of steps that are yet to be made, again
            run.cut_back()
            for path in (folder / "samples").iterdir():
                match = SAMPLE.match(path.name)
                if match and int(match[1]) not in {frame["step"] for frame in run.frames}:
                    path.unlink()
        durable.write(folder / "config.json", (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())
        durable.sync_folder(folder)
    gan.saved_in = folder.resolve()
    return run


def rebuild(folder: str | os.PathLike) -> tuple[GAN, dict]:
    """Players like those that the run in ``folder`` began with, and the arguments of ``fit`` that it had.

    They are built from ``config.json``, of ganlib's networks and torch's optimisers; ``fit(gan, step, images,
    **arguments, out=folder, resume=True)`` then goes on, where step and images are those that ``config.json`` names.

    Raises:
        FileNotFoundError: if there is no run in ``folder``.
        ValueError: if ``config.json`` is damaged, or the players are none that can be built from it.
    """
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        players = config["players"]
        pair = [players[name]["config"] for name in ("generator", "discriminator")]
        if None in pair or any(p["kind"] not in models.BUILDERS for p in pair):
            raise ValueError(f"The networks of the run in '{folder}' are not ganlib's own; build them as they were.")
        networks = [
            models.BUILDERS[p["kind"]][k](**{name: value for name, value in p.items() if name != "kind"})
            for k, p in enumerate(pair)
        ]
        augmented(networks[1], players["discriminator"].get("augment", ()))
        optimisers = [_optimiser(players[n], m) for n, m in zip(("g_opt", "d_opt"), networks, strict=True)]
        arguments = {"keep_at": (), **config["arguments"]}  # which older runs do not have
        arguments |= {name: settings.steps_of(arguments[name]) for name in ("snapshot_at", "score_at", "keep_at")}
        if checkpoint.steps_in(folder):  # the snapshots' z may be somebody's own
            arguments["fixed_z"] = checkpoint.read_network(folder, "run")["fixed_z"]
        return GAN(*networks, *optimisers, players["z_dim"], players["z_seed"]), arguments
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no run in '{folder}': 'config.json' is missing.") from error
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"'{path}' is damaged: no players can be built from it.") from error


def _optimiser(about: dict, network: nn.Module) -> torch.optim.Optimizer:
    if about["kind"] not in OPTIMISERS or len(about["groups"]) != 1:
        known = f"one of {', '.join(OPTIMISERS)} with one group"
        raise ValueError(f"The optimiser {about['kind']} is not {known}; build the players as they were.")
    kind = getattr(torch.optim, about["kind"])
    known = inspect.signature(kind).parameters
    return kind(network.parameters(), **{name: v for name, v in about["groups"][0].items() if name in known})


@contextlib.contextmanager
def _told(folder: Path):
    """Errors of the disk inside the block, with what to do."""
    try:
        yield
    except OSError as error:
        raise type(error)(f"Cannot write in '{folder}' ({error.strerror}); make room, or choose another.") from error


def _newest(folder: Path) -> tuple[Tensors, dict] | None:
    """The newest whole checkpoint. Damaged ones are told and put aside; None if there never was one."""
    steps, damaged = checkpoint.steps_in(folder), []
    for step in reversed(steps):
        there = checkpoint.step_folder(folder, step)
        try:
            found = checkpoint.read(there)
        except (FileNotFoundError, ValueError) as error:
            print(error)
            damaged.append(there)
            continue
        if damaged:
            print(f"The one before is taken, of step {step:,}.")
        for there in damaged:  # not removed: its owner may want to look; but not in the way of the next of its step
            with contextlib.suppress(OSError):
                os.rename(there, runtime.new_run_folder(there.with_name(f"damaged-{there.name}")))
        return found
    if steps:
        raise ValueError(f"No checkpoint in '{folder}' is whole; begin anew in another folder.")
    return None


def _go_on(run: Run, gan: GAN, tensors: Tensors, facts: dict, resume: bool, allow: bool) -> None:
    """Give ``run``, and with ``resume`` ``gan``, what the checkpoint holds, if it is of this run."""
    if not resume and facts["steps_done"] != gan.steps_done:
        raise FileExistsError(
            f"'{run.folder}' has these players after {facts['steps_done']:,} steps, but by now they have made "
            f"{gan.steps_done:,}, and what came between is not in it; choose another folder, or go back: resume=True."
        )
    # A checkpoint has the settings in it that led to it; those of config.json may have been given since.
    before, now = facts["config"], run.config
    changes = settings.differences(before, now)
    if not torch.equal(tensors["run"]["fixed_z"], run.fixed_z.cpu()):
        changes.append("fixed_z was another one.")
    if resume:
        changes += _other_steps(before["arguments"], now["arguments"], facts["steps_done"])
    if changes and not allow:
        raise ValueError(
            f"The run in '{run.folder}' had other settings: {' '.join(changes)} Give what it had to go on exactly, or "
            "allow_changes=True to go on with the new ones."
        )
    if new := settings.new_surroundings(before, now):
        print(f"Going on with {', '.join(new)}: the numbers may differ in their last digits.")
    losses = {n.removeprefix("loss."): v for n, v in tensors["run"].items() if n.startswith("loss.")}
    if resume:
        changed = [name for name in state.OPTIMISERS if before["players"][name] != now["players"][name]]
        state.restore(gan, tensors, facts, keep_settings=changed)
        run.random = tensors, facts
    state.restore_history(run.history, losses, facts["history"])
    run.frames, run.latest = list(facts["frames"]), facts["steps_done"]
    for frame in run.frames:
        if (images := frames.read(run.folder / "samples", frame)) is not None:
            run.history.snapshots.append((frame["step"], images))
    if not resume:  # what is asked for now comes on top
        now["arguments"]["steps"] += run.history.steps
        if now["arguments"]["seconds"] is not None:
            now["arguments"]["seconds"] += run.history.seconds
    if told := [*before.get("changes", []), *([{"after_step": run.latest, "what": changes}] if changes else [])]:
        now["changes"] = told


def _other_steps(before: dict, now: dict, done: int) -> list[str]:
    """One sentence for each kind of event that the run had at other steps than it would have had by now."""
    found = []
    for name, what in (("snapshot_at", "a snapshot"), ("score_at", "a score")):
        had, has = (
            {step for step in settings.steps_of(arguments[name]) if step <= done} for arguments in (before, now)
        )
        if differ := sorted(had ^ has):
            found.append(f"{name}: there {'was' if differ[0] in had else 'was not'} {what} after step {differ[0]:,}.")
    return found
