"""Two games on 25 heaps of points, one of which collapses: a GIF side by side, and the modes that each covers.

python examples/grid25.py
"""

import argparse
import json
import platform
from functools import partial

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ganlib import film, runtime, steps, toys
from ganlib.plane import mlp_discriminator, mlp_generator
from ganlib.runtime import rng
from ganlib.steps import GAN
from ganlib.viz import FAKE_COLOR, REAL_COLOR

STD, SHOWN = 0.05, 2500
# The failure is planted: the game of notebook 01 with a discriminator that learns fifty times slower than its rival.
GAMES = {
    "a discriminator too slow": {"step": steps.dcgan_step, "d_lr": 2e-5, "betas": (0.5, 0.9)},
    "RpGAN + R1 + R2": {
        "step": partial(steps.rpgan_step, r1_gamma=0.002, r2_gamma=0.002),
        "d_lr": 1e-3,
        "betas": (0.0, 0.9),
    },
}


def play(step, d_lr: float, betas: tuple[float, float], last: int, at: set[int]) -> tuple[list, dict]:
    """The points of a generator at some steps, and what it covers at the end."""
    generator, critic = mlp_generator(2, 128, seed=0, depth=3), mlp_discriminator(128, seed=1, depth=3)
    g_opt = torch.optim.Adam(generator.parameters(), 1e-3, betas)
    gan = GAN(generator, critic, g_opt, torch.optim.Adam(critic.parameters(), d_lr, betas), z_dim=2)
    draw, z, moments = rng(7), torch.randn(SHOWN, 2, generator=rng(9)), []
    batches = iter(lambda: toys.grid25(256, draw), None)
    for done in range(last + 1):
        if done in at:
            with torch.no_grad():
                moments.append(generator(z))
        if done < last:
            step(gan, batches)
    covered, share = toys.modes_covered(moments[-1], toys.grid_centers(), STD)
    return moments, {"steps": last, "modes_covered": covered, "share_in_a_mode": round(share, 4)}


def frame(sides: list[tuple[str, torch.Tensor]], real: torch.Tensor, title: str) -> np.ndarray:
    """One picture of all games: uint8 ``[H, W, 3]``."""
    figure = Figure((6.4, 3.5), dpi=100, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, (name, points) in zip(figure.subplots(1, len(sides)), sides, strict=True):
        axes.scatter(*real.T, s=2, color=REAL_COLOR, linewidths=0)
        axes.scatter(*points[:1000].T, s=2, color=FAKE_COLOR, linewidths=0)
        axes.set(xlim=(-5.5, 5.5), ylim=(-5.5, 5.5), aspect="equal", xticks=[], yticks=[])
        covered, _ = toys.modes_covered(points, toys.grid_centers(), STD)
        axes.set_title(f"{name}: {covered} of 25", fontsize=9)
    figure.suptitle(title, fontsize=9)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def main() -> None:
    """Play both games, draw them side by side, write what they cover."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000, help="updates of each generator")
    parser.add_argument("--out", default="runs/grid25", help="folder; a number is added if it is taken")
    args = parser.parse_args()
    folder = runtime.new_run_folder(args.out)
    at = sorted({round(args.steps * (k / 40) ** 2) for k in range(41)})  # dense at first, when most changes
    films, covered = {}, {}
    for name, how in GAMES.items():
        films[name], covered[name] = play(**how, last=args.steps, at=set(at))
        print(name, covered[name])
    real = toys.grid25(1000, rng(3), std=STD)
    pictures = [frame([(name, films[name][k]) for name in GAMES], real, f"step {step:,}") for k, step in enumerate(at)]
    film.save_gif(pictures, folder / "training.gif", fps=6, hold_last=2)
    about = {"data": "25 Gaussians, std 0.05", "samples": SHOWN, "games": covered}
    about |= {"processor": runtime.processor(), "torch": torch.__version__, "python": platform.python_version()}
    (folder / "metrics.json").write_text(json.dumps(about, indent=2) + "\n")
    print(folder / "training.gif", folder / "metrics.json", sep="\n")


if __name__ == "__main__":
    main()
