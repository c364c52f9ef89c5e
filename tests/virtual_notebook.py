"""Run each code cell of a notebook on a virtual CUDA device, with tiny budgets; go on after an error, tell them all.

Cells are counted from 0, with those of text.

python tests/virtual_notebook.py notebooks/03_wgan.ipynb [7.5]      (the compute capability of the card, or: real)
"""

import ast
import contextlib
import io
import os
import sys
import time
import traceback
from pathlib import Path

os.environ.update(MPLBACKEND="Agg", GANLIB_PROFILE="ci", GANLIB_DOWNLOAD="0")

import torch
from virtual_cuda import virtual_cuda

import ganlib
from ganlib import train
from ganlib._runtime import budget
from ganlib._runtime import progress as loops
from ganlib.data import loading, sets
from ganlib.metrics import features
from helpers import ROOT, plain_python, read_notebook, source

# At most: of each fit and each loop, of each step, of each set, kept of each set.
STEPS, BATCH, IMAGES, FEATURES = 3, 16, 900, 500
SMALLER = {"steps": 1 / 3000, "epochs": 1 / 30, "seconds": 1 / 100, "n_train": 1 / 200, "n_samples": 1 / 50}


def make_small() -> None:
    """Cut what a budget does not cut: that it runs is the question, not what it finds."""
    own_fit, own_load, own_progress = train.fit, loading.load, loops.progress

    def fit(*args, steps=None, seconds=None, batch_size=64, **how):
        how |= {"steps": min(steps or STEPS, STEPS), "batch_size": min(batch_size, BATCH), "watchers": ()}
        return own_fit(*args, **{"precision": "fp32"} | how)  # a CPU takes a hundred times as long in 16 bits

    def load(name, *, n=None, **how):
        return own_load(name, n=min(n or IMAGES, IMAGES), **how)

    def progress(items, *args, **how):
        return own_progress([item for _, item in zip(range(STEPS), items, strict=False)], *args, **how)

    train.fit, loading.load, loops.progress = fit, load, progress
    ganlib.__dict__.update(fit=fit, load=load, progress=progress)
    budget.PROFILES["ci"], features.KEEP, sets.STAND_IN_COUNT = SMALLER, FEATURES, IMAGES


def show(value) -> None:
    """Make of a cell's last value what a notebook would."""
    for way in ("_repr_mimebundle_", "_repr_html_", "_repr_png_", "savefig"):
        if callable(make := getattr(value, way, None)):
            make(*([io.BytesIO()] if way == "savefig" else []))
            return


def run(cell: str, namespace: dict, name: str) -> None:
    """Execute a cell as IPython would, its output thrown away."""
    tree = ast.parse(plain_python(cell))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(tree, name, "exec"), namespace)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
            if not cell.rstrip().endswith(";"):
                show(value)


def main(path: str, capability: str = "7.5") -> int:
    """The number of failing cells."""
    torch.set_num_threads(1)
    make_small()
    cells = read_notebook(Path(path).resolve())["cells"]
    namespace, failed = {"__name__": "__main__", "display": lambda *values, **_: [show(v) for v in values]}, 0
    os.chdir(Path(path).resolve().parent)
    real = capability == "real"  # what this machine has
    with contextlib.nullcontext() if real else virtual_cuda(tuple(map(int, capability.split(".")))):
        for n, cell in enumerate(cells):
            begun = time.perf_counter()
            try:
                if cell["cell_type"] == "code":
                    run(source(cell), namespace, f"<cell {n}>")
            except Exception as error:
                failed += 1
                frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
                where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[:1:-1][:4])
                print(f"cell {n} failed: {type(error).__name__}: {error!s:.200}\n    at {where}", flush=True)
            if "-v" in sys.argv:
                print(f"cell {n}: {time.perf_counter() - begun:.1f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(min(main(*[word for word in sys.argv[1:] if word != "-v"]), 100))
