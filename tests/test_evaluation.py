"""The score of a finished run: the number that the score itself gives, of the right images or of none."""

import dataclasses
import functools
import json
import shlex

import pytest
import torch
from conftest import FEW, RUN_IMAGES, small_run
from PIL import Image

from ganlib.data import ImageSet, cache, load
from ganlib.data import loading as data
from ganlib.metrics.nets import cifar_net
from ganlib.metrics.scores import score, score_digits
from ganlib.runs import checkpoint, cli, evaluation, settings
from ganlib.runs.evaluation import evaluate, find_images
from helpers import noise

pytestmark = pytest.mark.usefixtures("quickly")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """The set of all generated shapes is smaller than it is: its features take seconds."""
    monkeypatch.setattr(data, "FAKE_COUNT", FEW)


def noted(run):
    return [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]


def pictures(folder, n=20, side=16):
    folder.mkdir(parents=True)
    for k, image in enumerate(noise(n, 3, side)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{k}.png")
    return folder


def test_the_number_is_that_of_the_score(run, capsys):
    found = evaluate(run, num=150, net="digitnet")
    images = load("fake", **RUN_IMAGES)
    wanted = score_digits(checkpoint.load_generator(run), images, n=150)
    assert found == wanted
    told = capsys.readouterr().out
    assert str(wanted) in told and "step 6" in told and "running average" in told and images.source in told
    (line,) = noted(run)
    assert line["scores"] == json.loads(json.dumps(wanted.to_dict()))
    assert (line["step"], line["ema"], line["against"], line["images"]) == (6, True, "train", images.source)


def test_the_weights_themselves_and_the_test_split(run, tmp_path):
    one, other = evaluate(run, num=150, net="digitnet"), evaluate(run, num=150, net="digitnet", ema=False)
    reals = load("fake", **RUN_IMAGES)
    assert one.fd != other.fd == score_digits(checkpoint.load_generator(run, "generator"), reals, n=150).fd
    test = evaluate(run, num=150, net="digitnet", against="test", out=tmp_path / "new" / "scores.jsonl")
    reals = load("fake", image_size=28, channels=1, split="test")
    assert test.fd == score_digits(checkpoint.load_generator(run), reals, n=150).fd != one.fd
    assert [line["ema"] for line in noted(run)] == [True, False]
    assert json.loads((tmp_path / "new" / "scores.jsonl").read_text())["against"] == "test"


@pytest.mark.parametrize(("size", "resizer"), [(32, "none"), (16, "bicubic")])
def test_colour_is_judged_by_the_cifar_net_at_its_size(tmp_path, monkeypatch, size, resizer):
    how = dict(metrics=("fd", "is"))  # not all take as long
    monkeypatch.setattr(evaluation, "score", functools.partial(score, **how))
    images = load("fake", image_size=size, n=150)
    run = small_run(tmp_path / "run", images, steps=2)
    wanted = score(checkpoint.load_generator(run), images, cifar_net(), n=100, resizer=resizer, **how)
    assert evaluate(run, num=100) == wanted and wanted["fd"].protocol["resizer"] == resizer


# --- the images -------------------------------------------------------------------------------------------


def train(folder, *words):
    how = shlex.split("--steps 1 --batch-size 4 --z-dim 4 --g-width 2 --d-width 2 --score-every 0")
    assert cli.main(["train", *map(str, words), *how, "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    "words", [["--classes", "ring", "2"], ["--n", "20", "--augment", "flip"], ["--classes", "disc", "--n", "50"], []]
)
def test_the_images_of_a_run_of_the_command_line_are_found(tmp_path, words):
    run = train(tmp_path / "run", "--dataset", "fake", "--image-size", "8", *words)
    images = find_images(run)
    assert settings.fingerprint(images.pixels) == json.loads((run / "config.json").read_text())["images"]["fingerprint"]
    test = find_images(run, "test")
    assert test.split == "test" and set(test.labels.tolist()) == set(images.labels.tolist())


@pytest.mark.parametrize("program", [True, False])
def test_a_folder_is_prepared_once(root, tmp_path, monkeypatch, program):
    folder, prepared, keep = pictures(tmp_path / "photos"), [], cache.keep
    monkeypatch.setattr(cache, "keep", lambda *args: prepared.append(args[0]) or keep(*args))
    monkeypatch.chdir(tmp_path)
    if program:
        run = small_run(tmp_path / "run", load(folder, image_size=16), steps=1)
    else:
        run = train(tmp_path / "run", "--dataset", folder, "--image-size", "16")
    assert len(find_images(run)) == 20 and len(prepared) == 1


@pytest.mark.parametrize("program", [True, False])
def test_a_folder_is_found_wherever_it_went(root, tmp_path, monkeypatch, program):
    folder = pictures(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    if program:
        run = small_run(tmp_path / "run", load(folder), steps=1)
    else:
        run = train(tmp_path / "run", "--dataset", "folder", "--data-root", folder)
    (tmp_path / "else").mkdir()
    assert len(find_images(run)) == 20
    moved = folder.rename(tmp_path / "else" / "where")
    with pytest.raises((ValueError, FileNotFoundError), match="photos.*data_root"):
        find_images(run)
    assert len(find_images(run, data_root=moved)) == 20
    with pytest.raises(ValueError, match="no split 'test'"):
        find_images(run, "test", data_root=moved)


def test_one_class_of_a_program_is_found(tmp_path):
    run = small_run(tmp_path / "one", load("fake", image_size=8).of_class("ring"), steps=1)
    for split in ("train", "test"):
        wanted = load("fake", image_size=8, split=split).of_class("ring")
        assert torch.equal(find_images(run, split).pixels, wanted.pixels)


def test_other_images_under_the_same_name_are_refused(tmp_path):
    images = load("fake", image_size=8, n=40)
    other = dataclasses.replace(images, pixels=images.pixels.flip(0))
    run = small_run(tmp_path / "run", other, steps=1)
    before = sorted(run.rglob("*"))
    with pytest.raises(ValueError, match="40 of 'fake.*other pixels.*data_root") as error:
        evaluate(run)
    assert "\n" not in str(error.value) and sorted(run.rglob("*")) == before


@pytest.mark.parametrize(("name", "why"), [(None, "bare tensor"), ("noise", "no image set 'noise'|'noise'")])
def test_images_that_have_no_name_get_a_sentence(tmp_path, name, why):
    run = small_run(tmp_path / "run", ImageSet(noise(40, size=8), None, (), name, "noise"), steps=1)
    with pytest.raises(ValueError, match=f"not here: .*{why}.*ganlib.metrics.score"):
        find_images(run)


# --- what cannot be done ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "No net judges 'fake'.*digitnet"),
        ({"net": "cifarnet"}, "cifarnet"),
        ({"net": "resnet"}, "net is 'resnet'.*digitnet"),
        ({"against": "val"}, "against is 'val'.*train or test"),
        ({"num": 0}, "num is 0.*at least 2"),
        ({"num": 20, "net": "digitnet"}, "needs.*64 samples"),
    ],
)
def test_what_cannot_be_judged_gets_a_sentence_and_leaves_nothing(run, arguments, sentence):
    before = sorted(run.rglob("*"))
    with pytest.raises(ValueError, match=sentence) as error:
        evaluate(run, **arguments)
    assert "\n" not in str(error.value) and sorted(run.rglob("*")) == before


def test_a_run_without_an_intact_checkpoint_gets_a_sentence(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run in '.*nowhere'"):
        evaluate(tmp_path / "nowhere")
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="is damaged"):
        evaluate(run, net="digitnet")


def test_where_nothing_can_be_written_is_told_before_the_work_or_after_printing(run, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="Cannot write in '.*file'"):
        evaluate(run, net="digitnet", out=tmp_path / "file" / "scores.jsonl")
    assert "FD" not in capsys.readouterr().out
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="Cannot write '.*taken'.*printed"):
        evaluate(run, num=100, net="digitnet", out=tmp_path / "taken")
    assert "FD(digitnet)" in capsys.readouterr().out
