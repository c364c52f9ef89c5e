"""Pictures of a finished run: samples of its generator, the film of its training, a walk through its latent space."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import tyro
from PIL import Image
from torch import Tensor

from ganlib._runtime import device as runtime
from ganlib.latent import walks as latent
from ganlib.models import Generator
from ganlib.runs import frames, saved
from ganlib.train import sample
from ganlib.viz import film
from ganlib.viz import images as viz

FILM_SIDE = 256  # pixels: about what 64 frames in colour may have to stay within 2 MB
WALK_SIDE = 512
MOST = 10_000  # pictures in one file
BATCH = 100  # pictures made at a time


def generate(
    run: Path,
    *,
    num: int = 64,
    seed: int = 0,
    truncation: float | None = None,
    grid: bool = False,
    klass: Annotated[str | None, tyro.conf.arg(name="class")] = None,
    out: Path | None = None,
) -> Path:
    """Make pictures with a run's generator: PNG files, or one grid of them.

    They are drawn from the running average of the newest whole checkpoint, on the CPU: the same seed gives the same
    pictures. Of a run with one generator a class all classes take turns, each in a folder of its own, or in columns of
    its own of the grid.

    Args:
        run: the run's folder.
        num: how many pictures.
        seed: of the latent vectors z.
        truncation: draw numbers of z beyond ± so much again until they are within: the pictures become more alike; of
            large networks also better, of a DCGAN greyer. None or 0 for z as in training and in scores.
        grid: one PNG with all of them instead of a file each.
        klass: only this class, of a run with one generator a class.
        out: the folder, or the grid's file; a number is added if it is taken. None for one in the run's folder.

    Returns:
        what was made: the folder or the grid's file.

    Raises:
        ValueError: if ``num`` or ``truncation`` is out of range, or there is no such class.
        FileNotFoundError: if there is no checkpoint.
        OSError: if nothing can be written there.
    """
    run = Path(run)
    if num < 1 or (grid and num > MOST):
        raise ValueError(f"num is {num}, but must be at least 1, and at most {MOST} for a grid.")
    target = _file(out, run / "generated.png") if grid else Path(out or run / "generated")
    generators = saved.generators_of(run, klass)
    k, steps = len(generators), {generator.steps_done for generator in generators.values()}
    of = f"step {' to '.join(f'{step:,}' for step in sorted({min(steps), max(steps)}))}, running average"
    z = f"z truncated at ± {truncation:g}" if truncation else "z not truncated"
    about = f"{num:,} picture{'s' * (num > 1)} · {of} · {z}, seed {seed}"

    if grid:
        images: list[Tensor | None] = [None] * num
        for number, _, image in _drawn(generators, num, seed, truncation):
            images[number] = image
        cols = k * math.ceil(math.sqrt(num) / k)  # so that a column has one class
        path = viz.save_png(torch.stack(images), runtime.new_file(target), cols)
    else:
        path = None
        for number, label, image in _drawn(generators, num, seed, truncation):
            path = path or runtime.new_run_folder(target)  # not before there is a picture
            viz.save_png(image[None], path / label / f"{number:05d}.png", pad=0)
    print(f"{about} · '{path}'")
    return path


def _drawn(
    generators: dict[str, Generator], num: int, seed: int, truncation: float | None
) -> Iterator[tuple[int, str, Tensor]]:
    """Number, class and pixels, uint8 [C, H, W], of each picture; one class after the other, numbered in turns."""
    for c, (label, generator) in enumerate(generators.items()):
        if numbers := range(c, num, len(generators)):
            z = latent.draw_z(len(numbers), generator.z_dim, seed, truncation or None)
            images = (image for some in z.split(BATCH) for image in sample(generator, some))
            yield from zip(numbers, itertools.repeat(label), images, strict=False)


def gif(run: Path, *, out: Path | None = None, fps: float = 8, max_frames: int = 64, cols: int | None = None) -> Path:
    """Make the film of a run's training from its snapshots: a GIF of at most 2 MB.

    Args:
        run: the run's folder.
        out: the file; a number is added if it is taken. None for one in the run's folder.
        fps: frames a second, above 0 and at most 50.
        max_frames: at most so many of the snapshots, evenly spread, the last among them.
        cols: images side by side, and rows of them. None for as many as make a small film.

    Returns:
        the GIF.

    Raises:
        ValueError: if there are no snapshots, none can be read, or ``fps``, ``max_frames`` or ``cols`` is out of range.
        OSError: if there is no run, or nothing can be written there.
    """
    run = Path(run)
    target = _file(out, run / "training.gif")
    _check_least(max_frames=(max_frames, 1), cols=(1 if cols is None else cols, 1))
    _, height, width = saved.config_of(run)["images"]["shape"]
    taken = viz.spread(saved.snapshots_of(run), max_frames)
    steps, sheets = _read(taken, height, width)
    if not steps:
        raise ValueError(
            f"None of the {len(taken)} snapshots in '{run / 'samples'}' can be read; train anew for others."
        )
    n = len(sheets[0])
    while n > 1 and len(sheets[0]) - n < frames.COLUMNS - 1 and not any(sheet[n - 1].any() for sheet in sheets):
        n -= 1  # what fills up the last row of a snapshot is black throughout
    cols = min(n, cols or min(max(3, FILM_SIDE // (width + 2)), math.ceil(math.sqrt(n))))
    layout = {"cols": cols, "scale": max(1, FILM_SIDE // (cols * (max(height, width) + 2)))}
    made = film.animation([sheet[: min(n, cols * cols)] for sheet in sheets], fps, **layout)
    path = made.save(runtime.new_file(target))
    print(f"{_in_words(path)} · snapshots of steps {steps[0]:,} to {steps[-1]:,} · '{path}'")
    return path


def _read(snapshots: list[tuple[int, Path]], height: int, width: int) -> tuple[list[int], list[Tensor]]:
    """The steps and the images, uint8 [N, C, H, W], of the snapshots that can be read; the others are told."""
    steps, sheets = [], []
    for step, path in snapshots:
        try:
            images = frames.cells(path, height, width)
            if images.shape[1] not in (1, 3) or (sheets and images.shape != sheets[0].shape):
                raise ValueError("other images")
        except (OSError, ValueError):
            print(f"'{path}' is damaged; the film goes on without it.")
            continue
        steps.append(step)
        sheets.append(images)
    return steps, sheets


def interpolate(
    run: Path,
    *,
    points: int = 6,
    frames: int = 10,
    rows: int = 4,
    spherical: bool = True,
    loop: bool = True,
    seed: int = 0,
    out: Path | None = None,
) -> Path:
    """Make a film of walks through the latent space, and a strip of what they pass: a GIF and a PNG beside it.

    Args:
        run: the run's folder.
        points: random latent vectors that each walk goes through, at least 2.
        frames: pictures from one of them to the next.
        rows: walks at a time: side by side in the film, a row each in the strip.
        spherical: on great circles, where most of a normal is, instead of straight lines.
        loop: from the last back to the first, so that the film has no seam.
        seed: of the latent vectors.
        out: the GIF; a number is added if it is taken. None for one in the run's folder.

    Returns:
        the GIF.

    Raises:
        ValueError: if ``points``, ``frames`` or ``rows`` is too small, or the run has one generator a class.
        FileNotFoundError: if there is no checkpoint.
        OSError: if nothing can be written there.
    """
    run = Path(run)
    target = _file(out, run / "interpolation.gif")
    _check_least(points=(points, 2), frames=(frames, 1), rows=(rows, 1))
    if points * frames * rows > MOST:
        raise ValueError(
            f"points={points} × frames={frames} × rows={rows} are more than {MOST} pictures; ask for fewer."
        )
    if classes := saved.class_runs(run):
        one = next(iter(classes.values()))
        raise ValueError(f"'{run}' has one generator a class, and no walk from one to another; name one: '{one}'.")
    (generator,) = saved.generators_of(run).values()
    z = latent.draw_z(rows * points, generator.z_dim, seed).unflatten(0, (rows, points))
    walks = torch.stack([latent.path(some, frames, spherical=spherical, loop=loop) for some in z])  # [rows, m, z_dim]
    images = sample(generator, walks.flatten(0, 1)).unflatten(0, walks.shape[:2])  # [rows, m, C, H, W]
    cols = rows if rows <= 8 else math.ceil(math.sqrt(rows))
    scale = max(1, min(4, WALK_SIDE // (cols * (images.shape[-1] + 2))))
    made = film.animation(list(images.transpose(0, 1)), 12, 0 if loop else 1.5, scale, cols)
    path = made.save(runtime.new_file(target, ".png"))
    stops = sorted({frames * k + half for k in range(points) for half in (0, frames // 2)} & {*range(walks.shape[1])})
    strip = viz.save_png(images[:, stops].flatten(0, 1), path.with_suffix(".png"), cols=len(stops))
    print(f"{_in_words(path)} · step {generator.steps_done:,}, running average · seed {seed} · '{path}'")
    print(f"the points and the places half way between them, a walk a row · '{strip}'")
    return path


def _file(out: Path | None, default: Path) -> Path:
    """The file to be written: ``out``, whose ending must be that of ``default``, or ``default``."""
    path = Path(out) if out is not None else default
    if path.suffix.lower() != default.suffix:
        raise ValueError(f"out is '{path}', but must be a file that ends in {default.suffix}.")
    return path


def _check_least(**values: tuple[int, int]) -> None:
    for name, (value, least) in values.items():
        if value < least:
            raise ValueError(f"{name} is {value}, but must be at least {least}.")


def _in_words(path: Path) -> str:
    with Image.open(path) as shown:
        return f"{shown.n_frames} frames of {shown.width}×{shown.height} pixels, {path.stat().st_size / 1e6:.2f} MB"
