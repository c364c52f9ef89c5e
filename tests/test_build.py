"""From settings to what ``fit`` takes: each setting shows in the images, the networks, the step or the arguments."""

import dataclasses
import math

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from ganlib.data import load
from ganlib.runs import build, checkpoint
from ganlib.runs.config import LOSSES, OF_STEP, Config, change
from ganlib.runs.provenance import name_of

SMALL = dict(dataset="fake", n=40, image_size=8, channels=3, z_dim=4, g_width=2, d_width=2, batch_size=8)


def tiny(**more):
    return change(Config(), SMALL | more)


@pytest.fixture
def photos(tmp_path):
    """A folder of six pictures in two classes, one colour each."""
    for k in range(6):
        path = tmp_path / "photos" / ("a", "2011")[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 16), (40 * k, 0, 0)).save(path)
    return tmp_path / "photos"


def reds(**config):
    return sorted(build.load_images(Config(**config)).pixels[:, 0, 0, 0].tolist())


def test_images_are_those_that_are_named(photos):
    assert torch.equal(build.load_images(tiny()).pixels, load("fake", n=40, image_size=8).pixels)
    assert build.load_images(tiny(channels=1, image_size=12)).pixels.shape == (40, 1, 12, 12)
    assert reds(dataset=str(photos), image_size=16) == [0, 40, 80, 120, 160, 200]
    assert reds(dataset="folder", data_root=str(photos), image_size=16) == [0, 40, 80, 120, 160, 200]
    assert len(reds(dataset=str(photos), n=2)) == 2
    assert build.load_images(Config(dataset="fake", n=3, architecture="pooled")).pixels.shape == (3, 1, 28, 28)
    assert build.load_images(tiny(augment=("flip",))).flip and not build.load_images(tiny()).flip


def test_classes_by_name_and_by_number(photos):
    for c in ("2011", "0"):  # a class whose name is a number is that
        assert reds(dataset=str(photos), image_size=16, classes=(c,)) == [40, 120, 200]
    assert reds(dataset=str(photos), image_size=16, classes=("1",)) == [0, 80, 160]
    assert len(reds(dataset=str(photos), classes=("a", "2011"), n=4)) == 4
    with pytest.raises(ValueError, match="no class 'c'.*2011"):
        reds(dataset=str(photos), classes=("c",))


def test_of_a_set_in_classes_only_those_are_read(root):
    for name, count in (("bedroom", 3), ("tower", 2), ("church", 4)):
        (root / "lsun" / f"{name}_train").mkdir(parents=True)
        for k in range(count):
            Image.new("RGB", (20, 18), (k, 0, 0)).save(root / "lsun" / f"{name}_train" / f"{k}.png")
    (root / "lsun" / "church_train" / "0.png").write_bytes(b"never looked at")
    images = build.load_images(Config(dataset="lsun", image_size=16, classes=("tower", "bedroom")))
    assert len(images) == 5 and images.classes == ("bedroom", "tower") and not images.skipped


SPECTRAL = nn.utils.parametrizations._SpectralNorm
NORMS = {"batch": nn.BatchNorm2d, "layer": nn.GroupNorm, "instance": nn.InstanceNorm2d, "spectral": SPECTRAL}


@pytest.mark.parametrize("norm", [*NORMS, "none"])
def test_norm_is_in_the_discriminator(norm):
    found = {type(m) for m in build.players(tiny(image_size=16, norm=norm)).discriminator.modules()}
    assert found & {*NORMS.values()} == {NORMS[norm]} - {None} if norm in NORMS else not found & {*NORMS.values()}


WIDE = {"residual": 8, "pooled": 32}


@pytest.mark.parametrize("kind", ["conv", "linear", "residual", "pooled"])
def test_architectures_are_those_of_ganlib(kind):
    more = {"g_width": WIDE[kind], "d_width": WIDE[kind]} if kind in WIDE else {}
    size = dict(image_size=28, channels=1) if kind == "pooled" else {}
    gan = build.players(tiny(architecture=kind, **size, **more))
    assert gan.generator.config["kind"] == gan.discriminator.config["kind"] == {"conv": "dcgan"}.get(kind, kind)


def test_augmentation_is_in_front_of_the_discriminator():
    assert build.players(tiny(augment=("flip", "cutout", "colour"))).discriminator.augment == ("colour", "cutout")
    assert not hasattr(build.players(tiny(augment=("flip",))).discriminator, "augment")


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_is_named_with_its_settings(loss):
    own = {name: value for name, value in LOSSES[loss].items() if name in OF_STEP}
    assert name_of(build.step(tiny(loss=loss))) == {"step": loss, **own}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"steps": 7}, {"steps": 7, "snapshot_every": 1, "score_every": 100, "seconds": None}),
        ({"epochs": 3}, {"steps": 15}),
        ({"epochs": 3, "loss": "wgan"}, {"steps": 3}),
        ({}, {"steps": 50}),
        ({"seconds": 1.0}, {"steps": None, "seconds": 1.0, "snapshot_every": 100, "score_every": 500}),
        ({"seconds": 1.0, "steps": 3}, {"steps": 3, "seconds": 1.0}),
        ({"steps": 5000}, {"snapshot_every": 100, "score_every": 500}),
        ({"snapshot_every": 4, "score_every": 0, "precision": "fp32"}, {"snapshot_every": 4, "score_every": 0}),
        ({"precision": "fp32", "batch_size": 4}, {"precision": "fp32", "batch_size": 4}),
    ],
)
def test_the_rest_is_what_fit_takes(given, wanted):
    arguments = build.fit_arguments(tiny(**given), load("fake", n=40, image_size=8))
    assert {name: arguments[name] for name in wanted} == wanted


def test_scores_suit_the_images(monkeypatch):
    monkeypatch.setattr(build, "N_SCORED", {"digits": 100, "others": 100})
    grey = load("fake", n=130, image_size=28, channels=1)
    assert build.score_for(load("fake", n=40)) is None
    digits = dataclasses.replace(grey, name="mnist")
    generator = build.players(build.fitted(Config(z_dim=4, g_width=2, d_width=2), digits)).ema_generator
    found = build.score_for(digits)(generator)
    assert list(found) == ["fd_digitnet_100", "sure", "smallest_share"] and found.best == ("fd_digitnet_100", "lowest")
    for channels, name in ((3, "fd_cifarnet_100"), (1, "fd_cifarnet_grey_100"), (4, "fd_cifarnet_on_white_100")):
        images = load("fake", n=130, image_size=8, channels=min(channels, 3))
        images = dataclasses.replace(images, pixels=images.pixels.repeat(1, 2, 1, 1)[:, :channels])
        found = build.score_for(images)(build.players(tiny(channels=channels)).ema_generator)
        assert list(found) == [name] and math.isfinite(found[name]) and found.best == (name, "lowest")


@pytest.fixture
def files(tmp_path):
    """Weights of other players in every form."""
    other = build.players(tiny(seed=5))
    save_file(other.generator.state_dict(), tmp_path / "g.safetensors")
    torch.save(other.discriminator.state_dict(), tmp_path / "d.pth")
    checkpoint.save(other, tmp_path / "saved.safetensors")
    checkpoint.save(other, checkpoint.path_of(tmp_path / "run", 3))
    return tmp_path, other


@pytest.mark.parametrize("pair", [("g.safetensors", "d.pth"), ("saved.safetensors",) * 2, ("run",) * 2])
def test_players_start_from_files_and_folders(files, pair):
    folder, other = files
    gan = build.players(tiny(generator=folder / pair[0], discriminator=folder / pair[1]))
    for name in ("generator", "discriminator"):
        mine, theirs = getattr(gan, name).state_dict(), getattr(other, name).state_dict()
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    assert torch.equal(gan.ema_generator[0].weight, other.generator[0].weight)
    assert build.players(tiny(generator=folder / "gone"), fresh=False).z_dim == 4  # its weights are in a checkpoint
