"""Scores of generated digits: a Fréchet distance with its floor, and which digits there are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ganlib import runtime
from ganlib.data import ImageSet, to_uint8
from ganlib.digitnet import digit_net

SURE = 0.9  # a net is sure of a picture whose likeliest class has a probability above this
COVERED = 0.01  # a class is covered if at least this share of the samples falls in it
FLOOR_SPLITS = 8  # one split of the reals gives a floor that is off by up to half
MAX_REAL = 10_000  # reals that a score is measured against: a random subset of a larger set


class Statistics(NamedTuple):
    """Mean float64 ``[D]`` and covariance float64 ``[D, D]`` of a set of features."""

    mean: Tensor
    cov: Tensor


def feature_statistics(features: Tensor) -> Statistics:
    """Mean and unbiased covariance of ``features`` ``[N, D]``, in float64.

    Raises:
        ValueError: if ``features`` is not ``[N, D]``, has fewer than two rows, or NaN or Inf in it.
    """
    if features.ndim != 2:
        raise ValueError(f"Features must be [N, D], not {list(features.shape)}; flatten each sample's.")
    if len(features) < 2:
        raise ValueError(f"A Fréchet distance needs at least 2 samples on each side, not {len(features)}.")
    if not features.isfinite().all():
        raise ValueError("The features have NaN or Inf in them; look for NaN in the images.")
    x = features.detach().cpu().double()
    mean = x.mean(0)
    x = x - mean
    return Statistics(mean, x.T @ x / (len(x) - 1))


def frechet_distance(a: Tensor | Statistics, b: Tensor | Statistics) -> float:
    """The squared Fréchet distance between two sets of features, each taken for a Gaussian.

    |μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁C₂)^½): Heusel et al. 2017, arXiv:1706.08500, eq. (6), in float64. It is
    biased upwards, the more so the fewer samples there are: compare only distances at equal sample counts,
    beside that of reals against reals. Its unit is that of the features, squared.

    Args:
        a, b: features ``[N, D]``, or their :class:`Statistics`; symmetric.

    Raises:
        ValueError: if the widths differ, a side has fewer than 2 samples, or there is NaN or Inf.
    """
    a, b = (s if isinstance(s, Statistics) else feature_statistics(s) for s in (a, b))
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"Features {len(a.mean)} and {len(b.mean)} wide do not compare; take both from one net.")
    # tr (C₁C₂)^½ is the sum of the singular values of C₁^½ C₂^½; so no small root is lost to rounding.
    (l1, v1), (l2, v2) = torch.linalg.eigh(a.cov.double()), torch.linalg.eigh(b.cov.double())
    product = l1.clamp(min=0).sqrt()[:, None] * (v1.T @ v2) * l2.clamp(min=0).sqrt()
    trace = a.cov.trace() + b.cov.trace() - 2 * torch.linalg.svdvals(product).sum()
    return max(0.0, ((a.mean - b.mean).square().sum() + trace).item())


@torch.no_grad()
def extract(net: Callable, images: Tensor, batch_size: int = 500) -> tuple[Tensor, Tensor]:
    """What ``net`` sees in ``images``, a batch at a time, so that memory grows by the features alone.

    Args:
        net: takes uint8 ``[B, C, H, W]``, returns features ``[B, D]`` and logits ``[B, K]``.
        images: uint8 ``[N, C, H, W]``, N ≥ 1.

    Returns:
        features float32 ``[N, D]`` and class probabilities float32 ``[N, K]``, on the CPU.
    """
    seen = [net(batch) for batch in images.split(batch_size)]
    features = torch.cat([f.float().cpu() for f, _ in seen])
    return features, torch.cat([logits.float().softmax(1).cpu() for _, logits in seen])


def generate(generator: Callable[[Tensor], Tensor], n: int, seed: int = 0, batch_size: int = 500) -> Tensor:
    """``n`` images as a PNG would keep them, drawn in eval mode from z ~ N(0, I).

    Args:
        generator: z ``[B, z_dim]`` -> ``[B, C, H, W]`` in [-1, 1], with the attribute ``z_dim``.
        n: how many, ≥ 1; the same ``seed`` draws the same z on every device.

    Returns:
        uint8 ``[n, C, H, W]`` on the CPU.

    Raises:
        ValueError: if there is no ``z_dim``, or the images are not finite or leave [-1, 1].
    """
    if not isinstance(getattr(generator, "z_dim", None), int):
        raise ValueError("The generator has no whole number 'z_dim', so no z can be drawn; set it.")
    z = torch.randn(n, generator.z_dim, generator=runtime.rng(seed))
    where, mode = torch.device("cpu"), torch.no_grad()
    if isinstance(generator, nn.Module):
        where = next((p.device for p in generator.parameters()), where)
        mode = runtime.eval_mode(generator)
    with mode:
        return torch.cat([_as_png(generator(part.to(where))) for part in z.split(batch_size)])


def _as_png(images: Tensor) -> Tensor:
    if images.dtype == torch.uint8:
        return images.cpu()
    if not images.is_floating_point():
        raise ValueError(f"Images must be uint8 or float in [-1, 1], not {images.dtype}.")
    if not images.isfinite().all():
        raise ValueError("There are NaN or Inf in the images; the generator has diverged.")
    if images.abs().amax() > 1.01:
        span = f"{images.amin():.3g} to {images.amax():.3g}"
        raise ValueError(f"The images span {span}, but must lie in [-1, 1]; end the generator in tanh.")
    return to_uint8(images).cpu()


@dataclass(frozen=True)
class DigitScore:
    """A score of generated digits with its protocol; prints as one line.

    Attributes:
        fd: Fréchet distance of the fakes' features to the reals'.
        fd_floor: the same between ``n_floor`` reals and other reals, the mean of 8 random splits; where these
            are fewer than the score's own counts, it lies above the floor at those.
        sure, sure_real: share of fakes and of reals whose likeliest class has p > 0.9.
        histogram: share of the fakes in each of the ten classes.
        n_fake, n_real: images on each side of ``fd``.
        features, seed: the net that saw them; the seed of z and of the choice of reals.
    """

    fd: float
    fd_floor: float
    sure: float
    sure_real: float
    histogram: tuple[float, ...]
    n_fake: int
    n_real: int
    n_floor: tuple[int, int]
    features: str = "digitnet"
    seed: int = 0

    @property
    def smallest_share(self) -> float:
        """Share of the fakes in the rarest class; 0.1 is the most it can be."""
        return min(self.histogram)

    @property
    def covered(self) -> int:
        """Number of classes with at least 1% of the fakes each."""
        return sum(share >= COVERED for share in self.histogram)

    def __str__(self) -> str:
        m, others = self.n_floor
        return (
            f"FD({self.features}) {self.fd:.1f} · floor {self.fd_floor:.2g} ({m:,} v {others:,} real) · "
            f"{self.n_fake:,} samples v {self.n_real:,} real · "
            f"sure of {self.sure:.0%} (real {self.sure_real:.0%}) · "
            f"smallest class {self.smallest_share:.1%} · {self.covered} of {len(self.histogram)} classes"
        )

    @property
    def name(self) -> str:
        """The name of ``fd`` with its protocol: ``fd_digitnet_5k`` for 5,000 samples."""
        n = self.n_fake
        return f"fd_{self.features}_{f'{n // 1000}k' if n and n % 1000 == 0 else n}"

    def numbers(self) -> dict[str, float]:
        """The three that a history keeps; the distance first."""
        return {self.name: self.fd, "sure": self.sure, "smallest_share": self.smallest_share}

    def to_dict(self) -> dict:
        """Everything, ready for JSON; the distance and its floor carry the protocol in their names."""
        rest = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        fd = {self.name: rest.pop("fd"), f"{self.name}_floor": rest.pop("fd_floor")}
        return fd | rest | {"smallest_share": self.smallest_share, "covered": self.covered}


def score_digits(
    fakes: Callable | Tensor | ImageSet, real: Tensor | ImageSet, n: int = 5000, seed: int = 0
) -> DigitScore:
    """Judge generated digits by the features and the confidence of the digit net.

    All that is judged is uint8, as in a PNG, and the net runs on the CPU. The reals are seen once a process.
    The net learned on half of the 5,000 digits of the offline sample, so with that as reals ``sure_real`` is
    a little high.

    Args:
        fakes: a generator as in :func:`generate`, or images ``[N, 1, 28, 28]``, uint8 or float in [-1, 1].
        real: uint8 ``[N, 1, 28, 28]``, N ≥ 4; 10,000 at random of a larger set.
        n: how many fakes to judge, ≥ 2; at most as many as there are.
        seed: of z, and of the choice of reals.

    Returns:
        the score; its floor is that of m reals against the others, m the smaller of ``n`` and half of them.

    Raises:
        ValueError: if images are not grey 28×28 digits, not finite or outside [-1, 1], or too few.
    """
    given, pixels = isinstance(fakes, ImageSet | Tensor), getattr(real, "pixels", real)
    n = min(n, len(fakes)) if given else n
    if n < 2 or len(pixels) < 4:
        raise ValueError(f"A score needs 2 samples and 4 reals or more, not {n} and {len(pixels)}.")
    pictures = _as_png(getattr(fakes, "pixels", fakes)[:n]) if given else generate(fakes, n, seed)
    features, p = extract(digit_net(), pictures)
    reals, statistics, sure_real, floors = _seen(pixels, seed)
    m = min(n, len(reals) // 2)
    if m not in floors:
        g = runtime.rng(seed)
        splits = (reals[torch.randperm(len(reals), generator=g)] for _ in range(FLOOR_SPLITS))
        floors[m] = sum(frechet_distance(x[:m], x[m:]) for x in splits) / FLOOR_SPLITS
    return DigitScore(
        fd=frechet_distance(features, statistics),
        fd_floor=floors[m],
        sure=_share_sure(p),
        sure_real=sure_real,
        histogram=tuple((p.argmax(1).bincount(minlength=p.shape[1]).double() / len(p)).tolist()),
        n_fake=n,
        n_real=len(reals),
        n_floor=(m, len(reals) - m),
        seed=seed,
    )


def _share_sure(p: Tensor) -> float:
    return (p.amax(1) > SURE).double().mean().item()


_SEEN: dict[str, tuple[Tensor, Statistics, float, dict[int, float]]] = {}


def _seen(pixels: Tensor, seed: int) -> tuple[Tensor, Statistics, float, dict[int, float]]:
    """Features of at most MAX_REAL reals in random order, their statistics, share sure, floors so far."""
    order = torch.randperm(len(pixels), generator=runtime.rng(seed))[:MAX_REAL]
    pixels = pixels[order.to(pixels.device)].cpu()
    # By content, not by object: neither a copy nor a tensor written to in place can fool it.
    key = f"{list(pixels.shape)} {hashlib.sha256(pixels.numpy()).hexdigest()}"
    if key not in _SEEN:
        _SEEN.clear()  # one set at a time: who scores on the way scores against the same reals
        features, p = extract(digit_net(), pixels)
        _SEEN[key] = features, feature_statistics(features), _share_sure(p), {}
    return _SEEN[key]
