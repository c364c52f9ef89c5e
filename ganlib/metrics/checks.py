"""What can be wrong with a GAN, a check each: a pure function of what was seen of it.

A check returns a number, the larger the worse, and the evidence in words; or None where it does not apply. From which
number on it is a finding, and what is said then, stands in ``findings.toml`` under the function's name.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from ganlib._runtime.device import eval_mode
from ganlib._runtime.players import foreign, like_probabilities
from ganlib._runtime.randomness import rng
from ganlib.metrics.seen import Seen, has_batch_norm


def scale_of(seen: Seen, real: Callable, fake: Callable) -> float:
    """By which factor D's loss has these slopes by each logit; 0 if it has others."""
    ratios, sides = [], 0
    for role, slope in (("real", real), ("fake", fake)):
        for j in (turned := seen.of(role, "d_opt")):
            steep = slope(j.answers).abs() > 1e-4  # beyond, digits are lost
            ratios.append((j.gradient / slope(j.answers))[steep])
        sides += bool(turned)
    if sides < 2 or not len(ratios := torch.cat(ratios)):
        return 0.0
    middle = ratios.median().item()
    return abs(middle) if (ratios - middle).abs().max() < 0.01 * abs(middle) else 0.0


def logistic(seen: Seen) -> float:
    """The weight of -log D(x) - log(1 - D(G(z))) in D's loss; 0 if it is another."""
    return scale_of(seen, lambda x: -torch.sigmoid(-x), torch.sigmoid)


def wasserstein(seen: Seen) -> bool:
    """Whether D's loss is the difference of mean scores; a hinge loss can have the same slopes for a while."""
    if not 0.99 < scale_of(seen, lambda x: -torch.ones_like(x), torch.ones_like) < 1.01:
        return False
    real, fake = (seen.of(role, "d_opt")[-1].answers.mean().item() for role in ("real", "fake"))
    penalised = any(j.kept for j in seen.of("penalised"))
    return penalised or any(math.isclose(abs(value), abs(fake - real), rel_tol=1e-3) for value in seen.record.values())


def foreign_weights(seen: Seen):
    counts = {name: foreign(*pair) for name, pair in _own(seen).items()}
    name = max(counts, key=counts.get)
    return counts[name], f"{counts[name]} of the tensors in {name} are not of its player"


def _own(seen: Seen) -> dict:
    return {"g_opt": (seen.generator, seen.g_opt), "d_opt": (seen.discriminator, seen.d_opt)}


def generator_does_not_move(seen: Seen):
    if seen.turns and not (seen.pushes and max(seen.pushes) == 0):  # then it is the gradient that vanishes
        much = seen.moved["generator"]
        return float(much == 0), f"a step changes its weights by {much:.2g}"


def discriminator_does_not_move(seen: Seen):
    pulls = [j.gradient.abs().max() for role in ("real", "fake") for j in seen.of(role, "d_opt")]
    if seen.turns and not (pulls and max(pulls) == 0):  # then it is right about all of them
        much = seen.moved["discriminator"]
        return float(much == 0), f"a step changes its weights by {much:.2g}"


def gradients_not_zeroed(seen: Seen):
    if seen.unzeroed:
        name = max(seen.unzeroed, key=seen.unzeroed.get)
        worst = seen.unzeroed[name]
        return worst, f"{name} steps along a gradient with a cosine of {1 - worst:.2f} to what the loss has just sent"


def same_direction(seen: Seen):
    """Where D's loss and G's pull the logits of fakes the same way, or D's those of reals and fakes."""
    turns = {"reals in D's turn": ("real", "d_opt"), "fakes in D's turn": ("fake", "d_opt"), "G's": ("fake", "g_opt")}
    pulls = {name: [j.gradient.flatten() for j in seen.of(*turn)] for name, turn in turns.items()}
    if not all(pulls.values()):
        return None
    signs = {name: torch.cat(some).sign().mean().item() for name, some in pulls.items()}
    real, fake, g = signs.values()
    told = ", ".join(f"{name} {'down' if sign > 0 else 'up'}" for name, sign in signs.items())
    return max(real * fake, fake * g), f"the losses push logits so: {told}"


def not_detached(seen: Seen):
    reals = [j.gradient.mean() for j in seen.of("real", "d_opt")]
    through = [j for j in seen.of("fake", "d_opt") if j.through]
    wasted = [j for j in through if reals and j.gradient.mean() * reals[0] < 0]
    return float(len(wasted)), f"{len(wasted)} times a gradient of the discriminator's loss went on into the generator"


def same_reals_again(seen: Seen):
    reals = [j.given for j in seen.of("real", "d_opt")]
    again = sum(a.shape == b.shape and torch.equal(a, b) for a, b in zip(reals, reals[1:], strict=False))
    return float(again), f"{again} of {len(reals)} batches of reals in a row are the one before"


def different_z(seen: Seen):
    worst, told = 0.0, ""
    for z in seen.z[1:]:
        a, b = seen.z[0].flatten().double(), z.flatten().double()
        shift = (a.mean() - b.mean()).abs() / (a.var() / len(a) + b.var() / len(b)).sqrt()
        spread = (a.std().log() - b.std().log()).abs() / (0.5 / len(a) + 0.5 / len(b)) ** 0.5
        if (gap := max(shift, spread).item()) > worst:
            worst = gap
            here, there = (f"{x.mean():.2f}, {x.std():.2f}" for x in (a, b))
            told = f"mean and deviation {here} in one and {there} in another"
    return (worst, f"{told}: {worst:.1f} standard errors apart") if told else None


def same_z_again(seen: Seen):
    if not seen.z:
        return None
    first, last = seen.z[0][:4], seen.z[-1][:4]
    if seen.turns.count("g_opt") > 1:  # some iterations of a loop
        return float(first.shape == last.shape and torch.equal(first, last)), "it is the same in several iterations"
    if seen.earlier and (z := seen.earlier[-1].z) is not None and seen.steps > seen.earlier[-1].step:
        return float(torch.equal(z, first)), f"its first z is that of step {seen.earlier[-1].step:,} once more"


def fixed_z_moves(seen: Seen):
    before = seen.earlier[-1].fixed_z if seen.earlier else None
    if before is not None:
        apart = (before - seen.gan.fixed_z).abs().max().item()
        return apart, f"it has changed by up to {apart:.2g} since step {seen.earlier[-1].step:,}"


def one_mixed_batch(seen: Seen):
    if not seen.fakes or not has_batch_norm(seen.discriminator):
        return None
    size, largest = max(map(len, seen.fakes)), max((len(j.given) for j in seen.judged), default=0)
    return largest / size, f"it was given {largest} images at a time, and there were {size} fakes"


def ranges(seen: Seen):
    reals = [j.given for j in seen.of("real")]
    if not seen.fakes or not reals:
        return None
    real, fake = reals[0].float(), torch.cat(seen.fakes).float()
    (low, high), (least, most) = fake.aminmax(), real.aminmax()
    tanh = any(isinstance(layer, nn.Tanh) for layer in [*seen.generator.modules()][-3:])
    values = [0.0]
    if fake.numel() >= 1000 and low >= 0 and not tanh:  # nothing below 0, where reals are
        values.append((real < -0.05).float().mean().item())
    if real.ndim == 4:
        values.append(fake.abs().max().item() / max(real.abs().max().item(), 1e-6) - 1.4)
        values.append(10 * (real.abs() > 1.02).float().mean().item() if tanh else 0.0)
    return max(values), f"reals from {least:.2f} to {most:.2f}, fakes from {low:.2f} to {high:.2f}"


def probabilities(seen: Seen):
    reals = seen.of("real", "d_opt")
    if not reals or not like_probabilities(answers := torch.cat([j.answers.flatten() for j in seen.judged])):
        return None
    loud = 20 * torch.randn(reals[0].given.shape, generator=rng(0)).to(reals[0].given.device)
    with eval_mode(seen.discriminator):
        bounded = like_probabilities(seen.discriminator(loud))  # logits would be large
    ends = any(isinstance(layer, nn.Sigmoid) for layer in [*seen.discriminator.modules()][-2:])
    twice = bounded and ends and (logistic(seen) or wasserstein(seen))  # a bounded critic's scores may be small, too
    return float(bool(twice)), f"all of its {len(answers)} answers lie from {answers.min():.2f} to {answers.max():.2f}"


def vanishing(seen: Seen):
    if seen.pushes and seen.of("fake", "g_opt") and not wasserstein(seen):
        push = max(seen.pushes)
        logit = torch.cat([j.answers.flatten() for j in seen.of("fake", "g_opt")]).mean()
        return -math.log10(push + 1e-30), f"no fake is pushed by more than {push:.1g}; its logits are near {logit:.3g}"


def unbounded_critic(seen: Seen):
    if not wasserstein(seen) or any(j.kept for j in seen.of("penalised")):
        return None
    tops = [weight.detach().abs().max().item() for weight in seen.discriminator.parameters() if weight.ndim > 1]
    clipped = sum((weight.abs() == max(tops)).sum().item() for weight in seen.discriminator.parameters()) > 1
    bound = any("parametrizations" in name for name, _ in seen.discriminator.named_modules())
    about = f"largest weights of its layers from {min(tops):.3g} to {max(tops):.3g}, no penalty, no spectral norm"
    return float(not clipped and not bound), about


def flat_critic(seen: Seen):
    if wasserstein(seen) and seen.pushes and not seen.of("penalised"):
        push = max(seen.pushes)
        return -math.log10(push + 1e-30), f"its steepest slope at a fake is {push:.1g}"


def steep_critic(seen: Seen):
    if wasserstein(seen) and seen.pushes and seen.of("penalised"):
        push = max(seen.pushes)
        return push, f"its steepest slope at a fake is {push:.3g}, and the penalty asks for 1"


def batch_norm_in_critic(seen: Seen):
    if wasserstein(seen):
        return float(has_batch_norm(seen.discriminator)), "a Wasserstein loss, and BatchNorm among its critic's layers"


def penalty_without_gradient(seen: Seen):
    dead = [j for j in seen.of("penalised") if j.gradient is not None and not j.kept]
    return float(len(dead)), f"{len(dead)} gradients at D's input were taken without create_graph=True"


def penalty_at_reals_only(seen: Seen):
    points, reals = [j.given for j in seen.of("penalised")], [j.given for j in seen.of("real", "d_opt")]
    if wasserstein(seen) and points and reals:
        same = sum(any(a.shape == b.shape and torch.equal(a, b) for b in reals) for a in points) / len(points)
        return same, f"{same:.0%} of the batches at which it is taken are batches of reals"


def batch_norm_scale(seen: Seen):
    scales = [
        layer.weight.detach().float().mean().item()
        for player in (seen.generator, seen.discriminator)
        for layer in player.modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.affine
    ]
    if scales:
        return -min(scales), f"the mean scale of a BatchNorm layer is {min(scales):.3f}, and should begin at 1"


def batch_norm_eps(seen: Seen):
    layers = [*seen.generator.modules(), *seen.discriminator.modules()]
    eps = max((layer.eps for layer in layers if isinstance(layer, nn.modules.batchnorm._BatchNorm)), default=0.0)
    return eps, f"eps is {eps:g}, and 1e-5 by default"


CHECKS = (
    foreign_weights,
    generator_does_not_move,
    discriminator_does_not_move,
    gradients_not_zeroed,
    same_direction,
    not_detached,
    same_reals_again,
    different_z,
    same_z_again,
    fixed_z_moves,
    one_mixed_batch,
    ranges,
    probabilities,
    vanishing,
    unbounded_critic,
    flat_critic,
    steep_critic,
    batch_norm_in_critic,
    penalty_without_gradient,
    penalty_at_reals_only,
    batch_norm_scale,
    batch_norm_eps,
)
