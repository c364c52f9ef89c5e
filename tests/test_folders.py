import io
import struct
import tarfile
import threading
import time
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ganlib.data import archives, folders
from ganlib.data.folders import open_pictures
from ganlib.data.images import to_float
from ganlib.models import dcgan_discriminator


def png(size=(40, 40), colour=128, mode="L"):
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "png")
    return buffer.getvalue()


def fill(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def pack(path, files):
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(
            path,
            "w:" + {"tar": "", "tgz": "gz", "txz": "xz", "tbz2": "bz2"}.get(path.suffix[1:], path.suffix[1:]),
        ) as archive:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def read(*args, **kwargs):
    reading = open_pictures(*args, **kwargs)
    chunks = list(reading.chunks())
    labels = [y for _, y in chunks if y is not None]
    return reading, np.concatenate([x for x, _ in chunks]), np.concatenate(labels) if labels else None


CLASSES = {
    "cats/a.png": png(colour=10),
    "cats/b.png": png(colour=20),
    "dogs/deep/c.png": png(colour=30),
}


@pytest.mark.parametrize("ending", archives.ARCHIVES)
def test_a_folder_and_each_kind_of_archive_give_the_same_images(tmp_path, ending):
    kept = read(fill(tmp_path / "pets", CLASSES))
    packed = read(pack(tmp_path / f"pets{ending}", CLASSES))
    for reading, pixels, labels in (kept, packed):
        assert reading.classes == ("cats", "dogs") and labels.tolist() == [0, 0, 1]
        assert pixels.shape == (3, 1, 32, 32) and pixels[:, 0, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(("room", "passes"), [(2**20, 1), (0, 2)])
def test_a_small_tar_archive_is_decompressed_once(tmp_path, monkeypatch, room, passes):
    opened = []
    really = archives.tarfile.open
    path = pack(tmp_path / "pets.tar.xz", CLASSES)
    monkeypatch.setattr(archives, "HOLD_BELOW", room)
    monkeypatch.setattr(archives.tarfile, "open", lambda *args: opened.append(args) or really(*args))
    reading, pixels, labels = read(path)
    assert pixels[:, 0, 0, 0].tolist() == [10, 20, 30] and labels.tolist() == [0, 0, 1]
    # Where it does not fit, the look that found this out was in vain.
    assert len(opened) == (passes if room else passes + 1)


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
    fill(tmp_path, {"grey.png": png(colour=90)})
    assert read(tmp_path)[1].shape == (1, 1, 32, 32)
    assert read(tmp_path, channels=3)[1][0, :, 5, 5].tolist() == [90, 90, 90]
    fill(tmp_path, {"red.png": png(mode="RGB", colour=(255, 0, 0))})
    assert read(tmp_path)[1][1, :, 5, 5].tolist() == [255, 0, 0]
    assert read(tmp_path, channels=1)[1][:, 0, 5, 5].tolist() == [90, 76]  # luminance of red: 0.299 × 255


def test_transparent_16_bit_and_turned_images(tmp_path):
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "a_clear.png")
    Image.fromarray(np.full((40, 40), 200 * 256, np.uint16)).save(tmp_path / "b_deep.png")
    turned = Image.new("L", (40, 40), 0)
    turned.paste(255, (0, 0, 20, 40))  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn clockwise to see upright": left goes to the top
    turned.save(tmp_path / "c_turned.png", exif=exif)
    _, pixels, _ = read(tmp_path, image_size=40, channels=1)
    assert (pixels[0] == 255).all() and (pixels[1] == 200).all()
    assert (pixels[2, 0, :20] == 255).all() and (pixels[2, 0, 20:] == 0).all()


def saved(folder, name, image, **options):
    image.save(folder / name, **options)
    return folder


COLOURED = Image.new("RGB", (40, 40), (200, 120, 40))


@pytest.mark.parametrize(
    ("name", "image", "colour"),
    [
        ("cmyk.jpg", COLOURED.convert("CMYK"), (200, 120, 40)),
        ("cmyk.tif", COLOURED.convert("CMYK"), (200, 120, 40)),
        ("palette.png", COLOURED.quantize(4), (200, 120, 40)),
        ("palette.gif", COLOURED.quantize(4), (200, 120, 40)),
        ("alpha.png", Image.new("RGBA", (40, 40), (200, 120, 40, 0)), (255, 255, 255)),
        ("half.png", Image.new("RGBA", (40, 40), (0, 0, 0, 128)), (127, 127, 127)),
        ("grey alpha.png", Image.new("LA", (40, 40), (0, 0)), (255, 255, 255)),
        ("two levels.png", Image.new("1", (40, 40), 1), (255, 255, 255)),
        ("deep.tif", Image.fromarray(np.full((40, 40), 51_300, np.uint16)), (200, 200, 200)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_way_to_write_a_colour_down(tmp_path, name, image, colour):
    _, pixels, _ = read(saved(tmp_path, name, image), image_size=40, channels=3)
    assert np.abs(pixels[0, :, 20, 20].astype(int) - colour).max() <= 3


def test_a_palette_with_a_transparent_colour(tmp_path):
    image = COLOURED.quantize(4)
    index = image.getpixel((0, 0))
    saved(tmp_path, "clear.png", image, transparency=index)
    assert (read(tmp_path, channels=3)[1] == 255).all()


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
    _, pixels, _ = read(saved(tmp_path, "photo.jpg", stored, exif=exif, quality=95), image_size=40)
    corners = [pixels[0, 0, y, x] for y, x in ((5, 5), (5, 35), (35, 5), (35, 35))]
    assert np.abs(np.array(corners, int) - [128, 255, 0, 0]).max() < 12


def test_grey_pictures_and_a_colour_model(tmp_path):
    fill(tmp_path, {"a.png": png((32, 32)), "b.png": png((32, 32))})
    net = dcgan_discriminator(image_size=32, channels=3, width=4)
    sentence = r"have shape \[2, 1, 32, 32\], but this discriminator takes \[B, 3, 32, 32\]. Load them with channels=3."
    with pytest.raises(ValueError, match=sentence):
        net(to_float(torch.from_numpy(read(tmp_path)[1])))
    assert net(to_float(torch.from_numpy(read(tmp_path, channels=3)[1]))).shape == (2,)


@pytest.mark.parametrize(("shorter", "size"), [(200, 64), (64, 64), (63, 48), (47, 32), (31, 28), (27, 27), (9, 9)])
def test_the_default_size_fits_the_smallest_image(tmp_path, shorter, size):
    fill(tmp_path, {"big.png": png((300, 300)), "small.png": png((shorter, shorter + 3))})
    assert read(tmp_path)[0].shape == (2, 1, size, size)


def test_an_image_that_is_too_small_is_named(tmp_path):
    fill(tmp_path, {"big.png": png(), "x/small.png": png((20, 31))})
    with pytest.raises(ValueError, match=r"'x/small.png' .* is 20×31 pixels, .*image_size=32 .*1 of 2.*=20 or less"):
        open_pictures(tmp_path, image_size=32)


@pytest.mark.parametrize("names", [("train", "test"), ("training", "testing"), ("set/Train", "set/Test")])
def test_split_folders(tmp_path, names):
    for k, part in enumerate(names):
        fill(tmp_path / part, {"a/1.png": png(colour=k), "b/2.png": png(colour=k)})
    for k, split in enumerate(["train", "test"]):
        reading, pixels, labels = read(tmp_path, split)
        assert reading.classes == ("a", "b") and labels.tolist() == [0, 1] and (pixels == k).all()
    with pytest.raises(ValueError, match="has no split 'val'; it has: test, train"):
        open_pictures(tmp_path, "val")


def test_a_class_called_train_is_no_split(tmp_path):
    fill(tmp_path, {"bus/1.png": png(), "train/2.png": png()})
    assert read(tmp_path)[0].classes == ("bus", "train")


def test_a_lone_train_folder_has_no_test_images(tmp_path):
    fill(tmp_path, {"train/a/1.png": png(), "train/b/2.png": png()})
    assert read(tmp_path)[2].tolist() == [0, 1]
    with pytest.raises(ValueError, match="has no split 'test'; it has: train"):
        open_pictures(tmp_path, "test")


def test_no_labels_without_class_folders(tmp_path):
    fill(tmp_path, {"photos/1.png": png(), "photos/2.png": png()})
    assert read(tmp_path)[0].classes == () and read(tmp_path)[2] is None
    fill(tmp_path, {"stray.png": png()})
    assert read(tmp_path)[0].classes == ()


def test_unreadable_images_are_skipped_and_named(tmp_path):
    whole = png((64, 64), mode="RGB", colour="red")
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(noise, "png")
    fill(tmp_path, {"a.png": whole, "b.png": b"no picture", "c.png": noise.getvalue()[:2000], "d.png": b""})
    reading, pixels, _ = read(tmp_path)
    assert len(pixels) == 1
    assert dict(reading.skipped) == {"b.png": "damaged", "c.png": "damaged", "d.png": "empty"}


def test_all_unreadable_is_an_error(tmp_path):
    fill(tmp_path, {"a.png": b"no", "b.jpg": b"no"})
    with pytest.raises(ValueError, match=r"None of the 2 images in .* can be read, e.g. 'a.png' \(damaged\)"):
        open_pictures(tmp_path)


def test_empty_and_missing_folders(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    fill(tmp_path, {".hidden/a.png": png(), "__MACOSX/._b.png": png()})
    with pytest.raises(ValueError, match=r"There are no images in .* \(looked for .png"):
        open_pictures(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no folder or archive '.*nowhere'"):
        open_pictures(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="notes.txt' is neither a folder nor an archive"):
        open_pictures(tmp_path / "notes.txt")


@pytest.mark.parametrize("ending", [".zip", ".tar.gz", ".tar.xz"])
def test_a_truncated_archive_is_refused(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "png")
    path = pack(tmp_path / f"x{ending}", {f"{k}.png": buffer.getvalue() for k in range(4)})
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ValueError, match=r"The archive '.*' cannot be read to its end \(.*\); get it again"):
        open_pictures(path)


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_a_web_page_saved_as_an_archive_is_refused(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    path.write_text("<!DOCTYPE html><html><title>Quota exceeded</title></html>")
    with pytest.raises(ValueError, match="is a web page, not an archive"):
        open_pictures(path)


@pytest.mark.parametrize("ending", [".zip", ".tar"])
@pytest.mark.parametrize("name", ["../out.png", "/out.png", "in/../../out.png", "..\\out.png", "C:/out.png"])
def test_members_that_climb_out_are_skipped_and_nothing_is_written(tmp_path, ending, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    path = pack(inside / f"x{ending}", {name: png(), "x/train/good.png": png(), "x/test/g.png": png()})
    reading, pixels, _ = read(path)
    assert len(pixels) == 1 and len(reading.skipped) == 1 and list(reading.skipped)[0].endswith("out.png")
    assert list(tmp_path.rglob("*")) == [inside, path]


def test_links_in_archives_are_skipped(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png())
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for kind, name in ((tarfile.SYMTYPE, "soft.png"), (tarfile.LNKTYPE, "hard.png")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(secret)
            archive.addfile(member)
        member = tarfile.TarInfo("good.png")
        member.size = len(png())
        archive.addfile(member, io.BytesIO(png()))
    link = zipfile.ZipInfo("soft.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, str(secret))
        archive.writestr("good.png", png())
    assert read(tmp_path / "x.tar")[0].skipped == {"soft.png": "a link", "hard.png": "a link"}
    assert read(tmp_path / "x.zip")[0].skipped == {"soft.png": "a link"}


def test_a_stamp_changes_with_the_files(tmp_path):
    fill(tmp_path / "a", {"1.png": png()})
    before = archives.stamp(tmp_path / "a")
    assert archives.stamp(tmp_path / "a") == before
    fill(tmp_path / "a", {"2.png": png()})
    assert archives.stamp(tmp_path / "a") != before


def test_many_images_come_in_chunks_and_say_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(folders, "CHUNK", 3)
    monkeypatch.setattr(folders, "SILENT_UP_TO", 6)
    fill(tmp_path / "many", {f"{k}.png": png(colour=k) for k in range(7)})
    reading = open_pictures(tmp_path / "many")
    assert [x[:, 0, 0, 0].tolist() for x, _ in reading.chunks()] == [[0, 1, 2], [3, 4, 5], [6]]
    assert "Preparing 7 images from 'many'" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["pets", "pets.zip", "pets.tar.gz"])
def test_threads_give_the_same_images(tmp_path, monkeypatch, name):
    files = {f"{'ab'[k % 2]}/{k:03}.png": png(colour=k % 256, size=(20 + k % 5, 20)) for k in range(300)}
    broken = sorted(files)[7]
    files[broken] = files[broken][:45]  # its header is whole
    path = tmp_path / name
    fill(path, files) if name == "pets" else pack(path, files)
    seen, square = set(), folders.square

    def spy(*arguments):
        seen.add(threading.get_ident())
        time.sleep(0.001)  # let the others have a turn
        return square(*arguments)

    monkeypatch.setattr(folders, "square", spy)
    one, pixels, labels = read(path, image_size=16)
    assert len(seen) == 1 and list(one.skipped) == [broken]
    many, same_pixels, same_labels = read(path, image_size=16, workers=4)
    assert len(seen) > 2 and many.skipped == one.skipped
    assert (pixels == same_pixels).all() and (labels == same_labels).all()
