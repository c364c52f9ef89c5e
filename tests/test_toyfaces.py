import numpy as np
import pytest
import torch

from ganlib.data import portrait, toyfaces
from ganlib.data.loading import load
from ganlib.data.toyfaces import ATTRIBUTES, draw_faces

SEVERAL = 400


@pytest.fixture(scope="module")
def faces():
    pixels, attributes = draw_faces(SEVERAL, 32, seed=1)
    return pixels, dict(zip(ATTRIBUTES, attributes.T, strict=True))


def test_the_same_seed_gives_the_same_faces_to_the_last_bit():
    pixels, attributes = draw_faces(5, 64, seed=3)
    assert pixels.shape == (5, 3, 64, 64) and pixels.dtype == np.uint8
    assert attributes.shape == (5, len(ATTRIBUTES)) and attributes.dtype == np.float32
    again, known = draw_faces(5, 64, seed=3)
    assert np.array_equal(pixels, again) and np.array_equal(attributes, known)
    assert not np.array_equal(pixels, draw_faces(5, 64, seed=4)[0])


def test_it_does_not_matter_how_many_are_drawn_at_once():
    whole, known = draw_faces(70, 16)
    assert np.array_equal(whole[:3], draw_faces(3, 16)[0])
    chunks = list(toyfaces.face_chunks(70, 16, 0, 40, start=40))
    assert np.array_equal(np.concatenate([x for x, _ in chunks]), whole[40:])
    assert np.array_equal(np.concatenate([y for _, y in chunks]), known[40:])


def test_a_larger_picture_is_of_the_same_face():
    small, large = draw_faces(4, 32)[0], draw_faces(4, 128)[0]
    shrunk = large.reshape(4, 3, 32, 4, 32, 4).mean((3, 5))
    assert np.abs(small - shrunk).mean() < 3


def test_attributes_are_what_they_are_called(faces):
    _, known = faces
    for name, share in toyfaces.SWITCHES.items():
        assert set(np.unique(known[name])) == {0, 1} and abs(known[name].mean() - share) < 0.08
    for group in (portrait.HAIR_COLOURS, portrait.HAIR_STYLES):
        assert (sum(known[name] for name in group) == 1).all()
    assert all(0 <= known[name].min() < 0.05 and 0.95 < known[name].max() <= 1 for name in ("skin", "background"))
    assert all(-1 <= known[name].min() < -0.95 and 0.95 < known[name].max() <= 1 for name in ("tilt", "turn"))
    # None goes with another: the largest correlation of so many pairs is that of chance.
    columns = np.corrcoef([known[name] for name in (*toyfaces.SWITCHES, "skin", "background", "tilt", "turn")])
    assert np.abs(columns - np.eye(len(columns))).max() < 4 / SEVERAL**0.5


def test_attributes_can_be_read_off_the_pixels(faces):
    """A linear reader, fitted on three quarters of the faces, finds most of them in the others."""
    pixels, known = faces
    x = np.column_stack([pixels.reshape(SEVERAL, -1) / 255, np.ones(SEVERAL)])
    train, test = slice(0, 300), slice(300, None)
    kernel = x @ x[train].T
    weights = np.linalg.solve(kernel[train] + 10 * np.eye(300), np.array([known[a][train] for a in ATTRIBUTES]).T)
    found = {}
    for name, guess in zip(ATTRIBUTES, (kernel[test] @ weights).T, strict=True):
        found[name] = np.corrcoef(guess, known[name][test])[0, 1]
    # The others are not linear: a circle of hues, a colour between two others, an edge that may be anywhere.
    for name in ("smile", "glasses", "beard", "bob", "long_hair", "curly_hair", "bald", "blond_hair", "grey_hair"):
        assert found[name] > 0.5, found
    for name in ("hat", "skin", "tilt", "turn"):
        assert found[name] > 0.7, found


@pytest.mark.parametrize(("name", "rows"), [("smile", (32, 56)), ("glasses", (18, 46)), ("hat", (0, 36)),
                                            ("beard", (24, 64)), ("fringe", (0, 52))])  # fmt: skip
def test_a_switch_changes_what_it_is_called_and_nothing_else(monkeypatch, name, rows):
    attributes = toyfaces._attributes

    def drawn(value):
        def switched(chance):
            known = attributes(chance)
            known[:, ATTRIBUTES.index(name)] = value
            return known

        monkeypatch.setattr(toyfaces, "_attributes", switched)
        pixels, known = draw_faces(60, 64)
        return pixels.astype(int), dict(zip(ATTRIBUTES, known.T, strict=True))

    (off, _), (on, known) = drawn(0), drawn(1)
    changed = np.abs(on - off).max(1) > 24
    assert not changed[:, : rows[0]].any() and not changed[:, rows[1] :].any()
    # A hat hides a fringe, and a bald head has none.
    seen = (known["hat"] + known["bald"] == 0) if name == "fringe" else known["hat"] >= 0
    share = changed.mean((1, 2))
    # Blond hair on light skin differs by less than that, so not every face counts.
    assert np.quantile(share[seen], 0.1) > 0.004 and np.median(share[seen]) > 0.008, np.sort(share[seen])


def test_skin_and_background_have_their_colours():
    pixels, attributes = draw_faces(300, 32)
    known = dict(zip(ATTRIBUTES, attributes.T, strict=True))
    nose = pixels[:, :, 19, 15:18].mean((1, 2))
    assert np.corrcoef(nose, known["skin"])[0, 1] < -0.6
    corner = pixels[:, :, 1, 1].astype(float)
    red = np.abs((known["background"] + 0.5) % 1 - 0.5) < 0.1
    assert (corner[red, 0] > corner[red, 2]).all()


@pytest.mark.parametrize(("n", "size"), [(0, 64), (5, 15)])
def test_faces_too_few_or_too_small(n, size):
    with pytest.raises(ValueError, match=f"Cannot draw {n} faces of {size}×{size}; use n ≥ 1 and image_size ≥ 16"):
        draw_faces(n, size)


def test_faces_by_name(root):
    images = load("toyfaces", n=30, image_size=32, seed=2)
    assert images.source == "toyfaces · 30 generated faces · seed 2" and images.name == "toyfaces"
    assert images.pixels.shape == (30, 3, 32, 32) and images.labels is None and images.classes == ()
    assert images.attribute_names == ATTRIBUTES
    pixels, attributes = draw_faces(30, 32, seed=4)
    assert np.array_equal(images.pixels, pixels) and np.array_equal(images.attributes, attributes)
    again = load("toyfaces", n=30, image_size=32, seed=2)  # kept
    assert torch.equal(again.pixels, images.pixels) and torch.equal(again.attributes, images.attributes)
    test = load("toyfaces", n=30, image_size=32, seed=2, split="test")
    assert not torch.equal(test.pixels, images.pixels) and "30 test generated faces" in test.source
    grey = load("toy-faces", n=5, image_size=32, channels=1, seed=2)
    assert grey.pixels.shape == (5, 1, 32, 32) and torch.equal(grey.attributes, images.attributes[:5])
