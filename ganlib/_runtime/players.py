"""A look at the players before the first step."""

from __future__ import annotations

import contextlib
import copy
import logging
import re

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ganlib._runtime.checks import check_whole
from ganlib._runtime.randomness import global_generators_kept

log = logging.getLogger("ganlib")


def foreign(player: nn.Module, optimiser) -> int:
    """How many of an optimiser's tensors are not of its player."""
    held = {id(weight) for group in optimiser.param_groups for weight in group["params"]}
    return len(held - {id(weight) for weight in player.parameters()})


def like_probabilities(answers: Tensor) -> bool:
    """Whether a discriminator's answers all lie from 0 to 1, and some within."""
    return bool(answers.min() >= 0 and answers.max() <= 1 and ((answers > 0) & (answers < 1)).any())


def check_gan(gan) -> None:
    """Refuse what is no GAN: players and optimisers in each other's place, and numbers that are none."""
    for kind, names in ((nn.Module, ("generator", "discriminator")), (Optimizer, ("g_opt", "d_opt"))):
        for name in names:
            if not isinstance(found := getattr(gan, name), kind):
                order = "GAN(generator, discriminator, g_opt, d_opt, z_dim)"
                raise ValueError(f"{name} is a {type(found).__name__}, but must be a {kind.__name__}: {order}.")
    check_whole(z_dim=gan.z_dim)
    check_whole(0, seed=gan.seed)
    if not isinstance(gan.ema_decay, float | int) or not 0 <= gan.ema_decay < 1:
        raise ValueError(f"ema_decay={gan.ema_decay!r}, but must be at least 0 (no average) and below 1.")
    if gan.fixed_z is not None and list(shape := np.shape(gan.fixed_z)) != [*shape[:1], gan.z_dim]:
        raise ValueError(f"fixed_z has shape {list(shape)}, but must be [n, {gan.z_dim}] (z_dim).")


def check_players(gan, batches) -> None:
    """Before the first step: refuse what cannot work, and warn of ranges that do not go with ganlib's losses."""
    players = (("generator", gan.generator, gan.g_opt), ("discriminator", gan.discriminator, gan.d_opt))
    for name, player, optimiser in players:
        held = sum(len(group["params"]) for group in optimiser.param_groups)
        if foreign(player, optimiser) == held and [*player.parameters()]:
            build = f"build it from {name}.parameters(), after the {name} itself"
            raise ValueError(f"{name[0]}_opt holds none of the {name}'s weights, which would never change: {build}.")
    if gan.steps_done:
        return
    # Copies: a network may count its calls, and a hook on it may, too.
    generator, discriminator = copy.deepcopy((gan.generator, gan.discriminator))
    for layer in [*generator.eval().modules(), *discriminator.eval().modules()]:
        layer._forward_hooks.clear()
    z, reals = gan.fixed_z[:2].to(batches.device), batches.pixels[:2].to(batches.device).float() / 127.5 - 1
    with torch.no_grad(), global_generators_kept(batches.device):
        try:
            fakes = generator(z)
        except (RuntimeError, ValueError) as error:
            if not re.search("shape|size|channel", str(error)):
                return  # the step will say it
            how = f"give GAN the z_dim that it was built with ({str(error).splitlines()[0]})"
            raise ValueError(f"The generator does not take z_dim={gan.z_dim} numbers; {how}.") from error
        except TypeError:  # it takes labels, too
            return
        low, high = fakes.min().item(), fakes.max().item()
        if (low >= 0 and reals.min() < 0) or max(-low, high) > 3:
            cure = "end the generator in tanh, as the reals lie in [-1, 1]"
            log.warning(f"The generator's images run from {low:.3g} to {high:.3g}: {cure}.")
        # Of other shapes, or with labels.
        with contextlib.suppress(AttributeError, RuntimeError, TypeError, ValueError), torch.enable_grad():
            if ends_in_sigmoid(discriminator(reals.requires_grad_())):
                cure = "leave out its sigmoid, as ganlib's losses take logits"
                log.warning(f"The discriminator gives numbers from 0 to 1, as if they were probabilities: {cure}.")


def ends_in_sigmoid(output: torch.Tensor) -> bool:
    """Whether a sigmoid was the last to compute it: logits, too, can happen to lie between 0 and 1."""
    node = output.grad_fn
    while node is not None and re.match("View|Reshape|Squeeze|Unsafe|ToCopy|Select|Alias", node.name()):
        node = node.next_functions[0][0]
    return node is not None and node.name().startswith("Sigmoid")
