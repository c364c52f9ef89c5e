"""Scores from features, most by torch-fidelity, which is imported at first use."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

CHUNK = 1000  # rows of a distance matrix in memory at a time
SUBSETS, SUBSET_SIZE = 100, 1000  # of a kernel distance


class Statistics(NamedTuple):
    """Mean [D], unbiased covariance [D, D], float64; number of samples (None: exact)."""

    mean: Tensor
    cov: Tensor
    n: int | None = None


def feature_statistics(features: Tensor) -> Statistics:
    """Mean and unbiased covariance of features [N, D], in float64."""
    check_features(features, least=2)
    rows = features.detach().cpu().double().numpy()
    cov = np.cov(rows, rowvar=False).reshape(rows.shape[1], -1)
    return Statistics(torch.from_numpy(np.mean(rows, axis=0)), torch.from_numpy(cov), len(rows))


def frechet_distance(a: Tensor | Statistics, b: Tensor | Statistics) -> float:
    """The squared Fréchet distance of two sets of features [N, D], taken as Gaussians.

    |μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁C₂)^½), in float64: Heusel et al. 2017, arXiv:1706.08500, eq. (6). The fewer samples,
    the more it is biased upwards: compare it only at equal sample counts, and with that of reals against reals.
    """
    a, b = (side if isinstance(side, Statistics) else feature_statistics(side) for side in (a, b))
    width = len(a.mean)
    for side in (a, b):
        if len(side.mean) != width:
            raise ValueError(f"Features {[width, len(b.mean)]} wide do not compare; take both from one net.")
        if side.n is not None and side.n < width:
            few = f"A Fréchet distance of {width} features needs {width} samples on each side, not {side.n}"
            raise ValueError(f"{few}; take ten times as many, or a net with fewer features.")
    # Exactly as in torch-fidelity: the trace of the root is the sum of the roots of the product's eigenvalues.
    (mean, cov), (other_mean, other_cov) = ((side.mean.double().numpy(), side.cov.double().numpy()) for side in (a, b))
    root = np.sqrt(np.linalg.eigvals(cov.dot(other_cov)).astype(complex)).real.sum()
    apart = mean - other_mean
    return max(0.0, float(apart.dot(apart) + np.trace(cov) + np.trace(other_cov) - 2 * root))


def kernel_distance(real: Tensor, fake: Tensor, subsets: int = SUBSETS, seed: int = 0) -> tuple[float, float]:
    """The kernel distance of features (Inception's: KID) and its standard deviation.

    The squared maximum mean discrepancy with the kernel (x·y / D + 1)³, unbiased, so it may be below 0 if the sides
    are alike: Bińkowski et al. 2018, arXiv:1801.01401. Mean and deviation are over random subsets of 1,000 a side.
    """
    from torch_fidelity import metric_kid as kid

    check_features(real, fake, least=2)
    size = min(SUBSET_SIZE, len(real), len(fake))
    how = {"kid_subsets": subsets, "kid_subset_size": size, "rng_seed": seed % 2**32, "verbose": False}
    found = kid.kid_features_to_metric(fake.double(), real.double(), **how)
    return found[kid.KEY_METRIC_KID_MEAN], found[kid.KEY_METRIC_KID_STD]


def inception_score(logits: Tensor) -> float:
    """The Inception score of logits [N, K], exp of the mean KL(p(y|x) ‖ p(y)): 1 to K.

    Salimans et al. 2016, arXiv:1606.03498; over all samples at once (Barratt & Sharma 2018, arXiv:1801.01973). It never
    looks at the reals: a single good image of each class gives K, the maximum.
    """
    from torch_fidelity import metric_isc as isc

    if logits is None:
        raise ValueError("An Inception-style score needs logits, and the net gives features only; leave 'is' out.")
    check_features(logits)
    return isc.isc_features_to_metric(logits.cpu(), splits=1, shuffle=False)[isc.KEY_METRIC_ISC_MEAN]


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Precision (share of fakes among the reals) and recall (reals among the fakes).

    A point is *among* a set if it lies no further from one of the set's points than that point's k-th neighbour in the
    set: Kynkäänniemi et al. 2019, arXiv:1904.06991, eqs. (1) to (3).
    """
    from torch_fidelity import metric_prc as prc

    check_features(real, fake, least=k + 1)
    how = {"prc_neighborhood": k, "prc_batch_size": CHUNK, "save_cpu_ram": True, "verbose": False}
    found = prc.prc_features_to_metric(fake.float(), real.float(), **how)
    return found[prc.KEY_METRIC_PRECISION], found[prc.KEY_METRIC_RECALL]


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, float]:
    """Density (reals' balls around a fake, over k) and coverage (balls with a fake).

    A real's ball reaches to its k-th neighbour among the reals. They forgive an outlier, and density may exceed 1:
    Naeem et al. 2020, arXiv:2002.09797, eqs. (3) and (4).
    """
    check_features(real, fake, least=k + 1)
    real, fake = real.float(), fake.float()
    within, covered = 0, 0
    for some in real.split(CHUNK):
        radius = torch.cdist(some, real).topk(k + 1, largest=False).values[:, -1:]  # the nearest is the point itself
        inside = torch.cdist(some, fake) < radius
        within += int(inside.sum())
        covered += int(inside.any(1).sum())
    return within / (k * len(fake)), covered / len(real)


def check_features(*sets: Tensor, least: int = 1) -> None:
    """Refuse features that are not [N, D], not finite, too few, or of unequal widths."""
    for features in sets:
        if features.ndim != 2:
            raise ValueError(f"Features must be [N, D], not {list(features.shape)}; flatten each sample's.")
        if not features.isfinite().all():
            raise ValueError("The features have NaN or Inf in them; look for NaN in the images.")
        if len(features) < least:
            raise ValueError(f"This score needs at least {least} images on each side, not {len(features)}; take more.")
        if features.shape[1] != sets[0].shape[1]:
            raise ValueError(f"Features {[s.shape[1] for s in sets]} wide do not compare; take both from one net.")
