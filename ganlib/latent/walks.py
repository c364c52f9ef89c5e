"""Latent vectors for any generator: paths, maps, truncation, attribute directions.

z ~ N(0, I) in many dimensions lies close to a sphere: |z| is nearly always about the square root of z_dim.
"""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ganlib._runtime.device import eval_mode
from ganlib._runtime.randomness import rng
from ganlib.data.images import quantised

PARALLEL = 1e-6  # sine of the angle below which two vectors count as being on one line
BATCH = 250  # images per batch
Classifier = Callable[[Tensor], Tensor]  # uint8 [B, C, H, W] on the generator's device -> bool [B]


def lerp(a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    """The line from ``a`` [..., z_dim] at t = 0 to ``b`` at t = 1; ``t`` may be [n]."""
    one, other, t = _exact(a, b, t)
    return ((1 - t) * one + t * other).to(a)


def slerp(a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    """The great circle from ``a`` to ``b``: equal angles for equal t, at full length.

    Between vectors on one line, which define no circle, it is :func:`lerp`. Source: White, arXiv:1609.04468.
    """
    one, other, t = _exact(a, b, t)
    angle = torch.cosine_similarity(one, other, dim=-1).clamp(-1, 1).arccos()[..., None]
    on_a_line = angle.sin() < PARALLEL
    sine = torch.where(on_a_line, 1.0, angle.sin())
    from_one = torch.where(on_a_line, 1 - t, ((1 - t) * angle).sin() / sine)
    from_other = torch.where(on_a_line, t, (t * angle).sin() / sine)
    return (from_one * one + from_other * other).to(a)


def _exact(a: Tensor, b: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two vectors and t [..., 1] in float64; on the CPU, if MPS has them: it has no float64."""
    home = torch.device("cpu") if a.device.type == "mps" else a.device
    t = torch.as_tensor(t.to(home) if isinstance(t, Tensor) else t, dtype=torch.float64, device=home)
    return a.to(home).double(), b.to(home).double(), t[..., None]


def path(points: Tensor, n: int, spherical: bool = True, loop: bool = False) -> Tensor:
    """A walk through ``points`` [k, z_dim], ``n`` steps each: [(k - 1) n + 1, z_dim].

    With ``loop`` it returns to the first point, without repeating it: [k * n, z_dim], a seamless film.
    """
    if points.ndim != 2 or len(points) < 2 or not points.isfinite().all():
        raise ValueError(f"A path leads through 2 or more finite points [k, z_dim], not {list(points.shape)}.")
    _check_least(1, n=n)
    between = slerp if spherical else lerp
    t = torch.arange(n, dtype=torch.float64) / n
    stops = [*points, points[0]] if loop else [*points]
    legs = [between(a, b, t) for a, b in itertools.pairwise(stops)]
    return torch.cat(legs if loop else [*legs, points[-1:]])


def plane(corners: Tensor, rows: int, cols: int, spherical: bool = True) -> Tensor:
    """A map of the space between four points: [rows * cols, z_dim], row by row.

    ``corners`` [4, z_dim] are top left, top right, bottom left and bottom right; the map meets each exactly.
    """
    if corners.ndim != 2 or len(corners) != 4 or not corners.isfinite().all():
        raise ValueError(f"A map has 4 finite corners [4, z_dim], not {list(corners.shape)}.")
    _check_least(2, rows=rows, cols=cols)
    between = slerp if spherical else lerp
    down, across = (torch.linspace(0, 1, n, dtype=torch.float64) for n in (rows, cols))
    left, right = between(corners[0], corners[2], down), between(corners[1], corners[3], down)
    return between(left[:, None], right[:, None], across).flatten(0, 1)


def draw_z(n: int, z_dim: int, seed: int = 0, truncation: float | None = None) -> Tensor:
    """Latent vectors z ~ N(0, I), optionally truncated: [n, z_dim].

    Numbers beyond ±truncation are drawn again. Images become more alike and, with the paper's large networks, better
    (Brock et al. 2018, arXiv:1809.11096, section 3.1); those of a small DCGAN turn pale.
    """
    _check_least(1, n=n, z_dim=z_dim)
    if truncation is not None and not truncation > 0:
        raise ValueError(f"truncation is {truncation}, but must be above 0, such as 0.7; None leaves z as it is.")
    source = rng(seed)
    z = torch.randn(n, z_dim, generator=source)
    if truncation is None:
        return z
    beyond = z.abs() > truncation
    # By the inverse of the distribution function: one draw each; rejection would take many for a small limit.
    low = math.erfc(truncation / math.sqrt(2)) / 2
    u = torch.rand(int(beyond.sum()), generator=source, dtype=torch.float64)
    z[beyond] = torch.special.ndtri(low + u * (1 - 2 * low)).clamp(-truncation, truncation).float()
    return z


def direction(z_with: Tensor, z_without: Tensor) -> Tensor:
    """The mean latent vector with an attribute minus that without it: [z_dim].

    Adding it to a z is vector arithmetic: ``z_man.mean(0) + direction(z_smiling_woman, z_woman)`` is *smiling woman -
    woman + man*, from three z of each: a single one is too noisy. Source: DCGAN, arXiv:1511.06434, section 6.3.2.
    """
    (m, *width), (n, *same) = z_without.shape, z_with.shape
    if z_with.ndim != 2 or width != same or not m or not n:
        shapes = f"{list(z_without.shape)} to {list(z_with.shape)}"
        raise ValueError(f"A direction leads from z [m, z_dim] to z [n, z_dim], none of them 0, not from {shapes}.")
    return z_with.mean(0) - z_without.mean(0)


def readings(generator: nn.Module, z: Tensor, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply ``measure``, of uint8 [B, C, H, W], to the images of z: [n, ...], on CPU."""
    where = next(generator.parameters()).device
    with eval_mode(generator):
        return torch.cat([measure(quantised(generator(part.to(where)))).cpu() for part in z.split(BATCH)])


def answers(generator: nn.Module, z: Tensor, classify: Classifier) -> Tensor:
    """Classify the images of latent vectors [n, z_dim]: bool [n], on the CPU."""
    return readings(generator, z, classify).bool()


def flips(generator: nn.Module, z: Tensor, along: Tensor, classify: Classifier, strength: float = 1.0) -> float:
    """The share of images that change class when z moves ``strength * along``.

    If an image has the attribute, z moves against the direction. ``z`` [n, z_dim] should not be those that the
    direction was made from; a negative strength goes the wrong way.
    """
    has = answers(generator, z, classify)
    if has.all() or not has.any():
        share = "All" if has.all() else "None"
        raise ValueError(f"{share} of the {len(z):,} images have the attribute: draw more, or take another attribute.")
    there = answers(generator, z + strength * along * (1 - 2 * has.to(z))[:, None], classify)
    return (there != has).double().mean().item()


def _check_least(least: int, **counts: int) -> None:
    for name, value in counts.items():
        if value < least:
            raise ValueError(f"{name} is {value}, but must be at least {least}.")
