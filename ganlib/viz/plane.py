"""GANs whose images are points in the plane: the whole game in one picture."""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ganlib._runtime.device import eval_mode
from ganlib.viz.display import blank
from ganlib.viz.palette import D_COLOR, FAKE_GROUND, G_COLOR, REAL_GROUND
from ganlib.viz.palette import points as draw_points

CELLS, LEVELS = 80, 10  # places along each side where the discriminator is evaluated, and bands in which it is drawn
LONGEST_ARROW = 0.3  # relative to half the picture's width


def pushes(fake: Tensor, discriminator: nn.Module, g_loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The push of the generator's loss on each fake [n, 2]: [n, 2].

    It is minus the gradient, in nats per unit of length. ``g_loss`` is a mean over the logits [n], which is undone:
    a push does not depend on the number of fakes. Raises a ValueError for points or logits of another shape.
    """
    at = _points("fake", fake).clone().requires_grad_(True)
    with torch.enable_grad():
        logits = discriminator(at)
        if logits.shape != (len(at),):
            raise ValueError(
                f"The discriminator gives {list(logits.shape)} for {len(at)} points, not one each: add nn.Flatten(0)."
            )
        (gradient,) = torch.autograd.grad(g_loss(logits), at)
    return -len(at) * gradient


def picture(
    real: Tensor, fake: Tensor, discriminator: nn.Module, g_loss: Callable, *, title="", extent=3.0, size=300, arrows=50
) -> np.ndarray:
    """The whole game in one picture: uint8 ``[size, size, 3]``.

    It shows x and y from ``-extent`` to ``extent``. The background shows what the discriminator, [n, 2] -> logits [n],
    expects there, reals or fakes, by colour; the line is D = 1/2. Arrows show how ``g_loss`` pushes the first
    ``arrows`` fakes; their length is ``|push| / (1 + |push|)`` of the longest: half of it at 1 nat per unit of length.
    """
    from matplotlib.colors import LinearSegmentedColormap  # late, as in viz.images

    if size < 50 or arrows < 0 or not 0 < extent < float("inf"):
        raise ValueError(f"size={size}, arrows={arrows}, extent={extent}, but must be at least 50, 0 and above 0.")
    real, fake = _points("real", real).cpu(), _points("fake", fake)
    push = pushes(fake[:arrows], discriminator, g_loss).cpu() if arrows else torch.zeros(0, 2)
    line = torch.linspace(-extent, extent, CELLS)
    places = torch.cartesian_prod(line, line).flip(1)  # row by row: y is slow, x is fast
    with eval_mode(discriminator):
        surface = torch.sigmoid(discriminator(places.to(fake.device)).float()).view(CELLS, CELLS).cpu()
    if not surface.isfinite().all():
        raise ValueError("The discriminator gives NaN: it has diverged; build the players anew, with lower rates.")

    (canvas, axes), fake = _sheet(size), fake.cpu()
    for drawn in [*axes.collections, *axes.texts]:
        drawn.remove()
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent))
    tints = LinearSegmentedColormap.from_list("tints", [FAKE_GROUND, REAL_GROUND])
    axes.contourf(line, line, surface, np.linspace(0, 1, LEVELS + 1), cmap=tints)
    if surface.min() < 0.5 < surface.max():
        axes.contour(line, line, surface, [0.5], colors=D_COLOR, linewidths=1)
    if len(push):
        arrow = push / (1 + push.norm(dim=1, keepdim=True)) * LONGEST_ARROW * extent
        style = {"width": 0.006, "headwidth": 3.5, "headlength": 4, "headaxislength": 3.6, "color": G_COLOR}
        axes.quiver(*fake[: len(push)].T, *arrow.T, angles="xy", scale_units="xy", scale=1, minlength=0, **style)
    draw_points(axes, real, fake, size=(size / 100) ** 2)
    if title:
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
        axes.text(0.02, 0.98, title, transform=axes.transAxes, fontsize=8, va="top", bbox=box)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


@functools.lru_cache(4)
def _sheet(size: int):
    """A canvas of ``size`` pixels and its Axes, used again: building them takes a third of a picture's time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = blank(size, size)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return FigureCanvasAgg(figure), axes


def _points(name: str, points: Tensor) -> Tensor:
    """``points``, detached; a ValueError says what is wrong with them."""
    points = torch.as_tensor(points).detach()
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
        raise ValueError(f"{name} has shape {list(points.shape)}, but must be points of the plane: [n, 2], n >= 1.")
    if not points.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinite points: the network that made them has diverged.")
    return points
