"""■ in every training cell of every notebook: the cells after it run all the same."""

import os

import pytest

from helpers import NOTEBOOKS, ROOT, read_notebook, source

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytestmark = pytest.mark.slow

# Run before the first cell: each fit and each loop with a progress bar is stopped after its second step.
STOP_EARLY = """
import signal
from ganlib import train
from ganlib._runtime import progress

def add(losses, record, own=train._Losses.add):
    own(losses, record)
    if losses.history.steps >= 2:
        losses.history.stop()

def early(items, *more, own=progress.progress, **named):
    def soon():
        for n, item in enumerate(items, 1):
            if n == 2:
                signal.raise_signal(signal.SIGINT)
            yield item
    return own(soon(), *more, **named)

train._Losses.add, progress.progress = add, early
train.stop_queue = progress.stop_queue = lambda: None  # the person starts the next cell
"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_after_a_stop_in_each_training_cell_no_later_cell_fails(path, monkeypatch):
    for name, value in {"GANLIB_PROFILE": "ci", "GANLIB_DOWNLOAD": "0", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cells = [STOP_EARLY, *(source(cell) for cell in read_notebook(path)["cells"] if cell["cell_type"] == "code")]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(
        notebook, timeout=300, allow_errors=True, resources={"metadata": {"path": path.parent}}
    )
    client.execute(env=os.environ.copy())
    failed = [
        (n, out["ename"], out["evalue"])
        for n, cell in enumerate(notebook.cells)
        for out in cell.outputs
        if out["output_type"] == "error"
    ]
    assert not failed
