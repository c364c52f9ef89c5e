"""Make the moving pictures at the top of each notebook and of README, from the films in examples/gallery/ or a walk.

    python scripts/make_teasers.py

It writes ganlib/viz/teasers/NOTEBOOK.webp, which ship in the package (in Colab a notebook lies in an empty folder),
and examples/gallery/strip.webp. That of notebook 06 is drawn by the notebook's own code, and that of 09 is a
film of the notebook.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from pathlib import Path

import torch
from PIL import Image, ImageSequence

from ganlib import rng, sample, viz
from ganlib.runs import pretrained

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 250_000  # bytes; stored in the notebook, too, where each takes 4/3
LARGEST_STRIP = 900_000
SECONDS, HOLD = 6.0, 2.0  # of the film, and longer for its last frame

# notebook -> folder in the gallery, rows of samples that are shown, number of frames, and how dense they are at first:
# 2 takes them at squares, as a film with a step counter can, 1 evenly
FILMS = {
    "00_gan_in_2d": ("ring", None, 17, 2),
    "01_dcgan_mnist": ("mnist", 4, 31, 1),
    "02_dcgan_cifar10": ("cifar10", 4, 18, 1),
    "03_wgan": ("wgan", None, 28, 1),
    "04_dcgan_celeba": ("celeba", 2, 24, 1),
    "07_conditional": ("conditional", None, 24, 2),
}


# README's strip: folder in the gallery, and the square of its film that is shown: left, top, side in pixels
STRIP = {
    "ring": (0, 0, 480),
    "mnist": (0, 0, 182),
    "cifar10": (0, 0, 172),
    "grid25": (326, 38, 306),
    "celeba": (0, 0, 200),
}
TILE, GAP, STRIP_FRAMES = 182, 6, 32


def strip() -> bytes:
    """The films of ``STRIP`` side by side, each from its beginning to its end."""
    pages = [Image.new("RGB", (len(STRIP) * (TILE + GAP) - GAP, TILE), "white") for _ in range(STRIP_FRAMES)]
    for k, (folder, (left, top, side)) in enumerate(STRIP.items()):
        frames = frames_of(ROOT / "examples" / "gallery" / folder / "training.gif")
        for i, page in enumerate(pages):
            square = frames[round((len(frames) - 1) * (i / (STRIP_FRAMES - 1)) ** 1.5)].crop(
                (left, top, left + side, top + side)
            )
            page.paste(square.resize((TILE, TILE), Image.Resampling.LANCZOS), (k * (TILE + GAP), 0))
    return encoded(pages, LARGEST_STRIP)


def teaser(film: Path, rows: int | None, count: int, power: int) -> bytes:
    """The film as an animated WebP of at most ``LARGEST`` bytes, in the best quality that fits."""
    frames = frames_of(film)
    last = len(frames) - 1
    frames = [frames[k] for k in sorted({round(last * (i / (count - 1)) ** power) for i in range(count)})]
    if rows is not None:  # of eight samples, each with two white pixels around it
        height = 2 + rows * (frames[0].width - 2) // 8
        frames = [frame.crop((0, 0, frame.width, height)) for frame in frames]
    return encoded(frames, LARGEST)


def circle() -> list[Image.Image]:
    """Fakes on notebook 06's circle go wrong in four ways, drawn by its own cells."""
    import torch  # late: the other films need none of these
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    from ganlib import rng, viz

    its = {"math": math, "torch": torch, "plt": pyplot, "Figure": Figure, "rng": rng, "viz": viz}
    for cell in json.loads((ROOT / "notebooks" / "06_scores.ipynb").read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if text.startswith(("def radius(", "u = torch.arange(", "def circle(")):  # without what they print and show
            exec(text.partition("\n\n\nfor ")[0].partition("\nviz.explore")[0], its)
    frames = []
    for name, end in (("known", 0.2), ("size", 0.5), ("scatter", 0.9), ("astray", 20)):
        start = 1.0 if name in ("known", "size") else 0.0
        for t in (0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1):
            value, page = start + t * (end - start), io.BytesIO()
            its["circle"](**{name: round(value) if name == "astray" else value}).savefig(page, dpi=80)
            frames.append(Image.open(page).convert("RGB"))
    return frames


def spirals(count: int = 30) -> list[Image.Image]:
    """Three games of notebook 08's smallest GAN, without a penalty and with R1, drawn by its own cells."""
    import torch
    from matplotlib import pyplot
    from torch.nn.functional import relu, softplus

    from ganlib import viz

    its, frames = {"torch": torch, "softplus": softplus, "relu": relu, "viz": viz}, []
    for cell in json.loads((ROOT / "notebooks" / "08_modern.ipynb").read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if text.startswith(("GAMES = {", "def walk(")):  # without what they print
            exec(text.partition("\n\n\none = ")[0], its)
    games = [(name, gamma) for gamma in (0.0, 0.4) for name in ("non-saturating", "Wasserstein", "hinge")]
    for k in [round(160 * (i / (count - 1)) ** 1.4) for i in range(count)]:
        figure, axes = pyplot.subplots(2, 3, figsize=(6, 4.3), layout="constrained")
        for ax, (name, gamma) in zip(axes.flat, games, strict=True):
            game, title = its["GAMES"][name], f"{name}, R1" if gamma else name
            its["draw_game"](ax, game, its["walk"](game, gamma, steps=160)[: k + 1], title, gamma)
            ax.set(xlabel="", ylabel="")
        figure.savefig(page := io.BytesIO(), dpi=80)
        pyplot.close(figure)
        frames.append(Image.open(page).convert("RGB"))
    return frames


def patient() -> list[Image.Image]:
    """The film of notebook 09's patient 7, as it stands in the notebook, each frame twice as large."""
    for cell in json.loads((ROOT / "notebooks" / "09_clinic.ipynb").read_text(encoding="utf-8"))["cells"]:
        if "p7.seen, fps" in "".join(cell["source"]):
            page = "".join(cell["outputs"][-1]["data"]["text/html"])
            film = base64.b64decode(re.search(r"base64,([^\"]+)", page)[1])
            with Image.open(io.BytesIO(film)) as image:
                return [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    raise ValueError("notebook 09 has no film of patient 7: execute it first")


def walk(count: int = 24) -> list[Image.Image]:
    """Four faces that each turn into another and on, round a great circle and back."""
    a, b = torch.randn(2, 4, 100, generator=rng(33))
    turn = 2 * math.pi * torch.arange(count) / count
    generator = pretrained("celeba")
    return [Image.fromarray(viz.grid(sample(generator, a * t.cos() + b * t.sin()), cols=4)) for t in turn]


def frames_of(film: Path) -> list[Image.Image]:
    """All frames of a film."""
    with Image.open(film) as image:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]


def encoded(frames: list[Image.Image], largest: int, hold: float = HOLD) -> bytes:
    """An animated WebP of at most ``largest`` bytes, in the best quality that fits."""
    durations = [round(1000 * SECONDS / len(frames))] * len(frames)
    durations[-1] += round(1000 * hold)
    for quality in range(80, 0, -5):
        buffer = io.BytesIO()
        settings = {"quality": quality, "method": 6, "duration": durations, "loop": 0, "save_all": True}
        frames[0].save(buffer, "WEBP", append_images=frames[1:], **settings)
        if buffer.tell() <= largest:
            break
    print(f"{len(frames)} frames, {buffer.tell():,} bytes at quality {quality}")
    return buffer.getvalue()


if __name__ == "__main__":
    for notebook, (folder, *choices) in FILMS.items():
        made = teaser(ROOT / "examples" / "gallery" / folder / "training.gif", *choices)
        (ROOT / "ganlib" / "viz" / "teasers" / f"{notebook}.webp").write_bytes(made)
    (ROOT / "ganlib" / "viz" / "teasers" / "06_scores.webp").write_bytes(encoded(circle(), LARGEST))
    (ROOT / "ganlib" / "viz" / "teasers" / "08_modern.webp").write_bytes(encoded(spirals(), LARGEST))
    (ROOT / "ganlib" / "viz" / "teasers" / "09_clinic.webp").write_bytes(encoded(patient(), LARGEST))
    walked = encoded(walk(), LARGEST, hold=0)
    (ROOT / "ganlib" / "viz" / "teasers" / "05_latent_space.webp").write_bytes(walked)
    (ROOT / "examples" / "gallery" / "strip.webp").write_bytes(strip())
