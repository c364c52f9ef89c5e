"""Films: frames, times, loops and sizes, read back from the files."""

import io
import struct

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from ganlib.viz import images as viz
from ganlib.viz.film import animation, frames_of, save_gif
from helpers import history, noise


def flat(value, n=1, channels=1, size=8):
    return torch.full((n, channels, size, size), value, dtype=torch.uint8)


def png_chunks(data):
    """(type, body) of each chunk of a PNG, its checksum left to PIL."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, found = 8, []
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_gif_has_its_frames_its_time_and_loops_forever(tmp_path, channels):
    frames = [noise(4, channels, seed=k) for k in range(9)]
    path = save_gif(frames, tmp_path / "film.gif", fps=8, hold_last=1.5)
    with Image.open(path) as film:
        assert film.n_frames == 9 and film.info["loop"] == 0
        durations = []
        for k in range(9):
            film.seek(k)
            durations.append(film.info["duration"])
    assert set(durations[:-1]) <= {120, 130} and sum(durations) == 9 * 125 + 1500 - 5  # 0.005 s is lost, once
    assert iio.imread(path, index=None).shape[:3] == (9, 22, 22)


def test_gif_merges_identical_neighbours_and_keeps_their_time(tmp_path):
    frames = [flat(0), flat(0), flat(255), flat(255), flat(255), flat(0)]
    path = save_gif(frames, tmp_path / "film.gif", fps=10, hold_last=0)
    with Image.open(path) as film:
        found = []
        for k in range(film.n_frames):
            film.seek(k)
            found.append((film.convert("L").getpixel((5, 5)), film.info["duration"]))
    assert found == [(0, 200), (255, 300), (0, 100)]
    with Image.open(save_gif([flat(9)] * 3, path)) as film:
        assert film.n_frames == 1


def test_gif_of_colour_keeps_colours_apart_and_pure(tmp_path):
    colours = [(250, 10, 10), (10, 240, 20), (0, 0, 200), (128, 128, 128)]
    picture = np.array(colours, np.uint8).repeat(16, axis=0).reshape(8, 8, 3)
    path = save_gif([picture, picture[::-1].copy()], tmp_path / "film.gif")
    first, second = iio.imread(path, index=None)
    assert np.abs(first[..., :3].astype(int) - picture).max() <= 4
    assert np.abs(second[..., :3].astype(int) - picture[::-1]).max() <= 4


def test_a_film_stays_within_its_bytes_and_ends_on_the_last_frame(tmp_path):
    frames = [noise(4, seed=k, size=16) for k in range(12)]
    film = animation(frames, fps=10, hold_last=1)
    whole = film.save(tmp_path / "whole.gif").stat().st_size
    path = film.save(tmp_path / "small.gif", max_bytes=whole // 4)
    assert path.stat().st_size <= whole // 4
    with Image.open(path) as small:
        total = 0
        for k in range(small.n_frames):
            small.seek(k)
            total += small.info["duration"]
        assert 1 < small.n_frames < 12 and total == 1200 + 1000
        last = np.asarray(small.convert("L")).astype(int)
    assert np.abs(last - viz.grid(frames[-1])[..., 0]).max() <= 255 / 15 / 2 + 1


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "P")])
def test_animation_is_an_animated_png(channels, mode):
    film = animation([noise(4, channels, seed=k) for k in range(7)], fps=8, hold_last=1, scale=2)
    data = film._repr_png_()
    chunks = png_chunks(data)
    ((frames, plays),) = [struct.unpack(">II", body) for kind, body in chunks if kind == b"acTL"]
    controls = [struct.unpack(">IIIIIHHBB", body) for kind, body in chunks if kind == b"fcTL"]
    assert (frames, plays, len(controls)) == (7, 0, 7)
    seconds = [control[5] / control[6] for control in controls]
    assert sum(seconds) == pytest.approx(7 / 8 + 1, abs=0.006) and seconds[-1] > 1
    assert sum(kind == b"PLTE" for kind, _ in chunks) == (channels == 3)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == mode and image.is_animated and image.default_image
        seen = []
        for k in range(image.n_frames):
            image.seek(k)
            seen.append(np.asarray(image.convert("RGB")))
    assert len(seen) == 8 and seen[0].shape == (44, 44, 3)
    assert np.array_equal(seen[0], seen[-1])  # the still is the last frame
    assert all(not np.array_equal(a, b) for a, b in zip(seen, seen[1:], strict=False))


def test_animation_saves_by_suffix_and_tells_its_size(tmp_path):
    film = animation([flat(0), flat(255)], fps=4, hold_last=1)
    assert len(film) == 2 and repr(film) == "Animation(2 frames, 12 × 12 pixels, 1.5 s)"
    assert film.save(tmp_path / "a.gif").read_bytes()[:6] == b"GIF89a"
    assert film.save(tmp_path / "a.PNG").read_bytes() == film._repr_png_()
    with pytest.raises(ValueError, match=r"saved as .gif or .png, but '.*a.mp4' ends in neither"):
        film.save(tmp_path / "a.mp4")
    assert animation([flat(0)])._repr_png_()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        ([], {}, "no frames to animate"),
        ([flat(0), flat(0, size=9)], {}, r"of one size, but some are \[12, 12, 1\] and \[13, 13, 1\]"),
        ([flat(0)], {"fps": 0}, "fps is 0, but must be above 0 and at most 50"),
        ([flat(0)], {"fps": 60}, "fps is 60, but must be above 0 and at most 50"),
        ([flat(0)], {"hold_last": -1}, "hold_last is -1 seconds, but must be 0 or more"),
        ([np.zeros((8, 8, 4), np.uint8)], {}, r"shape \[8, 8, 4\] and type uint8 cannot be drawn"),
    ],
)
def test_wrong_frames_get_a_sentence(frames, options, message):
    with pytest.raises(ValueError, match=message):
        animation(frames, **options)


def test_frames_of_spreads_over_the_run():
    run = history()  # snapshots at 0, 20, ..., 200
    assert [id(f) for f in frames_of(run)] == [id(images) for _, images in run.snapshots]
    few = frames_of(run, at_most=3)
    assert [id(f) for f in few] == [id(run.snapshots[k][1]) for k in (0, 5, 10)]
    assert frames_of(run.snapshots, at_most=1)[0] is run.snapshots[-1][1]
    with pytest.raises(ValueError, match="holds no snapshots"):
        frames_of([])
    with pytest.raises(ValueError, match="Asked for 0 snapshots"):
        frames_of(run, at_most=0)
