"""Whether a generator copies its training images or itself, by nearest neighbours."""

from collections import namedtuple
from dataclasses import dataclass

import torch
from torch import Tensor

from ganlib._runtime import device as runtime
from ganlib._runtime.randomness import rng
from ganlib.data.images import as_uint8
from ganlib.metrics.distances import CHUNK
from ganlib.metrics.features import BATCH, KEEP, FeatureNet, Given, Images, extract_batch, generate
from ganlib.metrics.scores import how_drawn, in_short, protocol

Neighbours = namedtuple("Neighbours", "index distance")  # index of and distance to the nearest: int64 [n], float32 [n]
Views = namedtuple("Views", "features pixels")  # images or neighbours, by a net's features and by RMS over grey levels


@dataclass(frozen=True)
class Memorisation:
    """How close samples are to training images and each other; prints as three lines.

    A *near-copy* is closer to a training image than 99% of the held-out reals are, both by features and by pixels (a
    blurred sample is close to everything by pixels, a typical one by features), or equals one; ``near_copies`` has
    their indices, the closest first, ``value`` their share. A *duplicate* is as close to another sample, compared with
    held-out reals among themselves. The floors are the held-out reals' shares.
    """

    samples: Tensor  # uint8 [n, C, H, W]
    to_train: Views
    real_to_train: Views
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
            f"near-copies({p['features']}) {self.value:.1%} · floor {self.floor:.1%} · "
            f"duplicates {self.duplicates_value:.1%} (real {self.duplicates_floor:.1%})\n"
            f"  median distance to the training images {mine:.3g} (real {usual:.3g})\n"
            f"  {n:,} samples v {p['n_images']:,} {p['split']} images, "
            f"{n:,} {p['held_out']} images as floor · {how_drawn(p)}"
        )

    def to_dict(self) -> dict:
        """Shares, near-copies with their training images, and protocol, ready for JSON."""
        name = f"near_copies_{self.protocol['features']}_{in_short(len(self.samples))}"
        copies = [[i, int(self.to_train.features.index[i])] for i in self.near_copies.tolist()]
        duplicates = {"duplicates": self.duplicates_value, "duplicates_floor": self.duplicates_floor}
        return {name: self.value, f"{name}_floor": self.floor, "near_copies": copies} | duplicates | self.protocol


def memorisation(
    fakes: Images, train: Given, net: FeatureNet, n=1000, seed=0, *, held_out: Given | None = None, resizer="none"
) -> Memorisation:
    """Look for copies of training images among ``n`` fakes, and for duplicate fakes.

    ``held_out`` are reals that the generator never saw; None takes training images, each without itself. Copies are
    closer to the training images than other reals are (Meehan et al. 2020, arXiv:2004.05675).
    """
    base = as_uint8(train)
    reals = base if held_out is None else as_uint8(held_out)
    n = min(n, len(reals), len(fakes) if isinstance(fakes, Given) else n)
    if not 4 <= n <= KEEP:
        raise ValueError(f"Looking for copies takes 4 to {KEEP:,} samples, and as many reals, not {n}.")
    samples = generate(fakes, n, seed)
    rows = torch.randperm(len(reals), generator=rng(seed))[:n]
    every = (samples, reals[rows], base)
    if len(sizes := {str(list(images.shape[1:])) for images in every}) > 1:
        raise ValueError(f"The images are of different sizes, {' and '.join(sorted(sizes))}; load or make them alike.")
    seen = [torch.cat([extract_batch(net, some, resizer)[0] for some in images.split(BATCH)]) for images in every]
    mine, real, known = map(Views, seen, every)
    to_train, real_to_train = _nearest(mine, known), _nearest(real, known, rows if held_out is None else None)
    near_copies, floor = _very_near(to_train, real_to_train)
    duplicates, duplicates_floor = _very_near(*(_nearest(part, part, torch.arange(n)) for part in (mine, real)))
    shares = (len(near_copies) / n, floor, len(duplicates) / n, duplicates_floor)
    about = protocol(fakes, train, net, "eval", resizer, seed) | {"n_fake": n, "held_out": "other training"}
    if held_out is not None:
        about["held_out"] = protocol(fakes, held_out, net, "eval", resizer, seed)["split"]
    return Memorisation(samples, to_train, real_to_train, near_copies, *shares, about)


def _nearest(queries: Views, base: Views, own: Tensor | None = None) -> Views:
    """The nearest image to each query, except for its ``own`` row."""
    found, where = [], runtime.device()
    own = None if own is None else own[:, None].to(where)
    for mine, others in zip(queries, base, strict=True):
        x = mine.flatten(1).float().to(where)
        index, best = x.new_zeros(len(x), dtype=torch.int64), x.new_full((len(x),), torch.inf)
        for start in range(0, len(others), CHUNK):
            gaps = torch.cdist(x, others[start : start + CHUNK].to(where).flatten(1).float())
            if own is not None:
                gaps[own == torch.arange(start, start + gaps.shape[1], device=where)] = torch.inf
            gap, row = gaps.min(1)
            index, best = torch.where(gap < best, row + start, index), gap.minimum(best)
        # Computed again, since cdist gives a copy a distance just above 0.
        x, index = x.cpu(), index.cpu()
        distance = (x - others[index].flatten(1).float()).square().sum(1).sqrt()
        found.append(Neighbours(index, distance / (1 if others.is_floating_point() else x.shape[1] ** 0.5)))
    return Views(*found)


def _very_near(mine: Views, real: Views) -> tuple[Tensor, float]:
    """The samples that are very close, closest first, and the share of such reals."""
    f, p = (found.distance.quantile(0.01) for found in real)
    mine_are, real_are = (
        (near.features.distance <= f) & (near.pixels.distance <= p) | (near.pixels.distance == 0)
        for near in (mine, real)
    )
    rows = mine_are.nonzero().flatten()
    return rows[mine.features.distance[rows].argsort(stable=True)], real_are.double().mean().item()
