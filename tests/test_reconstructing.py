"""A run's checkpoints, each inverted on the same images: what is written is what was found."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from test_train import quick

from ganlib import models
from ganlib.data import loading as data
from ganlib.data.loading import ImageSet, load
from ganlib.latent.inversion import invert
from ganlib.runs import checkpoint, cli
from ganlib.runs.reconstructing import reconstruct
from ganlib.steps import GAN
from helpers import noise

pytestmark = pytest.mark.usefixtures("quickly")
QUICK = {"steps": 4, "restarts": 2, "num": 3, "progress": False}


def train(images, out, steps=6):
    size, channels = images.image_size, images.channels
    generator = models.dcgan_generator(size, channels, 4, 5)
    discriminator = models.dcgan_discriminator(size, channels, 4)
    adam = [torch.optim.Adam(m.parameters(), 2e-3, betas=(0.5, 0.999)) for m in (generator, discriminator)]
    quick(GAN(generator, discriminator, *adam, z_dim=5), images, steps=steps, checkpoint_every=2, out=out)
    return out


@pytest.fixture(scope="module")
def shapes():
    return load("fake", n=24, image_size=16)


@pytest.fixture
def run(shapes, tmp_path):
    return train(shapes, tmp_path / "run")


@pytest.fixture
def few(monkeypatch):
    """The generated set is drawn anew whenever it is loaded: fewer of it are quicker."""
    monkeypatch.setattr(data, "FAKE_COUNT", 40)


def test_every_checkpoint_is_inverted_on_images_it_never_saw(run, few, capsys):
    found = reconstruct(run, **QUICK)
    printed = capsys.readouterr().out
    assert "3 of fake · 40 test generated shapes" in printed
    assert [row["step"] for row in found["rows"]] == [2, 4, 6]
    assert json.loads((run / "reconstruction" / "reconstruction.json").read_text()) == found
    held_out = load("fake", split="test", image_size=16).take(3)
    with Image.open(run / "reconstruction" / found["picture"]) as picture:
        sheet = np.asarray(picture)
    scale, pad = 6, 2
    assert sheet.shape == (scale * (pad + 4 * (16 + pad)), scale * (pad + 3 * (16 + pad)), 3)
    cells = sheet[::scale, ::scale][pad:, pad:].reshape(4, 18, 3, 18, 3)[:, :16, :, :16].transpose(0, 2, 4, 1, 3)
    assert np.array_equal(cells[0], held_out.pixels.numpy())
    for number, row in enumerate(found["rows"], 1):
        generator = checkpoint.load_generator(checkpoint.step_folder(run, row["step"]))
        again = invert(generator, held_out, steps=4, restarts=2, progress=False)
        assert np.array_equal(cells[number], again.images.numpy())
        assert row["error"] == pytest.approx(again.error.tolist(), rel=1e-4)
        assert f"step {row['step']} · 3 images · error" in printed


def test_images_of_ones_own_some_checkpoints_and_another_folder(run, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, pixels in enumerate(noise(5, size=20)):  # grey and larger: they come as the run's images are
        Image.fromarray(pixels[0].numpy()).save(folder / f"{number}.png")
    found = reconstruct(
        run, folder, checkpoints=(6, 2), likelihood="gaussian", sigma=0.2, out=tmp_path / "there", **QUICK
    )
    assert [row["step"] for row in found["rows"]] == [2, 6] and found["rows"][0]["sigma"] == pytest.approx([0.2] * 3)
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"reconstruction.png", "reconstruction.json"}
    assert not (run / "reconstruction").exists()
    assert "3 of photos · 5 images" in capsys.readouterr().out
    bernoulli = reconstruct(run, folder, likelihood="bernoulli", checkpoints=(6,), **{**QUICK, "num": 60})
    assert len(bernoulli["rows"][0]["error"]) == 5  # there are no more
    assert bernoulli["rows"][0]["sigma"] is None


def test_a_damaged_checkpoint_is_told_and_left_out(run, few, capsys):
    (checkpoint.step_folder(run, 4) / "ema_generator.safetensors").write_bytes(b"no weights")
    assert [row["step"] for row in reconstruct(run, **QUICK)["rows"]] == [2, 6]
    printed = capsys.readouterr().out
    assert "step-000004' is damaged" in printed and "It is left out." in printed
    with pytest.raises(ValueError, match="None of the checkpoints asked for .* is whole"):
        reconstruct(run, checkpoints=(4,), **QUICK)


def test_images_that_are_nowhere_or_not_new_are_told(tmp_path, shapes, capsys, few):
    run = train(ImageSet(shapes.pixels, None, (), "holiday", "holiday · 24 images"), tmp_path / "run", steps=2)
    with pytest.raises(FileNotFoundError, match=r"images of this run \(holiday · 24 images\) are not here; give some"):
        reconstruct(run, **QUICK)
    folder = pictures(tmp_path / "no_test_here", shapes.pixels[:8])
    config = json.loads((run / "config.json").read_text())
    config["images"]["name"] = str(folder)
    (run / "config.json").write_text(json.dumps(config))
    reconstruct(run, **QUICK)
    assert "has no split 'test'; it has: train. So these may be images that the run was trained on" in (
        capsys.readouterr().out
    )


def test_a_folder_is_found_where_the_command_line_was_given_it(tmp_path, shapes, capsys, monkeypatch):
    folder = pictures(tmp_path / "far", shapes.pixels)
    monkeypatch.chdir(tmp_path)
    asked = ["--dataset", str(folder), "--steps", "2", "--batch-size", "4", "--z-dim", "4", "--g-width", "2"]
    assert cli.main(["train", *asked, "--d-width", "2", "--out", "run"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # where there is no folder "far"
    found = reconstruct(tmp_path / "run", **QUICK)
    assert found["images"].startswith("3 of far · 24 images")


def pictures(folder, pixels):
    folder.mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number}.png")
    return folder


def test_what_is_wrong_gets_a_sentence(run, shapes, tmp_path):
    shapes = pictures(tmp_path / "shapes", shapes.pixels[:4])
    with pytest.raises(FileNotFoundError, match="There is no run in .*config.json"):
        reconstruct(tmp_path / "nowhere", **QUICK)
    with pytest.raises(ValueError, match="has no checkpoint of step 3; it has: 2, 4, 6"):
        reconstruct(run, shapes, checkpoints=(3,), **QUICK)
    with pytest.raises(ValueError, match="num is 0, but a row of the picture has 1 to 64"):
        reconstruct(run, shapes, **{**QUICK, "num": 0})
    with pytest.raises(ValueError, match="restarts is 0"):
        reconstruct(run, shapes, **{**QUICK, "restarts": 0})
    with pytest.raises(ValueError, match="is 8×8 pixels, smaller than image_size=16"):
        reconstruct(run, pictures(tmp_path / "small", noise(4, 3)), **QUICK)
    with pytest.raises(FileNotFoundError, match="There is no folder or archive"):
        reconstruct(run, "no/such/photos", **QUICK)
    config = (run / "config.json").read_text()
    (run / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json' is damaged"):
        reconstruct(run, shapes, **QUICK)
    (tmp_path / "young").mkdir()
    (tmp_path / "young" / "config.json").write_text(config)
    with pytest.raises(FileNotFoundError, match="has no checkpoint yet"):
        reconstruct(tmp_path / "young", shapes, **QUICK)
