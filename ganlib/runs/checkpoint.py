"""Checkpoints: safetensors for the numbers, JSON for the rest, never a pickle: opening one runs no code.

    generator.safetensors, ema_generator.safetensors, discriminator.safetensors   the networks
    g_opt.safetensors, d_opt.safetensors                                          the optimisers' averages
    random.safetensors                                                            random generators
    run.safetensors                                                               in a run's folder: losses, fixed z
    state.json     the rest of what training goes on from
    model.json     how to rebuild the networks, and the sha256 of every other file; written last

A file that is not the one that model.json tells of makes the checkpoint a damaged one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from ganlib import models
from ganlib._runtime import durable
from ganlib.runs import state
from ganlib.runs.state import Tensors
from ganlib.steps import GAN

PRETRAINED = Path(__file__).parent / "pretrained"

STEP = re.compile(r"step-(\d+)$")


def save(gan: GAN, folder: str | os.PathLike) -> Path:
    """Save everything of ``gan`` to ``folder``: networks, running average, optimisers, random generators, counters.

    :func:`resume` gives it back to players built alike. ``fit(..., out=...)`` keeps a run's checkpoints by itself.

    Returns:
        the folder.

    Raises:
        OSError: if the folder cannot be written.
    """
    folder = Path(folder)
    try:
        write(folder, *state.capture(gan))
    except OSError as error:
        raise OSError(f"The checkpoint could not be written to '{folder}' ({error}).") from error
    return folder


def resume(gan: GAN, folder: str | os.PathLike) -> None:
    """Give ``gan`` everything that :func:`save` saved, so that training goes on as it would have.

    Args:
        gan: players built as those that were saved.
        folder: what ``save`` wrote, or a run's folder, whose newest whole checkpoint is taken.

    Raises:
        FileNotFoundError: if there is no checkpoint in ``folder``.
        ValueError: if it is damaged or the players are others.
    """
    state.restore(gan, *newest(folder))


def newest(folder: str | os.PathLike) -> tuple[Tensors, dict]:
    """What :func:`read` reads of ``folder``, or of the newest whole checkpoint of the run in it.

    Raises:
        FileNotFoundError, ValueError: as :func:`read`.
    """
    return _first_whole(folder, read)


def write(folder: Path, tensors: Tensors, facts: dict) -> None:
    """Write what :func:`ganlib.runs.state.capture` took, each file durably; an older checkpoint there is replaced.

    Raises:
        OSError: if it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hashes: dict[str, str] = {}
    for name, some in tensors.items():
        content = to_bytes(some)
        hashes[name] = hashlib.sha256(content).hexdigest()
        durable.write(folder / f"{name}.safetensors", content)
    content = json.dumps(facts).encode()
    hashes["state"] = hashlib.sha256(content).hexdigest()
    durable.write(folder / "state.json", content)
    about = {"steps_done": facts["steps_done"], "sha256": hashes, **facts["networks"]}
    durable.write(folder / "model.json", (json.dumps(about, indent=2) + "\n").encode())
    durable.sync_folder(folder)


def read(folder: Path) -> tuple[Tensors, dict]:
    """What :func:`write` wrote (tensors of any shape), every file held against its checksum.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if it is damaged, or has only networks in it.
    """
    about = _about(folder)
    hashes = about["sha256"]
    wanted = {*state.NETWORKS, *state.OPTIMISERS, "random", "state"}
    if missing := sorted(wanted - hashes.keys()):
        raise ValueError(f"The checkpoint in '{folder}' has no {', '.join(missing)}: training cannot go on from it.")
    tensors = {name: _load(folder, name, hashes) for name in sorted(hashes) if name != "state"}
    return tensors, read_facts(folder)


def read_facts(folder: Path) -> dict:
    """What :func:`write` wrote besides tensors: one small file, held against its checksum.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if it is damaged, or has only networks in it.
    """
    hashes = _about(folder)["sha256"]
    if "state" not in hashes:
        raise ValueError(f"The checkpoint in '{folder}' has no state: training cannot go on from it.")
    return json.loads(_whole(folder / "state.json", hashes["state"]))


def steps_in(folder: str | os.PathLike) -> list[int]:
    """The steps of which the run's folder ``folder`` has a checkpoint, whole or damaged, the oldest first."""
    there = Path(folder) / "checkpoints"
    names = [path.name for path in there.iterdir()] if there.is_dir() else []
    return sorted(int(match[1]) for name in names if (match := STEP.match(name)))


def step_folder(folder: str | os.PathLike, step: int) -> Path:
    """Where the run's folder ``folder`` has the checkpoint of ``step``."""
    return Path(folder) / "checkpoints" / f"step-{step:06d}"


def load_generator(folder: str | os.PathLike, name: str = "ema_generator") -> models.Generator:
    """The generator saved in ``folder``, on the CPU, in eval mode.

    Args:
        folder: what :func:`save` wrote, or a run's folder, whose newest whole checkpoint is taken.
        name: ``"ema_generator"`` (the running average, usually the better one) or ``"generator"``.

    Returns:
        network [B, z_dim] -> images [B, C, H, W] in [-1, 1]; its attribute ``steps_done`` says of which step it is.

    Raises:
        FileNotFoundError: if there is no checkpoint in ``folder``.
        ValueError: if it cannot be rebuilt or its weights do not fit.
    """
    return _first_whole(folder, lambda there: _generator(there, name))


def read_network(folder: str | os.PathLike, name: str) -> dict[str, Tensor]:
    """The weights of one network of a checkpoint, by name, of any shape, on the CPU.

    Args:
        folder: as in :func:`load_generator`.
        name: ``"generator"``, ``"ema_generator"`` or ``"discriminator"``.

    Raises:
        FileNotFoundError: if there is no checkpoint in ``folder``.
        ValueError: if it is damaged, or has no such network.
    """

    def open_it(there: Path) -> dict[str, Tensor]:
        hashes = _about(there)["sha256"]
        if name not in hashes:
            raise ValueError(f"The checkpoint in '{there}' has no {name}; there are: {', '.join(sorted(hashes))}.")
        return _load(there, name, hashes)

    return _first_whole(folder, open_it)


def pretrained(name: str) -> models.Generator:
    """A generator that comes with ganlib, from one of the gallery's runs (``examples/gallery/<name>``), on the CPU.

    Args:
        name: ``"celeba"`` or ``"cifar10"``.

    Returns:
        network [B, z_dim] -> images [B, C, H, W] in [-1, 1], in eval mode: the running average of its run.

    Raises:
        ValueError: if there is no such generator, or its file is damaged.
    """
    there = sorted(folder.name for folder in PRETRAINED.iterdir() if folder.is_dir())
    if name not in there:
        raise ValueError(f"No generator '{name}' comes with ganlib; there are: {', '.join(there)}.")
    return load_generator(PRETRAINED / name)


def record(name: str) -> dict[str, list[dict]]:
    """What was measured while a generator that comes with ganlib was trained, and in the runs beside it.

    Args:
        name: ``"celeba"``.

    Returns:
        run -> moments, each with its ``step`` and what was measured then.

    Raises:
        FileNotFoundError: if there is no such record.
    """
    path = PRETRAINED / name / "record.json"
    if not path.is_file():
        raise FileNotFoundError(f"No record of '{name}' comes with ganlib: there is no '{path}'.")
    return json.loads(path.read_text(encoding="utf-8"))


def read_foreign(path: str | os.PathLike) -> dict[str, Tensor]:
    """The weights in somebody else's ``.pth`` or ``.pt`` file, by name, of any shape, on the CPU.

    Such a file is a program in a language of its own, and may do anything to the one who opens it in the usual way.
    Here only tensors and the containers they come in are built; a file that asks for anything else is refused unrun.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds anything but tensors, or is damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file '{path}'.")
    try:
        with warnings.catch_warnings(action="ignore"):  # of unusual pickles: what matters of them is said below
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever it is, the file is not one of weights
        raise ValueError(
            f"'{path}' was refused: it is damaged, or holds more than weights, and opening it could run a stranger's "
            f"code. Ask for the weights as safetensors. ({type(error).__name__}: {str(error).splitlines()[0]:.120})"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"'{path}' holds a {type(found).__name__}, not weights by name: save a state_dict().")
    if others := [str(name) for name, value in found.items() if not isinstance(value, Tensor)]:
        raise ValueError(
            f"'{path}' holds more than tensors in one dict: {', '.join(others[:5])}; save the state_dict() alone."
        )
    return found


def _first_whole(folder: str | os.PathLike, open_it):
    """``open_it(checkpoint)`` for ``folder`` itself, or for the newest of a run's checkpoints that can be opened."""
    steps = steps_in(folder)
    if (Path(folder) / "model.json").exists() or not steps:
        return open_it(Path(folder))
    for step in reversed(steps[1:]):
        try:
            return open_it(step_folder(folder, step))
        except (FileNotFoundError, ValueError) as error:
            print(f"{error} The one before is taken.")
    return open_it(step_folder(folder, steps[0]))


def _generator(folder: Path, name: str) -> models.Generator:
    about = _about(folder)
    try:
        config = dict(about[name])
        weights = _load(folder, name, about["sha256"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"The checkpoint in '{folder}' is damaged or holds no {name} that can be rebuilt.") from error
    kind = config.pop("kind", None)
    if kind not in models.BUILDERS:
        raise ValueError(f"The checkpoint in '{folder}' is of kind '{kind}'; known are {', '.join(models.BUILDERS)}.")
    try:
        generator: nn.Module = models.BUILDERS[kind][0](**config)
        generator.load_state_dict(weights)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"The weights in '{folder}' do not fit the {kind} network that model.json describes."
        ) from error
    generator.averaged, generator.steps_done = name == "ema_generator", about.get("steps_done")
    return generator.eval()


def _about(folder: Path) -> dict:
    try:
        about = json.loads((folder / "model.json").read_text())
        dict(about["sha256"])
        return about
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"No checkpoint in '{folder}': 'model.json' is missing; give the folder that holds it, or a run's folder."
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"The checkpoint in '{folder}' is damaged: model.json cannot be read.") from error


def _load(folder: Path, name: str, hashes: dict[str, str]) -> dict[str, Tensor]:
    try:
        return load(_whole(folder / f"{name}.safetensors", hashes[name]))
    except SafetensorError as error:
        raise ValueError(f"The checkpoint in '{folder}' is damaged: {name} cannot be read.") from error


def _whole(path: Path, wanted: str) -> bytes:
    """The bytes of a file, if they are those that model.json tells of."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"The checkpoint in '{path.parent}' is damaged: '{path.name}' cannot be read ({error.strerror})."
        ) from error
    if hashlib.sha256(content).hexdigest() != wanted:
        raise ValueError(
            f"The checkpoint in '{path.parent}' is damaged: '{path.name}' is not the file that model.json describes "
            "(sha256 differs)."
        )
    return content
