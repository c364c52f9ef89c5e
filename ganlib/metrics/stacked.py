"""Stacked digits: pictures of three digits, one in each colour channel, whose 1,000 modes can be counted.

Metz et al. 2016, arXiv:1611.02163, section 3.3.1; counts as in Srivastava et al. 2017, arXiv:1705.07761.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ganlib._runtime.randomness import rng
from ganlib.data.images import ImageSet
from ganlib.metrics.features import Images, available, extract_batch, fake_batches
from ganlib.metrics.nets import digit_net
from ganlib.metrics.scores import Numbers, in_short

MODES = 1000
PLACES = torch.tensor([100, 10, 1])  # a picture is of the mode 100 red + 10 green + blue


def stack(digits: ImageSet, n: int, seed: int = 0) -> ImageSet:
    """``n`` colour pictures [n, 3, H, W] of three random digits each: red hundreds, green tens, blue ones."""
    if n < 1:
        raise ValueError(f"Asked for {n} stacked pictures; ask for at least 1.")
    if digits.channels != 1 or digits.labels is None:
        raise ValueError(f"Stacking takes grey digits with labels, and '{digits.name}' is none such; load('mnist') is.")
    rows = torch.randint(len(digits), (n, 3), generator=rng(seed))
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
    """How many modes occur in ``n`` samples, their KL divergence from even shares (0 at best); both of even draws."""

    modes: int
    kl: float
    modes_floor: int
    kl_floor: float
    n: int
    seed: int = 0

    def __str__(self) -> str:
        return (
            f"{self.modes:,} of {MODES:,} modes (even draws: {self.modes_floor:,}) · KL {self.kl:.2f} "
            f"(even draws: {self.kl_floor:.2f}) · {self.n:,} samples read by the digit net · seed {self.seed}"
        )

    def numbers(self) -> Numbers:
        """The modes, of which the most are best, and the divergence."""
        name = f"modes_digitnet_{in_short(self.n)}"
        return Numbers({name: self.modes, "kl": self.kl}, (name, "highest"))


def stacked_modes(fakes: Images, n: int = 10_000, seed: int = 0) -> StackedScore:
    """Read each channel of ``n`` fakes [n, 3, 28, 28] with the digit net and count the three-digit numbers.

    The net reads a digit in anything, so the count flatters a generator of noise; look at the samples, too.
    """
    n = available(fakes, n)
    counts = torch.zeros(MODES, dtype=torch.int64)
    for batch in fake_batches(fakes, n, seed):
        if batch.shape[1] != 3:
            raise ValueError(f"Stacked digits have 3 channels, but these images have {batch.shape[1]}.")
        digits = extract_batch(digit_net(), batch.flatten(0, 1)[:, None])[1].argmax(1).view(-1, 3)
        counts += (digits * PLACES).sum(1).bincount(minlength=MODES)
    even = torch.randint(MODES, (n,), generator=rng(seed)).bincount(minlength=MODES)
    return StackedScore(int((counts > 0).sum()), _kl(counts), int((even > 0).sum()), _kl(even), n, seed)


def _kl(counts: Tensor) -> float:
    p = counts[counts > 0].double() / counts.sum()
    return (p * (p * MODES).log()).sum().item()
