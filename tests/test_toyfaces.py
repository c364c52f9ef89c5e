"""Drawn faces: the same for the same seed to the last bit, and their attributes are to be seen."""

import hashlib

import numpy as np
import pytest
import torch

from ganlib.data import toyfaces
from ganlib.data.loading import load
from ganlib.data.toyfaces import ATTRIBUTES, face_chunks


def draw_faces(n, size, seed=0):
    return next(face_chunks(n, size, seed, max(n, 1)))


def named(attributes):
    return dict(zip(ATTRIBUTES, attributes.T, strict=True))


def test_faces_are_what_they_were_to_the_last_bit():
    """A change to a face needs a new VERSION, which prepared ones are kept under, and the new hash here."""
    assert toyfaces.VERSION == 1
    pixels, attributes = draw_faces(64, 32, seed=3)
    assert pixels.shape == (64, 3, 32, 32) and pixels.dtype == np.uint8
    assert attributes.shape == (64, len(ATTRIBUTES)) and attributes.dtype == np.float32
    assert hashlib.sha256(pixels.tobytes() + attributes.tobytes()).hexdigest()[:16] == "439688a0ce4f7185"


def test_it_does_not_matter_how_many_are_drawn_at_once():
    pixels, known = draw_faces(70, 16)
    assert np.array_equal(pixels[:3], draw_faces(3, 16)[0])
    chunks = list(toyfaces.face_chunks(70, 16, 0, 40, start=10))
    assert [len(x) for x, _ in chunks] == [40, 20]
    assert np.array_equal(np.concatenate([x for x, _ in chunks]), pixels[10:])
    assert np.array_equal(np.concatenate([y for _, y in chunks]), known[10:])


def test_a_larger_picture_is_of_the_same_face():
    small, large = draw_faces(4, 32)[0], draw_faces(4, 128)[0]
    assert np.abs(small - large.reshape(4, 3, 32, 4, 32, 4).mean((3, 5))).mean() < 3


def test_attributes_are_what_they_are_called():
    known = named(draw_faces(400, 16, seed=1)[1])
    for name, share in toyfaces.SWITCHES.items():
        assert set(np.unique(known[name])) == {0, 1} and abs(known[name].mean() - share) < 0.08
    for group in (toyfaces.HAIR_COLOURS, toyfaces.HAIR_STYLES):
        assert (sum(known[name] for name in group) == 1).all()
    for name, low in (("skin", 0), ("background", 0), ("tilt", -1), ("turn", -1)):
        assert low <= known[name].min() < low + 0.05 and 0.95 < known[name].max() <= 1
    # None goes with another: the largest correlation of so many pairs is that of chance.
    columns = np.corrcoef([known[name] for name in (*toyfaces.SWITCHES, "skin", "background", "tilt", "turn")])
    assert np.abs(columns - np.eye(len(columns))).max() < 4 / 400**0.5


def test_the_ground_and_the_skin_have_their_colours():
    pixels, attributes = draw_faces(300, 32)
    known = named(attributes)
    assert np.corrcoef(pixels[:, :, 19, 15:18].mean((1, 2)), known["skin"])[0, 1] < -0.6  # at the nose
    red = np.abs((known["background"] + 0.5) % 1 - 0.5) < 0.1
    assert (pixels[red, 0, 1, 1] > pixels[red, 2, 1, 1]).all()


@pytest.mark.parametrize(
    ("name", "rows"),
    [("smile", (32, 56)), ("glasses", (18, 46)), ("hat", (0, 36)), ("beard", (24, 64)), ("fringe", (0, 52))],
)
def test_a_switch_changes_what_it_is_called_and_nothing_else(monkeypatch, name, rows):
    pixels = []
    for share in (0.0, 1.0):
        monkeypatch.setitem(toyfaces.SWITCHES, name, share)
        some, attributes = draw_faces(60, 64)
        pixels.append(some.astype(int))
        assert (named(attributes)[name] == share).all()
    changed = np.abs(pixels[1] - pixels[0]).max(1) > 24
    assert not changed[:, : rows[0]].any() and not changed[:, rows[1] :].any()
    # A hat hides a fringe, and a bald head has none; blond hair on light skin differs by less than that.
    hidden = (named(attributes)["hat"] + named(attributes)["bald"] > 0) & (name == "fringe")
    share = changed.mean((1, 2))[~hidden]
    assert np.quantile(share, 0.1) > 0.004 and np.median(share) > 0.008, np.sort(share)


@pytest.mark.parametrize(("n", "size"), [(0, 64), (5, 15)])
def test_faces_too_few_or_too_small(n, size):
    with pytest.raises(ValueError, match=f"{n} faces of {size}×{size}; use n ≥ 1 and image_size ≥ 16"):
        draw_faces(n, size)


def test_faces_by_name(root):
    pixels, attributes = draw_faces(30, 32, seed=4)
    for _ in range(2):  # drawn, then kept
        images = load("toyfaces", n=30, image_size=32, seed=2)
        assert np.array_equal(images.pixels, pixels) and np.array_equal(images.attributes, attributes)
    assert images.source == "toyfaces · 30 generated faces · seed 2" and images.attribute_names == ATTRIBUTES
    test = load("toy-faces", n=30, image_size=32, seed=2, split="test", channels=1)
    assert test.channels == 1 and not torch.equal(test.attributes, images.attributes)
