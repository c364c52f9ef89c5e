"""Train the games that notebook 03 shows on record, and pack their losses, scores and samples into the package.

python examples/wgan_record.py wgan-gp --steps 4000   (stop it and start it again as you like)
python examples/wgan_record.py wgan --steps 8000
python examples/wgan_record.py wgan-adam --steps 4000
python examples/wgan_record.py spoilt                 (after wgan-gp: the generator's rate is raised, then put back)
python examples/wgan_record.py pack
"""

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ganlib import Run, fit, viz
from ganlib.runs import build, checkpoint
from ganlib.runs.folder import history_of, read_snapshot, snapshots_in, write_snapshot
from ganlib.runs.presets import PRESETS

FASTER = 50  # times the papers' learning rates
SPOILT = (30, 40), (1, 260)  # times that for the generator, and for how many steps: far too fast, then as before
SHOWN = 16  # samples of a frame
GAMES = {
    "wgan-gp": replace(PRESETS["wgan-gp-mnist"], g_lr=FASTER * 1e-4, d_lr=FASTER * 1e-4),
    "wgan": replace(PRESETS["wgan-mnist"], g_lr=FASTER * 5e-5, d_lr=FASTER * 5e-5),
    # with momentum, which its paper advises against
    "wgan-adam": replace(PRESETS["wgan-mnist"], g_lr=FASTER * 5e-5, d_lr=FASTER * 5e-5, betas=(0.9, 0.999)),
}


def main() -> None:
    """Train one of the games, or pack them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=(*GAMES, "spoilt", "pack"))
    parser.add_argument("--steps", type=int, default=4000, help="how long the run is in all")
    parser.add_argument("--runs", default="runs/wgan-record", help="folder of the runs")
    parser.add_argument("--out", default=str(checkpoint.PRETRAINED), help="folder to pack them into")
    parser.add_argument("--film", default="examples/gallery/wgan/training.gif", help="a film of the spoilt run")
    args = parser.parse_args()
    runs = Path(args.runs)
    if args.what == "pack":
        moments, frames = pack(runs, Path(args.out))
        print(viz.save_gif(moving(moments, frames), args.film, fps=8, hold_last=2))
    elif args.what == "spoilt":
        spoil(runs)
    else:
        train(GAMES[args.what], runs / args.what, args.steps, looks(args.steps))


def looks(last: int) -> set[int]:
    """Steps to look at: every twentieth at first, then each 4% later than the one before."""
    at, found = 20.0, set()
    while at <= last:
        found.add(round(at))
        at = max(at + 20, at * 1.04)
    return found


def train(config, folder: Path, steps: int, at: set[int], **how) -> None:
    """Train to ``steps`` in all, with a snapshot and a score at each of ``at``."""
    begun, images = time.process_time(), build.load_images(config)
    config = build.fitted(config, images)
    run = Run(folder, resume=True, checkpoint_every=100, **how)
    looking = dict(snapshot_every=at, score=build.score_for(images), score_every=at)
    history = fit(build.players(config), build.step(config), images, steps=steps, batch_size=64, run=run, **looking)
    with (folder / "processor-seconds.txt").open("a") as file:
        file.write(f"{history.steps} {time.process_time() - begun:.0f} {torch.get_num_threads()}\n")
    print(history)


def spoil(runs: Path) -> None:
    """Go on from where wgan-gp is, first with a generator that is far too fast, then as before."""
    good, folder = runs / "wgan-gp", runs / "spoilt"
    done = history_of(good).steps
    shutil.copytree(good, folder)
    at = looks(done) | set(range(done, done + 1000, 5))
    for rate, more in SPOILT:
        done += more
        config = replace(GAMES["wgan-gp"], g_lr=rate * GAMES["wgan-gp"].g_lr)
        train(config, folder, done, at, allow_changes=True)


def pack(runs: Path, out: Path) -> tuple[list, list]:
    """Write OUT/wgan.json, all moments, and a film for each run, OUT/wgan-NAME.png; return those of the spoilt one."""
    packed, films = {}, {}
    for folder in sorted(runs.iterdir()):
        history, pictures = history_of(folder), dict(snapshots_in(folder))
        start = history_of(runs / "wgan-gp").steps - 200 if folder.name == "spoilt" else 0
        moments, frames, last = [], [], 0
        for step, found in history.scores:
            since = history.losses["critic_loss"][last:step]
            if step > max(last, start) and step in pictures:
                found = {name: round(value, 4) for name, value in found.items()}
                moments.append({"step": step, "estimate": round(-float(np.mean(since)), 4), **found})
                frames.append(read_snapshot(pictures[step])[:SHOWN])
            last = step
        packed[folder.name], films[folder.name] = moments, frames
        write_snapshot(out / f"wgan-{folder.name}.png", torch.cat(frames))
    (out / "wgan.json").write_text(json.dumps(packed) + "\n")
    return packed["spoilt"], films["spoilt"]


def moving(moments: list[dict], frames: list[torch.Tensor]) -> list[tuple[int, np.ndarray]]:
    """Samples, and the estimate and the score so far: a picture for each moment, with its step."""
    fd = next(name for name in moments[0] if name.startswith("fd"))
    lines = ("estimate", "-", viz.D_COLOR), (fd, "--", viz.G_COLOR)
    pictures = []
    for k, images in enumerate(frames, 1):
        figure = Figure((6.4, 2.6), dpi=100, facecolor="white", layout="constrained")
        sheet, curves = figure.subplots(1, 2, width_ratios=(1, 1.2))
        sheet.imshow(viz.grid(images, cols=4, scale=2), cmap="gray", vmin=0, vmax=255)
        sheet.set_axis_off()
        for axes, (name, style, color) in zip((curves, curves.twinx()), lines, strict=True):
            values = [moment[name] for moment in moments]
            axes.plot([moment["step"] for moment in moments[:k]], values[:k], style, color=color)
            axes.set(xlim=(moments[0]["step"], moments[-1]["step"]), yscale="log", xlabel="step")
            axes.set_ylim(0.8 * min(values), 1.25 * max(values))
            axes.set_ylabel("the critic's loss" if name == "estimate" else "Fréchet distance", color=color)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pictures.append((moments[k - 1]["step"], np.asarray(canvas.buffer_rgba())[:, :, :3].copy()))
    return pictures


if __name__ == "__main__":
    main()
