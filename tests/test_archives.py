import gzip
import io
import tarfile
import zipfile

import pytest
from PIL import Image

from ganlib.data import archives
from ganlib.data.folders import open_pictures
from ganlib.data.loading import load


@pytest.fixture(autouse=True)
def nothing_but(root):
    """Whatever this machine has is not seen."""


def png(size=(40, 40), mode="L"):
    buffer = io.BytesIO()
    Image.new(mode, size, 128 if mode == "L" else "red").save(buffer, "png")
    return buffer.getvalue()


class Zeros(io.RawIOBase):
    """So many bytes of nothing."""

    def __init__(self, size):
        self.left = size

    def readable(self):
        return True

    def readinto(self, buffer):
        n = min(len(buffer), self.left)
        buffer[:n] = bytes(n)
        self.left -= n
        return n


def bomb(path, size, name="bomb.png"):
    """An archive of one whole picture and one member that unpacks to ``size`` bytes of nothing."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("whole.png", png())
            with archive.open(name, "w", force_zip64=True) as member:
                for _ in range(size // 2**20):
                    member.write(bytes(2**20))
    else:
        with gzip.open(path, "w", 1) as packed, tarfile.open(fileobj=packed, mode="w|") as archive:
            for member, content, length in (("whole.png", io.BytesIO(png()), len(png())), (name, Zeros(size), size)):
                info = tarfile.TarInfo(member)
                info.size = length
                archive.addfile(info, content)
    return path


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_a_zip_bomb_is_refused_by_name(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(archives, "BOMB_BYTES", 2**24)
    path = bomb(tmp_path / f"b{ending}", 2**25)
    with pytest.raises(ValueError, match=rf"'.*b{ending}' would unpack to 0.0 GB, [\d,]+ times its .* is a zip bomb"):
        load(path)


def test_a_bomb_of_another_kind_of_file_in_a_tar(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "BOMB_BYTES", 2**24)
    with pytest.raises(ValueError, match="zip bomb and no set of pictures"):
        load(bomb(tmp_path / "b.tar.gz", 2**25, "notes.txt"))


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_a_member_too_large_for_a_picture_is_named_and_not_read(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(archives, "LARGEST", 10**6)
    reading = open_pictures(bomb(tmp_path / f"b{ending}", 2**21))
    assert reading.skipped == {"bomb.png": "2 MB, which is no picture"}


def test_a_zip_that_lies_about_a_size_gives_no_more_than_it_says(tmp_path):
    path = bomb(tmp_path / "b.zip", 2**22)
    raw = path.read_bytes()
    packed = zipfile.ZipFile(path).getinfo("bomb.png")
    size = packed.file_size.to_bytes(4, "little")
    at = raw.rindex(size)  # in the list of contents, at the end
    path.write_bytes(raw[:at] + (1000).to_bytes(4, "little") + raw[at + 4 :])
    reading = open_pictures(path)
    assert reading.skipped == {"bomb.png": "damaged"} and reading.shape[0] == 1


def test_a_picture_of_too_many_pixels_is_named(tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    for name, side in (("fine", 100), ("large", 120), ("huge", 200)):
        Image.new("1", (side, side)).save(tmp_path / f"{name}.png")
    reading = open_pictures(tmp_path)
    assert reading.skipped == dict.fromkeys(["huge.png", "large.png"], "more than 0 million pixels")
    assert not recwarn


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tar.xz"])
def test_an_empty_file_is_no_archive(tmp_path, ending):
    path = tmp_path / f"nothing{ending}"
    path.touch()
    with pytest.raises(ValueError, match=rf"archive '.*nothing{ending}' cannot be read to its end \(.*; get it again"):
        load(path)


def test_a_locked_zip_is_named(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", png())
    raw = bytearray(path.read_bytes())
    raw[6] |= 1  # "a password is needed", in the member's own header and in the list
    raw[raw.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"None of the 1 images in '.*x.zip' can be read, e.g. 'a.png' \(damaged\)"):
        load(path)


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_names_that_lead_out_are_named_by_load(tmp_path, capsys, ending):
    path = tmp_path / f"x{ending}"
    files = {"../up.png": png(), "/etc/abs.png": png(), "in/good.png": png()}
    if ending == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, "w") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    assert len(load(path)) == 1
    assert capsys.readouterr().out == (
        "Unreadable and left out: ../up.png (its name leads out of the archive), "
        "/etc/abs.png (its name leads out of the archive).\n"
    )
    assert not (tmp_path.parent / "up.png").exists()


def test_pages_and_empty_files_among_the_pictures_are_named_by_load(tmp_path, capsys):
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "a.jpg").write_text("<!DOCTYPE html><html><title>Sign in</title></html>")
    (folder / "b.png").touch()
    (folder / "c.png").write_bytes(png())
    images = load(folder)
    assert images.skipped == ("a.jpg", "b.png") and len(images) == 1
    assert capsys.readouterr().out == "Unreadable and left out: a.jpg (a web page), b.png (empty).\n"
    (folder / "c.png").unlink()
    with pytest.raises(ValueError, match=r"None of the 2 images in '.*pets' can be read, e.g. 'a.jpg' \(a web page\)"):
        load(folder)


def test_members_of_a_folder_come_in_the_order_of_their_names(tmp_path):
    for name in ("b/1.png", "a/2.png", "c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png())
    assert [name for name, _ in archives.members(tmp_path)] == ["c.png", "a/2.png", "b/1.png"]
