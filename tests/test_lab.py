"""What opening and saving leaves in git: JupyterLab's own saving with scripts/lab.py, and the filter for others."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from traitlets.config import PyFileConfigLoader

from helpers import NOTEBOOKS, ROOT, load_script

clean_notebooks = load_script("clean_notebooks")
pytestmark = pytest.mark.filterwarnings("ignore:Overriding existing pre_save_hook")  # as scripts/lab.py does
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
STEM = NOTEBOOKS[0].stem


@pytest.fixture(scope="module")
def config():
    return PyFileConfigLoader("lab.py", str(ROOT / "scripts")).load_config()


@pytest.fixture
def checkout(tmp_path):
    """A checkout with one notebook and the files that git needs."""
    for path in (ROOT / ".gitattributes", ROOT / ".gitignore", ROOT / "scripts" / "clean_notebooks.py", NOTEBOOKS[0]):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "config", "user.email", "ada@example.org")
    git(tmp_path, "config", "user.name", "Ada")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "Begin")
    return tmp_path


def git(folder, *words):
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


def opened_and_saved(checkout, config=None, trusted=False):
    """Save the notebook as JupyterLab's front end does once its kernel has started; what the server then has of it."""
    manager = LargeFileManager(config=config)
    manager.root_dir, manager.notary.data_dir = str(checkout), str(checkout / ".git")
    name = f"notebooks/{STEM}.ipynb"
    model = manager.get(name)
    metadata = model["content"]["metadata"]
    metadata["kernelspec"]["display_name"] = "Python 3 (ipykernel)"
    metadata["language_info"]["version"] = "3.13.2"
    metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    for cell in model["content"]["cells"]:
        if cell["cell_type"] == "code":
            cell["metadata"]["trusted"] = trusted
            cell["metadata"]["execution"] = {"iopub.status.busy": "2026-01-01T00:00:00Z"}
    manager.save({"type": "notebook", "format": "json", "content": model["content"]}, name)
    return manager.get(name)


def test_the_server_has_the_checkout_as_its_root_and_opens_the_first_notebook(config):
    assert config.ServerApp.root_dir == str(ROOT)
    assert config.LabApp.default_url == f"/lab/tree/notebooks/{STEM}.ipynb"


@needs_git
def test_a_notebook_that_was_opened_and_saved_is_no_change(checkout, config):
    opened_and_saved(checkout)
    assert git(checkout, "status", "--porcelain").split() == ["M", f"notebooks/{STEM}.ipynb"]
    opened_and_saved(checkout, config)
    assert git(checkout, "status", "--porcelain") == ""


@needs_git
@pytest.mark.parametrize("trusted", [True, False])
def test_what_was_trusted_stays_so(checkout, config, trusted):
    path = checkout / "notebooks" / f"{STEM}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    first["outputs"] = [{"output_type": "display_data", "data": {"text/html": "<b>1</b>"}, "metadata": {}}]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    cells = opened_and_saved(checkout, config, trusted)["content"]["cells"]
    assert [cell for cell in cells if cell["id"] == first["id"]][0]["metadata"]["trusted"] is trusted


@needs_git
def test_what_another_editor_saved_is_no_change_with_the_readmes_line(checkout):
    (line,) = re.findall(r"`git (config filter\.[^`]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    opened_and_saved(checkout)
    assert "3.13.2" in git(checkout, "diff")
    git(checkout, *shlex.split(line.replace("python3", shlex.quote(sys.executable))))
    assert git(checkout, "diff") == ""
    git(checkout, "add", "notebooks")
    assert git(checkout, "status", "--porcelain") == ""
    path = checkout / "notebooks" / f"{STEM}.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace("# 00", "# 0", 1), encoding="utf-8")
    changes = [line for line in git(checkout, "diff").splitlines() if re.match(r"[-+] ", line)]
    assert len(changes) == 2  # what was written, and nothing else


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"cells": [7], "metadata": {}}', b"\xff\xfe"])
def test_the_filter_leaves_what_is_no_notebook_as_it_is(content):
    words = [sys.executable, str(ROOT / "scripts" / "clean_notebooks.py"), "--filter"]
    done = subprocess.run(words, input=content, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, content, b"")


def test_the_filter_keeps_errors_outputs_and_metadata_of_others():
    output = {"output_type": "error", "ename": "E", "evalue": "é", "traceback": []}
    cell = {"cell_type": "code", "source": "1/0", "outputs": [output], "execution_count": 7, "id": "a"}
    cell["metadata"] = {"tags": ["x"], "jupyter": {"source_hidden": True}}
    others = {"language_info": {"name": "R", "version": "4"}, "kernelspec": {"name": "ir", "language": "R"}, "mine": 1}
    text = {"cell_type": "raw", "source": [], "metadata": {}, "attachments": {"a.png": {"image/png": "AA=="}}}
    notebook = {"cells": [cell, text], "metadata": others, "nbformat": 4, "nbformat_minor": 5}
    filtered = clean_notebooks.filtered(json.dumps(notebook).encode())
    assert json.loads(filtered) == notebook and clean_notebooks.filtered(filtered) == filtered
    for path in NOTEBOOKS:
        assert clean_notebooks.filtered(path.read_bytes()) == path.read_bytes()
