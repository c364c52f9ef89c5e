"""GANs whose images are points in the plane: two small networks, and the picture that shows all of the game at once.

With two coordinates instead of 784 pixels nothing has to be guessed from samples: both clouds of points, the
discriminator's answer everywhere and the force on every fake fit into one drawing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ganlib._runtime.device import eval_mode
from ganlib.viz.images import DPI, FAKE_COLOR, REAL_COLOR

CELLS = 80  # the surface is computed at so many places along each side
LEVELS = 10  # and drawn in so many bands
LONGEST_ARROW = 0.3  # of half the picture's width


def pushes(fake: Tensor, discriminator: nn.Module, g_loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Where the generator's loss wants each fake to go: minus its gradient with respect to that point, [n, 2].

    Args:
        fake: generated points, [n, 2].
        discriminator: network [n, 2] -> logits [n].
        g_loss: the generator's loss, a mean over the logits [n] of the fakes.

    Returns:
        nats per unit of length, [n, 2]. The mean is undone: a push does not depend on how many fakes there are.

    Raises:
        ValueError: if ``fake`` is not [n, 2] with n at least 1, or the discriminator does not give one logit a point.
    """
    at = _points("fake", fake).clone().requires_grad_(True)
    with torch.enable_grad():
        logits = discriminator(at)
        if logits.shape != (len(at),):
            raise ValueError(
                f"The discriminator gives {list(logits.shape)} for {len(at)} points, but must give one logit each, "
                f"[{len(at)}]; end it with nn.Flatten(0)."
            )
        (gradient,) = torch.autograd.grad(g_loss(logits), at)
    return -len(at) * gradient


def picture(
    real: Tensor,
    fake: Tensor,
    discriminator: nn.Module,
    g_loss: Callable[[Tensor], Tensor],
    *,
    title: str = "",
    extent: float = 3.0,
    size: int = 300,
    arrows: int = 50,
) -> np.ndarray:
    """The whole game in one picture: uint8 ``[H, W, 3]``, a frame for ``film.animation``.

    The ground takes the colour of those whom the discriminator expects there, reals or fakes, and is white where it
    cannot tell; the line is D = 1/2. An arrow shows which way the generator's loss pushes a fake. Its length is
    ``|push| / (1 + |push|)`` of the longest there is: half of it at 1 nat per unit of length.

    Args:
        real, fake: points, [n, 2].
        discriminator: network [n, 2] -> logits [n].
        g_loss: the generator's loss, a mean over the logits [n] of the fakes; it makes the arrows.
        title: a line at the top.
        extent: the picture shows x and y from ``-extent`` to ``extent``.
        size: width and height in pixels.
        arrows: how many of the fakes get an arrow, the first ones.

    Raises:
        ValueError: if points are not [n, 2] or not finite, the discriminator does not give one logit a point or gives
            NaN, or ``extent``, ``size`` or ``arrows`` is out of range.
    """
    for name, value, least in (("size", size, 50), ("arrows", arrows, 0)):
        if int(value) != value or value < least:
            raise ValueError(f"{name} is {value}, but must be a whole number of at least {least}.")
    if not 0 < extent < float("inf"):
        raise ValueError(f"extent is {extent}, but must be above 0: the picture shows -extent to extent.")
    real, fake = _points("real", real).cpu(), _points("fake", fake)
    push = pushes(fake[:arrows], discriminator, g_loss).cpu() if arrows else torch.zeros(0, 2)
    line = torch.linspace(-extent, extent, CELLS)
    places = torch.cartesian_prod(line, line).flip(1)  # row by row: y is slow, x is fast
    with eval_mode(discriminator):
        surface = torch.sigmoid(discriminator(places.to(fake.device)).float()).view(CELLS, CELLS).cpu()
    if not surface.isfinite().all():
        raise ValueError("The discriminator gives NaN: it has diverged; build the players anew, with lower rates.")
    return _drawn(real, fake.cpu(), push, line, surface, title, extent, size)


def _drawn(real, fake, push, line, surface, title, extent, size) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # late, as in viz
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    figure = Figure((size / DPI, size / DPI), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-extent, extent), ylim=(-extent, extent))
    axes.set_axis_off()
    tints = LinearSegmentedColormap.from_list("tints", ["#EDC6DD", "white", "#A5DBCA"])  # of FAKE_ and REAL_COLOR
    axes.contourf(line, line, surface, np.linspace(0, 1, LEVELS + 1), cmap=tints)
    if surface.min() < 0.5 < surface.max():
        axes.contour(line, line, surface, [0.5], colors="0.35", linewidths=0.8)
    axes.scatter(*real.T, s=4, color=REAL_COLOR, linewidths=0)
    axes.scatter(*fake.T, s=8, color=FAKE_COLOR, edgecolors="white", linewidths=0.3)
    if len(push):
        length = push.norm(dim=1, keepdim=True)
        arrow = push / length.clamp(min=1e-12) * length / (1 + length) * LONGEST_ARROW * extent
        style = {"width": 0.006, "headwidth": 3.5, "headlength": 4, "headaxislength": 3.6, "color": "0.15"}
        axes.quiver(*fake[: len(push)].T, *arrow.T, angles="xy", scale_units="xy", scale=1, minlength=0, **style)
    if title:
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
        axes.text(0.02, 0.98, title, transform=axes.transAxes, fontsize=8, va="top", bbox=box)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _points(name: str, points: Tensor) -> Tensor:
    """``points`` detached, or a sentence about what is wrong with them."""
    points = torch.as_tensor(points).detach()
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
        raise ValueError(f"{name} has shape {list(points.shape)}, but must be points of the plane: [n, 2], n >= 1.")
    if not points.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinite points: the network that made them has diverged.")
    return points
