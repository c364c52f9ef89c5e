"""Snapshots on disk lose nothing."""

import pytest
import torch
from PIL import Image

from ganlib.runs import frames
from helpers import noise


@pytest.mark.parametrize(("n", "channels"), [(1, 1), (8, 3), (11, 1), (64, 3), (5, 2)])
def test_a_snapshot_comes_back_bit_for_bit(tmp_path, n, channels):
    images = noise(n, channels, 12)[:, :, :, :10]  # not square, not contiguous
    frame = frames.write(tmp_path, 40, images)
    back = frames.read(tmp_path, frame)
    assert torch.equal(back, images) and back.dtype == torch.uint8
    assert [path.name for path in tmp_path.iterdir()] == ["step-000040.png"]


def test_the_picture_is_the_grid_that_a_reader_expects(tmp_path):
    images = noise(10, 3, 12)
    frames.write(tmp_path, 0, images)
    with Image.open(tmp_path / "step-000000.png") as picture:
        assert picture.size == (8 * 12, 2 * 12) and picture.mode == "RGB"
        assert picture.getpixel((12 * 1 + 5, 12 + 3)) == tuple(images[9, :, 3, 5].tolist())


def test_the_images_of_a_file_without_knowing_how_many(tmp_path):
    for channels in (1, 3):
        images = noise(11, channels, 12)[:, :, :, :10]
        frames.write(tmp_path, channels, images)
        cells = frames.cells(frames.path_of(tmp_path, channels), 12, 10)
        assert torch.equal(cells[:11], images) and cells.shape == (16, channels, 12, 10) and not cells[11:].any()
    with pytest.raises(ValueError, match="holds no images of 9×9 pixels"):
        frames.cells(frames.path_of(tmp_path, 3), 9, 9)
    (tmp_path / "page.png").write_text("<html>")
    with pytest.raises(ValueError, match="page.png' is damaged"):
        frames.cells(tmp_path / "page.png", 12, 10)


def test_a_lost_snapshot_is_told(tmp_path, capsys):
    first, second = noise(4, seed=1), noise(4, seed=2)
    frame = frames.write(tmp_path, 3, first)
    path = frames.path_of(tmp_path, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert frames.read(tmp_path, frame) is None
    frames.write(tmp_path, 3, second)  # another one
    assert frames.read(tmp_path, frame) is None
    frames.write(tmp_path, 3, noise(4, size=9))
    assert frames.read(tmp_path, frame) is None
    path.unlink()
    assert frames.read(tmp_path, frame) is None
    assert capsys.readouterr().out.count("step-000003.png' is missing or damaged; the history goes on without") == 4
