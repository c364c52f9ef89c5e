"""The command line itself: help that comes at once, and errors of a line or two that name culprit and cure."""

import io
import json
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from test_games import Exploit
from test_running import TINY

from ganlib.runs import checkpoint, cli, running
from ganlib.runs.rules import check
from ganlib.train import Diverged
from helpers import ROOT

pytestmark = pytest.mark.usefixtures("quickly")


def told(words):
    """The exit code, and what was printed to stdout and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


# --- wrong command lines --------------------------------------------------------------------------

WRONG = [
    # words, what the message must name
    (["trian"], "no command 'trian'; did you mean 'train'"),
    (["xyz"], "no command 'xyz'; there are: train"),
    (["--version"], "no command '--version'"),
    (["train", "--datset", "mnist"], "--datset.*Did you mean --dataset"),
    (["train", "--g_rl", "1e-3"], "--g"),
    (["train", "mnist"], "mnist"),
    (["train", "--steps"], "--steps"),
    (["train", "--steps", "many"], "--steps: it takes INT, not .many.\\. "),
    (["train", "--steps", "2.5"], "--steps.*2.5"),
    (["train", "--steps", "0"], "--steps 0, but must be at least 1"),
    (["train", "--steps", "-3"], "--steps -3"),
    (["train", "--epochs", "3", "--steps", "4"], "--epochs 3 and --steps 4 both"),
    (["train", "--epochs", "1e3"], "--epochs.*1e3"),
    (["train", "--seconds", "0"], "--seconds 0"),
    (["train", "--seconds", "nan"], "--seconds nan"),
    (["train", "--seconds", "soon"], "--seconds.*soon"),
    (["train", "--loss", "lsgan"], "lsgan.*--loss.*hinge"),
    (["train", "--architecture", "unet"], "unet.*--architecture.*pooled"),
    (["train", "--norm", "group"], "group.*--norm"),
    (["train", "--precision", "fp8"], "fp8.*--precision"),
    (["train", "--preset", "dmo"], "dmo.*--preset"),
    (["train", "--augment", "flop"], "flop.*--augment"),
    (["train", "--betas", "0.5"], "--betas"),
    (["train", "--betas", "0.5", "1.5"], "--betas .*below 1"),
    (["train", "--betas", "a", "b"], "--betas"),
    (["train", "--betas", "0.5", "0.9", "--loss", "wgan"], "betas are Adam's"),
    (["train", "--g-lr", "0"], "--g-lr 0"),
    (["train", "--d-lr", "-1e-3"], "--d-lr -0.001"),
    (["train", "--g-lr", "fast"], "--g-lr.*fast"),
    (["train", "--n-critic", "5"], "--n-critic does nothing with --loss ns"),
    (["train", "--clip-value", "0.01", "--loss", "hinge"], "--clip-value does nothing with --loss hinge"),
    (["train", "--clip-value", "0", "--loss", "wgan"], "--clip-value 0"),
    (["train", "--gp-weight", "-1", "--loss", "wgan-gp"], "--gp-weight -1"),
    (["train", "--r1-gamma", "1"], "--r1-gamma does nothing"),
    (["train", "--norm", "batch", "--loss", "wgan-gp"], "--norm batch mixes"),
    (["train", "--architecture", "pooled", "--image-size", "32"], "28 grey pixels"),
    (["train", "--architecture", "pooled", "--channels", "3"], "28 grey pixels"),
    (["train", "--architecture", "pooled", "--loss", "wgan"], "--loss wgan cannot have"),
    (["train", "--architecture", "linear", "--image-size", "28"], "multiple of 8"),
    (["train", "--architecture", "linear", "--g-width", "3", "--dataset", "fake"], "width"),
    (["train", "--architecture", "class", "--discriminator", "d.pth"], "for each class"),
    (["train", "--batch-size", "0"], "--batch-size 0"),
    (["train", "--dataset", "fake", "--n", "4"], "4 images, fewer than one batch of 64"),
    (["train", "--ema-decay", "1"], "--ema-decay 1"),
    (["train", "--seed", "-1"], "--seed -1"),
    (["train", "--device", "tpu"], "no device 'tpu' here"),
    (["train", "--channels", "4"], "--channels 4"),
    (["train", "--image-size", "4"], "--image-size 4"),
    (["train", "--z-dim", "99999999999"], "--z-dim 9+, but must be .* below"),
    (["train", "--dataset", "cifra10"], "cifra10"),
    (["train", "--dataset", "no/such/folder"], "no/such/folder"),
    (["train", "--dataset", "folder"], "--data-root"),
    (["train", "--dataset", "fake", "--classes", "cat"], "no class 'cat'; it has: 0 disc"),
    (["train", "--score-every", "-1"], "--score-every -1"),
    (["train", "--print-every", "0"], "--print-every 0"),
    (["train", "--checkpoint-every", "0"], "--checkpoint-every 0"),
    (["train", "--allow-changes"], "--allow-changes is for a run that is gone on with"),
    (["train", "--resume-path", "no/such/run"], "There is no run in 'no/such/run'"),
    (["train", "--resume-path", "x", "--out", "y"], "leave out out"),
    (["train", "--resume-path", "x", "--preset", "demo"], "leave preset out"),
    (["train", "--generator", "no.pth", *TINY], "no file or folder 'no.pth'"),
    (["train", "--dry-run=yes"], "yes"),
    (["generate"], "--run"),
    (["generate", "--run", "no/such/run"], "no/such/run"),
    (["generate", "--run", "no/such/run", "--num", "many"], "--num.*many"),
    (["gif", "--run", "no/such/run"], "no/such/run"),
    (["gif", "--rnu", "x"], "--run PATH"),
    (["interpolate", "--run", "no/such/run"], "no/such/run"),
    (["evaluate", "--run", "no/such/run"], "no/such/run"),
    (["evaluate", "--run", "x", "--against", "them"], "them.*--against|--against.*them"),
    (["reconstruct", "--run", "no/such/run"], "There is no run in 'no/such/run'"),
    (["reconstruct", "--run", "x", "--likelihood", "laplace"], "laplace.*--likelihood|--likelihood.*laplace"),
    (["info"], "RUN|run"),
    (["info", "no/such/run"], "no/such/run"),
    (["compare", "no/such/run", "no/other/run"], "no/such/run"),
    (["data", "mnits"], "mnits"),
    (["data", "no/such/folder"], "no/such/folder"),
]


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def is_short_and_names(words, sentence):
    code, _, err = told(words)
    assert code == 2, (code, err)
    assert 1 <= len(err.strip().splitlines()) <= 2 and err.startswith("ganlib: ")
    assert len(err) < 700 and "Traceback" not in err and "│" not in err
    assert re.search(sentence, err), err


def test_there_are_fifty_of_them():
    assert len(WRONG) + len(DAMAGED) > 80


@pytest.mark.parametrize(
    ("words", "sentence"), WRONG, ids=lambda part: " ".join(part)[-60:] if isinstance(part, list) else ""
)
def test_a_wrong_command_line_gets_a_line(empty, words, sentence):
    is_short_and_names(words, sentence)
    assert not list(empty.iterdir()) or list(empty.rglob("*")) == [empty / "runs"], list(empty.rglob("*"))


# --- damaged files --------------------------------------------------------------------------------


@pytest.fixture
def run(empty):
    """A run of two steps in the folder ``run``, and some files that are not what they seem."""
    assert told(["train", *TINY, "--out", "run", "--checkpoint-every", "1"])[0] == 0
    Path("evil.pth").write_bytes(pickle.dumps(Exploit(Path("created"))))
    torch.save({"0.weight": torch.zeros(1)}, "other.pth")
    torch.save([1, 2], "list.pth")
    Path("bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    save_file({"x": torch.zeros(1)}, "x.safetensors")
    Path("page.zip").write_text("<html>quota exceeded</html>")
    Path("cut.tar.gz").write_bytes(b"\x1f\x8b\x08\0cut")
    Path("nothing").mkdir()
    Path("letters").mkdir()
    Path("letters/a.png").write_bytes(b"not a picture")
    Path("small").mkdir()
    Image.new("RGB", (8, 8)).save("small/a.png")
    Path("text.txt").write_text("not an archive")
    Path("file").write_text("no folder")
    with tarfile.open("empty.tar", "w"):
        pass
    return Path("run")


def edit(path, change):
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))


def each_checkpoint(run, name, content=b"spoilt"):
    for step in checkpoint.steps_in(run):
        (checkpoint.step_folder(run, step) / name).write_bytes(content)


CONFIG, RESUME = "config.json", ["train", "--resume-path", "run", "--steps", "3"]
DAMAGED = {
    "cut": (lambda run: (run / CONFIG).write_text((run / CONFIG).read_text()[:99]), RESUME, "config.json' is damaged"),
    "binary": (lambda run: (run / CONFIG).write_bytes(b"\xff\xfe\0"), RESUME, "config.json' is damaged"),
    "list": (lambda run: (run / CONFIG).write_text("[]"), RESUME, "config.json' is damaged"),
    "gone": (lambda run: (run / CONFIG).unlink(), RESUME, "There is no run in 'run'"),
    "setting": (lambda run: edit(run / CONFIG, lambda c: c["config"].update(z_din=3)), RESUME, "z_din"),
    "value": (
        lambda run: edit(run / CONFIG, lambda c: c["config"].update(z_dim="x")),
        RESUME,
        "damaged, or of another",
    ),
    "table": (lambda run: edit(run / CONFIG, lambda c: c.update(config=3)), RESUME, "damaged, or of another version"),
    "players": (lambda run: edit(run / CONFIG, lambda c: c.update(config=None, players=3)), RESUME, "damaged"),
    "events": (lambda run: edit(run / CONFIG, lambda c: c["arguments"].update(snapshot_at=3)), RESUME, "damaged"),
    "weights": (lambda run: each_checkpoint(run, "generator.safetensors"), RESUME, "No checkpoint in 'run' is whole"),
    "state": (lambda run: each_checkpoint(run, "state.json"), RESUME, "No checkpoint in 'run' is whole"),
    "model": (lambda run: each_checkpoint(run, "model.json"), RESUME, "No checkpoint in 'run' is whole"),
    "images": (
        lambda run: edit(run / CONFIG, lambda c: c["config"].update(n=24)),
        RESUME,
        "images.count was 40 and is 24",
    ),
    "taken": (lambda run: None, ["train", *TINY, "--out", "run"], "'run' holds a run already: .*--resume-path run"),
    "out is a file": (lambda run: None, ["train", *TINY, "--out", "file"], "'file'"),
    "out below a file": (lambda run: None, ["train", *TINY, "--out", "file/run"], "file/run"),
    "resume a file": (lambda run: None, ["train", "--resume-path", "file"], "There is no run in 'file'"),
    "resume nothing": (lambda run: None, ["train", "--resume-path", "nothing"], "There is no run in 'nothing'"),
    "evil": (lambda run: None, ["train", *TINY, "--generator", "evil.pth"], "'evil.pth' was refused"),
    "list.pth": (lambda run: None, ["train", *TINY, "--generator", "list.pth"], "holds a list, not weights"),
    "other.pth": (lambda run: None, ["train", *TINY, "--generator", "other.pth"], "'other.pth' do not fit"),
    "bad": (lambda run: None, ["train", *TINY, "--generator", "bad.safetensors"], "bad.safetensors' is damaged"),
    "misfit": (lambda run: None, ["train", *TINY, "--discriminator", "x.safetensors"], "x.safetensors' do not fit"),
    "no checkpoint": (lambda run: None, ["train", *TINY, "--generator", "nothing"], "No checkpoint in 'nothing'"),
    "page": (lambda run: None, ["train", "--dataset", "page.zip"], "page.zip' is a web page"),
    "cut archive": (lambda run: None, ["train", "--dataset", "cut.tar.gz"], "cut.tar.gz' cannot be read to its end"),
    "empty archive": (lambda run: None, ["train", "--dataset", "empty.tar"], "no images in '.*empty.tar'"),
    "no images": (lambda run: None, ["train", "--dataset", "nothing"], "no images in '.*nothing'"),
    "no picture": (lambda run: None, ["train", "--dataset", "letters"], "None of the 1 images .* can be read"),
    "too small": (lambda run: None, ["train", "--dataset", "small", "--image-size", "16"], "smaller than .*16"),
    "no archive": (lambda run: None, ["train", "--dataset", "text.txt"], "text.txt' is neither a folder nor"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_gets_a_line(run, name):
    damage, words, sentence = DAMAGED[name]
    damage(run)
    is_short_and_names(words, sentence)
    assert not Path("created").exists()


def test_a_run_that_diverges_fails(empty, monkeypatch):
    def diverges(*_, **__):
        raise Diverged("g_loss became nan at step 3", None)

    monkeypatch.setattr(running, "fit", diverges)
    assert told(["train", *TINY]) == (
        1,
        "fake · 40 generated shapes · seed 0 · uint8 [40, 3, 8, 8]\n",
        "ganlib: g_loss became nan at step 3\n",
    )
    monkeypatch.setattr(running, "fit", lambda *_, **__: torch.empty(2**60))
    code, _, err = told(["train", *TINY])
    assert code == 1 and "not enough memory" in err


def test_a_mistake_of_ours_is_not_hidden(empty, monkeypatch):
    monkeypatch.setattr(running, "fit", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", *TINY])


# --- random ones ----------------------------------------------------------------------------------

VALUES = [
    "0",
    "1",
    "-1",
    "2",
    "0.5",
    "1e999",
    "nan",
    "",
    "x",
    "ns",
    "wgan",
    "fake",
    "class",
    "mnist",
    "None",
    "--",
    "é",
    "a=b",
]
FLAGS = ["--" + name.replace("_", "-") for name in cli.SETTINGS] + [
    "--preset",
    "--no-dry-run",
    "--z_dim",
    "-x",
    "--help",
]
PART = st.tuples(st.sampled_from(FLAGS), st.lists(st.sampled_from(VALUES), max_size=2))


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(PART, max_size=5))
def test_random_words_never_end_in_a_traceback(parts):
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_begin", seen.append)
        words = [word for flag, values in parts for word in (flag, *values)]
        code, out, err = told(["train", *words])
    assert code in (0, 2)
    assert len(err.strip().splitlines()) == (1 if code else 0) and (not code or err.startswith("ganlib: "))
    if code == 0 and "--help" not in words:
        assert check(*seen)


OTHERS = sorted(cli.COMMANDS.keys() - {"train"})
OTHER_FLAGS = [
    "--run",
    "--num",
    "--seed",
    "--out",
    "--fps",
    "--truncation",
    "--grid",
    "--steps",
    "--data-root",
    "--help",
]
OTHER_PART = st.tuples(st.sampled_from(OTHER_FLAGS), st.lists(st.sampled_from(VALUES), max_size=2))


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from([name for name in OTHERS if name != "data"]), st.lists(OTHER_PART, max_size=4))
def test_nor_do_they_after_other_commands(name, parts):
    words = [word for flag, values in parts for word in (flag, *values)]
    code, _, err = told([name, *words])  # there is no run of any of these names
    assert code == (0 if not err else 2)
    assert len(err.strip().splitlines()) == (1 if code else 0) and (not code or err.startswith("ganlib: "))


# --- the program ----------------------------------------------------------------------------------


def python(*words, **how):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, **how)


def test_help_comes_without_torch_and_is_grouped(tmp_path):
    code = "import sys; from ganlib import cli; cli.main({}); print('torch' in sys.modules)"
    overview = python("-c", code.format(["--help"])).stdout
    assert overview.endswith("False\n") and all(f"  {name} " in overview for name in cli.COMMANDS)
    shown = python("-c", code.format(["train", "--help"])).stdout
    assert shown.endswith("False\n") and len(shown.splitlines()) < 150
    for name in cli.SETTINGS:
        assert f"--{name.replace('_', '-')}" in shown
    for heading in ("images", "networks", "game", "training", "keeping"):
        assert f"{heading} options" in shown


def test_ganlib_is_a_program_and_a_module(tmp_path):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"ganlib": "ganlib.runs.cli:main"}
    ran = python("-m", "ganlib", "train", "--steps", "x", cwd=tmp_path)
    assert ran.returncode == 2 and ran.stderr.startswith("ganlib: ") and not ran.stdout


def test_a_process_that_is_interrupted_ends_with_130_and_goes_on(tmp_path):
    words = [sys.executable, "-m", "ganlib", "train", *TINY, "--steps", "1000000", "--print-every", "1", "--out", "run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.startswith("step 3 "):
                break
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=60)
    assert process.returncode == 130 and not err
    assert "To go on:  ganlib train --resume-path run" in rest
    steps = checkpoint.steps_in(tmp_path / "run")
    again = python("-m", "ganlib", "train", "--resume-path", "run", "--steps", str(steps[-1] + 2), cwd=tmp_path)
    assert again.returncode == 0 and checkpoint.steps_in(tmp_path / "run")[-1] == steps[-1] + 2


def test_a_command_is_one_line_in_the_table(monkeypatch, tmp_path):
    """What the modules of other commands look like: plain functions with typed keyword parameters."""
    (tmp_path / "some_commands.py").write_text(
        "from pathlib import Path\nfrom typing import Annotated\nimport tyro\n"
        "def show(run: Annotated[Path, tyro.conf.Positional]):\n    print(run)\n"
        "def paint(run: Path, *, num: int = 64, seed: int = 0) -> None:\n"
        '    """Paint.\n\n    Args:\n        run: the folder.\n        num: how many.\n        seed: of z.\n    """\n'
        "    if num < 1:\n        raise ValueError(f'num={num}, but must be at least 1.')\n"
        "    print(run, num, seed)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.COMMANDS, "paint", cli.Command("some_commands:paint", "paint pictures"))
    monkeypatch.setitem(cli.COMMANDS, "show", cli.Command("some_commands:show", "show a run"))
    assert told(["paint", "--run", "x", "--num", "3"]) == (0, "x 3 0\n", "")
    assert told(["show", "x"]) == (0, "x\n", "")
    code, out, err = told(["paint", "--run", "x", "--num", "0"])
    assert (code, err) == (2, "ganlib: num=0, but must be at least 1.\n")
    code, out, err = told(["paint"])
    assert code == 2 and "--run" in err and len(err.splitlines()) == 1
    assert "how many" in told(["paint", "--help"])[1]


def test_the_lines_of_the_readme_are_understood(monkeypatch):
    seen = []
    monkeypatch.setattr(running, "run", lambda **given: seen.append(given))
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("ganlib train ")]
    for line in lines:
        assert told(shlex.split(line)[1:]) == (0, "", "")
    assert len(seen) > 2 and seen[0]["dataset"] == "path/to/photos" and seen[0]["image_size"] == 64
