"""Scores of generated digits: a Fréchet distance with its floor, and which digits there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from torch import Tensor

from ganlib.data.images import ImageSet
from ganlib.metrics.distances import frechet_distance
from ganlib.metrics.features import draw, extract, is_given
from ganlib.metrics.nets import digit_net
from ganlib.metrics.protocol import short
from ganlib.metrics.reference import floors, look_at_reals

SURE = 0.9  # a net is sure of a picture whose likeliest class has a probability above this
COVERED = 0.01  # a class is covered if at least this share of the samples falls in it


@dataclass(frozen=True)
class DigitScore:
    """A score of generated digits with its protocol; prints as one line.

    Attributes:
        fd: Fréchet distance of the fakes' features to the reals'.
        fd_floor: the same between ``n_floor`` reals and other reals: as many as ``fd`` compares where there are
            enough, else the mean of 8 random splits, which lies above the floor at the score's own counts.
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
        return f"fd_{self.features}_{short(self.n_fake)}"

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

    All that is judged is uint8, as in a PNG, and the net runs on the CPU. The net learned on half of the 5,000
    digits of the offline sample, so with that as reals ``sure_real`` is a little high.

    Args:
        fakes: a generator, drawn from in eval mode, or images ``[N, 1, 28, 28]``: see :func:`.features.draw`.
        real: uint8 ``[N, 1, 28, 28]``; 10,000 at random of a larger set.
        n: how many fakes to judge, ≥ 64; at most as many as there are.
        seed: of z, and of the choice of reals.

    Returns:
        the score; ``sure`` and ``histogram`` are of the first 10,000 fakes.

    Raises:
        ValueError: if images are not grey 28×28 digits, not finite or outside [-1, 1], or too few.
    """
    pixels = getattr(real, "pixels", real)
    n = min(n, len(fakes)) if is_given(fakes) else n
    if n < 2 or len(pixels) < 4:
        raise ValueError(f"A score needs 2 samples and 4 reals or more, not {n} and {len(pixels)}.")
    net = digit_net()
    seen = extract(net, draw(fakes, n, seed))
    reference = look_at_reals(net, pixels, n, seed)
    p = seen.logits.softmax(1)
    return DigitScore(
        fd=frechet_distance(seen.statistics, reference.real.statistics),
        fd_floor=floors(reference, ("fd",), seed)["fd"],
        sure=_share_sure(p),
        sure_real=_share_sure(reference.real.logits.softmax(1)),
        histogram=tuple((p.argmax(1).bincount(minlength=p.shape[1]).double() / len(p)).tolist()),
        n_fake=n,
        n_real=reference.real.n,
        n_floor=reference.n_floor,
        seed=seed,
    )


def _share_sure(p: Tensor) -> float:
    return (p.amax(1) > SURE).double().mean().item()
