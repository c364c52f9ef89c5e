"""Training in several processes of torchrun: the players of one process, one writer, and what if a process ends."""

import contextlib
import functools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_training import TINY, alike, state

from ganlib.data import load
from ganlib.data.augment import augmented
from ganlib.runs import checkpoint, cli, workers
from ganlib.runs.folder import history_of
from ganlib.steps import GAN, STEPS
from ganlib.train import fit
from helpers import ROOT

pytestmark = [pytest.mark.usefixtures("quickly"), pytest.mark.slow]
LONG = [*TINY, "--checkpoint-every", "20", "--print-every", "1"]


def without_batch_norm():
    """Players to whom it is all one whether a batch comes in one piece or in more."""
    torch.manual_seed(0)
    generator = torch.nn.Sequential(torch.nn.Linear(4, 192), torch.nn.Tanh(), torch.nn.Unflatten(1, (3, 8, 8)))
    discriminator = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1), torch.nn.Flatten(0))
    augmented(discriminator, ("colour", "translation", "cutout"))
    sgd = [torch.optim.SGD(model.parameters(), 0.1) for model in (generator, discriminator)]
    return GAN(generator, discriminator, *sgd, z_dim=4, device="cpu")


def weights(gan):
    networks = torch.nn.ModuleDict({"generator": gan.generator, "discriminator": gan.discriminator})
    return {name: value.clone() for name, value in networks.state_dict().items()}


def started(folder, *words, n=2, machines=("--standalone",)):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", *machines, "--nproc-per-node", str(n), *words]
    how = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    return subprocess.Popen(command, cwd=folder, env=environment, **how)


def torchrun(folder, *words, **how):
    process = started(folder, *words, **how)
    printed = process.communicate(timeout=300)[0]
    assert process.returncode == 0, printed
    return printed


def train(*words):
    return "-m", "ganlib", "--", "train", *words


@pytest.mark.parametrize("n", [2, 4])
def test_processes_give_the_players_of_one(tmp_path, n):
    """What enters each step, z, ε and augmentation, is drawn as in one process; what a step draws itself is not."""
    torchrun(tmp_path, __file__, n=n)
    every = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(n)]
    images, begun = load("fake", n=40, image_size=8), weights(without_batch_norm())
    for kind, step in STEPS.items():
        history = fit(alone := without_batch_norm(), step, images, steps=4, batch_size=8, watchers=())
        for name, value in weights(alone).items():
            assert all(torch.equal(one[kind][name], every[0][kind][name]) for one in every)
            assert torch.allclose(value, every[0][kind][name], rtol=0, atol=1e-6), (kind, name)
            assert (begun[name] - value).abs().max() > 1e-4 or name == "discriminator.1.bias"  # a critic needs none
        for name, values in history.losses.items():
            assert torch.allclose(torch.tensor(values), every[0][kind][name], rtol=0, atol=1e-5), (kind, name)
    assert len({value for one in every for value in one["drawn"].tolist()}) == 4 * n  # the same seed for each kind


def test_a_run_in_two_processes_is_resumed_exactly_and_written_once(tmp_path):
    words = train(*TINY, "--loss", "wgan", "--augment", "flip")
    assert torchrun(tmp_path, *words, "--steps", "4", "--out", "straight").count("generated shapes") == 1
    torchrun(tmp_path, *words, "--out", "run")
    torchrun(tmp_path, *train("--resume-path", "run", "--steps", "4"))
    assert alike(state(tmp_path / "run"), state(tmp_path / "straight"))
    assert "wgan" in (tmp_path / "run" / "config.json").read_text().partition('"step": {')[2][:40]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["run", "straight"]


def test_two_machines_train_one_run_and_only_the_first_has_its_folder(tmp_path):
    """Two agents of torchrun, each in a folder of its own; four processes, as many as there are of batches of 8."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    agents = []
    for rank in range(2):
        (folder := tmp_path / str(rank)).mkdir()
        meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "one"]
        machines = ["--nnodes", "2", "--node-rank", str(rank), *meet]
        agents.append(started(folder, *train(*TINY, "--loss", "hinge", "--out", "run"), machines=machines))
        time.sleep(0.5)
    printed = [agent.communicate(timeout=300)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], printed
    folders = [folder for folder in tmp_path.iterdir() if (folder / "run").exists()]
    assert len(folders) == 1 and history_of(folders[0] / "run").steps == 2


def kill_one(process, folder, after):
    """Kill rank 1 with a checkpoint of step ``after`` or later on disk."""
    end = time.monotonic() + 120
    while not (steps := checkpoint.steps_in(folder)) or steps[-1] < after:
        assert time.monotonic() < end and process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (path / "environ").read_bytes().split(b"\0")
            if {b"RANK=1", b"PWD_OF_TEST=" + os.fsencode(folder)} <= {*variables}:
                os.kill(int(path.name), signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds a worker by its environment")
def test_a_killed_worker_ends_the_run_with_a_sentence_and_restarts_resume_it(tmp_path, monkeypatch):
    words = train(*LONG, "--steps", "100000", "--out", "run")
    monkeypatch.setenv("PWD_OF_TEST", str(tmp_path / "run"))
    process = started(tmp_path, *words)
    kill_one(process, tmp_path / "run", after=20)
    printed = process.communicate(timeout=120)[0]
    assert process.returncode and "Traceback" not in printed.partition("torch/distributed")[0]
    told = re.findall("ganlib: .*", printed)
    last = checkpoint.steps_in(tmp_path / "run")[-1]
    assert len(told) == 1 and "has ended" in told[0] and f"has the checkpoint of step {last}" in told[0], printed

    # The same command goes on, now with restarts and more workers; one is killed again, and the rest comes by itself.
    process = started(tmp_path, "--max-restarts", "1", *train(*LONG, "--steps", str(last + 120), "--out", "run"), n=4)
    kill_one(process, tmp_path / "run", after=last + 20)
    printed = process.communicate(timeout=240)[0]
    assert process.returncode == 0 and "has ended" in printed, printed
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert history_of(tmp_path / "run").steps == last + 120 == len(lines)


def test_a_stop_saves_the_run_and_one_process_resumes_it(tmp_path):
    process = started(tmp_path, *train(*LONG, "--steps", "100000", "--out", "run"))
    while not checkpoint.steps_in(tmp_path / "run"):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal: the agent and all its workers hear it
    printed = process.communicate(timeout=120)[0]
    stopped = re.search(r"interrupted after ([\d,]+) steps", printed)
    assert stopped, printed
    done = checkpoint.steps_in(tmp_path / "run")[-1]
    assert done == int(stopped[1].replace(",", ""))
    assert cli.main(["train", "--resume-path", str(tmp_path / "run"), "--steps", str(done + 1)]) == 0


def test_restarts_need_a_folder_with_a_name(monkeypatch):
    from ganlib.runs import training

    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(ValueError, match="out=runs/NAME"):
        training.train(dataset="fake", n=40)


def drawing(step, gan, batches):
    """A step that draws a number of its own, and notes it."""
    drawn.append(float(torch.rand(())))
    return step(gan, batches)


drawn, states = [], {}
if __name__ == "__main__":  # one of the processes
    reals, where, rank = load("fake", n=40, image_size=8), torch.device("cpu"), workers.place()[0]
    for kind, its_step in STEPS.items():
        players, own_step = without_batch_norm(), functools.partial(drawing, its_step)
        if rank:
            workers.follow(players, own_step, reals, where, batch_size=8)
            states[kind] = weights(players)
            continue
        with workers.joined(players, own_step, reals, where) as shared:
            losses = fit(players, shared, reals, steps=4, batch_size=8, watchers=()).losses
        states[kind] = weights(players) | {name: torch.tensor(values) for name, values in losses.items()}
    torch.save(states | {"drawn": torch.tensor(drawn)}, f"{rank}.pth")
