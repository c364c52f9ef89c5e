"""JupyterLab as a program to start, and a notebook in it as a page to use."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import nbformat
from playwright.sync_api import expect

from helpers import ROOT

# The kernel of this environment, and folders of older packages that one may import instead: the Makefile fills them.
KERNELS = {"this": None} | {name: Path(sys.prefix, "older", name) for name in ("ipykernel-7.3", "colab")}


@dataclass
class Lab:
    """A running JupyterLab: its address, the folder it serves, its kernel and what that imports, its environment."""

    address: str
    folder: Path
    kernel: str
    versions: str
    env: dict


@contextlib.contextmanager
def started(home, kernel):
    """JupyterLab in a new folder, with none of the user's settings."""
    older, folder = KERNELS[kernel], home / "notebooks"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "MPLBACKEND"))}
    env |= {f"JUPYTER_{name}_DIR": str(home / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    env |= {f"JUPYTERLAB_{name}_DIR": str(home / name) for name in ("SETTINGS", "WORKSPACES")}
    env |= {"IPYTHONDIR": str(home / "ipython"), "GANLIB_CACHE": str(home / "cache"), "GANLIB_DOWNLOAD": "0"}
    env |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if older:  # ipywidgets 7 has its own part in JupyterLab; it lies there, too
        env["JUPYTER_PATH"] = str(older / "share/jupyter")
    packages = {"PYTHONPATH": os.pathsep.join(map(str, [*([older] if older else []), ROOT]))}
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": kernel, "language": "python", "env": packages}
    _write(home / "DATA/kernels" / kernel / "kernel.json", spec)
    quiet = {"fetchNews": "false", "checkForUpdates": False}  # these ask the network, and the reader
    _write(home / "SETTINGS/@jupyterlab/apputils-extension/notification.jupyterlab-settings", quiet)
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"root_dir": folder, "ip": "127.0.0.1", "port": port, "port_retries": 0, "open_browser": False}
    words = [f"--ServerApp.{name}={value}" for name, value in options.items()]
    words += ["--IdentityProvider.token=", "--allow-root", "--LabApp.expose_app_in_browser=True"]
    address = f"http://127.0.0.1:{port}"
    with open(home / "server.log", "w") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *words], env=env, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 90
        while not _answers(address + "/api"):
            assert time.monotonic() < end and server.poll() is None, (home / "server.log").read_text()
            time.sleep(0.1)
        yield Lab(address, folder, kernel, _versions(packages), env)
    finally:
        server.terminate()
        server.wait(30)


def _versions(env):
    program = "import {0} as it; print('{0}', it.__version__, end='  ')"
    program = "\n".join(program.format(name) for name in ("ipykernel", "ipywidgets", "IPython"))
    return subprocess.check_output([sys.executable, "-c", program], env=os.environ | env, text=True).strip()


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _answers(address):
    try:
        return urllib.request.urlopen(address, timeout=5).status == 200
    except OSError:
        return False


def write_notebook(lab, name, cells):
    """Write a notebook of these code cells, in which NAME stands for its name; gives its path."""
    path = lab.folder / f"{name}.ipynb"
    cells = [nbformat.v4.new_code_cell(cell.strip().replace("NAME", name)) for cell in cells]
    spec = {"name": lab.kernel, "display_name": lab.kernel, "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), path)
    return path


class Notebook:
    """A notebook in JupyterLab, used as a reader would: by clicks and keys."""

    def __init__(self, page, lab, path):
        self.page, self.path = page, path
        page.goto(f"{lab.address}/lab/workspaces/{path.stem}/tree/{path.name}")
        self.ready()
        page.evaluate(  # when a key or a button last went down, in seconds since 1970, as Python's time.time() has it
            """() => { const note = () => { window.pressed = (performance.timeOrigin + performance.now()) / 1000 };
            for (const kind of ["keydown", "pointerdown"]) document.addEventListener(kind, note, true); }"""
        )

    def ready(self):
        """Wait until the notebook is shown and its kernel answers."""
        self.page.wait_for_function(
            """() => { const shown = window.jupyterapp?.shell.currentWidget?.sessionContext;
            const idle = shown?.isReady && shown.session?.kernel?.status === "idle";
            return idle && !!document.querySelector(".jp-Cell") }""",
            timeout=180_000,
        )

    def run_all(self):
        """Choose Run All Cells from the menu."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    def run(self, n):
        """Press Ctrl and Enter in a cell."""
        self.cell(n).locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")

    def cell(self, n):
        """A cell's place on the page."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(n)

    def state(self, n):
        """What stands to the left of a cell: "[ ]:", "[*]:" while it runs or waits, then its number, as in "[3]:"."""
        return self.cell(n).locator(".jp-InputPrompt").inner_text()

    def wait(self, n, seconds=60):
        """Wait until a cell has run."""
        expect(self.cell(n).locator(".jp-InputPrompt")).to_have_text(re.compile(r"\d"), timeout=1000 * seconds)

    def until(self, ready, seconds=60):
        """Wait until ``ready()`` is true; gives what it is. An error in a cell is one here."""
        end = time.monotonic() + seconds
        while not (answer := ready()):
            errors = self.page.locator("[data-mime-type*=error]")
            assert not errors.count(), errors.first.inner_text()
            assert time.monotonic() < end, f"waited {seconds} seconds in vain"
            self.page.wait_for_timeout(20)
        return answer

    def idle(self):
        """Wait until the kernel has nothing to do, and then some: nothing is about to begin."""
        status = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status"
        self.until(lambda: self.page.evaluate(status) == "idle")
        self.page.wait_for_timeout(500)

    def facts(self):
        """What the notebook's Python has told so far: the JSON lines in the file named after the notebook."""
        path = self.path.with_suffix(".jsonl")
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def still(self):
        """Whether nothing is told for half a second."""
        before = len(self.facts())
        self.page.wait_for_timeout(500)
        return len(self.facts()) == before

    def pressed(self):
        """When a key or a button last went down."""
        return self.page.evaluate("() => window.pressed")

    def save(self):
        """Save as from the menu; gives what is in the file."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        return nbformat.read(self.path, as_version=4)

    def shut_down(self):
        """End the kernel; what trains in it is stopped first, so that it listens."""
        self.page.evaluate(
            """async () => { const kernel = window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel;
            await kernel?.interrupt(); await window.jupyterapp.serviceManager.sessions.shutdownAll() }"""
        )
