"""What several tests share: the checkout's files, its scripts, and what a notebook defines."""

import ast
import contextlib
import http.server
import importlib.util
import io
import itertools
import json
import re
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NOT_OURS = {".git", ".venv", "venv", "build", "dist", "__pycache__", ".pytest_cache", ".ruff_cache"}


def load_script(name, folder="scripts"):
    """The module ``<folder>/<name>.py`` of the checkout; the folder is not a package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def project_files(root=ROOT):
    """The files that are or would be committed; everything but the usual leftovers where git cannot say."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
        files = [root / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        files = [path for path in root.rglob("*") if not NOT_OURS & {*path.relative_to(root).parts}]
        files = [path for path in files if path.relative_to(root).parts[0] != "runs"]  # not ganlib/runs
    return [path for path in files if path.is_file()]


def read_notebook(notebook):
    """A notebook as a dict: ``notebook`` is one already, or a path, or a name in ``notebooks/``."""
    if isinstance(notebook, dict):
        return notebook
    return json.loads((ROOT / "notebooks" / notebook).read_text(encoding="utf-8"))


def source(cell):
    """A cell's text as one string."""
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def plain_python(text):
    """A code cell without IPython's own lines, so that ``ast`` reads it; line numbers stay."""
    if text.lstrip().startswith("%%"):
        return ""
    lines = text.splitlines()
    special = ("%", "!", "?")
    return "\n".join(
        line[: len(line) - len(line.lstrip())] + "pass" if line.lstrip().startswith(special) else line for line in lines
    )


def defined(notebook):
    """A notebook's imports, functions, classes and literals as one namespace, without the cells that train or draw."""
    namespace = {}
    for cell in read_notebook(notebook)["cells"]:
        for node in ast.parse(plain_python(source(cell))).body if cell["cell_type"] == "code" else ():
            kept = isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
            if isinstance(node, ast.Assign):
                with contextlib.suppress(ValueError):
                    kept = ast.literal_eval(node.value) or True
            if kept:
                with contextlib.suppress(NameError):  # a default or a decorator that only a run has
                    exec(compile(ast.Module([node], []), "<a notebook>", "exec"), namespace)
    return namespace


def exercises(notebook):
    """(number, the cell with the check, the folded solution) of each exercise of a notebook."""
    cells = [source(cell) for cell in read_notebook(notebook)["cells"]]
    found = []
    for cell, after in itertools.pairwise(cells):
        if number := re.search(r'print\(\s*"exercise (\d)', cell):
            solution = re.search(r"<summary>Solution</summary>.*?```python\n(.*?)```", after, re.DOTALL)
            found.append((number[1], cell, solution and solution[1]))
    return found


def try_answer(check, answer, namespace):
    """What the check of an exercise prints after ``answer``, lines of Python, in place of its ``None`` if any."""
    assignment = (re.findall(r"^\w+ = None\n", check, re.MULTILINE) or [""])[0]
    if answer is not None:
        check = check.replace(assignment, answer, 1) if assignment else answer + check
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(check, dict(namespace))
    return printed.getvalue()


def noise(n=4, channels=1, size=8, seed=0):
    """Random pixels, uint8 ``[n, channels, size, size]``."""
    pixels = torch.randint(0, 256, (n, channels, size, size), generator=torch.Generator().manual_seed(seed))
    return pixels.to(torch.uint8)


class Colours(torch.nn.Module):
    """A feature net of one layer: means of the quarters of each channel, and three logits; remembers what it saw."""

    name, image_shape = "colours", (3, 8, 8)

    def __init__(self, shift=0.0):
        super().__init__()
        self.register_buffer("scale", torch.tensor(1 / 64))
        self.shift, self.shown = shift, []

    def forward(self, pixels):
        if len(pixels) > 2:  # two are looked at each time, to know the net
            self.shown += pixels[:, 0, 0, 0].tolist()
        x = torch.nn.functional.avg_pool2d(pixels.float() * self.scale, 4).flatten(1) + self.shift
        return x, x[:, :3] * 3


def pictures(n, seed=0, spread=60):
    """Images of random colours, uint8 ``[n, 3, 8, 8]``."""
    base = 128 + spread * torch.randn(n, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(base, 8).clamp(0, 255).to(torch.uint8)


def small_generator():
    """A generator of such images, with BatchNorm and noise of its own."""
    nn = torch.nn
    layers = nn.Linear(3, 192), nn.BatchNorm1d(192), nn.Dropout(), nn.Tanh(), nn.Unflatten(1, (3, 8, 8))
    generator = nn.Sequential(*layers)
    generator.z_dim = 3
    return generator


def history(steps=200, epoch=None, scores=True, every=20):
    """What ``fit`` would return after a run with nothing learned."""
    rng = np.random.default_rng(0)
    return SimpleNamespace(
        losses={"d_loss": list(1.4 + rng.normal(0, 0.1, steps)), "g_loss": list(rng.normal(0.7, 0.1, steps))},
        steps_per_epoch=epoch,
        snapshots=[(s, noise(5, seed=s)) for s in range(0, steps + 1, every)],
        scores=[(s, {"fd": 9.0 + 1000 / s, "sure": 0.5}) for s in range(50, steps + 1, 50)] if scores else [],
        seconds=1.0,
    )


@contextlib.contextmanager
def answered_by(handler):
    """The address of a web server on this machine, whose requests a ``BaseHTTPRequestHandler`` answers."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def serve(folder):
    """A web server of a folder's files: gives its address and the list of what was asked for."""
    asked = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_message(self, *args):
            asked.append(self.path)

    with answered_by(Quiet) as url:
        yield url, asked
