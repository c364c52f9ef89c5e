"""A network as a figure: one box for each map, with its size."""

import math

from torch import nn

from ganlib.models import count_parameters, outputs
from ganlib.viz.display import alt, blank
from ganlib.viz.palette import D_COLOR, G_COLOR

TALL, THICK = 1.6, 1.1  # of a box of 64 × 64 pixels, and of 512 maps
GAP, DEPTH = 0.9, 0.35  # between boxes; the depth of a box, relative to its height


def network(model: nn.Module, input_shape: tuple[int, ...], title: str = ""):
    """A Figure of a model's maps as boxes, from its input, such as ``(100,)``, on.

    A box is as high and deep as its map has rows, and as thick as it has channels (both as square roots, or small ones
    would be points). Above it is its size, below it the layer that made it, with the number of weights in that layer
    and the normalisation after it.
    """
    boxes = [["input", tuple(input_shape), 0]]
    for layer, shape in outputs(model, input_shape):
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            boxes.append([_name(layer), shape, 0])
        boxes[-1][2] += count_parameters(layer)
    if len(boxes) == 1:
        raise ValueError(f"{type(model).__name__} has no convolution and no linear layer, so there is nothing to draw.")
    figure = blank(760, 270)
    axes = figure.add_axes((0, 0, 1, 0.9 if title else 1))
    axes.set_axis_off()
    color, right = G_COLOR if math.prod(boxes[-1][1]) > math.prod(input_shape) else D_COLOR, -GAP
    for name, shape, weights in boxes:
        if right > 0:
            arrow = dict(arrowstyle="->", color="0.5", shrinkA=2, shrinkB=2)
            axes.annotate("", (right + GAP * 0.8, 0), (right + GAP * 0.1, 0), arrowprops=arrow)
        left, (channels, rows) = right + GAP, shape[:2] if len(shape) == 3 else (math.prod(shape), 1)
        right, top = _box(axes, left, TALL * math.sqrt(rows / 64), THICK * math.sqrt(channels / 512), color)
        size = f"{channels} × {rows} × {rows}" if rows > 1 else f"{channels}"
        axes.text((left + right) / 2, top + 0.08, size, ha="center", va="bottom", fontsize=8)
        made = f"{name}\n{weights:,} weights" if weights else name
        axes.text((left + right) / 2, -TALL / 2 - 0.1, made, ha="center", va="top", fontsize=6.5, color="0.35")
    axes.set(xlim=(-0.6, right + 0.6), ylim=(-TALL / 2 - 0.75, TALL / 2 + TALL * DEPTH + 0.3))
    if title:
        figure.text(0.5, 0.97, title, ha="center", va="top", fontsize=10)
    sizes = " → ".join(" × ".join(map(str, shape)) for _, shape, _ in boxes)
    alt(figure, f"{title or type(model).__name__} as boxes, one a layer: {sizes}")
    return figure


def _box(axes, left: float, height: float, thick: float, color: str) -> tuple[float, float]:
    """Draw a box with its front centred on y = 0; return its right and upper ends."""
    low, high, right, back = -height / 2, height / 2, left + thick, DEPTH * height
    faces = {
        0.75: [(left, low), (right, low), (right, high), (left, high)],
        0.45: [(left, high), (right, high), (right + back, high + back), (left + back, high + back)],
        0.95: [(right, low), (right + back, low + back), (right + back, high + back), (right, high)],
    }
    for alpha, corners in faces.items():
        axes.fill(*zip(*corners, strict=True), facecolor=color, alpha=alpha, edgecolor="white", linewidth=0.6)
    return right + back, high + back


def _name(layer: nn.Module) -> str:
    if isinstance(layer, nn.Linear):
        return "linear"
    kind = "transposed" if isinstance(layer, nn.ConvTranspose2d) else "convolution"
    stride = f", stride {layer.stride[0]}" if layer.stride[0] > 1 else ""
    return f"{kind}\n{layer.kernel_size[0]}×{layer.kernel_size[1]}{stride}"
