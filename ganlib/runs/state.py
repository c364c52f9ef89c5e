"""The state of a training run as tensors and plain JSON, and back, bit for bit: no object is ever pickled.

Captured are the networks, the running average, the optimisers, the position in the data, every random generator and
the history. Dropout needs nothing: ``fit`` seeds it at each step. Gradients are not captured, nor what a step keeps
for itself: a step begins with ``zero_grad`` and keeps its state in the players and optimisers.
"""

from __future__ import annotations

import random
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from ganlib.steps import GAN
from ganlib.train import History

NETWORKS = ("generator", "ema_generator", "discriminator")
OPTIMISERS = ("g_opt", "d_opt")

# Name of a file -> name of a tensor -> the tensor, of any shape.
Tensors = dict[str, dict[str, Tensor]]


def capture(gan: GAN) -> tuple[Tensors, dict]:
    """A copy of everything that decides how the training of ``gan`` goes on: it stays as it is while training does.

    Returns:
        tensors on the CPU, by file; and the facts that are no tensors, in JSON's types.

    Raises:
        TypeError: if an optimiser keeps something other than tensors, numbers and texts.
    """
    tensors: Tensors = {n: {k: _copy(v) for k, v in getattr(gan, n).state_dict().items()} for n in NETWORKS}
    facts: dict = {"steps_done": gan.steps_done, "data_position": gan.data_position}
    facts["networks"] = {name: getattr(getattr(gan, name), "config", None) for name in NETWORKS}
    for name in OPTIMISERS:
        tensors[name], facts[name] = flatten(getattr(gan, name))
    tensors["random"] = {"z": gan.z_rng.get_state(), "torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        tensors["random"] |= {f"cuda.{k}": state for k, state in enumerate(torch.cuda.get_rng_state_all())}
    version, numbers, spare = random.getstate()
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - a step may draw from NumPy's global generator
    facts["random"] = {"python": [version, list(numbers), spare], "numpy": [kind, keys.tolist(), *rest]}
    return tensors, facts


def restore(gan: GAN, tensors: Tensors, facts: dict, keep_settings: Collection[str] = ()) -> None:
    """Give ``gan`` the state that :func:`capture` took; nothing of it changes if the networks do not fit.

    Args:
        gan: the players, built as they were.
        tensors, facts: what was captured.
        keep_settings: names of optimisers whose learning rate and other settings stay as they are now. Their averages
            are restored all the same, if they are of the same kind.

    Raises:
        ValueError: if the networks have other weights than those captured.
        KeyError, TypeError: if the facts are not what ``capture`` gives.
    """
    for name in NETWORKS:
        there = {k: list(v.shape) for k, v in tensors[name].items()}
        here = {k: list(v.shape) for k, v in getattr(gan, name).state_dict().items()}
        if there != here:
            culprit = next(k for k in [*here, *there] if here.get(k) != there.get(k))
            raise ValueError(
                f"The {name} does not fit: '{culprit}' has shape {there.get(culprit, 'nothing')} in the checkpoint and "
                f"{here.get(culprit, 'nothing')} in the network; build the players as they were."
            )
    for name in NETWORKS:
        getattr(gan, name).load_state_dict(tensors[name])
    for name in OPTIMISERS:
        unflatten(getattr(gan, name), tensors[name], facts[name], name in keep_settings)
    gan.steps_done, gan.data_position = facts["steps_done"], facts["data_position"]
    gan.z_rng.set_state(tensors["random"]["z"])


def restore_global_random(tensors: Tensors, facts: dict) -> None:
    """Set the global generators of Python, NumPy, torch and CUDA, which a step may draw from, as captured.

    Raises:
        KeyError, TypeError, ValueError: if the facts are not what :func:`capture` gives.
    """
    version, numbers, spare = facts["random"]["python"]
    random.setstate((version, tuple(numbers), spare))
    kind, keys, *rest = facts["random"]["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))  # noqa: NPY002 - see capture
    torch.set_rng_state(tensors["random"]["torch"])
    if torch.cuda.is_available():
        for k in range(torch.cuda.device_count()):
            if (state := tensors["random"].get(f"cuda.{k}")) is not None:
                torch.cuda.set_rng_state(state, k)


def flatten(optimiser: Optimizer) -> tuple[dict[str, Tensor], dict]:
    """The state of ``optimiser``: its tensors, named by the number of their parameter (any shape), and the rest.

    Raises:
        TypeError: if it keeps something other than tensors, numbers and texts.
    """
    whole = optimiser.state_dict()
    places = {f"{k}": values for k, values in whole["state"].items()}
    places |= {f"group.{k}": group for k, group in enumerate(whole["param_groups"])}
    tensors, rest = {}, {}
    for place, values in places.items():
        rest[place] = {}
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{place}.{name}"] = _copy(value)
            elif value is None or isinstance(value, bool | int | float | str | tuple | list):
                rest[place][name] = value
            else:
                raise TypeError(
                    f"{type(optimiser).__name__} keeps a {type(value).__name__} in '{name}', which no checkpoint can "
                    "hold; use an optimiser whose state is tensors and numbers, such as Adam."
                )
    return tensors, {"kind": type(optimiser).__name__, "values": rest}


def unflatten(optimiser: Optimizer, tensors: dict[str, Tensor], facts: dict, keep_settings: bool = False) -> None:
    """Give ``optimiser`` the state that :func:`flatten` took (tensors of any shape); one of another kind keeps its own.

    Args:
        optimiser: over the same parameters.
        tensors, facts: the state.
        keep_settings: leave learning rate and the like as they are now.

    Raises:
        KeyError, ValueError: if ``facts`` is not what ``flatten`` gives, or for other parameters.
    """
    if facts["kind"] != type(optimiser).__name__:
        return
    places = {place: {k: _tuple(v) for k, v in values.items()} for place, values in facts["values"].items()}
    for key, value in tensors.items():
        place, _, name = key.rpartition(".")
        places.setdefault(place, {})[name] = value
    groups = [values for place, values in places.items() if place.startswith("group.")]
    for group in groups:
        group["params"] = list(group["params"])
    if keep_settings:
        groups = optimiser.state_dict()["param_groups"]
    state = {int(place): values for place, values in places.items() if not place.startswith("group.")}
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def capture_history(history: History, steps: int) -> tuple[dict[str, Tensor], dict]:
    """``history`` up to its first ``steps`` losses; more may be added meanwhile.

    Returns:
        the losses, float64 [steps] each; and everything else but the snapshots' images, in JSON's types.
    """
    losses = {name: torch.tensor(values[:steps], dtype=torch.float64) for name, values in history.losses.items()}
    facts = {name: getattr(history, name) for name in ("first_step", "batches", "seconds")}
    facts |= {"names": list(losses), "scores": history.scores}
    return losses, facts


def restore_history(history: History, losses: dict[str, Tensor], facts: dict) -> None:
    """Fill ``history`` with what :func:`capture_history` took (losses [steps]), but for the snapshots' images.

    Device, precision and the like stay those of ``history``: they say what the run goes on with.

    Raises:
        KeyError: if the facts are not what ``capture_history`` gives.
    """
    history.first_step, history.batches, history.seconds = facts["first_step"], facts["batches"], facts["seconds"]
    history.losses = {name: losses[name].tolist() for name in facts["names"]}
    history.scores = [(step, values) for step, values in facts["scores"]]


def _copy(value: Tensor) -> Tensor:
    return value.detach().to("cpu").clone(memory_format=torch.contiguous_format)


def _tuple(value):
    return tuple(value) if isinstance(value, list) else value
