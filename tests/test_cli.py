"""The command line itself: help that comes at once, and short errors that name culprit and cure."""

import io
import json
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from test_checkpoint import Exploit
from test_training import TINY

from ganlib.runs import checkpoint, cli, training
from ganlib.runs.config import Config
from ganlib.train import Diverged
from helpers import ROOT

pytestmark = pytest.mark.usefixtures("quickly")
FLAGS = ["--" + field.name.replace("_", "-") for field in fields(Config)]


def told(words):
    """The exit code, and what was printed to stdout and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


def is_short_and_names(words, sentence):
    """One line of ours, or some of tyro's; exit code 2."""
    code, _, err = told(shlex.split(words))
    assert code == 2, (code, err)
    assert len(err.strip().splitlines()) == 1 or not err.startswith("ganlib: ")
    assert len(err.strip().splitlines()) < 20 and len(err) < 1800 and "Traceback" not in err
    assert re.search(sentence, re.sub(r"[\s│]+", " ", err)), err


WRONG = {
    "trian": "'trian'.*'train'",
    "train --datset mnist": "--datset.*--dataset",
    "train --g_rl 1e-3": "--g_rl",
    "train --steps many": "--steps.*INT.*many",
    "train --steps 0": "--steps 0, .*at least 1",
    "train --loss lsgan": "lsgan.*--loss.*hinge",
    "train --processes 2": "--processes",
    "train --preset dmo": "dmo.*--preset.*demo",
    "train --n-critic 5": "--n-critic.*--loss ns",
    "train --dataset fake --architecture linear --g-width 3": "width",
    "train --dataset fake --n 4": "--batch-size.*64.*4",
    "train --device tpu": "'tpu'",
    "train --dataset cifra10": "cifra10.*cifar10",
    "train --dataset no/such/folder": "no/such/folder",
    "train --dataset folder": "--data-root",
    "train --dataset fake --classes cat": "'cat'.*0 disc",
    "train --dataset fake --image-size 8 --categories 64": "--categories 64.*--z-dim",
    "train --dataset fake --image-size 12 --architecture linear": "12.*multiple of 8",
    "train --dataset fake --betas 0.5 1": "beta",
    "generate": "--run",
    "evaluate --run x --against them": "them.*--against|--against.*them",
    **dict.fromkeys(
        (f"{c} --run no/such/run" for c in ("generate", "gif", "interpolate", "evaluate", "reconstruct")), "no/such/run"
    ),
    "info": "RUN|run",
    "info no/such/run": "no/such/run",
    "compare no/such/run no/other/run": "no/such/run",
    "data mnits": "mnits",
}


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", WRONG, ids=lambda words: words[-60:])
def test_a_wrong_command_line_gets_a_short_answer(empty, words):
    is_short_and_names(words, WRONG[words])
    assert not list(empty.iterdir()) or list(empty.rglob("*")) == [empty / "runs"], list(empty.rglob("*"))


@pytest.fixture
def run(empty):
    """A run of two steps in the folder ``run``, and some files that are not what they seem."""
    assert told(["train", *TINY, "--out", "run", "--checkpoint-every", "1"])[0] == 0
    Path("evil.pth").write_bytes(pickle.dumps(Exploit(Path("created"))))
    Path("bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    save_file({"x": np.zeros(1)}, "x.safetensors")
    Path("page.zip").write_text("<html>quota exceeded</html>")
    Path("nothing").mkdir()
    Path("text.txt").write_text("neither an archive nor a folder")
    return Path("run")


def edited(change):
    """A damage to the settings in config.json."""

    def damage(run):
        about = json.loads((run / "config.json").read_text())
        change(about)
        (run / "config.json").write_text(json.dumps(about))

    return damage


def torn(run):
    for step in checkpoint.steps_in(run):
        checkpoint.path_of(run, step).write_bytes(b"torn")


TRAIN, RESUME = f"train {' '.join(TINY)}", "train --resume-path run --steps 3"
DAMAGED = [
    (lambda run: (run / "config.json").write_text("{"), RESUME, "config.json' is damaged"),
    (lambda run: (run / "config.json").unlink(), RESUME, "no run in 'run'"),
    (edited(lambda about: about["config"].update(z_din=3)), RESUME, "config.json.*damaged.*z_din"),
    (edited(lambda about: about["config"].update(z_dim="x")), RESUME, "config.json.*damaged.*--z-dim 'x'"),
    (edited(lambda about: about.update(config=None)), RESUME, "'run'.*program"),
    (edited(lambda about: about["config"].update(n=24)), RESUME, "images.count was 40 and is 24"),
    (torn, RESUME, "'run'.*intact"),
    (None, f"{TRAIN} --out run", "'run' holds a run.*--resume-path run"),
    (None, f"{TRAIN} --out text.txt/run", "text.txt/run"),
    (None, "train --resume-path nothing", "no run in 'nothing'"),
    (None, "train --resume-path run --out y", "leave out out"),
    (None, "train --resume-path run --preset demo", "leave preset out"),
    (None, f"{TRAIN} --generator evil.pth", "'evil.pth' was refused"),
    (None, f"{TRAIN} --generator bad.safetensors", "bad.safetensors' is damaged"),
    (None, f"{TRAIN} --discriminator x.safetensors", "x.safetensors.*do not fit"),
    (None, f"{TRAIN} --generator nothing", "no checkpoint in 'nothing'"),
    (None, f"{TRAIN} --generator gone.pth", "no file or folder 'gone.pth'"),
    (None, f"{TRAIN} --generator run --g-width 3", "'run' do not fit.*shape"),
    (None, "train --dataset page.zip", "page.zip.*web page"),
    (None, "train --dataset text.txt", "text.txt"),
]


@pytest.mark.parametrize(
    ("damage", "words", "sentence"), DAMAGED, ids=[f"{damaged[1][-30:]}-{k}" for k, damaged in enumerate(DAMAGED)]
)
def test_damage_gets_a_line(run, damage, words, sentence):
    if damage:
        damage(run)
    is_short_and_names(words, sentence)
    assert not Path("created").exists()


def test_a_run_that_fails_ends_with_1_and_a_mistake_of_ours_is_not_hidden(empty, monkeypatch):
    def fails(error):
        def fit(*_, **__):
            raise error

        monkeypatch.setattr(training, "fit", fit)
        return told(["train", *TINY])

    assert fails(Diverged("g_loss became nan at step 3", None))[::2] == (1, "ganlib: g_loss became nan at step 3\n")
    assert fails(KeyboardInterrupt())[::2] == (130, "ganlib: Interrupted.\n")
    assert re.search("not enough memory", fails(RuntimeError("DefaultCPUAllocator: can't allocate memory"))[2])
    assert not list((empty / "runs").iterdir())  # no empty folder stays
    with pytest.raises(ZeroDivisionError):
        fails(ZeroDivisionError())


VALUES = shlex.split("0 1 -1 2 0.5 1e999 nan '' x ns wgan fake mnist None -- é a=b")
OTHERS = shlex.split("--run --num --seed --out --fps --truncation --grid --steps --data-root --help")


def some(flags):
    part = st.tuples(st.sampled_from(flags), st.lists(st.sampled_from(VALUES), max_size=2))
    return st.lists(part, max_size=5).map(lambda parts: [word for flag, values in parts for word in (flag, *values)])


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    some([*FLAGS, "--preset", "--no-dry-run", "--z_dim", "-x", "--help"]).map(lambda words: ["train", *words])
    | st.tuples(st.sampled_from(sorted(cli.COMMANDS.keys() - {"train", "data"})), some(OTHERS)).map(
        lambda pair: [pair[0], *pair[1]]
    )
)
def test_random_words_never_end_in_a_traceback(words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.build, "load_images", lambda config: 1 / 0)  # the settings were good so far
        try:
            code, _, err = told(words)
        except ZeroDivisionError:
            return
    assert code == (2 if err else 0)
    assert len(err.splitlines()) == 1 or not err.startswith("ganlib: ")


def python(*words, **how):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, **how)


def test_help_comes_without_torch_and_is_grouped():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"ganlib": "ganlib.runs.cli:main"}
    code = "import sys; from ganlib.runs import cli; cli.main({}); print('torch' in sys.modules)"
    overview = python("-c", code.format(["--help"])).stdout
    assert overview.endswith("False\n") and all(f"  {name} " in overview for name in cli.COMMANDS)
    shown = python("-c", code.format(["train", "--help"])).stdout
    assert shown.endswith("False\n") and len(shown.splitlines()) < 180
    assert all(flag in shown for flag in [*FLAGS, "--preset", "Adam's decay rates"])
    assert all(f"{heading} options" in shown for heading in ("images", "networks", "game", "training", "keeping"))
    for name in cli.COMMANDS:
        code, out, _ = told([name, "--help"])
        assert code == 0 and f"usage: ganlib {name}" in out


def test_a_process_that_is_interrupted_ends_with_130_and_is_resumed(tmp_path):
    words = [sys.executable, "-m", "ganlib", "train", *TINY, "--steps", "1000000", "--print-every", "1", "--out", "run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    how = dict(cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(words, **how) as process:
        next(line for line in process.stdout if line.startswith("step 3 "))
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=60)
    assert process.returncode == 130 and not err
    assert "To resume:  ganlib train --resume-path run" in rest
    steps = checkpoint.steps_in(tmp_path / "run")
    again = python("-m", "ganlib", "train", "--resume-path", "run", "--steps", str(steps[-1] + 2), cwd=tmp_path)
    assert again.returncode == 0 and checkpoint.steps_in(tmp_path / "run")[-1] == steps[-1] + 2
