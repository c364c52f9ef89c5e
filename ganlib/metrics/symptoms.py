"""What can be wrong with a run, a check each: its samples, its images, its losses, its score."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ganlib._runtime.device import eval_mode
from ganlib.data.images import ImageSet
from ganlib.metrics.checks import logistic
from ganlib.metrics.discriminator import overfitting
from ganlib.metrics.seen import Seen, has_batch_norm, shrunk

YOUNG = 200  # steps; before, much that would be wrong later is as it should be
JUST = 50  # the last losses that count as those of now


def train_differs_from_eval(seen: Seen):
    if not has_batch_norm(seen.generator) or seen.steps < YOUNG or not seen.gan:
        return None
    try:
        with eval_mode(seen.generator):
            in_eval = seen.generator(seen.z[0])
    except TypeError:  # it takes labels, too
        return None
    in_train = seen.generator.train()(seen.z[0])
    apart = ((in_train - in_eval).abs().mean() / in_eval.std().clamp(min=1e-6)).item()
    return apart, f"by {apart:.0%} of their standard deviation"


def ema_lags(seen: Seen):
    if not seen.gan or seen.steps < YOUNG or not seen.z:
        return None
    try:
        with eval_mode(seen.generator):
            now, mean = (shrunk(net(seen.z[0])) for net in (seen.generator, seen.gan.ema_generator))
    except TypeError:  # they take labels, too
        return None
    ratio = (torch.pdist(mean).mean() / torch.pdist(now).mean().clamp(min=1e-9)).item()
    return 1 / max(ratio, 1e-6), f"its fakes are {ratio:.2f} times as far apart as those of the weights it averages"


def collapse(seen: Seen):
    if apart := _apart(seen):
        return 1 / apart, f"the distance of two fakes is {apart:.2f} of that of two reals"


def _apart(seen: Seen) -> float | None:
    real, fake = seen.small("real"), seen.small("fake")
    if min(len(real), len(fake)) < 8 or seen.steps < YOUNG:
        return None
    return max(1e-6, (torch.pdist(fake).mean() / torch.pdist(real).mean().clamp(min=1e-9)).item())


def twins(seen: Seen):
    real, fake = seen.small("real"), seen.small("fake")
    if (n := min(len(real), len(fake))) < 16 or seen.steps < YOUNG:
        return None
    gaps = [torch.cdist(x[:n], x[:n]).fill_diagonal_(torch.inf).amin(1).median().item() for x in (fake, real)]
    ratio = gaps[0] / max(gaps[1], 1e-9)
    return 1 / max(ratio, 1e-6), f"the nearest other fake is {ratio:.2f} times as far as the nearest other real is"


def narrowing(seen: Seen):
    past = [1 / note.values["collapse"] for note in seen.earlier if "collapse" in note.values]
    if past and (now := _apart(seen)):
        return max(past) / now, f"the distance of two fakes was {max(past):.2f} of that of two reals, and is {now:.2f}"


def oscillation(seen: Seen):
    centers = [note.center for note in seen.earlier if note.step >= YOUNG][-5:] + [seen.small("fake").mean(0)]
    real = seen.small("real")
    if len(centers) < 6 or len(real) < 8:
        return None
    jumps = torch.stack([(a - b).norm() for a, b in zip(centers, centers[1:], strict=False)])
    much = (jumps.median() / torch.pdist(real).mean()).item()
    return much, f"from look to look the mean fake moves by {much:.2f} of the distance of two reals"


def by_heart(seen: Seen):
    if seen.held_out is not None and isinstance(seen.images, ImageSet):
        r_v = overfitting(seen.discriminator, seen.generator, seen.images, seen.held_out, 200)["r_v"]
        return r_v, f"to it, unseen reals are {r_v:.0%} of the way from the reals it trains on to fakes"


def constant_images(seen: Seen):
    reals = [j.given for j in seen.of("real")]
    if reals and len(reals[0]) > 8:
        spread = reals[0].float().std(dim=0).max().item()
        return -spread, f"no pixel of the reals varies by more than {spread:.3f}"


def repeated_images(seen: Seen):
    if isinstance(seen.images, ImageSet | Tensor):
        pixels = getattr(seen.images, "pixels", seen.images)[:: max(1, len(seen.images) // 2000)].flatten(1)
        again = 1 - len(torch.unique(pixels, dim=0)) / len(pixels)
        return again, f"{again:.0%} of {len(pixels):,} images repeat another"


def unshuffled(seen: Seen):
    reals = [shrunk(j.given) for j in seen.of("real", "d_opt")]
    if not reals or min(map(len, reals)) < 8:
        return None
    centers = [note.reals for note in seen.earlier if note.reals is not None] + [batch.mean(0) for batch in reals]
    if len(centers) < 4:
        return None
    between = torch.stack(centers).var(0).sum() * min(map(len, reals))
    ratio = (between / torch.cat(reals).var(0).sum().clamp(min=1e-9)).item()
    return ratio, f"batches differ {ratio:.1f} times as much as batches drawn at random do"


def _now(values: Sequence[float], share: float = 0.0) -> float:
    last = values[-max(JUST, int(share * len(values))) :]
    return sum(last) / len(last)


def clamped(seen: Seen):
    nows = {name: _now(values) for name, values in seen.losses.items() if len(values)}
    name = min(nows, key=lambda k: abs(nows[k] - 100), default=None)
    if name:
        return -abs(nows[name] - 100), f"the mean of the last values of {name} is {nows[name]:.1f}"


def impossible_sum(seen: Seen):
    d, g = (torch.tensor(list(seen.losses.get(name, []))) for name in ("d_loss", "g_loss"))
    slopes = [(j.gradient + torch.sigmoid(-j.answers)).abs().max() for j in seen.of("fake", "g_opt")]
    non_saturating = slopes and max(slopes) < 0.01
    if len(d) < JUST or len(d) != len(g) or not non_saturating or not 0.99 < logistic(seen) < 1.01:
        return None
    least = (d + g).unfold(0, JUST, 1).mean(1).min().item()
    return (
        -least,
        f"d_loss + g_loss came to {least:.2f} on average over {JUST} steps; of the same fakes it is at least 1.39",
    )


def far_ahead(seen: Seen):
    if (values := seen.losses.get("d_loss", ())) and len(values) >= 2 * JUST and (scale := logistic(seen)):
        now = max(_now(values, 0.2) / scale, 1e-9)
        return -math.log10(now), f"d_loss was {now:.3g} over the last fifth (fifty-fifty is 1.39)"


def far_behind(seen: Seen):
    if (values := seen.losses.get("d_loss", ())) and len(values) >= 2 * JUST and (scale := logistic(seen)):
        now = _now(values, 0.2) / scale
        return now, f"d_loss was {now:.3g} over the last fifth (fifty-fifty is 1.39)"


def explodes(seen: Seen):
    worst, told = 0.0, None
    for name, values in seen.losses.items():
        w = max(10, len(values) // 20)
        means = [sum(map(abs, values[len(values) - k * w :][:w])) / w for k in range(4, 0, -1)]
        if len(values) >= 5 * w and means[-1] > 20:
            growth = min(b / max(a, 1e-9) for a, b in zip(means, means[1:], strict=False))
            if growth > worst:
                worst, told = growth, f"{name} has grown {growth:.2f} times three times in a row, to {means[-1]:.3g}"
    return (worst, told) if told else None


def score_worsens(seen: Seen):
    name, way = seen.best_by or (None, "lowest")
    values = [(step, found[name]) for step, found in seen.scores if name in found and step]
    if len(values) < 6 or way != "lowest":
        return None
    best = min(values, key=lambda pair: pair[1])
    late = values[-max(2, len(values) // 3) :]
    if best[0] >= late[0][0]:
        return None
    least = min(value for _, value in late)
    about = f"{name} was {best[1]:.3g} at step {best[0]:,} and is at least {least:.3g} since step {late[0][0]:,}"
    return least / max(best[1], 1e-9), about


SYMPTOMS = (
    train_differs_from_eval,
    ema_lags,
    collapse,
    twins,
    narrowing,
    oscillation,
    by_heart,
    constant_images,
    repeated_images,
    unshuffled,
    clamped,
    impossible_sum,
    far_ahead,
    far_behind,
    explodes,
    score_worsens,
)
