"""What can be wrong with a GAN, a check each: from a step tried on a copy, from the images, from a history."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganlib._runtime.device import eval_mode
from ganlib.data.images import ImageSet
from ganlib.steps import GAN

SURE = 6.0  # standard errors between two samples before they are called different
YOUNG = 200  # steps; before, much that would be wrong later is as it should be
JUST = 50  # the last losses that count as those of now


@dataclass(frozen=True)
class Finding:
    """Something wrong: its name, the numbers that show it, its usual cause, and what to try first."""

    name: str
    evidence: str
    cause: str
    first: str
    lesson: str

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.evidence}\n  usual cause: {self.cause}\n  try first: {self.first}\n  see {self.lesson}"
        )


@dataclass
class Trace:
    """What one step did to a copy of the players ``gan``, and what passed between them."""

    gan: GAN
    step: Callable
    reals: list[Tensor] = field(default_factory=list)  # the batches that it took
    z: list[Tensor] = field(default_factory=list)  # what G was given, call by call
    fakes: list[Tensor] = field(default_factory=list)
    judged: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # what D was given, and its answers
    pushes: list[float] = field(default_factory=list)  # gradients that reached fakes: the largest norm of one × B
    updates: dict[str, int] = field(default_factory=lambda: {"g_opt": 0, "d_opt": 0})
    record: dict[str, float] = field(default_factory=dict)
    moved: dict[str, float] = field(default_factory=dict)


def weights(player: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten().float() for weight in player.parameters()])


def one_optimiser(tried: Trace) -> Finding | None:
    gan = tried.gan
    for name, own, other in (("g_opt", gan.generator, "discriminator"), ("d_opt", gan.discriminator, "generator")):
        held = [weight for group in getattr(gan, name).param_groups for weight in group["params"]]
        foreign = len({*map(id, held)} - {*map(id, own.parameters())})
        if foreign:
            return Finding(
                "an optimiser holds weights that are not its player's",
                f"{foreign} of the {len(held)} tensors of {name} are not of its player",
                f"{name} was made of the {other}'s parameters, of both players', or of a network since replaced",
                f"build {name} of its own player's parameters alone",
                "notebook 01, The training step",
            )


def does_not_move(tried: Trace) -> Finding | None:
    for name, much in tried.moved.items():
        if much == 0:
            return Finding(
                f"the {name} does not move",
                f"a step changes its weights by exactly {much:g}",
                "its loss is cut off (detach, no_grad, .data, .item()), its optimiser holds others, or its rate is 0",
                "freeze the other player in this one's turn: then a loss that is cut off is an error",
                "notebook 00, A generator that never moves",
            )


def gradients_not_zeroed(tried: Trace, left: Trace) -> Finding | None:
    apart = max((weights(a) - weights(b)).abs().max().item() for a, b in _pairs(tried.gan, left.gan))
    if apart > 1e-7 and all(math.isfinite(much) for much in left.moved.values()):
        return Finding(
            "gradients are not zeroed",
            f"gradients left from before change a step's result (by up to {apart:.2g} in a weight)",
            "zero_grad() is missing before a backward(), or comes after it",
            "call zero_grad() of the player whose turn it is right before each backward()",
            "notebook 01, The training step",
        )


def _pairs(one: GAN, other: GAN):
    return (one.generator, other.generator), (one.discriminator, other.discriminator)


def same_reals_again(tried: Trace) -> Finding | None:
    taken, updates = len(tried.reals), tried.updates["d_opt"]
    if 0 < taken < updates:
        return Finding(
            "the same reals again in each update of the discriminator",
            f"{updates} updates a step, but {taken} batches of reals",
            "next(batches) stands before the loop over the updates and not in it",
            "take a batch in each update",
            "notebook 03, Break it",
        )


def different_z(tried: Trace) -> Finding | None:
    for z in tried.z[1:]:
        a, b = tried.z[0].flatten().double(), z.flatten().double()
        shift = (a.mean() - b.mean()).abs() / (a.var() / len(a) + b.var() / len(b)).sqrt()
        spread = (a.std().log() - b.std().log()).abs() / (0.5 / len(a) + 0.5 / len(b)) ** 0.5
        if max(shift, spread) > SURE:
            return Finding(
                "z is drawn differently in the two players' turns",
                f"mean and deviation {a.mean():.2f}, {a.std():.2f} in one and {b.mean():.2f}, {b.std():.2f} in another",
                "rand in one turn and randn in the other",
                "draw every z by gan.sample_z",
                "notebook 01, Break it",
            )


def one_mixed_batch(tried: Trace) -> Finding | None:
    size = max((len(real) for real in tried.reals), default=0)
    norm = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in tried.gan.discriminator.modules())
    largest = max((len(given) for given, _ in tried.judged), default=0)
    if norm and largest > size:
        return Finding(
            "reals and fakes go through a discriminator with BatchNorm in one batch",
            f"it was given {largest} images at a time, of batches of {size}",
            "torch.cat([real, fake]) before the discriminator: BatchNorm then gives the fakes away by the batch's mean",
            "give it the reals and the fakes one after the other, or take a discriminator without BatchNorm",
            "notebook 01, Break it",
        )


def ranges(tried: Trace) -> Finding | None:
    if not tried.fakes or not tried.reals:
        return None
    real, fake = tried.reals[0], tried.fakes[0].float()
    low, high = fake.amin().item(), fake.amax().item()
    negative = (real < -0.05).float().mean().item()
    beyond = fake.abs().max().item() > 1.5 * max(real.abs().max().item(), 1e-6)
    if (fake.numel() >= 1000 and low >= 0 and negative > 0.05) or (real.ndim == 4 and beyond):
        return Finding(
            "reals and fakes have different ranges",
            f"reals from {real.min():.2f} to {real.max():.2f}, fakes from {low:.2f} to {high:.2f}",
            "a sigmoid, or nothing, at the generator's end; or reals that are not scaled to [-1, 1]",
            "end the generator with tanh and scale the reals to [-1, 1]",
            "notebook 01, Break the rules",
        )


def probabilities(tried: Trace) -> Finding | None:
    if not tried.judged:
        return None
    answers = torch.cat([answers.flatten() for _, answers in tried.judged])
    *_, last = [layer for layer in tried.gan.discriminator.modules() if not isinstance(layer, nn.Flatten)]
    unit = answers.amin() >= 0 and answers.amax() <= 1
    if isinstance(last, nn.Sigmoid) or (unit and len(answers) >= 100 and 0.3 < answers.mean() < 0.7):
        return Finding(
            "the discriminator returns probabilities, not logits",
            f"all of its {len(answers)} answers lie from {answers.min():.2f} to {answers.max():.2f}",
            "a sigmoid at its end, which the losses on logits then apply a second time",
            "take the sigmoid away",
            "notebook 01, The loss",
        )


def vanishing(tried: Trace) -> Finding | None:
    fake_answers = tried.judged[-1][1].mean().item() if tried.judged else 0.0
    if tried.pushes and (push := max(tried.pushes)) < 1e-5 and fake_answers < -5:
        return Finding(
            "the generator's gradient vanishes (saturation)",
            f"no fake is pushed by more than {push:.1g} (below 1e-5), its logits are near {fake_answers:.0f}",
            "the saturating loss log(1 - D) against a discriminator that is sure, or a clamped BCELoss",
            "the non-saturating loss -log D, on logits",
            "notebook 00, A discriminator that wins too fast",
        )


def unbounded_critic(tried: Trace) -> Finding | None:
    if "critic_loss" not in tried.record or "penalty" in tried.record:
        return None
    tops = [weight.detach().abs().max().item() for weight in tried.gan.discriminator.parameters() if weight.ndim > 1]
    clipped = len(tops) > 1 and max(tops) - min(tops) < 1e-6 * max(tops)
    bound = any("parametrizations" in name for name, _ in tried.gan.discriminator.named_modules())
    if not clipped and not bound:
        return Finding(
            "nothing bounds the critic's slope",
            f"largest weights of its layers from {min(tops):.3g} to {max(tops):.3g}, and no penalty is recorded",
            "clipping was forgotten, or applied before the update, or to another network",
            "clip after each update, or add a gradient penalty (and return it as 'penalty')",
            "notebook 03, A game for it",
        )


def train_differs_from_eval(tried: Trace) -> Finding | None:
    generator, z = tried.gan.generator, tried.gan.sample_z(64)
    norm = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in generator.modules())
    if not norm or tried.gan.steps_done < YOUNG:
        return None
    with torch.no_grad():
        with eval_mode(generator):
            in_eval = generator(z)
        apart = ((generator.train()(z) - in_eval).abs().mean() / in_eval.std().clamp(min=1e-6)).item()
    if apart > 0.5:
        return Finding(
            "samples in train mode differ from those in eval mode",
            f"by {apart:.0%} of their standard deviation (over 50%)",
            "BatchNorm's running averages do not fit: a momentum near 0, or layers that were never in train()",
            "leave BatchNorm's momentum at 0.1, and train the generator in train()",
            "notebook 01, The two networks",
        )


def ema_lags(tried: Trace) -> Finding | None:
    gan = tried.gan
    memory = 1 / (1 - gan.ema_decay)
    if gan.steps_done >= YOUNG and memory > gan.steps_done:
        return Finding(
            "the running average lags",
            f"ema_decay={gan.ema_decay} averages over about {memory:,.0f} steps, and there were {gan.steps_done:,}",
            "a decay of a long run in a short one",
            f"ema_decay={1 - 10 / gan.steps_done:.3g}: an average over a tenth of the run",
            "notebook 02, Train",
        )


def data(images: ImageSet) -> Finding | None:
    """Nearly constant images, or many that are there twice."""
    pixels = images.sample(min(2000, len(images)), seed=0).flatten(1)
    spread = pixels.std(dim=0).max().item()
    again = len(pixels) - len(torch.unique(pixels, dim=0))
    if spread < 0.02 or again > 0.05 * len(pixels):
        return Finding(
            "the images are nearly constant" if spread < 0.02 else "many images are there twice",
            f"no pixel varies by more than {spread:.3f}, {again} of {len(pixels):,} repeat another",
            "a range that was scaled twice, a folder of copies, or thumbnails beside the pictures",
            "look at them: viz.show(images.sample(64))",
            "data/README.md",
        )


def clamped(_tried: Trace, history) -> Finding | None:
    for name, values in history.losses.items():
        now = sum(values[-JUST:]) / max(1, len(values[-JUST:]))
        if 95 <= now <= 100.001:
            return Finding(
                f"{name} is at the clamp of BCELoss",
                f"the mean of its last {len(values[-JUST:])} values is {now:.1f}",
                "BCELoss on probabilities stops at 100, and there the gradient is 0",
                "take the loss of the logits (softplus, or BCEWithLogitsLoss)",
                "notebook 01, The loss",
            )


def is_cross_entropy(tried: Trace) -> bool:
    """Whether ``d_loss`` is -log D(x) - log(1 - D(G(z))) of the first two answers."""
    if len(tried.judged) < 2 or "d_loss" not in tried.record:
        return False
    (_, real), (_, fake) = tried.judged[:2]
    return _equal(softplus(-real).mean() + softplus(fake).mean(), tried.record["d_loss"])


def is_non_saturating(tried: Trace) -> bool:
    """Whether ``g_loss`` is -log D(G(z)) of the last answers."""
    return bool(tried.judged) and _equal(softplus(-tried.judged[-1][1]).mean(), tried.record.get("g_loss", math.nan))


def _equal(value: Tensor, recorded: float) -> bool:
    return math.isclose(value.item(), recorded, rel_tol=1e-3, abs_tol=1e-5)


def impossible_sum(tried: Trace, history) -> Finding | None:
    d, g = (torch.tensor(history.losses.get(name, [])) for name in ("d_loss", "g_loss"))
    known = is_non_saturating(tried) and (is_cross_entropy(tried) or one_mixed_batch(tried))
    if len(d) < JUST or len(d) != len(g) or not known:
        return None
    least = (d + g).unfold(0, JUST, 1).mean(1).min().item()
    if least < 0.8 * 2 * math.log(2):
        return Finding(
            "both losses are low at once",
            f"d_loss + g_loss came to {least:.2f} on average over {JUST} steps; of the same fakes it is at least 1.39",
            "the players do not judge the same fakes: another z, another batch's statistics, another mode",
            "print D(G(z)) in both turns, for the same z",
            "notebook 01, Break it",
        )


def too_far(tried: Trace, history) -> Finding | None:
    all_of_it = history.losses.get("d_loss", [])
    if len(all_of_it) < 2 * JUST or not is_cross_entropy(tried):
        return None
    d = all_of_it[-max(JUST, len(all_of_it) // 5) :]
    now = sum(d) / len(d)
    if now < 0.05 or now > 4:
        return Finding(
            "the discriminator is far ahead" if now < 0.05 else "the discriminator is far behind",
            f"d_loss was {now:.3g} over the last {len(d)} steps (fifty-fifty is 1.39)",
            "one player learns much faster, or the other has a bug",
            "first check that both players move; then halve the rate of the one ahead, or add R1",
            "notebook 00, Break it",
        )


def score_worsens(_tried: Trace, history) -> Finding | None:
    name, way = history.best_by or (None, "lowest")
    values = [(step, found[name]) for step, found in history.scores if name in found and step]
    if len(values) < 6 or way != "lowest":
        return None
    best = min(values, key=lambda pair: pair[1])
    late = [value for _, value in values[-max(2, len(values) // 3) :]]
    if min(late) > 1.5 * best[1] and best[0] < values[-len(late)][0]:
        return Finding(
            "the score has been getting worse",
            f"{name} was {best[1]:.3g} at step {best[0]:,} and is at least {min(late):.3g} since step "
            f"{values[-len(late)][0]:,}",
            "the discriminator learns its images by heart, or rates that are too high for this late",
            f"go back to step {best[0]:,}; then lower rates, or augmentation of reals and fakes",
            "notebook 04",
        )


OF_A_STEP = (
    one_optimiser,
    does_not_move,
    same_reals_again,
    different_z,
    one_mixed_batch,
    ranges,
    probabilities,
    vanishing,
    unbounded_critic,
    train_differs_from_eval,
    ema_lags,
)
OF_A_HISTORY = (clamped, impossible_sum, too_far, score_worsens)
