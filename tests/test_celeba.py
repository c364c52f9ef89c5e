import io
import os
import re
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from test_downloads import QUOTA, drive, md5

from ganlib.data import celeba, toyfaces
from ganlib.data import download as downloads
from ganlib.data import loading as data
from ganlib.data.loading import load
from helpers import ROOT

SHARED = ROOT / os.environ.get("GANLIB_DATA", "no such folder")
N = 12
NAMES = [f"{k + 1:06d}.jpg" for k in range(N)]
ATTRIBUTES = ("5_o_Clock_Shadow", "Smiling", "Young")
PARTS = [0] * 7 + [1] * 2 + [2] * 3


@pytest.fixture(autouse=True)
def nothing_but(root):
    """Whatever this machine has is not seen."""


def face(k, size=(178, 218)):
    """A picture of one grey level, with a band of white above and below the square that is to be left."""
    image = Image.new("RGB", size, "white")
    edge = (size[1] - size[0]) // 2
    image.paste((10 * k,) * 3, (0, edge, size[0], edge + size[0]))
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=95)
    return buffer.getvalue()


def value(k, a):
    return 1 if (k + a) % 3 == 0 else -1


def attributes():
    """The list as published: the number of pictures, the names, padded numbers."""
    rows = (f"{name} " + " ".join(f"{value(k, a):2d}" for a in range(3)) + "\n" for k, name in enumerate(NAMES))
    return f"{N}\n{' '.join(ATTRIBUTES)} \n" + "".join(rows)


def partition():
    return "".join(f"{name} {part}\n" for name, part in zip(NAMES, PARTS, strict=True))


def put(folder, size=(178, 218), texts=True):
    """CelebA in ``folder`` as torchvision has it."""
    place = folder / "img_align_celeba"
    place.mkdir(parents=True)
    for k, name in enumerate(NAMES):
        (place / name).write_bytes(face(k, size))
    if texts:
        (folder / "list_attr_celeba.txt").write_text(attributes())
        (folder / "list_eval_partition.txt").write_text(partition())
    return place


def levels(images):
    """Which pictures they are, by their grey."""
    return [round(float(x) / 10) for x in images.pixels[:, 0, 30, 30]]


def test_torchvisions_layout(root):
    put(root / "celeba")
    images = load("celeba")
    assert images.source == "CelebA · 7 faces · your copy (celeba/img_align_celeba)"
    assert images.pixels.shape == (7, 3, 64, 64) and levels(images) == list(range(7)) and images.labels is None
    assert images.attribute_names == ATTRIBUTES and images.attributes.dtype == torch.float32
    assert images.attribute("Smiling").tolist() == [(value(k, 1) + 1) / 2 for k in range(7)]
    assert levels(load("celeba", split="val")) == [7, 8]
    test = load("celeba", split="test")
    assert levels(test) == [9, 10, 11] and test.source.startswith("CelebA · 3 test faces")
    assert test.attribute("Young").tolist() == [(value(k, 2) + 1) / 2 for k in (9, 10, 11)]
    few = images.take(3, seed=1)
    assert few.attribute("Young").tolist() == [(value(k, 2) + 1) / 2 for k in levels(few)]
    with pytest.raises(ValueError, match="'celeba' has no split 'valid'; it has: train, val, test"):
        load("celeba", split="valid")
    with pytest.raises(ValueError, match="classes= goes with lsun and imagenet; of 'celeba', load all"):
        load("celeba", classes=["Smiling"])


@pytest.mark.parametrize("image_size", [64, 128])
def test_the_crop_is_the_central_square_of_the_whole_width(root, image_size):
    put(root / "celeba")
    images = load("celeba", image_size=image_size)
    assert images.pixels.shape == (7, 3, image_size, image_size)
    spread = (images.pixels.amax((1, 2, 3)) - images.pixels.amin((1, 2, 3))).tolist()
    assert max(spread) < 40  # no white band is left, and what JPEG makes of its edge is faint


@pytest.mark.parametrize(
    "where", ["celeba/img_align_celeba.zip", "img_align_celeba.zip", "celeba.tar.xz", "CelebA.zip"]
)
def test_archives_as_they_are(root, tmp_path, where):
    place = put(tmp_path / "made", texts=False)
    (root / where).parent.mkdir(exist_ok=True)
    if where.endswith(".zip"):
        with zipfile.ZipFile(root / where, "w") as archive:
            for name in NAMES:
                archive.write(place / name, f"img_align_celeba/{name}")
    else:
        with tarfile.open(root / where, "w:xz") as archive:
            archive.add(place, "celebA")
    images = load("celeba", download=False)
    assert images.source == f"CelebA · 12 faces · your copy ({where})" and levels(images) == list(range(N))
    assert images.attributes is None and images.attribute_names == ()
    (root / where).with_name("list_attr_celeba.txt").write_text(attributes())  # comes later
    (root / where).with_name("list_eval_partition.txt").write_text(partition())
    assert levels(load("celeba", split="val")) == [7, 8] and load("celeba").attribute_names == ATTRIBUTES


def test_kaggles_lists(root):
    put(root / "celeba", texts=False)
    rows = attributes().splitlines()[2:]
    text = "\n".join(["image_id," + ",".join(ATTRIBUTES), *(",".join(row.split()) for row in rows)])
    (root / "celeba" / "list_attr_celeba.csv").write_text(text + "\n")
    (root / "celeba" / "list_eval_partition.csv").write_text("image_id,partition\n" + partition().replace(" ", ","))
    images = load("celeba", split="test")
    assert images.attribute_names == ATTRIBUTES and levels(images) == [9, 10, 11]
    assert images.attribute("Smiling").tolist() == [(value(k, 1) + 1) / 2 for k in (9, 10, 11)]


def test_without_the_partition_nothing_is_for_testing(root, capsys):
    put(root / "celeba", texts=False)
    assert "NOT CelebA" in load("celeba", split="test", download=False).source
    assert "img_align_celeba' has no split 'test'; it has: train. Looking further." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda text: QUOTA, "list_attr_celeba.txt' is a web page, not the list; get it again in a browser. To get"),
        (lambda text: text[:-6], r"Line 14 of '.*list_attr_celeba.txt' is not a picture and 3 numbers"),
        (lambda text: text.replace("000003.jpg ", "000003.jpg x"), "Line 5 of .* is not a picture and 3 numbers"),
        (lambda text: text.replace("000003", "000033"), "'000003.jpg' in '.*' is not listed in '.*list_attr_"),
    ],
)
def test_a_damaged_list_is_named(root, capsys, damage, sentence):
    put(root / "celeba")
    (root / "celeba" / "list_attr_celeba.txt").write_text(damage(attributes()))
    assert "NOT CelebA" in load("celeba", download=False).source
    assert re.search(sentence, said := capsys.readouterr().out), said


def test_half_sized_faces_are_not_blown_up(root, capsys):
    put(root / "celeba", size=(89, 109), texts=False)
    assert load("celeba").pixels.shape == (12, 3, 64, 64)
    images = load("celeba", image_size=128, download=False)
    assert "is 89×109 pixels, smaller than image_size=128" in capsys.readouterr().out
    assert "NOT CelebA" in images.source and images.pixels.shape == (200, 3, 128, 128)


def test_the_stand_in_says_loudly_what_it_is(capsys):
    images = load("celeba", download=False)
    assert images.source == "CelebA · 200 generated faces, NOT CelebA · offline stand-in (toyfaces)"
    said = capsys.readouterr().out
    assert "What you get are drawn faces (toyfaces), NOT CelebA" in said and celeba.BY_HAND in said
    assert images.attribute_names == toyfaces.ATTRIBUTES
    pixels, attributes = toyfaces.draw_faces(200, 64, seed=0)
    assert np.array_equal(images.pixels, pixels) and np.array_equal(images.attributes, attributes)
    assert not torch.equal(load("celeba", download=False, split="test").pixels, images.pixels)


# --- The download --------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, monkeypatch):
    """{id: content} of the three files, with checksums of their own."""
    place = put(tmp_path / "made")
    shutil.make_archive(place, "zip", place.parent, "img_align_celeba")
    contents = {name: (place.parent / name).read_bytes() for name in celeba.DRIVE_FILES}
    sums = {name: (f"id-{name}", md5(content)) for name, content in contents.items()}
    monkeypatch.setattr(celeba, "DRIVE_FILES", sums)
    return {f"id-{name}": content for name, content in contents.items()}


def test_the_download(files, monkeypatch, tmp_path, capsys):
    with drive(files, large=("id-img_align_celeba.zip",)) as (url, asked):
        monkeypatch.setattr(downloads, "DRIVE", url)
        images = load("celeba")
        assert images.source == "CelebA · 7 faces · downloaded" and levels(images) == list(range(7))
        assert images.attribute_names == ATTRIBUTES
        assert "CelebA is for non-commercial research only" in capsys.readouterr().out
        count = len(asked)
        assert load("celeba", split="test").source == "CelebA · 3 test faces · downloaded" and len(asked) == count
    assert (tmp_path / "cache" / "downloads" / "celeba" / "img_align_celeba.zip").is_file()


def test_the_quota_page_is_refused_with_the_way_by_hand(files, monkeypatch, tmp_path, capsys):
    files["id-img_align_celeba.zip"] = QUOTA
    with drive(files) as (url, asked):
        monkeypatch.setattr(downloads, "DRIVE", url)
        assert "NOT CelebA" in load("celeba").source
        said = capsys.readouterr().out
        assert "'img_align_celeba.zip' could not be downloaded: Google Drive sent a page, 'Google Drive - Quota" in said
        assert f"{celeba.BY_HAND} Going on with the offline stand-in." in said
        assert not list((tmp_path / "cache" / "downloads").rglob("*.zip"))
        load("celeba", image_size=32)
        assert len(asked) == 1  # refused once, not asked again
        files["id-img_align_celeba.zip"] = (tmp_path / "made" / "img_align_celeba.zip").read_bytes()
        data._refused.clear()  # another day
        assert load("celeba").source == "CelebA · 7 faces · downloaded"


def test_a_quota_page_that_was_saved_as_the_zip(root, capsys):
    (root / "celeba").mkdir()
    (root / "celeba" / "img_align_celeba.zip").write_text(QUOTA)
    assert "NOT CelebA" in load("celeba", download=False).source
    assert "img_align_celeba.zip' is a web page, not an archive" in capsys.readouterr().out


# --- The real ones -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "celeba.tar.xz").is_file(), reason="needs celeba.tar.xz in GANLIB_DATA")
def test_real_faces():
    images = load("celeba", root=SHARED, download=False)
    assert images.source == "CelebA · 10,000 faces · your copy (celeba.tar.xz)"
    assert images.pixels.shape == (10_000, 3, 64, 64) and images.labels is None and not images.skipped
    mean = images.pixels.float().mean(0)
    # The average celebrity: skin in the middle is redder than blue, and lighter than the eyes above it.
    assert mean[0, 40, 32] > mean[2, 40, 32] + 20 and mean[:, 40, 32].mean() > mean[:, 29, 22].mean()
    # Aligned: its two halves mirror each other.
    assert (mean - mean.flip(-1)).abs().mean() < 6
