"""Train a GAN on eight Gaussians in the plane, and leave a film, the last picture and the score in runs/ring/.

python examples/ring.py
"""

import itertools
import json
import platform
import time
from functools import partial

import torch

from ganlib import GAN, rng, viz
from ganlib._runtime import device as runtime
from ganlib.data import toys
from ganlib.losses import non_saturating_g_loss
from ganlib.models import mlp_discriminator, mlp_generator
from ganlib.steps import dcgan_step

RECIPE = {"z_dim": 2, "width": 96, "batch_size": 256, "g_lr": 2e-3, "d_lr": 5e-3, "betas": (0.5, 0.9)}
STD = 0.1  # of each Gaussian; they sit on a circle of radius 2
SEED = 0


def build(seed: int = SEED) -> GAN:
    """The players of the recipe."""
    generator = mlp_generator(RECIPE["z_dim"], RECIPE["width"], seed)
    discriminator = mlp_discriminator(RECIPE["width"], seed + 1)
    g_opt = torch.optim.Adam(generator.parameters(), lr=RECIPE["g_lr"], betas=RECIPE["betas"])
    d_opt = torch.optim.Adam(discriminator.parameters(), lr=RECIPE["d_lr"], betas=RECIPE["betas"])
    return GAN(generator, discriminator, g_opt, d_opt, RECIPE["z_dim"], seed)


def main(out: str = "runs/ring", steps: int = 1500, every: int = 25) -> None:
    """Run it and print where the results are and what they score."""
    folder = runtime.new_run_folder(out)
    gan, target, draw = build(), partial(toys.ring, std=STD), rng(SEED)
    batches = (target(RECIPE["batch_size"], draw) for _ in itertools.count())
    z = torch.randn(2500, gan.z_dim, generator=rng(SEED + 1))
    shown = target(300, rng(SEED + 2))
    frames, seconds = [], 0.0

    def sample():
        with torch.no_grad():
            return gan.generator(z)

    def score(points):
        modes, share = toys.modes_covered(points, toys.ring_centers(), STD)
        return {"modes": modes, "share_on_a_mode": round(share, 4)}

    for done in range(steps + 1):
        if done % every == 0:
            title = f"step {done:,} · {score(sample())['modes']} of 8 modes"
            settings = {"title": title, "size": 480, "arrows": 60}
            frames.append(viz.picture(shown, sample()[:300], gan.discriminator, non_saturating_g_loss, **settings))
        if done < steps:
            start = time.perf_counter()
            dcgan_step(gan, batches)
            seconds += time.perf_counter() - start

    viz.save_gif(frames, folder / "training.gif", fps=8, hold_last=2)
    viz.save_png(frames[-1], folder / "last.png")
    record = {
        "data": f"8 Gaussians of standard deviation {STD} on a circle of radius 2",
        "recipe": RECIPE,
        "steps": steps,
        "seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "processor": runtime.processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        **score(sample()),
        "real": score(target(len(z), rng(SEED + 3))),
        "n_fake": len(z),
        "seed": SEED,
    }
    (folder / "metrics.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{steps:,} steps in {seconds:.1f} s · {record['modes']} of 8 modes, {record['share_on_a_mode']:.0%} on one")
    for name in ("training.gif", "last.png", "metrics.json"):
        print(folder / name)


if __name__ == "__main__":
    main()
