"""What is wrong with a GAN: a step is tried on copies of its players, and everything is checked."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ganlib._runtime.randomness import global_generators_kept, onto, seed_step
from ganlib.data.images import ImageSet
from ganlib.metrics import checks
from ganlib.metrics.checks import Finding, Trace, weights
from ganlib.steps import GAN


def diagnose(gan: GAN, images: ImageSet, step: Callable, history=None, batch_size: int = 64) -> list[Finding]:
    """What is wrong, if anything: a list of findings to print.

    ``step`` is tried on copies of the players; neither they nor any random generator change. ``history`` is what
    ``fit`` returned, for what only shows over time. A check speaks only where it is sure: no finding is no proof.
    """
    tried = trace(gan, images, step, batch_size)
    left = trace(gan, images, step, batch_size, garbage=True)
    found = [check(tried) for check in checks.OF_A_STEP]
    found += [checks.gradients_not_zeroed(tried, left), checks.data(images)]
    found += [check(tried, history) for check in checks.OF_A_HISTORY] if history is not None else []
    return [finding for finding in found if finding]


def trace(gan: GAN, images: ImageSet, step: Callable, batch_size: int, garbage: bool = False) -> Trace:
    """Take a step with a copy of ``gan``, with gradients left in its weights if ``garbage``."""
    gan = copy.deepcopy(gan)
    found, device = Trace(gan, step), next(gan.generator.parameters()).device
    players = {"generator": gan.generator, "discriminator": gan.discriminator}
    before = {name: weights(player) for name, player in players.items()}
    for player in players.values() if garbage else ():
        for weight in player.parameters():
            weight.grad = torch.full_like(weight, 1e3)
    with contextlib.ExitStack() as hooks, global_generators_kept(device):
        hooks.callback(lambda handles: [handle.remove() for handle in handles], _watch(found))
        seed_step(gan.seed, gan.steps_done, device)
        record = step(gan, _noted(images, batch_size, gan.seed, found, device))
    found.record = {name: float(torch.as_tensor(value).detach()) for name, value in record.items()}
    found.moved = {name: (weights(player) - before[name]).abs().max().item() for name, player in players.items()}
    return found


def _watch(found: Trace) -> list:
    """Hooks that note what passes through the players of ``found``."""

    def drawn(_player, given, fake):
        found.z.append(given[0].detach())
        found.fakes.append(fake.detach())
        if fake.requires_grad:
            fake.register_hook(lambda push: found.pushes.append(len(push) * push.flatten(1).norm(dim=1).max().item()))

    def judged(_player, given, answers):
        found.judged.append((given[0].detach(), answers.detach().float()))

    def counted(name):
        return lambda *_: found.updates.update({name: found.updates[name] + 1})

    handles = [found.gan.generator.register_forward_hook(drawn), found.gan.discriminator.register_forward_hook(judged)]
    return handles + [getattr(found.gan, name).register_step_post_hook(counted(name)) for name in found.updates]


def _noted(images: ImageSet, batch_size: int, seed: int, found: Trace, device) -> Iterator[Tensor]:
    for k in range(10**6):
        some = dict(n=min(batch_size, len(images)), seed=seed + k)
        found.reals.append(onto(images.sample(**some), device))
        if getattr(images, "labelled", False):
            yield found.reals[-1], onto(torch.eye(len(images.classes))[images.take(**some).labels], device)
        else:
            yield found.reals[-1]
