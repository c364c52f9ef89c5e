"""Does a generator repeat its training images, or itself? Nearest neighbours, judged by those of held-out reals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ganlib._runtime import device as runtime
from ganlib.data.images import ImageSet
from ganlib.metrics.features import BATCH, KEEP, FeatureNet, Images, draw, is_given, look
from ganlib.metrics.protocol import how, protocol, short, split_of

QUANTILE = 0.01  # *very near*: nearer than all but this share of the held-out reals


class Neighbours(NamedTuple):
    """The nearest image to each of n: its index int64 ``[n]`` and its distance float32 ``[n]``."""

    index: Tensor
    distance: Tensor


class Nearest(NamedTuple):
    """Nearest neighbours by two distances.

    Attributes:
        features: Euclidean, between the net's features.
        pixels: root mean square difference of the pixels, in grey levels, 0 to 255.
    """

    features: Neighbours
    pixels: Neighbours


@dataclass(frozen=True)
class Memorisation:
    """How near samples lie to the training images and to each other; prints as one line.

    A sample is a *near-copy* if it lies nearer to a training image than 99% of the held-out reals do, by features
    and by pixels alike, or equals one. It is a *duplicate* if it does so to another sample, measured by the
    held-out reals among themselves.

    Attributes:
        samples: the images judged, uint8 ``[n, C, H, W]``.
        to_train, to_others: their nearest training images, and their nearest other samples.
        real_to_train, real_to_others: the same of n held-out reals.
        near_copies, duplicates: int64 indices of such samples, the nearest by features first.
        floor, duplicates_floor: share of the held-out reals that are such.
        protocol: features, counts, split, resizer, mode, EMA or not, seed.
    """

    samples: Tensor
    to_train: Nearest
    to_others: Nearest
    real_to_train: Nearest
    real_to_others: Nearest
    near_copies: Tensor
    duplicates: Tensor
    floor: float
    duplicates_floor: float
    protocol: dict

    @property
    def value(self) -> float:
        """Share of the samples that are near-copies of training images."""
        return len(self.near_copies) / len(self.samples)

    @property
    def duplicates_value(self) -> float:
        """Share of the samples that are duplicates of other samples."""
        return len(self.duplicates) / len(self.samples)

    @property
    def name(self) -> str:
        """The name of ``value`` with its protocol: ``near_copies_cifarnet_1k``."""
        return f"near_copies_{self.protocol['features']}_{short(len(self.samples))}"

    def __str__(self) -> str:
        p, n = self.protocol, len(self.samples)
        mine, usual = (near.features.distance.median().item() for near in (self.to_train, self.real_to_train))
        return (
            f"near-copies({p['features']}) {self.value:.1%} · floor {self.floor:.1%} · median distance to the "
            f"training images {mine:.3g} (real {usual:.3g}) · duplicates {self.duplicates_value:.1%} (real "
            f"{self.duplicates_floor:.1%}) · {n:,} samples v {p['n_images']:,} {p['split']} images, "
            f"{n:,} {p['held_out']} images as floor · {how(p)}"
        )

    def to_dict(self) -> dict:
        """The shares, the near-copies with their training images, and the protocol, ready for JSON."""
        return {
            self.name: self.value,
            f"{self.name}_floor": self.floor,
            "near_copies": [[i, int(self.to_train.features.index[i])] for i in self.near_copies.tolist()],
            "duplicates": self.duplicates_value,
            "duplicates_floor": self.duplicates_floor,
            **self.protocol,
        }


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
    """Look for copies of training images among samples, and for copies among the samples.

    All training images are searched, a batch at a time: the time grows with their number, the memory does not.
    A blurred sample lies near to everything by pixels, and a typical one by features; hence both. Compare Meehan
    et al. 2020, arXiv:2004.05675: who copies lies nearer to the training images than other reals do.

    Args:
        fakes: a generator, or images, as in :func:`ganlib.metrics.features.draw`.
        train: the images that the generator was trained on, uint8 ``[N, C, H, W]``.
        net: a feature net.
        n: samples to judge, 4 to 10,000, and as many reals to judge them by; fewer where there are not as many.
        seed: of the samples and the choice of reals.
        held_out: reals that the generator never saw. None: training images, each without itself.
        mode, resizer: as in :func:`ganlib.metrics.score`.

    Raises:
        ValueError: if there are too few or too many images, they are not of one size, or the reals are not uint8.
    """
    base = getattr(train, "pixels", train)
    reals = base if held_out is None else getattr(held_out, "pixels", held_out)
    for images in (base, reals):
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(f"Reals must be uint8 [N, C, H, W], not {images.dtype} {list(images.shape)}.")
    n = min(n, len(reals), len(fakes) if is_given(fakes) else n)
    if not 4 <= n <= KEEP:
        raise ValueError(f"Looking for copies takes 4 to {KEEP:,} samples, and as many reals, not {n}.")
    samples = torch.cat(list(draw(fakes, n, seed, mode)))
    rows = torch.randperm(len(reals), generator=runtime.rng(seed))[:n]
    reals = reals[rows.to(reals.device)].cpu()
    if len(sizes := {str(list(images.shape[1:])) for images in (samples, reals, base)}) > 1:
        raise ValueError(f"The images are of different sizes, {' and '.join(sorted(sizes))}; load or make them alike.")

    none, each = torch.full((n,), -1), torch.arange(n)
    # One search for both: the training images pass through the net once.
    own = torch.cat([none, rows if held_out is None else none])
    both = _nearest_images(net, resizer, torch.cat([samples, reals]), base, own)
    to_train, real_to_train = (
        Nearest(*(Neighbours(found.index[part], found.distance[part]) for found in both))
        for part in (slice(n), slice(n, None))
    )
    to_others, real_to_others = (_nearest_images(net, resizer, part, part, each) for part in (samples, reals))
    near_copies, floor = _very_near(to_train, real_to_train)
    duplicates, duplicates_floor = _very_near(to_others, real_to_others)
    about = {"held_out": "other training" if held_out is None else split_of(held_out)}
    return Memorisation(
        samples=samples,
        to_train=to_train,
        to_others=to_others,
        real_to_train=real_to_train,
        real_to_others=real_to_others,
        near_copies=near_copies,
        duplicates=duplicates,
        floor=floor,
        duplicates_floor=duplicates_floor,
        protocol=protocol(fakes, train, net, n, mode, resizer, seed) | about,
    )


def nearest(queries: Tensor, batches: Iterable[Tensor], own: Tensor) -> Neighbours:
    """The row nearest to each query, by Euclidean distance.

    Args:
        queries: float32 ``[Q, D]``.
        batches: the rows to search, ``[B, D]`` at a time.
        own: int64 ``[Q]``, the row that is the query itself and does not count; -1 for none.
    """
    best = torch.full((len(queries),), torch.inf)
    index, distance, start = torch.zeros_like(own), best.clone(), 0
    squares, one_each = queries.square().sum(1), torch.arange(len(queries))
    for batch in batches:
        found = squares[:, None] + batch.square().sum(1) - 2 * queries @ batch.T
        here = (own >= start) & (own < start + len(batch))
        found[one_each[here], own[here] - start] = torch.inf
        nearest_here = found.min(1)
        better = nearest_here.values < best
        best[better], row = nearest_here.values[better], nearest_here.indices[better]
        # The distance itself from the difference: the products above leave a copy at a little more than 0.
        index[better], distance[better] = row + start, (queries[better] - batch[row]).square().sum(1).sqrt()
        start += len(batch)
    return Neighbours(index, distance)


def _nearest_images(net: FeatureNet, resizer: str, queries: Tensor, base: Tensor, own: Tensor) -> Nearest:
    def seen(images: Tensor) -> Iterable[Tensor]:
        return (look(net, batch.cpu(), resizer)[0] for batch in images.split(BATCH))

    def flat(images: Tensor) -> Iterable[Tensor]:
        return (batch.cpu().flatten(1).float() / batch[0].numel() ** 0.5 for batch in images.split(10 * BATCH))

    return Nearest(*(nearest(torch.cat(list(by(queries))), by(base), own) for by in (seen, flat)))


def _very_near(mine: Nearest, real: Nearest) -> tuple[Tensor, float]:
    """Which of mine are very near, the nearest first, and the share of the reals that are."""
    f, p = (found.distance.quantile(QUANTILE) for found in real)

    def very_near(near: Nearest) -> Tensor:
        return (near.features.distance <= f) & (near.pixels.distance <= p) | (near.pixels.distance == 0)

    rows = very_near(mine).nonzero().flatten()
    return rows[mine.features.distance[rows].argsort(stable=True)], very_near(real).double().mean().item()
