"""Preparing for training: all in its place for speed; and what a step must return."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Collection
from numbers import Real

import numpy as np
import torch
from torch import Tensor, nn

from ganlib._runtime.checks import check_above, check_whole
from ganlib._runtime.device import FUSED
from ganlib._runtime.players import check_players
from ganlib._runtime.randomness import global_generators_kept

log = logging.getLogger("ganlib")


def memory_layout(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    """The fastest memory format: channels last on a CPU, and for a card's tensor cores.

    In float32 it slows cards down (pytorch#44943), and on MPS there is pytorch#140902.
    """
    half = device.type == "cuda" and dtype != torch.float32
    return torch.channels_last if half or device.type == "cpu" else torch.contiguous_format


def check_fit(gan, step, steps, seconds, batch_size, score, every, run, watchers) -> None:
    """Refuse arguments that cannot work, before anything is changed."""
    for name, value in (("step", step), *[("score", score)] * (score is not None)):
        if not callable(value):
            raise ValueError(f"{name} is {value!r}, but must be a function.")
    for name, value in zip(("snapshot_every", "score_every"), every, strict=True):
        if value is not None and not isinstance(value, int) and (isinstance(value, str) or not np.iterable(value)):
            raise ValueError(f"{name} is {value!r}, but must be a whole number of steps, or a set of steps.")
    if run is not None and not hasattr(run, "training"):
        raise ValueError(f"run is {run!r}, but must be a Run: run=Run({str(run)!r}).")
    if watchers is not None and (not np.iterable(watchers) or not all(map(callable, watchers))):
        raise ValueError(f"watchers is {watchers!r}, but must be a list of functions of the history.")
    if steps is None and seconds is None:
        raise ValueError("fit needs steps=..., seconds=..., or both, to know when to stop.")
    check_above(steps=steps, seconds=seconds)
    check_whole(batch_size=batch_size)
    layers = [*gan.generator.modules(), *gan.discriminator.modules()]
    if batch_size == 1 and any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in layers):
        raise ValueError(
            "batch_size=1 cannot work with BatchNorm, which takes statistics of a batch; use at least 2, better 32."
        )


def set_the_stage(gan, batches) -> None:
    """Move players and optimisers to the device, and batches to their saved position."""
    device = batches.device
    for model in (gan.generator, gan.ema_generator, gan.discriminator):
        model.to(device, memory_format=batches.memory_format)
    gan.generator.train()
    gan.discriminator.train()
    for optimiser in (gan.g_opt, gan.d_opt):
        fused = isinstance(optimiser, FUSED)
        for group in optimiser.param_groups:
            if fused and group.get("fused") is None and not group.get("differentiable"):
                group["fused"] = True
            for weight in group["params"]:
                for name, value in optimiser.state.get(weight, {}).items():
                    if torch.is_tensor(value) and value.shape == weight.shape:
                        # The fused kernel pairs numbers by their place in memory: lay out state as its weight.
                        optimiser.state[weight][name] = torch.empty_like(weight).copy_(value)
                    elif torch.is_tensor(value) and group.get("fused"):
                        optimiser.state[weight][name] = value.to(weight.device)
    if gan.data_position:
        try:
            batches.load_state_dict(gan.data_position)
        except ValueError as error:
            log.info(f"The images start from their first epoch. {error}")
    check_players(gan, batches)


def start_up(gan, batches, precision) -> None:
    """Make a GPU load what a step needs, some seconds of its first; no number changes.

    The step is one of copies, and not the caller's: that may count or draw.
    """
    if batches.device.type != "cuda":
        return
    with contextlib.suppress(Exception), global_generators_kept(batches.device):  # a network may want more than z
        generator, discriminator, *optimisers = copy.deepcopy((gan.generator, gan.discriminator, gan.g_opt, gan.d_opt))
        for layer in [*generator.modules(), *discriminator.modules()]:
            layer._forward_hooks.clear()
        real, *y = batch if isinstance(batch := next(copy.copy(batches)), tuple) else [batch]
        with precision:
            fake = generator(torch.zeros(len(real), gan.z_dim, device=batches.device))
            loss = discriminator(real, *y).float().mean() + discriminator(fake, *y).float().mean()
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
        loss.item()


def check_record(record, earlier: Collection[str]) -> None:
    """Refuse what a step returned if it is no dict of scalars with its earlier names."""
    wanted = "it must return a dict of scalars such as {'d_loss': d_loss, 'g_loss': g_loss}"
    if not isinstance(record, dict) or not record:
        got = "nothing (is there a return?)" if record is None else f"a {type(record).__name__}: {record!r:.40}"
        raise ValueError(f"The step returned {got}; {wanted}.")
    if "step" in record:
        raise ValueError("The step returned a loss called 'step', the name of the steps' numbers; call it otherwise.")
    for name, value in record.items():
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"The step's '{name}' has shape {list(value.shape)}; {wanted}: take its mean().")
        if not isinstance(value, Tensor | int | float):
            raise ValueError(f"The step's '{name}' is of type {type(value).__name__}; {wanted}.")
    if earlier and {*record} != {*earlier}:
        raise ValueError(f"The step returned {sorted(record)}, but earlier {sorted(earlier)}; return the same names.")


def check_score(found) -> dict:
    """Refuse what a score returned if it is no dict of numbers by name."""
    values = found.items() if hasattr(found, "items") else ()
    if not values or not all(isinstance(value, Real) or getattr(value, "ndim", None) == 0 for _, value in values):
        wanted = "it must return a dict of numbers such as {'fd': 3.2}"
        raise ValueError(f"The score returned {found!r:.60} of type {type(found).__name__}; {wanted}.")
    return found
