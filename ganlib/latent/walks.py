"""Walking the latent space of any generator: between points, on even ground, near the middle, along an attribute.

z ~ N(0, I) in many dimensions is nearly a sphere: |z| is close to the root of z_dim, and hardly ever anything else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganlib._runtime.device import eval_mode, rng
from ganlib.data.images import to_uint8

PARALLEL = 1e-6  # sine of an angle below which two vectors lie on one line
BATCH = 250  # images at a time

# uint8 [B, C, H, W] -> bool [B]: which of the images have an attribute
Classifier = Callable[[Tensor], Tensor]


def lerp(a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    """The straight line from ``a`` at t = 0 to ``b`` at t = 1. Half way it is nearer to the origin than most z are.

    Args:
        a, b: [..., z_dim].
        t: a number, or [n] for n points.

    Returns:
        [..., z_dim]; of two single points [n, z_dim].
    """
    t = torch.as_tensor(t, dtype=torch.float64, device=a.device)[..., None]
    return ((1 - t) * a.double() + t * b.double()).to(a.dtype)


def slerp(a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    """The great circle from ``a`` at t = 0 to ``b`` at t = 1: equal angles for equal t, and no dip in the length.

    Vectors on one line have no circle of their own: between them it is :func:`lerp`, also where they are opposite and
    it leads through the origin.

    Args:
        a, b: [..., z_dim].
        t: a number, or [n] for n points.

    Returns:
        [..., z_dim]; of two single points [n, z_dim].

    Source: White 2016, arXiv:1609.04468, section 2.1, after Shoemake 1985, doi:10.1145/325334.325242.
    """
    one, other = a.double(), b.double()
    t = torch.as_tensor(t, dtype=torch.float64, device=a.device)[..., None]
    angle = torch.cosine_similarity(one, other, dim=-1).clamp(-1, 1).arccos()[..., None]
    sine = angle.sin()
    on_a_line = sine < PARALLEL
    safe = torch.where(on_a_line, 1.0, sine)
    from_one = torch.where(on_a_line, 1 - t, ((1 - t) * angle).sin() / safe)
    from_other = torch.where(on_a_line, t, (t * angle).sin() / safe)
    return (from_one * one + from_other * other).to(a.dtype)


def path(points: Tensor, n: int, spherical: bool = True, loop: bool = False) -> Tensor:
    """A walk through several points, for a film or a row of images.

    Args:
        points: [k, z_dim], k at least 2; the walk meets each exactly.
        n: latent vectors from one point to the next, that one not counted.
        spherical: by :func:`slerp` from point to point, else by :func:`lerp`.
        loop: back to the first point at the end, which is not repeated: a film of it has no seam.

    Returns:
        [(k - 1) * n + 1, z_dim], and with ``loop`` [k * n, z_dim].

    Raises:
        ValueError: if there are not two points, one is not finite, or ``n`` is below 1.
    """
    if points.ndim != 2 or len(points) < 2 or not points.isfinite().all():
        raise ValueError(
            f"A path leads through 2 or more points, finite and [k, z_dim], but these are {list(points.shape)}."
        )
    if n < 1:
        raise ValueError(f"n is {n}, but at least 1 latent vector leads from one point to the next.")
    between = slerp if spherical else lerp
    t = torch.arange(n, dtype=torch.float64, device=points.device) / n
    stops = [*points, points[0]] if loop else [*points]
    walk = [between(a, b, t) for a, b in itertools.pairwise(stops)]
    return torch.cat(walk if loop else [*walk, points[-1:]])


def plane(corners: Tensor, rows: int, cols: int, spherical: bool = True) -> Tensor:
    """A map of what lies between four points, of however many numbers, to be shown as a grid of images.

    The left and the right edge are walked from the top to the bottom, then each row from the left to the right.

    Args:
        corners: [4, z_dim]: top left, top right, bottom left, bottom right. The map meets each exactly.
        rows, cols: of the map, 2 or more each.
        spherical: by :func:`slerp`, so that corners of one length have only latent vectors of that length between
            them, else by :func:`lerp`.

    Returns:
        [rows * cols, z_dim], row by row as on a page.

    Raises:
        ValueError: if there are not four corners, one is not finite, or ``rows`` or ``cols`` is below 2.
    """
    if corners.ndim != 2 or len(corners) != 4 or not corners.isfinite().all():
        raise ValueError(f"A map has 4 corners, finite and [4, z_dim], but these are {list(corners.shape)}.")
    for name, value in (("rows", rows), ("cols", cols)):
        if value < 2:
            raise ValueError(f"{name} is {value}, but a map reaches from corner to corner: at least 2.")
    between = slerp if spherical else lerp
    down, across = (torch.linspace(0, 1, n, dtype=torch.float64, device=corners.device) for n in (rows, cols))
    left, right = between(corners[0], corners[2], down), between(corners[1], corners[3], down)
    return between(left[:, None], right[:, None], across).flatten(0, 1)


def draw_z(n: int, z_dim: int, seed: int = 0, truncation: float | None = None) -> Tensor:
    """Latent vectors z ~ N(0, I), if asked for without what lies far out: [n, z_dim].

    Numbers beyond ±truncation are drawn again from what lies within; the others stay what they are for this seed.
    Images become more alike, and with the paper's large networks better. Those of a small DCGAN turn pale: in many
    dimensions it has hardly ever seen a short z.

    Args:
        n, z_dim: how many, and their size.
        seed: of the draws.
        truncation: the largest size of a number, above 0; None for the whole normal distribution.

    Raises:
        ValueError: if ``n`` or ``z_dim`` is below 1, or ``truncation`` is not above 0.

    Source: Brock et al. 2018, arXiv:1809.11096, section 3.1.
    """
    _check_count(n=n, z_dim=z_dim)
    if truncation is not None and not truncation > 0:
        raise ValueError(f"truncation is {truncation}, but must be above 0, such as 0.7; None leaves z whole.")
    draw = rng(seed)
    z = torch.randn(n, z_dim, generator=draw)
    if truncation is None:
        return z
    beyond = z.abs() > truncation
    # By the inverse of the distribution function: one draw each, where throwing away would take many for a small limit.
    low = math.erfc(truncation / math.sqrt(2)) / 2
    u = torch.rand(int(beyond.sum()), generator=draw, dtype=torch.float64)
    z[beyond] = torch.special.ndtri(low + u * (1 - 2 * low)).clamp(-truncation, truncation).float()
    return z


def even_z(n: int, z_dim: int = 2, seed: int = 0) -> Tensor:
    """Latent vectors that share out N(0, I) evenly, where random ones come in heaps and leave holes: [n, z_dim].

    The points are even in [0, 1]^z_dim, and the inverse of the normal distribution function spreads them.

    Args:
        n: how many; for ``z_dim`` 2 a square number.
        z_dim: their size. With 2 it is a map, row by row as on a page: the first number of z grows to the right, the
            second upwards, and each z stands for 1/n of what is drawn. With any other they are scrambled Sobol points.
        seed: of the scrambling; the map has none.

    Raises:
        ValueError: if ``n`` or ``z_dim`` is below 1, or no square number where it must be one.

    Source: Sobol 1967, doi:10.1016/0041-5553(67)90144-9; ``torch.quasirandom.SobolEngine``.
    """
    _check_count(n=n, z_dim=z_dim)
    if z_dim != 2:
        points = torch.quasirandom.SobolEngine(z_dim, scramble=True, seed=seed).draw(n, dtype=torch.float64)
        return torch.special.ndtri(points + 2.0**-31).float()  # they have 30 bits: none is 0 or 1 then
    side = math.isqrt(n)
    if side**2 != n:
        raise ValueError(f"n is {n}, but a map is a square: take {side**2} or {(side + 1) ** 2}.")
    even = torch.special.ndtri((torch.arange(side, dtype=torch.float64) + 0.5) / side).float()
    return torch.cartesian_prod(-even, even).flip(1)


def direction(z_with: Tensor, z_without: Tensor) -> Tensor:
    """From the mean of the latent vectors without an attribute to that of those with it: [z_dim].

    Added to a z it is vector arithmetic: ``z_man.mean(0) + direction(z_smiling_woman, z_woman)`` is *smiling woman -
    woman + man* as in the DCGAN paper, which averages three z for each: a single z is too noisy.

    Args:
        z_with, z_without: [n, z_dim] and [m, z_dim], at least one each.

    Raises:
        ValueError: if one is empty, or they differ in size.

    Source: Radford et al. 2015, arXiv:1511.06434, section 6.3.2.
    """
    if z_with.ndim != 2 or z_without.ndim != 2 or z_with.shape[1:] != z_without.shape[1:]:
        raise ValueError(
            "A direction leads from latent vectors [m, z_dim] to others [n, z_dim], but they are "
            f"{list(z_without.shape)} and {list(z_with.shape)}."
        )
    if not len(z_with) or not len(z_without):
        raise ValueError("A direction needs latent vectors with the attribute and without it; draw more of them.")
    return z_with.mean(0) - z_without.mean(0)


def readings(generator: nn.Module, z: Tensor, read: Callable[[Tensor], Tensor]) -> Tensor:
    """What is measured in the images of latent vectors: [n, ...], on the CPU.

    Args:
        generator: network [B, z_dim] -> [B, C, H, W] in [-1, 1]; it is asked in eval mode.
        z: [n, z_dim].
        read: uint8 [B, C, H, W] on the generator's device -> [B, ...], such as a number for each attribute.
    """
    where = next(generator.parameters()).device
    with eval_mode(generator):
        return torch.cat([read(to_uint8(generator(part.to(where)))).cpu() for part in z.split(BATCH)])


def answers(generator: nn.Module, z: Tensor, classify: Classifier) -> Tensor:
    """What a classifier says of the images of latent vectors: bool [n], on the CPU.

    Args:
        generator, z: as in :func:`readings`.
        classify: uint8 [B, C, H, W] on the generator's device -> bool [B].
    """
    return readings(generator, z, classify).bool()


@dataclass(frozen=True)
class Flips:
    """How often a classifier changes its mind along a direction; prints as one line.

    Attributes:
        gained: share of the images without the attribute that have it one step along the direction.
        lost: share of those with it that have it no longer one step the other way.
        without, having: how many images that is of.
    """

    gained: float
    lost: float
    without: int
    having: int

    @property
    def rate(self) -> float:
        """Share of all the images whose answer flips."""
        return (self.gained * self.without + self.lost * self.having) / (self.without + self.having)

    def __str__(self) -> str:
        return (
            f"{self.rate:.0%} of the answers flip: {self.gained:.0%} of {self.without:,} without it gain it, "
            f"{self.lost:.0%} of {self.having:,} with it lose it"
        )


def flips(generator: nn.Module, z: Tensor, along: Tensor, classify: Classifier, strength: float = 1.0) -> Flips:
    """Walk from each z along a direction if its image lacks the attribute, against it if not, and ask again.

    ``z`` should not be those that the direction was made of.

    Args:
        generator, classify: as in :func:`answers`.
        z: [n, z_dim].
        along: [z_dim], such as of :func:`direction`.
        strength: the length of the walk, in lengths of ``along``; a negative one goes the wrong way.

    Raises:
        ValueError: if all images have the attribute, or none.
    """
    has = answers(generator, z, classify)
    if has.all() or not has.any():
        raise ValueError(
            f"{'All' if has.all() else 'None'} of the {len(z):,} images have the attribute, so there is nothing to "
            "compare; draw more, or take another attribute."
        )
    gained = answers(generator, z[~has] + strength * along, classify).double().mean().item()
    kept = answers(generator, z[has] - strength * along, classify).double().mean().item()
    return Flips(gained, 1 - kept, int((~has).sum()), int(has.sum()))


def _check_count(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is {value}, but must be at least 1.")
