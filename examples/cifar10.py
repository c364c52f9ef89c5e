"""Train the course's DCGAN on CIFAR-10 for as long as you like, and leave pictures, a GIF, scores and the generator.

python examples/cifar10.py --minutes 60
"""

import argparse
import json
import platform

import torch

from ganlib import checkpoint, film, games, runtime, viz
from ganlib.config import changed
from ganlib.data import load
from ganlib.featurenets import cifar_net
from ganlib.metrics import memorisation, score
from ganlib.presets import CIFAR10
from ganlib.steps import dcgan_step
from ganlib.train import fit, sample

FRAMES = 48


def main() -> None:
    """Run, score the running average and the weights it averages, and print where the results are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="training time; scores and pictures not counted")
    parser.add_argument("--steps", type=int, default=1_000_000, help="stop after so many even if time is left")
    parser.add_argument("--samples", type=int, default=10_000, help="samples to score at the end")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--out", default="runs/cifar10", help="folder; a number is added if it is taken")
    args = parser.parse_args()
    folder = runtime.new_run_folder(args.out)
    images, net = load("cifar10"), cifar_net()
    print(images)

    def glance(generator):
        return score(generator, images, net, n=2000, metrics=("fd",)).numbers()

    gan = games.players(CIFAR10)
    history = fit(
        gan,
        dcgan_step,
        images,
        steps=args.steps,
        seconds=60 * args.minutes,
        batch_size=CIFAR10.batch_size,
        flip="flip" in CIFAR10.augment,
        ema_decay=CIFAR10.ema_decay,
        snapshot_at=film_steps(args.steps),
        score=glance,
        score_at=range(0, args.steps, 1000),
        out=folder,
        precision=args.precision,
    )
    scores = {
        "ema": score(gan.ema_generator, images, net, n=args.samples),
        "no_ema": score(gan.generator, images, net, n=args.samples),
        "ema_against_test": score(gan.ema_generator, load("cifar10", split="test"), net, n=args.samples),
    }
    copies = memorisation(gan.ema_generator, images, net, n=min(1000, args.samples))

    z = torch.randn(100, gan.z_dim, generator=runtime.rng(7))
    viz.save_png(viz.grid(sample(gan.ema_generator, z), cols=10, scale=2), folder / "samples.png")
    frames = [snapshot for _, snapshot in history.snapshots]
    film.save_gif(frames[:: max(1, len(frames) // FRAMES)], folder / "training.gif", fps=8, hold_last=2)
    viz.curves(history).savefig(folder / "curves.png", dpi=120)
    record = {
        "data": images.source,
        "recipe": changed(CIFAR10),
        "steps": history.steps,
        "seconds": round(history.seconds, 1),
        "images_seen": history.steps * CIFAR10.batch_size,
        "threads": torch.get_num_threads(),
        "precision": history.precision,
        "processor": runtime.processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "scores": {name: report.to_dict() for name, report in scores.items()},
        "memorisation": copies.to_dict(),
        "fd_during_training": [[step, *values.values()] for step, values in history.scores],
    }
    (folder / "metrics.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    checkpoint.load_generator(folder)  # what was saved can be opened again

    print(history)
    for name, report in scores.items():
        print(f"{name}\n{report}")
    print(copies)
    for name in ("samples.png", "training.gif", "curves.png", "metrics.json", "checkpoints"):
        print(folder / name)


def film_steps(last: int) -> set[int]:
    """Steps to take a frame at: dense at first, when most changes, then each a twentieth later than the one before."""
    at, steps = 0.0, set()
    while at <= last:
        steps.add(round(at))
        at = max(at + 50, at * 1.05)
    return steps


if __name__ == "__main__":
    main()
