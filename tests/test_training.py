"""Runs from the command line: every setting by its effect, exact resuming, and what a run leaves."""

import json
import shlex
import types

import imageio.v3 as iio
import pytest
import torch
from safetensors.torch import load_file

import ganlib
from ganlib.runs import build, checkpoint, cli, training
from ganlib.runs.config import Config
from ganlib.steps import change
from ganlib.train import fit, sample
from helpers import ROOT

pytestmark = pytest.mark.usefixtures("quickly")

SMALL = shlex.split("--dataset fake --n 40 --image-size 8 --z-dim 4 --g-width 2 --d-width 2 --batch-size 8")
TINY = [*SMALL, *shlex.split("--steps 2 --score-every 0 --snapshot-every 1")]


@pytest.fixture
def made(monkeypatch):
    """What ``fit`` was given and gave back, one for each run; pictures at the end are left out."""
    runs = []

    def spy(gan, step, images, **arguments):
        run = types.SimpleNamespace(gan=gan, step=step, images=images, arguments=arguments)
        run.history = fit(gan, step, images, **arguments)
        run.folder = arguments["run"].folder
        runs.append(run)
        return run.history

    monkeypatch.setattr(training, "fit", spy)
    monkeypatch.setattr(training.viz, "save_png", lambda *_, **__: None)
    monkeypatch.setattr(training.film, "save_gif", lambda *_, **__: None)
    monkeypatch.setattr(training.viz, "curves", lambda *_: types.SimpleNamespace(savefig=lambda *_, **__: None))
    return runs


@pytest.fixture
def train(made, tmp_path):
    """Run ``ganlib train`` with the tiny settings and more words; what ``fit`` was given and gave back."""

    def run(*words, out="run"):
        assert cli.main(["train", *TINY, *map(str, words), "--out", str(tmp_path / out)]) == 0
        return made[-1]

    return run


def resume(made, folder, *words):
    assert cli.main(["train", "--resume-path", str(folder), *words]) == 0
    return made[-1]


def state(folder):
    """The tensors of the newest checkpoint: players, optimisers, random numbers, losses."""
    return load_file(checkpoint.path_of(folder, checkpoint.steps_in(folder)[-1]))


def alike(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def files(run, folder):
    return sorted(path.stem for path in (run.folder / folder).iterdir())


# What each setting changes, seen where it takes effect: in what was trained on, with or into.
EFFECTS = {
    "--n 24": lambda run: len(run.images) == 24,
    "--classes ring 3": lambda run: set(run.images.labels.tolist()) == {1, 3},
    "--image-size 12": lambda run: run.history.snapshots[-1][1].shape[2:] == (12, 12),
    "--channels 1": lambda run: run.history.snapshots[-1][1].shape[1] == 1,
    "--augment flip": lambda run: run.images.flip,
    "--architecture linear": lambda run: run.gan.generator.config["kind"] == "linear",
    "--architecture residual --g-width 8 --d-width 8 --blocks 2": lambda run: (
        run.gan.generator.config["kind"] == "residual" and run.gan.discriminator.config["blocks"] == 2
    ),
    "--z-dim 6": lambda run: run.gan.generator[0].in_channels == 6,
    "--z-dim 6 --categories 4": lambda run: run.gan.generator[0].k == 4,
    "--g-width 3": lambda run: run.gan.generator[-2].in_channels == 3,
    "--d-width 3": lambda run: run.gan.discriminator[0].out_channels == 3,
    "--d-depth 3 --base 2": lambda run: (
        [getattr(m, "kernel_size", 0) for m in run.gan.discriminator].count((3, 3)) == 2
    ),
    "--base 2": lambda run: run.gan.discriminator[-1].kernel_size == (2, 2),
    "--norm layer --base 2": lambda run: any(isinstance(m, torch.nn.GroupNorm) for m in run.gan.discriminator),
    "--loss wgan --betas 0 0.9": lambda run: type(run.gan.g_opt) is torch.optim.Adam,
    "--loss wgan": lambda run: set(run.history.losses) == {"critic_loss", "g_loss"},
    "--loss wgan --clip-value 0.003": lambda run: (
        max(p.abs().max() for p in run.gan.discriminator.parameters()) <= 0.003
    ),
    "--g-lr 0.125": lambda run: run.gan.g_opt.param_groups[0]["lr"] == 0.125,
    "--betas 0.1 0.2": lambda run: run.gan.d_opt.param_groups[0]["betas"] == (0.1, 0.2),
    "--steps 3": lambda run: run.history.steps == 3,
    "--epochs 2": lambda run: run.history.steps == 10,
    "--seconds 0.05": lambda run: "time limit of 0.05 s" in run.history.stopped,
    "--batch-size 20": lambda run: run.history.steps_per_epoch == 2,
    "--ema-decay 0": lambda run: torch.equal(run.gan.ema_generator[0].weight, run.gan.generator[0].weight),
    "--precision bf16": lambda run: run.history.precision == "bfloat16",
    "--snapshot-every 2": lambda run: files(run, "samples") == ["step-000000", "step-000002"],
    "--steps 6 --keep-epochs 1": lambda run: checkpoint.steps_in(run.folder) == [5, 6],
    "--steps 12 --keep-every 2": lambda run: checkpoint.steps_in(run.folder) == [2, 4, 6, 8, 10, 12],
    "--checkpoint-every 1": lambda run: checkpoint.steps_in(run.folder) == [1, 2],
}


@pytest.mark.parametrize("words", EFFECTS)
def test_a_setting_does_what_it_says(train, made, tmp_path, words):
    if words.startswith(("--epochs", "--seconds")):
        assert cli.main(["train", *SMALL, *words.split(), "--out", str(tmp_path / "run")]) == 0
    else:
        train(*words.split())
    assert EFFECTS[words](made[-1]), words


@pytest.mark.parametrize(
    ("common", "words"),
    [
        ("", "--seed 1"),
        ("", "--augment translation cutout"),
        ("--loss wgan-gp", "--gp-weight 0"),
        ("--loss rpgan", "--r1-gamma 0"),
        ("--loss rpgan", "--r2-gamma 0"),
        ("--loss ns-r1", "--r1-gamma 0"),
        ("--loss ns-r1", "--r1-every 1"),
        ("", "--loss ns-r1"),
        ("", "--loss hinge --norm batch"),
    ],
)
def test_a_setting_changes_what_is_learned(train, common, words):
    plain, again = train(*common.split()), train(*common.split(), out="again")
    other = train(*common.split(), *words.split(), out="other")
    assert alike(state(plain.folder), state(again.folder))
    assert not torch.equal(state(plain.folder)["generator/0.weight"], state(other.folder)["generator/0.weight"])


def test_lines_and_scores_come_as_often_as_asked(train, capsys, monkeypatch):
    monkeypatch.setattr(build, "score_for", lambda images: lambda generator: {"fd_x": 12.5})
    run = train("--steps", "5", "--print-every", "2", "--score-every", "3")
    told = capsys.readouterr().out
    lines = [line.split(" · ")[0] for line in told.splitlines() if line.startswith("step ")]
    assert lines == ["step 2 of 5", "step 4 of 5", "step 5 of 5"] and "fd_x 12.5" in told
    assert run.history.scores == [(0, {"fd_x": 12.5}), (3, {"fd_x": 12.5})]
    monkeypatch.setattr(build, "score_for", lambda images: None)
    assert not train("--score-every", "1", out="other").history.scores
    assert "No score" in capsys.readouterr().out


def test_a_run_leaves_pictures_that_are_its_own(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # runs are numbered
        assert cli.main(["train", *TINY, "--steps", "3"]) == 0
    out, told = tmp_path / "runs" / "fake-2", capsys.readouterr().out
    assert "'runs/fake-2'" in told and (out / "curves.png").stat().st_size > 5000
    assert iio.improps(out / "training.gif", index=None).n_images > 1
    picture, z = iio.imread(out / "samples.png"), torch.randn(100, 4, generator=torch.Generator().manual_seed(7))
    first = sample(checkpoint.load_generator(out), z)[0]
    assert (picture[4:20:2, 4:20:2] == first.permute(1, 2, 0).numpy()).all()
    noted = json.loads((out / "config.json").read_text())
    assert noted["config"]["z_dim"] == 4 and noted["step"] == {"step": "ns"}


def test_a_dry_run_tells_and_writes_nothing(made, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *TINY, "--dry-run", "--loss", "wgan", "--steps", "1234"]) == 0
    told = capsys.readouterr().out
    for part in ("g_lr=5e-05", "n_critic=5", "steps=1234", "out=runs/fake", "dry run"):
        assert part in told
    assert not made and not list(tmp_path.iterdir())


def test_the_same_names_in_a_notebook(made, tmp_path):
    settings = dict(dataset="fake", n=40, image_size=8, z_dim=4, g_width=2, d_width=2, batch_size=8)
    for c in ("disc", "ring"):  # a run for each class is a loop
        folder = tmp_path / c
        history = ganlib.main(**settings, classes=(c,), steps=2, score_every=0, snapshot_every=1, out=folder)
        assert cli.main(["train", *TINY, "--classes", c, "--out", f"{folder}-too"]) == 0
        assert alike(state(folder), state(f"{folder}-too")) and history is made[-2].history
    assert ganlib.main(resume_path=folder, steps=3).steps == 3
    for given, sentence in (({"datset": "fake"}, "'datset'.*'dataset'"), ({"preset": "dmo"}, "'dmo'.*demo")):
        with pytest.raises(ValueError, match=sentence):
            ganlib.main(**given)


def test_in_a_notebook_it_is_changed_from_a_panel_and_resumed_with_the_change(made, tmp_path, monkeypatch):
    def hand(gan, step, run):
        def watch(history):
            if history.running and gan.steps_done == 1:
                change(gan, step, "n_critic", 2)
                history.changes.append((1, "n_critic", 2))
                run.save_now(gan)

        return watch

    monkeypatch.setattr(training, "someone_there", lambda: True)
    monkeypatch.setattr(training, "panel", hand)
    settings = dict(dataset="fake", n=40, image_size=8, z_dim=4, g_width=2, d_width=2, batch_size=8, loss="wgan")
    history = ganlib.main(**settings, steps=3, score_every=0, out=tmp_path)
    assert history.changes == [(1, "n_critic", 2)] and checkpoint.steps_in(tmp_path) == [1, 3]
    assert history.batches == 5 + 2 + 2
    monkeypatch.setattr(training, "someone_there", lambda: False)
    resumed = ganlib.main(resume_path=tmp_path, steps=4)
    assert resumed.batches == 5 + 2 + 2 + 2 and resumed.changes == history.changes


def test_a_preset_is_a_beginning_that_flags_change(made, tmp_path):
    words = "--preset hinge-mnist --dataset fake --n 40 --image-size 8 --g-width 32 --batch-size 8 --score-every 0"
    assert cli.main(["train", *words.split(), "--steps", "1", "--out", str(tmp_path / "run")]) == 0
    run = made[-1]
    assert run.gan.z_dim == 100 and run.step.__name__ == "hinge_step" and run.arguments["seconds"] is None
    assert run.gan.generator[-2].in_channels == 32  # the default, but not the preset's
    assert run.gan.discriminator[0].out_channels == 16


@pytest.mark.parametrize("more", ["", "--loss wgan", "--augment cutout flip", "--architecture linear"])
def test_a_run_is_resumed_exactly(train, made, tmp_path, more):
    train("--steps", "6", *more.split(), out="straight")
    train("--steps", "3", *more.split())
    resume(made, tmp_path / "run", "--steps", "6")
    assert alike(state(tmp_path / "run"), state(tmp_path / "straight"))
    assert resume(made, tmp_path / "run").history.steps == 6  # there was nothing left to do


def test_changes_are_named_and_need_leave(train, made, tmp_path, capsys):
    train("--steps", "3", "--g-lr", "1e-4")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")}
    assert cli.main(["train", "--resume-path", str(tmp_path / "run"), "--g-lr", "1e-3", "--batch-size", "4"]) == 2
    told = capsys.readouterr().err
    assert "lr was 0.0001 and is 0.001 now." in told and "--batch-size was 8 and is 4 now." in told
    assert "--allow-changes" in told
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")}
    run = resume(made, tmp_path / "run", "--g-lr", "1e-3", "--allow-changes", "--steps", "4")
    assert run.gan.g_opt.param_groups[0]["lr"] == 1e-3 and run.history.steps == 4
    assert resume(made, tmp_path / "run", "--steps", "5").gan.g_opt.param_groups[0]["lr"] == 1e-3


def test_a_longer_run_keeps_how_often_it_looks(made, tmp_path):
    assert cli.main(["train", *SMALL, "--steps", "100", "--score-every", "0", "--out", str(tmp_path / "run")]) == 0
    assert [step for step, _ in made[-1].history.snapshots] == [*range(0, 101, 2)]
    run = resume(made, tmp_path / "run", "--steps", "200", "--checkpoint-every", "150")
    assert [step for step, _ in run.history.snapshots] == [*range(0, 201, 2)]
    assert checkpoint.steps_in(tmp_path / "run") == [100, 150, 200]


def test_the_lines_of_the_page_on_the_command_line_are_understood(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(training, "train", lambda **given: seen.append(given))
    monkeypatch.setattr(training, "stored", lambda folder: Config(seed=3))
    for line in (ROOT / "docs" / "command-line.md").read_text().splitlines():
        if line.startswith("ganlib train "):
            assert cli.main(shlex.split(line)[1:]) == 0
    assert len(seen) > 2 and seen[0]["dataset"] == "path/to/photos" and seen[0]["image_size"] == 64
