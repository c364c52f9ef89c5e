"""Checkpoints: one safetensors file each, never a pickle, so that opening one runs no code.

Its tensors are named ``generator/…``, ``ema_generator/…``, ``discriminator/…``, ``g_opt/…``, ``d_opt/…`` (what the
optimisers keep), ``random/z`` and ``run/…`` (losses and the fixed z). Everything else that training continues from is
JSON in the file's metadata, with a digest of it all. Dropout needs nothing: ``fit`` seeds it at each step.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from ganlib._runtime import durable
from ganlib._runtime.weights import load_strict
from ganlib.models import Generator
from ganlib.steps import GAN

PRETRAINED = Path(__file__).parent / "pretrained"
NETWORKS, OPTIMISERS = ("generator", "ema_generator", "discriminator"), ("g_opt", "d_opt")
NAME = re.compile(r"step-(\d+)\.safetensors$")
METADATA = "ganlib"  # one key: safetensors writes several in any order, and equal checkpoints are to be equal files

log = logging.getLogger("ganlib")


def save(gan: GAN, path: str | os.PathLike) -> Path:
    """Save everything of ``gan`` to the file ``path``: networks, optimisers, random state, counters."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(path, *capture(gan))
    except OSError as error:
        raise type(error)(f"The checkpoint '{path}' could not be written ({error.strerror or error}).") from error
    return path


def resume(gan: GAN, path: str | os.PathLike) -> None:
    """Give ``gan`` everything that :func:`save` saved, so that training continues as it would have."""
    restore(gan, *newest(path))


def newest(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict]:
    """Tensors and facts of a checkpoint, or of the newest intact one of a run's folder."""
    return first_intact(path, read_checkpoint)


def first_intact(path: str | os.PathLike, opened: Callable[[Path], object]):
    """``opened(file)`` of a checkpoint, or of a run's newest one that can be opened; damaged ones are told."""
    path = Path(path)
    if not path.is_dir():
        return opened(path)
    steps = steps_in(path)
    if not steps:
        raise FileNotFoundError(f"There is no checkpoint in '{path}'; give a checkpoint's file or a run's folder.")
    for step in reversed(steps[1:]):
        try:
            return opened(path_of(path, step))
        except ValueError as error:
            log.warning(f"{error} The one before is taken.")
    return opened(path_of(path, steps[0]))


def steps_in(folder: str | os.PathLike) -> list[int]:
    """The steps of which a run's folder has a checkpoint, intact or damaged, the oldest first."""
    there = Path(folder) / "checkpoints"
    return sorted(int(m[1]) for p in (there.iterdir() if there.is_dir() else ()) if (m := NAME.match(p.name)))


def path_of(folder: str | os.PathLike, step: int) -> Path:
    """Where a run's folder has the checkpoint of ``step``."""
    return Path(folder) / "checkpoints" / f"step-{step:06d}.safetensors"


def write_checkpoint(path: Path, tensors: dict[str, Tensor], facts: dict) -> None:
    """Write one file, durably and under its final name only when it is complete."""
    text = json.dumps(facts)
    durable.write(path, to_bytes(tensors, {METADATA: f"{_digest(tensors, text)} {text}"}))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and facts of one file, held against its digest; ValueError if it is damaged."""
    digest, text = header_of(path)
    try:
        tensors = from_bytes(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"The checkpoint '{path}' is damaged: it cannot be read.") from error
    if _digest(tensors, text) != digest:
        raise ValueError(f"The checkpoint '{path}' is damaged: its sha256 differs from the one in it.")
    return tensors, json.loads(text)


def read_facts(path: Path) -> dict:
    """What a checkpoint says besides tensors, from its header alone."""
    return json.loads(header_of(path)[1])


def header_of(path: Path) -> tuple[str, str]:
    """The digest and the JSON text in a checkpoint's header."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint '{path}'; give a checkpoint's file or a run's folder.")
    try:
        with safe_open(path, "pt") as file:
            digest, _, text = file.metadata()[METADATA].partition(" ")
        json.loads(text)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(f"'{path}' is damaged, or not a checkpoint of ganlib's.") from error
    return digest, text


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        found.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def load_generator(path: str | os.PathLike, name: str = "ema_generator") -> Generator:
    """A saved generator on the CPU in eval mode; its ``steps_done`` says of which step it is.

    ``path`` is a checkpoint's file, or a run's folder, whose newest intact checkpoint is taken; ``name`` is
    ``"ema_generator"`` (the running average, usually the better one) or ``"generator"``.
    """

    def opened(file: Path) -> Generator:
        tensors, facts = read_checkpoint(file)
        config = facts["networks"].get(name)
        if config is None:
            raise ValueError(f"'{file}' does not say how its {name} is built; build it yourself and load the weights.")
        generator = Generator.build(config)
        load_strict(generator, _part(tensors, name), file)
        generator.averaged, generator.steps_done = name == "ema_generator", facts["steps_done"]
        return generator.eval()

    return first_intact(path, opened)


def read_network(path: str | os.PathLike, name: str) -> dict[str, Tensor]:
    """The weights of one network of a checkpoint or a run, by name, on the CPU."""

    def opened(file: Path) -> dict[str, Tensor]:
        if not (weights := _part(read_checkpoint(file)[0], name)):
            raise ValueError(f"The checkpoint '{file}' has no {name}; there are: {', '.join(NETWORKS)}.")
        return weights

    return first_intact(path, opened)


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors under ``name/``, without it."""
    return {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}


def pretrained(name: str) -> Generator:
    """A generator that comes with ganlib ("celeba", "cifar10"): the running average of a run in ``examples/gallery``.

    Returns:
        network [B, z_dim] -> images [B, C, H, W] in [-1, 1], on the CPU, in eval mode.
    """
    there = sorted(path.stem for path in PRETRAINED.glob("*.safetensors"))
    if name not in there:
        raise ValueError(f"No generator '{name}' comes with ganlib; there are: {', '.join(there)}.")
    return load_generator(PRETRAINED / f"{name}.safetensors")


def record(name: str) -> dict[str, list[dict]]:
    """What was measured while a pretrained generator and the runs beside it were trained: run -> moments."""
    path = PRETRAINED / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"No record of '{name}' comes with ganlib: there is no '{path}'.")
    return json.loads(path.read_text(encoding="utf-8"))


def read_foreign(path: str | os.PathLike) -> dict[str, Tensor]:
    """The weights in somebody else's ``.pth`` or ``.pt`` file, by name, on the CPU.

    Such a file is a program in a language of its own. Here only tensors and the containers they come in are built; a
    file that asks for anything else is refused unrun.
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
        raise ValueError(f"'{path}' holds more than tensors: {', '.join(others[:5])}; save the state_dict() alone.")
    return found


def capture(gan: GAN) -> tuple[dict[str, Tensor], dict]:
    """A copy of everything that decides how the training of ``gan`` continues: tensors, and facts in JSON's types."""
    tensors = {f"{n}/{k}": _copy(v) for n in NETWORKS for k, v in getattr(gan, n).state_dict().items()}
    tensors["random/z"] = gan.z_rng.get_state()
    facts = {"steps_done": gan.steps_done, "data_position": gan.data_position, "optimisers": {}}
    facts["networks"] = {name: getattr(getattr(gan, name), "config", None) for name in NETWORKS}
    for name in OPTIMISERS:
        optimiser = getattr(gan, name)
        facts["optimisers"][name] = [type(optimiser).__name__, flatten(optimiser.state_dict(), name, tensors)]
    return tensors, facts


def restore(gan: GAN, tensors: dict[str, Tensor], facts: dict, keep_settings: Collection[str] = ()) -> None:
    """Give ``gan`` the state that :func:`capture` took; nothing changes if a network does not fit.

    An optimiser in ``keep_settings`` keeps its learning rate and the like, one of another kind everything.
    """
    if "optimisers" not in facts:
        raise ValueError("The checkpoint holds networks alone: training cannot continue from it.")
    for copied in (True, False):  # first into copies, which may fail
        for name in NETWORKS:
            network = getattr(gan, name)
            load_strict(copy.deepcopy(network) if copied else network, _part(tensors, name), f"the checkpoint's {name}")
    for name in OPTIMISERS:
        optimiser, (kind, plain) = getattr(gan, name), facts["optimisers"][name]
        if kind == type(optimiser).__name__:
            state = unflatten(plain, tensors)
            if name in keep_settings:
                state["param_groups"] = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict(state)
    gan.steps_done, gan.data_position = facts["steps_done"], facts["data_position"]
    gan.z_rng.set_state(tensors["random/z"])


def flatten(value, name: str, tensors: dict[str, Tensor]):
    """``value`` in JSON's types: each tensor in it goes to ``tensors``, under a name that takes its place."""
    if isinstance(value, Tensor):
        tensors[name] = _copy(value)
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, flatten(inner, f"{name}/{key}", tensors)] for key, inner in value.items()]}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [flatten(inner, f"{name}/{k}", tensors) for k, inner in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"'{name}' is a {type(value).__name__}, which no checkpoint can hold; use an optimiser whose state is tensors "
        "and numbers, such as Adam."
    )


def unflatten(plain, tensors: dict[str, Tensor]):
    """What :func:`flatten` was given."""
    if not isinstance(plain, dict):
        return plain
    ((kind, inner),) = plain.items()
    if kind == "tensor":
        return tensors[inner]
    if kind == "dict":
        return {key: unflatten(value, tensors) for key, value in inner}
    return {"list": list, "tuple": tuple}[kind](unflatten(value, tensors) for value in inner)


def _copy(value: Tensor) -> Tensor:
    return value.detach().to("cpu").clone(memory_format=torch.contiguous_format)
