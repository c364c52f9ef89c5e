"""One file from the internet, whole and checked, or a sentence that says why not."""

from __future__ import annotations

import contextlib
import hashlib
import html.parser
import http.client
import os
import queue
import threading
import urllib.parse
import urllib.request
from pathlib import Path

from ganlib._runtime.progress import bar

DRIVE = "https://drive.google.com/uc"
CONNECT_SECONDS = 5
STALL_SECONDS = 15


def fetch(url: str, target: Path, md5: str | None) -> None:
    """Download one file; ``target`` appears only once it is whole and has the right checksum (None: any).

    Raises:
        OSError: if there is no connection, or what came is a web page, cut off, or has another checksum.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    seen, size, start = hashlib.md5(usedforsecurity=False), 0, b""
    try:
        with _connect(url) as response, part.open("wb") as file:
            print(f"Downloading {url} …")
            promised = response.headers.get("Content-Length")
            with (
                bar(int(promised) if promised else None, target.name, "B", scaled=True) as progress,
                contextlib.suppress(http.client.IncompleteRead),  # the size tells
            ):
                while block := response.read(2**20):
                    start = start or block[:512]
                    size += len(block)
                    seen.update(block)
                    file.write(block)
                    progress.update(len(block))
        if looks_like_html(start):
            why = "a web page came instead of the file (a login, quota or error page)"
        elif promised and size < int(promised):
            why = f"the connection broke off after {size:,} of {int(promised):,} bytes"
        elif md5 is not None and seen.hexdigest() != md5:
            why = f"its md5 checksum is {seen.hexdigest()}, not {md5}: it is damaged or another file"
        else:
            part.replace(target)
            return
    except (OSError, http.client.HTTPException) as error:
        why = str(getattr(error, "reason", None) or error or type(error).__name__)
    finally:
        part.unlink(missing_ok=True)
    raise OSError(f"{url} could not be downloaded: {why}. Try again later, or get it by hand as data/README.md says.")


def fetch_from_drive(file_id: str, target: Path, md5: str | None) -> None:
    """Download one file from Google Drive as :func:`fetch` does, past the page that asks whether one really wants it.

    For what is too large for its virus scanner Drive sends that page first, with a form to submit; for what was
    downloaded too often, a page in place of the file.

    Args:
        file_id: what a link to the file has after ``id=``.
        target, md5: as in :func:`fetch`.

    Raises:
        OSError: if the file cannot be had, or is not the right one.
    """
    url = f"{DRIVE}?{urllib.parse.urlencode({'export': 'download', 'id': file_id})}"
    try:
        with _connect(url) as response:
            page = _Page(response.url)
            if "html" in response.headers.get("Content-Type", ""):
                page.feed(response.read(2**20).decode(errors="replace"))
                if not page.fields:
                    raise OSError(f"Google Drive sent a page, '{page.title or 'untitled'}', instead of the file")
                url = f"{page.action}?{urllib.parse.urlencode(page.fields)}"
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "reason", None) or error
        raise OSError(f"'{target.name}' could not be downloaded: {why}.") from error
    fetch(url, target, md5)


class _Page(html.parser.HTMLParser):
    """The title of a page, and the form in it that fetches a file: where it is sent, and what with."""

    def __init__(self, url: str):
        super().__init__()
        self.url, self.action, self.fields, self.title, self._in = url, "", {}, "", ""

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self._in = tag
        if tag == "form" and attrs.get("id") == "download-form":
            self.action = urllib.parse.urljoin(self.url, attrs.get("action") or "")
        if tag == "input" and self.action and attrs.get("name"):
            self.fields[attrs["name"]] = attrs.get("value") or ""

    def handle_data(self, data):
        if self._in == "title" and not self.title:
            self.title = data.strip()


def _connect(url: str):
    """An open response within ``CONNECT_SECONDS``. In a thread: looking up a name has no time-out."""
    answers = queue.SimpleQueue()
    request = urllib.request.Request(url, headers={"User-Agent": "ganlib"})

    def ask():
        try:
            answers.put(urllib.request.urlopen(request, timeout=STALL_SECONDS))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=CONNECT_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer within {CONNECT_SECONDS} seconds") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def looks_like_html(start: bytes) -> bool:
    """Whether a file that starts with these bytes is a web page."""
    start = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))
