"""Every wrong argument of the public names gets one sentence, which names it. One line is one mistake."""

import io
import os
import subprocess
import sys

import pytest
import torch

import ganlib
from ganlib import GAN, Run, budget, fit, load, metrics, models, rng, viz
from ganlib.data import Batches, augment
from ganlib.steps import dcgan_step
from helpers import ROOT


def images():
    return load("fake", n=16, image_size=8)


def players(**changed):
    generator, discriminator = models.dcgan_generator(8, 3, 2, 4), models.dcgan_discriminator(8, 3, 2)
    optimisers = [torch.optim.Adam(network.parameters()) for network in (generator, discriminator)]
    names = ("generator", "discriminator", "g_opt", "d_opt")
    return GAN(**dict(zip(names, (generator, discriminator, *optimisers), strict=True)) | {"z_dim": 4} | changed)


def go(step=dcgan_step, given=None, gan=None, **how):
    how = {"steps": 2, "batch_size": 8, "watchers": (), **how}
    return fit(gan or players(), step, images() if given is None else given, **how)


def returns(record):
    return lambda gan, batches: (dcgan_step(gan, batches), record)[1]


def scored(found):
    return go(score=lambda generator: found, score_every=1)


ONE, PIXELS = torch.ones(()), torch.zeros(4, 1, 4, 4)
WRONG = {
    "size as a pair": (lambda: load("fake", image_size=(64, 64)), r"image_size is \(64, 64\).*square"),
    "size as text": (lambda: load("fake", image_size="64"), "image_size is '64'.*whole number"),
    "size as a float": (lambda: load("fake", image_size=64.0), "image_size is 64.0.*whole number"),
    "number as text": (lambda: load("fake", n="10"), "n is '10'"),
    "seed as text": (lambda: load("fake", seed="a"), "seed 'a'.*whole number"),
    "z as a list of numbers": (
        lambda: ganlib.sample(models.dcgan_generator(8, 3, 2, 4), [1, 2]),
        r"\[B, 4\], not \[2\]",
    ),
    "frames a second as text": (lambda: viz.animation([PIXELS], fps="8"), "fps is '8'"),
    "a run in nothing": (lambda: Run(None), "folder is None.*path"),
    "a run in no folder": (lambda: Run(""), "folder is ''.*path"),
    "one step to keep": (lambda: Run("runs/x", keep_at=5), "keep_at is 5.*set of steps"),
    "samples as text": (lambda: metrics.score(PIXELS, PIXELS, None, n="5"), "n is '5'"),
    "number as a float": (lambda: load("fake", n=1e3), "n is 1000.0"),
    "channels as text": (lambda: load("fake", channels="rgb"), "channels is rgb.*1 .grey., 3"),
    "no split": (lambda: load("fake", split=None), "no split 'None'"),
    "nothing to load": (lambda: load(None), "holds no images"),
    "a number to load": (lambda: load(3), "holds no images"),
    "a word for another": (lambda: load("fake", size=64), "size"),
    "generator of a pair": (lambda: models.dcgan_generator((64, 64)), r"image_size is \(64, 64\).*square"),
    "generator of text": (lambda: models.dcgan_generator("64"), "image_size is '64'"),
    "channels of text": (lambda: models.dcgan_generator(8, "3"), "channels is '3'"),
    "width of text": (lambda: models.dcgan_generator(8, 3, "8"), "width is '8'"),
    "width of 0": (lambda: models.dcgan_generator(8, 3, 0), "width is 0.*at least 1"),
    "z_dim of text": (lambda: models.dcgan_generator(8, 3, 8, "100"), "z_dim is '100'"),
    "width of a float": (lambda: models.dcgan_discriminator(8, 3, 8.5), "width is 8.5"),
    "seed of text": (lambda: models.dcgan_generator(8, 3, 2, 4, seed="x"), "seed 'x'"),
    "z_dim as text": (lambda: players(z_dim="4"), "z_dim is '4'"),
    "z_dim 0": (lambda: players(z_dim=0), "z_dim is 0.*at least 1"),
    "ema_decay as text": (lambda: players(ema_decay="0.9"), "ema_decay='0.9'"),
    "ema_decay 1": (lambda: players(ema_decay=1), "ema_decay=1.*below 1"),
    "seed as a float": (lambda: players(seed=1.5), "seed is 1.5"),
    "fixed_z as a number": (lambda: players(fixed_z=5), r"fixed_z has shape \[\].*\[n, 4\]"),
    "an optimiser as a player": (lambda: players(generator=players().g_opt), "generator is a Adam.*GAN.generator, d"),
    "a player as an optimiser": (lambda: players(g_opt=players().generator), "g_opt is a Generator.*Optimizer"),
    "a device that is not": (lambda: go(gan=players(device="gpu")), "no device 'gpu'"),
    "steps as text": (lambda: go(steps="5"), "steps='5'"),
    "seconds as text": (lambda: go(steps=None, seconds="5"), "seconds='5'"),
    "no end": (lambda: go(steps=None), "steps=..., seconds=..."),
    "batch_size as text": (lambda: go(batch_size="8"), "batch_size is '8'"),
    "batch_size as a float": (lambda: go(batch_size=8.0), "batch_size is 8.0"),
    "a larger batch than set": (lambda: go(batch_size=99), "batch_size is 99.*1 to 16"),
    "a step by name": (lambda: go("dcgan"), "step is 'dcgan'.*function"),
    "no step": (lambda: go(None), "step is None.*function"),
    "a step that returns a number": (lambda: go(lambda gan, batches: 3), "returned a int: 3.*dict of scalars"),
    "a step that returns a tuple": (lambda: go(lambda gan, batches: (ONE, ONE)), "returned a tuple"),
    "a step that returns nothing": (lambda: go(lambda gan, batches: None), "returned nothing"),
    "a loss called step": (lambda: go(returns({"step": ONE})), "called 'step'"),
    "a loss as text": (lambda: go(returns({"d_loss": "1"})), "'d_loss' is of type str"),
    "a loss for each image": (lambda: go(returns({"d_loss": torch.ones(8)})), r"'d_loss' has shape \[8\].*mean"),
    "a score as a number": (lambda: scored(0.5), "score returned 0.5 of type float.*dict of numbers"),
    "a score of text": (lambda: scored({"fd": "low"}), "score returned .*low.*dict of numbers"),
    "no function as score": (lambda: go(score=3, score_every=1), "score is 3.*function"),
    "every as text": (lambda: go(snapshot_every="5"), "snapshot_every is '5'"),
    "every as a float": (lambda: go(snapshot_every=2.5), "snapshot_every is 2.5"),
    "a precision": (lambda: go(precision="fp8"), "precision is 'fp8'.*'fp32'"),
    "a folder as run": (lambda: go(run="runs/x"), r"run is 'runs/x'.*run=Run\('runs/x'\)"),
    "a function as watchers": (lambda: go(watchers=print), "watchers is .*list"),
    "images of one number": (lambda: go(given=3), "holds no images"),
    "a run's checkpoints": (lambda: Run("x", checkpoint_every="5"), "checkpoint_every is '5'"),
    "a run that keeps none": (lambda: Run("x", keep_every=0), "keep_every is 0"),
    "take as text": (lambda: images().take("5"), "take 5"),
    "take a part": (lambda: images().take(2.5), "take 2.5"),
    "hold out as text": (lambda: images().hold_out("5"), "hold out 5"),
    "an unknown class": (lambda: images().of_class("nope"), "no class 'nope'"),
    "batches of text": (lambda: Batches(images(), "8"), "batch_size is 8"),
    "a picture of a plane": (lambda: viz.grid(torch.zeros(4, 4)), r"shape \[4, 4\]"),
    "columns as text": (lambda: viz.grid(PIXELS, cols="2"), "cols is 2"),
    "a scale of a half": (lambda: viz.grid(PIXELS, scale=1.5), "scale is 1.5"),
    "a budget as text": (lambda: budget(steps="100"), "steps is '100'"),
    "a seed as text": (lambda: rng("a"), "seed 'a'"),
    "an augmentation": (lambda: augment(PIXELS, "flip"), "'flip'.*cutout"),
    "a metric": (lambda: metrics.score(images(), images(), None, metrics=("fid",)), "no metric 'fid'.*fd"),
    "a setting": (lambda: ganlib.main(datset="fake"), "'datset'.*'dataset'"),
    "processes": (lambda: ganlib.main(processes=2), "torchrun --nproc-per-node"),
    "a setting as text": (lambda: ganlib.main(dataset="fake", steps="5"), "steps='5'.*int"),
    "a setting as a pair": (lambda: ganlib.main(dataset="fake", image_size=(64, 64)), r"image_size=\(64, 64\)"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_gets_a_sentence(mistake, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    do, sentence = WRONG[mistake]
    with pytest.raises(ValueError, match=sentence) as error:
        do()
    assert len(str(error.value)) < 400 and not list(tmp_path.iterdir())


def test_numbers_of_python_will_do_in_place_of_tensors():
    assert go(returns({"d_loss": 1, "g_loss": 0.5})).losses == {"d_loss": [1, 1], "g_loss": [0.5, 0.5]}


@pytest.mark.parametrize("encoding", ["cp932", "cp437", "cp1252", "ascii", "iso8859-1"])
def test_no_console_dies_on_a_character(encoding):
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "ganlib").rglob("*.py")) + "a\udce9.png"
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="ganlib", write_through=True)
    stream.write(text)
    assert len(stream.buffer.getvalue().decode(encoding)) >= len(text)
    code = "import sys, ganlib; print('3 × 4 · …', sys.stdout.encoding, sys.stdout.errors)"
    how = dict(env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}, capture_output=True)
    found = subprocess.run([sys.executable, "-c", code], **how)
    assert found.returncode == 0 and found.stdout.decode(encoding).endswith(f"{encoding} ganlib\n")
