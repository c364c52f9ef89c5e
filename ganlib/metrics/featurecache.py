"""Tensors computed once for a key, and kept in memory and on disk: what is costly about a score's reals."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ganlib._runtime import device as runtime
from ganlib.metrics.features import FeatureNet, name_of

MOST_BYTES = 512 * 2**20  # kept in memory; beyond it the oldest goes
VERSION = 1  # of what is kept: another one makes everything anew

_kept: dict[str, dict[str, Tensor]] = {}


def kept(key: str | None, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """What ``make`` returns, made once for each ``key`` (None: each time) and kept in memory and on disk.

    A file in the cache folder that is damaged is made again; a folder that cannot be written is no error.

    Returns:
        tensors of any shape by name.
    """
    if key is None:
        return make()
    key = hashlib.sha256(f"{VERSION} {key}".encode()).hexdigest()[:32]
    if key not in _kept:
        path = runtime.cache_dir() / "scores" / f"{key}.safetensors"
        found = _read(path)
        if found is None:
            found = {name: tensor.contiguous() for name, tensor in make().items()}
            part = path.with_suffix(f".{os.getpid()}.part")
            with contextlib.suppress(OSError, SafetensorError):  # no room, or no right to write
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    save_file(found, part, metadata={"sha256": digest(found)})
                    part.replace(path)
                finally:
                    part.unlink(missing_ok=True)
        _kept[key] = found
        while len(_kept) > 1 and sum(t.nbytes for entry in _kept.values() for t in entry.values()) > MOST_BYTES:
            del _kept[next(iter(_kept))]
    return _kept[key]


def fingerprint(net: FeatureNet) -> str | None:
    """A hash of a net's name, layers and weights; None for a function, which may change without a sign."""
    if not isinstance(net, nn.Module):
        return None
    return hashlib.sha256(f"{name_of(net)} {net} {digest(net.state_dict())}".encode()).hexdigest()


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        with safe_open(path, "pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            return found if (file.metadata() or {}).get("sha256") == digest(found) else None
    except (OSError, SafetensorError):  # missing or damaged
        return None


def digest(tensors: Mapping[str | int, Tensor]) -> str:
    """A hash of tensors of any shape with their names."""
    seen = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        seen.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        seen.update(tensor.flatten().view(torch.uint8).numpy())
    return seen.hexdigest()
