"""What ``fit`` chooses without being asked, against what it could have chosen; and what a step costs.

The choices are the memory format (channels last, or contiguous) and the precision (float32, or bfloat16 where the
hardware has it in silicon). Each of the course's networks is trained with every combination, in turns in one process.
"""

from __future__ import annotations

import itertools
import statistics
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.quality import FIRST_CIFAR10, FIRST_DEMO
from ganlib import load, models, train
from ganlib._runtime import device as runtime
from ganlib._runtime import stage
from ganlib.runs import build
from ganlib.runs.config import Config
from ganlib.runs.presets import CELEBA, CIFAR10_SHORT, DEMO, MNIST_POOLED, PLAIN

LAYOUTS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}
WIDE = Config(image_size=64, channels=3, z_dim=100, g_width=64, d_width=64, batch_size=128)
NETWORKS = {
    "first demo 28x28, width 16, batch 64": FIRST_DEMO,
    "demo 28x28, widths 32 and 16, batch 96": DEMO,
    "plain 28x28, width 32, batch 64": PLAIN,
    "pooled 28x28, batch 200": MNIST_POOLED,
    "first CIFAR-10 32x32, width 64, batch 64": FIRST_CIFAR10,
    "CIFAR-10 32x32, widths 32 and 24, batch 32": CIFAR10_SHORT,
    "CelebA 64x64, widths 48 and 32, batch 32": CELEBA,
    "64x64, width 64, batch 128": WIDE,
}
IMAGES_A_TURN = 512  # trained on at each turn, rounded down to whole steps


def rate(recipe: Config, layout: torch.memory_format, precision: str, images_a_turn: int = IMAGES_A_TURN) -> float:
    """Images a second of ``fit`` on drawn shapes of the size that ``recipe`` takes, after one step to warm up."""
    size, channels = recipe.image_size or 28, recipe.channels or 1
    images = load("fake", image_size=size, channels=channels, n=4 * recipe.batch_size)
    gan = build.players(build.fitted(recipe, images))
    how = {"batch_size": recipe.batch_size, "precision": precision, "watchers": ()}
    with patch.object(train, "memory_layout", lambda *_: layout):
        train.fit(gan, build.step(recipe), images, steps=1, **how)
        steps = max(1, images_a_turn // recipe.batch_size)
        return steps * recipe.batch_size / train.fit(gan, build.step(recipe), images, steps=steps, **how).seconds


def measure(rounds: int = 5) -> dict:
    """Every network with every choice, ``rounds`` times; prints and returns rates, and what the rule's choice loses."""
    where = runtime.device()
    precisions = ["fp32", "bf16"] if runtime.has_fast_bf16(where) else ["fp32"]
    print(f"\nImages a second by memory format and precision, median of {rounds}; * is what fit chooses")
    results = {}
    for title, recipe in NETWORKS.items():
        images = load("fake", image_size=recipe.image_size or 28, channels=recipe.channels or 1, n=8)
        gan = build.players(build.fitted(recipe, images))
        n = models.count_parameters(gan.generator) + models.count_parameters(gan.discriminator)
        dtype = runtime.choose_precision(where, n)
        precision = next(name for name, known in runtime.PRECISIONS.items() if known == dtype)
        best = stage.memory_layout(where, dtype)
        chosen = next(f"{name}, {precision}" for name, layout in LAYOUTS.items() if layout == best)
        rates: dict[str, list[float]] = {f"{name}, {p}": [] for name, p in itertools.product(LAYOUTS, precisions)}
        for _ in range(rounds):
            for name, p in itertools.product(LAYOUTS, precisions):
                rates[f"{name}, {p}"].append(rate(recipe, LAYOUTS[name], p))
        medians = {name: statistics.median(values) for name, values in rates.items()}
        share = medians[chosen] / max(medians.values())
        results[title] = {"images_a_second": rates, "medians": medians, "chosen": chosen, "share_of_best": share}
        shown = " · ".join(f"{name}{'*' * (name == chosen)} {value:.1f}" for name, value in medians.items())
        print(f"  {title:<42}{shown} · the choice is {share:.0%} of the best")
    results["cost"] = costs(rounds)
    return results


def costs(rounds: int = 5) -> dict:
    """Milliseconds a step of a DCGAN against batch size, width squared and pixels, a straight line through each."""
    base = replace(FIRST_DEMO, image_size=32, channels=3, g_width=16, d_width=16, batch_size=64)
    sweeps = {
        "batch size": {n: (n, replace(base, batch_size=n)) for n in (8, 16, 32, 64, 128)},
        "width": {n: (n**2, replace(base, g_width=n, d_width=n)) for n in (8, 16, 24, 32, 48)},
        "image size": {n: (n**2, replace(base, image_size=n)) for n in (16, 32, 48, 64)},
    }
    print("\nMilliseconds a step (DCGAN, 32x32x3, width 16, batch 64, float32), one of three varied")
    results = {}
    for what, recipes in sweeps.items():
        seconds: dict[int, list[float]] = {n: [] for n in recipes}
        for _ in range(rounds):
            for n, (_, recipe) in recipes.items():
                layout = stage.memory_layout(runtime.device(), torch.float32)
                seconds[n].append(recipe.batch_size / rate(recipe, layout, "fp32", 256))
        ms = {n: 1000 * statistics.median(values) for n, values in seconds.items()}
        x, y = np.array([of for of, _ in recipes.values()]), np.array(list(ms.values()))
        slope, start = np.polyfit(x, y, 1)
        off = float(np.abs(start + slope * x - y).max() / y.max())
        results[what] = {"ms_a_step": ms, "line": [float(start), float(slope)], "furthest_off": off}
        of = what if what == "batch size" else f"{what} squared"
        shown = " · ".join(f"{n}: {value:.1f}" for n, value in ms.items())
        print(
            f"  {what:<12}{shown}\n{'':<14}{start:.1f} ms + {slope:.4g} ms x {of}, {off:.0%} of the largest off at most"
        )
    return results
