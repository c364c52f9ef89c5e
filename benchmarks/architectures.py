"""Architectures on CIFAR-10 after equal training time: the preset, conv, linear, and a pair of networks for each class.

    python -m benchmarks.architectures --minutes 20

Writes a table with scores to runs/architectures/table.json, one grid with a row for each class, and a GIF for each
class. Each entrant gets the same minutes; the ten pairs of *class* share theirs equally.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import torch

from ganlib import film, runtime, viz
from ganlib.data import ImageSet, load
from ganlib.featurenets import cifar_net
from ganlib.history import History
from ganlib.metrics import score
from ganlib.models import count_parameters
from ganlib.presets import CIFAR10
from ganlib.steps import GAN, dcgan_step
from ganlib.train import fit, sample
from ganlib.variants import PerClass, linear_discriminator, linear_generator

FRAMES = 24


def preset(seed: int) -> GAN:
    """The course's pair: four layers each."""
    return CIFAR10.build(seed)


def conv(seed: int) -> GAN:
    """Five strided convolutions in D, five transposed ones in G."""
    return replace(CIFAR10, base=2).build(seed)


def linear(seed: int) -> GAN:
    """Linear ends."""
    size, recipe = (CIFAR10.image_size, CIFAR10.channels), CIFAR10
    generator = linear_generator(*size, recipe.g_width, recipe.z_dim, seed=2 * seed)
    discriminator = linear_discriminator(*size, recipe.d_width, seed=2 * seed + 1)
    g_opt = torch.optim.Adam(generator.parameters(), recipe.g_lr, recipe.betas)
    d_opt = torch.optim.Adam(discriminator.parameters(), recipe.d_lr, recipe.betas)
    return GAN(generator, discriminator, g_opt, d_opt, recipe.z_dim, seed)


def train(gan: GAN, images: ImageSet, minutes: float, precision: str, frame_every: int, fixed_z=None) -> History:
    """``gan`` on ``images`` for so many minutes, by the preset's recipe."""
    how = {"batch_size": CIFAR10.batch_size, "flip": CIFAR10.flip, "ema_decay": CIFAR10.ema_decay}
    film = {"snapshot_at": range(0, 1_000_000, frame_every), "fixed_z": fixed_z}
    return fit(gan, dcgan_step, images, steps=1_000_000, seconds=60 * minutes, precision=precision, **how, **film)


def thinned(history: History) -> list:
    """At most ``FRAMES`` of the snapshots, the last among them."""
    frames = [frame for _, frame in history.snapshots]
    return [frames[round(k * (len(frames) - 1) / (FRAMES - 1))] for k in range(FRAMES)]


def main() -> None:
    """Train, score, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20, help="training time of each architecture")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    args = parser.parse_args()
    folder, images, net = runtime.new_run_folder("runs/architectures"), load("cifar10"), cifar_net()
    z = torch.randn(16, CIFAR10.z_dim, generator=runtime.rng(4))
    # name -> (generator to score, its GANs, their histories)
    ran = {}
    for name, build in (("preset", preset), ("conv", conv), ("linear", linear)):
        gan = build(0)
        history = train(gan, images, args.minutes, args.precision, 500, z)
        ran[name] = (gan.ema_generator, [gan], [history])
        viz.save_png(
            sample(gan.ema_generator, torch.randn(100, gan.z_dim, generator=runtime.rng(7))),
            folder / f"{name}.png",
            cols=10,
            scale=2,
        )
    gans, histories = [], []
    for k, name in enumerate(images.classes):
        gans.append(preset(k))
        histories.append(train(gans[k], images.of_class(k), args.minutes / 10, args.precision, 10, z))
        film.save_gif(thinned(histories[k]), folder / "classes" / f"{name}.gif", fps=6, hold_last=2, cols=8)
    ran["class"] = (PerClass([gan.ema_generator for gan in gans]), gans, histories)
    rows = torch.cat([sample(gan.ema_generator, z) for gan in gans])
    viz.save_png(rows, folder / "classes.png", cols=16, scale=2)

    table = {}
    for name, (generator, gans, histories) in ran.items():
        report = score(generator, images, net, n=10_000)
        seconds, steps = sum(h.seconds for h in histories), sum(h.steps for h in histories)
        table[name] = {
            "parameters": sum(count_parameters(g.generator) + count_parameters(g.discriminator) for g in gans),
            "steps": steps,
            "seconds": round(seconds, 1),
            "seconds_a_step": round(seconds / steps, 4),
            "precision": histories[0].precision,
            "threads": torch.get_num_threads(),
            "processor": runtime.processor(),
            **report.to_dict(),
        }
        print(f"{name} · {steps:,} steps · {seconds / steps:.3f} s a step\n{report}", flush=True)
    (folder / "table.json").write_text(
        json.dumps({"data": images.source, **table}, indent=2, ensure_ascii=False) + "\n"
    )
    print(folder)


if __name__ == "__main__":
    main()
