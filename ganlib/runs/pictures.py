"""Pictures of a finished run: samples, film, latent walk, reconstructions."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from ganlib._runtime import device as runtime
from ganlib._runtime.progress import progress
from ganlib.data.loading import load
from ganlib.latent import walks
from ganlib.latent.inversion import invert
from ganlib.runs import checkpoint, folder
from ganlib.runs.evaluation import find_images
from ganlib.steps import labelled
from ganlib.train import sample
from ganlib.viz import film
from ganlib.viz import images as viz

FILM_SIDE, WALK_SIDE, MOSAIC_SIDE = 256, 512, 96  # pixels; 64 frames of 256 in colour stay within 4 MB

log = logging.getLogger("ganlib")


def generate(
    run: Path,
    *,
    num: int = 64,
    seed: int = 0,
    truncation: float = 0.0,
    of_class: Annotated[str | None, tyro.conf.arg(name="class")] = None,
    step: int | None = None,
    grid: bool = False,
    out: Path | None = None,
) -> Path:
    """Draw samples with the averaged generator of a run.

    Args:
        run: the run's folder, or a checkpoint.
        num: how many pictures.
        seed: seed of the latent vectors z; the same seed gives the same pictures.
        truncation: redraw numbers of z beyond ± this, which makes pictures more alike. 0: as in training.
        of_class: of a run with labels, the class to draw, by name or number. Default: any, at random.
        step: the checkpoint of this step. Default: the newest intact one.
        grid: one PNG with all of them instead of one file each.
        out: the folder, or the grid's file, numbered if it exists. Default: one in the run's folder.
    """
    run = Path(run)
    generator = checkpoint.load_generator(checkpoint.path_at(run, step))
    z = walks.draw_z(num, generator.z_dim, seed, truncation or None)
    if of_class is not None:
        z = labelled(z, _label(run, generator, of_class).expand(num, -1))
    target = folder.new_file(out, run / "generated.png") if grid else runtime.new_run_folder(out or run / "generated")
    images = sample(generator, z)
    if grid:
        viz.save_png(images, target)
    else:
        for number, image in enumerate(images):
            viz.save_png(image[None], target / f"{number:05d}.png", pad=0)
    told = f"z truncated at ± {truncation:g}" if truncation else "z not truncated"
    told += f", class {of_class}" if of_class is not None else ""
    log.info(f"{num:,} pictures · step {generator.steps_done:,}, running average · {told}, seed {seed} · '{target}'")
    return target


def _label(run: Path, generator, name: str) -> torch.Tensor:
    """A class of a generator's, by name or number, one-hot [K]."""
    if not (k := getattr(generator, "classes", 0)):
        raise ValueError(f"The generator of '{run}' takes no labels; train one that does: conditional=projection.")
    names = (folder.config_of(run)["images"].get("classes") if run.is_dir() else None) or []
    names = [*map(str, range(k)), *names]  # a digit's name is its number
    if name not in names:
        raise ValueError(f"The generator of '{run}' has no class '{name}'; it has: {', '.join(dict.fromkeys(names))}.")
    return torch.eye(k)[names.index(name) % k]


def gif(run: Path, *, out: Path | None = None, fps: float = 8, max_frames: int = 64) -> Path:
    """Make a film of a run's training from its snapshots, a GIF of at most 4 MB.

    Args:
        run: the run's folder.
        out: the file, .gif, .webp or .mp4; a number is added if it is taken. Default: a GIF in the run's folder.
        fps: frames per second, above 0 and at most 50.
        max_frames: at most this many of the snapshots, evenly spread, the last among them.
    """
    run, sheets = Path(run), {}  # step -> uint8 [N, C, H, W]
    kind = Path(out or "").suffix.lower()
    default = run / f"training{kind if kind in film.KINDS else '.gif'}"
    folder.config_of(run)
    if not (snapshots := folder.snapshots_in(run)):
        raise ValueError(f"The run in '{run}' has no snapshots; let it take some while it trains: snapshot_every=...")
    for step, path in viz.spread_snapshots(snapshots, max_frames):
        try:
            sheets[step] = folder.read_snapshot(path)
        except ValueError as error:
            log.warning(error)
    if not sheets:
        raise ValueError(f"None of the snapshots in '{run / 'samples'}' can be read; train again to make new ones.")
    n, _, height, width = next(iter(sheets.values())).shape
    k = (folder.config_of(run)["players"]["generator"]["config"] or {}).get("classes")  # with labels, a column is one
    cols = k or min(n, max(3, FILM_SIDE // (width + 2)), math.ceil(math.sqrt(n)))
    scale = max(1, FILM_SIDE // (cols * (max(height, width) + 2)))
    frames = [(step, sheet[: cols * cols]) for step, sheet in sheets.items()]
    path = film.animation(frames, fps, cols=cols, scale=scale).save(folder.new_file(out, default))
    log.info(f"snapshots of steps {min(sheets):,} to {max(sheets):,} · '{path}'")
    return path


def interpolate(
    run: Path, *, points: int = 6, frames: int = 10, rows: int = 4, seed: int = 0, out: Path | None = None
) -> Path:
    """Make a GIF of closed walks through the latent space, and a PNG strip of them.

    Args:
        run: the run's folder, or a checkpoint.
        points: random latent vectors on each walk, at least 2.
        frames: pictures from one of them to the next.
        rows: number of walks: side by side in the film, one row each in the strip.
        seed: seed of the latent vectors.
        out: the GIF, numbered if it exists. Default: one in the run's folder.
    """
    run = Path(run)
    if points < 2 or frames < 1 or rows < 1:
        raise ValueError(f"points={points}, frames={frames}, rows={rows}, but at least 2, 1 and 1 make a walk.")
    generator = checkpoint.load_generator(run)
    z = walks.draw_z(rows * points, generator.z_dim, seed).unflatten(0, (rows, points))
    paths = torch.stack([walks.path(some, frames, loop=True) for some in z])  # [rows, m, z_dim]
    images = sample(generator, paths.flatten(0, 1)).unflatten(0, paths.shape[:2])  # [rows, m, C, H, W]
    cols = rows if rows <= 8 else math.ceil(math.sqrt(rows))
    scale = max(1, min(4, WALK_SIDE // (cols * (images.shape[-1] + 2))))
    made = film.animation(list(images.transpose(0, 1)), 12, 0, scale=scale, cols=cols)
    path = made.save(folder.new_file(out, run / "interpolation.gif", ".png"))
    stops = sorted({frames * k + half for k in range(points) for half in (0, frames // 2)})
    strip = viz.save_png(images[:, stops].flatten(0, 1), path.with_suffix(".png"), cols=len(stops))
    log.info(f"step {generator.steps_done:,}, running average · seed {seed} · '{path}'")
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
) -> dict:
    """Reconstruct images with each checkpoint's generator, to see what it cannot draw.

    The picture has the images in its first row, then one row for each checkpoint; a JSON file has the errors.

    Args:
        run: the run's folder.
        images: a folder or an archive. Default: the test split of the run's dataset, or else its training images.
        num: how many of them, at random; all if there are fewer.
        likelihood: gaussian; or bernoulli, for digits.
        steps: optimiser steps for each checkpoint.
        checkpoints: the steps of those to use. Default: all that the run has kept.
    """
    run, out = Path(run), Path(run) / "reconstruction"
    channels, size, _ = folder.config_of(run)["images"]["shape"]
    there = checkpoint.steps_in(run)
    for step in sorted(checkpoints):
        checkpoint.path_at(run, step)
    if images is not None:
        given = load(images, image_size=size, channels=channels)
    else:
        given = find_images(run)
        try:
            given = find_images(run, "train" if given.split == "test" else "test")
        except (FileNotFoundError, ValueError) as error:
            log.info(f"{error} These are images that the run was trained on; for a fair test give others (images).")
    given = given.take(min(num, len(given)))
    runtime.check_writable(out)
    log.info(given.source)
    rows, pictures = [], [given.pixels]
    for step in progress(sorted(set(checkpoints)) or there, unit="checkpoint", show=False):
        try:
            generator = checkpoint.load_generator(checkpoint.path_of(run, step))
        except ValueError as error:
            log.warning(f"{error} It is left out.")
            continue
        found = invert(generator, given, likelihood=likelihood, steps=steps)
        rows.append({"step": step, **found.to_dict()})
        pictures.append(found.images)
        print(f"step {step:,} · {found}")
    if not rows:
        raise ValueError(f"No checkpoint asked for in '{run}' is intact; name others, or train it anew.")
    scale = max(1, MOSAIC_SIDE // given.image_size)
    picture = viz.save_png(torch.cat(pictures), out / "reconstruction.png", cols=len(given), scale=scale)
    result = {"images": given.source, "rows": rows, "picture": picture.name}
    numbers = viz.write_file(out / "reconstruction.json", json.dumps(result, indent=2, ensure_ascii=False).encode())
    log.info(f"'{picture}': the images in the first row, then a row a checkpoint · '{numbers}': the error of each")
    return result
