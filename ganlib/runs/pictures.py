"""Pictures of a finished run: samples, the film of its training, a walk through its latent space, reconstructions."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from ganlib._runtime import device as runtime
from ganlib.data.images import ImageSet
from ganlib.data.loading import load
from ganlib.latent import walks
from ganlib.latent.inversion import invert
from ganlib.runs import checkpoint, samples, saved
from ganlib.runs.evaluation import find_images
from ganlib.train import sample
from ganlib.viz import film
from ganlib.viz import images as viz

FILM_SIDE, WALK_SIDE, MOSAIC_SIDE = 256, 512, 96  # pixels; 64 frames of 256 in colour stay within 2 MB
MOST = 10_000  # pictures in one file
BATCH = 100  # pictures made at a time

log = logging.getLogger("ganlib")


def generate(
    run: Path, *, num: int = 64, seed: int = 0, truncation: float = 0.0, grid: bool = False, out: Path | None = None
) -> Path:
    """Draw pictures with the running average of a run's newest intact checkpoint, on the CPU; return where they are.

    Args:
        run: the run's folder, or a checkpoint.
        num: how many pictures.
        seed: of the latent vectors z; the same seed gives the same pictures.
        truncation: draw numbers of z beyond ± this again: pictures become more alike. 0: as in training.
        grid: one PNG with all of them instead of a file each.
        out: the folder, or the grid's file; a number is added if it is taken. None for one in the run's folder.
    """
    run = Path(run)
    _check_range(num=(num, 1, MOST if grid else math.inf))
    target = _file(out, run / "generated.png") if grid else Path(out or run / "generated")
    generator = checkpoint.load_generator(run)
    z = walks.draw_z(num, generator.z_dim, seed, truncation or None)
    images = (image for some in z.split(BATCH) for image in sample(generator, some))
    if grid:
        path = viz.save_png(torch.stack(list(images)), runtime.new_file(target))
    else:
        path = runtime.new_run_folder(target)
        for number, image in enumerate(images):
            viz.save_png(image[None], path / f"{number:05d}.png", pad=0)
    told = f"z truncated at ± {truncation:g}" if truncation else "z not truncated"
    log.info(f"{num:,} pictures · step {generator.steps_done:,}, running average · {told}, seed {seed} · '{path}'")
    return path


def gif(run: Path, *, out: Path | None = None, fps: float = 8, max_frames: int = 64, cols: int | None = None) -> Path:
    """Make the film of a run's training from its snapshots, a GIF of at most 2 MB; return the file.

    Args:
        run: the run's folder.
        out: the file; a number is added if it is taken. None for one in the run's folder.
        fps: frames a second, above 0 and at most 50.
        max_frames: at most this many of the snapshots, evenly spread, the last among them.
        cols: images side by side, and rows of them. None for as many as make a small film.
    """
    run = Path(run)
    target = _file(out, run / "training.gif")
    _check_range(max_frames=(max_frames, 1, math.inf), cols=(1 if cols is None else cols, 1, math.inf))
    _, height, width = saved.config_of(run)["images"]["shape"]
    sheets: dict[int, Tensor] = {}  # step -> uint8 [N, C, H, W]
    for step, path in viz.spread_snapshots(saved.snapshots_of(run), max_frames):
        try:
            images = samples.cells_of(path, height, width)
            if images.shape[1] not in (1, 3) or (sheets and images.shape != next(iter(sheets.values())).shape):
                raise ValueError("other images")
            sheets[step] = images
        except (OSError, ValueError):
            log.warning(f"'{path}' is damaged; the film is made without it.")
    if not sheets:
        raise ValueError(f"None of the snapshots in '{run / 'samples'}' can be read; train anew for others.")
    n = filled = min(map(len, sheets.values()))
    while n > 1 and filled - n < samples.COLUMNS - 1 and not any(sheet[n - 1].any() for sheet in sheets.values()):
        n -= 1  # what fills up the last row of a snapshot is black throughout
    cols = min(n, cols or min(max(3, FILM_SIDE // (width + 2)), math.ceil(math.sqrt(n))))
    scale = max(1, FILM_SIDE // (cols * (max(height, width) + 2)))
    made = film.animation([sheet[: min(n, cols * cols)] for sheet in sheets.values()], fps, cols=cols, scale=scale)
    path = made.save(runtime.new_file(target))
    log.info(f"{_measured(path)} · snapshots of steps {min(sheets):,} to {max(sheets):,} · '{path}'")
    return path


def interpolate(
    run: Path,
    *,
    points: int = 6,
    frames: int = 10,
    rows: int = 4,
    loop: bool = True,
    seed: int = 0,
    out: Path | None = None,
) -> Path:
    """Make a film of walks through the latent space, and beside it a PNG with a strip of what they pass.

    Args:
        run: the run's folder, or a checkpoint.
        points: random latent vectors that each walk passes, at least 2.
        frames: pictures from one of them to the next.
        rows: walks at a time: side by side in the film, a row each in the strip.
        loop: from the last back to the first, so that the film has no seam.
        seed: of the latent vectors.
        out: the GIF; a number is added if it is taken. None for one in the run's folder.
    """
    run = Path(run)
    target = _file(out, run / "interpolation.gif")
    _check_range(points=(points, 2, MOST), rows=(rows, 1, MOST), frames=(frames, 1, MOST // max(1, points * rows)))
    generator = checkpoint.load_generator(run)
    z = walks.draw_z(rows * points, generator.z_dim, seed).unflatten(0, (rows, points))
    paths = torch.stack([walks.path(some, frames, loop=loop) for some in z])  # [rows, m, z_dim]
    images = sample(generator, paths.flatten(0, 1)).unflatten(0, paths.shape[:2])  # [rows, m, C, H, W]
    cols = rows if rows <= 8 else math.ceil(math.sqrt(rows))
    scale = max(1, min(4, WALK_SIDE // (cols * (images.shape[-1] + 2))))
    made = film.animation(list(images.transpose(0, 1)), 12, 0 if loop else 1.5, scale=scale, cols=cols)
    path = made.save(runtime.new_file(target, ".png"))
    stops = sorted({frames * k + half for k in range(points) for half in (0, frames // 2)} & {*range(paths.shape[1])})
    strip = viz.save_png(images[:, stops].flatten(0, 1), path.with_suffix(".png"), cols=len(stops))
    log.info(f"{_measured(path)} · step {generator.steps_done:,}, running average · seed {seed} · '{path}'")
    log.info(f"the points and the places half way between them, a walk a row · '{strip}'")
    return path


def reconstruct(
    run: Path,
    images: Path | None = None,
    *,
    num: int = 8,
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
    steps: int = 500,
    checkpoints: tuple[int, ...] = (),
    seed: int = 0,
    out: Path | None = None,
    data_root: Path | None = None,
) -> dict:
    """Reconstruct images with the generator of each checkpoint: what it cannot draw it has not learned.

    A picture has the images in its first row, then a row a checkpoint; a JSON beside it the errors.

    Args:
        run: the run's folder.
        images: a folder or an archive. None for the test split of the run's dataset, or else its own images.
        num: how many of them, chosen with ``seed``; all if there are fewer.
        likelihood: gaussian; or bernoulli, for digits.
        steps: of the optimiser, for each checkpoint.
        checkpoints: the steps of some; none for all that the run has kept.
        seed: of the choice of images and of the starting points.
        out: the folder for both files. None for ``reconstruction`` in the run's folder.
        data_root: where to look for the run's dataset first.
    """
    run, out = Path(run), Path(run) / "reconstruction" if out is None else Path(out)
    _check_range(num=(num, 1, 64))
    channels, size, _ = saved.config_of(run)["images"]["shape"]
    there = checkpoint.steps_in(run)
    if missing := set(checkpoints) - set(there) or not there:
        what = "no checkpoint yet" if not there else f"no checkpoint of step {min(missing)}; it has: {there}"
        raise FileNotFoundError(f"The run in '{run}' has {what}.")
    given = _unseen(run, data_root) if images is None else load(images, image_size=size, channels=channels)
    given = given.take(min(num, len(given)), seed)
    runtime.check_writable(out)
    log.info(given.source)
    rows, pictures = [], [given.pixels]
    for step in sorted(set(checkpoints)) or there:
        try:
            generator = checkpoint.load_generator(checkpoint.path_of(run, step)).to(runtime.device())
        except ValueError as error:
            log.warning(f"{error} It is left out.")
            continue
        found = invert(generator, given, likelihood=likelihood, steps=steps, seed=seed)
        rows.append({"step": step, **found.to_dict()})
        pictures.append(found.images)
        print(f"step {step:,} · {found}")
    if not rows:
        raise ValueError(f"None of the checkpoints asked for in '{run}' is intact; name others, or train it anew.")
    scale = max(1, MOSAIC_SIDE // given.image_size)
    picture = viz.save_png(torch.cat(pictures), out / "reconstruction.png", cols=len(given), scale=scale)
    result = {"images": given.source, "rows": rows, "picture": picture.name}
    numbers = viz.write_file(out / "reconstruction.json", json.dumps(result, indent=2, ensure_ascii=False).encode())
    log.info(f"'{picture}': the images in the first row, then a row a checkpoint · '{numbers}': the error of each")
    return result


def _unseen(run: Path, data_root: Path | None) -> ImageSet:
    """The test split of a run's dataset, or else the images it was trained on."""
    own = find_images(run, None, data_root)
    try:
        return find_images(run, "train" if own.split == "test" else "test", data_root)
    except (FileNotFoundError, ValueError) as error:
        log.info(f"{error} These are images that the run was trained on; for a fair look give others (images).")
        return own


def _file(out: Path | None, default: Path) -> Path:
    """The file to be written: ``out``, whose ending must be that of ``default``, or ``default``."""
    path = Path(out) if out is not None else default
    if path.suffix.lower() != default.suffix:
        raise ValueError(f"out is '{path}', but must be a file that ends in {default.suffix}.")
    return path


def _check_range(**values: tuple[int, int, float]) -> None:
    for name, (value, least, most) in values.items():
        if not least <= value <= most:
            end = "" if most == math.inf else f" and at most {most:,}"
            raise ValueError(f"{name} is {value}, but must be at least {least}{end}.")


def _measured(path: Path) -> str:
    with Image.open(path) as shown:
        return f"{shown.n_frames} frames of {shown.width}×{shown.height} pixels, {path.stat().st_size / 1e6:.2f} MB"
