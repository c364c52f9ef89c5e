"""Two-dimensional targets for a GAN: Gaussian mixtures, curves, points, drawings.

A sampler ``name(n, rng, ...)`` returns float32 [n, 2], drawn only from ``rng``, on its device, jittered by ``std``.
"""

import math

import torch
from torch import Generator, Tensor


def ring_centers(modes: int = 8, radius: float = 2.0) -> Tensor:
    """The means of :func:`ring`, float32 [modes, 2]; the first is at (radius, 0)."""
    _check(1, modes=modes)
    angle = torch.arange(modes, dtype=torch.float64) * (2 * math.pi / modes)
    return (radius * _around(angle)).float()


def grid_centers(side: int = 5, spacing: float = 2.0) -> Tensor:
    """The means of :func:`grid25`, float32 [side * side, 2], row by row."""
    _check(1, side=side)
    line = (torch.arange(side, dtype=torch.float32) - (side - 1) / 2) * spacing
    return torch.cartesian_prod(line, line).flip(1)


def ring(n: int, rng: Generator, modes: int = 8, radius: float = 2.0, std: float = 0.02) -> Tensor:
    """Equally likely Gaussians on a circle. Default: Unrolled GANs', arXiv:1611.02163."""
    return points(ring_centers(modes, radius), n, rng, std)


def grid25(n: int, rng: Generator, spacing: float = 2.0, std: float = 0.05) -> Tensor:
    """25 equally likely Gaussians on a grid. Default: PacGAN's, arXiv:1712.04086."""
    return points(grid_centers(5, spacing), n, rng, std)


def spiral(n: int, rng: Generator, turns: float = 2.0, radius: float = 2.0, std: float = 0.05) -> Tensor:
    """An Archimedean spiral out to ``radius``, with points nearly evenly along it."""
    _check(0, n=n, std=std)
    r = torch.rand(n, generator=rng, device=rng.device).sqrt()
    return _jittered(radius * r[:, None] * _around(2 * math.pi * turns * r), rng, std)


def two_moons(n: int, rng: Generator, std: float = 0.1) -> Tensor:
    """Two interleaved half circles: scikit-learn's ``make_moons``, centred."""
    _check(0, n=n, std=std)
    upper = _around(math.pi * torch.rand(n, generator=rng, device=rng.device))
    upper = upper - torch.tensor([0.5, 0.25], device=rng.device)
    is_upper = torch.rand(n, 1, generator=rng, device=rng.device) < 0.5
    return _jittered(torch.where(is_upper, upper, -upper), rng, std)


def points(array, n: int, rng: Generator, std: float = 0.05) -> Tensor:
    """Given points [m, 2], each equally likely, drawn with replacement."""
    _check(0, n=n, std=std)
    array = torch.as_tensor(array, dtype=torch.float32, device=rng.device)
    if array.ndim != 2 or array.shape[1] != 2 or not len(array) or not array.isfinite().all():
        raise ValueError(f"The points, {list(array.shape)}, must be one or more pairs of finite numbers: [m, 2].")
    chosen = torch.randint(len(array), (n,), generator=rng, device=rng.device)
    return _jittered(array[chosen], rng, std)


def drawing(text: str, radius: float = 2.0) -> Tensor:
    """A picture typed as text, [m, 2], for :func:`points`: one point per character.

    It is centred and spans ``-radius`` to ``radius`` in its longer direction; a line is as high as two columns.
    """
    lines = text.expandtabs().splitlines()
    dots = [(column, -2.0 * row) for row, line in enumerate(lines) for column, c in enumerate(line) if not c.isspace()]
    if not dots:
        raise ValueError("The drawing is empty; type a '#' wherever there should be a point.")
    where = torch.tensor(dots, dtype=torch.float32)
    low, high = where.aminmax(dim=0)
    size = (high - low).max().clamp(min=1.0)  # a single point has no size
    return (where - (low + high) / 2) * (2 * radius / size)


def modes_covered(samples: Tensor, centers: Tensor, std: float, within: float = 3.0) -> tuple[int, float]:
    """The modes covered, and the share of samples ``within`` so many std of a mode.

    A mode is covered if one such sample is nearest to it (VEEGAN, arXiv:1705.07761; PacGAN, arXiv:1712.04086; both look
    at 2,500). One stray hit counts, so compare only at equal sample size; the share of a perfect generator is 0.989.
    """
    for name, value in (("samples", samples), ("centers", centers)):
        if value.ndim != 2 or value.shape[1] != 2 or not len(value):
            raise ValueError(f"{name} has shape {list(value.shape)}, but must be [n, 2] with n at least 1.")
    if not std > 0:
        raise ValueError(f"std is {std}, but must be above 0: it is the radius of a mode.")
    # In float64 and pair by pair: cdist's shortcut through dot products loses digits that matter at std 0.01.
    gap = samples.detach().double().cpu()[:, None] - centers.detach().double().cpu()
    distance, nearest = gap.norm(dim=2).min(dim=1)
    good = distance <= within * std  # excludes samples that are NaN or infinite
    return len(nearest[good].unique()), good.double().mean().item()


def _around(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def _jittered(where: Tensor, rng: Generator, std: float) -> Tensor:
    return where + std * torch.randn(where.shape, generator=rng, device=rng.device)


def _check(least: int, **values: float) -> None:
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} is {value}, but must be at least {least}.")
