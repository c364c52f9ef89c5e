"""What a score compares with: the features of real images, and real against real."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ganlib._runtime import device as runtime
from ganlib.metrics import distances
from ganlib.metrics.distances import Statistics, feature_statistics, frechet_distance, inception_score
from ganlib.metrics.featurecache import digest, fingerprint, kept
from ganlib.metrics.features import BATCH, KEEP, FeatureNet, Features, extract, look

FLOOR_SPLITS = 8  # one split of the reals gives a floor that is off by up to half
METRICS = ("fd", "kid", "is", "precision", "recall", "density", "coverage")


def measure(
    real: Features, fake: Features, metrics: Sequence[str], seed: int = 0, subsets: int = distances.SUBSETS
) -> dict[str, float]:
    """The numbers by metric; ``"kid"`` brings ``"kid_error"``, its deviation over ``subsets``.

    Raises:
        ValueError: if there are too few images, or no logits for ``"is"``.
        ImportError: if a metric but "fd", "density" and "coverage" is asked for and torch-fidelity is missing.
    """
    found = {}
    if "fd" in metrics:
        found["fd"] = frechet_distance(real.statistics, fake.statistics)
    if "kid" in metrics:
        found["kid"], found["kid_error"] = distances.kernel_distance(real.features, fake.features, subsets, seed)
    if "is" in metrics:
        if fake.logits is None:
            raise ValueError(
                "The Inception-style score needs logits, but the net gives features only; leave 'is' out of the "
                "metrics, or use a net that returns features and logits."
            )
        found["is"] = inception_score(fake.logits)
    if {"precision", "recall"} & set(metrics):
        found["precision"], found["recall"] = distances.precision_recall(real.features, fake.features)
    if {"density", "coverage"} & set(metrics):
        found["density"], found["coverage"] = distances.density_coverage(real.features, fake.features)
    return found


class Reference(NamedTuple):
    """The reals of a score.

    Attributes:
        real: what the net saw in at most 10,000 of them, at random.
        others: what it saw in other reals, disjoint from those: as many as there are fakes, or all there are.
        key: a hash of both and of the net; None if the net cannot be hashed.
        n: how many fakes they are for.
    """

    real: Features
    others: Features | None
    key: str | None
    n: int

    @property
    def is_split(self) -> bool:
        """Whether there are too few reals for as many others as fakes, so that the floor splits what there is."""
        return self.others is None or self.others.n < self.n

    @property
    def n_floor(self) -> tuple[int, int]:
        """How many reals the floor compares, in the fakes' place and in the reals'."""
        if not self.is_split:
            return self.n, self.real.n
        total = len(self.real.features) + (0 if self.others is None else len(self.others.features))
        m = min(self.n, total // 2)
        return m, total - m

    def pairs(self, seed: int) -> Iterator[tuple[Features, Features]]:
        """Real against real: pairs of reals in the reals' place and in the fakes', one or 8 random splits."""
        if not self.is_split:
            yield self.real, self.others
            return
        m, g = self.n_floor[0], runtime.rng(seed)
        features, logits = self.real.features, self.real.logits
        if self.others is not None:
            features = torch.cat([features, self.others.features])
            logits = None if logits is None else torch.cat([logits, self.others.logits])
        for _ in range(FLOOR_SPLITS):
            order = torch.randperm(len(features), generator=g)
            yield _rows(features, logits, order[m:]), _rows(features, logits, order[:m])


def look_at_reals(net: FeatureNet, pixels: Tensor, n: int, seed: int = 0, resizer: str = "none") -> Reference:
    """The reference for ``n`` fakes, drawn at random from all reals.

    Args:
        net: a feature net.
        pixels: uint8 ``[N, C, H, W]``.
        n: how many fakes it is for.
        seed: of the choice.
        resizer: as in :func:`ganlib.metrics.features.look`.

    Raises:
        ValueError: if ``pixels`` is not uint8 ``[N, C, H, W]``; from ``net`` for images that it cannot judge.
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 4:
        raise ValueError(f"Reals must be uint8 [N, C, H, W], not {pixels.dtype} {list(pixels.shape)}.")
    order = torch.randperm(len(pixels), generator=runtime.rng(seed))
    others = order[KEEP : KEEP + n] if len(order) >= KEEP + n else order[KEEP : 2 * KEEP]
    real, key = _see(net, pixels, order[:KEEP], resizer)
    if len(others) == 0:
        return Reference(real, None, key, n)
    seen, other_key = _see(net, pixels, others, resizer)
    return Reference(real, seen, key and f"{key}-{other_key}", n)


def floors(reference: Reference, metrics: Sequence[str], seed: int = 0) -> dict[str, float]:
    """The metrics of reals in the fakes' place: what a perfect generator would get.

    Raises:
        ValueError: if there are too few reals.
    """
    found = {}
    # Pairs that are computed together are kept together.
    for group in (("fd",), ("kid",), ("is",), ("precision", "recall"), ("density", "coverage")):
        if set(group) & set(metrics):
            key = reference.key and f"{reference.key} {reference.n_floor} {reference.is_split} {group} {seed}"
            numbers = kept(key, lambda group=group: _floors(reference, group, seed))
            found |= {name: number.item() for name, number in numbers.items()}
    return found


def _floors(reference: Reference, metrics: Sequence[str], seed: int) -> dict[str, Tensor]:
    subsets = distances.SUBSETS // (FLOOR_SPLITS if reference.is_split else 1)
    try:
        found = [measure(*pair, metrics, seed, subsets) for pair in reference.pairs(seed)]
    except ValueError as error:
        m, others = reference.n_floor
        raise ValueError(f"There are too few reals for a floor, {m:,} v {others:,}: {error}") from error
    numbers = {name: [every[name] for every in found] for name in found[0]}
    return {name: torch.tensor(values, dtype=torch.float64).mean() for name, values in numbers.items()}


def _see(net: FeatureNet, pixels: Tensor, rows: Tensor, resizer: str) -> tuple[Features, str | None]:
    """What ``net`` sees in some of the images, and the key it is kept under."""

    def batches() -> Iterator[Tensor]:
        for some in rows.to(pixels.device).split(BATCH):
            yield pixels[some].cpu()

    key = None
    if (of_net := fingerprint(net)) is not None:
        # By content, not by object: neither a copy nor a tensor written to in place can fool it. Nor can a net whose
        # code or settings changed while its weights did not: what it sees in the first images is a part of the key.
        glimpse = digest(dict(enumerate(t for t in look(net, next(batches())[:2], resizer) if t is not None)))
        seen = hashlib.sha256()
        for batch in batches():
            seen.update(batch.contiguous().numpy())
        key = f"{of_net} {glimpse} {resizer} {list(pixels.shape[1:])} {len(rows)} {seen.hexdigest()}"

    def make() -> dict[str, Tensor]:
        features, logits, statistics = extract(net, batches(), resizer)
        logits = {} if logits is None else {"logits": logits}
        return {"features": features, "mean": statistics.mean, "cov": statistics.cov, **logits}

    found = kept(key, make)
    statistics = Statistics(found["mean"], found["cov"], len(rows))
    return Features(found["features"], found.get("logits"), statistics), key


def _rows(features: Tensor, logits: Tensor | None, rows: Tensor) -> Features:
    features = features[rows]
    return Features(features, None if logits is None else logits[rows], feature_statistics(features))
