"""Stacked digits: pictures of three digits, one in each colour channel, whose 1,000 modes can be counted."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ganlib._runtime import device as runtime
from ganlib.data.images import ImageSet
from ganlib.metrics.features import Images, draw, is_given, look
from ganlib.metrics.nets import digit_net
from ganlib.metrics.protocol import short

MODES = 1000
PLACES = torch.tensor([100, 10, 1])  # a picture is of the mode 100 red + 10 green + blue


def stack(digits: ImageSet, n: int, seed: int = 0) -> ImageSet:
    """``n`` colour pictures of three random digits each: red hundreds, green tens, blue ones.

    Args:
        digits: grey pictures with labels 0 to 9, uint8 ``[N, 1, H, W]``.
        n: how many to make, at least 1.
        seed: of the choice.

    Returns:
        image set with pixels uint8 ``[n, 3, H, W]`` and labels 0 to 999.

    Raises:
        ValueError: if ``n`` is below 1, the digits are not grey, or they have no labels.

    Source: Metz et al. 2016, Unrolled GANs, arXiv:1611.02163, section 3.3.1.
    """
    if n < 1:
        raise ValueError(f"Asked for {n} stacked pictures; ask for at least 1.")
    if digits.channels != 1 or digits.labels is None:
        raise ValueError(
            f"Stacking takes grey digits with labels, but '{digits.name}' has {digits.channels} channels and "
            f"{'no ' if digits.labels is None else ''}labels; load('mnist') has what it takes."
        )
    rows = torch.randint(len(digits), (n, 3), generator=runtime.rng(seed))
    return ImageSet(
        pixels=digits.pixels[rows].squeeze(2),
        labels=(digits.labels[rows] * PLACES).sum(1),
        classes=tuple(f"{k:03d}" for k in range(MODES)),
        name=f"stacked {digits.name}",
        source=f"{n:,} stacks of three of {digits.source}",
        split=digits.split,
    )


@dataclass(frozen=True)
class StackedScore:
    """How many of the 1,000 modes were drawn, and how evenly; prints as one line.

    Attributes:
        modes: modes with at least one sample.
        kl: KL divergence of the samples' modes from even shares, nats; 0 is best.
        modes_floor, kl_floor: what as many even draws over the 1,000 modes give.
        n: samples judged.
        seed: of z.
    """

    modes: int
    kl: float
    modes_floor: int
    kl_floor: float
    n: int
    seed: int = 0

    @property
    def name(self) -> str:
        """The name of ``modes`` with its protocol: ``modes_digitnet_10k``."""
        return f"modes_digitnet_{short(self.n)}"

    def __str__(self) -> str:
        return (
            f"{self.modes:,} of {MODES:,} modes (even draws: {self.modes_floor:,}) · KL {self.kl:.2f} "
            f"(even draws: {self.kl_floor:.2f}) · {self.n:,} samples read by the digit net · seed {self.seed}"
        )

    def numbers(self) -> dict[str, float]:
        """What a history keeps."""
        return {self.name: self.modes, "kl": self.kl}

    def to_dict(self) -> dict:
        """Everything, ready for JSON."""
        return asdict(self)


def stacked_modes(fakes: Images, n: int = 10_000, seed: int = 0) -> StackedScore:
    """Read each channel of ``n`` samples with the digit net and count the three-digit numbers that occur.

    A sample counts whatever it looks like: the net reads a digit in anything, so the count flatters a generator of
    noise; look at the samples, too.

    Args:
        fakes: a generator of ``[B, 3, 28, 28]``, or images, as in :func:`ganlib.metrics.features.draw`.
        n: how many to judge; at most as many as there are.
        seed: of z, and of the draws that the floor is taken of.

    Raises:
        ValueError: if the images are not of three channels and 28×28, not finite or outside [-1, 1].

    Source: Metz et al. 2016, arXiv:1611.02163, section 3.3.1; counts as in Srivastava et al. 2017, arXiv:1705.07761.
    """
    n = min(n, len(fakes)) if is_given(fakes) else n
    counts = torch.zeros(MODES, dtype=torch.int64)
    for batch in draw(fakes, n, seed):
        if batch.shape[1] != 3:
            raise ValueError(f"Stacked digits have 3 channels, but these images have {batch.shape[1]}.")
        digits = look(digit_net(), batch.flatten(0, 1)[:, None])[1].argmax(1).view(-1, 3)
        counts += (digits * PLACES).sum(1).bincount(minlength=MODES)
    even = torch.randint(MODES, (n,), generator=runtime.rng(seed)).bincount(minlength=MODES)
    return StackedScore(int((counts > 0).sum()), _kl(counts), int((even > 0).sum()), _kl(even), n, seed)


def _kl(counts: Tensor) -> float:
    p = counts[counts > 0].double() / counts.sum()
    return (p * (p * MODES).log()).sum().item()
