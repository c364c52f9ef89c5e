"""Films: frames, times, loops and sizes, read back from the files."""

import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from ganlib.viz import grid
from ganlib.viz.film import animation, frames_of, save_gif
from helpers import history, noise


def flat(value, size=8):
    return torch.full((1, 1, size, size), value, dtype=torch.uint8)


def frames(film):
    """Every frame of a file or bytes: RGB pixels and milliseconds."""
    with Image.open(io.BytesIO(film) if isinstance(film, bytes) else film) as image:
        every = ImageSequence.Iterator(image)
        return [(np.asarray(frame.convert("RGB")).astype(int), frame.info.get("duration")) for frame in every]


@pytest.mark.parametrize("channels", [1, 3])
def test_gif_has_its_frames_its_time_and_loops_forever(tmp_path, channels):
    path = save_gif([noise(4, channels, seed=k) for k in range(9)], tmp_path / "film.gif", fps=8, hold_last=1.5)
    durations = [duration for _, duration in frames(path)]
    assert len(durations) == 9 and b"NETSCAPE2.0\x03\x01\x00\x00\x00" in path.read_bytes()  # 0 rounds: without end
    assert set(durations[:-1]) <= {120, 130} and sum(durations) == 9 * 125 + 1500 - 5  # 0.005 s is lost, once
    film = [flat(0), flat(0), flat(255), flat(255), flat(255), flat(0)]
    merged = frames(save_gif(film, path, fps=10, hold_last=0))
    assert [(pixels[5, 5, 0], duration) for pixels, duration in merged] == [(0, 200), (255, 300), (0, 100)]


@pytest.mark.parametrize("kind", ["gif", "png"])
def test_colours_stay_apart_and_grey_has_128_shades(tmp_path, kind):
    colours = [(250, 10, 10), (10, 240, 20), (0, 0, 200), (128, 128, 128)]
    picture = np.array(colours, np.uint8).repeat(16, axis=0).reshape(8, 8, 3)
    found = frames(animation([picture, picture[::-1].copy()]).save(tmp_path / f"film.{kind}"))
    assert np.abs(found[-2][0] - picture).max() <= 4 and np.abs(found[-1][0] - picture[::-1]).max() <= 4
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    pixels, _ = frames(animation([ramp, flat(0, 16)]).save(tmp_path / f"film.{kind}"))[-2]
    assert np.abs(pixels - grid(ramp)).max() <= 1 and len(np.unique(pixels)) == 128


def test_a_film_stays_within_its_bytes_and_ends_on_the_last_frame(tmp_path):
    film = animation([noise(4, seed=k, size=16) for k in range(12)], fps=10, hold_last=1)
    full = film.save(tmp_path / "full.gif").stat().st_size
    path = film.save(tmp_path / "small.gif", max_bytes=full // 4)
    small = frames(path)
    assert path.stat().st_size <= full // 4
    assert 1 < len(small) < 12 and sum(duration for _, duration in small) == 1200 + 1000
    assert np.abs(small[-1][0] - film.pictures[-1]).max() <= 255 / 15 / 2 + 1
    ((pixels, duration),) = frames(film.save(path, max_bytes=1))  # what cannot be small enough is one frame
    assert duration == 2200 and np.abs(pixels - film.pictures[-1]).max() <= 255 / 31 / 2 + 1


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "P")])
def test_animation_is_an_animated_png(channels, mode):
    data = animation([noise(4, channels, seed=k) for k in range(7)], fps=8, hold_last=1, scale=2)._repr_png_()
    head = data.index(b"acTL")
    assert struct.unpack(">II", data[head + 4 : head + 12]) == (7, 0)  # frames, and rounds without end
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == mode and image.is_animated and image.default_image
    (still, _), *film = frames(data)
    assert sum(time for _, time in film) == pytest.approx(875 + 1000, abs=6) and film[-1][1] > 1000
    assert len(film) == 7 and still.shape == (44, 44, 3)
    assert [np.array_equal(still, pixels) for pixels, _ in film] == [False] * 6 + [True]  # it is the last frame


def test_animation_saves_by_suffix_and_tells_its_size(tmp_path):
    film = animation([flat(0), flat(255)], fps=4, hold_last=1)
    assert len(film) == 2 and repr(film) == "Animation(2 frames, 12 × 12 pixels, 1.5 s)"
    assert film.save(tmp_path / "a.PNG").read_bytes() == film._repr_png_()
    assert len(frames(animation([flat(0)])._repr_png_())) == 1


@pytest.mark.parametrize(
    ("make", "given", "options", "message"),
    [
        (animation, [], {}, "no frames"),
        (animation, [flat(0), flat(0, 9)], {}, r"\[12, 12, 1\] and \[13, 13, 1\]"),
        (animation, [flat(0)], {"fps": 0}, "fps is 0"),
        (animation, [flat(0)], {"fps": 60}, "fps is 60.*50"),
        (animation, [flat(0)], {"hold_last": -1}, "hold_last is -1"),
        (save_gif, [flat(0)], {"path": "a.mp4"}, "a.mp4"),
        (frames_of, [], {}, "no snapshots"),
        (frames_of, history(), {"at_most": 0}, "0 snapshots"),
    ],
)
def test_what_makes_no_film_is_named(make, given, options, message):
    with pytest.raises(ValueError, match=message):
        make(given, **options)


def test_frames_of_spreads_over_the_run():
    run = history()  # snapshots at 0, 20, ..., 200
    for given, at_most, chosen in ((run, 60, range(11)), (run, 3, (0, 5, 10)), (run.snapshots, 1, (10,))):
        assert [id(f) for f in frames_of(given, at_most)] == [id(run.snapshots[k][1]) for k in chosen]
