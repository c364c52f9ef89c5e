"""Anybody's own pictures: nothing vanishes and nothing changes in silence. One line is one small input."""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from makers import encoded, pack, put
from PIL import Image
from torch import nn

from ganlib import models, steps, train, viz
from ganlib._runtime import stage
from ganlib.data import archives, as_uint8, to_uint8
from ganlib.data.folders import left_out
from ganlib.data.loading import load
from ganlib.runs import cli
from ganlib.runs.config import Config, change
from ganlib.runs.inventory import data as tell
from helpers import ROOT

GREYS = (40, 200)  # of the pictures that most inputs are made of


@pytest.fixture(autouse=True)
def nothing_but(root):
    """Whatever this machine has is not seen."""


def levels(images):
    return images.pixels[:, 0, 5, 5].tolist()


def colour(grey, size=(16, 16)):
    return Image.new("RGB", size, (grey,) * 3)


def said(capsys):
    return " ".join(capsys.readouterr().out.split())


# --- What is a picture is seen by its content --------------------------------------------------------------------

ENDINGS = (
    "png apng jpg jpeg jpe jfif bmp dib webp gif ppm pnm tif tiff avif jp2 j2k jpx tga icb vda qoi ico dds pcx sgi"
)
EVERY = [(ending, ending) for ending in ENDINGS.split()]
EVERY += [
    (kind, name)
    for kind in ["png", "jpg", "bmp", "webp", "gif", "tif", "avif", "jp2", "qoi"]
    for name in ("dat", "PNG", "")
]


def written(kind, name):
    """Two pictures in a format, under names with some ending."""
    Image.init()
    format = {"apng": "PNG", "dib": "BMP"}.get(kind, Image.EXTENSION["." + kind])
    return {f"{g}.{name}".rstrip("."): encoded(colour(g), kind=format) for g in GREYS}


@pytest.mark.parametrize(("kind", "name"), EVERY, ids=lambda v: v or "none")
def test_every_format_under_every_name(tmp_path, kind, name):
    images = load(put(tmp_path / "x", written(kind, name)))
    assert images.skipped == () and images.pixels.shape == (2, 3, 16, 16)
    assert np.abs(np.array(sorted(levels(images))) - GREYS).max() <= 3


@pytest.mark.parametrize("packed", [".zip", ".tar.gz"])
def test_every_format_in_an_archive(tmp_path, packed):
    files = {f"{k} {name}": content for k, v in enumerate(EVERY) for name, content in written(*v).items()}
    images = load(pack(tmp_path / f"x{packed}", files))
    assert images.skipped == () and len(images) == 2 * len(EVERY)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
NO_PICTURES = [
    ("x.heic", HEIC, "pip install pillow-heif"),
    ("x.HEIF", HEIC, "pip install pillow-heif"),
    ("x.jpg", HEIC, "pip install pillow-heif"),
    ("x.dng", encoded(colour(9), kind="tiff"), "raw data: export"),
    ("x.NEF", encoded(colour(9), kind="tiff"), "raw data: export"),
    ("x.psd", b"8BPS\0\1", "export it as PNG"),
    ("x.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "export it as PNG"),
    ("x.pdf", b"%PDF-1.7", "export it as PNG"),
    ("x.eps", b"%!PS-Adobe-3.0 EPSF-3.0", "export it as PNG"),
    ("x.zip", b"PK\3\4", "an archive inside: unpack it"),
    ("x.tar.gz", b"\x1f\x8b", "an archive inside: unpack it"),
    ("x.7z", b"7z\xbc\xaf", "an archive inside: unpack it"),
    ("x.png", b"", "empty"),
    ("x.png", b"no", "damaged"),
    ("x.png", encoded()[:60], "damaged"),
    ("x.tga", b"no picture at all", "damaged"),
    ("x.jpg", b"<!DOCTYPE html><html>", "a web page"),
    ("x.txt", b"0 0.5 0.5 0.1 0.1", "no picture"),
    ("labels.csv", b"name,label\n", "no picture"),
    ("x.json", b"{}", "no picture"),
    ("x.mp4", b"\0\0\0\x20ftypisom", "no picture"),
    ("x.npy", b"\x93NUMPY", "no picture"),
    ("x.pkl", b"\x80\x04.", "no picture"),
    ("README", b"Pictures of Paris", "no picture"),  # begins like a PPM
    ("page.html", b"<html>", "no picture"),
    ("@eaDir/0.png/T.jpg", encoded(), "made by the disk's own software"),
    ("masks/0.png", encoded(), "a mask beside images"),
    ("labels/deep/0.png", encoded(), "a mask beside images"),
]


@pytest.mark.parametrize(("name", "content", "why"), NO_PICTURES, ids=[f"{n}-{w[:9]}" for n, _, w in NO_PICTURES])
@pytest.mark.parametrize("packed", ["", ".tar"])
def test_what_is_left_out_is_named(tmp_path, capsys, name, content, why, packed):
    files = {"images/0.png": encoded(colour(40)), "images/1.png": encoded(colour(200)), name: content}
    images = load(pack(tmp_path / f"y{packed}", files) if packed else put(tmp_path / "y", files))
    assert levels(images) == [40, 200] and images.labels is None
    (told,) = [line for line in images.summary if line.startswith("Left out: ")]
    assert why in told and name.split("/")[0] in told and told in said(capsys)
    quiet = why in archives.QUIET
    assert (images.skipped == ()) == quiet and ("left out" not in images.source) == quiet


def test_what_is_left_out_is_counted_by_reason():
    skipped = (
        {f"{k}.heic": "install" for k in range(20)} | {f"{k}.psd": "export" for k in range(7)} | {"a.png": "damaged"}
    )
    assert left_out(skipped) == "20 .heic (install), 7 .psd (export), a.png (damaged)"


def test_nothing_to_read_says_what_is_there(tmp_path):
    with pytest.raises(
        ValueError, match=r"no images in .*kaggle.*; there are: archive.zip \(an archive inside: unpack it\)"
    ):
        load(put(tmp_path / "kaggle", {"archive.zip": b"PK\3\4"}))


# --- Archives: all of it, or a sentence --------------------------------------------------------------------------

KINDS = {
    ".tar": bytes,
    ".tar.gz": lambda raw: gzip.compress(raw, 6, mtime=0),
    ".tar.xz": lzma.compress,
    ".tar.bz2": bz2.compress,
}
SIX = {f"{k}.bmp": encoded(Image.fromarray(np.full((8, 8), 10 * k, np.uint8)), kind="bmp") for k in range(6)}


def tarred(files=SIX):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files=SIX):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def zeroed(raw, at):
    return raw[:at] + bytes(512) + raw[at + 512 :]


AT = tarred().index(b"3.bmp")
TORN = {
    "a byte of a header": lambda raw: raw[:AT] + b"?" + raw[AT + 1 :],
    "a header of zeros": lambda raw: zeroed(raw, AT),
    "cut between members": lambda raw: raw[:AT],
    "cut in a header": lambda raw: raw[: AT + 100],
    "cut in a picture": lambda raw: raw[: AT + 600],
    "no end": lambda raw: raw.rstrip(b"\0") + bytes(512 - len(raw.rstrip(b"\0")) % 512),
    "two in one": lambda raw: raw + tarred({"more.bmp": SIX["1.bmp"]}),
    "something after the end": lambda raw: raw + b"junk",
}


@pytest.mark.parametrize("damage", TORN)
@pytest.mark.parametrize("kind", KINDS)
def test_a_torn_tar_is_refused(tmp_path, damage, kind):
    (tmp_path / f"x{kind}").write_bytes(KINDS[kind](TORN[damage](tarred())))
    with pytest.raises(ValueError, match=rf"x{kind}' cannot be read to its end \(.*\); get it again"):
        load(tmp_path / f"x{kind}")


@pytest.mark.parametrize("kind", [*KINDS, ".zip"])
@pytest.mark.parametrize("part", range(8))
def test_a_flipped_byte_is_refused_or_told(tmp_path, kind, part):
    """Packed archives have checksums; a bare tar has them in its headers only."""
    raw = bytearray(zipped() if kind == ".zip" else KINDS[kind](tarred()))
    at = part * len(raw) // 8 + 3
    if kind == ".tar" and at % 512 == 0:
        at += 5
    raw[at] ^= 0x55
    (tmp_path / f"x{kind}").write_bytes(raw)
    try:
        images = load(tmp_path / f"x{kind}", image_size=8)
    except ValueError as error:
        assert f"x{kind}'" in str(error)
        return
    assert len(images) + len(images.skipped) >= 6
    if kind != ".tar":
        assert {*levels(images)} <= {10 * k for k in range(6)}


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", [*KINDS, ".zip"])
def test_a_download_that_broke_off_is_refused(tmp_path, keep, kind):
    raw = zipped() if kind == ".zip" else KINDS[kind](tarred())
    end = len(raw) if kind != ".tar" else len(raw.rstrip(b"\0"))  # the rest is padding
    (tmp_path / f"x{kind}").write_bytes(raw[: int(keep * end)])
    with pytest.raises(ValueError, match=f"x{kind}' cannot be read to its end"):
        load(tmp_path / f"x{kind}")


@pytest.mark.parametrize("kind", [*KINDS, ".zip"])
@pytest.mark.parametrize("name", ["photos", "photos.download", "photos.zip", "photos.tar.gz"])
def test_an_archive_is_seen_by_its_content(tmp_path, kind, name):
    (tmp_path / name).write_bytes(zipped() if kind == ".zip" else KINDS[kind](tarred()))
    assert levels(load(tmp_path / name)) == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize(
    ("start", "what"),
    [(b"7z\xbc\xaf'\x1c", "7-Zip"), (b"Rar!\x1a\x07", "RAR"), (b"\x28\xb5\x2f\xfd", "Zstandard"), (b"text", "neither")],
)
def test_other_archives_are_called_what_they_are(tmp_path, start, what):
    (tmp_path / "x.bin").write_bytes(start + bytes(600))
    with pytest.raises(ValueError, match=rf"x.bin' is .*{what}"):
        load(tmp_path / "x.bin")


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [("flag_bits", 1, "needs a password: unpack it"), ("compress_type", 9, "Deflate64"), ("compress_type", 99, "AES")],
)
def test_a_zip_that_python_cannot_unpack_says_so(tmp_path, field, value, why):
    raw = bytearray(zipped())
    offset = {"flag_bits": 8, "compress_type": 10}[field]
    at = raw.index(b"PK\1\2")
    while at >= 0:
        raw[at + offset] = value
        at = raw.find(b"PK\1\2", at + 1)
    (tmp_path / "x.zip").write_bytes(raw)
    with pytest.raises(ValueError, match=rf"there are: 6 .bmp \(.*{why}"):
        load(tmp_path / "x.zip")


@pytest.mark.parametrize("kind", [".zip", ".tar.gz"])
@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["cats\\1.png", "dogs\\2.png"], ("cats", "dogs")),  # packed by Windows
        (["set\\train\\cats\\1.png", "set\\train\\dogs\\2.png"], ("cats", "dogs")),
        (["Screenshot 2024-01-01 at 12:30:00.png", "a:b.png"], ()),
        (["__MACOSX/cats/._1.png", "cats/1.png", "cats/.DS_Store", "dogs/2.png"], ("cats", "dogs")),
        (["ünï/1.png", "日本/2.png"], ("ünï", "日本")),
    ],
)
def test_names_in_archives(tmp_path, names, classes, kind):
    files = {name: encoded() if name.endswith("png") and "._" not in name else b"x" for name in names}
    images = load(pack(tmp_path / f"x{kind}", files))
    assert len(images) == 2 and images.classes == classes and images.skipped == ()


def test_a_folder_in_an_archive(tmp_path):
    path = pack(tmp_path / "x.zip", {f"set/{c}/{k}.png": encoded(colour(k)) for c in ("cats", "dogs") for k in (1, 2)})
    assert len(load(path)) == 4 and load(f"{path}/set").classes == ("cats", "dogs")
    dogs = load(path / "set" / "dogs")
    assert (
        levels(dogs) == [1, 2]
        and dogs.labels is None
        and "no images" in str(pytest.raises(ValueError, load, path / "no").value)
    )


# --- Folders -----------------------------------------------------------------------------------------------------


def test_linked_folders_are_followed_and_circles_noticed(tmp_path, capsys):
    put(tmp_path, {f"real/{k}.png": encoded(colour(k)) for k in range(3)} | {"half/a/0.png": encoded(colour(9))})
    (tmp_path / "half" / "b").symlink_to(tmp_path / "real")
    (tmp_path / "half" / "a" / "up").symlink_to(tmp_path / "half")
    (tmp_path / "half" / "a" / "gone.png").symlink_to(tmp_path / "nothing.png")
    images = load(tmp_path / "half")
    assert images.classes == ("a", "b") and images.labels.tolist() == [0, 1, 1, 1]
    told = said(capsys)
    assert "a/up (a link in a circle)" in told and "a/gone.png (cannot be read now: a link to nothing)" in told
    put(tmp_path, {"nothing.png": encoded(colour(8))})
    assert len(load(tmp_path / "half")) == 5


def test_pipes_and_devices_are_named(tmp_path):
    os.mkfifo(put(tmp_path / "x", {"a.png": encoded()}) / "p.png")
    assert load(tmp_path / "x").skipped == ("p.png",)


@pytest.mark.parametrize("test", [["a", "c"], ["c"], ["a", "b", "c"], ["c", "unknown"], ["b"]])
@pytest.mark.parametrize("packed", [False, True])
def test_the_numbers_of_classes_agree_between_splits(tmp_path, test, packed):
    files = {f"train/{c}/1.png": encoded() for c in "abc"} | {f"test/{c}/1.png": encoded() for c in test}
    path = pack(tmp_path / "x.zip", files) if packed else put(tmp_path / "x", files)
    trained, tested = load(path), load(path, split="test")
    assert trained.classes == ("a", "b", "c") == tested.classes[:3]
    assert [tested.classes[k] for k in tested.labels] == test and trained.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("names", [["test/1.png", "test/2.png"], ["test/x/deep/a/1.png", "test/x/deep/b/2.png"]])
def test_a_split_that_is_laid_out_otherwise(tmp_path, names):
    path = put(tmp_path / "x", dict.fromkeys(["train/a/1.png", "train/b/2.png", *names, "extra/9.png"], encoded()))
    assert len(load(path, split="test")) == 2 and load(path).classes == ("a", "b")
    assert any("extra/9.png (outside of the splits)" in line for line in load(path).summary)


def test_a_stray_picture_that_takes_the_labels_is_named(tmp_path, capsys):
    assert load(put(tmp_path / "x", dict.fromkeys(["a/1.png", "b/2.png", "stray.png"], encoded()))).labels is None
    assert "No labels, as 1 pictures, such as 'stray.png', are in no class's folder" in said(capsys)


@pytest.mark.parametrize(
    "run", [{"config.json": "{}", "history.jsonl": ""}, {"config.json": "{}", "checkpoints/x": ""}]
)
def test_a_runs_folder_is_no_part_of_a_dataset(tmp_path, run):
    path = put(tmp_path / "x", {"0.png": encoded(), "runs/x/samples.png": encoded()})
    before = len(load(path)), put(path / "runs" / "x", {"config.json": "{}"} | run)
    after = load(path)
    assert (before[0], len(after)) == (2, 1) and after.skipped == () and "left out" not in after.source
    assert len(load(path / "runs" / "x")) == 1  # asked for by name


@pytest.mark.parametrize(
    ("save", "kind"), [({"save_all": True}, "gif"), ({"save_all": True}, "tiff"), ({"save_all": True}, "png"),
                       ({"save_all": True}, "webp")],
)  # fmt: skip
def test_frames_and_pages_are_named(tmp_path, capsys, save, kind):
    film = encoded(colour(40), kind=kind, append_images=[colour(200)], **save)
    assert np.abs(levels(load(put(tmp_path / "x", {f"film.{kind}": film})))[0] - 40) <= 3
    assert f"1 with several pages or frames, such as 'film.{kind}': the first of each" in said(capsys)


def test_several_folders(tmp_path):
    put(tmp_path, {f"{name}/{k}.png": encoded(colour(k)) for k, name in enumerate(["2023", "2024", "old/2024"])})
    images = load([tmp_path / "2023", str(tmp_path / "2024"), tmp_path / "old" / "2024"])
    assert levels(images) == [0, 1, 2] and len(images.classes) == 3
    put(
        tmp_path, {"2023/b/9.png": encoded(), "2023/a/9.png": encoded(), "2024/b/8.png": encoded(), "2024/c/8.png": b""}
    )
    for name in ("2023/0.png", "2024/1.png"):
        (tmp_path / name).unlink()
    put(tmp_path, {"2024/c/7.png": encoded(), "2024/c/8.png": b""})
    images = load([tmp_path / "2023", tmp_path / "2024"])
    assert images.classes == ("a", "b", "c") and images.labels.tolist() == [0, 1, 1, 2] and len(images.skipped) == 1


# --- Passing failures and the cache ------------------------------------------------------------------------------


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path):
    path = put(tmp_path / "x", {f"{k}.bmp": encoded(colour(k), kind="bmp") for k in range(3)})
    load(path)
    before = (path / "1.bmp").stat()
    put(path, {"1.bmp": encoded(colour(200), kind="bmp")})
    os.utime(path / "1.bmp", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert levels(load(path)) == [0, 200, 2]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (PermissionError(13, "Permission denied"), "cannot be read now: Permission denied"),
        (OSError(5, "Input/output error"), "cannot be read now: Input/output error"),
        (OSError(24, "Too many open files"), "cannot be read now: Too many open files"),
        (OSError(116, "Stale file handle"), "cannot be read now: Stale file handle"),
        (FileNotFoundError(2, "No such file or directory"), "cannot be read now: No such file or directory"),
        (MemoryError(), "cannot be read now: not enough memory"),
    ],
    ids=lambda v: type(v).__name__,
)
@pytest.mark.parametrize("late", [False, True])
def test_a_passing_failure_is_told_and_tried_again(tmp_path, monkeypatch, capsys, error, why, late):
    path, real, seen = put(tmp_path / "x", {f"{k}.png": encoded(colour(k)) for k in range(3)}), Image.open, []

    def failing(file, **how):
        seen.append(file.name)
        if file.name.endswith("1.png") and len(seen) > 3 * late:
            raise error
        return real(file, **how)

    with monkeypatch.context() as m:
        m.setattr(Image, "open", failing)
        for _ in range(2):
            seen.clear()
            images = load(path)
            assert levels(images) == [0, 2] and images.skipped == ("1.png",) and f"1.png ({why})" in said(capsys)
    assert levels(load(path)) == [0, 1, 2]
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("read again"))
    assert levels(load(path)) == [0, 1, 2]


@pytest.mark.skipif(os.name != "posix", reason="rights as in Linux")
@pytest.mark.parametrize("what", ["1.png", "cats", "x.zip"])
def test_without_the_right_to_read(tmp_path, what):
    path = put(tmp_path / "x", {"1.png": encoded(), "2.png": encoded(), "cats/3.png": encoded(), "x.zip": zipped()})
    (path / what).chmod(0)
    program = f"from ganlib.data import load\ntry: print(load({str(path / what if what == 'x.zip' else path)!r}))\n"
    program += "except ValueError as error: print(error)"
    command = [sys.executable, "-c", program]
    if os.getuid() == 0:
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "cannot be read now: Permission denied" in ran.stdout and "damaged" not in ran.stdout, ran.stderr


# --- Sizes, and what is cut --------------------------------------------------------------------------------------


def test_one_thumbnail_does_not_decide_the_size(tmp_path, capsys):
    files = {f"{k}.png": encoded(colour(k, (64, 64))) for k in range(9)} | {"thumb.png": encoded(colour(9, (10, 10)))}
    assert load(put(tmp_path / "x", files)).pixels.shape == (10, 3, 64, 64)
    assert "1 smaller than 64 are enlarged, such as 'thumb.png' of 10×10" in said(capsys)
    fewer = load(tmp_path / "x", small="skip")
    assert len(fewer) == 9 and "thumb.png (smaller than image_size)" in said(capsys) and fewer.skipped == ()


WIDE = np.full((20, 40, 3), 60, np.uint8)
WIDE[:, :10] = WIDE[:, 30:] = 240  # what a crop cuts off


@pytest.mark.parametrize(
    ("how", "corner", "middle", "told"),
    [
        ({}, 60, 60, "50% of their area is cropped away"),
        ({"fit": "crop"}, 60, 60, "50% of their area is cropped away"),
        ({"fit": "pad"}, 255, 60, "padded"),
        ({"fit": "pad", "background": "black"}, 0, 60, "padded"),
        ({"fit": "pad", "background": "#102030"}, 16, 60, "padded"),
        ({"fit": "squash"}, 240, 60, "squashed"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "array"])
def test_ways_to_make_a_square(tmp_path, capsys, how, corner, middle, told, kind):
    path = put(tmp_path / "x", {"wide.png": encoded(Image.fromarray(WIDE))}) if kind == "folder" else WIDE[None]
    images = load(path, image_size=20, **how)
    assert images.pixels.shape == (1, 3, 20, 20) and told in said(capsys)
    assert (int(images.pixels[0, 0, 1, 1]), int(images.pixels[0, 0, 10, 10])) == (corner, middle)


SPRITE = np.zeros((16, 16, 4), np.uint8)
SPRITE[4:12, 4:12] = (200, 100, 50, 255)


@pytest.mark.parametrize(
    ("how", "corner"),
    [({}, [255, 255, 255]), ({"background": "black"}, [0, 0, 0]), ({"channels": 4}, [0, 0, 0, 0])],
)
@pytest.mark.parametrize("kind", ["folder", "array"])
def test_transparency_becomes_a_colour_or_is_kept(tmp_path, how, corner, kind):
    path = put(tmp_path / "x", {"a.png": encoded(Image.fromarray(SPRITE))}) if kind == "folder" else SPRITE[None]
    images = load(path, **how)
    assert images.pixels[0, :, 1, 1].tolist() == corner and images.pixels[0, :3, 8, 8].tolist() == [200, 100, 50]


def test_transparency_is_learned_and_written(tmp_path):
    files = {f"{k}.png": encoded(Image.fromarray(SPRITE)) for k in range(8)}
    how = ["--steps=2", "--batch-size=4", "--z-dim=4", "--g-width=2", "--d-width=2", "--snapshot-every=1"]
    words = [
        "train",
        *how,
        "--channels=4",
        "--dataset",
        str(put(tmp_path / "x", files)),
        "--out",
        str(tmp_path / "run"),
    ]
    assert cli.main(words) == 0
    with Image.open(tmp_path / "run" / "samples.png") as image:
        assert image.mode == "RGBA" and image.getpixel((10, 10))[3] < 255


# --- Numbers become grey by a rule that is told ------------------------------------------------------------------

# name -> dtype, (lowest, middle, highest) and what they become; the middle tells the rule
SCALES = {
    "floats to 1": ("float32", (0, 0.5, 1), 128),
    "floats within 0 to 1": ("float32", (0.2, 0.5, 0.6), 128),
    "floats around 0": ("float32", (-1, 0, 1), 128),
    "floats within -1 to 1": ("float32", (-0.5, 0, 0.2), 128),
    "floats to 255": ("float32", (0, 100, 255), 100),
    "floats within 255": ("float32", (3, 100, 200), 100),
    "standardised floats": ("float32", (-2.1, 0, 2.7), 112),
    "Hounsfield units": ("float32", (-1024, 0, 3071), 64),
    "metres": ("float32", (0, 5, 10), 128),
    "12 bits": ("uint16", (0, 2048, 4095), 128),
    "12 bits, from 500": ("uint16", (500, 2000, 3500), 128),
    "10 bits": ("uint16", (0, 512, 1023), 128),
    "16 bits": ("uint16", (0, 25700, 65535), 100),
    "16 bits, to 40000": ("uint16", (100, 25700, 40000), 100),
    "32 bits": ("int32", (0, 10**5, 2 * 10**5), 128),
    "signed": ("int32", (-1000, 500, 2000), 128),
}


def numbers(dtype, values):
    """Three pictures [3, 16, 16] of one number each."""
    return np.stack([np.full((16, 16), v, dtype) for v in values])


def tiffs(folder, pictures):
    for k, picture in enumerate(pictures):
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / f"{k}.tif")
    return folder


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", ["tiff", "array", "tensor", "npy"])
def test_the_scale_of_numbers(tmp_path, capsys, scale, kind):
    dtype, values, middle = SCALES[scale]
    pictures = numbers(dtype, values)
    if kind == "tiff":
        thing = tiffs(tmp_path / "x", pictures)
    elif kind == "npy":
        thing = tmp_path / "x.npy"
        np.save(thing, pictures)
    else:
        thing = (
            torch.from_numpy(pictures.astype(np.int32) if dtype == "uint16" else pictures)
            if kind == "tensor"
            else pictures
        )
        if kind == "tensor" and dtype == "uint16":
            thing = thing.to(torch.uint16)
    images = load(thing)
    assert abs(levels(images)[1] - middle) <= 1 and images.pixels.shape == (3, 1, 16, 16)
    assert levels(images)[0] < levels(images)[1] < levels(images)[2]
    assert " becomes black and " in said(capsys)


@pytest.mark.parametrize("given", ["0,1000", (0, 1000), [0.0, 1e3]])
@pytest.mark.parametrize("dtype", ["float32", "uint16", "int32"])
def test_a_range_that_is_given(tmp_path, capsys, given, dtype):
    path = tiffs(tmp_path / "x", numbers(dtype, (0, 200, 2000)))
    assert levels(load(path, range=given)) == [0, 51, 255] == levels(load(numbers(dtype, (0, 200, 2000)), range=given))
    assert "as asked" in said(capsys)


def test_a_narrow_set_is_told_and_can_be_stretched(tmp_path, capsys):
    path = put(tmp_path / "x", {f"{k}.png": encoded(colour(100 + 5 * k)) for k in range(3)})
    load(path)
    assert "Pixels: 100 to 110, less than a tenth of 0 to 255; range=low,high" in said(capsys)
    assert levels(load(path, range="100,110")) == [0, 128, 255]


def test_numbers_of_32_bits_without_a_sign(tmp_path):
    """PIL reads them as signed ones, and cannot write them: made here, tag by tag."""
    pixels = np.linspace(0, 4e9, 256).astype("<u4").tobytes()
    tags = {256: 16, 257: 16, 258: 32, 259: 1, 262: 1, 273: 8, 277: 1, 278: 16, 279: len(pixels), 339: 1}
    directory = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, v) for tag, v in tags.items())
    raw = b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + directory + bytes(4)
    images = load(put(tmp_path / "x", {"a.tif": raw}))
    assert images.pixels.flatten()[[0, 51, 255]].tolist() == [0, 51, 255]


def test_white_is_zero_and_nan(tmp_path, capsys):
    for k, dtype in enumerate((np.uint8, np.uint16, np.float32)):
        ramp = np.tile(np.linspace(0, 1, 16), (16, 1))
        picture = Image.fromarray((ramp * {0: 255, 1: 4095, 2: 1}[k]).astype(dtype))
        plain, other = tmp_path / f"{k}", tmp_path / f"{k} negative"
        plain.mkdir()
        other.mkdir()
        picture.save(plain / "a.tif")
        picture.save(other / "a.tif", tiffinfo={262: 0})
        ours, theirs = load(plain).pixels[0, 0, 5].int(), load(other).pixels[0, 0, 5].int()
        assert ((ours - (255 - theirs)).abs() <= 1).all() or (k == 0 and torch.equal(ours, theirs)), dtype
    holes = numbers("float32", (0, 0.5, 1))
    holes[1, :8], holes[2, :8] = np.nan, np.inf
    images = load(tiffs(tmp_path / "holes", holes))
    assert images.pixels[:, 0, 2, 2].tolist() == [0, 0, 255] and images.pixels[:, 0, 12, 2].tolist() == [0, 128, 255]
    assert "NaN or infinite numbers in 2 become black or white" in said(capsys)


# --- Arrays in every layout --------------------------------------------------------------------------------------

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 4), np.uint8)
PIXELS[0, 0, 0], PIXELS[0, 0, 1] = 0, 255
LAYOUTS = {"NHWC": (0, 1, 2, 3), "NCHW": (0, 3, 1, 2), "HWCN": (1, 2, 3, 0), "CHWN": (3, 1, 2, 0)}
DTYPES = {
    "uint8": lambda x: x,
    "int64": lambda x: x.astype(np.int64),
    "float32 to 255": lambda x: x.astype(np.float32),
    "float64 to 1": lambda x: x / 255,
    "float16 around 0": lambda x: (x / 127.5 - 1).astype(np.float16),
    "bool": lambda x: x > 127,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_in_every_layout(dtype, channels, layout):
    wanted = PIXELS[..., :channels]
    given = DTYPES[dtype](wanted).transpose(LAYOUTS[layout])
    wanted = (wanted > 127) * np.uint8(255) if dtype == "bool" else wanted
    images = load(torch.from_numpy(given.copy()) if channels == 3 else given, channels=channels)
    off = np.abs(images.pixels.numpy().astype(int) - wanted.transpose(0, 3, 1, 2)).max()
    assert off <= ("float16" in dtype) and images.pixels.dtype == torch.uint8


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (PIXELS[..., 0], (5, 1, 12, 12)),  # [N, H, W]
        (PIXELS[..., 0].transpose(1, 2, 0), (5, 1, 12, 12)),  # [H, W, N], as Matlab has it
        (PIXELS[0, :, :, :3], (1, 3, 12, 12)),  # one picture
        (PIXELS[..., 0].reshape(5, -1), (5, 1, 12, 12)),  # a row a picture
        (PIXELS[::2, :, ::-1, 0], (3, 1, 12, 12)),  # a view
        (np.repeat(PIXELS[..., :3], 3, 2), (5, 3, 12, 12)),  # 12 × 36
    ],
)
def test_other_shapes(array, shape):
    assert load(array).pixels.shape == shape


@pytest.mark.parametrize("planes", [True, False])
def test_rows_of_coloured_pictures(planes):
    smooth = np.linspace(0, 255, 16).astype(np.uint8)
    picture = np.stack([np.tile(smooth, (16, 1)), np.tile(smooth, (16, 1)).T, np.full((16, 16), 90)], 2).astype(
        np.uint8
    )
    rows = np.stack([(picture.transpose(2, 0, 1) if planes else picture).ravel()] * 3)
    assert (load(rows).pixels.numpy() == picture.transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (np.zeros((4, 2, 9, 9)), r"shape \[4, 2, 9, 9\], but must be \[N, H, W, C\]"),
        (np.zeros((0, 8, 8)), r"\[0, 8, 8\]"),
        (np.zeros((4, 7)), r"shape \[4, 7\]"),
        (np.zeros(5), r"shape \[5\]"),
        (np.full((2, 8, 8), "x"), "must be numbers"),
        (np.full((2, 8, 8), None), "must be numbers"),
        (np.zeros((2, 8, 8), complex), "must be numbers"),
        ((np.zeros((4, 8, 8)), [0, 1]), "2 labels for 4 images"),
        ([], "holds no images"),
        ([torch.zeros(3, 8, 8), torch.zeros(3, 9, 9)], "2 shapes"),
        (7, "int holds no images"),
        (None, "holds no images"),
        ({"x": np.zeros((2, 8, 8))}, "dict holds no images"),
        (object(), "holds no images"),
        ("", "dataset is ''"),
        ("  ", "dataset is '  '"),
    ],
)
def test_what_holds_no_images_gets_a_sentence(thing, message):
    with pytest.raises(ValueError, match=message) as error:
        load(thing)
    assert "\n" not in str(error.value)


# --- Labels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "wanted", "classes"),
    [
        ([0, 2, 1, 0], [0, 2, 1, 0], "012"),
        (np.array([0, 2, 1, 0], np.uint8), [0, 2, 1, 0], "012"),
        (torch.tensor([0, 2, 1, 0]), [0, 2, 1, 0], "012"),
        ([[0], [2], [1], [0]], [0, 2, 1, 0], "012"),
        (np.eye(3)[[0, 2, 1, 0]], [0, 2, 1, 0], "012"),
        ([0.0, 2.0, 1.0, 0.0], [0, 2, 1, 0], "012"),
        (["cat", "dog", "ape", "cat"], [1, 2, 0, 1], ("ape", "cat", "dog")),
        (["0", "2", "1", "0"], [0, 2, 1, 0], "012"),
        ([True, False, True, True], [1, 0, 1, 1], "01"),
        ([-1, 1, 1, -1], [0, 1, 1, 0], ("-1", "1")),
        ([5000, 7000, 5000, 9000], [0, 1, 0, 2], ("5000", "7000", "9000")),
        ([3, 3, 3, 3], [3, 3, 3, 3], "0123"),  # numbers stay, so that splits agree
    ],
)
@pytest.mark.parametrize("kind", ["pair", "npz", "dataset"])
def test_labels_come_along(tmp_path, labels, wanted, classes, kind):
    pictures = numbers("uint8", (9, 8, 7, 6))
    if kind == "npz":
        np.savez(tmp_path / "x.npz", x=pictures, y=np.asarray(labels))
        images = load(tmp_path / "x.npz")
    elif kind == "pair":
        images = load((pictures, labels))
    else:
        if np.ndim(labels) > 1:
            pytest.skip("a dataset's item has one label")
        images = load([(Image.fromarray(picture), label) for picture, label in zip(pictures, labels, strict=True)])
    assert images.labels.tolist() == wanted and images.classes == tuple(classes) and levels(images) == [9, 8, 7, 6]


# --- Files and datasets of others --------------------------------------------------------------------------------

DIGITS = np.random.default_rng(1).integers(0, 256, (6, 8, 8), np.uint8)
NUMBERS = [3, 1, 4, 1, 5, 9]


def table(rows, header=None, mark=","):
    lines = [header] if header else []
    return "\n".join(lines + [mark.join(map(str, row)) for row in rows]) + "\n"


ROWS = [[n, *x.ravel()] for n, x in zip(NUMBERS, DIGITS, strict=True)]
NAMES = [f"pixel{k}" for k in range(64)]
CSV = {
    "Kaggle's digits": table(ROWS, ",".join(["label", *NAMES])),
    "without a header": table(ROWS),
    "with a mark of Windows": "\ufeff" + table(ROWS, ",".join(["label", *NAMES])),
    "lines of Windows": table(ROWS, ",".join(["label", *NAMES])).replace("\n", "\r\n"),
    "semicolons": table(ROWS, ";".join(["label", *NAMES]), ";"),
    "tabs": table(ROWS, "\t".join(["label", *NAMES]), "\t"),
    "the label last": table([[*row[1:], row[0]] for row in ROWS], ",".join([*NAMES, "label"])),
    "a number a row": table([[k, *row] for k, row in enumerate(ROWS)], ",".join(["id", "label", *NAMES])),
    "pandas": table([[k, *row] for k, row in enumerate(ROWS)], ",".join(["", "label", *NAMES])),
    "quoted": table(ROWS, ",".join(f'"{name}"' for name in ["label", *NAMES])),
    "of emotions": table([[n, " ".join(map(str, x.ravel())), "Training"] for n, x in zip(NUMBERS, DIGITS, strict=True)]
                         + [[0, " ".join(["7"] * 64), "PublicTest"]], "emotion,pixels,Usage"),
    "without labels": table([row[1:] for row in ROWS], ",".join(NAMES)),
    "numbers only": table([row[1:] for row in ROWS]),
}  # fmt: skip


@pytest.mark.parametrize("name", CSV)
@pytest.mark.parametrize("packed", [".csv", ".csv.gz", ".zip"])
def test_tables_of_pixels(tmp_path, name, packed):
    raw, path = CSV[name].encode(), tmp_path / f"train{packed}"
    path.write_bytes(gzip.compress(raw) if packed == ".csv.gz" else raw)
    if packed == ".zip":
        path = pack(path, {"train.csv": raw}) / "train.csv"
    images = load(path)
    assert (images.pixels.numpy()[:, 0] == DIGITS).all()
    assert images.labels is None if name in ("without labels", "numbers only") else images.labels.tolist() == NUMBERS


@pytest.mark.parametrize("text", ["name,label\na.png,cat\n", "", "1,2,3\n", "label,pixel0\n1,x\n", "\0\1\2"])
def test_other_tables_get_a_sentence(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match="x.csv' has . columns for pixels.*a folder with a subfolder a class") as error:
        load(tmp_path / "x.csv")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "names",
    [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels")],
)
def test_the_splits_of_an_npz(tmp_path, names):
    np.savez(tmp_path / "x.npz", **dict(zip(names, (DIGITS, NUMBERS, DIGITS[:2], NUMBERS[:2]), strict=True)))
    train, test = load(tmp_path / "x.npz"), load(tmp_path / "x.npz", split="test")
    assert (len(train), len(test)) == (6, 2) and test.labels.tolist() == [3, 1]
    with pytest.raises(ValueError, match="no split 'val'; it has: test, train"):
        load(tmp_path / "x.npz", split="val")


SHADES = [0, 60, 120, 180]
PAGES = [Image.new("L", (16, 16), shade) for shade in SHADES]


def paged(path):
    PAGES[0].save(path, save_all=True, append_images=PAGES[1:])


def deep_pages(path):
    pages = [Image.fromarray(np.full((16, 16), 20_000 * k, np.uint16)) for k in range(4)]
    pages[0].save(path, save_all=True, append_images=pages[1:])


@pytest.mark.parametrize(
    ("name", "save", "wanted"),
    [
        ("x.tif", paged, [0, 60, 120, 180]),
        ("x.TIFF", deep_pages, [0, 78, 156, 233]),
        ("x.gif", paged, [0, 60, 120, 180]),
    ],
)
def test_the_pages_of_a_file(tmp_path, capsys, name, save, wanted):
    save(tmp_path / name)
    images = load(tmp_path / name, channels=1)
    assert images.pixels[:, 0, 0, 0].tolist() == wanted and "4 pages or frames" in said(capsys)
    (tmp_path / "folder").mkdir()
    save(tmp_path / "folder" / name)
    assert len(load(tmp_path / "folder", channels=1)) == 1 and "with several pages" in said(capsys)
    (tmp_path / "torn.tif").write_bytes((tmp_path / name).read_bytes()[:40])
    with pytest.raises(ValueError, match="torn.tif' cannot be read to its end"):
        load(tmp_path / "torn.tif")


@pytest.mark.parametrize("kind", ["Hugging Face's", "bare bytes"])
def test_a_parquet_table(tmp_path, kind):
    pyarrow = pytest.importorskip("pyarrow", reason="pip install pyarrow")
    from pyarrow import parquet

    raw = [encoded(colour(50 * k)) for k in range(4)]
    cells = [{"bytes": some, "path": f"{k}.png"} for k, some in enumerate(raw)] if kind[0] == "H" else raw
    table = pyarrow.table({"image": cells, "label": [1, 0, 1, 0]})
    about = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    if kind[0] == "H":
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    parquet.write_table(table, tmp_path / "train-00000-of-00001.parquet")
    images = load(tmp_path / "train-00000-of-00001.parquet")
    assert levels(images) == [0, 50, 100, 150] and images.labels.tolist() == [1, 0, 1, 0]
    assert images.classes == (("cat", "dog") if kind[0] == "H" else ("0", "1"))
    parquet.write_table(table.select(["label"]), tmp_path / "no.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    for name, why in (("no", "no column image, only: label"), ("torn", "cannot be read to its end")):
        with pytest.raises(ValueError, match=f"{name}.parquet' {why}|{name}.parquet' has {why}"):
            load(tmp_path / f"{name}.parquet")


def test_without_pyarrow_a_table_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="x.parquet' needs PyArrow: pip install pyarrow"):
        load(tmp_path / "x.parquet")


class Mark:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_a_pickle_in_an_array_is_never_run(tmp_path, ending):
    (np.save if ending == ".npy" else np.savez)(tmp_path / f"x{ending}", np.array([Mark(tmp_path / "mark")], object))
    with pytest.raises(ValueError, match=f"x{ending}' is or holds a pickle.*np.save"):
        load(tmp_path / f"x{ending}")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("ending", [".npy", ".npz"])
@pytest.mark.parametrize("keep", [0, 5, 0.5, 0.95])
def test_a_torn_array_is_refused(tmp_path, ending, keep):
    path = tmp_path / f"x{ending}"
    (np.save if ending == ".npy" else np.savez)(path, DIGITS)
    raw = path.read_bytes()
    path.write_bytes(raw[: keep if isinstance(keep, int) else int(keep * len(raw))])
    with pytest.raises(ValueError, match=f"x{ending}' cannot be read to its end"):
        load(path)


def colours():
    return np.repeat(DIGITS[..., None], 3, 3)


DATASETS = {
    "MNIST's": lambda: SimpleNamespaceOf(data=torch.from_numpy(DIGITS), targets=torch.tensor(NUMBERS), transform=None),
    "CIFAR's": lambda: SimpleNamespaceOf(data=colours(), targets=NUMBERS, transform=None, classes=list("abcdefghij")),
    "SVHN's": lambda: SimpleNamespaceOf(data=colours().transpose(0, 3, 1, 2), labels=np.array(NUMBERS), transform=len),
    "TensorDataset": lambda: torch.utils.data.TensorDataset(torch.from_numpy(DIGITS / 255), torch.tensor(NUMBERS)),
    "pictures": lambda: [(Image.fromarray(x), n) for x, n in zip(DIGITS, NUMBERS, strict=True)],
    "tensors": lambda: [(torch.from_numpy(x[None] / 255), n) for x, n in zip(DIGITS, NUMBERS, strict=True)],
    "Hugging Face's": lambda: [{"image": Image.fromarray(x), "label": n} for x, n in zip(DIGITS, NUMBERS, strict=True)],
}


class SimpleNamespaceOf(SimpleNamespace):
    """A dataset of torchvision's kind, with pixels in ``data``."""

    def __len__(self):
        return len(self.data)


@pytest.mark.parametrize("name", DATASETS)
def test_datasets_of_other_libraries(capsys, name):
    images = load(DATASETS[name]())
    assert (images.pixels.numpy()[:, 0] == DIGITS).all() and images.labels.tolist() == NUMBERS
    assert ("transform is not applied" in said(capsys)) == (name == "SVHN's")


def test_pictures_without_labels_and_an_image_set():
    images = load([Image.fromarray(x) for x in DIGITS])
    assert images.labels is None and load(images) is images and len(load(images, n=2)) == 2


# --- Floats in 0 to 1 are never taken for -1 to 1 ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0, 0.5, 1], [0, 128, 255]),
        ([0, 0, 0], [0, 0, 0]),
        ([0.2, 0.3, 0.4], [51, 76, 102]),
        ([-1, 0, 1], [0, 128, 255]),
        ([-0.01, 0.5, 1], [126, 191, 255]),
        ([0, 0.5, 255], None),
        ([0, 128, 255], None),
        ([0, 1, 2], None),
    ],
)
@pytest.mark.parametrize("to", ["to_uint8", "as_uint8", "grid", "array"])
def test_floats_without_any_below_zero(values, wanted, to):
    images = torch.tensor(values, dtype=torch.float32).view(1, 1, 1, 3)
    convert = {"to_uint8": to_uint8, "as_uint8": as_uint8, "grid": lambda x: viz.grid(x, pad=0),
               "array": lambda x: as_uint8(x.numpy())}[to]  # fmt: skip
    if wanted is None:
        with pytest.raises(ValueError, match="x / 127.5 - 1"):
            convert(images)
    else:
        assert np.asarray(convert(images)).ravel().tolist() == wanted


def test_what_a_generator_draws_is_never_taken_for_0_to_1():
    bright = nn.Sequential(nn.Linear(4, 9), nn.Unflatten(1, (1, 3, 3)))
    nn.init.zeros_(bright[0].weight)
    nn.init.constant_(bright[0].bias, 0.5)
    assert (train.sample(bright, torch.zeros(2, 4)) == 191).all()


# --- Players are looked at before the first step -----------------------------------------------------------------


def players(generator=None, discriminator=None, z_dim=4, g_of=None, d_of=None):
    generator = generator or models.dcgan_generator(16, 1, 2, 4)
    discriminator = discriminator or models.dcgan_discriminator(16, 1, 2)
    g_opt, d_opt = (torch.optim.SGD(x.parameters(), 0.01) for x in (g_of or generator, d_of or discriminator))
    return steps.GAN(generator, discriminator, g_opt, d_opt, z_dim, device="cpu")


def fitted(gan, images=None):
    images = torch.randint(0, 256, (16, 1, 16, 16), dtype=torch.uint8) if images is None else images
    return train.fit(gan, steps.dcgan_step, images, steps=1, batch_size=8, watchers=())


def drawn_by(*last):
    return nn.Sequential(nn.Linear(4, 256), *last, nn.Unflatten(1, (1, 16, 16)))


class Times(nn.Module):
    """Stretches its input."""

    def forward(self, x):
        return 255 * x


def judged_by(*last):
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 1), *last, nn.Flatten(0))


def unsure():
    """Logits that happen to lie between 0 and 1, as those of a new discriminator can."""
    network = judged_by()
    nn.init.constant_(network[3].weight, 1e-4)
    nn.init.constant_(network[3].bias, 0.5)
    return network


WARNED = [
    (lambda: players(drawn_by(nn.Sigmoid())), "generator's images run from 0.* tanh"),
    (lambda: players(drawn_by(nn.Sigmoid(), Times())), "generator's images run from .* tanh"),
    (lambda: players(drawn_by(nn.ReLU())), "generator's images run from 0.* tanh"),
    (lambda: players(drawn_by(nn.Tanh(), Times())), "generator's images run from -2.* tanh"),
    (lambda: players(discriminator=judged_by(nn.Sigmoid())), "discriminator gives numbers from 0 to 1.*sigmoid"),
    (lambda: players(), None),
    (lambda: players(drawn_by(nn.Tanh())), None),
    (lambda: players(drawn_by()), None),
    (lambda: players(discriminator=nn.Sequential(judged_by(), nn.Sigmoid(), nn.Unflatten(0, (-1, 1)))), "sigmoid"),
    (lambda: players(discriminator=judged_by()), None),
    (lambda: players(discriminator=unsure()), None),
    (lambda: players(discriminator=nn.Sequential(judged_by(), nn.Tanh())), None),
]
REFUSED = [
    (lambda: players(g_of=models.dcgan_generator(16, 1, 2, 4)), "g_opt holds none of the generator's weights"),
    (lambda: players(d_of=models.dcgan_discriminator(16, 1, 2)), "d_opt holds none of the discriminator's weights"),
    (lambda: players(z_dim=5), "generator does not take z_dim=5"),
    (lambda: players(drawn_by(nn.Tanh()), z_dim=64), "generator does not take z_dim=64"),
]


@pytest.mark.parametrize(("make", "message"), WARNED)
def test_ranges_that_do_not_fit_are_told_before_the_first_step(capsys, make, message):
    fitted(make())
    told = said(capsys)
    assert re.search(message, told) if message else told == ""


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_players_that_cannot_learn_are_refused(make, message):
    gan = make()
    with pytest.raises(ValueError, match=message):
        fitted(gan)
    assert gan.steps_done == 0


def test_looking_at_the_players_changes_nothing():
    weights = []
    for look in (True, False):
        with pytest.MonkeyPatch.context() as m:
            if not look:
                m.setattr(stage, "check_players", lambda *_: None)
            torch.manual_seed(0)
            gan = players(models.dcgan_generator(16, 1, 2, 4, seed=1), models.dcgan_discriminator(16, 1, 2, seed=2))
            fitted(gan, torch.arange(256, dtype=torch.uint8).repeat(16).view(16, 1, 16, 16))
            weights.append([v.clone() for net in (gan.generator, gan.discriminator) for v in net.state_dict().values()])
    assert all(map(torch.equal, *weights))


@pytest.mark.parametrize(
    "name", ["array", "floats", "tensor", "colours", "pictures", "folder", "npy", "labelled", "large", "last"]
)
def test_fit_takes_anything(tmp_path, name):
    x = np.random.default_rng(0).integers(0, 256, (16, 16, 16), np.uint8)
    files = {f"{k}.png": encoded(Image.fromarray(picture)) for k, picture in enumerate(x)}
    np.save(tmp_path / "x.npy", x)
    things = {
        "array": x, "floats": torch.from_numpy(x / 255), "tensor": torch.from_numpy(x), "colours": np.stack([x] * 3, 3),
        "pictures": [Image.fromarray(picture) for picture in x], "folder": str(put(tmp_path / "x", files)),
        "npy": tmp_path / "x.npy", "labelled": (x, np.arange(16)), "large": x.repeat(2, 1).repeat(2, 2),
        "last": torch.from_numpy(x[..., None]),
    }  # fmt: skip
    assert fitted(players(), things[name]).steps == 1


# --- Words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--dataset", ""], "--dataset '' is empty"),
        (["--out", " "], "--out ' ' is empty"),
        (["--data", "x"], "no --data; did you mean --dataset"),
        (["--data-dir=x"], "no --data-dir; did you mean --dataset"),
        (["--img-size", "64"], "did you mean --image-size"),
        (["--learning-rate", "1"], "did you mean --lr"),
        (["--output", "x"], "did you mean --out"),
        (["--nz", "9"], "did you mean --z-dim"),
        (["--dataset", "fake", "--fit", "pad"], "fit is for your own pictures"),
        (["--dataset", "fake", "--channels", "4"], "channels=4|--channels 4"),
        (["--dataset", "fake", "--channels", "2"], "must be 1 .*3 .*or 4"),
    ],
)
def test_words_that_cannot_be_meant(capsys, words, told):
    assert cli.main(["train", "--dry-run", *words]) == 2
    assert re.search(told, " ".join(capsys.readouterr().err.split()))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"fit": "stretch"}, "fit is 'stretch'.*crop, pad, squash"),
        ({"small": "drop"}, "small is 'drop'.*enlarge, skip"),
        ({"background": "greenish"}, "background is 'greenish'.*a colour"),
        ({"background": 7}, "background is 7.*a colour"),
        ({"range": "5"}, "range is '5'.*lower first"),
        ({"range": "9,1"}, "range is '9,1'.*lower first"),
        ({"range": "a,b"}, "range is 'a,b'.*lower first"),
        ({"range": (0, float("nan"))}, "range is .*lower first"),
        ({"range": 3}, "range is 3.*lower first"),
    ],
)
def test_how_pictures_cannot_be_made(how, message):
    with pytest.raises(ValueError, match=message):
        load(PIXELS, **how)


def test_lr_sets_both():
    config = change(Config(), {"lr": 0.5})
    assert (config.g_lr, config.d_lr, config.lr) == (0.5, 0.5, None)
    assert change(Config(), {"lr": 0.5, "d_lr": 0.1}).d_lr == 0.1


def test_an_own_folder_with_a_datasets_name_is_asked_about(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mnist", "fake"):
        put(tmp_path, {f"{name}/1.png": encoded(colour(7))})
        with pytest.raises(
            ValueError, match=f"'{name}' is a published dataset, and a folder of pictures here.*'./{name}'"
        ):
            load(name)
        assert levels(load(f"./{name}")) == [7]
    assert load("fake", root="x", n=3).name == "fake"
    put(tmp_path, {"fake/config.json": "{}"})  # a run of that name is not meant
    assert load("fake", n=3).name == "fake"


def test_a_data_root_of_pictures_is_asked_about(tmp_path):
    put(tmp_path / "album", {f"{k}.png": encoded(colour(k)) for k in range(2)})
    with pytest.raises(ValueError, match="no MNIST in '.*album', but '0.png': for those name the folder itself"):
        load("mnist", root=tmp_path / "album", download=False)


def test_a_folder_whose_name_is_not_utf_8(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    for k in range(8):
        with open(folder + b"/%d\xe9.png" % k, "wb") as file:
            file.write(encoded(colour(k)))
    open(folder + b"/bad\xe9.png", "wb").close()
    how = ["--steps=1", "--batch-size=4", "--z-dim=4", "--g-width=2", "--d-width=2", "--score-every=0"]
    assert cli.main(["train", *how, "--dataset", os.fsdecode(folder), "--out", str(tmp_path / "run")]) == 0


# --- The summary -------------------------------------------------------------------------------------------------


def test_data_tells_what_a_network_will_see(tmp_path, capsys):
    files = {f"train/{c}/{k}.png": encoded(colour(50 * k, (40, 20))) for c in "ab" for k in range(3)}
    path = put(tmp_path / "pets", files | {"test/a/9.png": encoded(colour(9)), "train/notes.txt": b"x", "bad.png": b""})
    assert cli.main(["data", str(path), "--image-size", "16"]) == 0
    told = said(capsys)
    for part in ("pets · 6 images", "2 classes: a 3, b 3.", "Sizes: 40×20 (6); 16×16 to the network, 50% of their area",
                 "Pixels: 0 to 100", "bad.png (empty)", "train/notes.txt (no picture)", "1 test images"):  # fmt: skip
        assert part in told, part
    (sheet,) = tell(str(path))[str(path)]["contact sheet"]
    assert Image.open(sheet).size[0] > 64 and not [p for p in path.rglob("*") if "sheet" in p.name]
    capsys.readouterr()
    load(path, image_size=16)
    assert capsys.readouterr().out.count("\n") == 1  # told in full only the first time
