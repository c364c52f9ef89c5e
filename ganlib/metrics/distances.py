"""From features to numbers: Fréchet and kernel distance, Inception-style score, precision, recall, density, coverage.

The arithmetic is torch-fidelity's where that has it. It is imported when a number is asked for, not before; and not for
the Fréchet distance, as it brings networks of its own that take half a second to import, which training would wait for.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

CHUNK = 1000  # rows of a matrix of distances that are in memory at a time
SUBSETS = 100
SUBSET_SIZE = 1000


class Statistics(NamedTuple):
    """Mean float64 ``[D]``, unbiased covariance float64 ``[D, D]``, and of how many samples (None: exact)."""

    mean: Tensor
    cov: Tensor
    n: int | None = None


def fidelity(module: str) -> ModuleType:
    """A module of torch-fidelity.

    Raises:
        ImportError: if it is not installed, with how to.
    """
    try:
        return importlib.import_module(f"torch_fidelity.{module}")
    except ImportError as error:
        raise ImportError(
            f"Scores are computed by torch-fidelity, which cannot be imported ({error}); "
            "run: pip install torch-fidelity"
        ) from error


def feature_statistics(features: Tensor) -> Statistics:
    """Mean and unbiased covariance of ``features`` ``[N, D]``, in float64.

    Raises:
        ValueError: if ``features`` is not ``[N, D]``, has fewer than two rows, or NaN or Inf in it.
    """
    check_features(features)
    if len(features) < 2:
        raise ValueError(f"A Fréchet distance needs at least 2 samples on each side, not {len(features)}.")
    rows = features.detach().cpu().double().numpy()
    cov = np.cov(rows, rowvar=False).reshape(rows.shape[1], -1)
    return Statistics(torch.from_numpy(np.mean(rows, axis=0)), torch.from_numpy(cov), len(rows))


def frechet_distance(a: Tensor | Statistics, b: Tensor | Statistics) -> float:
    """The squared Fréchet distance between two sets of features, each taken for a Gaussian.

    |μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁C₂)^½): Heusel et al. 2017, arXiv:1706.08500, eq. (6), in float64. It is
    biased upwards, the more so the fewer samples there are: compare only distances at equal sample counts,
    beside that of reals against reals. Its unit is that of the features, squared.

    Args:
        a, b: features ``[N, D]``, or their :class:`Statistics`; symmetric.

    Raises:
        ValueError: if the widths differ, a side has fewer samples than features, or there is NaN or Inf.
    """
    a, b = (s if isinstance(s, Statistics) else feature_statistics(s) for s in (a, b))
    _check_widths(len(a.mean), len(b.mean))
    width, fewest = len(a.mean), min((s.n for s in (a, b) if s.n is not None), default=None)
    if fewest is not None and fewest < width:
        raise ValueError(
            f"A Fréchet distance of {width} features needs at least {width} samples on each side, better ten times "
            f"as many, not {fewest}: the covariance of so few is singular. Take more, or a net with fewer features."
        )
    # As torch-fidelity does it, to the bit: the root's trace is the sum of the roots of the product's eigenvalues.
    (mean, cov), (other_mean, other_cov) = ((s.mean.double().numpy(), s.cov.double().numpy()) for s in (a, b))
    root = np.sqrt(np.linalg.eigvals(cov.dot(other_cov)).astype(complex)).real.sum()
    apart = mean - other_mean
    return max(0.0, float(apart.dot(apart) + np.trace(cov) + np.trace(other_cov) - 2 * root))


def kernel_distance(real: Tensor, fake: Tensor, subsets: int = SUBSETS, seed: int = 0) -> tuple[float, float]:
    """The kernel distance (KID, with Inception features): a squared maximum mean discrepancy.

    Kernel (x·y / D + 1)³, unbiased estimate, so slightly below 0 where the two sides are alike: Bińkowski et
    al. 2018, arXiv:1801.01401, section 4. The mean over random subsets of 1,000 of each side (all, if there
    are fewer), in float64.

    Args:
        real, fake: features ``[N, D]`` and ``[M, D]``.
        subsets: how many.
        seed: of their choice.

    Returns:
        the mean and the standard deviation over the subsets, the ± of the literature. They overlap, so the
        deviation says how much a distance of 1,000 varies; the mean varies less.

    Raises:
        ValueError: if the widths differ, a side has fewer than 2 samples, or there is NaN or Inf.
        ImportError: if torch-fidelity is not installed.
    """
    _check_pair(real, fake, 2, "A kernel distance needs")
    metric = fidelity("metric_kid")
    found = metric.kid_features_to_metric(
        fake.double(),
        real.double(),
        kid_subsets=subsets,
        kid_subset_size=min(SUBSET_SIZE, len(real), len(fake)),
        rng_seed=seed % 2**32,
        verbose=False,
    )
    return found[metric.KEY_METRIC_KID_MEAN], found[metric.KEY_METRIC_KID_STD]


def inception_score(logits: Tensor) -> float:
    """exp of the mean KL(p(y|x) ‖ p(y)): 1 (all alike) to K (sure of each, every class as often).

    Salimans et al. 2016, arXiv:1606.03498, section 4. Over all samples at once, as Barratt & Sharma 2018
    (arXiv:1801.01973) advise, not the mean of ten parts. With another classifier than Inception it compares
    only with itself; and it never looks at the reals: one good image of each class gives K.

    Args:
        logits: ``[N, K]``.

    Raises:
        ValueError: if they are not ``[N, K]`` or not finite.
        ImportError: if torch-fidelity is not installed.
    """
    check_features(logits)
    metric = fidelity("metric_isc")
    found = metric.isc_features_to_metric(logits.cpu(), splits=1, shuffle=False)
    return found[metric.KEY_METRIC_ISC_MEAN]


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Precision, the share of fakes among the reals; recall, the share of reals among the fakes.

    A point is *among* a set if it lies no further from one of the set's points than that point's ``k``-th
    neighbour in the set: Kynkäänniemi et al. 2019, arXiv:1904.06991, eqs. (1) to (3).

    Args:
        real, fake: features ``[N, D]`` and ``[M, D]``, more than ``k`` each; time and memory for a chunk of
            the N × M distances at a time.

    Raises:
        ValueError: if the widths differ, a side has too few samples, or there is NaN or Inf.
        ImportError: if torch-fidelity is not installed.
    """
    _check_pair(real, fake, k + 1, "Precision and recall need")
    metric = fidelity("metric_prc")
    found = metric.prc_features_to_metric(
        fake.float(),
        real.float(),
        prc_neighborhood=k,
        prc_batch_size=CHUNK,
        save_cpu_ram=True,
        verbose=False,
    )
    return found[metric.KEY_METRIC_PRECISION], found[metric.KEY_METRIC_RECALL]


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, float]:
    """Density, how many reals' balls a fake lies in, over ``k``; coverage, the share of reals' balls with a fake in.

    A real's ball reaches to its ``k``-th neighbour among the reals. Unlike precision and recall they forgive
    an outlier: Naeem et al. 2020, arXiv:2002.09797, eqs. (3) and (4). Density may exceed 1.

    Args:
        real, fake: features ``[N, D]`` and ``[M, D]``, N > ``k``; 1,000 rows of distances are in memory at a time.

    Raises:
        ValueError: if the widths differ, a side has too few samples, or there is NaN or Inf.
    """
    _check_pair(real, fake, k + 1, "Density and coverage need")
    real, fake = real.float(), fake.float()
    within, covered = 0, 0
    for some in real.split(CHUNK):
        # The nearest of all is the point itself, hence k + 1.
        radius = torch.cdist(some, real).topk(k + 1, largest=False).values[:, -1:]
        inside = torch.cdist(some, fake) < radius
        within += int(inside.sum())
        covered += int(inside.any(1).sum())
    return within / (k * len(fake)), covered / len(real)


def check_features(features: Tensor) -> None:
    """See that features or logits are finite and ``[N, D]``.

    Raises:
        ValueError: if they are not.
    """
    if features.ndim != 2:
        raise ValueError(f"Features must be [N, D], not {list(features.shape)}; flatten each sample's.")
    if not features.isfinite().all():
        raise ValueError("The features have NaN or Inf in them; look for NaN in the images.")


def _check_pair(real: Tensor, fake: Tensor, least: int, who_needs: str) -> None:
    check_features(real)
    check_features(fake)
    _check_widths(real.shape[1], fake.shape[1])
    if min(len(real), len(fake)) < least:
        few = f"{len(real)} real and {len(fake)} fake"
        raise ValueError(f"{who_needs} at least {least} images on each side, but there are {few}; take more.")


def _check_widths(a: int, b: int) -> None:
    if a != b:
        raise ValueError(f"Features {a} and {b} wide do not compare; take both from one net.")
