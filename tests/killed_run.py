"""A small training run for test_killed.py, started in forks of this process, which is warm: torch is imported once.

    echo '{"folder": "run", "steps": 9, "pause_at": null}' | python tests/killed_run.py

Each line of the input is a run; with ``"pause_at": ["fsync", 7]`` it stands still at the seventh call of that name, so
that it can be killed there. Told on the output: its process, that it trains, where it stands still, and how it ended.
"""

import itertools
import json
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ganlib import models
from ganlib.data.images import ImageSet
from ganlib.metrics import Numbers
from ganlib.runs import Run
from ganlib.steps import GAN, dcgan_step
from ganlib.train import fit
from ganlib.viz import save_gif

CHECKPOINT_EVERY = 4  # steps


def say(**message):
    """One line of JSON; a single write, since the process may be killed at any time."""
    os.write(1, (json.dumps(message) + "\n").encode())


def players():
    """A DCGAN for 12 pixels with dropout, and an optimiser of another kind for each of the two."""
    generator = models.dcgan_generator(12, 1, 4, 8)
    layers = [nn.Conv2d(1, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Flatten(), nn.Linear(8 * 36, 1)]
    discriminator = models.initialise(nn.Sequential(*layers, nn.Flatten(0)), seed=1)
    g_opt = torch.optim.Adam(generator.parameters(), 2e-3, betas=(0.5, 0.99))
    d_opt = torch.optim.RMSprop(discriminator.parameters(), 1e-3, momentum=0.5)
    return GAN(generator, discriminator, g_opt, d_opt, z_dim=8, device="cpu")


def step(gan, batches):
    """A step that draws from every global generator there is, besides z, the images' order and dropout."""
    real = next(batches)
    scale = 1 + 0.1 * random.gauss() + 0.1 * float(np.random.standard_normal())  # noqa: NPY002
    return dcgan_step(gan, iter([(scale * real + 0.1 * torch.randn_like(real)).clamp(-1, 1)]))


def mean(generator):
    """A score that is cheap."""
    with torch.no_grad():
        return Numbers({"distance": abs(float(generator(torch.ones(4, 8)).mean()) + 0.5)}, ("distance", "lowest"))


def stand_still(call, at):
    """Let the ``at``-th ``call`` to the disk (fsync, replace) tell where it is, and wait to be killed."""
    calls, original = itertools.count(1), getattr(os, call)

    def watched(path, *more):
        if next(calls) == at:
            say(standing_at=call if isinstance(path, int) else f"{call} {Path(path).name}")
            time.sleep(600)
        return original(path, *more)

    setattr(os, call, watched)


def train(folder, steps, pause_at):
    """Train to ``steps``, from wherever ``folder`` is, and write the film of the whole run."""
    torch.set_num_threads(1)
    if pause_at:
        stand_still(*pause_at)
    pixels = torch.randint(0, 256, (96, 1, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = ImageSet(pixels, None, (), "noise", "noise").with_flips()
    run = Run(folder, resume=True, checkpoint_every=CHECKPOINT_EVERY)
    looks = dict(snapshot_every=6, score=mean, score_every=10, watchers=())
    say(training=True)
    history = fit(players(), step, images, steps=steps, batch_size=16, run=run, **looks)
    save_gif([snapshot for _, snapshot in history.snapshots], Path(folder) / "training.gif", cols=8)
    (Path(folder) / "losses.json").write_text(json.dumps(history.losses))


def main():
    """Fork a run for each line of the input."""
    for line in sys.stdin:
        if not (process := os.fork()):
            try:
                sys.stdout = sys.stderr  # what the run prints
                train(**json.loads(line))
            except BaseException as error:
                say(failed=repr(error))
            finally:
                os._exit(0)
        say(process=process)
        _, status = os.waitpid(process, 0)
        say(ended=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
