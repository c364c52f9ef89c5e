"""What decides a run besides its code: written down when it starts, and compared when it is gone on with."""

from __future__ import annotations

import functools
import hashlib
import platform
import re
import subprocess
from collections.abc import Collection, Iterator, Sequence
from importlib import metadata

import torch
from torch import nn
from torch.optim import Optimizer

from ganlib._runtime import device as runtime
from ganlib.data.images import ImageSet
from ganlib.steps import GAN

# Images are hashed whole up to so many bytes; of a larger set, as many are taken from all over it.
HASH_BYTES = 512 * 2**20

# What may differ without being another run: how long it goes on and how it is kept.
FREE = {"steps", "seconds", "checkpoint_every", "snapshot_at", "score_at", "keep_at"}

# How an optimiser computes, not what: ``fit`` chooses that.
OPTIMISER_INTERNALS = {"params", "fused", "foreach", "capturable"}

PACKAGES = ("ganlib", "torch", "numpy", "safetensors")


def describe(gan: GAN, step, images: ImageSet, arguments: dict) -> dict:
    """Everything needed to run it again, in JSON's types.

    Args:
        gan: the players, before the first step.
        step: the training step; its name is noted.
        images: the reals.
        arguments: those of ``fit``; collections of steps may be ranges.

    Returns:
        ``arguments``, ``players``, ``step``, ``images`` with their count and fingerprint, and what it ``ran_on``:
        versions, git revision, processor, threads. These last may differ when a run goes on.
    """
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


def fingerprint(pixels: torch.Tensor) -> str:
    """A short hash of images, uint8 [N, C, H, W]: equal for equal images, in whatever file they were."""
    every = -(-pixels.nbytes // HASH_BYTES)
    found = hashlib.sha256(str(list(pixels.shape)).encode())
    for part in pixels[::every].split(1024):
        found.update(part.contiguous().cpu().numpy().data)
    return found.hexdigest()[:32]


def differences(there: dict, here: dict) -> list[str]:
    """One sentence for each setting in which two descriptions are of different runs.

    How long a run is and how often it is kept may change. So may the name of the images, if their pixels are the same,
    and the step if one of the two was written in a notebook or a script: such a step cannot be told from another.
    """
    names = [config.get("step", "") for config in (there, here)]
    parts = [dict(_flat(_compared(config, steps=not any("__main__" in n for n in names)))) for config in (there, here)]
    keys = dict.fromkeys([*parts[0], *parts[1]])
    return [
        f"{key} was {_shown(parts[0], key)} and is {_shown(parts[1], key)} now."
        for key in keys
        if parts[0].get(key) != parts[1].get(key)
    ]


def varied(configs: Sequence[dict]) -> dict[str, list]:
    """The settings in which descriptions are not all alike: dotted name -> the value in each, None where it has none.

    Short: a network of ganlib's is what it was built from, another one a hash of its layers. See :func:`differences`
    for what is compared.
    """
    parts = []
    for config in configs:
        players = {name: _short(player) for name, player in config["players"].items()}
        parts.append(dict(_flat(_compared(config | {"players": players}, steps=True))))
    keys = dict.fromkeys(key for part in parts for key in part)
    values = {key: [part.get(key) for part in parts] for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def new_surroundings(there: dict, here: dict) -> list[str]:
    """What a run goes on with that may change the last digits of its numbers, though not what it is."""
    names = ("torch", "processor", "threads")
    pairs = [(name, there.get("ran_on", {}).get(name), here["ran_on"][name]) for name in names]
    return [f"{name} {now} instead of {was}" for name, was, now in pairs if was != now]


def _compared(config: dict, steps: bool) -> dict:
    arguments = {k: v for k, v in config.get("arguments", {}).items() if k not in FREE}
    images = {k: v for k, v in config.get("images", {}).items() if k in ("count", "shape", "fingerprint")}
    step = {"step": config.get("step")} if steps else {}
    return arguments | config.get("players", {}) | step | {"images": images}


def _flat(value, path: str = "") -> Iterator[tuple[str, object]]:
    """(dotted path, value) of every leaf; the layers of a network and the like are counted from 0."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if pairs is None:
        yield path, value
        return
    for key, inner in pairs:
        yield from _flat(inner, f"{path}.{key}" if path else str(key))


def _short(player):
    """A network as :func:`_network` tells of it, without its layers; any other entry as it is."""
    if not isinstance(player, dict) or "layers" not in player:
        return player
    layers = "\n".join(player["layers"]).encode()
    rest = {name: value for name, value in player.items() if name not in ("config", "layers")}
    return rest | (player["config"] or {"layers": hashlib.sha256(layers).hexdigest()[:6]})


def _shown(flat: dict, key: str) -> str:
    return repr(flat[key]) if key in flat else "not there"


def _network(model: nn.Module) -> dict:
    layers = re.sub(r"(, )?inplace=True", "", str(model)).splitlines()  # that is how a layer computes, not what
    about = {"config": _plain(getattr(model, "config", None)), "layers": layers}
    kinds = getattr(
        model, "augment", ()
    )  # of ganlib.data.augment; not there where nothing is augmented, as in older runs
    return about | ({"augment": list(kinds)} if kinds else {})


def _optimiser(optimiser: Optimizer) -> dict:
    groups = [
        {name: _plain(value) for name, value in group.items() if name not in OPTIMISER_INTERNALS}
        for group in optimiser.param_groups
    ]
    return {"kind": type(optimiser).__name__, "groups": groups}


def _plain(value):
    """``value`` as JSON gives it back."""
    if isinstance(value, range):
        return {"start": value.start, "stop": value.stop, "step": value.step}
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def name_of(step) -> str:
    """``ganlib.steps.dcgan_step``; with the arguments that a partial function holds."""
    if isinstance(step, functools.partial):
        held = [*map(repr, step.args), *(f"{k}={v!r}" for k, v in step.keywords.items())]
        return f"{name_of(step.func)}({', '.join(held)})"
    named = step if hasattr(step, "__qualname__") else type(step)
    return f"{named.__module__}.{named.__qualname__}"


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


def steps_of(plain) -> Collection[int]:
    """A collection of steps as it was before it became JSON."""
    return range(plain["start"], plain["stop"], plain["step"]) if isinstance(plain, dict) else plain
