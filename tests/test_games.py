"""From settings to what ``fit`` takes: each setting shows in the images, the networks, the step or the arguments."""

import dataclasses
import math
import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from ganlib import steps
from ganlib.data.loading import load
from ganlib.runs import build as games
from ganlib.runs import checkpoint
from ganlib.runs.config import LOSSES, Config
from ganlib.runs.rules import change
from ganlib.runs.settings import name_of

TINY = dict(dataset="fake", n=40, image_size=8, channels=3, z_dim=4, g_width=2, d_width=2, batch_size=8)


def tiny(**more):
    return change(Config(), TINY | more)


@pytest.fixture
def photos(tmp_path):
    """A folder of six pictures in two classes, one colour each."""
    for k in range(6):
        path = tmp_path / "photos" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 16), (40 * k, 0, 0)).save(path)
    return tmp_path / "photos"


def test_images_are_those_that_are_named(photos):
    images = games.load_images(tiny())
    assert torch.equal(images.pixels, load("fake", n=40, image_size=8).pixels)
    assert games.load_images(tiny(channels=1, image_size=12)).pixels.shape == (40, 1, 12, 12)
    for config in (
        Config(dataset=str(photos), image_size=16),
        Config(dataset="folder", data_root=str(photos), image_size=16),
    ):
        images = games.load_images(config)
        assert sorted(images.pixels[:, 0, 0, 0].tolist()) == [0, 40, 80, 120, 160, 200]
    assert len(games.load_images(Config(dataset=str(photos), n=2))) == 2
    pooled = games.load_images(Config(dataset="fake", n=3, architecture="pooled"))
    assert pooled.pixels.shape == (3, 1, 28, 28)


def test_classes_by_name_and_by_number(photos):
    for c in ("b", "1"):
        images = games.load_images(Config(dataset=str(photos), image_size=16, classes=(c,)))
        assert sorted(images.pixels[:, 0, 0, 0].tolist()) == [40, 120, 200]
    assert len(games.load_images(Config(dataset=str(photos), classes=("a", "b"), n=4))) == 4
    with pytest.raises(ValueError, match="has no class 'c'; it has: 0 a, 1 b"):
        games.load_images(Config(dataset=str(photos), classes=("c",)))


def test_of_a_set_in_classes_only_those_are_read(root):
    for name, count in (("bedroom", 3), ("tower", 2), ("church", 4)):
        (root / "lsun" / f"{name}_train").mkdir(parents=True)
        for k in range(count):
            Image.new("RGB", (20, 18), (k, 0, 0)).save(root / "lsun" / f"{name}_train" / f"{k}.png")
    (root / "lsun" / "church_train" / "0.png").write_bytes(b"never looked at")
    images = games.load_images(Config(dataset="lsun", image_size=16, classes=("tower", "bedroom")))
    assert len(images) == 5 and images.classes == ("bedroom", "tower") and not images.skipped


def test_a_class_whose_name_is_a_number_is_that(tmp_path):
    for year in ("2010", "2011"):
        (tmp_path / year).mkdir()
        Image.new("L", (8, 8), int(year) - 2000).save(tmp_path / year / "x.png")
    images = games.load_images(Config(dataset=str(tmp_path), classes=("2011",)))
    assert images.pixels[0, 0, 0, 0] == 11


def test_the_players_are_as_wide_and_deep_as_asked():
    gan = games.players(tiny(z_dim=5, g_width=3, d_width=7, image_size=16, base=2))
    assert gan.z_dim == 5 and gan.generator(torch.zeros(2, 5)).shape == (2, 3, 16, 16)
    convs = [m for m in gan.discriminator if isinstance(m, nn.Conv2d)]
    assert convs[0].out_channels == 7 and len(convs) == 4 and convs[-1].kernel_size == (2, 2)
    assert [m for m in gan.generator if isinstance(m, nn.ConvTranspose2d)][-1].in_channels == 3


@pytest.mark.parametrize(
    ("norm", "layer"),
    [
        ("batch", nn.BatchNorm2d),
        ("layer", nn.GroupNorm),
        ("instance", nn.InstanceNorm2d),
        ("spectral", nn.utils.parametrizations._SpectralNorm),
        ("none", None),
    ],
)
def test_norm_is_in_the_discriminator(norm, layer):
    kinds = (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.utils.parametrizations._SpectralNorm)
    found = {type(m) for m in games.players(tiny(image_size=16, norm=norm)).discriminator.modules()} & {*kinds}
    assert found == ({layer} if layer else set())


@pytest.mark.parametrize("kind", ["conv", "linear", "pooled"])
def test_architectures_are_those_of_ganlib(kind):
    size = dict(image_size=28, channels=1) if kind == "pooled" else {}
    plain = {"g_width": 32, "d_width": 32} if kind == "pooled" else {}
    gan = games.players(tiny(architecture=kind, **size, **plain))
    assert gan.generator.config["kind"] == gan.discriminator.config["kind"] == {"conv": "dcgan"}.get(kind, kind)


def test_seeds_decide_the_weights_and_z():
    one, same, other = (games.players(tiny(seed=s)) for s in (1, 1, 2))
    for name in ("generator", "discriminator"):
        first, again, another = (next(getattr(gan, name).parameters()) for gan in (one, same, other))
        assert torch.equal(first, again) and not torch.equal(first, another)
    assert torch.equal(one.sample_z(3), same.sample_z(3)) and not torch.equal(one.sample_z(3), other.sample_z(3))


def test_optimisers_are_those_of_the_loss_unless_told_otherwise():
    gan = games.players(tiny(g_lr=1e-3, d_lr=2e-3, betas=(0.1, 0.2)))
    assert [o.param_groups[0]["lr"] for o in (gan.g_opt, gan.d_opt)] == [1e-3, 2e-3]
    assert gan.g_opt.param_groups[0]["betas"] == gan.d_opt.param_groups[0]["betas"] == (0.1, 0.2)
    gan = games.players(tiny(loss="wgan"))
    assert type(gan.g_opt) is type(gan.d_opt) is torch.optim.RMSprop and gan.g_opt.param_groups[0]["lr"] == 5e-5
    assert games.players(tiny(loss="wgan-gp")).d_opt.param_groups[0]["betas"] == (0.0, 0.9)


def test_augmentation_is_in_front_of_the_discriminator():
    assert games.players(tiny(augment=("flip", "cutout", "colour"))).discriminator.augment == ("colour", "cutout")
    assert not hasattr(games.players(tiny(augment=("flip",))).discriminator, "augment")
    assert games.fit_arguments(tiny(augment=("flip",)), load("fake", n=40))["flip"]


@pytest.mark.parametrize("loss", LOSSES)
def test_steps_are_named_so_that_they_can_be_found_again(loss):
    step = games.step(tiny(loss=loss))
    again = games.step_named(name_of(step))
    assert name_of(again) == name_of(step) and name_of(step).startswith("ganlib.steps.")
    assert getattr(again, "keywords", {}) == getattr(step, "keywords", {})


def test_a_step_has_its_settings():
    assert games.step(tiny(loss="wgan", clip_value=0.2)).keywords == {"n_critic": 5, "clip_value": 0.2}
    assert games.step(tiny(loss="wgan-gp", n_critic=2, gp_weight=3)).keywords == {"n_critic": 2, "gp_weight": 3}
    assert games.step(tiny(loss="rpgan", r2_gamma=0)).keywords == {"r1_gamma": 1.0, "r2_gamma": 0}
    assert games.step(tiny(loss="ns-r1")).keywords == {"r1_gamma": 0.02, "r1_every": 8}
    assert games.step(tiny()) is steps.dcgan_step and games.step(tiny(loss="hinge")) is steps.hinge_step


@pytest.mark.parametrize(
    "name",
    [
        "__main__.step",
        "ganlib.steps.frozen",
        "ganlib.steps.no_step",
        "ganlib.steps.wgan_step(5)",
        "ganlib.steps.wgan_step(n_critic=__import__('os').getpid())",
        "ganlib.steps.wgan_step(**{'n_critic': 5})",
        "ganlib.steps.wgan_step(",
    ],
)
def test_other_steps_are_refused_and_nothing_is_run(name):
    with pytest.raises(ValueError, match="none of ganlib.steps"):
        games.step_named(name)


def test_how_long():
    images = load("fake", n=40, image_size=8)
    assert games.steps_to_make(tiny(steps=7), images) == 7
    assert games.steps_to_make(tiny(epochs=3), images) == 15
    assert games.steps_to_make(tiny(epochs=3, loss="wgan"), images) == 3
    assert games.steps_to_make(tiny(), images) == 50
    assert games.steps_to_make(tiny(seconds=1.0), images) == games.UNTIL_TIME_IS_UP
    assert games.steps_to_make(tiny(seconds=1.0, steps=3), images) == 3


def test_the_rest_is_what_fit_takes():
    images = load("fake", n=40, image_size=8)
    arguments = games.fit_arguments(
        tiny(steps=9, snapshot_every=4, score_every=0, precision="fp32", ema_decay=0.5, seed=3), images
    )
    assert (arguments["snapshot_at"], arguments["score_at"]) == (range(0, 10, 4), ())
    usual = games.fit_arguments(tiny(steps=500), images)
    assert (usual["snapshot_at"], usual["score_at"]) == (range(0, 501, 10), range(0, 501, 100))
    assert games.fit_arguments(tiny(steps=3), images)["snapshot_at"] == range(4)
    assert games.fit_arguments(tiny(epochs=9, keep_epochs=(1, 5)), images)["keep_at"] == [5, 25]
    assert games.fit_arguments(tiny(seconds=9.0), images)["snapshot_at"].step == 100
    assert (arguments["precision"], arguments["ema_decay"], arguments["seed"]) == ("fp32", 0.5, 3)


def test_scores_suit_the_images(monkeypatch):
    monkeypatch.setattr(games, "N_SCORED", {"digits": 100, "colours": 100})
    grey = load("fake", n=130, image_size=28, channels=1)
    digits = dataclasses.replace(grey, name="mnist")
    for images in (load("fake", n=40), grey, load("fake", n=130, image_size=16, channels=1)):
        assert games.score_for(images) is None
    generator = games.players(games.fitted(Config(z_dim=4, g_width=2, d_width=2), digits)).ema_generator
    assert list(games.score_for(digits)(generator)) == ["fd_digitnet_100", "sure", "smallest_share"]
    colours = load("fake", n=130, image_size=8)
    generator = games.players(games.fitted(tiny(), colours)).ema_generator
    (found,) = games.score_for(colours)(generator).items()
    assert found[0] == "fd_cifarnet_100" and math.isfinite(found[1])


# --- weights to start from ------------------------------------------------------------------------


class Exploit:
    """A pickle that would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def other():
    return games.players(tiny(seed=5))


def test_players_start_from_files_and_folders(tmp_path, other):
    save_file(other.generator.state_dict(), tmp_path / "g.safetensors")
    torch.save(other.discriminator.state_dict(), tmp_path / "d.pth")
    checkpoint.save(other, tmp_path / "saved")
    names = ("generator", "discriminator")
    for files in (("g.safetensors", "d.pth"), ("saved", "saved")):
        paths = dict(zip(names, files, strict=True))
        gan = games.players(tiny(**{name: tmp_path / path for name, path in paths.items()}))
        for name in names:
            mine, theirs = getattr(gan, name).state_dict(), getattr(other, name).state_dict()
            assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
        assert torch.equal(gan.ema_generator[0].weight, other.generator[0].weight)
    gone = tiny(generator=tmp_path / "gone")
    assert games.players(gone, fresh=False).z_dim == 4  # its weights come from a checkpoint


def test_weights_that_cannot_be_taken_get_a_sentence(tmp_path, other):
    save_file(other.generator.state_dict(), tmp_path / "g.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Exploit(tmp_path / "created")))
    (tmp_path / "empty").mkdir()
    for wrong, error, sentence in (
        (tiny(generator=tmp_path / "g.safetensors", z_dim=5), ValueError, r"do not fit: '0.weight' has shape \[4, "),
        (tiny(discriminator=tmp_path / "g.safetensors"), ValueError, "do not fit"),
        (tiny(generator=tmp_path / "bad.safetensors"), ValueError, "is damaged, or no safetensors file"),
        (tiny(generator=tmp_path / "evil.pth"), ValueError, "was refused"),
        (tiny(generator=tmp_path / "gone.pth"), FileNotFoundError, "no file or folder"),
        (tiny(generator=tmp_path / "empty"), FileNotFoundError, "No checkpoint in"),
    ):
        with pytest.raises(error, match=sentence):
            games.players(wrong)
    assert not (tmp_path / "created").exists()
