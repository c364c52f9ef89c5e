"""The quality clock: how good are the digits after 60 seconds of training?"""

from __future__ import annotations

import statistics
from dataclasses import replace

from ganlib import games
from ganlib.config import Config
from ganlib.data import load
from ganlib.metrics import score_digits
from ganlib.presets import DEMO, PLAIN
from ganlib.steps import dcgan_step
from ganlib.train import fit

N_IMAGES = 5000
N_SAMPLES = 5000


def run(recipe: Config, seed: int, seconds: float) -> dict:
    """Train ``recipe`` for ``seconds`` seconds on 5,000 real digits and score 5,000 samples."""
    images = load("mnist", n=N_IMAGES)
    gan = games.players(games.fitted(replace(recipe, seed=seed), images))
    history = fit(
        gan,
        dcgan_step,
        images,
        steps=10**6,
        seconds=seconds,
        batch_size=recipe.batch_size,
        ema_decay=recipe.ema_decay,
        seed=seed,
        progress=False,
    )
    score = score_digits(gan.ema_generator, images, n=N_SAMPLES)
    return {"seed": seed, "steps": history.steps, **score.to_dict()}


def measure(seeds: int = 3, seconds: float = 60) -> dict:
    """Both recipes in turns, one run a seed; prints and returns every run and the medians."""
    recipes = {"plain": PLAIN, "demo": DEMO}
    runs: dict[str, list[dict]] = {name: [] for name in recipes}
    for seed in range(seeds):
        for name, recipe in recipes.items():
            runs[name].append(run(recipe, seed, seconds))
    print(f"\n{seconds:g} s of training on 5,000 real digits, {N_SAMPLES:,} samples, median of {seeds} seeds")
    medians = {
        name: {
            key: statistics.median(r[key] for r in rows)
            for key, value in rows[0].items()
            if isinstance(value, int | float) and key != "seed"
        }
        for name, rows in runs.items()
    }
    for name, row in medians.items():
        print(f"  {name:<8}" + " · ".join(f"{k} {v:.4g}" for k, v in row.items()))
    name = next(key for key in medians["demo"] if key.startswith("fd_"))
    ratio = medians["demo"][name] / medians["plain"][name]
    print(f"  demo / plain: {ratio:.2f} of the distance (target: at most 0.33)")
    return {"runs": runs, "medians": medians, "ratio": ratio}
