"""What is told of runs: every line holds what the run has."""

import json
import re

import numpy as np
import pytest
import torch
import tyro
from conftest import small_run
from PIL import Image

from ganlib import models
from ganlib.data import ImageSet, load
from ganlib.runs import Run, checkpoint, reports, saved
from ganlib.runs.reports import compare, info
from ganlib.steps import GAN
from ganlib.train import fit
from ganlib.viz import images as viz
from helpers import noise

pytestmark = pytest.mark.usefixtures("quickly")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another run, with another learning rate, half as long."""
    out = tmp_path_factory.mktemp("others") / "slow"
    return small_run(out, load("fake", image_size=28, channels=1, n=300), lr=1e-3, steps=3)


def edit(run, **changes):
    config = json.loads((run / "config.json").read_text()) | changes
    (run / "config.json").write_text(json.dumps(config))


# --- info -------------------------------------------------------------------------------------------------


def test_info_tells_what_the_run_is(run, capsys, monkeypatch):
    monkeypatch.setattr(models, "build_generator", None)  # nothing is built to be counted
    monkeypatch.setattr(GAN, "__init__", None)
    found = tyro.cli(info, args=[str(run)])
    told = capsys.readouterr().out.splitlines()
    assert [re.split(r"  +", line, maxsplit=1) for line in told] == [[name, value] for name, value in found.items()]
    generator, discriminator = models.dcgan_generator(28, 1, 2, 4), models.dcgan_discriminator(28, 1, 2)
    assert found["generator"].startswith(f"{models.count_parameters(generator):,} parameters · kind dcgan")
    assert found["discriminator"].startswith(f"{models.count_parameters(discriminator):,} parameters")
    assert found["g_opt"] == "Adam · lr 0.05 · betas 0.5, 0.999 · weight_decay 0"
    assert found["images"] == "fake · 300 generated shapes · seed 0 · 300 × 1 × 28 × 28"
    assert found["step"] == "ns" and "batch_size 8" in found["settings"]
    assert found["steps"] == "6 of 6 · 0.2 epochs"
    losses = saved.history_of(run).losses
    assert f"g_loss {np.mean(losses['g_loss']):.3g} (mean of 6 steps)" in found["last losses"]
    assert found["best score"] == "fd 9 · sure 0.5 after step 3" and "fd 12.5" in found["last score"]
    assert found["snapshots"] == "3, after steps 0 to 6"
    assert found["step-000003"].endswith("MB · intact") and found["step-000006"].endswith("MB · intact")
    assert f"torch {torch.__version__.split('+')[0]}" in found["ran on"]


def test_info_says_how_to_resume_and_which_checkpoints_are_damaged(run):
    assert info(run)["to resume"] == "where it was written"
    edit(run, config={"z_dim": 4})  # as of ganlib train
    checkpoint.path_of(run, 6).write_bytes(b"torn")
    found = info(run)
    assert found["step-000003"].endswith("intact") and "is damaged" in found["step-000006"]
    assert found["to resume"] == f"ganlib train --resume-path {run}" and "parameters" in found["generator"]
    checkpoint.path_of(run, 3).write_bytes(b"torn")
    assert "train anew" in info(run)["to resume"]


def test_info_of_a_run_that_has_hardly_begun(run):
    for path in [*(run / "samples").iterdir(), run / "history.jsonl", run / "metrics.jsonl"]:
        path.unlink()
    (run / "checkpoints").rename(run / "elsewhere")
    found = info(run)
    assert found["steps"] == "0 of 6" and found["last losses"] == "none yet"
    assert found["best score"] == found["last score"] == "none" and "snapshots" not in found


def test_info_of_players_of_ones_own_and_of_settings_that_changed(run):
    players = json.loads((run / "config.json").read_text())["players"]
    players["generator"]["config"] = None
    edit(run, players=players, changes=[{"after_step": 4, "what": ["seed was 0 and is 1 now."]}])
    found = info(run)
    assert "parameters · its own, layers" in found["generator"] and found["after 4"] == "seed was 0 and is 1 now."


# --- compare ----------------------------------------------------------------------------------------------


def test_the_table_has_what_differs_and_how_both_went(run, other, tmp_path, capsys):
    table = tyro.cli(compare, args=[str(run), str(other), "--out", str(tmp_path / "both.png")])
    assert list(table) == ["run", "slow"]
    assert "lr 0.05" in table["run"]["g_opt"] and "lr 0.001" in table["slow"]["g_opt"]
    assert not {"generator", "images", "step"} & table["run"].keys()
    assert table["run"]["steps"].startswith("6 of 6") and table["slow"]["steps"].startswith("3 of 3")
    assert table["run"]["best score"].startswith("fd 9 ") and "fd 12.5" in table["run"]["last score"]
    told = capsys.readouterr().out
    assert all(name in told and text in told for name, rows in table.items() for text in rows.values())
    assert f"'{tmp_path / 'both.png'}'" in told


def test_the_picture_has_the_curves_of_all(run, other):
    compare([run, other])
    with Image.open(run / "comparison.png") as picture:
        assert picture.size == (720, 140 + 3 * 160)  # two losses and a score
        there = np.asarray(picture.convert("RGB")).reshape(-1, 3)[::7].astype(int)
    for color in (viz.D_COLOR, viz.G_COLOR):
        wanted = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)])
        assert np.abs(there - wanted).max(1).min() < 40
    figure = reports.figure({"one": saved.history_of(run), "two": saved.history_of(other)})
    d_loss, g_loss, score = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == ["d_loss", "g_loss", "fd"]
    for axes, values in ((d_loss, saved.history_of(run).losses["d_loss"]), (score, [9.0, 12.5])):
        one, two = axes.get_lines()
        assert (one.get_label(), two.get_label()) == ("one", "two") and np.allclose(one.get_ydata(), values)
    assert list(score.get_lines()[0].get_xdata()) == [3, 6] and list(g_loss.get_lines()[1].get_xdata()) == [1, 2, 3]
    assert compare([run, other]) and (run / "comparison-2.png").exists()


def test_runs_of_one_name_are_told_apart(run, tmp_path):
    twin = tmp_path / "again" / "run"
    twin.parent.mkdir()
    run.rename(twin)
    small = small_run(tmp_path / "run", ImageSet(noise(40, size=8), None, (), "noise", "noise"), steps=1)
    table = compare([twin, small], out=tmp_path / "both.png")
    assert "300 × 1" in table[str(twin)]["images"] and "40 × 1" in table[str(small)]["images"]


def test_runs_of_different_games_share_what_they_have(run, tmp_path):
    def critic_step(gan: GAN, batches):
        next(batches)
        return {"critic_loss": torch.tensor(-0.5)}

    networks = models.dcgan_generator(8, 1, 2, 4), models.dcgan_discriminator(8, 1, 2)
    gan = GAN(*networks, *[torch.optim.SGD(network.parameters(), 0.1) for network in networks], 4)
    images = ImageSet(noise(40, size=8), None, (), "noise", "noise")
    fit(gan, critic_step, images, steps=2, batch_size=8, run=Run(tmp_path / "critic"), watchers=())
    table = compare([run, tmp_path / "critic"])
    assert table["critic"]["last losses"] == "critic_loss -0.5 (mean of 2 steps)"
    assert table["critic"]["g_opt"].startswith("SGD") and table["critic"]["best score"] == "none"
    assert table["critic"]["step"].endswith("critic_step")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (lambda run, other: info(run / "none"), "no run in '.*none'"),
        (lambda run, other: compare([run]), "2 to 20 different runs"),
        (lambda run, other: compare([run, other] * 11), "2 to 20 different runs"),
        (lambda run, other: compare([run, run / ".." / run.name]), "different runs, not .*run"),
        (lambda run, other: compare([run, other / "none"]), "no run in '.*none'"),
        (lambda run, other: compare([run, other], out=run / "a.jpg"), "a.jpg'.*ends in .png"),
    ],
)
def test_what_cannot_be_told_gets_a_sentence_and_leaves_nothing(run, other, command, sentence):
    before = sorted(run.rglob("*"))
    with pytest.raises((ValueError, OSError), match=sentence) as error:
        command(run, other)
    assert "\n" not in str(error.value) and sorted(run.rglob("*")) == before


def test_without_a_step_there_are_no_curves(run, other, tmp_path, capsys):
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "config.json").write_text((other / "config.json").read_text())
    for name in ("history.jsonl", "metrics.jsonl"):
        (run / name).unlink()
    compare([run, tmp_path / "two"])
    assert "there are no curves" in capsys.readouterr().out
    with pytest.raises(ValueError, match="No run has a loss or a score yet"):
        reports.figure({"one": saved.history_of(run)})
