"""Train a DCGAN on handwritten digits, and leave pictures, a GIF, a score and the generator in runs/demo/.

python examples/demo.py
"""

import json
import platform

import torch

from ganlib import Run, budget, fit, load, rng, sample, viz
from ganlib._runtime import device as runtime
from ganlib.metrics import score_digits
from ganlib.runs import build, checkpoint
from ganlib.runs.config import changed
from ganlib.runs.presets import DEMO
from ganlib.steps import dcgan_step


def main(out: str = "runs/demo") -> None:
    """Run the demo and print where its results are and what they score."""
    cfg = budget(seconds=90, n_samples=10_000)
    folder = runtime.new_run_folder(out)
    images = load("mnist")
    print(images)

    def glance(generator):  # a rough score, quick enough to show while training
        return score_digits(generator, images, n=min(1000, cfg.n_samples)).numbers()

    gan = build.players(build.fitted(DEMO, images))
    arguments = build.fit_arguments(DEMO, images) | {"seconds": cfg.seconds}
    history = fit(gan, dcgan_step, images, **arguments, score=glance, run=Run(folder))
    score = score_digits(gan.ema_generator, images, n=cfg.n_samples)

    z = torch.randn(100, gan.z_dim, generator=rng(7))
    viz.save_png(sample(gan.ema_generator, z), folder / "samples.png", cols=10, scale=2)
    viz.save_gif(history, folder / "training.gif", fps=8, hold_last=2)
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
