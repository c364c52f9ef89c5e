import gzip
import io
import struct
import tarfile
import threading
import zipfile
import zlib

import numpy as np
import pytest
from makers import PAGE, encoded, noisy, pack, put
from PIL import Image

from ganlib.data import archives, folders
from ganlib.data.folders import open_pictures
from ganlib.data.loading import load
from ganlib.data.squares import How

CLASSES = {"cats/a.png": encoded(colour=10), "cats/b.png": encoded(colour=20), "dogs/deep/c.png": encoded(colour=30)}


@pytest.fixture(autouse=True)
def nothing_but(root):
    """Whatever this machine has is not seen."""


def read(*args, **kwargs):
    reading = open_pictures(*args, **kwargs)
    pixels, labels = zip(*reading.chunks(), strict=True)
    return reading, np.concatenate(pixels), None if labels[0] is None else np.concatenate(labels)


# --- Folders and archives ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", *archives.ARCHIVES])
def test_a_folder_and_each_kind_of_archive_give_the_same_images(tmp_path, ending):
    path = pack(tmp_path / f"pets{ending}", CLASSES) if ending else put(tmp_path / "pets", CLASSES)
    reading, pixels, labels = read(path)
    assert reading.classes == ("cats", "dogs") and labels.tolist() == [0, 0, 1]
    assert pixels.shape == (3, 1, 32, 32) and pixels[:, 0, 0, 0].tolist() == [10, 20, 30]


def test_hidden_files_and_second_copies_do_not_count_and_the_stamp_changes_with_the_files(tmp_path):
    names = ["b/1.png", "a/2.png", "c.png", ".hidden/x.png", "__MACOSX/._y.png", "notes.txt"]
    folder = put(tmp_path / "x", dict.fromkeys(names, encoded()))
    assert [name for name, _ in archives.members([folder])] == ["c.png", "notes.txt", "a/2.png", "b/1.png"]
    before = archives.stamp(folder)
    assert archives.stamp(folder) == before != archives.stamp(put(folder, {"d.png": encoded()}))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("a.png", "a.png"):
            archive.writestr(name, encoded())
    twice = read(tmp_path / "x.zip")
    assert len(twice[1]) == 1 and list(twice[0].skipped) == ["a.png (again)"]


@pytest.mark.parametrize("names", [("train", "test"), ("training", "testing"), ("set/Train", "set/Test")])
def test_split_folders(tmp_path, names):
    for k, part in enumerate(names):
        put(tmp_path / part, {"a/1.png": encoded(colour=k), "b/2.png": encoded(colour=k)})
    for k, split in enumerate(["train", "test"]):
        reading, pixels, labels = read(tmp_path, split)
        assert reading.classes == ("a", "b") and labels.tolist() == [0, 1] and (pixels == k).all()
    with pytest.raises(ValueError, match="'val'; it has: test, train"):
        open_pictures(tmp_path, "val")


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["bus/1.png", "train/2.png"], ("bus", "train")),  # a class called train is no split
        (["train/a/1.png", "train/b/2.png"], ("a", "b")),  # a lone train folder is one
        (["photos/1.png", "photos/2.png"], ()),  # one class only
        (["a/1.png", "b/2.png", "stray.png"], ()),
    ],
)
def test_classes_by_folders(tmp_path, names, classes):
    reading, _, labels = read(put(tmp_path, dict.fromkeys(names, encoded())))
    assert reading.classes == classes and (labels.tolist() == [0, 1] if classes else labels is None)
    with pytest.raises(ValueError, match="'test'; it has: train"):
        open_pictures(tmp_path, "test")


@pytest.mark.parametrize("name", ["pets", "pets.zip", "pets.tar.gz"])
def test_threads_give_the_same_images(tmp_path, monkeypatch, name):
    files = {f"{'ab'[k % 2]}/{k:03}.png": encoded((20 + k % 5, 20), k % 256) for k in range(300)}
    broken = sorted(files)[7]
    files[broken] = files[broken][:45]  # its header is intact
    path = put(tmp_path / name, files) if name == "pets" else pack(tmp_path / name, files)
    seen, square = [], folders.square
    monkeypatch.setattr(folders, "square", lambda *a, **k: seen.append(threading.get_ident()) or square(*a, **k))
    one, pixels, labels = read(path, image_size=16)
    assert len(set(seen)) == 1 and list(one.skipped) == [broken]
    many, same_pixels, same_labels = read(path, image_size=16, workers=4)
    assert len(set(seen)) > 1 and many.skipped == one.skipped
    assert (pixels == same_pixels).all() and (labels == same_labels).all()


def test_many_images_come_in_chunks_and_say_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(folders, "CHUNK", 3)
    monkeypatch.setattr(folders, "SILENT_UP_TO", 6)
    reading = open_pictures(put(tmp_path / "many", {f"{k}.png": encoded(colour=k) for k in range(7)}))
    assert [x[:, 0, 0, 0].tolist() for x, _ in reading.chunks()] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [x[:, 0, 0, 0].tolist() for x, _ in reading.chunks(5)] == [[5, 6]]
    assert "7 images from 'many'" in capsys.readouterr().out


# --- Pixels --------------------------------------------------------------------------------------------------


def test_mixed_sizes_become_centred_squares(tmp_path):
    wide = np.zeros((40, 100), np.uint8)
    wide[:, 30:70] = 200  # the centre square is all 200, the rest black
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide.T).save(tmp_path / "tall.png")
    _, pixels, labels = read(tmp_path, image_size=40)
    assert pixels.shape == (2, 1, 40, 40) and (pixels == 200).all() and labels is None


def test_shrinking_is_antialiased(tmp_path):
    checks = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(checks).save(tmp_path / "checks.png")
    _, pixels, _ = read(tmp_path, image_size=32)
    assert np.abs(pixels[..., 4:-4, 4:-4].astype(int) - 127).max() <= 2  # picking pixels would give 0 or 255


def test_channels_follow_the_images_or_the_argument(tmp_path):
    put(tmp_path, {"grey.png": encoded(colour=90)})
    assert read(tmp_path)[1].shape == (1, 1, 32, 32)
    assert read(tmp_path, channels=3)[1][0, :, 5, 5].tolist() == [90, 90, 90]
    put(tmp_path, {"red.png": encoded(mode="RGB", colour=(255, 0, 0))})
    assert read(tmp_path)[1][1, :, 5, 5].tolist() == [255, 0, 0]
    assert read(tmp_path, channels=1)[1][:, 0, 5, 5].tolist() == [90, 76]  # luminance of red: 0.299 × 255


COLOURED = Image.new("RGB", (40, 40), (200, 120, 40))


@pytest.mark.parametrize(
    ("name", "image", "colour", "options"),
    [
        ("cmyk.jpg", COLOURED.convert("CMYK"), (200, 120, 40), {}),
        ("cmyk.tif", COLOURED.convert("CMYK"), (200, 120, 40), {}),
        ("palette.png", COLOURED.quantize(4), (200, 120, 40), {}),
        ("palette.gif", COLOURED.quantize(4), (200, 120, 40), {}),
        ("clear.png", COLOURED.quantize(4), (255, 255, 255), {"transparency": COLOURED.quantize(4).getpixel((0, 0))}),
        ("alpha.png", Image.new("RGBA", (40, 40), (200, 120, 40, 0)), (255, 255, 255), {}),
        ("half.png", Image.new("RGBA", (40, 40), (0, 0, 0, 128)), (127, 127, 127), {}),
        ("grey alpha.png", Image.new("LA", (40, 40), (0, 0)), (255, 255, 255), {}),
        ("two levels.png", Image.new("1", (40, 40), 1), (255, 255, 255), {}),
        ("deep.tif", Image.fromarray(np.full((40, 40), 51_300, np.uint16)), (200, 200, 200), {}),
        ("deep.png", Image.fromarray(np.full((40, 40), 51_300, np.uint16)), (200, 200, 200), {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_way_to_write_a_colour_down(tmp_path, name, image, colour, options):
    image.save(tmp_path / name, **options)
    _, pixels, _ = read(tmp_path, image_size=40, channels=3)
    assert np.abs(pixels[0, :, 20, 20].astype(int) - colour).max() <= 3


def test_a_16_bit_colour_png(tmp_path):
    """PIL cannot write one: made here, chunk by chunk."""
    row = b"\0" + np.full((40, 3), (51_300, 30_800, 10_300), ">u2").tobytes()
    header = struct.pack(">IIBBBBB", 40, 40, 16, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(row * 40)), (b"IEND", b"")
    chunks = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in parts)
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert read(tmp_path)[1][0, :, 5, 5].tolist() == [200, 120, 40]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(tmp_path, orientation):
    upright = Image.new("L", (60, 40), 0)
    upright.paste(255, (0, 0, 60, 20))  # the upper half is white
    upright.paste(128, (0, 0, 30, 20))  # and its left half grey
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # how the camera wrote it, for each orientation
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    _, pixels, _ = read(tmp_path, image_size=40)
    corners = [pixels[0, 0, y, x] for y, x in ((5, 5), (5, 35), (35, 5), (35, 35))]
    assert np.abs(np.array(corners, int) - [128, 255, 0, 0]).max() < 12


@pytest.mark.parametrize(
    ("shorter", "size"), [(200, 64), (64, 64), (63, 48), (47, 32), (31, 28), (27, 27), (9, 9), (5, 8)]
)
def test_the_default_size_fits_half_of_the_images(tmp_path, shorter, size):
    sides = (3, shorter, 300)
    put(tmp_path, {f"{side}.png": encoded((side, side + 3)) for side in sides})
    assert read(tmp_path)[0].shape == (3, 1, size, size)


def test_an_image_that_is_too_small_is_enlarged_or_left_out_and_named(tmp_path):
    put(tmp_path, {"big.png": encoded(), "x/small.png": encoded((20, 31), 70)})
    reading, pixels, _ = read(tmp_path, image_size=32)
    assert pixels[:, 0, 5, 5].tolist() == [128, 70]
    assert "1 smaller than 32 are enlarged, such as 'x/small.png' of 20×31" in " ".join(reading.told)
    reading, pixels, _ = read(tmp_path, image_size=32, how=How(small="skip"))
    assert len(pixels) == 1 and reading.skipped == {"x/small.png": "smaller than image_size"}
    with pytest.raises(ValueError, match=r"All 2 .*image_size=64; use 40 or less: 'big.png' is 40×40"):
        open_pictures(tmp_path, image_size=64, how=How(small="skip"))


# --- What cannot be read -------------------------------------------------------------------------------------


def test_unreadable_images_are_skipped_and_named(tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    files = {"a.png": encoded((64, 64)), "b.png": b"no picture", "c.png": noisy()[:2000], "d.png": b"", "e.jpg": PAGE}
    reading, pixels, _ = read(put(tmp_path, files | {"f.png": encoded((120, 120)), "g.png": encoded((200, 200))}))
    many = dict.fromkeys(["f.png", "g.png"], "more than 0 million pixels")
    assert len(pixels) == 1 and not recwarn
    assert reading.skipped == {"b.png": "damaged", "c.png": "damaged", "d.png": "empty", "e.jpg": "a web page"} | many


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"a.png": b"no", "b.jpg": b"no"}, r"no images in .*pets.*a.png, b.jpg \(damaged\)|a.png \(damaged\), b.jpg"),
        ({"a.png": noisy()[:1000]}, r"no images in .*pets.*: a.png \(damaged\)"),  # its header is intact
        ({"notes.txt": b"no picture", ".hidden/a.png": encoded()}, r"no images in .*pets.*notes.txt \(no picture\)"),
    ],
)
def test_nothing_readable_is_an_error(tmp_path, files, sentence):
    with pytest.raises(ValueError, match=sentence):
        load(put(tmp_path / "pets", files))


def test_a_path_that_is_no_folder_or_archive(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_pictures(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match="notes.txt' is neither"):
        open_pictures(tmp_path / "notes.txt")


@pytest.mark.parametrize("ending", [".zip", ".tar.gz", ".tar.xz", ".tar.bz2"])
@pytest.mark.parametrize(
    ("damage", "why"),
    [(lambda raw: raw[:-3000], "end"), (lambda raw: b"", "end"), (lambda raw: PAGE.encode(), "web page")],
)
def test_a_damaged_archive_is_refused(tmp_path, ending, damage, why):
    path = pack(tmp_path / f"x{ending}", {f"{k}.png": noisy() for k in range(4)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"'.*x{ending}' .*{why}.*get it again"):
        load(path)


@pytest.mark.parametrize("ending", [".zip", ".tar"])
@pytest.mark.parametrize("name", ["../out.png", "/out.png", "in/../../out.png", "..\\out.png", "C:/out.png"])
def test_members_that_climb_out_are_skipped_and_nothing_is_written(tmp_path, capsys, ending, name):
    path = pack(
        tmp_path / "inside" / f"x{ending}", {name: encoded(), "x/train/good.png": encoded(), "x/test/g.png": b""}
    )
    reading, pixels, _ = read(path)
    assert len(pixels) == 1 and list(reading.skipped)[0].endswith("out.png")
    assert len(load(path)) == 1 and "out.png (its name leads out" in capsys.readouterr().out
    assert {p for p in tmp_path.rglob("*.*") if "cache" not in p.parts} == {path}


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_links_in_archives_are_skipped(tmp_path, ending):
    reading, pixels, _ = read(pack(tmp_path / f"x{ending}", {"good.png": encoded()}, ["soft.png", "hard.png"]))
    assert len(pixels) == 1 and reading.skipped == {"soft.png": "a link", "hard.png": "a link"}


def bomb(path, size, name="bomb.png"):
    """An archive of one intact picture and one member that unpacks to ``size`` bytes of nothing."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("intact.png", encoded())
            archive.writestr(name, bytes(size))
        return path
    with gzip.open(path, "w", 1) as packed, tarfile.open(fileobj=packed, mode="w|") as archive:
        for member, content in (("intact.png", encoded()), (name, bytes(size))):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(("ending", "name"), [(".zip", "a.png"), (".tar.gz", "a.png"), (".tar.gz", "notes.txt")])
def test_a_bomb_is_refused_by_name(tmp_path, monkeypatch, ending, name):
    monkeypatch.setattr(archives, "BOMB_BYTES", 2**24)
    with pytest.raises(ValueError, match=rf"'.*b{ending}' .*bomb"):
        load(bomb(tmp_path / f"b{ending}", 2**25, name))


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_a_member_too_large_for_a_picture_is_named_and_not_read(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(archives, "LARGEST", 10**6)
    (why,) = open_pictures(bomb(tmp_path / f"b{ending}", 2**21)).skipped.values()
    assert why.startswith("2 MB")


def test_a_zip_that_lies_about_a_size_gives_no_more_than_it_says(tmp_path):
    path = bomb(tmp_path / "b.zip", 2**22)
    raw = path.read_bytes()
    size = zipfile.ZipFile(path).getinfo("bomb.png").file_size.to_bytes(4, "little")
    at = raw.rindex(size)  # in the list of contents, at the end
    path.write_bytes(raw[:at] + (1000).to_bytes(4, "little") + raw[at + 4 :])
    reading = open_pictures(path)
    assert reading.skipped == {"bomb.png": "damaged"} and reading.shape[0] == 1
