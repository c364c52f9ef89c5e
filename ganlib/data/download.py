"""Files from the internet, intact and checked, or a sentence that says why not."""

import contextlib
import logging
import socket
import threading
import urllib.parse
import urllib.request
from pathlib import Path

from ganlib._runtime.progress import bar

log = logging.getLogger("ganlib")

DRIVE = "https://drive.google.com/"
CONNECT_SECONDS, STALL_SECONDS = 5, 15


def fetch(url: str, target: Path, md5: str | None) -> None:
    """Download one file; it gets its name once it is intact, else OSError says why."""
    import pooch
    import requests

    def get(url: str, part: str, _) -> None:
        if not urllib.request.getproxies():  # behind a proxy, names are looked up by the proxy
            _look_up(urllib.parse.urlsplit(url).hostname)
        if url.startswith(DRIVE):
            _gdown().download(url, part, use_cookies=False)
        else:
            with bar(1, target.name, "B", scaled=True) as progress:  # pooch puts the file's size in place of the 1,
                progress.reset = lambda: None  # and at the end begins anew, which would show a bar that never was
                limits = (CONNECT_SECONDS, STALL_SECONDS)
                pooch.HTTPDownloader(progressbar=progress, chunk_size=2**20, timeout=limits)(url, part, None)
        with open(part, "rb") as file:
            if looks_like_html(file.read(512)):
                raise OSError("a web page (login, quota or error) came instead of the file")

    pooch.get_logger().setLevel("WARNING")  # it would tell of every step on stderr
    log.info(f"Downloading {url} …")
    try:
        pooch.retrieve(url, md5 and f"md5:{md5}", target.name, target.parent, downloader=get)
    except Exception as error:  # those of requests, pooch and gdown have no kind in common
        why = "there is no connection" if isinstance(error, requests.ConnectionError) else " ".join(str(error).split())
        by_hand = "try again later, or get it by hand as data/README.md says."
        raise OSError(f"'{target.name}' could not be downloaded from {url} ({why}); {by_hand}") from error


def _gdown():
    """The package that confirms to Google Drive that one really wants a large file."""
    try:
        import gdown
    except ImportError as error:
        raise OSError("Google Drive needs the package gdown: pip install gdown") from error
    return gdown


def _look_up(host: str) -> None:
    """Give up on a name that nobody answers for; the system's look-up has no limit."""

    def ask():
        with contextlib.suppress(OSError):  # the download will say so
            socket.getaddrinfo(host, None)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {CONNECT_SECONDS} seconds")


def looks_like_html(start: bytes) -> bool:
    """Whether a file that starts with these bytes is a web page."""
    start = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))
