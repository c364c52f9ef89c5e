"""The emoji: a copy, npm's package, and the small drawings that come with ganlib and stand in for photographs."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from makers import encoded, pack

from ganlib.data import emoji, sets
from ganlib.data.loading import load
from helpers import serve

FEW = {f"emoji/{kind}/{k}.png": encoded((64, 64), (9 * k, 0, 200, 128), "RGBA") for kind in "ab" for k in range(3)}


@pytest.fixture(autouse=True)
def nothing_but(root):
    """Whatever this machine has is not seen."""


def npm_package(path):
    """A package as npm's: pictures by code, their kinds in a list, one with tones, and a swatch."""
    kinds = {"1f436": "Animals & Nature", "1f44b": "People & Body", "1f3fb": "Component", "1f6a9": "Flags"}
    about = [{"image": f"{code}.png", "category": kind} for code, kind in kinds.items()]
    about[1]["skin_variations"] = {"1F3FB": {"image": "1f44b-1f3fb.png"}, "1F3FF": {"image": "1f44b-1f3ff.png"}}
    names = [*(f"{code}.png" for code in kinds), "1f44b-1f3fb.png", "1f44b-1f3ff.png", "unlisted.png"]
    files = {f"package/img/twitter/64/{n}": encoded((64, 64), (k, 9, 9, 255), "RGBA") for k, n in enumerate(names)}
    files["package/img/twitter/sheets/64.png"] = encoded((640, 640), 7)
    return pack(path, files | {"package/emoji.json": json.dumps(about).encode()})


@pytest.mark.parametrize("channels", [None, 3, 1])
def test_a_copy_in_a_data_root(root, channels):
    pack(root / "emoji.tar.xz", FEW | {"emoji/LICENCE.txt": b"CC-BY 4.0"})
    images = load("emoji", channels=channels, download=False)
    assert images.source == "Emoji · 6 drawings · your copy (emoji.tar.xz)" and images.classes == ("a", "b")
    assert images.pixels.shape == (6, channels or 4, 64, 64) and not images.skipped
    if channels is None:
        assert images.pixels[1, :, 5, 5].tolist() == [9, 0, 200, 128]
    assert load("emoji", image_size=96, channels=channels, download=False).pixels.shape == (6, channels or 4, 96, 96)


@pytest.mark.parametrize("below", ["", "emoji"])
def test_the_npm_package_laid_down_by_hand(root, below):
    npm_package(root / below / emoji.PACKAGE)
    images = load("emoji", download=False)
    assert images.classes == emoji.KINDS and images.pixels.shape == (5, 4, 64, 64) and not images.skipped
    assert sorted(images.classes[k] for k in images.labels) == ["animals-nature", "flags", *["people-body"] * 3]
    red = {images.classes[k]: set(images.pixels[images.labels == k][:, 0, 0, 0].tolist()) for k in images.labels}
    assert red == {"animals-nature": {0}, "people-body": {1, 4, 5}, "flags": {3}}


def test_the_npm_package_is_downloaded(tmp_path, monkeypatch):
    path = npm_package(tmp_path / "web" / emoji.PACKAGE)
    with serve(path.parent) as (url, asked):
        file = (path.name, url + path.name, hashlib.md5(path.read_bytes()).hexdigest())
        monkeypatch.setitem(sets.SETS, "emoji", replace(sets.SETS["emoji"], files=lambda split: [file]))
        assert load("emoji").source == "Emoji · 5 drawings · downloaded"
        assert load("emoji", image_size=16).pixels.shape == (5, 4, 16, 16) and len(asked) == 1


def test_small_ones_come_along(capsys):
    images = load("emoji", image_size=32, download=False)
    assert images.source == "Emoji · 3,781 drawings · offline copy (32×32, comes with ganlib)"
    assert images.pixels.shape == (3781, 4, 32, 32) and images.classes == emoji.KINDS and len(emoji.KINDS) == 9
    assert images.labels.bincount().tolist() == [85, 159, 270, 131, 264, 2261, 169, 224, 218]
    clear = images.pixels[:, 3] == 0
    assert 0.2 < clear.float().mean() < 0.6 and not images.pixels[:, :3].transpose(0, 1)[:, clear].any()
    licence = (emoji.SHIPPED.parent / "LICENCE.txt").read_text()
    assert "CC-BY 4.0" in licence and "Twitter, Inc and other contributors" in licence
    assert emoji.SHIPPED.stat().st_size <= 3_000_000 and capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="'emoji' has no split 'test'"):
        load("emoji", split="test")


def test_they_stand_in_for_photographs(capsys):
    """In ten classes, so that what is written for CIFAR-10's runs with them, too."""
    train, test = (load("cifar10", split=split, download=False) for split in ("train", "test"))
    assert train.source == "CIFAR-10 · 3,241 emoji drawings, NOT CIFAR-10 · offline stand-in (32×32, comes with ganlib)"
    assert "no score on them means anything" in capsys.readouterr().out
    assert len(train) + len(test) == 3781 and len(train.classes) == 10 and train.classes == test.classes
    assert train.pixels.shape[1:] == (3, 32, 32) and train.labels.bincount().min() > 64
    assert (train.pixels[:, :, 0, 0] == 255).float().mean() > 0.9  # on white
    assert test.labels.bincount().min() > 9 and not torch.equal(train.pixels[: len(test)], test.pixels)
