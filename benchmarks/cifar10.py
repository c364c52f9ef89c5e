"""A CIFAR-10 recipe with small batches against the defaults of PyTorch's DCGAN example, after as many real images.

    python -m benchmarks.cifar10

The example (github.com/pytorch/examples, dcgan/main.py, its defaults) upscales CIFAR-10 to 64×64 and trains a DCGAN of
width 64 with batches of 64, Adam at 2e-4 and beta1 0.5; no running average, no mirrored images. All entrants train
through ``fit``: what differs is the recipe. Samples of 64×64 are shrunk to 32×32 (bicubic, antialiased) before they are
judged. Judgements in runs/cifar10-race already are not made again, and a race that was interrupted is resumed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from ganlib import Run, fit, load
from ganlib._runtime import device as runtime
from ganlib.metrics import cifar_net, score
from ganlib.runs import build
from ganlib.runs.config import Config, changed
from ganlib.steps import dcgan_step

ENTRANTS = {
    "example": Config(image_size=64, channels=3, z_dim=100, g_width=64, d_width=64, batch_size=64, ema_decay=0),
    "ours": Config(
        **dict(image_size=32, channels=3, z_dim=100, g_width=64, d_width=64, batch_size=16, g_lr=5e-4, ema_decay=0.99),
        augment=("flip",),
    ),
}
FOLDER = Path("runs/cifar10-race")


def race(name: str, recipe: Config, moments: list[int], precision: str) -> list[dict]:
    """Train one entrant; a judgement after each of so many real images: of the running average, and without it."""
    at_moment = {moment: FOLDER / f"{name}-{moment}.json" for moment in moments}
    if to_come := [moment for moment, path in at_moment.items() if not path.exists()]:
        images, real, gan = load("cifar10", image_size=recipe.image_size), load("cifar10"), build.players(recipe)
        images = images.with_flips() if "flip" in recipe.augment else images
        how = {"batch_size": recipe.batch_size, "precision": precision, "run": Run(FOLDER / name, resume=True)}
        for moment in to_come:
            history = fit(gan, dcgan_step, images, steps=moment // recipe.batch_size, **how)
            players = {"no_ema": gan.generator} | ({"ema": gan.ema_generator} if recipe.ema_decay else {})
            judged = {
                "images": moment,
                "steps": gan.steps_done,
                "seconds": round(history.seconds, 1),
                "recipe": changed(recipe),
                "data": real.source,
                "precision": history.precision,
                "threads": torch.get_num_threads(),
                "processor": runtime.processor(),
            }
            for which, player in players.items():
                judged[which] = score(player, real, cifar_net(), n=10_000, resizer="bicubic").to_dict()
            at_moment[moment].write_text(json.dumps(judged, indent=2, ensure_ascii=False) + "\n")
    return [json.loads(path.read_text()) for path in at_moment.values()]


def main() -> None:
    """Train what is not there yet, judge all, print the table and write it to runs/cifar10-race/table.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[32_000, 64_000, 128_000], help="when to judge")
    parser.add_argument("--only", nargs="+", choices=ENTRANTS, default=list(ENTRANTS), help="some of the entrants")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    table = {name: race(name, ENTRANTS[name], sorted(args.images), args.precision) for name in args.only}
    (FOLDER / "table.json").write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n")
    for name, row in ((name, row) for name, rows in table.items() for row in rows):
        print(f"{name} · {row['images']:,} images · {row['steps']:,} steps · {row['seconds']:,.0f} s")
        for which in ("ema", "no_ema"):
            if which in row:
                print(f"  {which:<8}" + " · ".join(f"{key} {found['value']:.3g}" for key, found in row[which].items()))


if __name__ == "__main__":
    main()
