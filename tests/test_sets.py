import hashlib
import http.server
import sys
from types import SimpleNamespace

import pytest
from makers import PAGE, put

from ganlib.data import sets
from ganlib.data.sets import fetch
from helpers import answered_by, serve

CONTENT = bytes(range(256)) * 5000
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.mark.parametrize(
    ("name", "md5", "why"),
    [("page", MD5, "web page"), ("page", None, "web page"), ("file", "0" * 32, "hash"), ("cut", MD5, "hash")]
    + [("none", MD5, "404")],
)
def test_what_is_not_the_file_is_refused(tmp_path, name, md5, why):
    web = put(tmp_path / "web", {"file": CONTENT, "cut": CONTENT[:-40], "page": "\n" + PAGE})
    with serve(web) as (url, _), pytest.raises(OSError, match=rf"'got' .*{name}.*{why}.*{tmp_path}/got"):
        fetch(url + name, tmp_path / "got", md5)
    assert list(tmp_path.iterdir()) == [web]  # not even a part of it


def test_an_intact_file_is_kept(tmp_path, capsys):
    with serve(put(tmp_path / "web", {"file": CONTENT})) as (url, _):
        fetch(url + "file", tmp_path / "got", MD5)
        fetch(url + "file", tmp_path / "other", None)
    assert (tmp_path / "got").read_bytes() == (tmp_path / "other").read_bytes() == CONTENT
    out, err = capsys.readouterr()
    assert f"Downloading {url}file" in out and not err


def test_a_download_that_breaks_off_leaves_nothing(tmp_path):
    class Cut(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"\x1f\x8b" + b"x" * 998)

        def log_message(self, *args):
            pass

    with answered_by(Cut) as url, pytest.raises(OSError, match="broken.*1000 bytes"):
        fetch(f"{url}x", tmp_path / "x", None)
    assert list(tmp_path.iterdir()) == []


def test_no_connection(tmp_path):
    with pytest.raises(OSError, match="'x' could not be downloaded.*no connection"):
        fetch("http://127.0.0.1:9/x", tmp_path / "x", None)


def drive(monkeypatch, answer):
    """gdown in a machine without a network: it writes ``answer``, or raises it; gives the addresses asked for."""
    asked = []

    def get(url, output, **how):
        asked.append(url)
        if isinstance(answer, Exception):
            raise answer
        with open(output, "wb") as file:
            file.write(answer)

    monkeypatch.setitem(sys.modules, "gdown", SimpleNamespace(download=get))
    return asked


def test_a_file_on_drive_is_checked_as_any_other(tmp_path, monkeypatch):
    asked = drive(monkeypatch, CONTENT)
    fetch(f"{sets.DRIVE}uc?id=x1", tmp_path / "x.zip", MD5)
    assert (tmp_path / "x.zip").read_bytes() == CONTENT and asked == ["https://drive.google.com/uc?id=x1"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [(PAGE.encode(), "web page"), (b"cut", "hash"), (RuntimeError("Too many\n users"), "Too many users")],
)
def test_a_quota_page_and_a_torn_file_are_refused(tmp_path, monkeypatch, answer, why):
    drive(monkeypatch, answer)
    with pytest.raises(OSError, match=f"'x.zip' could not be downloaded.*{why}"):
        fetch(f"{sets.DRIVE}uc?id=x1", tmp_path / "x.zip", MD5)
    assert list(tmp_path.iterdir()) == []


def test_without_gdown_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(OSError, match="pip install gdown"):
        fetch(f"{sets.DRIVE}uc?id=x1", tmp_path / "x.zip", MD5)
