"""What a run is and how it went is told, its generator scored against its own images, and runs compared."""

import functools
import json
import re

import makers
import numpy as np
import pytest
import torch
import tyro
from conftest import RUN_IMAGES, small_run, trained_by_command
from PIL import Image

from ganlib import models
from ganlib.data import ImageSet, cache, load, sets
from ganlib.data import loading as data
from ganlib.metrics import cifar_net, score, score_digits
from ganlib.runs import Run, checkpoint, cli, evaluation, folder, provenance
from ganlib.runs.config import Images
from ganlib.runs.evaluation import evaluate, find_images
from ganlib.runs.inventory import data as tell
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
    return small_run(out, load("fake", **RUN_IMAGES), lr=1e-3, steps=3)


def test_info_tells_what_the_run_is(run, capsys, monkeypatch):
    monkeypatch.setattr(models.Generator, "build", None)  # nothing is built to be counted
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
    assert found["steps"] == "6 of 6" and found["snapshots"] == "3" and f"torch {torch.__version__}" in found["ran on"]
    losses = folder.history_of(run).losses
    assert f"g_loss {np.mean(losses['g_loss']):.3g} (mean of 6 steps)" in found["last losses"]
    assert found["best score"] == "fd 9 · sure 0.5 after step 3" and "fd 12.5" in found["last score"]
    assert found["step-000003"] == found["step-000006"] == "intact"


def test_info_says_how_to_resume_and_which_checkpoints_are_damaged(run):
    assert info(run)["to resume"] == "where it was written"
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"config": {"z_dim": 4}}))  # as of ganlib train
    checkpoint.path_of(run, 6).write_bytes(b"torn")
    found = info(run)
    assert found["step-000003"] == "intact" and "is damaged" in found["step-000006"] and found["steps"] == "3 of 6"
    assert found["to resume"] == f"ganlib train --resume-path {run}" and "parameters" in found["generator"]
    checkpoint.path_of(run, 3).write_bytes(b"torn")
    found = info(run)
    assert "train anew" in found["to resume"] and found["steps"] == "0 of 6" and found["last losses"] == "none yet"
    assert found["best score"] == found["last score"] == "none"


def test_info_of_players_of_ones_own_and_of_settings_that_changed(run):
    config = json.loads((run / "config.json").read_text())
    config["players"]["generator"]["config"] = None
    config["changes"] = [{"after_step": 4, "what": ["seed was 0 and is 1 now."]}]
    (run / "config.json").write_text(json.dumps(config))
    found = info(run)
    assert "parameters · layers" in found["generator"] and found["after 4"] == "seed was 0 and is 1 now."


def test_the_table_has_what_differs_and_how_both_went(run, other, tmp_path, capsys):
    table = tyro.cli(compare, args=[str(run), str(other), "--out", str(tmp_path / "both.png")])
    one, two = table[str(run)], table[str(other)]
    assert "lr 0.05" in one["g_opt"] and "lr 0.001" in two["g_opt"]
    assert not {"generator", "images", "step"} & one.keys()
    assert one["steps"] == "6" and two["steps"] == "3"
    assert one["best score"].startswith("fd 9 ") and "fd 12.5" in one["last score"]
    told = capsys.readouterr().out
    assert all(name in told and text in told for name, rows in table.items() for text in rows.values())
    assert f"'{tmp_path / 'both.png'}'" in told


def test_the_picture_has_the_curves_of_all(run, other, monkeypatch):
    drawn, panels = [], viz.panels
    monkeypatch.setattr(viz, "panels", lambda n: drawn.append(panels(n)) or drawn[-1])
    compare([run, other])
    with Image.open(run / "comparison.png") as picture:
        assert picture.size == (720, 140 + 3 * 160)  # two losses and a score
    ((figure, axes),) = drawn
    assert [panel.get_ylabel() for panel in axes] == ["d_loss", "g_loss", "fd"]
    for panel, values in zip(axes, (folder.history_of(run).losses["d_loss"], None, [9.0, 12.5]), strict=True):
        one, two = panel.get_lines()
        assert (one.get_label(), two.get_label()) == (str(run), str(other)) and one.get_color() != two.get_color()
        assert values is None or np.allclose(one.get_ydata(), values)
    assert list(axes[2].get_lines()[0].get_xdata()) == [3, 6] and list(two.get_xdata()) == [3]
    assert compare([run, other]) and (run / "comparison-2.png").exists()


def test_runs_of_different_games_share_what_they_have(run, tmp_path):
    def critic_step(gan: GAN, batches):
        next(batches)
        return {"critic_loss": torch.tensor(-0.5)}

    networks = models.dcgan_generator(8, 1, 2, 4), models.dcgan_discriminator(8, 1, 2)
    gan = GAN(*networks, *[torch.optim.SGD(network.parameters(), 0.1) for network in networks], 4)
    images = ImageSet(noise(40, size=8), None, (), "noise", "noise")
    fit(gan, critic_step, images, steps=2, batch_size=8, run=Run(tmp_path / "critic"), watchers=())
    found = compare([run, tmp_path / "critic"])[str(tmp_path / "critic")]
    assert found["last losses"] == "critic_loss -0.5 (mean of 2 steps)" and "40 × 1 × 8 × 8" in found["images"]
    assert found["g_opt"].startswith("SGD") and found["best score"] == "none" and found["step"].endswith("critic_step")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """The set of all generated shapes is smaller than it is: its features take seconds."""
    monkeypatch.setattr(data, "FAKE_COUNT", 2000)


def test_the_number_is_that_of_the_score(run, capsys):
    found = evaluate(run, num=150, net="digitnet")
    images = load("fake", **RUN_IMAGES)
    wanted = score_digits(checkpoint.load_generator(run), images, n=150)
    assert found == wanted
    told = capsys.readouterr().out
    assert str(wanted) in told and "step 6" in told and "running average" in told and images.source in told
    (line,) = map(json.loads, (run / "evaluations.jsonl").read_text().splitlines())
    assert line["scores"] == json.loads(json.dumps(wanted.to_dict()))
    assert (line["step"], line["ema"], line["against"], line["images"]) == (6, True, "train", images.source)


def test_the_weights_themselves_and_the_test_split(run):
    one, other = evaluate(run, num=150, net="digitnet"), evaluate(run, num=150, net="digitnet", ema=False)
    reals = load("fake", **RUN_IMAGES)
    assert one.fd != other.fd == score_digits(checkpoint.load_generator(run, "generator"), reals, n=150).fd
    test = evaluate(run, num=150, net="digitnet", against="test")
    reals = load("fake", image_size=28, channels=1, split="test")
    assert test.fd == score_digits(checkpoint.load_generator(run), reals, n=150).fd != one.fd


@pytest.mark.parametrize(("size", "resizer"), [(32, "none"), (16, "bicubic")])
def test_colour_is_judged_by_the_cifar_net_at_its_size(tmp_path, monkeypatch, size, resizer):
    how = dict(metrics=("fd", "is"))  # not all take as long
    monkeypatch.setattr(evaluation, "score", functools.partial(score, **how))
    images = load("fake", image_size=size, n=150)
    run = small_run(tmp_path / "run", images, steps=2)
    wanted = score(checkpoint.load_generator(run), images, cifar_net(), n=100, resizer=resizer, **how)
    assert evaluate(run, num=100) == wanted and wanted["fd"].protocol["resizer"] == resizer


@pytest.mark.parametrize(
    "words", [["--classes", "ring", "2"], ["--n", "20", "--augment", "flip"], ["--classes", "disc", "--n", "50"], []]
)
def test_the_images_of_a_run_of_the_command_line_are_found(tmp_path, words):
    run = trained_by_command(tmp_path / "run", "--dataset", "fake", "--image-size", "8", *words)
    images = find_images(run)
    assert (
        provenance.fingerprint(images.pixels) == json.loads((run / "config.json").read_text())["images"]["fingerprint"]
    )
    test = find_images(run, "test")
    assert test.split == "test" and set(test.labels.tolist()) == set(images.labels.tolist())


@pytest.mark.parametrize("program", [True, False])
def test_a_folder_is_prepared_once_and_found_wherever_it_went(root, tmp_path, monkeypatch, program):
    photos, prepared, keep = makers.pictures(tmp_path / "photos", 20, (16, 16), "RGB"), [], cache.keep
    monkeypatch.setattr(cache, "keep", lambda *args: prepared.append(args[0]) or keep(*args))
    monkeypatch.chdir(tmp_path)
    if program:
        run = small_run(tmp_path / "run", load(photos, image_size=16), steps=1)
    else:
        run = trained_by_command(tmp_path / "run", "--dataset", "folder", "--data-root", photos, "--image-size", 16)
    assert len(find_images(run)) == 20 and len(prepared) == 1
    moved = photos.rename(tmp_path / "elsewhere")
    with pytest.raises((ValueError, FileNotFoundError), match="photos.*data_root"):
        find_images(run)
    assert len(find_images(run, data_root=moved)) == 20
    with pytest.raises(ValueError, match="no split 'test'"):
        find_images(run, "test", data_root=moved)


@pytest.mark.parametrize(
    ("name", "why"), [("fake", "other pixels"), (None, "dataset=None"), ("noise", "no dataset 'noise'")]
)
def test_images_that_are_others_or_have_no_name_get_a_sentence(tmp_path, name, why):
    run = small_run(tmp_path / "run", ImageSet(noise(40, size=8), None, (), name, "noise"), steps=1)
    with pytest.raises(ValueError, match=f"40 of 'noise', are not here: .*{why}.*data_root.*ganlib.metrics.score"):
        find_images(run)


def torn(run):
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"")
    return run


REFUSED = [
    (lambda run, other: info(run / "none"), "no run in '.*none'"),
    (lambda run, other: compare([run, run]), "two different runs"),
    (lambda run, other: compare([run, other / "none"]), "no run in '.*none'"),
    (lambda run, other: compare([run, other], out=run / "a.jpg"), "a.jpg'.*ends in .png"),
    (lambda run, other: evaluate(run / "none"), "no run in '.*none'"),
    (lambda run, other: evaluate(run, num=20, net="digitnet"), "needs.*64 samples"),
    (lambda run, other: evaluate(torn(run), net="digitnet"), "No checkpoint in .* is intact"),
]


@pytest.mark.parametrize(("command", "sentence"), REFUSED)
def test_what_cannot_be_done_gets_a_sentence_and_leaves_nothing(run, other, command, sentence):
    before = sorted(run.rglob("*"))
    with pytest.raises((ValueError, OSError), match=sentence) as error:
        command(run, other)
    assert "\n" not in str(error.value) and sorted(run.rglob("*")) == before


ABSENT = ["not on this machine"]


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_all_datasets_are_told_and_nothing_is_touched(root, tmp_path, capsys):
    before = everything(tmp_path)
    found = tyro.cli(tell, args=[])
    assert everything(tmp_path) == before and list(found) == list(sets.SETS)
    told = capsys.readouterr().out
    for name, dataset in sets.SETS.items():
        assert all(found[name][split] == ABSENT for split in dataset.splits) and dataset.missing.format(root) in told
        for file, url, md5 in dataset.files("train") if dataset.files else ():
            assert file in told and url in told and md5 in told and str(root / dataset.names[0]) in told


def test_files_put_where_it_says_are_found(root, tmp_path):
    makers.put(root / "mnist", makers.idx_files())
    found = tell("mnist")["mnist"]
    assert found["train"] == [f"your copy (mnist) · '{root / 'mnist' / 'train-images-idx3-ubyte.gz'}'"]
    assert found["test"] == ABSENT
    assert "train-images" not in (how := "\n".join(found["to get it"])) and "t10k-images" in how
    makers.put(root / "mnist", makers.idx_files(split="test"))
    assert "to get it" not in tell("MNIST")["mnist"]
    makers.put(tmp_path / "mine" / "mnist", makers.idx_files())  # data_root comes first
    first, second = tyro.cli(tell, args=["mnist", "--data-root", str(tmp_path / "mine")], config=cli.HOW)["mnist"][
        "train"
    ]
    assert str(tmp_path / "mine") in first and str(root) in second


def test_a_folder_of_pictures(root, tmp_path, capsys):
    photos = makers.pictures(tmp_path / "photos" / "train", n=5, size=(40, 30)).parent
    makers.pictures(photos / "test", n=2, size=(50, 60), mode="RGB")
    makers.put(photos / "train", {"a/page.png": b"<html>"})
    before = everything(photos)
    (found,) = tell(str(photos)).values()
    assert everything(photos) == before
    assert found["train"][0].startswith("photos · 5 images · 1 left out: train/a/page.png")
    assert found["test"][0].startswith("photos · 2 test images") and "2 classes: a 3, b 2." in found["train"]
    assert "2 classes: a 1, b 1." in found["test"] and any("40×30 (5)" in line for line in found["train"])
    told = capsys.readouterr().out
    assert "train/a/page.png (a web page)" in told and found["contact sheet"][0] in told


def test_an_archive_by_its_name_in_a_data_root(root):
    makers.pack(root / "few.zip", {f"{k}.png": makers.encoded() for k in range(3)})
    assert tell("few.zip")["few.zip"]["train"][0].startswith("few · 3 images · archive few.zip")
    found = tell("folder", images=Images(data_root=str(root / "few.zip")))
    assert found["folder"]["train"][0].startswith("few · 3 images")


def test_what_is_not_there_gets_a_sentence(tmp_path):
    makers.put(tmp_path, {"a.zip": b"PK half", "bad/a.png": b"no", "empty/x.txt": b""})
    for name, sentence in {
        str(tmp_path / "bad"): r"no images in .*bad.*: a.png \(damaged\)",
        "mnits": "'mnits'.*mnist",
        "no/where": "'no/where'",
        "folder": "root",
        str(tmp_path / "empty"): "no images in .*empty",
        str(tmp_path / "a.zip"): "a.zip' cannot be read",
    }.items():
        with pytest.raises((ValueError, OSError), match=sentence) as error:
            tell(name)
        assert "\n" not in str(error.value)
