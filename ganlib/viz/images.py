"""Pictures of a run: grids of images, loss curves, and samples over time.

Images are uint8 or float in [-1, 1], tensor or array, ``[N, C, H, W]`` with C = 1 (grey), 3 (colour) or 4 (with
transparency); floats without any below 0 are taken as 0 to 1. No figure is registered with pyplot: a notebook shows it
once, at the end of a cell, and none is left open. ``alt`` is the text that stands for it where it is read aloud.
"""

import io
import itertools
import math
from pathlib import Path

import numpy as np
from PIL import Image

from ganlib.data.images import as_uint8
from ganlib.viz.controls import score_name, told
from ganlib.viz.display import alt as set_alt
from ganlib.viz.display import blank
from ganlib.viz.palette import D_COLOR, G_COLOR, OTHER_COLORS

SAMPLE, PAGE = 56, 640  # pixels: the least width of a sample on the page (a digit's, doubled), and that of a page
NAME, LETTER = 8, 6.4  # of names at rows and columns: their font size, and about the pixels of a letter


def grid(images, cols: int | None = None, pad: int = 2, scale: int = 1) -> np.ndarray:
    """The images side by side on white: uint8 ``[H, W, C]``.

    ``images`` are as above, or a finished picture ``[H, W, C]``. A row has ``cols`` images (None: about as many as
    rows), each has ``pad`` white pixels around it, and finally every pixel
    becomes ``scale`` × ``scale`` pixels.
    """
    if np.shape(images)[2:] in ((1,), (3,), (4,)):  # a finished picture
        images, cols, pad = np.asarray(images).transpose(2, 0, 1)[None], 1, 0
    pixels = as_uint8(images).numpy()
    n, channels, height, width = pixels.shape
    if channels not in (1, 3, 4):
        raise ValueError(f"The images have shape {list(pixels.shape)}, but a picture has C = 1, 3 or 4 channels.")
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


def show(images, title=None, cols=None, pad=2, scale=None, rows=(), columns=(), alt=None):
    """The ``grid`` of images as a matplotlib Figure, pixel for pixel, under a title.

    ``rows`` are names beside its rows, and ``columns`` above its columns; without ``cols`` they say how many there are.
    ``scale=None`` takes the largest scale up to 4 that keeps the grid within 640 pixels, but one at which an image is
    at least 56 pixels wide: twice a digit's width.
    """
    finished = np.shape(images)[2:] in ((1,), (3,), (4,))  # a picture, as in ``grid``
    images = images if finished else as_uint8(images)
    rows, columns, n = list(rows), list(columns), 1 if finished else len(images)
    cols = cols or len(columns) or (math.ceil(n / len(rows)) if rows else None)
    if scale is None:
        least = 1 if finished else _least(images, columns)
        scale = max(least, min(4, PAGE // grid(images, cols, pad).shape[1]))
    sheet = grid(images, cols, pad, scale)
    down, across = (sheet.shape[k] // scale // (images.shape[k + 2] + pad) for k in (0, 1)) if not finished else (1, 1)
    for what, names, there in (("rows", rows, down), ("columns", columns, across)):
        if names and len(names) != there:
            raise ValueError(f"There are {len(names)} names for {there} {what}; give one for each.")
    figure = _page(sheet, title, rows, columns, scale * pad)
    about = "a picture" if finished else f"{n} images of {images.shape[-2]} × {images.shape[-1]} pixels"
    names = [f"{what} {', '.join(map(str, names))}" for what, names in (("rows", rows), ("columns", columns)) if names]
    set_alt(figure, alt or "; ".join([": ".join(filter(None, (title, about))), *names]))
    return figure


def save_png(images, path: str | Path, cols: int | None = None, pad: int = 2, scale: int = 1) -> Path:
    """Write the ``grid`` of images as a PNG, replacing an older one; return its path."""
    sheet, buffer = grid(images, cols, pad, scale), io.BytesIO()
    Image.fromarray(sheet[:, :, 0] if sheet.shape[2] == 1 else sheet).save(buffer, "PNG", optimize=True)
    return write_file(path, buffer.getvalue())


def strip(history, n: int = 8, columns: int = 8, alt: str | None = None):
    """A Figure of samples over time: a row for each of ``n`` z, a column per snapshot.

    ``history`` is what ``fit`` returned, or a list of ``(step, images [N, C, H, W])``; ``columns`` of its snapshots are
    taken, evenly spread, and named by epoch if ``steps_per_epoch`` is known and all are at whole epochs, else by step.
    """
    if n < 1:
        raise ValueError(f"n is {n}, but a strip has at least 1 row.")
    chosen = spread_snapshots(history, columns)
    epoch = getattr(history, "steps_per_epoch", None)
    in_epochs = epoch and all(step % epoch == 0 for step, _ in chosen)
    names = [f"epoch {step / epoch:.0f}" if in_epochs else f"step {step:,}" for step, _ in chosen]

    batches = [as_uint8(images)[:n].numpy() for _, images in chosen]
    cells = np.stack(batches, axis=1).reshape(-1, *batches[0].shape[1:])  # [rows * columns, C, H, W]
    return show(
        cells,
        columns=names,
        scale=_least(cells, names),
        alt=alt or f"Samples of the same {len(batches[0])} z, a row each, at {', '.join(names)}",
    )


def curves(history, equilibrium: dict[str, float] | None = None, score: str | None = None, alt: str | None = None):
    """A Figure of the losses at each step and, below them, a score if there is one.

    Each loss is drawn twice: raw (faint), and as its mean over a fiftieth of the run around each step. A dashed
    line is its value at the ``equilibrium``: in the non-saturating game, where D = 1/2 there, d_loss = 2 log 2 = 1.386
    and g_loss = log 2 = 0.693 (Goodfellow et al., arXiv:1406.2661, section 4.1). ``score=None`` takes the first one.
    """
    losses = {name: np.asarray(values, dtype=float) for name, values in history.losses.items() if len(values)}
    if not losses:
        raise ValueError("The history holds no losses yet; train for at least one step.")
    names = list(dict.fromkeys(name for _, values in history.scores for name in values))
    if score is not None and score not in names:
        raise ValueError(f"There is no score '{score}'; measured were: {', '.join(names) or 'none'}.")

    figure, axes = panels(2 if names else 1)
    ends = [f"{name} ends at {running_mean(v, max(1, len(v) // 50))[-1]:.3g}" for name, v in losses.items()]
    _plot_losses(axes[0], losses, equilibrium or {}, getattr(history, "first_step", 0))
    if names:
        name = score or names[0]
        steps, values = zip(*((step, found[name]) for step, found in history.scores if name in found), strict=True)
        axes[1].plot(steps, values, "o-", color=G_COLOR, markersize=3, linewidth=1.2)
        axes[1].set_ylabel(score_name(name))
        ends.append(f"{score_name(name)} goes from {values[0]:.3g} to {values[-1]:.3g}")
        if min(values) > 0 and max(values) > 20 * min(values):
            axes[1].set_yscale("log")
    axes[-1].set_xlabel("step (one generator update)")
    for at, name, value in getattr(history, "changes", ()):
        for panel in axes:
            panel.axvline(at + 0.5, color="0.4", linewidth=0.8)
        axes[0].annotate(
            told(name, value), (at + 0.5, 0.98), xycoords=("data", "axes fraction"), rotation=90, fontsize=7, va="top"
        )
    if epoch := history.steps_per_epoch:
        top = axes[0].secondary_xaxis("top", functions=(lambda s: s / epoch, lambda e: e * epoch))
        top.set_xlabel("epoch")
    set_alt(figure, alt or f"Curves over {max(map(len, losses.values())):,} steps: {', '.join(ends)}")
    return figure


def panels(n: int):
    """A Figure with ``n`` empty panels below each other, and the panels."""
    figure = blank(720, 140 + 160 * n, layout="constrained")
    axes = figure.subplots(n, sharex=True, squeeze=False)[:, 0]
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.2)
    return figure, axes


def _plot_losses(axes, losses: dict[str, np.ndarray], equilibrium: dict[str, float], first: int) -> None:
    width = max(1, max(map(len, losses.values())) // 50)
    colors, spare, seen = {"d_loss": D_COLOR, "g_loss": G_COLOR}, itertools.cycle(OTHER_COLORS), []
    for name, raw in losses.items():
        color = colors.get(name) or next(spare)
        x, mean = first + np.arange(1, len(raw) + 1), running_mean(raw, width)
        axes.plot(x, raw, color=color, alpha=0.25, linewidth=0.7)
        axes.plot(x, mean, color=color, linewidth=1.6, label=name)
        if name in equilibrium:
            axes.axhline(equilibrium[name], color=color, linestyle="--", linewidth=1, label=f"{name} at equilibrium")
            seen.append(equilibrium[name])
        finite = raw[np.isfinite(raw)]
        seen.extend([*mean, *(np.percentile(finite, [0.5, 99.5]) if len(finite) else [])])
    low, high = np.nanmin(seen, initial=np.inf), np.nanmax(seen, initial=-np.inf)
    if low < high:  # a single spike of a raw line may leave the panel; the mean never does
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    axes.set_ylabel("loss")
    axes.legend(fontsize=8, ncols=2, frameon=False)


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of the finite values among ``width`` around each; NaN if there is none."""
    known, window = np.isfinite(values), np.ones(min(width, len(values)))
    count = np.convolve(known, window, "same")
    total = np.convolve(np.where(known, values, 0.0), window, "same")
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0.5)


def write_file(path: str | Path, content: bytes) -> Path:
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise type(error)(f"Cannot write '{path}' ({error.strerror}); choose another file.") from error
    return path


def spread_snapshots(history, at_most: int) -> list:
    """At most ``at_most`` snapshots ``(step, images)``, evenly spread, with the last."""
    snapshots = list(getattr(history, "snapshots", history))
    if not snapshots:
        raise ValueError("The history holds no snapshots; let the run take at least one.")
    if at_most < 1:
        raise ValueError(f"Asked for {at_most} snapshots; ask for at least 1.")
    last = len(snapshots) - 1
    return [snapshots[k] for k in np.linspace(last, 0, min(last + 1, at_most)).round().astype(int)[::-1]]


def _least(images, columns) -> int:
    """The least scale at which an image is wide enough to look at, and for the name above it."""
    return math.ceil(max(SAMPLE, LETTER * max((len(str(name)) for name in columns), default=0)) / images.shape[-1])


def _page(sheet: np.ndarray, title: str | None = None, rows=(), columns=(), pad: int = 0):
    """A Figure with ``sheet``, a title above it, and names at its rows and columns."""
    head, above = 28 * bool(title), 20 * bool(columns)
    left = 10 + round(LETTER * max(len(str(name)) for name in rows)) if rows else 0
    # A narrow grid gets a page wide enough for its title.
    wide, tall = max(left + sheet.shape[1], 9 * len(title or "")), head + above + sheet.shape[0]
    figure = blank(wide, tall)
    axes = figure.add_axes((left / wide, 0, sheet.shape[1] / wide, sheet.shape[0] / tall))
    axes.imshow(np.broadcast_to(sheet, (*sheet.shape[:2], 3)), interpolation="none", aspect="auto")
    axes.set_axis_off()
    if title:
        figure.text(0.003, 1 - 8 / tall, title, ha="left", va="top", fontsize=10)
    for k, name in enumerate(columns):
        middle = left + pad / 2 + (k + 0.5) * (sheet.shape[1] - pad) / len(columns)
        figure.text(middle / wide, 1 - (head + 4) / tall, str(name), ha="center", va="top", fontsize=NAME)
    for k, name in enumerate(rows):
        middle = head + above + pad / 2 + (k + 0.5) * (sheet.shape[0] - pad) / len(rows)
        figure.text((left - 6) / wide, 1 - middle / tall, str(name), ha="right", va="center", fontsize=NAME)
    return figure
