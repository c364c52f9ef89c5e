"""What defines a run besides its code: saved at the start, compared on resuming."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import platform
import re
import subprocess
from collections.abc import Iterator
from importlib import metadata

import numpy as np
import safetensors
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ganlib._runtime import device as runtime
from ganlib.data.images import ImageSet
from ganlib.models import count_parameters
from ganlib.steps import GAN, STEPS, change

# Pixels are hashed up to this many bytes; of a larger set, a sample of this size, evenly spread.
HASH_BYTES = 512 * 2**20
# What may differ within a run: how long it is, and how often it is shown, scored and saved.
FREE = {"steps", "seconds", "checkpoint_every", "snapshot_every", "score_every", "keep_at", "keep_every"}
# How an optimiser computes, not what; ``fit`` chooses these.
OPTIMISER_INTERNALS = {"params", "fused", "foreach", "capturable"}


def describe(gan: GAN, step, images: ImageSet, arguments: dict) -> dict:
    """Everything needed to repeat a run, and what it ran on, in JSON's types."""
    players = {name: getattr(gan, name) for name in ("z_dim", "seed", "ema_decay")}
    players |= {name: _network(getattr(gan, name)) for name in ("generator", "discriminator")}
    players |= {name: _optimiser(getattr(gan, name)) for name in ("g_opt", "d_opt")}
    pixels = getattr(images, "pixels", images)
    told = {name: getattr(images, name, None) for name in ("name", "split", "source", "flip", "classes")}
    versions = {module.__name__: str(module.__version__) for module in (torch, np, safetensors)}
    versions |= {"python": platform.python_version(), "ganlib": metadata.version("ganlib"), "git": _git_revision()}
    machine = {"processor": runtime.processor(), "threads": torch.get_num_threads()}
    machine |= runtime.card(torch.device(gan.device or arguments.get("device", "cpu")))
    return {
        "arguments": plain(arguments),
        "players": players,
        "step": name_of(step),
        "images": plain(told)
        | {"count": len(pixels), "shape": list(pixels.shape[1:]), "fingerprint": fingerprint(pixels)},
        "ran_on": versions | machine,
    }


def name_of(step) -> dict:
    """A training step's name and arguments: ``{"step": "wgan", "n_critic": 5}``.

    A step that is not ganlib's is named by its module and function.
    """
    held = {}
    while isinstance(step, functools.partial):
        held, step = plain(step.keywords) | held, step.func
    named = step if hasattr(step, "__qualname__") else type(step)
    own = next((name for name, known in STEPS.items() if known is step), f"{named.__module__}.{named.__qualname__}")
    return {"step": own, **held}


def with_changes(config: dict, changes) -> dict:
    """The settings of a run after what was changed by hand, (step, name, value)."""
    config = copy.deepcopy({name: config[name] for name in ("arguments", "players", "step", "images")})
    for _, name, value in changes:
        if name in ("g_lr", "d_lr"):
            for group in config["players"][f"{name[0]}_opt"]["groups"]:
                group["lr"] = value
        else:
            config["step"][name] = plain(value)
    return config


def make_changes(gan: GAN, step, changes) -> None:
    """Give ``step`` what was changed by hand last; the learning rates are restored already."""
    for name, value in {name: value for _, name, value in changes if name not in ("g_lr", "d_lr")}.items():
        given = getattr(step, "keywords", {}).get(name)
        if plain(given) != plain(value):
            if callable(given):
                raise ValueError(f"'{name}' was changed to '{value}' during the run; give a step that has it.")
            change(gan, step, name, value)


def fingerprint(pixels: Tensor) -> str:
    """A short hash of images, uint8 [N, C, H, W], whatever file they came from."""
    every = -(-pixels.nbytes // HASH_BYTES)
    found = hashlib.sha256(str(list(pixels.shape)).encode())
    for part in pixels[::every].split(1024):
        found.update(part.contiguous().cpu().numpy().data)
    return found.hexdigest()[:32]


def differences(before: dict, now: dict) -> list[str]:
    """One sentence for each setting in which two runs differ.

    Two steps written in a notebook or a script cannot be told apart.
    """
    own = any(config["step"]["step"].startswith("__main__") for config in (before, now))
    was, has = (dict(_compared(config, {} if own else config["step"])) for config in (before, now))
    return [
        f"{key} was {was.get(key, 'not there')!r} and is {has.get(key, 'not there')!r} now."
        for key in dict.fromkeys([*was, *has])
        if was.get(key) != has.get(key)
    ]


def new_surroundings(before: dict, now: dict) -> list[str]:
    """Changes of machine or version, which may change a run's last digits."""
    told = ("torch", "processor", "threads", "card", "cuda", "cudnn")
    pairs = [(name, before["ran_on"].get(name), now["ran_on"].get(name)) for name in told]
    return [f"{name} {has} instead of {was}" for name, was, has in pairs if was != has]


def _git_revision() -> str | None:
    """ganlib's commit, with a plus if files have changed; None outside a checkout."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        how = dict(capture_output=True, text=True, timeout=5, check=True)
        return subprocess.run(command, cwd=runtime.project_root() or "/", **how).stdout.strip()


def _compared(config: dict, step: dict) -> Iterator[tuple[str, object]]:
    """The settings that make a run what it is, by dotted name."""
    arguments = {k: v for k, v in config["arguments"].items() if k not in FREE}
    images = {k: v for k, v in config["images"].items() if k in ("count", "shape", "fingerprint", "flip")}
    return _leaves(arguments | config["players"] | step | {"images": images}, "")


def _leaves(value, path: str) -> Iterator[tuple[str, object]]:
    """(dotted path, value) of every leaf; list items are numbered from 0."""
    if not isinstance(value, dict | list):
        yield path.removeprefix("."), value
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(inner, f"{path}.{key}")


def _network(model: nn.Module) -> dict:
    layers = re.sub(r"(, )?inplace=True", "", str(model))  # how a layer computes, not what
    return {
        "config": plain(getattr(model, "config", None)),
        "parameters": count_parameters(model),
        "layers": hashlib.sha256(layers.encode()).hexdigest()[:8],
        "augment": list(getattr(model, "augment", ())),  # of ganlib.data.augment
    }


def _optimiser(optimiser: Optimizer) -> dict:
    groups = [{k: v for k, v in group.items() if k not in OPTIMISER_INTERNALS} for group in optimiser.param_groups]
    return {"kind": type(optimiser).__name__, "groups": plain(groups)}


def plain(value):
    """``value`` after a round trip through JSON; a function is named."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, set | frozenset | range):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Tensor):
        return value.tolist()
    if hasattr(value, "__qualname__"):  # its str would hold an address, another in each process
        return f"{value.__module__}.{value.__qualname__}"
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
