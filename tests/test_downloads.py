"""Google Drive, played by a server on this machine."""

import contextlib
import hashlib
import http.server
import urllib.parse

import pytest

from ganlib.data import download as downloads
from helpers import answered_by

ASKS = (
    "<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body><p>img.zip is too large "
    'to be scanned.</p><form id="download-form" action="/download" method="get"><input type="submit" value="Download '
    'anyway"/><input type="hidden" name="id" value="{id}"><input type="hidden" name="export" value="download">'
    '<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="a&amp;b"></form></body>'
)
QUOTA = (
    "<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body><p>Sorry, you can't view or "
    "download this file at this time.</p></body></html>"
)


@contextlib.contextmanager
def drive(files, large=(), asks=ASKS):
    """A Drive with {id: content}: gives its address and what was asked for. Files in ``large`` need a confirmation."""
    asked = []

    class Drive(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            place = urllib.parse.urlparse(self.path)
            query = {name: values[0] for name, values in urllib.parse.parse_qs(place.query).items()}
            asked.append((place.path, query))
            content = files.get(query.get("id"))
            confirmed = place.path == "/download" and query.get("confirm") == "t" and query.get("uuid") == "a&b"
            if query.get("id") in large and not confirmed:
                content = asks.format(id=query["id"])
            self.send_response(404 if content is None else 200)
            page = isinstance(content, str)
            body = content.encode() if page else content or b""
            self.send_header("Content-Type", "text/html; charset=utf-8" if page else "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with answered_by(Drive) as url:
        yield f"{url}uc", asked


def md5(content):
    return hashlib.md5(content).hexdigest()


def test_a_small_file_comes_at_once_and_a_large_one_after_the_form(tmp_path, monkeypatch, capsys):
    files = {"s1": b"small" * 100, "l1": b"large" * 1000}
    with drive(files, large=("l1",)) as (url, asked):
        monkeypatch.setattr(downloads, "DRIVE", url)
        for file_id, content in files.items():
            downloads.fetch_from_drive(file_id, tmp_path / file_id, md5(content))
            assert (tmp_path / file_id).read_bytes() == content
    assert asked[-1] == ("/download", {"id": "l1", "export": "download", "confirm": "t", "uuid": "a&b"})
    assert "Downloading http://127.0.0.1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "large", "asks", "why"),
    [
        ({"x": QUOTA}, (), ASKS, "sent a page, 'Google Drive - Quota exceeded', instead of the file"),
        ({"x": b"zip"}, ("x",), QUOTA, "sent a page, 'Google Drive - Quota exceeded', instead of the file"),
        ({"x": QUOTA}, ("x",), ASKS, "a web page came instead of the file"),  # said yes to, and yet
        ({"x": QUOTA.encode()}, (), ASKS, "a web page came instead of the file"),  # as a zip, by its type
        ({"x": b"cut"}, ("x",), ASKS, "its md5 checksum is"),
        ({}, (), ASKS, "Not Found"),
    ],
)
def test_what_is_not_the_file_is_refused(tmp_path, monkeypatch, files, large, asks, why):
    with drive(files, large, asks) as (url, _):
        monkeypatch.setattr(downloads, "DRIVE", url)
        with pytest.raises(OSError, match=f"could not be downloaded: .*{why}"):
            downloads.fetch_from_drive("x", tmp_path / "x.zip", md5(b"zip"))
    assert list(tmp_path.iterdir()) == []


def test_no_connection_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "DRIVE", "http://127.0.0.1:9/uc")
    with pytest.raises(OSError, match="'x.zip' could not be downloaded: .*refused"):
        downloads.fetch_from_drive("x", tmp_path / "x.zip", None)
