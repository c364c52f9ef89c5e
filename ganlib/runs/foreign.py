"""Weights from elsewhere: what is in a file, and which of it belongs where in a network. Opening runs no code."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ganlib.models import load_strict
from ganlib.runs import checkpoint

WRAPPED = ("module.", "_orig_mod.", "main.", "model.", "net.", "layers.")  # put before names by what wraps a network
# What others call the players, where both are in one file.
CALLED = {
    "generator": ("ema_generator", "g_ema", "generator", "netg", "gen", "g"),
    "discriminator": ("discriminator", "netd", "critic", "disc", "d"),
}
INSIDE = ("state_dict", "model_state_dict", "model", "weights")  # of a checkpoint that has more than weights

log = logging.getLogger("ganlib")


def load_into(network: nn.Module, path: str | os.PathLike, player: str) -> None:
    """Load the weights of one player from a file, a checkpoint or a run into ``network``.

    Names may have a prefix; if they are all different, the order and the shapes decide, and that is said.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder '{path}' to take weights from; check the path.")
    if path.is_dir():
        name = {"generator": "ema_generator"}.get(player, player)
        load_strict(network, checkpoint.part_of(checkpoint.newest(path)[0], name), path)
        return
    weights = _part(read(path), player, path)
    for name, value in weights.items():
        if not name.endswith("num_batches_tracked") and not value.is_floating_point():
            raise ValueError(f"'{name}' in '{path}' is {value.dtype}: weights must be floats, not quantised ones.")
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"'{name}' in '{path}' holds NaN or infinite numbers: the run it is from had diverged.")
    load_strict(network, _named(network.state_dict(), weights), path)
    log.info(f"Weights of the {player}: '{path}'")


def read(path: Path) -> Mapping:
    """What is in a safetensors or PyTorch file, whatever its ending; one that contains code is refused."""
    with path.open("rb") as file:
        start = file.read(2)
    try:
        if start not in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            return load_file(path)
        with warnings.catch_warnings(action="ignore"):  # of unusual pickles: the message below says what matters
            return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ValueError(f"'{path}' is damaged, or no file of weights; get it again.") from error
    except Exception as error:  # whatever the error, the file does not hold weights
        raise ValueError(
            f"'{path}' was refused: it is damaged, or holds more than weights, and opening it could run a stranger's "
            f"code. Ask for the weights as safetensors. ({type(error).__name__}: {str(error).splitlines()[0]:.120})"
        ) from error


def _part(found: object, player: str, path: Path) -> dict[str, Tensor]:
    """The weights of one player, by name, from whatever is around them."""
    inner = found
    while isinstance(inner, Mapping) and not all(isinstance(value, Tensor) for value in inner.values()):
        keys = {str(key).lower(): key for key in inner if isinstance(inner[key], Mapping)}
        if (key := next((name for name in (*CALLED[player], *INSIDE) if name in keys), None)) is None:
            break
        inner = inner[keys[key]]
    if not isinstance(inner, Mapping) or not inner or not all(isinstance(value, Tensor) for value in inner.values()):
        names = ", ".join(map(str, found))[:60] if isinstance(found, Mapping) else type(found).__name__
        raise ValueError(f"'{path}' holds more than weights by name ({names}): save a state_dict() alone.")
    for name in CALLED[player]:
        for mark in "./":
            part = {k[len(name) + 1 :]: v for k, v in inner.items() if k.lower().startswith(name + mark)}
            if part:
                return part
    return dict(inner)


def _named(own: Mapping[str, Tensor], weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """``weights`` under the names of the network's own: without prefixes, else by order and shape."""
    while prefix := next((p for p in WRAPPED if weights and all(name.startswith(p) for name in weights)), None):
        weights = {name[len(prefix) :]: value for name, value in weights.items()}
    # A layer without a bias is as one with zeros; the count of batches is used nowhere.
    spare = {name: torch.zeros_like(value) for name, value in own.items() if name.endswith((".bias", "_tracked"))}
    left = [(name, value) for name, value in weights.items() if not name.endswith("num_batches_tracked")]
    fitted, renamed = {}, []
    for name, value in own.items():
        if name.endswith("_tracked"):
            fitted[name] = weights.get(name, value)
        elif left and left[0][1].shape == value.shape and (left[0][0] == name or name not in weights):
            fitted[name] = left[0][1]
            renamed += [name] * (left.pop(0)[0] != name)
        elif name in weights or name not in spare:
            return spare | weights  # in another order, or of others: they have to fit by name
        else:
            fitted[name] = spare[name]
    if left:
        return spare | weights
    if renamed:
        log.info(f"{len(renamed)} weights have other names there: they were fitted by their order and shapes.")
    return fitted
