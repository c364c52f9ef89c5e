"""What the tests in a browser get. Run them by ``make test-ui``; plain ``pytest`` leaves this folder out.

``GANLIB_UI_SHOTS=folder`` keeps a screenshot of each test's last page and what the browser's console said.
"""

import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="make test-ui installs it")

from lab import KERNELS, Notebook, started, write_notebook
from playwright.sync_api import sync_playwright

FIGURES = []


@pytest.fixture(scope="session", params=KERNELS)
def lab(request, tmp_path_factory):
    """A running JupyterLab for each of the kernels."""
    if (older := KERNELS[request.param]) and not older.exists():
        pytest.skip(f"{older} is not there; make test-ui fills it")
    with started(tmp_path_factory.mktemp("jupyter"), request.param) as running:
        yield running


@pytest.fixture(scope="session")
def browser():
    chromium = shutil.which("chromium")
    assert chromium, "These tests need Chromium: apt-get install chromium"
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def notebook(lab, browser, request):
    """``notebook(cell, ...)`` opens a new notebook of these cells in JupyterLab."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    said, opened, name = [], [], request.node.originalname.removeprefix("test_")
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"uncaught: {error}"))

    def make(*cells):
        opened.append(Notebook(page, lab, write_notebook(lab, name, cells)))
        return opened[-1]

    yield make
    if shots := os.environ.get("GANLIB_UI_SHOTS"):
        Path(shots).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(shots, f"{name}-{lab.kernel}.png"))
        Path(shots, f"{name}-{lab.kernel}.log").write_text("\n".join(said))
    for one in opened:
        one.shut_down()
    page.close()
    assert not [line for line in said if line.startswith(("error", "uncaught"))]


@pytest.fixture
def measured(lab):
    """``measured(what, figure)`` prints a figure after the tests; what depends on the machine is not asserted."""
    return lambda what, figure: FIGURES.append(f"{lab.versions}: {what}: {figure}")


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section("measured")
    for line in FIGURES:
        terminalreporter.write_line(line)
