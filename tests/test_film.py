"""Films: frames, times, loops and sizes, read back from the files."""

import base64
import html
import io
import re
import sys

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from ganlib.viz import film as films
from ganlib.viz import grid
from ganlib.viz.film import animation, save_gif
from helpers import history, noise


def flat(value, size=8):
    return torch.full((1, 1, size, size), value, dtype=torch.uint8)


def frames(film):
    """Every frame of a file or bytes: RGB pixels and milliseconds."""
    with Image.open(io.BytesIO(film) if isinstance(film, bytes) else film) as image:
        found = [(frame.convert("RGB"), frame.info.get("duration")) for frame in ImageSequence.Iterator(image)]
        return [(np.asarray(frame).astype(int), duration) for frame, duration in found]


def shown(film):
    """What a notebook shows of a film: its bytes, its width and alt text, and the bytes of the still."""
    bundle = film._repr_mimebundle_()
    assert bundle.pop("text/plain") == repr(film)
    pattern = r'<img alt="([^"]*)" width="(\d+)" src="data:image/webp;base64,([^"]*)">'
    text, width, content = re.fullmatch(pattern, bundle.pop("text/html")).groups()
    ((kind, still),) = bundle.items()
    assert kind in ("image/png", "image/jpeg")
    return base64.b64decode(content), int(width), html.unescape(text), base64.b64decode(still)


@pytest.mark.parametrize("channels", [1, 3])
def test_gif_has_its_frames_its_time_and_loops_forever(tmp_path, channels):
    path = save_gif([noise(4, channels, seed=k) for k in range(9)], tmp_path / "film.gif", fps=8, hold_last=1.5)
    durations = [duration for _, duration in frames(path)]
    assert len(durations) == 9 and b"NETSCAPE2.0\x03\x01\x00\x00\x00" in path.read_bytes()  # 0 rounds: without end
    assert set(durations[:-1]) <= {120, 130} and sum(durations) == 9 * 125 + 1500 - 5  # 0.005 s is lost, once
    film = [flat(0), flat(0), flat(255), flat(255), flat(255), flat(0)]
    merged = frames(save_gif(film, path, fps=10, hold_last=0))
    assert [(pixels[5, 5, 0], duration) for pixels, duration in merged] == [(0, 200), (255, 300), (0, 100)]


def test_gif_has_256_colours_that_stay_apart(tmp_path):
    colours = [(250, 10, 10), (10, 240, 20), (0, 0, 200), (128, 128, 128)]
    picture = np.array(colours, np.uint8).repeat(16, axis=0).reshape(8, 8, 3)
    found = frames(save_gif([picture, picture[::-1].copy()], tmp_path / "film.gif"))
    assert np.abs(found[0][0] - picture).max() <= 4 and np.abs(found[1][0] - picture[::-1]).max() <= 4
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    pixels, _ = frames(save_gif([ramp, flat(0, 16)], tmp_path / "film.gif"))[0]
    assert np.array_equal(pixels, np.broadcast_to(grid(ramp), pixels.shape))  # every shade of grey
    many = [noise(4, 3, seed=k, size=16) for k in range(5)]
    each = [np.unique(pixels.reshape(-1, 3), axis=0) for pixels, _ in frames(save_gif(many, tmp_path / "film.gif"))]
    assert 128 < len(np.unique(np.concatenate(each), axis=0)) <= 256  # the same for all frames


@pytest.mark.parametrize("channels", [1, 3])
def test_a_notebook_shows_every_frame_large_enough_with_its_time(channels):
    pictures = [noise(4, channels, seed=k) for k in range(7)]
    film = animation(pictures, fps=8, hold_last=1)
    content, width, text, still = shown(film)
    found = frames(content)
    assert width == 484 == found[0][0].shape[1]  # the 22 pixels of the grid, 22 times
    assert [duration for _, duration in found] == film.durations and sum(film.durations) == 880 + 1000
    for (pixels, _), picture in zip(found, pictures, strict=True):
        assert np.abs(pixels[11::22, 11::22] - grid(picture)).mean() < 6  # of 255
    assert Image.open(io.BytesIO(content)).info["loop"] == 0  # without end
    assert text == "A film of 7 frames, 22 × 22 pixels"
    assert np.abs(frames(still)[0][0] - grid(pictures[-1])).mean() < 6  # the last one
    assert shown(animation([np.zeros((9, 500, 3), np.uint8)]))[1] == 500  # large enough as it is


def test_a_film_may_have_one_frame(tmp_path):
    film = animation([(0, noise())])
    assert len(frames(film.save(tmp_path / "one.gif"))) == len(frames(shown(film)[0])) == 1


def test_a_film_that_would_be_too_large_loses_detail_but_no_frame(tmp_path, monkeypatch):
    film = animation([noise(4, seed=k, size=16) for k in range(12)], fps=10, hold_last=1)
    full = {kind: film.save(tmp_path / f"full{kind}").stat().st_size for kind in (".gif", ".webp")}
    whole = len(shown(film)[0])
    monkeypatch.setattr(films, "ON_DISK", 0.6 * min(full.values()))
    monkeypatch.setattr(films, "ON_PAGE", 0.9 * whole)
    for kind, size in full.items():
        small = film.save(tmp_path / f"small{kind}")
        assert small.stat().st_size < size and len(frames(small)) == 12
        assert sum(duration for _, duration in frames(small)) == 1200 + 1000
    content = shown(film)[0]
    assert len(content) < whole and len(frames(content)) == 12


def test_a_strip_above_the_picture_counts_the_steps(tmp_path):
    run = history()  # snapshots at 0, 20, ..., 200
    plain = frames(shown(animation([images for _, images in run.snapshots], fps=10, scale=20))[0])
    content, width, text, _ = shown(animation(run, fps=10, scale=20))
    counted = frames(content)
    assert len(plain) == len(counted) == 11 and counted[0][0].shape[0] == plain[0][0].shape[0] + films.HEADER
    for (pixels, _), (picture, _) in zip(counted, plain, strict=True):
        assert np.abs(pixels[films.HEADER :] - picture).mean() < 6
        assert pixels[: films.HEADER].min() < 60 and pixels[:4].min() > 200  # black on white
    assert not np.array_equal(counted[0][0][: films.HEADER], counted[1][0][: films.HEADER])
    assert text == f"A film of 11 frames, {width} × {plain[0][0].shape[0]} pixels, from step 0 to step 200"
    same = [(step, flat(0, 64)) for step in (1000, 2000)]  # in a file the strip is the only change, too
    first, second = (pixels for pixels, _ in frames(save_gif(same, tmp_path / "film.gif")))
    assert (first != second).any(axis=(1, 2)).nonzero()[0].max() < films.HEADER


def test_names_stand_above_their_columns():
    run, names = [(step, noise(4, 1, 32)) for step in (0, 5)], ["cat", "automobile"]
    plain, named = (animation(run, columns=columns, cols=2, scale=3) for columns in ((), names))
    one, two = (film._frames(1)[0] for film in (plain, named))
    assert two.width == one.width and two.height == one.height + films.HEADER
    strip = np.asarray(two.convert("L"))[films.HEADER : 2 * films.HEADER] < 128
    left, right = strip[:, : two.width // 2], strip[:, two.width // 2 :]
    assert 0 < left.any(0).sum() < right.any(0).sum()  # the longer name is the wider
    assert abs(np.flatnonzero(left.any(0)).mean() - two.width / 4) < 4
    assert np.array_equal(np.asarray(two)[2 * films.HEADER :], np.asarray(one)[films.HEADER :])


def test_the_alt_text_is_escaped():
    film = animation([flat(0)], alt='"D" < 1/2 & falling')
    assert 'alt="&quot;D&quot; &lt; 1/2 &amp; falling"' in film._repr_mimebundle_()["text/html"]
    assert shown(film)[2] == '"D" < 1/2 & falling'


@pytest.mark.parametrize("suffix", [".webp", ".mp4"])
def test_other_kinds_of_file_have_every_frame_and_the_time(tmp_path, suffix):
    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg", reason="films as .mp4 need the extra `video`")
    values = [0, 60, 120, 180, 240]
    film = animation([flat(value, 61) for value in values], fps=5, hold_last=1)  # 65 × 65, made even for an MP4
    path = film.save(tmp_path / f"film{suffix.upper()}")
    if suffix == ".webp":
        found = frames(path)
        assert [duration for _, duration in found] == [200, 200, 200, 200, 1200]
        pictures = [pixels for pixels, _ in found]
    else:
        meta = iio.immeta(path, plugin="FFMPEG")
        assert meta["fps"] == 5 and meta["size"] == (66, 66) and meta["duration"] == pytest.approx(2.0)
        pictures = list(iio.imread(path, plugin="FFMPEG"))
        values = [*values, *values[-1:] * 5]
    assert len(pictures) == len(values)
    assert np.abs([int(pixels[30, 30, 1]) - value for pixels, value in zip(pictures, values, strict=True)]).max() <= 6


def test_what_an_mp4_lacks_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match=r"pip install imageio-ffmpeg.*`video`"):
        animation([flat(0)]).save(tmp_path / "film.mp4")


def test_animation_tells_its_size():
    film = animation([flat(0), flat(255)], fps=4, hold_last=1)
    assert len(film) == 2 and repr(film) == "Animation(2 frames, 12 × 12 pixels, 1.5 s)"


@pytest.mark.parametrize(
    ("make", "given", "options", "message"),
    [
        (animation, [], {}, "no frames"),
        (animation, [flat(0), flat(0, 9)], {}, r"\[12, 12, 1\] and \[13, 13, 1\]"),
        (animation, [flat(0)], {"fps": 0}, "fps is 0"),
        (animation, [flat(0)], {"fps": 60}, "fps is 60.*50"),
        (animation, [flat(0)], {"hold_last": -1}, "hold_last is -1"),
        (save_gif, [flat(0)], {"path": "a.mov"}, r"\.gif, \.webp, \.mp4, but 'a.mov'"),
    ],
)
def test_what_makes_no_film_is_named(make, given, options, message):
    with pytest.raises(ValueError, match=message):
        make(given, **options)
