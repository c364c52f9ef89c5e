"""Pictures pixel by pixel, and the sentences for what cannot be drawn."""

import base64
import io
import os
import subprocess
import sys
from types import SimpleNamespace
from unittest import mock

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from ganlib.viz import images as viz
from helpers import history, noise


def drawn(figure):
    """What a notebook shows of a figure its cell ends with, as an array; it must be one picture."""
    from IPython.core.formatters import DisplayFormatter

    with mock.patch("IPython.display.display") as display:
        data, _ = DisplayFormatter().format(figure)
    ((shown,), _), *more = display.call_args_list
    assert data == {} and not more
    (content,) = (value for kind, value in shown.items() if kind in ("image/png", "image/jpeg"))
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_puts_every_pixel_where_it_says(channels):
    images = noise(5, channels, size=4)
    sheet = viz.grid(images, cols=3, pad=1, scale=2)
    assert sheet.dtype == np.uint8 and sheet.shape == (2 * 11, 2 * 16, channels)
    for k in range(5):
        y, x = 2 * (1 + k // 3 * 5), 2 * (1 + k % 3 * 5)
        tile = sheet[y : y + 8, x : x + 8]
        for dy in (0, 1):
            for dx in (0, 1):
                assert np.array_equal(tile[dy::2, dx::2], images[k].permute(1, 2, 0).numpy())
    assert (sheet[:, :2] == 255).all() and (sheet[10:12] == 255).all()  # the gaps
    assert (sheet[12:20, 22:30] == 255).all()  # the empty sixth place


def test_grid_is_square_without_cols_and_seamless_without_pad():
    assert viz.grid(noise(64, size=28)).shape == (242, 242, 1)
    assert viz.grid(noise(10)).shape == (2 + 3 * 10, 2 + 4 * 10, 1)
    assert viz.grid(noise(4, size=8), pad=0).shape == (16, 16, 1)


def test_float_images_span_black_to_white():
    ramp = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 1, 1, 3)
    for images in (ramp, ramp.bfloat16(), ramp.double().numpy(), ramp.requires_grad_()):
        assert viz.grid(images, pad=0)[0, :, 0].tolist() in ([0, 128, 255], [0, 127, 255])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 8, 8), r"shape \[3, 8, 8\], but must be \[N, C, H, W\]"),
        (torch.zeros(2, 2, 8, 8), r"shape \[2, 2, 8, 8\].*C = 1 or C = 3"),
        (torch.zeros(0, 1, 8, 8), r"no images to show: their shape is \[0, 1, 8, 8\]"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.int64), r"are torch.int64, but must be uint8 or float"),
        (torch.full((1, 1, 8, 8), float("nan")), r"NaN or infinite values: the network .* diverged"),
        (torch.full((1, 1, 8, 8), 255.0), r"run from 255.00 to 255.00, but .* \[-1, 1\].*x / 127.5 - 1"),
    ],
)
def test_wrong_images_get_a_sentence(images, message):
    for draw in (viz.grid, viz.show):
        with pytest.raises(ValueError, match=message):
            draw(images)


@pytest.mark.parametrize("wrong", [{"cols": 0}, {"pad": -1}, {"scale": 0}, {"scale": 1.5}])
def test_wrong_layout_gets_a_sentence(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=rf"{name} is {value}, but must be a whole number of at least"):
        viz.grid(noise(), **wrong)


@pytest.mark.parametrize("channels", [1, 3])
def test_show_is_pixel_for_pixel_the_grid(channels):
    images = noise(6, channels)
    plain = drawn(viz.show(images, cols=3, scale=3))
    sheet = np.broadcast_to(viz.grid(images, cols=3, scale=3), plain.shape)
    assert np.array_equal(plain, sheet)
    titled = drawn(viz.show(images, title="six images of noise, and a title", cols=3, scale=3))
    assert np.array_equal(titled[28:, : sheet.shape[1]], sheet)
    assert (titled[:28] < 128).any() and titled.shape[1] > sheet.shape[1]


def test_show_picks_a_scale_that_fits():
    assert drawn(viz.show(noise(64, size=28))).shape[:2] == (484, 484)
    assert drawn(viz.show(noise(1, size=28))).shape[:2] == (128, 128)
    assert drawn(viz.show(noise(1, size=700))).shape[:2] == (704, 704)


def test_a_large_picture_in_colour_is_shown_as_a_smaller_one_that_looks_the_same():
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(100, 3, 4, 4, generator=g) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, 32, mode="bicubic").clamp(-1, 1)
    images = (images + 0.05 * torch.randn(images.shape, generator=g)).clamp(-1, 1)
    with mock.patch("IPython.display.display") as display:
        viz.show(images, scale=1)._ipython_display_()
    shown = display.call_args[0][0]
    assert set(shown) == {"image/jpeg", "text/plain"}
    lossless = viz.grid(images)
    off = np.abs(drawn(viz.show(images, scale=1)).astype(int) - lossless)
    assert off.mean() < 6  # of 255: less than the noise in them
    assert len(base64.b64decode(shown["image/jpeg"])) < 0.7 * len(encoded(lossless))


def test_a_large_picture_of_noise_is_shown_too():
    # What a collapsed generator draws: Pillow's optimised JPEG ran out of room on it.
    images = noise(128, 3, size=32)
    shown = drawn(viz.show(images, scale=1))
    assert np.abs(shown.astype(int) - viz.grid(images)).mean() < 40  # of 255; a mean of 85 would be another picture


def encoded(picture):
    """The picture as PIL writes a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def test_a_figure_displays_itself_and_leaves_none_open():
    import matplotlib.pyplot as plt

    plt.close("all")
    figure = viz.show(noise())
    assert plt.get_fignums() == []  # else the inline backend would show it a second time
    with plt.rc_context({"savefig.bbox": "tight"}):
        assert np.array_equal(drawn(figure), np.broadcast_to(viz.grid(noise(), scale=4), (88, 88, 3)))


@pytest.mark.parametrize("channels", [1, 3])
def test_save_png_is_lossless(tmp_path, channels):
    images = noise(4, channels)
    path = viz.save_png(images, tmp_path / "new" / "grid.png", scale=2)
    assert np.array_equal(iio.imread(path).squeeze(), viz.grid(images, scale=2).squeeze())
    viz.save_png(viz.grid(images), path)  # a finished picture, over the old file
    assert np.array_equal(iio.imread(path).squeeze(), viz.grid(images).squeeze())


def test_a_file_that_cannot_be_written_gets_a_sentence(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"Cannot write '.*x.png' .*choose another"):
        viz.save_png(noise(), tmp_path / "file" / "x.png")
    with pytest.raises(ValueError, match=r"shape \[8, 8\] and type uint8 cannot be drawn"):
        viz.save_png(np.zeros((8, 8), np.uint8), tmp_path / "x.png")


def test_strip_has_a_row_for_each_z_and_names_its_columns():
    run = history(epoch=100)
    figure = viz.strip(run, n=3, columns=[20, 100])
    assert [text.get_text() for text in figure.texts] == ["step 20", "step 100"]
    picture = drawn(figure)[20:]
    scale = picture.shape[1] // (2 + 2 * 10)
    first, last = run.snapshots[1][1], run.snapshots[5][1]
    order = torch.stack([first[0], last[0], first[1], last[1], first[2], last[2]])
    assert np.array_equal(picture[..., :1], viz.grid(order, cols=2, scale=scale))
    by_epoch = viz.strip(run, n=2, columns=[0, 100, 200])
    assert [text.get_text() for text in by_epoch.texts] == ["epoch 0", "epoch 1", "epoch 2"]
    assert len(viz.strip(run.snapshots).texts) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n is 0, but a strip has at least 1 row"),
        ({"columns": 0}, "Asked for 0 snapshots"),
        ({"columns": [30]}, "no snapshot of step 30; there are: 0, 20, 40"),
    ],
)
def test_wrong_strip_gets_a_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        viz.strip(history(), **options)


def test_curves_draw_each_loss_its_mean_and_its_equilibrium():
    run = history(epoch=100)
    figure = viz.curves(run, equilibrium={"d_loss": 1.386}, smooth=11, title="a run")
    losses, scores = figure.axes[:2]
    raw, mean, level = losses.lines[:3]
    assert np.array_equal(raw.get_ydata(), run.losses["d_loss"]) and raw.get_xdata()[0] == 1
    assert mean.get_ydata()[100] == pytest.approx(np.mean(run.losses["d_loss"][95:106]))
    assert mean.get_ydata()[0] == pytest.approx(np.mean(run.losses["d_loss"][:6]))
    assert list(level.get_ydata()) == [1.386, 1.386]
    assert raw.get_color() == mean.get_color() == level.get_color() == viz.D_COLOR
    assert losses.lines[3].get_color() == viz.G_COLOR
    assert list(scores.lines[0].get_xdata()) == [50, 100, 150, 200] and scores.get_ylabel() == "fd"
    assert viz.curves(run, score="sure").axes[1].get_ylabel() == "sure"
    assert drawn(figure).shape == (460, 720, 3)


def test_curves_without_scores_with_other_losses_and_after_nan():
    run = history(scores=False)
    run.losses["penalty"] = [float("nan")] * 200
    run.losses["d_loss"][100] = float("nan")
    run.losses["g_loss"] = [5.0] * 200
    figure = viz.curves(run, smooth=5)
    assert len(figure.axes) == 1 and len(figure.axes[0].lines) == 6
    mean = figure.axes[0].lines[1].get_ydata()
    window = run.losses["d_loss"][98:100] + run.losses["d_loss"][101:103]
    assert mean[100] == pytest.approx(np.mean(window))
    low, high = figure.axes[0].get_ylim()
    assert low < 1.4 and high > 5.0


def test_wrong_curves_get_a_sentence():
    with pytest.raises(ValueError, match="no losses yet; train for at least one step"):
        viz.curves(SimpleNamespace(losses={"d_loss": []}, scores=[], steps_per_epoch=None))
    with pytest.raises(ValueError, match="no score 'fid'; measured were: fd, sure"):
        viz.curves(history(), score="fid")
    with pytest.raises(ValueError, match="smooth is 0, but at least 1 step is averaged"):
        viz.curves(history(), smooth=0)


def test_importing_viz_waits_neither_for_ipython_nor_for_matplotlib():
    code = "import sys, ganlib.viz; print([m for m in ('IPython', 'matplotlib') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == "[]", done.stderr
