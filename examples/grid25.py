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

from ganlib import GAN, frozen, rng, steps, viz
from ganlib._runtime import device as runtime
from ganlib.data import toys
from ganlib.losses import non_saturating_g_loss
from ganlib.models import mlp_discriminator, mlp_generator

STD, SHOWN = 0.05, 2500


def greedy_step(gan: GAN, batches) -> None:
    """The planted failure: the game of notebook 01, with twenty updates of the generator for one of its rival."""
    steps.dcgan_step(gan, batches)
    for _ in range(19):
        with frozen(gan.discriminator):
            g_loss = non_saturating_g_loss(gan.discriminator(gan.generator(gan.sample_z(256))))
            gan.g_opt.zero_grad()
            g_loss.backward()
        gan.g_opt.step()


# name -> the step, updates of the generator in it, and both players' decay rates
GAMES = {
    "20 turns of G to 1 of D": (greedy_step, 20, (0.5, 0.9)),
    "RpGAN + R1 + R2": (partial(steps.rpgan_step, r1_gamma=0.002, r2_gamma=0.002), 1, (0.0, 0.9)),
}


def play(step, turns: int, betas: tuple[float, float], at: list[int]) -> tuple[list, dict]:
    """The points of a generator after so many of its updates, and what it covers after the last of them."""
    generator, critic = mlp_generator(2, 128, seed=0, depth=3), mlp_discriminator(128, seed=1, depth=3)
    g_opt, d_opt = (torch.optim.Adam(m.parameters(), 1e-3, betas, fused=True) for m in (generator, critic))
    gan = GAN(generator, critic, g_opt, d_opt, z_dim=2)
    draw, z, moments = rng(7), torch.randn(SHOWN, 2, generator=rng(9)), []
    batches = iter(lambda: toys.grid25(256, draw), None)
    for updates in at:
        while gan.steps_done * turns < updates:
            step(gan, batches)
            gan.steps_done += 1
        with torch.no_grad():
            moments.append(generator(z))
    covered, share = toys.modes_covered(moments[-1], toys.grid_centers(), STD)
    about = {"steps": gan.steps_done * turns, "modes_covered": covered, "share_in_a_mode": round(share, 4)}
    return moments, about


def frame(sides: list[tuple[str, torch.Tensor]], real: torch.Tensor, title: str) -> np.ndarray:
    """One picture of all games: uint8 ``[H, W, 3]``."""
    figure = Figure((6.4, 3.5), dpi=100, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, (name, points) in zip(figure.subplots(1, len(sides)), sides, strict=True):
        viz.points(axes, real, points[:1000], size=3)
        axes.set(xlim=(-5.5, 5.5), ylim=(-5.5, 5.5), aspect="equal", xticks=[], yticks=[])
        covered, _ = toys.modes_covered(points, toys.grid_centers(), STD)
        axes.set_title(f"{name}: {covered} of 25", fontsize=9)
    figure.suptitle(title, fontsize=9)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def main() -> None:
    """Play both games, draw them side by side, write what they cover."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12_000, help="updates of each generator")
    parser.add_argument("--out", default="runs/grid25", help="folder; a number is added if it is taken")
    args = parser.parse_args()
    folder = runtime.new_run_folder(args.out)
    at = sorted({round(args.steps * (k / 40) ** 2) for k in range(41)})  # dense at first, when most changes
    films, covered = {}, {}
    for name, (step, turns, betas) in GAMES.items():
        films[name], covered[name] = play(step, turns, betas, at)
        print(name, covered[name])
    real = toys.grid25(1000, rng(3), std=STD)
    pictures = [frame([(name, films[name][k]) for name in GAMES], real, f"step {step:,}") for k, step in enumerate(at)]
    viz.save_gif(pictures, folder / "training.gif", fps=6, hold_last=2)
    about = {"data": "25 Gaussians, std 0.05", "samples": SHOWN, "games": covered}
    about |= {"processor": runtime.processor(), "torch": torch.__version__, "python": platform.python_version()}
    (folder / "metrics.json").write_text(json.dumps(about, indent=2) + "\n")
    print(folder / "training.gif", folder / "metrics.json", sep="\n")


if __name__ == "__main__":
    main()
