"""Make the moving picture at the top of each notebook from the films in examples/gallery/.

    python scripts/make_teasers.py

It writes ganlib/viz/teasers/NOTEBOOK.webp, which ship in the package: in Colab a notebook lies in an empty folder.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageSequence

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 250_000  # bytes; stored in the notebook, too, where each takes 4/3
SECONDS, HOLD = 6.0, 2.0  # of the film, and longer for its last frame

# notebook -> folder in the gallery, rows of samples that are shown, number of frames, and how dense they are at first:
# 2 takes them at squares, as a film with a step counter can, 1 evenly
FILMS = {
    "00_gan_in_2d": ("ring", None, 17, 2),
    "01_dcgan_mnist": ("mnist", 4, 31, 1),
    "02_dcgan_cifar10": ("cifar10", 4, 24, 1),
    "03_wgan": ("grid25", None, 21, 1),
    "04_dcgan_celeba": ("celeba", 2, 24, 1),
}


def teaser(film: Path, rows: int | None, count: int, power: int) -> bytes:
    """The film as an animated WebP of at most ``LARGEST`` bytes, in the best quality that fits."""
    with Image.open(film) as image:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    last = len(frames) - 1
    frames = [frames[k] for k in sorted({round(last * (i / (count - 1)) ** power) for i in range(count)})]
    if rows is not None:  # of eight samples, each with two white pixels around it
        height = 2 + rows * (frames[0].width - 2) // 8
        frames = [frame.crop((0, 0, frame.width, height)) for frame in frames]
    durations = [round(1000 * SECONDS / len(frames))] * len(frames)
    durations[-1] += round(1000 * HOLD)
    for quality in range(80, 0, -5):
        buffer = io.BytesIO()
        settings = {"quality": quality, "method": 6, "duration": durations, "loop": 0, "save_all": True}
        frames[0].save(buffer, "WEBP", append_images=frames[1:], **settings)
        if buffer.tell() <= LARGEST:
            break
    print(f"{film.parent.name}: {len(frames)} frames, {buffer.tell():,} bytes at quality {quality}")
    return buffer.getvalue()


if __name__ == "__main__":
    for notebook, (folder, *choices) in FILMS.items():
        made = teaser(ROOT / "examples" / "gallery" / folder / "training.gif", *choices)
        (ROOT / "ganlib" / "viz" / "teasers" / f"{notebook}.webp").write_bytes(made)
