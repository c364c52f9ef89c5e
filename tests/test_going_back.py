"""Branches from any checkpoint, runs that diverged, and runs that cannot be saved where they should."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from makers import pictures
from safetensors.torch import load_file
from test_cli import TINY
from test_train import players, quick

from ganlib._runtime import clock, progress
from ganlib.data.images import ImageSet
from ganlib.runs import Run, branch, build, checkpoint, cli
from ganlib.steps import dcgan_step
from ganlib.train import Diverged
from helpers import ROOT, noise

pytestmark = pytest.mark.usefixtures("quickly")


@pytest.fixture(scope="module")
def images():
    return ImageSet(noise(40, size=28), None, (), "noise", "noise")


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ganlib(capsys, words):
    """Exit code, and what was said."""
    code = cli.main(words.split() if isinstance(words, str) else list(map(str, words)))
    said = capsys.readouterr()
    return code, said.out + said.err


def trained(capsys, *words):
    code, said = ganlib(capsys, ["train", *TINY, *words])
    assert code == 0, said
    return said


# --- Branches -------------------------------------------------------------------------------------------------


def test_a_branch_from_any_checkpoint(empty, capsys):
    trained(capsys, *shlex.split("--steps 8 --keep-every 2 --snapshot-every 2 --out old"))
    before = {path: path.read_bytes() for path in (empty / "old").rglob("*") if path.is_file()}
    code, said = ganlib(capsys, "train --from old --step 4 --out new --g-lr 0.25 --steps 6")
    assert code == 0, said
    about = json.loads((empty / "new" / "config.json").read_text())
    assert about["config"]["g_lr"] == 0.25 and about["players"]["g_opt"]["groups"][0]["lr"] == 0.25
    assert about["changes"][0]["after_step"] == 4 and "g_opt" in " ".join(about["changes"][0]["what"])
    rows = [(empty / name / "history.jsonl").read_text().splitlines() for name in ("old", "new")]
    assert rows[0][:4] == rows[1][:4] and len(rows[1]) == 6 and rows[0][5] != rows[1][5]
    assert sorted(path.stem for path in (empty / "new" / "samples").iterdir()) == [
        f"step-00000{k}" for k in (0, 2, 4, 6)
    ]
    assert before == {path: path.read_bytes() for path in (empty / "old").rglob("*") if path.is_file()}
    code, said = ganlib(capsys, "train --resume-path new --steps 8")  # it is a run like any other
    assert code == 0 and checkpoint.steps_in(empty / "new")[-1] == 8
    # With nothing changed, a branch is what the run was.
    assert ganlib(capsys, "train --from old --step 4 --out same")[0] == 0
    one, other = (load_file(checkpoint.path_of(empty / name, 8)) for name in ("old", "same"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    code, said = ganlib(capsys, "train --from old --steps 9")  # from the newest, into a folder with a number
    assert code == 0 and checkpoint.steps_in(empty / "runs" / "fake")[-1] == 9


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("train --from old --step 3 --out new", "no checkpoint of step 3; it has: 2, 4"),
        ("train --from old --out old", "'old' is not empty"),
        ("train --from none --out new", "no run in 'none'"),
        ("train --from old --resume-path old", "--from-run begins a new run"),
        ("train --from old --preset demo --out new", "preset is for a new run"),
        ("train --step 3", "--step 3 goes with --from-run"),
        ("train --from old --out new --z-dim 9", "z_dim|--z-dim|latent|fit"),
        ("generate --run old --step 3", "no checkpoint of step 3; it has: 2, 4"),
        ("train --keep-every 0", "--keep-every 0, but must be at least 1"),
    ],
)
def test_what_cannot_be_gone_back_to(empty, capsys, words, sentence):
    trained(capsys, *shlex.split("--steps 4 --keep-every 2 --out old"))
    code, said = ganlib(capsys, words)
    assert code == 2 and re.search(sentence, said), said
    assert not (empty / "new").exists()  # what did not begin leaves nothing


def test_pictures_of_any_checkpoint_and_what_there_is(empty, capsys):
    trained(capsys, *shlex.split("--steps 4 --keep-every 2 --g-lr 0.1 --out old"))
    drawn = []
    for step in ("2", "4"):
        assert f"step {step}" in ganlib(capsys, f"generate --run old --step {step} --num 4 --grid --out {step}.png")[1]
        drawn.append((empty / f"{step}.png").read_bytes())
    assert drawn[0] != drawn[1]
    said = ganlib(capsys, "info old")[1]
    assert "step-000002" in said and "ganlib train --from old --step 4 --out NEW" in said


def test_a_branch_in_a_program(images, empty):
    def go(out, **how):
        gan = players()
        return gan, quick(gan, images, run=Run(out, checkpoint_every=2, **how), steps=6)

    go("old")
    branch("old", "new", step=4)
    (gan, history), (whole, _) = go("new", resume=True, allow_changes=True), go("whole")
    assert history.steps == 6 and torch.equal(gan.generator[0].weight, whole.generator[0].weight)


# --- Divergence ----------------------------------------------------------------------------------------------


def test_a_run_that_diverged_names_the_way_back_and_is_not_repeated(images, empty):
    def step(gan, batches):
        losses = dcgan_step(gan, batches)
        return {name: loss * float("nan") if gan.steps_done == 5 else loss for name, loss in losses.items()}

    def go(step, **how):
        return quick(players(), images, step=step, run=Run("run", checkpoint_every=2, resume=True, **how), steps=8)

    with pytest.raises(Diverged, match=r"at step 6.*To go back to step 4 \(there are 2, 4\):.*branch\('run'.*step=4"):
        go(step)
    with pytest.raises(FileExistsError, match="diverged at step 6, and would again.*step=4.*allow_changes=True"):
        go(step)
    assert go(dcgan_step, allow_changes=True).steps == 8  # mended
    assert go(dcgan_step).steps == 8


def test_the_command_line_names_a_command_that_works(empty, capsys, monkeypatch):
    def step(gan, batches):
        losses = dcgan_step(gan, batches)
        return {name: loss / 0 if gan.steps_done == 5 else loss for name, loss in losses.items()}

    with monkeypatch.context() as broken:
        broken.setattr(build, "step", lambda config: step)
        words = ["train", *TINY, *shlex.split("--steps 9 --checkpoint-every 2 --g-lr 1e-3 --out run")]
        code, said = ganlib(capsys, words)
        assert code == 1 and "ganlib train --from run --step 4 --out run-2" in said, said
        code, again = ganlib(capsys, "train --resume-path run")
    assert code == 2 and "diverged at step 6, and would again" in again and "--step 4" in again
    command = said.rpartition("ganlib train ")[2].split()
    assert command[-4:] == ["--g-lr", "0.0005", "--d-lr", "0.0001"]
    assert ganlib(capsys, ["train", *command])[0] == 0 and checkpoint.steps_in("run-2")[-1] == 9


# --- What is gone, or cannot be written -----------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["folder", "files"])
def test_a_run_without_its_checkpoints_is_not_begun_anew(empty, capsys, gone):
    trained(capsys, *shlex.split("--steps 6 --checkpoint-every 2 --out run"))
    shutil.rmtree(empty / "run" / "checkpoints")
    if gone == "files":
        (empty / "run" / "checkpoints").mkdir()
    before = (empty / "run" / "history.jsonl").read_bytes()
    code, said = ganlib(capsys, "train --resume-path run --steps 3")
    assert code == 2 and "a run of 6 steps whose checkpoints are gone" in said
    assert (empty / "run" / "history.jsonl").read_bytes() == before and len(before.splitlines()) == 6


def test_a_folder_that_is_deleted_meanwhile(images, empty, capsys):
    def step(gan, batches):
        if gan.steps_done == 3:
            shutil.rmtree("run")
        return dcgan_step(gan, batches)

    history = quick(players(), images, step=step, run=Run("run"), steps=5)
    assert "unsaved" in history.stopped and checkpoint.load_generator("run-step-000005.safetensors").steps_done == 5
    assert str(empty / "run-step-000005.safetensors") in capsys.readouterr().out


def test_an_unsaved_run_ends_with_1(empty, capsys, monkeypatch):
    real = Run.after_step
    monkeypatch.setattr(Run, "after_step", lambda self, gan: (real(self, gan), shutil.rmtree("run", True)))
    code, said = ganlib(capsys, ["train", *TINY, "--out", "run"])
    assert code == 1 and (empty / "run-step-000002.safetensors").is_file() and "run-step-000002.safetensors'" in said


# --- Output closed, a process stopped for a while ------------------------------------------------


def started(*words, **how):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    long = shlex.split("--steps 1000000 --print-every 1 --out run")
    words = [sys.executable, "-m", "ganlib", "train", *TINY, *long, *words]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def test_output_that_nobody_reads_any_more_ends_training_saved(tmp_path):
    with started(cwd=tmp_path) as process:
        next(line for line in process.stdout if line.startswith("step 3 "))
        process.stdout.close()  # as head does
        assert process.wait(timeout=60) == 130 and process.stderr.read() == ""
    steps = checkpoint.steps_in(tmp_path / "run")
    assert steps and steps[-1] >= 3


@pytest.mark.skipif(not hasattr(signal, "SIGCONT"), reason="signals as in Unix")
def test_time_for_which_the_process_is_stopped_does_not_count(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    with progress.interrupts(lambda: None):
        begun = clock.seconds()
        now[0] += 2
        assert clock.seconds() - begun == 2
        now[0] += 3600  # stopped for an hour
        signal.raise_signal(signal.SIGCONT)
        now[0] += 3
        assert clock.seconds() - begun == 5
    assert signal.getsignal(signal.SIGCONT) == signal.SIG_DFL


# --- Where it was begun, and with what editor -----------------------------------------------------------------


def test_a_run_on_a_relative_path_is_resumed_from_elsewhere(empty, capsys, monkeypatch):
    pictures(empty / "album", n=10)
    small = shlex.split("--image-size 8 --z-dim 4 --g-width 2 --d-width 2 --batch-size 4 --score-every 0 --steps")
    assert ganlib(capsys, ["train", "--dataset", "album", *small, 2, "--out", "run"])[0] == 0
    config = empty / "run" / "config.json"
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())  # saved by an editor of Windows
    (empty / "elsewhere").mkdir()
    monkeypatch.chdir(empty / "elsewhere")
    code, said = ganlib(capsys, "train --resume-path ../run --steps 3")
    assert code == 0, said
    assert checkpoint.steps_in(empty / "run")[-1] == 3
