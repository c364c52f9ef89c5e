"""Train the course's DCGAN in colour for as long as you like, and leave pictures, a GIF, scores and the generators.

python examples/long_run.py celeba --minutes 90
python examples/long_run.py cifar10 --minutes 60
"""

import argparse
import json
import platform
from dataclasses import replace
from pathlib import Path

import torch

from ganlib import Run, fit, rng, sample, viz
from ganlib._runtime import device as runtime
from ganlib.metrics import cifar_net, memorisation, overfitting, score
from ganlib.runs import build, checkpoint
from ganlib.runs.config import changed
from ganlib.runs.presets import PRESETS
from ganlib.viz.images import spread_snapshots

FRAMES = 48
GLANCE = 2000  # samples of the scores on the way
HELD_OUT = 1000  # of a set that has no test images


def main() -> None:
    """Run, score the running average and the weights it averages, and print where the results are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=("celeba", "cifar10"), help="the images, and the preset")
    parser.add_argument("--minutes", type=float, default=60, help="training time; scores and pictures not counted")
    parser.add_argument("--steps", type=int, help="stop after so many even if time is left")
    parser.add_argument("--samples", type=int, default=10_000, help="samples to score at the end")
    parser.add_argument("--score-every", type=int, default=1000, help="steps between two small scores")
    parser.add_argument("--augment", nargs="*", help="flip, translation, cutout, colour: others than the preset's")
    parser.add_argument("--g-lr", type=float, help="the generator's learning rate, other than the preset's")
    parser.add_argument("--allow-changes", action="store_true", help="resume the run in OUT with other settings")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--out", help="folder (default runs/NAME); its run is resumed if there is one")
    args = parser.parse_args()
    config = replace(PRESETS[args.name], precision=args.precision)
    if args.augment is not None:
        config = replace(config, augment=tuple(args.augment))
    if args.g_lr is not None:
        config = replace(config, g_lr=args.g_lr)
    folder = args.out or f"runs/{args.name}"
    images, net = build.load_images(config), cifar_net()
    own_test = args.name == "cifar10"
    images, held_out = (images, build.load_images(config, "test")) if own_test else images.hold_out(HELD_OUT)
    print(images)
    gan, how = build.players(config), {"resizer": "none" if config.image_size == 32 else "bicubic"}

    def glance(generator):
        found = score(generator, images, net, n=GLANCE, metrics=("fd",), **how).numbers()
        found.update(overfitting(gan.discriminator, gan.generator, images, held_out))
        return found

    how_long = {"steps": args.steps, "seconds": 60 * args.minutes, "batch_size": config.batch_size}
    looks = {"snapshot_every": film_steps(), "score": glance, "score_every": args.score_every}
    keep_at = {build.steps_of_epochs(config, images, k) for k in config.keep_epochs}
    run = Run(folder, resume=True, allow_changes=args.allow_changes, keep_at=keep_at)
    history = fit(gan, build.step(config), images, **how_long, **looks, precision=config.precision, run=run)
    reals = {"ema": (gan.ema_generator, images), "no_ema": (gan.generator, images)}
    reals |= {"ema_against_held_out": (gan.ema_generator, held_out)}
    scores = {name: score(generator, some, net, n=args.samples, **how) for name, (generator, some) in reals.items()}
    copies = memorisation(gan.ema_generator, images, net, n=min(1000, args.samples), **how)

    folder = Path(folder)
    z = torch.randn(100, gan.z_dim, generator=rng(7))
    viz.save_png(sample(gan.ema_generator, z), folder / "samples.png", cols=10, scale=2)
    shown = 64 if config.image_size == 32 else 32
    frames = [(step, samples[:shown]) for step, samples in spread_snapshots(history, FRAMES)]
    viz.save_gif(frames, folder / "training.gif", fps=8, hold_last=2, cols=8)
    viz.curves(history).savefig(folder / "curves.png", dpi=120)
    record = {
        "data": images.source,
        "recipe": changed(config),
        "steps": history.steps,
        "seconds": round(history.seconds, 1),
        "images_seen": history.steps * config.batch_size,
        "threads": torch.get_num_threads(),
        "precision": history.precision,
        "processor": runtime.processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "scores": {name: report.to_dict() for name, report in scores.items()},
        "memorisation": copies.to_dict(),
        "during_training": [{"step": step, **values} for step, values in history.scores],
    }
    (folder / "metrics.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    checkpoint.load_generator(folder)  # what was saved can be opened again

    print(history)
    for name, report in scores.items():
        print(f"{name}\n{report}")
    print(copies)
    for name in ("samples.png", "training.gif", "curves.png", "metrics.json", "checkpoints"):
        print(folder / name)


def film_steps(last: int = 1_000_000) -> set[int]:
    """Steps to take a frame at: dense at first, when most changes, then each a twentieth later than the one before."""
    at, steps = 0.0, set()
    while at <= last:
        steps.add(round(at))
        at = max(at + 50, at * 1.05)
    return steps


if __name__ == "__main__":
    main()
