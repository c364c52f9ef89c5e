"""The score of a run that is there: the number that the score itself gives, of the right images or of none."""

import functools
import json

import pytest
import torch
from conftest import FEW, RUN_IMAGES, small_run
from test_data import idx, idx_files, pictures, put

from ganlib._runtime import device as runtime
from ganlib.data import loading as data
from ganlib.data.images import ImageSet
from ganlib.metrics.nets import cifar_net
from ganlib.metrics.scores import score, score_digits
from ganlib.models import PerClass
from ganlib.runs import checkpoint, evaluation, saved
from ganlib.runs.evaluation import evaluate, find_images
from helpers import noise

pytestmark = pytest.mark.usefixtures("quickly")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """The set of all generated shapes is smaller than it is: its features take seconds."""
    monkeypatch.setattr(data, "FAKE_COUNT", FEW)


def noted(run):
    return [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]


def test_the_number_is_that_of_the_score(run, capsys):
    found = evaluate(run, num=150, net="digitnet")
    images = data.load("fake", **RUN_IMAGES)
    wanted = score_digits(checkpoint.load_generator(run), images, n=150)
    assert found == wanted
    told = capsys.readouterr().out
    assert str(wanted) in told and "step 6" in told and "running average" in told and images.source in told
    (line,) = noted(run)
    assert line["scores"] == json.loads(json.dumps(wanted.to_dict()))
    assert (line["step"], line["ema"], line["against"], line["images"]) == (6, True, "train", images.source)


def test_the_weights_themselves_and_the_test_split(run, tmp_path):
    one, other = evaluate(run, num=150, net="digitnet"), evaluate(run, num=150, net="digitnet", ema=False)
    assert one.fd != other.fd == score_digits(checkpoint.load_generator(run, "generator"), _fake(), n=150).fd
    test = evaluate(run, num=150, net="digitnet", against="test", out=tmp_path / "new" / "scores.jsonl")
    reals = data.load("fake", image_size=28, channels=1, split="test")
    assert test.fd == score_digits(checkpoint.load_generator(run), reals, n=150).fd != one.fd
    assert [line["ema"] for line in noted(run)] == [True, False]
    assert json.loads((tmp_path / "new" / "scores.jsonl").read_text())["against"] == "test"


def _fake():
    return data.load("fake", **RUN_IMAGES)


def test_colour_is_judged_by_the_cifar_net_at_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "score", functools.partial(score, metrics=("fd", "is")))  # not all take as long
    for size, resizer in ((32, "none"), (16, "bicubic")):
        images = data.load("fake", image_size=size, n=150)
        run = small_run(tmp_path / str(size), images, steps=2)
        found = evaluate(run, num=100)
        wanted = score(
            checkpoint.load_generator(run), images, cifar_net(), n=100, resizer=resizer, metrics=("fd", "is")
        )
        assert found == wanted and found["fd"].protocol["resizer"] == resizer


def test_every_class_has_its_own_generator_and_its_own_reals(by_class, tmp_path, capsys):
    found = evaluate(by_class, num=150, net="digitnet", out=tmp_path / "scores.jsonl")
    images = data.load("fake", image_size=28, channels=1)
    names = list(saved.class_runs(by_class))
    reals = torch.cat([images.of_class(name).pixels for name in names])
    together = PerClass([checkpoint.load_generator(by_class / name) for name in names])
    assert found.fd == score_digits(together, reals, n=150).fd
    line = json.loads((tmp_path / "scores.jsonl").read_text())
    assert line["step"] == [6, 6, 6] and all(name in line["images"] for name in names)
    one = evaluate(by_class / names[1], num=150, net="digitnet", against="test", out=tmp_path / "scores.jsonl")
    test = data.load("fake", image_size=28, channels=1, split="test").of_class(names[1])
    assert one.fd == score_digits(checkpoint.load_generator(by_class / names[1]), test, n=150).fd


# --- the images -------------------------------------------------------------------------------------------


def test_digits_are_found_where_they_are_and_nowhere_else(root, tmp_path):
    files = idx_files(n=200)
    files["train-images-idx3-ubyte.gz"] = idx(noise(200, size=28)[:, 0].numpy())
    there = put(tmp_path / "mine" / "mnist", files).parent
    images = data.load("mnist", root=there)
    run = small_run(tmp_path / "run", images.take(160, seed=1), seed=1, steps=2)
    found, classes = find_images(run, saved.config_of(run), there)
    assert torch.equal(found.pixels, images.take(160, seed=1).pixels) and classes == ()
    assert evaluate(run, num=100, data_root=there).features == "digitnet"


def test_other_images_under_the_same_name_are_refused(root, tmp_path):
    run = small_run(tmp_path / "run", data.load("mnist", root=put(tmp_path / "a" / "mnist", idx_files()).parent))
    other = put(tmp_path / "b" / "mnist", idx_files(value=9)).parent
    before = sorted(run.rglob("*"))
    with pytest.raises(
        ValueError, match=r"are others than those that are here: it had 30 of 'MNIST · 30 digits"
    ) as error:
        evaluate(run, data_root=other)
    assert "data_root" in str(error.value) and "\n" not in str(error.value)
    assert sorted(run.rglob("*")) == before


def test_a_folder_is_found_by_data_root_wherever_it_went(root, tmp_path, monkeypatch):
    folder = pictures(tmp_path / "photos", n=20, size=(16, 16), mode="RGB")
    run = small_run(tmp_path / "run", data.load(folder), steps=1)
    config = saved.config_of(run)
    monkeypatch.chdir(tmp_path)
    assert len(find_images(run, config)[0]) == 20  # by its name, in the working folder
    (moved := tmp_path / "else" / "where").parent.mkdir()
    folder.rename(moved)
    with pytest.raises(
        ValueError, match="The images of the run in '.*run' are not to be had. There is no image set 'ph"
    ):
        find_images(run, config)
    assert len(find_images(run, config, moved)[0]) == 20


def test_images_that_have_no_name_get_a_sentence(tmp_path):
    for name, why in ((None, "given as a bare tensor"), ("noise", "There is no image set 'noise'")):
        run = small_run(tmp_path / str(name), ImageSet(noise(40, size=8), None, (), name, "noise"), steps=1)
        with pytest.raises(ValueError, match=f"not to be had. .*{why}.*ganlib.metrics.score"):
            find_images(run, saved.config_of(run))


# --- what cannot be done ----------------------------------------------------------------------------------


def break_all(run):
    for folder in (run / "checkpoints").iterdir():
        (folder / "ema_generator.safetensors").write_bytes(b"")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "No net judges 'fake', 1×28×28: the digitnet takes MNIST's digits"),
        ({"net": "cifarnet"}, "cifarnet"),
        ({"net": "resnet"}, "net is 'resnet', but must be one of: auto, digitnet, cifarnet, inception"),
        ({"against": "val"}, "against is 'val', but must be one of: train, test"),
        ({"num": 0}, "num is 0, but a score needs at least 2 samples"),
        ({"num": 20, "net": "digitnet"}, "needs at least 64 samples"),
    ],
)
def test_what_cannot_be_judged_gets_a_sentence_and_leaves_nothing(run, arguments, sentence):
    before = sorted(run.rglob("*"))
    with pytest.raises(ValueError, match=sentence) as error:
        evaluate(run, **arguments)
    assert "\n" not in str(error.value)
    assert sorted(run.rglob("*")) == before


def test_a_run_without_a_whole_checkpoint_gets_a_sentence(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no run in '.*nowhere'"):
        evaluate(tmp_path / "nowhere")
    break_all(run)
    with pytest.raises(ValueError, match="is damaged: 'ema_generator.safetensors' is not the file"):
        evaluate(run, net="digitnet")


def test_where_nothing_can_be_written_is_told_before_the_work(run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(evaluation, "score_digits", None)
    with pytest.raises(OSError, match="Cannot write in '.*file'"):
        evaluate(run, net="digitnet", out=tmp_path / "file" / "scores.jsonl")


def test_a_score_that_cannot_be_noted_is_printed(run, tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match=r"Cannot write '.*taken' .*; the scores are only what is printed"):
        evaluate(run, num=100, net="digitnet", out=tmp_path / "taken")
    assert "FD(digitnet)" in capsys.readouterr().out


def test_it_runs_on_the_device_that_there_is(run, monkeypatch):
    asked = []
    find = runtime.device
    monkeypatch.setattr(runtime, "device", lambda name=None: asked.append(name) or find("cpu"))
    evaluate(run, num=100, net="digitnet")
    assert asked == [None]
