"""What decides a run besides its code: noted when it starts, and compared when it is resumed."""

from __future__ import annotations

import functools
import hashlib
import platform
import re
import subprocess
from collections.abc import Iterator, Sequence
from importlib import metadata

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ganlib._runtime import device as runtime
from ganlib.data.images import ImageSet
from ganlib.steps import GAN, STEPS

# Pixels are hashed up to so many bytes; of a larger set, as many are taken from all over it.
HASH_BYTES = 512 * 2**20

# What may differ without being another run: how long it is and how often it is kept.
HOW_LONG = {"steps", "seconds", "checkpoint_every", "snapshot_every", "score_every", "keep_at"}

# How an optimiser computes, not what: ``fit`` chooses that.
OPTIMISER_INTERNALS = {"params", "fused", "foreach", "capturable"}

PACKAGES = ("ganlib", "torch", "numpy", "safetensors")


def describe(gan: GAN, step, images: ImageSet, arguments: dict) -> dict:
    """Everything needed to make a run again, in JSON's types; and what it ran on, which may differ on resuming."""
    players = {"z_dim": gan.z_dim, "z_seed": gan.seed}
    players |= {name: _network(getattr(gan, name)) for name in ("generator", "discriminator")}
    players |= {name: _optimiser(getattr(gan, name)) for name in ("g_opt", "d_opt")}
    pixels = getattr(images, "pixels", images)
    told = {name: getattr(images, name, None) for name in ("name", "split", "source")}
    return {
        "arguments": {name: _plain(value) for name, value in arguments.items()},
        "players": players,
        "step": name_of(step),
        "images": told | {"count": len(pixels), "shape": list(pixels.shape[1:]), "fingerprint": fingerprint(pixels)},
        "ran_on": {
            **{package: _version(package) for package in PACKAGES},
            "git": _git_revision(),
            "python": platform.python_version(),
            "processor": runtime.processor(),
            "threads": torch.get_num_threads(),
        },
    }


def name_of(step) -> dict:
    """A training step by name, with what a partial function holds: ``{"step": "wgan", "n_critic": 5}``.

    One that is not ganlib's is named by its module and function.
    """
    held = {}
    while isinstance(step, functools.partial):
        held = {**{f"argument {k}": _plain(v) for k, v in enumerate(step.args)}, **_plain(step.keywords), **held}
        step = step.func
    named = step if hasattr(step, "__qualname__") else type(step)
    own = next((name for name, known in STEPS.items() if known is step), f"{named.__module__}.{named.__qualname__}")
    return {"step": own, **held}


def fingerprint(pixels: Tensor) -> str:
    """A short hash of images, uint8 [N, C, H, W]: equal for equal images, whatever file they came from."""
    every = -(-pixels.nbytes // HASH_BYTES)
    found = hashlib.sha256(str(list(pixels.shape)).encode())
    for part in pixels[::every].split(1024):
        found.update(part.contiguous().cpu().numpy().data)
    return found.hexdigest()[:32]


def differences(before: dict, now: dict) -> list[str]:
    """One sentence for each setting in which two descriptions are of different runs.

    A step that was written in a notebook or a script cannot be told from another one.
    """
    own = any(config["step"]["step"].startswith("__main__") for config in (before, now))
    was, has = (dict(_flat(_compared(config, with_step=not own))) for config in (before, now))
    return [
        f"{key} was {_shown(was, key)} and is {_shown(has, key)} now."
        for key in dict.fromkeys([*was, *has])
        if was.get(key) != has.get(key)
    ]


def varied(configs: Sequence[dict]) -> dict[str, list]:
    """The settings in which descriptions are not all alike: dotted name -> the value in each, or None."""
    parts = [dict(_flat(_compared(config, with_step=True))) for config in configs]
    values = {key: [part.get(key) for part in parts] for key in dict.fromkeys(key for part in parts for key in part)}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def new_surroundings(before: dict, now: dict) -> list[str]:
    """What a run is resumed on that may change the last digits of its numbers, though not what it is."""
    pairs = [(name, before["ran_on"].get(name), now["ran_on"][name]) for name in ("torch", "processor", "threads")]
    return [f"{name} {has} instead of {was}" for name, was, has in pairs if was != has]


def _compared(config: dict, with_step: bool) -> dict:
    arguments = {k: v for k, v in config["arguments"].items() if k not in HOW_LONG}
    images = {k: v for k, v in config["images"].items() if k in ("count", "shape", "fingerprint")}
    return arguments | config["players"] | (config["step"] if with_step else {}) | {"images": images}


def _flat(value, path: str = "") -> Iterator[tuple[str, object]]:
    """(dotted path, value) of every leaf; the layers of a network and the like are counted from 0."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if pairs is None:
        yield path, value
        return
    for key, inner in pairs:
        yield from _flat(inner, f"{path}.{key}" if path else str(key))


def _shown(flat: dict, key: str) -> str:
    return repr(flat[key]) if key in flat else "not there"


def _network(model: nn.Module) -> dict:
    layers = re.sub(r"(, )?inplace=True", "", str(model))  # that is how a layer computes, not what
    about = {
        "config": _plain(getattr(model, "config", None)),
        "layers": hashlib.sha256(layers.encode()).hexdigest()[:8],
    }
    kinds = getattr(model, "augment", ())  # of ganlib.data.augment
    return about | ({"augment": list(kinds)} if kinds else {})


def _optimiser(optimiser: Optimizer) -> dict:
    groups = [
        {name: _plain(value) for name, value in group.items() if name not in OPTIMISER_INTERNALS}
        for group in optimiser.param_groups
    ]
    return {"kind": type(optimiser).__name__, "groups": groups}


def _plain(value):
    """``value`` as JSON gives it back."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, set | frozenset | range):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Tensor):
        return value.tolist()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The commit that ganlib runs from, with a plus where files were changed since; None outside of a checkout."""
    if (root := runtime.project_root()) is None:
        return None
    try:
        command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        answer = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=5, check=True)
        return answer.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
