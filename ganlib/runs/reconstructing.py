"""What the checkpoints of a run could and could not draw of given images: each inverted, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch

from ganlib._runtime import device as runtime
from ganlib.data import loading as data
from ganlib.data.images import ImageSet
from ganlib.latent.inversion import LEARNED, invert
from ganlib.runs import checkpoint, saved
from ganlib.runs.evaluation import load_set
from ganlib.viz import images as viz

PICTURE, NUMBERS = "reconstruction.png", "reconstruction.json"
MOST = 64  # images in a row of the picture
SCALED_TO = 96  # pixels that the side of an image has in the picture at least


def reconstruct(
    run: Path,
    images: Path | None = None,
    *,
    num: int = 8,
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
    sigma: float | Literal["learned"] = LEARNED,
    restarts: int = 4,
    steps: int = 500,
    checkpoints: tuple[int, ...] = (),
    seed: int = 0,
    out: Path | None = None,
    data_root: Path | None = None,
    device: str | None = None,
    progress: bool = True,
) -> dict:
    """Reconstruct the same images with the generator of each checkpoint: a picture and a JSON, and a line for each.

    The picture's first row are the images; each row below is what the running average of one checkpoint makes of the z
    that :func:`ganlib.latent.inversion.invert` finds, the oldest first. What a generator cannot draw it has not learned.

    Args:
        run: the run's folder.
        images: a folder or an archive of images. None for images of the run's own set that it was not trained on: its
            test split, or else (this is said) those that it was trained on.
        num: how many of them, chosen with ``seed``; all if there are fewer.
        likelihood: gaussian; or bernoulli, for digits.
        sigma: of the Gaussian; learned: for each image the one that fits best.
        restarts: beginnings for each image, of which the best is kept.
        steps: of the optimiser, for each checkpoint.
        checkpoints: the steps of some; none for all that the run has kept.
        seed: of the choice of images and of the beginnings of z, which are the same for every checkpoint.
        out: folder for ``reconstruction.png`` and ``reconstruction.json``; None for ``reconstruction`` in the run's.
        data_root: where to look for the run's set first.
        device: "cuda", "mps" or "cpu"; None for the best there is.
        progress: whether to show bars.

    Returns:
        what the JSON has: ``images``, ``rows`` (for each checkpoint its step, and the error and −log likelihood of each
        image), ``picture``.

    Raises:
        FileNotFoundError: if there is no run, no checkpoint, or no such images.
        ValueError: if the run has no such checkpoint, none is whole, the images are not of the size and the channels of
            the run, or an argument is out of range.
        OSError: if ``out`` cannot be written.
    """
    run = Path(run)
    if not 1 <= num <= MOST:
        raise ValueError(f"num is {num}, but a row of the picture has 1 to {MOST} images.")
    config = saved.config_of(run)
    wanted = _chosen(run, checkpoints)
    given = _images(config, images, data_root)
    given = given.take(min(num, len(given)), seed)
    where = runtime.device(device)
    out = Path(out) if out is not None else run / "reconstruction"
    runtime.check_writable(out)
    print(given.source)

    rows, pictures = [], [given.pixels]
    for step in wanted:
        try:
            generator = checkpoint.load_generator(checkpoint.step_folder(run, step)).to(where)
        except (FileNotFoundError, ValueError) as error:
            print(f"{error} It is left out.")
            continue
        found = invert(
            generator,
            given,
            likelihood=likelihood,
            sigma=sigma,
            restarts=restarts,
            steps=steps,
            seed=seed,
            progress=progress,
        )
        rows.append({"step": step, **found.to_dict()})
        pictures.append(found.images)
        print(f"step {step:,} · {found}")
    if not rows:
        raise ValueError(f"None of the checkpoints asked for in '{run}' is whole; name others, or train it anew.")
    scale = max(1, SCALED_TO // given.image_size)
    picture = viz.save_png(torch.cat(pictures), out / PICTURE, cols=len(given), scale=scale)
    result = {"images": given.source, "rows": rows, "picture": picture.name}
    numbers = viz.write(out / NUMBERS, (json.dumps(result, indent=2, ensure_ascii=False) + "\n").encode())
    print(f"'{picture}': the images in the first row, then a row a checkpoint · '{numbers}': the error of each")
    return result


def _chosen(run: Path, checkpoints: tuple[int, ...]) -> list[int]:
    there = checkpoint.steps_in(run)
    if not there:
        raise FileNotFoundError(f"The run in '{run}' has no checkpoint yet; let it train until it has.")
    for step in checkpoints:
        if step not in there:
            raise ValueError(f"'{run}' has no checkpoint of step {step}; it has: {', '.join(map(str, there))}.")
    return sorted(set(checkpoints)) or there


def _images(config: dict, images: Path | None, root: Path | None) -> ImageSet:
    channels, size, _ = config["images"]["shape"]
    if images is not None:
        return data.load(images, image_size=size, channels=channels)
    there, why = config["images"], None
    own = there.get("split") or "train"
    for split in ("train" if own == "test" else "test", own):
        try:
            found = load_set(config, root, split)
        except (FileNotFoundError, ValueError) as error:
            why = error
            continue
        if why is not None:
            print(f"{why} So these may be images that the run was trained on; for a fair look give others (images)")
        return found
    raise FileNotFoundError(
        f"The images of this run ({there.get('source')}) are not here; give some others (images)"
    ) from why
