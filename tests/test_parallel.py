"""Training in two processes of torchrun: the same players in both, the gradients of the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_training import TINY, alike, state

from ganlib.data import load
from ganlib.runs import training
from ganlib.steps import GAN, rpgan_step
from ganlib.train import fit
from helpers import ROOT

pytestmark = [pytest.mark.usefixtures("quickly"), pytest.mark.slow]


def without_batch_norm():
    """Players to whom it is all one whether a batch comes in one piece or in two."""
    torch.manual_seed(0)
    generator = torch.nn.Sequential(torch.nn.Linear(4, 192), torch.nn.Tanh(), torch.nn.Unflatten(1, (3, 8, 8)))
    discriminator = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1), torch.nn.Flatten(0))
    sgd = [torch.optim.SGD(model.parameters(), 0.1) for model in (generator, discriminator)]
    return GAN(generator, discriminator, *sgd, z_dim=4, device="cpu")


def torchrun(folder, *words):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_two_processes_give_the_players_of_one(tmp_path):
    torchrun(tmp_path, __file__)
    one, two = (torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in (0, 1))
    alone, images = without_batch_norm(), load("fake", n=40, image_size=8)
    begun = {name: value.clone() for name, value in alone.generator.state_dict().items()}
    fit(alone, rpgan_step, images, steps=4, batch_size=8, watchers=())
    for name, value in alone.generator.state_dict().items():
        assert torch.equal(one[name], two[name]) and torch.allclose(value, one[name], rtol=0, atol=1e-6)
        assert (begun[name] - value).abs().max() > 1e-3


def test_a_run_in_two_processes_is_resumed_exactly_and_written_once(tmp_path):
    words = ["-m", "ganlib", "--", "train", *TINY, "--loss", "wgan", "--augment", "flip"]
    assert torchrun(tmp_path, *words, "--steps", "4", "--out", "straight").count("generated shapes") == 1
    torchrun(tmp_path, *words, "--out", "run")
    torchrun(tmp_path, "-m", "ganlib", "train", "--resume-path", "run", "--steps", "4")
    assert alike(state(tmp_path / "run"), state(tmp_path / "straight"))
    assert "wgan" in (tmp_path / "run" / "config.json").read_text().partition('"step": {')[2][:40]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["run", "straight"]


if __name__ == "__main__":  # one of the two processes
    players, reals = without_batch_norm(), load("fake", n=40, image_size=8)
    if training.place()[0]:
        training.follow(players, rpgan_step, reals, torch.device("cpu"), batch_size=8)
    else:
        with training.joined(players, rpgan_step, torch.device("cpu")) as shared:
            fit(players, shared, reals, steps=4, batch_size=8, watchers=())
    torch.save(players.generator.state_dict(), Path(f"{training.place()[0]}.pth"))
