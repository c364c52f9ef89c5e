"""Does a generator repeat its training images, or itself? Nearest neighbours, judged by those of held-out reals."""

from collections import namedtuple
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ganlib._runtime.randomness import rng
from ganlib.data.images import ImageSet, as_uint8
from ganlib.metrics.features import BATCH, KEEP, FeatureNet, Images, available, extract_batch, generate
from ganlib.metrics.scores import how_drawn, in_short, protocol, split_of

QUANTILE = 0.01  # *very near*: nearer than all but this share of the held-out reals

Neighbours = namedtuple("Neighbours", "index distance")  # of the nearest image to each of n: int64 [n], float32 [n]
Nearest = namedtuple("Nearest", "features pixels")  # neighbours by the net's features, and by RMS of the grey levels


@dataclass(frozen=True)
class Memorisation:
    """How near samples lie to the training images and to each other; prints as one line.

    A *near-copy* lies nearer to a training image than 99% of the held-out reals do, by features and by pixels alike, or
    equals one; ``near_copies`` has their indices, the nearest first, ``value`` their share. A *duplicate* lies so near
    to another sample, by the measure of the held-out reals among themselves. The floors are the held-out reals' shares.
    """

    samples: Tensor  # uint8 [n, C, H, W]
    to_train: Nearest
    real_to_train: Nearest
    near_copies: Tensor
    value: float
    floor: float
    duplicates_value: float
    duplicates_floor: float
    protocol: dict

    def __str__(self) -> str:
        p, n = self.protocol, len(self.samples)
        mine, usual = (near.features.distance.median().item() for near in (self.to_train, self.real_to_train))
        return (
            f"near-copies({p['features']}) {self.value:.1%} · floor {self.floor:.1%} · median distance to the "
            f"training images {mine:.3g} (real {usual:.3g}) · duplicates {self.duplicates_value:.1%} (real "
            f"{self.duplicates_floor:.1%}) · {n:,} samples v {p['n_images']:,} {p['split']} images, "
            f"{n:,} {p['held_out']} images as floor · {how_drawn(p)}"
        )

    def to_dict(self) -> dict:
        """The shares, the near-copies with their training images, and the protocol, ready for JSON."""
        name = f"near_copies_{self.protocol['features']}_{in_short(len(self.samples))}"
        copies = [[i, int(self.to_train.features.index[i])] for i in self.near_copies.tolist()]
        duplicates = {"duplicates": self.duplicates_value, "duplicates_floor": self.duplicates_floor}
        return {name: self.value, f"{name}_floor": self.floor, "near_copies": copies} | duplicates | self.protocol


def memorisation(
    fakes: Images,
    train: Tensor | ImageSet,
    net: FeatureNet,
    n: int = 1000,
    seed: int = 0,
    *,
    held_out: Tensor | ImageSet | None = None,
    mode: str = "eval",
    resizer: str = "none",
) -> Memorisation:
    """Look for copies of training images, uint8 [N, C, H, W], among ``n`` fakes, and for copies among the fakes.

    ``held_out`` are reals that the generator never saw; None takes training images, each without itself. A blurred
    sample lies near to everything by pixels, and a typical one by features; hence both. Compare Meehan et al. 2020,
    arXiv:2004.05675: who copies lies nearer to the training images than other reals do.
    """
    base = as_uint8(train)
    reals = base if held_out is None else as_uint8(held_out)
    n = min(available(fakes, n), len(reals))
    if not 4 <= n <= KEEP:
        raise ValueError(f"Looking for copies takes 4 to {KEEP:,} samples, and as many reals, not {n}.")
    samples = generate(fakes, n, seed, mode)
    rows = torch.randperm(len(reals), generator=rng(seed))[:n]
    reals = reals[rows]
    if len(sizes := {str(list(images.shape[1:])) for images in (samples, reals, base)}) > 1:
        raise ValueError(f"The images are of different sizes, {' and '.join(sorted(sizes))}; load or make them alike.")
    # One search for both: the training images pass through the net once.
    own = torch.cat([torch.full((n,), -1), rows if held_out is None else torch.full((n,), -1)])
    both = _nearest_images(net, resizer, torch.cat([samples, reals]), base, own)
    halves = [[Neighbours(*(values.split(n)[k] for values in found)) for found in both] for k in (0, 1)]
    to_train, real_to_train = (Nearest(*half) for half in halves)
    among = [_nearest_images(net, resizer, part, part, torch.arange(n)) for part in (samples, reals)]
    near_copies, floor = _very_near(to_train, real_to_train)
    duplicates, duplicates_floor = _very_near(*among)
    shares = (len(near_copies) / n, floor, len(duplicates) / n, duplicates_floor)
    about = protocol(fakes, train, net, mode, resizer, seed) | {"n_fake": n}
    about["held_out"] = "other training" if held_out is None else split_of(held_out)
    return Memorisation(samples, to_train, real_to_train, near_copies, *shares, about)


def _nearest(queries: Tensor, batches: Iterable[Tensor], own: Tensor) -> Neighbours:
    """The row nearest to each query [Q, D]; ``own`` [Q] is the row of the query itself, which does not count, or -1."""
    index, best, start, nearest = (
        torch.zeros_like(own),
        torch.full((len(own),), torch.inf),
        0,
        torch.zeros_like(queries),
    )
    for batch in batches:
        gaps = torch.cdist(queries, batch)
        here = ((own >= start) & (own < start + len(batch))).nonzero().flatten()
        gaps[here, own[here] - start] = torch.inf
        gap, row = gaps.min(1)
        better = gap < best
        best[better], index[better], nearest[better] = gap[better], row[better] + start, batch[row[better]]
        start += len(batch)
    return Neighbours(index, (queries - nearest).square().sum(1).sqrt())  # cdist leaves a copy at a little more than 0


def _nearest_images(net: FeatureNet, resizer: str, queries: Tensor, base: Tensor, own: Tensor) -> Nearest:
    def seen(images: Tensor) -> Iterable[Tensor]:
        return (extract_batch(net, batch, resizer)[0] for batch in images.split(BATCH))

    def scaled(images: Tensor) -> Iterable[Tensor]:
        return (batch.flatten(1).float() / batch[0].numel() ** 0.5 for batch in images.split(10 * BATCH))

    return Nearest(*(_nearest(torch.cat(list(by(queries))), by(base), own) for by in (seen, scaled)))


def _very_near(mine: Nearest, real: Nearest) -> tuple[Tensor, float]:
    """Which of mine are very near, the nearest first, and the share of the reals that are."""
    f, p = (found.distance.quantile(QUANTILE) for found in real)
    mine_are, real_are = (
        (near.features.distance <= f) & (near.pixels.distance <= p) | (near.pixels.distance == 0)
        for near in (mine, real)
    )
    rows = mine_are.nonzero().flatten()
    return rows[mine.features.distance[rows].argsort(stable=True)], real_are.double().mean().item()
