"""The course's CIFAR-10 recipe against the defaults of PyTorch's DCGAN example, after the same number of real images.

    python -m benchmarks.cifar10 --images 128000

The example (github.com/pytorch/examples, dcgan/main.py, its defaults) upscales CIFAR-10 to 64×64 and trains a DCGAN of
width 64 with batches of 64, Adam at 2e-4 and beta1 0.5; no running average, no mirrored images. All entrants train
through ``fit``: what differs is the recipe. Samples of 64×64 are shrunk to 32×32 (bicubic, antialiased) before they are
judged. An entrant whose checkpoint is in runs/cifar10-… already is not trained again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ganlib import checkpoint, runtime
from ganlib.data import load
from ganlib.featurenets import cifar_net
from ganlib.metrics import score
from ganlib.presets import CIFAR10, Recipe
from ganlib.steps import dcgan_step
from ganlib.train import fit

EXAMPLE = Recipe(image_size=64, channels=3, z_dim=100, g_width=64, d_width=64, batch_size=64, ema_decay=0)


def trained(name: str, recipe: Recipe, n_images: int, precision: str) -> tuple[nn.Module, dict]:
    """The generator after ``n_images`` real images, and how long that took."""
    folder = Path(f"runs/cifar10-{name}-{n_images}")
    if not (folder / "run.json").exists():
        images = load("cifar10", image_size=recipe.image_size)
        gan = recipe.build(seed=0)
        steps = n_images // recipe.batch_size
        how = {"batch_size": recipe.batch_size, "ema_decay": recipe.ema_decay, "flip": recipe.flip}
        history = fit(gan, dcgan_step, images, steps=steps, out=folder, precision=precision, **how)
        run = {"data": images.source, "steps": steps, "seconds": history.seconds, "precision": history.precision}
        (folder / "run.json").write_text(json.dumps(run | {"threads": torch.get_num_threads()}))
    return checkpoint.load_generator(folder), json.loads((folder / "run.json").read_text())


def main() -> None:
    """Train what is not there yet, judge all, print the table and write it to runs/cifar10-against-example.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=128_000, help="real images that each entrant sees")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    args = parser.parse_args()

    entrants = {"example": EXAMPLE, "recipe": CIFAR10}
    # The same images in more, smaller steps, with a generator that moves faster.
    entrants["small-batches"] = replace(CIFAR10, batch_size=16, g_lr=5e-4)
    real, results = load("cifar10"), {}
    for name, recipe in entrants.items():
        generator, run = trained(name, recipe, args.images, args.precision)
        report = score(generator, real, cifar_net(), n=10_000, resizer="bicubic")
        results[name] = run | {"images": args.images, "processor": runtime.processor()} | report.to_dict()
        print(f"{name} · {args.images:,} images · {run['steps']:,} steps · {run['seconds']:,.0f} s", report, sep="\n")
    Path("runs/cifar10-against-example.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
