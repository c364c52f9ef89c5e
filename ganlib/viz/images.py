"""Pictures of a run: grids, loss curves, samples over time, and films that move inside a notebook.

Images are uint8 or float in [-1, 1], tensor or array, ``[N, C, H, W]`` with C = 1 (grey) or 3 (colour). No
figure is registered with pyplot: a notebook shows it once, where a cell ends with it, and none is left open.
"""

from __future__ import annotations

import base64
import functools
import io
import itertools
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ganlib.data.loading import to_uint8

# One colour a player and a kind of point, the same in every figure: Okabe and Ito's colour-blind-safe set.
D_COLOR, G_COLOR = "#0072B2", "#D55E00"
REAL_COLOR, FAKE_COLOR = "#009E73", "#CC79A7"
OTHER_COLORS = ("#56B4E9", "#E69F00", "#000000")

DPI = 100  # of every figure: so one pixel of an image is one pixel of the page
PHOTOGRAPH = 50_000  # bytes: a figure in colour that is larger as a PNG is a photograph, or many


def grid(images, cols: int | None = None, pad: int = 2, scale: int = 1) -> np.ndarray:
    """The images side by side on white: uint8 ``[H, W, C]``.

    Image ``k`` starts at row ``scale * (pad + (k // cols) * (h + pad))``, and likewise for columns.

    Args:
        images: uint8 or float in [-1, 1], ``[N, C, h, w]``, C = 1 or 3.
        cols: images a row; None makes the grid square or nearly so.
        pad: white pixels around each image; 0 for a map without seams.
        scale: whole number; every pixel becomes ``scale`` × ``scale`` pixels.

    Raises:
        ValueError: if the shape, type or range is wrong, there is no image, one holds NaN or Inf, or
            ``cols``, ``pad`` or ``scale`` makes no grid.
    """
    pixels = _pixels(images)
    n, channels, height, width = pixels.shape
    cols = math.ceil(math.sqrt(n)) if cols is None else cols
    for name, value, least in (("cols", cols, 1), ("pad", pad, 0), ("scale", scale, 1)):
        if int(value) != value or value < least:
            raise ValueError(f"{name} is {value}, but must be a whole number of at least {least}.")
    rows = math.ceil(n / cols)
    sheet = np.full((pad + rows * (height + pad), pad + cols * (width + pad), channels), 255, np.uint8)
    for k, image in enumerate(pixels):
        y, x = pad + k // cols * (height + pad), pad + k % cols * (width + pad)
        sheet[y : y + height, x : x + width] = image.transpose(1, 2, 0)
    return sheet.repeat(scale, axis=0).repeat(scale, axis=1)


def show(images, title: str | None = None, cols: int | None = None, pad: int = 2, scale: int | None = None):
    """The grid of ``images`` as a matplotlib Figure, each of its pixels ``scale`` × ``scale`` screen pixels.

    Args:
        images, cols, pad: as in ``grid``.
        title: a line above the images.
        scale: whole number; None takes the largest up to 4 that keeps the grid within 640 pixels.

    Raises:
        ValueError: as ``grid``.
    """
    if scale is None:
        scale = max(1, min(4, 640 // grid(images, cols, pad).shape[1]))
    sheet = grid(images, cols, pad, scale)
    # A narrow grid gets a page wide enough for its title.
    figure, tall = _page(sheet, head=28 if title else 0, width=max(sheet.shape[1], 9 * len(title or "")))
    if title:
        figure.text(0.003, 1 - 8 / tall, title, ha="left", va="top", fontsize=10)
    return figure


def save_png(images, path: str | os.PathLike, cols: int | None = None, pad: int = 2, scale: int = 1) -> Path:
    """Write images as one PNG, losslessly, and return its path. An older file of that name is replaced.

    Args:
        images: ``[N, C, h, w]`` as in ``grid``, or a finished picture, uint8 ``[H, W, C]`` with C = 1 or 3.
        path: where to; folders that are missing are made.
        cols, pad, scale: as in ``grid``; a finished picture takes ``scale`` alone.

    Raises:
        ValueError: as ``grid``.
        OSError: if the file cannot be written.
    """
    buffer = io.BytesIO()
    picture = as_picture(images, cols, pad, scale)
    Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(buffer, "PNG", optimize=True)
    return write(path, buffer.getvalue())


def strip(history, n: int = 8, columns: int | Sequence[int] = 8):
    """Samples over time as a Figure: a row for each of a few fixed z, a column for each snapshot.

    Columns are named by epoch where the history has ``steps_per_epoch`` and all fall on one, else by step.

    Args:
        history: what ``fit`` returned, or its list of ``(step, images [N, C, H, W])``.
        n: rows: the first ``n`` images of every snapshot.
        columns: how many snapshots, spread evenly over the run, or the steps whose snapshots to show.

    Raises:
        ValueError: if there are no snapshots or none of a step asked for, or ``n`` or ``columns`` is below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}, but a strip has at least 1 row.")
    chosen = spread(history, columns if isinstance(columns, int) else None)
    if not isinstance(columns, int):
        taken = dict(chosen)
        for step in columns:
            if step not in taken:
                raise ValueError(f"There is no snapshot of step {step}; there are: {', '.join(map(str, taken))}.")
        chosen = [(step, taken[step]) for step in columns]
    epoch = getattr(history, "steps_per_epoch", None)
    in_epochs = epoch and all(step % epoch == 0 for step, _ in chosen)
    names = [f"epoch {step / epoch:.0f}" if in_epochs else f"step {step}" for step, _ in chosen]

    batches = [_pixels(images)[:n] for _, images in chosen]
    cells = np.stack(batches, axis=1).reshape(-1, *batches[0].shape[1:])  # [rows * columns, C, H, W]
    width, pad = cells.shape[-1], 2
    scale = math.ceil(6.5 * max(map(len, names)) / width)  # columns wide enough for their names
    sheet = grid(cells, len(chosen), pad, scale)
    figure, tall = _page(sheet, head=20)
    for k, name in enumerate(names):
        middle = scale * (pad + k * (width + pad) + width / 2) / sheet.shape[1]
        figure.text(middle, 1 - 4 / tall, name, ha="center", va="top", fontsize=8)
    return figure


def curves(
    history,
    equilibrium: dict[str, float] | None = None,
    score: str | None = None,
    smooth: int | None = None,
    title: str | None = None,
):
    """The losses of each step, and under them a score if one was measured, as a Figure.

    Each loss is drawn twice: as it was (faint), and as the mean of the ``smooth`` steps around each step.

    Args:
        history: has ``losses``, {name: one value a step}, ``scores``, [(step, {name: value})], and
            ``steps_per_epoch``.
        equilibrium: loss name to its value at the equilibrium, a dashed line. In the non-saturating game
            D = 1/2 there, so d_loss = 2 log 2 = 1.386 and g_loss = log 2 = 0.693 (from Goodfellow et al.,
            arXiv:1406.2661, section 4.1).
        score: which score; None takes the first there is.
        smooth: steps to average over; None takes a fiftieth of the run.
        title: a line above.

    Raises:
        ValueError: if no step was recorded, ``smooth`` is below 1 or ``score`` was not measured.
    """
    losses = {name: np.asarray(values, dtype=float) for name, values in history.losses.items() if len(values)}
    if not losses:
        raise ValueError("The history holds no losses yet; train for at least one step.")
    smooth = max(1, max(map(len, losses.values())) // 50) if smooth is None else smooth
    if smooth < 1:
        raise ValueError(f"smooth is {smooth}, but at least 1 step is averaged.")
    names = list(dict.fromkeys(name for _, values in history.scores for name in values))
    if score is not None and score not in names:
        raise ValueError(f"There is no score '{score}'; measured were: {', '.join(names) or 'none'}.")

    figure, axes = panels(2 if names else 1)
    _draw_losses(axes[0], losses, equilibrium or {}, smooth, getattr(history, "first_step", 0))
    if names:
        _draw_score(axes[1], history.scores, score or names[0])
    axes[-1].set_xlabel("step (one generator update)")
    if epoch := history.steps_per_epoch:
        top = axes[0].secondary_xaxis("top", functions=(lambda s: s / epoch, lambda e: e * epoch))
        top.set_xlabel("epoch")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def panels(n: int):
    """An empty Figure with ``n`` panels for curves, one below the other over the same steps; and the panels."""
    figure = blank(720, 140 + 160 * n, few_colours=True, layout="constrained")
    axes = figure.subplots(n, sharex=True, squeeze=False)[:, 0]
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.2)
    return figure, axes


def _draw_losses(axes, losses: dict[str, np.ndarray], equilibrium: dict[str, float], smooth: int, first: int) -> None:
    colors, spare, seen = {"d_loss": D_COLOR, "g_loss": G_COLOR}, itertools.cycle(OTHER_COLORS), []
    for name, raw in losses.items():
        color = colors.get(name) or next(spare)
        x, calm = first + np.arange(1, len(raw) + 1), running_mean(raw, smooth)
        axes.plot(x, raw, color=color, alpha=0.25, linewidth=0.7)
        axes.plot(x, calm, color=color, linewidth=1.6, label=name)
        if name in equilibrium:
            label = f"{name} at equilibrium"
            axes.axhline(equilibrium[name], color=color, linestyle="--", linewidth=1, label=label)
            seen.append(equilibrium[name])
        finite = raw[np.isfinite(raw)]
        seen.extend([*calm, *(np.percentile(finite, [0.5, 99.5]) if len(finite) else [])])
    low, high = np.nanmin(seen, initial=np.inf), np.nanmax(seen, initial=-np.inf)
    if low < high:  # a lone spike of a raw line may leave the panel; the mean never does
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    axes.set_ylabel("loss")
    axes.legend(fontsize=8, ncols=2, frameon=False)


def _draw_score(axes, scores: list[tuple[int, dict[str, float]]], name: str) -> None:
    steps, values = zip(*((step, found[name]) for step, found in scores if name in found), strict=True)
    axes.plot(steps, values, "o-", color=G_COLOR, markersize=3, linewidth=1.2)
    axes.set_ylabel(name)
    if min(values) > 0 and max(values) > 20 * min(values):
        axes.set_yscale("log")


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of the finite values among the ``width`` around each; NaN where there is none."""
    known, window = np.isfinite(values), np.ones(min(width, len(values)))
    count = np.convolve(known, window, "same")
    total = np.convolve(np.where(known, values, 0.0), window, "same")
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0.5)


def _pixels(images) -> np.ndarray:
    """``images`` as uint8 [N, C, H, W], or a sentence about what is wrong with them."""
    images = torch.as_tensor(images).detach().cpu()
    shape = list(images.shape)
    if images.ndim != 4 or shape[1] not in (1, 3):
        raise ValueError(f"The images have shape {shape}, but must be [N, C, H, W] with C = 1 or C = 3.")
    if images.numel() == 0:
        raise ValueError(f"There are no images to show: their shape is {shape}.")
    if images.dtype == torch.uint8:
        return images.numpy()
    if not images.is_floating_point():
        raise ValueError(f"The images are {images.dtype}, but must be uint8 or float in [-1, 1].")
    if not images.isfinite().all():
        raise ValueError("The images hold NaN or infinite values: the network that made them has diverged.")
    low, high = images.min().item(), images.max().item()
    if low < -1.001 or high > 1.001:  # bfloat16 and resizing may overshoot by a hair
        raise ValueError(
            f"The images run from {low:.2f} to {high:.2f}, but float images must lie in [-1, 1]: "
            "normalise them with x / 127.5 - 1, or clamp them."
        )
    return to_uint8(images.float()).numpy()


def as_picture(images, cols: int | None, pad: int, scale: int) -> np.ndarray:
    """One finished picture, uint8 ``[H, W, C]``: the grid of a batch, or the picture itself, enlarged.

    Raises:
        ValueError: if it is neither a batch ``[N, C, H, W]`` nor uint8 ``[H, W, C]``.
    """
    if np.ndim(images) == 4:
        return grid(images, cols, pad, scale)
    picture = np.asarray(images)
    if picture.ndim != 3 or picture.shape[2] not in (1, 3) or picture.dtype != np.uint8:
        raise ValueError(
            f"A picture of shape {list(picture.shape)} and type {picture.dtype} cannot be drawn; "
            "it must be a batch [N, C, H, W] or uint8 [H, W, C], with C = 1 or C = 3."
        )
    return grid(picture.transpose(2, 0, 1)[None], 1, 0, scale)


def write(path: str | os.PathLike, content: bytes) -> Path:
    """Write a picture's bytes, make the folders it needs, and return the path.

    Raises:
        OSError: if it cannot be written, with what to do.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise type(error)(f"Cannot write '{path}' ({error.strerror}); choose another file.") from error
    return path


def spread(history, at_most: int | None) -> list:
    """At most so many of the snapshots ``(step, [N, C, H, W])``, None for all, evenly spread, the last among them.

    Raises:
        ValueError: if there are none, or ``at_most`` is below 1.
    """
    snapshots = list(getattr(history, "snapshots", history))
    if not snapshots:
        raise ValueError("The history holds no snapshots; let the run take at least one.")
    if at_most is not None and at_most < 1:
        raise ValueError(f"Asked for {at_most} snapshots; ask for at least 1.")
    n = min(len(snapshots), at_most or len(snapshots))
    return [snapshots[k] for k in np.linspace(len(snapshots) - 1, 0, n).round().astype(int)[::-1]]


def blank(width: float, height: float, few_colours: bool = False, **options):
    """A Figure of ``width`` × ``height`` pixels that displays itself, instead of leaving that to pyplot."""
    from matplotlib.figure import Figure  # late: a training run without pictures need not wait for it

    figure = Figure((width / DPI, height / DPI), dpi=DPI, facecolor="white", **options)
    # IPython asks for this first; its own way for figures crops the page, and is there only once pyplot is.
    figure._ipython_display_ = functools.partial(_display, figure, few_colours)
    return figure


def _display(figure, few_colours: bool) -> None:
    from IPython.display import display

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches=figure.bbox_inches)  # None would crop, too
    kind, content = _small(buffer, few_colours)
    display({kind: base64.b64encode(content).decode(), "text/plain": repr(figure)}, raw=True)


def _small(png: io.BytesIO, few_colours: bool) -> tuple[str, bytes]:
    """Kind and bytes of the same picture, smaller, since a notebook keeps every figure: matplotlib writes RGBA always.

    A large picture in colour becomes a JPEG, where that is smaller, at a quality that the eye does not tell from it.
    """
    image = Image.open(png).convert("RGB")
    grey = image.convert("L")
    if np.array_equal(image, np.broadcast_to(np.asarray(grey)[..., None], (*grey.size[::-1], 3))):
        image = grey
    elif few_colours:
        image = image.quantize(128)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    if image.mode == "RGB" and buffer.tell() > PHOTOGRAPH:
        photograph = io.BytesIO()
        image.save(photograph, "JPEG", quality=82, subsampling=0)  # optimised, Pillow fails on noise
        if photograph.tell() < buffer.tell():
            return "image/jpeg", photograph.getvalue()
    return "image/png", buffer.getvalue()


def _page(sheet: np.ndarray, head: int, width: int | None = None):
    """A Figure with ``sheet`` pixel by pixel under ``head`` free rows, and the Figure's height in pixels."""
    width, tall = width or sheet.shape[1], sheet.shape[0] + head
    figure = blank(width, tall)
    axes = figure.add_axes((0, 0, sheet.shape[1] / width, sheet.shape[0] / tall))
    axes.imshow(np.broadcast_to(sheet, (*sheet.shape[:2], 3)), interpolation="none", aspect="auto")
    axes.set_axis_off()
    return figure, tall
