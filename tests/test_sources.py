import hashlib
import http.server
import threading
import time

import numpy as np
import pytest
import torch

from ganlib.data import download as downloads
from ganlib.data import shapes, sources
from helpers import serve


def md5(data):
    return hashlib.md5(data).hexdigest()


def test_fit_pads_shrinks_enlarges_and_repeats():
    x = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 1, 28, 28)
    padded = sources.resize(x, 32, 3, pad_to=32)
    assert padded.shape == (2, 3, 32, 32) and padded.sum() == 3 * x.sum(dtype=int)
    assert all(np.array_equal(padded[:, c, 2:30, 2:30], x[:, 0]) for c in range(3))
    assert np.array_equal(sources.resize(x, None, None), x)
    odd = sources.resize(x, 31, 1, pad_to=32)
    assert np.array_equal(odd[:, :, 1:29, 1:29], x)
    flat = np.full((1, 1, 28, 28), 255, np.uint8)
    for size in (14, 64):
        assert (
            sources.resize(flat, size, 1, 32).shape == (1, 1, size, size)
            and (sources.resize(flat, size, 1) == 255).all()
        )
    lines = np.zeros((1, 1, 28, 28), np.uint8)
    lines[..., ::4] = 255  # every output pixel covers one white line and three black: picking pixels gives 0 or 255
    assert np.abs(sources.resize(lines, 7, 1)[..., 1:-1].astype(int) - 64).max() < 20
    red = np.stack([np.full((28, 28), 255), np.zeros((28, 28)), np.zeros((28, 28))])[None].astype(np.uint8)
    assert (sources.resize(red, 28, 1) == 76).all()


def test_fetch_keeps_a_whole_file_only(tmp_path):
    (tmp_path / "web").mkdir()
    data = bytes(range(256)) * 5000
    (tmp_path / "web" / "file").write_bytes(data)
    (tmp_path / "web" / "page").write_text("\n<!DOCTYPE html><html>Quota exceeded</html>")
    target = tmp_path / "got"
    with serve(tmp_path / "web") as (url, _):
        for name, why in (
            ("page", r"a web page came instead of the file \(a login, quota or error page\)"),
            ("file", "its md5 checksum is .*, not 0000: it is damaged or another file"),
            ("none", "File not found|Not Found"),
        ):
            with pytest.raises(
                OSError, match=rf"{name} could not be downloaded: ({why})\. .*by hand as data/README.md"
            ):
                downloads.fetch(url + name, target, "0000")
            assert list(tmp_path.iterdir()) == [tmp_path / "web"]  # not even a part of it
        downloads.fetch(url + "file", target, md5(data))
    assert target.read_bytes() == data


def test_a_download_that_breaks_off(tmp_path):
    class Cut(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"\x1f\x8b" + b"x" * 998)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Cut)
    threading.Thread(target=server.handle_request, daemon=True).start()
    with pytest.raises(OSError, match="the connection broke off after 1,000 of 1,000,000 bytes"):
        downloads.fetch(f"http://127.0.0.1:{server.server_port}/x", tmp_path / "x", "0000")
    server.server_close()
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_never_answers_is_given_up_on(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(downloads.urllib.request, "urlopen", lambda *a, **k: time.sleep(1))
    with pytest.raises(OSError, match="could not be downloaded: no answer within 0.1 seconds"):
        downloads.fetch("http://127.0.0.1:9/x", tmp_path / "x", "0000")


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_are_the_same_for_the_same_seed(channels):
    pixels, labels = shapes.draw_shapes(30, 28, channels, seed=3)
    again, _ = shapes.draw_shapes(30, 28, channels, seed=3)
    other, _ = shapes.draw_shapes(30, 28, channels, seed=4)
    assert pixels.shape == (30, channels, 28, 28) and pixels.dtype == np.uint8
    assert np.array_equal(pixels, again) and not np.array_equal(pixels, other)
    assert np.bincount(labels).tolist() == [3] * 10
    assert pixels.min() == 0 and pixels.max() == 255


def test_every_shape_is_drawn_where_they_do_not_fit_into_one_go():
    pixels, _ = shapes.draw_shapes(20, 256, 1)  # 16 at once
    assert (pixels.std((1, 2, 3)) > 10).all()


def test_shapes_can_be_told_apart():
    """Nearest class mean on held-out pictures: far above chance, so that there is something to learn."""
    (x, y), (x2, y2) = shapes.draw_shapes(2000, 16, 1, seed=0), shapes.draw_shapes(500, 16, 1, seed=1)
    x, x2 = (torch.from_numpy(a).float().flatten(1) for a in (x, x2))
    means = torch.stack([x[torch.from_numpy(y == c)].mean(0) for c in range(10)])
    guess = torch.cdist(x2, means).argmin(1)
    assert (guess == torch.from_numpy(y2)).float().mean() > 0.4


@pytest.mark.parametrize(("n", "size"), [(0, 32), (5, 7)])
def test_shapes_too_few_or_too_small(n, size):
    with pytest.raises(ValueError, match="use n ≥ 1 and image_size ≥ 8"):
        shapes.draw_shapes(n, size)
