"""Two-dimensional targets a GAN can be watched on: mixtures of Gaussians, curves, points and drawings of one's own.

Every sampler is a pure function ``name(n, rng, ...) -> float32 [n, 2]`` that draws from ``rng`` only, on its
device.
"""

from __future__ import annotations

import math

import torch


def ring_centers(modes: int = 8, radius: float = 2.0) -> torch.Tensor:
    """The means of ``ring``: float32 ``[modes, 2]``, evenly spaced on a circle, the first at ``(radius, 0)``.

    Raises:
        ValueError: if ``modes`` is below 1.
    """
    if modes < 1:
        raise ValueError(f"A ring of {modes} modes has nothing to draw from; use at least 1.")
    angle = torch.arange(modes, dtype=torch.float64) * (2 * math.pi / modes)
    return (radius * torch.stack([angle.cos(), angle.sin()], dim=1)).float()


def grid_centers(side: int = 5, spacing: float = 2.0) -> torch.Tensor:
    """The means of ``grid25``: float32 ``[side * side, 2]``, row by row, centred on the origin.

    Raises:
        ValueError: if ``side`` is below 1.
    """
    if side < 1:
        raise ValueError(f"A grid of side {side} has nothing to draw from; use at least 1.")
    line = (torch.arange(side, dtype=torch.float32) - (side - 1) / 2) * spacing
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def ring(n: int, rng: torch.Generator, modes: int = 8, radius: float = 2.0, std: float = 0.02) -> torch.Tensor:
    """``n`` points of equally likely Gaussians around a circle, float32 ``[n, 2]``.

    The defaults are the eight Gaussians of Metz et al., Unrolled GANs (arXiv:1611.02163, appendix).

    Raises:
        ValueError: if ``n`` or ``std`` is negative, or ``modes`` below 1.
    """
    return _mixture(n, rng, ring_centers(modes, radius), std)


def grid25(n: int, rng: torch.Generator, spacing: float = 2.0, std: float = 0.05) -> torch.Tensor:
    """``n`` points of 25 equally likely Gaussians on a 5 × 5 grid, float32 ``[n, 2]``.

    The defaults are the 2D-grid of Lin et al., PacGAN (arXiv:1712.04086, experiments): means in
    {-4, -2, 0, 2, 4}², variance 0.0025.

    Raises:
        ValueError: if ``n`` or ``std`` is negative.
    """
    return _mixture(n, rng, grid_centers(5, spacing), std)


def spiral(n: int, rng: torch.Generator, turns: float = 2.0, radius: float = 2.0, std: float = 0.05) -> torch.Tensor:
    """``n`` points along an Archimedean spiral from the origin out to ``radius``, float32 ``[n, 2]``.

    The squared radius is uniform, so points lie nearly evenly along the curve; ``std`` is their jitter.

    Raises:
        ValueError: if ``n`` or ``std`` is negative.
    """
    _check(n, std)
    r = torch.rand(n, generator=rng, device=rng.device).sqrt()
    angle = 2 * math.pi * turns * r
    return _jitter(radius * r[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1), rng, std)


def two_moons(n: int, rng: torch.Generator, std: float = 0.1) -> torch.Tensor:
    """``n`` points of two interleaved half circles of radius 1, centred on the origin, float32 ``[n, 2]``.

    The shape is scikit-learn's ``make_moons``, moved so that its centre of symmetry is the origin.

    Raises:
        ValueError: if ``n`` or ``std`` is negative.
    """
    _check(n, std)
    angle = math.pi * torch.rand(n, generator=rng, device=rng.device)
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    is_upper = torch.rand(n, 1, generator=rng, device=rng.device) < 0.5
    return _jitter(torch.where(is_upper, upper, -upper), rng, std)


def points(array, n: int, rng: torch.Generator, std: float = 0.05) -> torch.Tensor:
    """``n`` points drawn from points of one's own, float32 ``[n, 2]``: each a point of ``array`` plus jitter.

    Args:
        array: ``[m, 2]``: a list of pairs, a numpy array or a tensor, m ≥ 1; every point is equally likely.
        n: how many points to draw, with replacement.
        rng: the generator to draw from.
        std: standard deviation of the jitter, in the units of ``array``.

    Raises:
        ValueError: if ``array`` is not ``[m, 2]``, is empty or holds NaN or Inf, or
            ``n`` or ``std`` is negative.
    """
    try:
        chosen = torch.as_tensor(array, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise ValueError("The points must be pairs of numbers, such as [[0, 1], [2, 3]].") from error
    if chosen.ndim != 2 or chosen.shape[1] != 2 or len(chosen) == 0:
        raise ValueError(
            f"The points have shape {list(chosen.shape)}, but must be at least one pair of numbers: [m, 2]."
        )
    if not chosen.isfinite().all():
        raise ValueError("Some of the points are NaN or infinite; leave those out.")
    return _mixture(n, rng, chosen, std)


def drawing(text: str, radius: float = 2.0) -> torch.Tensor:
    """The points of a picture typed as text, float32 ``[m, 2]``, ready for ``points``: one for every character that
    is no white space.

    A line is counted as two columns high, since characters are about twice as tall as wide. The drawing is centred on
    the origin and fills the square from ``-radius`` to ``radius`` in its longer direction.

    Raises:
        ValueError: if ``text`` is no string or has no character to make a point of, or ``radius`` is not above 0.
    """
    if not isinstance(text, str):
        raise ValueError(f"A drawing is a string of several lines, but this is a {type(text).__name__}.")
    if not radius > 0:
        raise ValueError(f"radius is {radius}, but must be above 0: it is half the size of the drawing.")
    lines = text.expandtabs().splitlines()
    dots = [(column, -2.0 * row) for row, line in enumerate(lines) for column, c in enumerate(line) if not c.isspace()]
    if not dots:
        raise ValueError("The drawing is empty; type a '#' wherever there should be a point.")
    where = torch.tensor(dots, dtype=torch.float32)
    low, high = where.min(dim=0).values, where.max(dim=0).values
    size = (high - low).max().clamp(min=1.0)  # a single point has no size
    return (where - (low + high) / 2) * (2 * radius / size)


def modes_covered(samples: torch.Tensor, centers: torch.Tensor, std: float, within: float = 3.0) -> tuple[int, float]:
    """How many modes the samples reach, and the share of samples that are in one: ``(count, share)``.

    A sample is of high quality if it lies within ``within`` standard deviations of its nearest centre; a mode
    is covered if at least one such sample is nearest to it (Srivastava et al., VEEGAN, arXiv:1705.07761,
    experiments on synthetic data; PacGAN, arXiv:1712.04086, follows it). Both papers look at 2,500 samples: a
    single stray hit counts, so compare counts at equal sample size only. The share of a perfect generator is
    not 1 but 1 - exp(-within² / 2), 0.989 at three deviations.

    Args:
        samples: float ``[n, 2]``; NaN and infinite samples are of low quality.
        centers: float ``[modes, 2]``, of ``ring_centers()`` or ``grid_centers()``.
        std: the standard deviation of each mode along each axis, above 0.
        within: the radius of a mode, in standard deviations.

    Raises:
        ValueError: if there are no samples, a shape is not ``[·, 2]`` or ``std`` is not above 0.
    """
    for name, value in (("samples", samples), ("centers", centers)):
        if value.ndim != 2 or value.shape[1] != 2 or len(value) == 0:
            raise ValueError(f"{name} has shape {list(value.shape)}, but must be [n, 2] with n at least 1.")
    if not std > 0:
        raise ValueError(f"std is {std}, but must be above 0: it is the radius of a mode.")
    # In float64 and pair by pair: cdist's shortcut through dot products loses digits that matter at std 0.01.
    gap = samples.detach().double().cpu()[:, None] - centers.detach().double().cpu()
    distance, nearest = gap.norm(dim=2).min(dim=1)
    good = distance <= within * std
    return len(nearest[good].unique()), good.double().mean().item()


def _mixture(n: int, rng: torch.Generator, centers: torch.Tensor, std: float) -> torch.Tensor:
    _check(n, std)
    mode = torch.randint(len(centers), (n,), generator=rng, device=rng.device)
    return _jitter(centers.to(rng.device)[mode], rng, std)


def _jitter(where: torch.Tensor, rng: torch.Generator, std: float) -> torch.Tensor:
    return where + std * torch.randn(where.shape, generator=rng, device=rng.device)


def _check(n: int, std: float) -> None:
    if n < 0:
        raise ValueError(f"Asked for {n} points; ask for 0 or more.")
    if std < 0:
        raise ValueError(f"std is {std}, but a standard deviation is 0 or more.")
