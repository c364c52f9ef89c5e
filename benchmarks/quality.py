"""The quality clock: how good are digits after 60 seconds of training, and pictures of CIFAR-10 after 10 minutes?

Several seeds of every recipe, in turns; what counts is the median.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace

from ganlib import GAN, ImageSet, fit, load
from ganlib.metrics import cifar_net, score, score_digits
from ganlib.runs import build
from ganlib.runs.config import Config
from ganlib.runs.presets import CIFAR10_SHORT, DEMO

N_IMAGES = 5000
N_SAMPLES = 5000
TARGET_RATIO = 1 / 3  # of the distance that the recipe before it has

# What `make demo` was at first: what it is now has to be better than this in the same minute.
FIRST_DEMO = Config(
    **dict(image_size=28, channels=1, z_dim=32, g_width=16, d_width=16, g_lr=2e-3, d_lr=2e-3, betas=(0.5, 0.99))
)

# The preset for CIFAR-10 at first: DCGAN's published settings at the pictures' own size, and an average.
FIRST_CIFAR10 = Config(
    **dict(image_size=32, channels=3, z_dim=100, g_width=64, d_width=64, ema_decay=0.999), augment=("flip",)
)


def trained(recipe: Config, images: ImageSet, seed: int, seconds: float) -> tuple[GAN, dict]:
    """The players of ``recipe`` after ``seconds`` seconds of training, and how far they came."""
    recipe = build.fitted(replace(recipe, seed=seed), images)
    gan, reals = build.players(recipe), images.with_flips() if "flip" in recipe.augment else images
    history = fit(gan, build.step(recipe), reals, seconds=seconds, batch_size=recipe.batch_size, watchers=())
    return gan, {"seed": seed, "steps": history.steps, "images_a_second": history.steps * recipe.batch_size / seconds}


def digits(recipe: Config, seed: int, seconds: float) -> dict:
    """Train ``recipe`` on 5,000 real digits and score 5,000 samples of its running average."""
    images = load("mnist", n=N_IMAGES)
    gan, made = trained(recipe, images, seed, seconds)
    return made | score_digits(gan.ema_generator, images, n=N_SAMPLES).to_dict()


def pictures(recipe: Config, seed: int, seconds: float) -> dict:
    """Train ``recipe`` on CIFAR-10 and score 5,000 samples of its running average."""
    images = load("cifar10")
    gan, made = trained(recipe, images, seed, seconds)
    found = score(gan.ema_generator, images, cifar_net(), n=N_SAMPLES, metrics=("fd",))["fd"]
    return made | {found.name: found.value, f"{found.name}_floor": found.floor, "source": images.source}


def measure(seeds: int = 5, seconds: float = 60) -> dict:
    """The first demo's recipe and today's on digits; prints and returns every run, medians, spreads and the ratio."""
    return _race({"first": FIRST_DEMO, "demo": DEMO}, digits, seeds, seconds, f"{N_IMAGES:,} real digits", TARGET_RATIO)


def measure_cifar10(seeds: int = 5, seconds: float = 600) -> dict:
    """The same on CIFAR-10."""
    recipes = {"first": FIRST_CIFAR10, "short": CIFAR10_SHORT}
    return _race(recipes, pictures, seeds, seconds, "CIFAR-10", TARGET_RATIO)


def _race(recipes: dict, run: Callable, seeds: int, seconds: float, what: str, target: float) -> dict:
    runs: dict[str, list[dict]] = {name: [] for name in recipes}
    for seed in range(seeds):
        for name, recipe in recipes.items():
            runs[name].append(run(recipe, seed, seconds))
    print(f"\n{seconds:g} s of training on {what}, {N_SAMPLES:,} samples, median of {seeds} seeds (lowest to highest)")
    medians, spreads = {}, {}
    for name, rows in runs.items():
        numbers = [key for key, value in rows[0].items() if isinstance(value, int | float) and key != "seed"]
        medians[name] = {key: statistics.median(row[key] for row in rows) for key in numbers}
        spreads[name] = {key: [min(row[key] for row in rows), max(row[key] for row in rows)] for key in numbers}
        shown = [
            f"{key} {medians[name][key]:.4g} ({low:.4g} to {high:.4g})" for key, (low, high) in spreads[name].items()
        ]
        print(f"  {name:<8}" + " · ".join(shown))
    first, second = recipes
    fd = next(key for key in medians[second] if key.startswith("fd_"))
    ratio = medians[second][fd] / medians[first][fd]
    judged = f"target: at most {target:.2f}, {'met' if ratio <= target else 'MISSED'}"
    print(f"  {second} / {first}: {ratio:.2f} of the distance ({judged})")
    return {"runs": runs, "medians": medians, "spreads": spreads, "ratio": ratio, "target": target}
