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
from ganlib.data import loading as data
from ganlib.data.images import ImageSet
from ganlib.runs import checkpoint, reports, saved
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
    return small_run(out, data.load("fake", image_size=28, channels=1, n=300), lr=1e-3, steps=3)


# --- info -------------------------------------------------------------------------------------------------


def test_info_tells_what_the_run_is(run, capsys):
    found = info(run)
    told = capsys.readouterr().out.splitlines()
    assert [re.split(r"  +", line, maxsplit=1) for line in told] == [[name, value] for name, value in found.items()]
    generator, discriminator = models.dcgan_generator(28, 1, 2, 4), models.dcgan_discriminator(28, 1, 2)
    assert found["generator"].startswith(f"{models.count_parameters(generator):,} parameters · kind dcgan")
    assert found["discriminator"].startswith(f"{models.count_parameters(discriminator):,} parameters")
    assert found["g_opt"] == "Adam · lr 0.05 · betas 0.5, 0.999 · weight_decay 0"
    assert found["images"] == "fake · 300 generated shapes · seed 0 · 300 × 1 × 28 × 28"
    assert found["step"] == "ganlib.steps.dcgan_step"
    assert found["steps"] == "6 of 6 · 0.2 epochs" and "batch_size 8" in found["settings"]
    losses = saved.history_of(run).losses
    assert f"g_loss {np.mean(losses['g_loss']):.3g} (mean of 6 steps)" in found["last losses"]
    assert found["best score"] == "fd 9 · sure 0.5 after step 3" and "fd 12.5" in found["last score"]
    assert found["snapshots"] == "3, after steps 0 to 6"
    assert found["step-000003"].endswith("MB · whole") and found["step-000006"].endswith("MB · whole")
    assert f"torch {torch.__version__.split('+')[0]}" in found["ran on"]
    assert found["to go on"] == f"ganlib train --resume-path {run}"


def test_info_says_which_checkpoints_are_damaged(run):
    weights = checkpoint.step_folder(run, 6) / "g_opt.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    found = info(run)
    assert found["step-000003"].endswith("whole")
    assert "'g_opt.safetensors' is not the file that model.json describes" in found["step-000006"]
    assert "--resume-path" in found["to go on"]
    (checkpoint.step_folder(run, 3) / "model.json").unlink()
    assert info(run)["to go on"] == "no checkpoint is whole: train anew"


def test_info_of_a_run_that_has_hardly_begun(run):
    for path in [*(run / "samples").iterdir(), run / "history.jsonl", run / "metrics.jsonl"]:
        path.unlink()
    (run / "checkpoints").rename(run / "elsewhere")
    found = info(run)
    assert found["steps"] == "0 of 6" and found["last losses"] == "none yet"
    assert found["best score"] == found["last score"] == "none" and "snapshots" not in found
    assert found["to go on"].startswith("no checkpoint")


def test_info_of_players_of_ones_own_and_of_settings_that_changed(run):
    path = run / "config.json"
    config = json.loads(path.read_text())
    config["players"]["generator"]["config"] = None
    config["changes"] = [{"after_step": 4, "what": ["seed was 0 and is 1 now."]}]
    path.write_text(json.dumps(config))
    found = info(run)
    assert found["generator"].startswith("parameters not known · its own, ")
    assert found["after 4"] == "seed was 0 and is 1 now."


def test_info_of_a_run_with_one_generator_a_class(by_class, capsys):
    found = info(by_class)
    assert list(found) == list(saved.class_runs(by_class))
    assert all(facts["steps"].startswith("6 of 6") for facts in found.values())
    assert f"one generator a class: {', '.join(found)}" in capsys.readouterr().out


def test_info_of_no_run(tmp_path, run):
    with pytest.raises(FileNotFoundError, match="There is no run in"):
        info(tmp_path / "nowhere")
    (run / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json' is damaged"):
        info(run)


# --- compare ----------------------------------------------------------------------------------------------


def test_the_table_has_what_differs_and_how_both_went(run, other, tmp_path, capsys):
    table = compare((run, other), out=tmp_path / "both.png")
    assert list(table) == ["run", "slow"]
    assert table["run"]["g_opt.groups.0.lr"] == "0.05" and table["slow"]["g_opt.groups.0.lr"] == "0.001"
    assert not {"g_opt.groups.0.betas.0", "batch_size", "generator.width", "images.count"} & table["run"].keys()
    assert table["run"]["steps"].startswith("6 of 6") and table["slow"]["steps"].startswith("3 of 3")
    assert table["run"]["best score"].startswith("fd 9 ") and "fd 12.5" in table["run"]["last score"]
    assert "fd 9 " in table["slow"]["last score"]
    told = capsys.readouterr().out
    for name, rows in table.items():
        assert name in told and all(text in told for text in rows.values())
    assert f"'{tmp_path / 'both.png'}'" in told
    assert max(map(len, told.splitlines()[:-1])) <= 120


def test_the_picture_has_the_curves_of_all(run, other, tmp_path):
    compare([run, other])
    path = run / "comparison.png"
    with Image.open(path) as picture:
        assert picture.size == (720, 140 + 3 * 160)  # two losses and a score
        there = {tuple(color) for color in np.asarray(picture.convert("RGB")).reshape(-1, 3)[::7].tolist()}
    for color in (viz.D_COLOR, viz.G_COLOR):
        wanted = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)])
        assert min(np.abs(np.array(pixel) - wanted).max() for pixel in there) < 40
    figure = reports.figure({"one": saved.history_of(run), "two": saved.history_of(other)})
    d_loss, g_loss, score = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == ["d_loss", "g_loss", "fd"]
    for axes, values in ((d_loss, saved.history_of(run).losses["d_loss"]), (score, [9.0, 12.5])):
        one, two = axes.get_lines()
        assert one.get_label() == "one" and two.get_label() == "two"
        assert np.allclose(one.get_ydata(), values)
    assert list(score.get_lines()[0].get_xdata()) == [3, 6] and list(g_loss.get_lines()[1].get_xdata()) == [1, 2, 3]
    assert compare([run, other]) and (run / "comparison-2.png").exists()


def test_runs_of_one_name_are_told_apart(run, tmp_path):
    twin = tmp_path / "again" / "run"
    twin.parent.mkdir()
    run.rename(twin)
    other = small_run(tmp_path / "run", ImageSet(noise(40, size=8), None, (), "noise", "noise"), steps=1)
    table = compare([twin, other], out=tmp_path / "both.png")
    assert list(table) == ["again/run", f"{tmp_path.name}/run"]
    assert table["again/run"]["generator.image_size"] == "28" and table[f"{tmp_path.name}/run"]["images.count"] == "40"


def test_runs_come_without_flags_on_the_command_line(run, other, tmp_path):
    assert tyro.cli(info, args=[str(run)])["steps"].startswith("6 of 6")
    assert set(tyro.cli(compare, args=[str(run), str(other), "--out", str(tmp_path / "a.png")])) == {"run", "slow"}
    assert (tmp_path / "a.png").exists()


def test_long_names_stand_below_each_other(run, other, tmp_path, capsys):
    long = run.rename(tmp_path / ("a-very-long-name-" * 6))
    table = compare([long, other])
    told = capsys.readouterr().out
    assert all(
        re.search(rf"^  {re.escape(name)} +{re.escape(rows['time'])}$", told, re.M) for name, rows in table.items()
    )


def test_runs_of_different_games_share_what_they_have(run, tmp_path):
    def critic_step(gan: GAN, batches):
        next(batches)
        return {"critic_loss": torch.tensor(-0.5)}

    networks = models.dcgan_generator(8, 1, 2, 4), models.dcgan_discriminator(8, 1, 2)
    gan = GAN(*networks, *[torch.optim.SGD(network.parameters(), 0.1) for network in networks], 4)
    images = ImageSet(noise(40, size=8), None, (), "noise", "noise")
    fit(gan, critic_step, images, steps=2, batch_size=8, out=tmp_path / "critic", progress=False)
    table = compare([run, tmp_path / "critic"])
    assert table["critic"]["last losses"] == "critic_loss -0.5 (mean of 2 steps)"
    assert table["critic"]["g_opt.kind"] == "SGD" and table["critic"]["best score"] == "none"
    assert table["critic"]["step"].endswith("critic_step")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (lambda run, other: compare([run]), "takes 2 to 20 runs, and there are 1"),
        (lambda run, other: compare([run, other] * 11), "takes 2 to 20 runs, and there are 22"),
        (lambda run, other: compare([run, run / ".." / run.name]), "run' is named twice; name different runs"),
        (lambda run, other: compare([run, other / "none"]), "There is no run in '.*none'"),
        (lambda run, other: compare([run, other], out=run / "a.jpg"), "a.jpg', but must be a file that ends in .png"),
    ],
)
def test_what_cannot_be_compared_gets_a_sentence_and_leaves_nothing(run, other, command, sentence):
    before = sorted(run.rglob("*"))
    with pytest.raises((ValueError, OSError), match=sentence) as error:
        command(run, other)
    assert "\n" not in str(error.value)
    assert sorted(run.rglob("*")) == before


def test_without_a_step_there_are_no_curves(run, other, tmp_path, capsys):
    for folder in (run, tmp_path / "two"):
        if not folder.exists():
            folder.mkdir()
            (folder / "config.json").write_text((other / "config.json").read_text())
        for name in ("history.jsonl", "metrics.jsonl"):
            (folder / name).unlink(missing_ok=True)
    compare([run, tmp_path / "two"])
    assert "there are no curves" in capsys.readouterr().out
    with pytest.raises(ValueError, match="No run has a loss or a score yet"):
        reports.figure({"one": saved.history_of(run)})
