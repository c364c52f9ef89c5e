"""Teasers: a moving picture for each notebook, with a text and a still, small and in the package."""

import base64
import io
import re

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from ganlib import viz
from helpers import NOTEBOOKS, ROOT, load_script

make_teasers = load_script("make_teasers")


@pytest.mark.parametrize("notebook", [path.stem for path in NOTEBOOKS])
def test_each_notebook_has_one_that_moves_is_small_and_is_told(notebook):
    shown, _ = DisplayFormatter().format(viz.teaser(notebook[:2]))
    found = re.fullmatch(r'<img alt="([^"<>]+)" width="(\d+)" src="data:image/webp;base64,(.+)">', shown["text/html"])
    alt, width, film = found[1], int(found[2]), base64.b64decode(found[3])
    assert film == (ROOT / "ganlib" / "viz" / "teasers" / f"{notebook}.webp").read_bytes() and len(film) <= 250_000
    assert 480 <= width <= 960 and shown["text/plain"] == alt and len(alt) > 80
    with Image.open(io.BytesIO(film)) as moving, Image.open(io.BytesIO(shown["image/png"])) as still:
        assert moving.format == "WEBP" and moving.n_frames >= 15 and moving.info["loop"] == 0
        assert width % moving.width == 0 and still.size == moving.size
        first = np.asarray(moving.convert("RGB"), float)
        moving.seek(moving.n_frames - 1)
        last = np.asarray(moving.convert("RGB"), float)
        assert np.abs(np.asarray(still.convert("RGB")) - last).mean() < 5 < np.abs(first - last).mean()
    assert notebook[:2] not in ("04", "05") or "non-commercial research only" in alt


def test_the_script_makes_them_from_the_gallery():
    others = {"05_latent_space", "06_scores", "08_modern", "09_clinic"}
    assert {*make_teasers.FILMS, *others} == {path.stem for path in NOTEBOOKS}
    frames = make_teasers.walk(5)
    assert len({frame.tobytes() for frame in frames}) == 5 and {frame.size for frame in frames} == {(266, 68)}
    assert all(
        (ROOT / "examples" / "gallery" / film / "training.gif").is_file() for film, *_ in make_teasers.FILMS.values()
    )


def test_the_strip_of_the_readme_moves_and_is_small():
    path = ROOT / "examples" / "gallery" / "strip.webp"
    assert f"({path.relative_to(ROOT)})" in (ROOT / "README.md").read_text() and path.stat().st_size < 1_000_000
    with Image.open(path) as film:
        assert film.size == (5 * 182 + 4 * 6, 182) and film.n_frames >= 24 and film.info["loop"] == 0
        first, _ = np.asarray(film.convert("RGB"), float), film.seek(film.n_frames - 1)
        changed = np.abs(first - np.asarray(film.convert("RGB"), float)).mean((0, 2))
    assert all(changed[188 * k : 188 * k + 182].mean() > 5 for k in range(5))


def test_a_film_is_cut_slowed_and_kept_small(tmp_path, monkeypatch, capsys):
    draw = np.random.default_rng(0)
    frames = [Image.fromarray(draw.integers(0, 255, (82, 82, 3), np.uint8)) for _ in range(9)]
    frames[0].save(tmp_path / "training.gif", save_all=True, append_images=frames[1:], duration=100)
    whole = make_teasers.teaser(tmp_path / "training.gif", None, 3, 2)
    monkeypatch.setattr(make_teasers, "LARGEST", 2 * len(whole) // 3)
    small = make_teasers.teaser(tmp_path / "training.gif", 4, 9, 1)
    assert len(small) <= 2 * len(whole) // 3
    for film, size, count in ((whole, (82, 82), 3), (small, (82, 42), 9)):
        with Image.open(io.BytesIO(film)) as image:
            assert (image.size, image.n_frames) == (size, count)
            times = []
            for k in range(count):
                image.seek(k)
                image.load()
                times.append(image.info["duration"])
        assert times[0] == round(6000 / count) and times[-1] == times[0] + 2000
    (quality,) = re.findall(r"9 frames, .* at quality (\d+)", capsys.readouterr().out)
    assert int(quality) < 80


def test_an_unknown_notebook_is_named():
    with pytest.raises(ValueError, match="no teaser '7'; there are: 00, 01, 02, 03, 04, 05, 06, 07"):
        viz.teaser("7")
