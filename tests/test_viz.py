"""Pictures pixel by pixel, and the sentences for what cannot be drawn."""

import base64
import html
import io
import re
import subprocess
import sys
from types import SimpleNamespace
from unittest import mock

import imageio.v3 as iio
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from ganlib.data import ImageSet
from ganlib.train import History
from ganlib.viz import alt, animation, controls, network, register
from ganlib.viz import images as viz
from helpers import ROOT, history, noise


def displayed(figure):
    """Type, bytes, width and alt text of what a notebook shows of a figure; it must be one picture."""
    from IPython.core.formatters import DisplayFormatter

    formatter = DisplayFormatter()
    shell = SimpleNamespace(display_formatter=formatter)
    with mock.patch("IPython.get_ipython", lambda: shell), mock.patch("IPython.display.display") as display:
        register()
        data, _ = formatter.format(figure)
    ((shown,), _), *more = display.call_args_list
    assert data == {} and not more and shown.pop("text/plain")
    ((kind, tag),) = shown.items()
    assert kind == "text/html"
    found = re.fullmatch(r'<img alt="([^"]*)" width="(\d+)" src="data:(image/\w+);base64,([^"]*)">', tag)
    return found[3], base64.b64decode(found[4]), int(found[2]), html.unescape(found[1])


def drawn(figure):
    """The pixels of the page: every second one of a picture with twice as many."""
    _, content, width, _ = displayed(figure)
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    times = pixels.shape[1] // width
    assert pixels.shape[1] == times * width
    return pixels[::times, ::times]


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_puts_every_pixel_where_it_says(channels):
    images = noise(5, channels, size=4)
    sheet = viz.grid(images, cols=3, pad=1, scale=2)
    assert sheet.dtype == np.uint8 and sheet.shape == (2 * 11, 2 * 16, channels)
    for k in range(5):
        y, x = 2 * (1 + k // 3 * 5), 2 * (1 + k % 3 * 5)
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            assert np.array_equal(sheet[y + dy : y + 8 : 2, x + dx : x + 8 : 2], images[k].permute(1, 2, 0).numpy())
    assert (sheet[:, :2] == 255).all() and (sheet[10:12] == 255).all()  # the gaps
    assert (sheet[12:20, 22:30] == 255).all()  # the empty sixth place
    for n, pad, shape in ((64, 2, (82, 82)), (10, 2, (32, 42)), (4, 0, (16, 16))):  # square, and without seams
        assert viz.grid(noise(n, channels), pad=pad).shape == (*shape, channels)


def test_float_images_sets_and_finished_pictures_are_drawn_too():
    ramp = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 1, 1, 3)
    for images in (ramp, ramp.bfloat16(), ramp.double().numpy(), ramp.requires_grad_()):
        assert viz.grid(images, pad=0)[0, :, 0].tolist() in ([0, 128, 255], [0, 127, 255])
    assert np.array_equal(viz.grid(ImageSet(noise(), None, (), "x", "noise")), viz.grid(noise()))
    picture = noise(1, 3, size=4)[0].permute(1, 2, 0).numpy()  # finished: it is only enlarged
    assert np.array_equal(viz.grid(picture, cols=4, pad=3, scale=2)[::2, 1::2], picture)


@pytest.mark.parametrize(
    ("draw", "given", "options", "message"),
    [
        (viz.grid, torch.zeros(3, 8, 8), {}, r"\[3, 8, 8\].*\[N, C, H, W\]"),
        (viz.grid, torch.zeros(2, 2, 8, 8), {}, r"\[2, 2, 8, 8\].*C = 1, 3 or 4"),
        (viz.grid, np.zeros((8, 8, 5), np.uint8), {}, r"\[8, 8, 5\].*\[N, C, H, W\]"),
        (viz.grid, torch.full((1, 1, 8, 8), float("nan")), {}, "NaN"),
        (viz.grid, noise(), {"cols": 0}, "cols is 0, .* at least 1"),
        (viz.grid, noise(), {"pad": -1}, "pad is -1, .* at least 0"),
        (viz.show, noise(), {"scale": 1.5}, "scale is 1.5, .* whole number"),
        (viz.show, noise(6), {"rows": ["G", "D"], "cols": 2}, "2 names for 3 rows"),
        (viz.show, noise(6), {"columns": "abc", "cols": 2}, "3 names for 2 columns"),
        (viz.strip, history(), {"n": 0}, "n is 0"),
        (viz.strip, history(), {"columns": 0}, "0 snapshots"),
        (viz.curves, history(), {"score": "fid"}, "'fid'.*fd, sure"),
        (viz.curves, history(steps=0), {}, "no losses yet"),
    ],
)
def test_what_cannot_be_drawn_is_named(draw, given, options, message):
    with pytest.raises(ValueError, match=message):
        draw(given, **options)


@pytest.mark.parametrize("channels", [1, 3])
def test_show_is_pixel_for_pixel_the_grid_and_leaves_no_figure_open(channels):
    images = noise(6, channels)
    figures = viz.show(images, cols=3, scale=3), viz.show(images, "six images of noise, and a title", cols=3, scale=3)
    with plt.rc_context({"savefig.bbox": "tight"}):
        plain, titled = map(drawn, figures)
    sheet = np.broadcast_to(viz.grid(images, cols=3, scale=3), plain.shape)
    assert np.array_equal(plain, sheet) and np.array_equal(titled[28:, : sheet.shape[1]], sheet)
    assert (titled[:28] < 128).any() and titled.shape[1] > sheet.shape[1]
    assert plt.get_fignums() == []  # else the inline backend would show it a second time
    for n, size, side in ((64, 28, 484), (1, 28, 128), (1, 700, 704)):  # it picks a scale that fits
        assert drawn(viz.show(noise(n, size=size))).shape[:2] == (side, side)
    assert drawn(viz.show(noise(24, size=28), cols=24)).shape == (2 * 32, 2 * (24 * 30 + 2), 3)  # or large enough


def test_names_stand_beside_their_rows_and_above_their_columns():
    images = noise(6, 3, size=28)
    figure = viz.show(images, "a title", rows=["reals", "fakes"], columns=["a", "b", "a rather long name"])
    page, (title, *names) = drawn(figure), figure.texts
    sheet = viz.grid(images, cols=3, scale=5)  # the scale at which the longest name has room
    left = page.shape[1] - sheet.shape[1]
    assert left >= 5 * 6.4 and np.array_equal(page[48:, left:], sheet)
    assert (page[:28] < 128).any() and (page[28:48, left:] < 128).any() and (page[48:, :left] < 128).any()
    assert title.get_text() == "a title" and [name.get_text() for name in names[:3]][2] == "a rather long name"
    middle = [left + 5 * (2 + 30 * k + 14) for k in range(3)] + [48 + 5 * (2 + 30 * k + 14) for k in range(2)]
    across = [name.get_position()[0] * page.shape[1] for name in names[:3]]
    down = [(1 - name.get_position()[1]) * page.shape[0] for name in names[3:]]
    assert np.allclose(across + down, middle, atol=1)
    assert viz.show(noise(7), rows="abcd").axes[0].images[0].get_size()[0] > 4 * 8  # two in a row, the last one alone


def own_figure():
    figure, (left, right) = plt.subplots(1, 2, figsize=(6, 3), layout="constrained")
    left.plot([0, 1], label="$D$")
    left.set(xlabel="x", ylabel="y", title='a "quoted" <title>')
    left.legend()
    right.plot([1, 0])
    return figure


@pytest.mark.parametrize(
    ("draw", "text"),
    [
        (lambda: viz.show(noise(6), "noise"), "noise: 6 images of 8 × 8 pixels"),
        (lambda: viz.show(viz.grid(noise(6))), "a picture"),
        (lambda: viz.show(noise(6), alt="six"), "six"),
        (lambda: viz.show(noise(6), columns=range(3)), "6 images of 8 × 8 pixels; columns 0, 1, 2"),
        (lambda: viz.strip(history(), n=3, columns=2), "Samples of the same 3 z, a row each, at step 0, step 200"),
        (lambda: network(torch.nn.Linear(3, 2), (3,), "tiny"), "tiny as boxes, one a layer: 3 → 2"),
        (own_figure, 'a "quoted" <title>; y against x; D'),
        (plt.figure, "a figure without titles"),
    ],
)
def test_every_figure_has_a_text_in_its_place_and_twice_the_pixels_of_the_page(draw, text):
    figure = draw()
    plt.close(figure)
    _, content, width, said = displayed(figure)
    assert said == text and Image.open(io.BytesIO(content)).width == 2 * width
    alt(figure, "& another <one>")
    assert displayed(figure)[3] == "& another <one>"


def test_curves_say_where_the_losses_and_the_score_end():
    run = history()
    run.losses = {"d_loss": [1.5] * 40, "g_loss": [0.5] * 60}
    run.scores = [(20, {"fd": 30.0}), (60, {"fd": 4.0})]
    said = "Curves over 60 steps: d_loss ends at 1.5, g_loss ends at 0.5, fd goes from 30 to 4"
    named = SimpleNamespace(**vars(run) | {"scores": [(60, {"fd_digitnet_1k": 4.0})]})
    assert viz.curves(named).axes[1].get_ylabel() == "FD (digitnet, 1k samples)"
    assert displayed(viz.curves(run))[3] == said and displayed(viz.curves(run, alt="down"))[3] == "down"


def test_a_large_picture_in_colour_is_shown_smaller_and_looks_the_same(tmp_path):
    g = torch.Generator().manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(100, 3, 4, 4, generator=g) * 2 - 1, 32, mode="bicubic")
    images = (images + 0.05 * torch.randn(images.shape, generator=g)).clamp(-1, 1)
    kind, content, width, _ = displayed(viz.show(images, scale=1))
    assert Image.open(io.BytesIO(content)).width == width  # twice the pixels would take thrice the bytes
    lossless = viz.save_png(images, tmp_path / "lossless.png").stat().st_size
    assert kind == "image/jpeg" and len(content) < 0.7 * lossless
    # The second is what a collapsed generator draws: Pillow's optimised JPEG ran out of room on it.
    for batch, most in ((images, 6), (noise(128, 3, size=32), 40)):  # of 255; 85 would be another picture
        assert np.abs(drawn(viz.show(batch, scale=1)).astype(int) - viz.grid(batch)).mean() < most


@pytest.mark.parametrize("channels", [1, 3])
def test_save_png_is_lossless(tmp_path, channels):
    images = noise(4, channels)
    for given, scale in ((images, 2), (viz.grid(images), 1)):  # the second is a finished picture, over the old file
        path = viz.save_png(given, tmp_path / "new" / "grid.png", scale=scale)
        assert np.array_equal(iio.imread(path).squeeze(), viz.grid(images, scale=scale).squeeze())
    with pytest.raises(OSError, match=r"grid.png.x.png.*choose another"):
        viz.save_png(images, path / "x.png")


def test_strip_has_a_row_for_each_z_and_names_its_columns():
    run = history(epoch=100)  # snapshots at 0, 20, ..., 200
    figure = viz.strip([run.snapshots[k] for k in (1, 5)], n=3)
    assert [text.get_text() for text in figure.texts] == ["step 20", "step 100"]
    picture = drawn(figure)[20:]
    first, last = run.snapshots[1][1], run.snapshots[5][1]
    order = torch.stack([first[0], last[0], first[1], last[1], first[2], last[2]])
    assert np.array_equal(picture[..., :1], viz.grid(order, cols=2, scale=picture.shape[1] // (2 + 2 * 10)))
    assert [text.get_text() for text in viz.strip(run, n=2, columns=3).texts] == ["epoch 0", "epoch 1", "epoch 2"]
    assert len(viz.strip(run.snapshots).texts) == 8


def test_curves_draw_each_loss_its_mean_and_its_equilibrium():
    run = history(steps=550, epoch=100)
    figure = viz.curves(run, equilibrium={"d_loss": 1.386})
    losses, scores = figure.axes[:2]
    raw, mean, level = losses.lines[:3]
    assert np.array_equal(raw.get_ydata(), run.losses["d_loss"]) and raw.get_xdata()[0] == 1
    assert mean.get_ydata()[100] == pytest.approx(np.mean(run.losses["d_loss"][95:106]))  # 11: a fiftieth of the run
    assert mean.get_ydata()[0] == pytest.approx(np.mean(run.losses["d_loss"][:6]))
    assert list(level.get_ydata()) == [1.386, 1.386]
    assert raw.get_color() == mean.get_color() == level.get_color() == viz.D_COLOR
    assert losses.lines[3].get_color() == viz.G_COLOR and losses.child_axes[0].get_xlabel() == "epoch"
    assert list(scores.lines[0].get_xdata())[:4] == [50, 100, 150, 200] and scores.get_ylabel() == "fd"
    assert viz.curves(run, score="sure").axes[1].get_ylabel() == "sure"
    assert drawn(figure).shape == (460, 720, 3)
    assert viz.curves(SimpleNamespace(**vars(run), first_step=1000)).axes[0].lines[0].get_xdata()[0] == 1001


def test_curves_without_scores_with_other_losses_and_after_nan():
    run = history(scores=False)
    run.losses |= {"penalty": [float("nan")] * 200, "g_loss": [5.0] * 200}
    run.losses["d_loss"][100] = float("nan")
    (losses,) = viz.curves(run).axes
    assert len(losses.lines) == 6 and losses.get_ylim()[0] < 1.4 and losses.get_ylim()[1] > 5.0
    values = np.array([1.0, np.nan, 3.0, 8.0, np.inf, np.nan, np.nan])
    np.testing.assert_allclose(viz.running_mean(values, 3), [1, 2, 5.5, 5.5, 8, np.nan, np.nan])


def test_importing_viz_waits_for_no_notebook_no_matplotlib_and_no_reader():
    late = {"IPython", "ipywidgets", "matplotlib", "ganlib.data.loading", "ganlib.data.folders"}
    code = f"import sys, ganlib.viz; print({{*sys.modules}} & {late}); from ganlib.data import augment, load"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "set()" and done.returncode == 0, done.stderr


def test_what_was_changed_by_hand_stands_in_the_curves_and_in_the_film():
    shots = [(step, torch.zeros(4, 1, 28, 28)) for step in (0, 10, 20)]
    losses = {"d_loss": [1.0, 2.0] * 10}
    run = History(8, 5, "cpu", "float32", losses=losses, snapshots=shots, scores=[(5, {"fd": 2.0}), (15, {"fd": 1.0})])
    plain = viz.curves(run)
    run.changes = [(4, "g_lr", 0.001), (15, "n_critic", 3)]
    changed = viz.curves(run)
    for before, after in zip(plain.axes, changed.axes, strict=True):
        lines = [line for line in after.lines if line.get_xdata()[0] == line.get_xdata()[-1]]
        assert [line.get_xdata()[0] for line in lines] == [4.5, 15.5] and len(after.lines) == len(before.lines) + 2
    assert [text.get_text() for text in changed.axes[0].texts] == ["G's learning rate 0.001", "n_critic 3"]
    assert animation(run).names == ["step 0", "step 10 · G's learning rate 0.001", "step 20 · n_critic 3"]


def test_a_reader_gets_sliders_and_dropdowns_and_a_saved_page_neither(monkeypatch):
    given = []
    monkeypatch.setattr("ipywidgets.interact", lambda draw, **values: given.append(values))
    for there in (False, True):
        monkeypatch.setattr(controls.notebook, "someone_there", lambda there=there: there)
        controls.explore(print, name=("ring", "disc"), share=(0.0, 1.0), again=[1, 2])
    assert given == [{"name": ["ring", "disc"], "share": (0.0, 1.0), "again": [1, 2]}]
