"""Runs from the command line: every flag by its effect, going on exactly, and what a run leaves."""

import json
import re
import shlex
import shutil
import signal
import sys
import types

import imageio.v3 as iio
import pytest
import torch
from PIL import Image
from test_resuming import alike, content

import ganlib
from ganlib.data import folders
from ganlib.data.loading import load
from ganlib.runs import board, checkpoint, cli, running
from ganlib.runs import build as games
from ganlib.runs.config import Config
from ganlib.steps import dcgan_step
from ganlib.train import fit, sample

pytestmark = pytest.mark.usefixtures("quickly")

TINY = [
    "--dataset",
    "fake",
    "--n",
    "40",
    "--image-size",
    "8",
    "--z-dim",
    "4",
    "--g-width",
    "2",
    "--d-width",
    "2",
    "--batch-size",
    "8",
    "--steps",
    "2",
    "--score-every",
    "0",
    "--snapshot-every",
    "1",
]


@pytest.fixture
def made(monkeypatch):
    """What ``fit`` was given and gave back, one for each run; pictures at the end are left out."""
    runs = []

    def spy(gan, step, images, **arguments):
        run = types.SimpleNamespace(gan=gan, step=step, images=images, arguments=arguments)
        run.at_first = {k: v.clone() for k, v in gan.generator.state_dict().items()}
        run.history = fit(gan, step, images, **arguments)
        runs.append(run)
        return run.history

    monkeypatch.setattr(running, "fit", spy)
    monkeypatch.setattr(running, "_draw", lambda *_: None)
    return runs


@pytest.fixture
def train(made, tmp_path):
    """Run ``ganlib train`` with the tiny settings and more words; what ``fit`` was given and gave back."""

    def run(*words, out="run"):
        words = [str(word) for word in words]
        assert cli.main(["train", *TINY, *words, *([] if "--out" in words else ["--out", str(tmp_path / out)])]) == 0
        return made[-1]

    return run


def weights(gan):
    return torch.cat([p.detach().flatten() for m in (gan.generator, gan.discriminator) for p in m.parameters()])


# What each flag changes, seen where it takes effect: in what was trained on, with or into.
EFFECTS = {
    "dataset": (["--dataset", "fake"], lambda run: run.images.name == "fake"),
    "n": (["--n", "24"], lambda run: len(run.images) == 24),
    "classes": (["--classes", "ring", "3"], lambda run: set(run.images.labels.tolist()) == {1, 3}),
    "image_size": (["--image-size", "12"], lambda run: run.history.snapshots[-1][1].shape[2:] == (12, 12)),
    "channels": (["--channels", "1"], lambda run: run.history.snapshots[-1][1].shape[1] == 1),
    "architecture": (["--architecture", "linear"], lambda run: run.gan.generator.config["kind"] == "linear"),
    "z_dim": (["--z-dim", "6"], lambda run: run.gan.generator[0].in_channels == 6),
    "categories": (["--z-dim", "6", "--categories", "4"], lambda run: run.gan.generator[0].k == 4),
    "g_width": (["--g-width", "3"], lambda run: run.gan.generator[-2].in_channels == 3),
    "d_width": (["--d-width", "3"], lambda run: run.gan.discriminator[0].out_channels == 3),
    "d_depth": (
        ["--d-depth", "3", "--base", "2"],
        lambda run: [getattr(m, "kernel_size", 0) for m in run.gan.discriminator].count((3, 3)) == 2,
    ),
    "base": (["--base", "2"], lambda run: run.gan.discriminator[-1].kernel_size == (2, 2)),
    "norm": (
        ["--norm", "layer", "--base", "2"],
        lambda run: any(isinstance(m, torch.nn.GroupNorm) for m in run.gan.discriminator),
    ),
    "loss": (["--loss", "wgan"], lambda run: set(run.history.losses) == {"critic_loss", "g_loss"}),
    "n_critic": (["--loss", "wgan", "--n-critic", "3"], lambda run: run.history.batches == 3 * 2),
    "clip_value": (
        ["--loss", "wgan", "--clip-value", "0.003"],
        lambda run: max(p.abs().max() for p in run.gan.discriminator.parameters()) <= 0.003,
    ),
    "g_lr": (["--g-lr", "0.125"], lambda run: run.gan.g_opt.param_groups[0]["lr"] == 0.125),
    "d_lr": (["--d-lr", "0.125"], lambda run: run.gan.d_opt.param_groups[0]["lr"] == 0.125),
    "betas": (["--betas", "0.1", "0.2"], lambda run: run.gan.d_opt.param_groups[0]["betas"] == (0.1, 0.2)),
    "steps": (["--steps", "3"], lambda run: run.history.steps == 3),
    "batch_size": (["--batch-size", "20"], lambda run: run.history.steps_per_epoch == 2),
    "ema_decay": (
        ["--ema-decay", "0"],
        lambda run: torch.equal(run.gan.ema_generator[0].weight, run.gan.generator[0].weight),
    ),
    "device": (["--device", "cpu"], lambda run: run.history.device == "cpu"),
    "precision": (["--precision", "bf16"], lambda run: run.history.precision == "bfloat16"),
    "snapshot_every": (
        ["--snapshot-every", "2"],
        lambda run: names(run, "samples") == ["step-000000.png", "step-000002.png"],
    ),
    "keep_epochs": (
        ["--steps", "6", "--keep-epochs", "1"],
        lambda run: checkpoint.steps_in(run.arguments["out"]) == [5, 6],
    ),
    "checkpoint_every": (["--checkpoint-every", "1"], lambda run: checkpoint.steps_in(run.arguments["out"]) == [1, 2]),
}


def names(run, folder):
    return sorted(path.name for path in (run.arguments["out"] / folder).iterdir())


@pytest.mark.parametrize("name", EFFECTS)
def test_a_flag_does_what_it_says(train, name):
    words, holds = EFFECTS[name]
    assert holds(train(*words)), words


@pytest.mark.parametrize(
    ("common", "words"),
    [
        ([], ["--seed", "1"]),
        ([], ["--augment", "flip"]),
        ([], ["--augment", "translation", "cutout"]),
        (["--loss", "wgan-gp"], ["--gp-weight", "0"]),
        (["--loss", "rpgan"], ["--r1-gamma", "0"]),
        (["--loss", "rpgan"], ["--r2-gamma", "0"]),
        (["--loss", "ns-r1"], ["--r1-gamma", "0"]),
        (["--loss", "ns-r1"], ["--r1-every", "1"]),
        ([], ["--loss", "ns-r1"]),
        ([], ["--loss", "minimax"]),
        ([], ["--loss", "hinge", "--norm", "batch"]),
    ],
)
def test_a_flag_changes_what_is_learned(train, common, words):
    plain, again, other = train(*common), train(*common, out="again"), train(*common, *words, out="other")
    assert torch.equal(weights(plain.gan), weights(again.gan))
    assert not torch.equal(weights(plain.gan), weights(other.gan))


def test_flip_shows_in_the_batches(train):
    run = train("--augment", "flip")
    assert run.arguments["flip"] and not train(out="plain").arguments["flip"]


def test_epochs_and_seconds(train, made, tmp_path):
    assert cli.main(["train", *TINY[:-6], "--epochs", "2", "--out", str(tmp_path / "epochs")]) == 0
    assert made[-1].history.steps == 2 * 5
    assert cli.main(["train", *TINY[:-6], "--seconds", "0.05", "--out", str(tmp_path / "seconds")]) == 0
    assert "time limit of 0.05 s" in made[-1].history.stopped


def test_lines_come_as_often_as_asked(train, capsys):
    train("--steps", "5", "--print-every", "2")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert [line.split(" · ")[0] for line in lines] == ["step 2 of 5", "step 4 of 5", "step 5 of 5"]
    assert re.match(r"step 4 of 5 · [\d.e+]+ a second · \d\d:\d\d left · d_loss [\d.]+ · g_loss [\d.]+$", lines[1])


def test_scores_are_taken_and_shown(train, capsys, monkeypatch):
    monkeypatch.setattr(games, "score_for", lambda images: lambda generator: {"fd_x": 12.5})
    run = train("--score-every", "2", "--print-every", "1", "--steps", "3")
    assert run.history.scores == [(0, {"fd_x": 12.5}), (2, {"fd_x": 12.5})]
    assert (run.arguments["out"] / "metrics.jsonl").read_text().count("fd_x") == 2
    told = capsys.readouterr().out
    assert "fd_x 12.5" in told and "score after step 2 · fd_x 12.5" in told
    monkeypatch.setattr(games, "score_for", lambda images: None)
    assert not train("--score-every", "1", out="other").history.scores
    assert "No score: only MNIST's digits and colour pictures" in capsys.readouterr().out


def test_players_start_from_an_earlier_run(train, tmp_path):
    first = train(out="first")
    run = train("--generator", tmp_path / "first", "--discriminator", tmp_path / "first", out="second")
    average = first.gan.ema_generator.state_dict()
    assert all(torch.equal(run.at_first[key], average[key]) for key in average)


def test_data_root_is_looked_in_and_read_by_several_workers(train, tmp_path, monkeypatch):
    for k in range(8):
        (tmp_path / "mine").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (k, 0, 0)).save(tmp_path / "mine" / f"{k}.png")
    seen, pool = [], folders.ThreadPoolExecutor
    monkeypatch.setattr(folders, "ThreadPoolExecutor", lambda workers: seen.append(workers) or pool(workers))
    run = train("--dataset", "folder", "--data-root", tmp_path / "mine", "--workers", "3")
    assert seen == [3]
    assert run.images.pixels[:, 0, 0, 0].tolist() == [*range(8)]


def test_a_run_leaves_pictures_that_are_its_own(tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["train", *TINY, "--steps", "3", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    for name in ("samples.png", "training.gif", "curves.png", "checkpoints"):
        assert str(out / name) in told
    assert iio.improps(out / "training.gif", index=None).n_images > 1
    picture = iio.imread(out / "samples.png")
    z = torch.randn(100, 4, generator=torch.Generator().manual_seed(7))
    first = sample(checkpoint.load_generator(out), z)[0]
    assert (picture[4:20:2, 4:20:2] == first.permute(1, 2, 0).numpy()).all()
    assert json.loads((out / "config.json").read_text())["config"]["z_dim"] == 4


def test_without_out_runs_are_numbered(train, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("fake", "fake-2"):
        assert cli.main(["train", *TINY]) == 0
        assert (tmp_path / "runs" / folder / "config.json").is_file()


def test_a_dry_run_tells_and_writes_nothing(made, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *TINY, "--dry-run", "--loss", "wgan", "--steps", "1234"]) == 0
    told = capsys.readouterr().out
    for part in (
        "ConvTranspose2d 4x4",
        "RMSprop, learning rate 5e-05",
        "n_critic=5",
        "1,234 steps of 8 images",
        "fake",
    ):
        assert part in told
    assert not made and not list(tmp_path.iterdir())


def test_the_same_names_in_a_notebook(made, tmp_path):
    settings = dict(dataset="fake", n=40, image_size=8, z_dim=4, g_width=2, d_width=2, batch_size=8)
    history = ganlib.main(**settings, steps=2, score_every=0, snapshot_every=1, out=tmp_path / "notebook")
    assert cli.main(["train", *TINY, "--out", str(tmp_path / "shell")]) == 0
    assert torch.equal(weights(made[0].gan), weights(made[1].gan))
    assert history is made[0].history and history.steps == 2
    with pytest.raises(ValueError, match="no setting 'datset'; did you mean 'dataset'"):
        ganlib.main(datset="fake")
    with pytest.raises(ValueError, match="no preset 'dmo'; did you mean demo"):
        ganlib.main(preset="dmo")


def test_a_preset_is_a_beginning_that_flags_change(made, tmp_path):
    words = ["--preset", "hinge-mnist", "--dataset", "fake", "--n", "40", "--image-size", "8", "--g-width", "32"]
    assert (
        cli.main(
            ["train", *words, "--steps", "1", "--batch-size", "8", "--score-every", "0", "--out", str(tmp_path / "run")]
        )
        == 0
    )
    run = made[-1]
    assert run.gan.z_dim == 100 and run.step.__name__ == "hinge_step" and run.arguments["seconds"] is None
    assert run.gan.generator[-2].in_channels == 32  # the default, but not the preset's
    assert run.gan.discriminator[0].out_channels == 16


# --- going on -------------------------------------------------------------------------------------


def result(run):
    return run.gan, run.history


def resume(made, folder, *words):
    assert cli.main(["train", "--resume-path", str(folder), *words]) == 0
    return made[-1]


@pytest.mark.parametrize(
    "more", [[], ["--loss", "wgan"], ["--augment", "cutout", "flip"], ["--architecture", "linear"]]
)
def test_a_run_goes_on_exactly(train, made, tmp_path, more):
    straight = train("--steps", "6", *more, out="straight")
    train("--steps", "3", *more)
    assert alike(result(resume(made, tmp_path / "run", "--steps", "6")), result(straight))
    resume(made, tmp_path / "run")
    assert made[-1].history.steps == 6  # there was nothing left to do


def test_changes_are_named_and_need_leave(train, made, tmp_path, capsys):
    train("--steps", "3", "--g-lr", "1e-4")
    before = content(tmp_path / "run")
    assert cli.main(["train", "--resume-path", str(tmp_path / "run"), "--g-lr", "1e-3", "--batch-size", "4"]) == 2
    told = capsys.readouterr().err
    assert "--g-lr was 0.0001 and is 0.001 now. --batch-size was 8 and is 4 now." in told and "--allow-changes" in told
    assert content(tmp_path / "run") == before
    run = resume(made, tmp_path / "run", "--g-lr", "1e-3", "--allow-changes", "--steps", "4")
    assert run.gan.g_opt.param_groups[0]["lr"] == 1e-3 and run.history.steps == 4
    assert resume(made, tmp_path / "run", "--steps", "5").gan.g_opt.param_groups[0]["lr"] == 1e-3


def test_how_a_run_is_kept_can_be_given_anew(train, made, tmp_path):
    train("--steps", "3", "--snapshot-every", "1")
    run = resume(made, tmp_path / "run", "--steps", "8", "--snapshot-every", "4", "--checkpoint-every", "2")
    assert [step for step, _ in run.history.snapshots] == [0, 1, 2, 3, 4, 8]
    run = resume(made, tmp_path / "run", "--steps", "12")
    assert [step for step, _ in run.history.snapshots] == [0, 1, 2, 3, 4, 8, 12]
    assert checkpoint.steps_in(tmp_path / "run")[-1] == 12


def program(images, step, out, steps, loss="wgan"):
    """A script's run: players of its own making, ``fit`` with a folder."""
    gan = games.players(Config(loss=loss, z_dim=4, g_width=2, d_width=2, image_size=12, channels=1))
    arguments = dict(steps=steps, batch_size=8, flip=True, ema_decay=0.9, snapshot_at=range(0, 100, 2), progress=False)
    return gan, fit(gan, step, images, **arguments, fixed_z=torch.ones(3, 4), out=out, resume=True)


@pytest.mark.parametrize("step", [dcgan_step, games.step(Config(loss="wgan", n_critic=2, clip_value=0.1))])
def test_a_run_of_a_program_goes_on_here_and_there_again(made, tmp_path, step):
    images = load("fake", image_size=12, channels=1, n=40)
    straight = program(images, step, tmp_path / "straight", 9)
    program(images, step, tmp_path / "run", 3)
    middle = resume(made, tmp_path / "run", "--steps", "6")
    assert middle.history.steps == 6 and middle.history.losses == {k: v[:6] for k, v in straight[1].losses.items()}
    assert alike(program(images, step, tmp_path / "run", 9), straight)


def own_step(gan, batches):
    return dcgan_step(gan, batches)


def test_what_cannot_be_built_of_a_program_gets_a_sentence(made, tmp_path, capsys):
    images = load("fake", image_size=12, channels=1, n=40)
    program(images, own_step, tmp_path / "step", 2)
    program(load("fake", image_size=12, channels=1, n=40, seed=9), dcgan_step, tmp_path / "images", 2)
    program(images, dcgan_step, tmp_path / "run", 2)
    for words, sentence in (
        (["step"], "Its training step, test_running.own_step, is none of ganlib.steps"),
        (["images"], "The images of the run in .* were not found: What 'fake' gives has other pixels"),
        (["run", "--g-lr", "1e-3"], "--g-lr cannot be given here: .* begun by fit in a program"),
        (["run", "--keep-epochs", "2"], "--keep-epochs cannot be given here: .* begun by fit in a program"),
        (["run", "--batch-size", "4"], "--batch-size was 8 and is 4 now"),
    ):
        assert cli.main(["train", "--resume-path", str(tmp_path / words[0]), *words[1:]]) == 2
        assert re.search(sentence, capsys.readouterr().err)


def test_ctrl_c_saves_and_says_what_to_type(made, train, tmp_path, capsys, monkeypatch):
    straight = train("--steps", "6", out="straight")
    out = tmp_path / "a run"

    def pressed(gan, batches):
        if gan.steps_done == 3:
            signal.raise_signal(signal.SIGINT)
        return dcgan_step(gan, batches)

    pressed.__module__, pressed.__qualname__ = dcgan_step.__module__, dcgan_step.__qualname__
    monkeypatch.setattr(games, "step", lambda config: pressed)
    assert cli.main(["train", *TINY, "--steps", "6", "--out", str(out)]) == 130
    told = capsys.readouterr().out
    (typed,) = re.findall(r"To go on:  ganlib (.*)", told)
    monkeypatch.setattr(games, "step", lambda config: dcgan_step)
    assert cli.main(shlex.split(typed)) == 0
    assert alike(result(made[-1]), result(straight))


def test_a_pair_for_each_class(made, tmp_path, capsys):
    words = ["train", *TINY[:-6], "--architecture", "class", "--classes", "disc", "2", "--batch-size", "2"]
    words += ["--steps", "6", "--score-every", "0", "--out", str(tmp_path / "runs")]
    assert cli.main(words) == 0
    assert [(run.images.labels.unique().tolist(), run.history.steps) for run in made] == [([0], 3), ([2], 3)]
    assert checkpoint.steps_in(tmp_path / "runs" / "square") == [3]
    assert cli.main(["train", "--resume-path", str(tmp_path / "runs"), "--steps", "8"]) == 0
    assert [run.history.steps for run in made[2:]] == [4, 4]
    assert cli.main(["train", "--resume-path", str(tmp_path / "runs"), "--g-lr", "0.5"]) == 2
    assert "--g-lr was 0.0002 and is 0.5 now" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "runs" / "square")  # as if it had been interrupted before
    assert cli.main(["train", "--resume-path", str(tmp_path / "runs")]) == 0
    assert [run.history.steps for run in made[4:]] == [4, 4]
    assert cli.main(["train", "--resume-path", str(tmp_path / "runs" / "disc"), "--steps", "5"]) == 0


# --- TensorBoard ----------------------------------------------------------------------------------


def test_tensorboard_gets_losses_scores_and_snapshots(train, made, tmp_path, monkeypatch):
    told = []

    class Writer:
        def __init__(self, folder):
            told.clear()
            self.folder = folder

        def __enter__(self):
            return self

        def __exit__(self, *_):
            told.append(("closed", self.folder))

        def add_scalar(self, name, value, step):
            told.append((name, step))

        def add_image(self, name, picture, step, dataformats):
            told.append((name, step, picture.shape[2], dataformats))

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(games, "score_for", lambda images: lambda generator: {"fd_x": 12.5})
    train("--tensorboard", "--steps", "3", "--snapshot-every", "2", "--score-every", "3")
    run = made[-1]
    assert [t for t in told if t[0] == "loss/g_loss"] == [("loss/g_loss", k) for k in (1, 2, 3)]
    assert [t for t in told if t[0] == "samples"] == [("samples", k, 3, "HWC") for k in (0, 2)]
    assert [t for t in told if t[0] == "score/fd_x"] == [("score/fd_x", k) for k in (0, 3)]
    assert told[-1] == ("closed", str(run.arguments["out"] / "tensorboard"))
    resume(made, tmp_path / "run", "--steps", "5")  # all of the run again, so that nothing is there twice
    assert [t for t in told if t[0] == "loss/g_loss"] == [("loss/g_loss", k) for k in range(1, 6)]


def test_tensorboard_that_is_not_there_is_told_before_anything(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert cli.main(["train", *TINY, "--tensorboard", "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr()
    assert "--tensorboard needs TensorBoard, which is not installed: pip install" in told.err and not told.out
    assert not (tmp_path / "run").exists()
    with pytest.raises(ImportError), board.board(tmp_path):
        pass


def test_every_setting_is_tried_here():
    tried = {*EFFECTS, "seed", "augment", "gp_weight", "r1_gamma", "r1_every", "r2_gamma", "epochs", "seconds"}
    tried |= {"print_every", "score_every", "generator", "discriminator", "data_root", "workers", "out", "dry_run"}
    tried |= {"resume_path", "allow_changes", "tensorboard"} | {"processes"}  # in test_parallel.py
    assert tried == set(cli.SETTINGS)
