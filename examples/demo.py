"""Train a DCGAN on handwritten digits, and leave pictures, a GIF, a score and the generator in runs/demo/.

python examples/demo.py
"""

import json
import platform

import torch

from ganlib._runtime import device as runtime
from ganlib._runtime.budget import budget
from ganlib.data.loading import load
from ganlib.metrics.scores import score_digits
from ganlib.runs import build as games
from ganlib.runs import checkpoint
from ganlib.runs.config import changed
from ganlib.runs.presets import DEMO
from ganlib.steps import dcgan_step
from ganlib.train import fit, sample
from ganlib.viz import film
from ganlib.viz import images as viz


def main(out: str = "runs/demo") -> None:
    """Run the demo and print where its results are and what they score."""
    cfg = budget(seconds=90, n_samples=10_000)
    folder = runtime.new_run_folder(out)
    images = load("mnist")
    print(images)

    def glance(generator):  # a rough score, quick enough to show while training
        return score_digits(generator, images, n=min(1000, cfg.n_samples)).numbers()

    gan = games.players(games.fitted(DEMO, images))
    history = fit(
        gan,
        dcgan_step,
        images,
        steps=20_000,
        seconds=cfg.seconds,
        batch_size=DEMO.batch_size,
        ema_decay=DEMO.ema_decay,
        snapshot_at=range(0, 20_001, 40),
        score=glance,
        score_at=range(0, 20_001, 200),
        out=folder,
    )
    score = score_digits(gan.ema_generator, images, n=cfg.n_samples)

    z = torch.randn(100, gan.z_dim, generator=runtime.rng(7))
    viz.save_png(viz.grid(sample(gan.ema_generator, z), cols=10, scale=2), folder / "samples.png")
    film.save_gif([snapshot for _, snapshot in history.snapshots], folder / "training.gif", fps=8, hold_last=2)
    viz.curves(history).savefig(folder / "curves.png", dpi=120)
    record = {
        "data": images.source,
        "recipe": changed(DEMO),
        "steps": history.steps,
        "seconds": round(history.seconds, 1),
        "processor": runtime.processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        **score.to_dict(),
    }
    (folder / "metrics.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    checkpoint.load_generator(folder)  # what was saved can be opened again

    print(f"{history}\n{score}")
    for name in ("samples.png", "training.gif", "curves.png", "metrics.json", "checkpoints"):
        print(folder / name)


if __name__ == "__main__":
    main()
