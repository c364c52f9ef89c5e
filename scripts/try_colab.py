"""Run notebooks as Colab would: its versions, this tree's library, each notebook alone in an empty folder.

    python3.13 scripts/try_colab.py /tmp/colab                     make the environment (5 GB), run all notebooks
    python3.13 scripts/try_colab.py /tmp/colab 01_dcgan_mnist      one of them; what is installed already stays

The first cell installs ganlib as it does there, but from a wheel of this tree. A notebook passes if all its cells run,
no picture is missing, ``!ganlib`` works in a last cell, and pip has replaced nothing that Colab has.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# As of 2026-08; what is not named comes as these need it. A notebook installs whatever ganlib needs besides.
VERSIONS = """
    torch==2.11.0 torchvision==0.26.0 numpy==2.1.3 scipy==1.16.3 pillow==11.3.0 matplotlib==3.10.0 imageio==2.37.0
    ipywidgets==7.7.1 ipython==7.34.0 ipykernel==6.17.1 jupyterlab_widgets==1.1.11 mlxtend==0.23.4 tqdm==4.67.1
    safetensors==0.8.0 scikit-learn==1.6.1 huggingface_hub filelock nbclient
"""
ABSENT = ["ganlib", "tyro", "torch-fidelity", "pooch", "jupyterlab", "notebook"]  # ipywidgets brings the last two
# What a kernel there has when its first cell runs.
STARTUP = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')"
TRAIN = "ganlib train --dataset fake --n 40 --image-size 8 --g-width 2 --d-width 2 --batch-size 8 --steps 2"
LAST_CELL = f"!ganlib --help\n!{TRAIN} --out runs/tiny && echo trained"

# Run by the environment's own Python, in the notebook's folder.
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
try:
    NotebookClient(notebook, timeout=900).execute()
finally:
    nbformat.write(notebook, "ran.ipynb")
"""


def main(home: str, *names: str) -> int:
    """Run each notebook; the number of those that failed."""
    home = Path(home).resolve()
    python = environment(home / "venv")
    tree = home / "tree"  # a copy: pip leaves a folder where it builds
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(ROOT / "ganlib", tree / "ganlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    pip(Path(sys.executable), "wheel", "--no-deps", "-w", home, tree)
    (startup := home / "ipython/profile_default/startup").mkdir(parents=True, exist_ok=True)
    (startup / "colab.py").write_text(STARTUP)
    failed = 0
    os.environ["MPLCONFIGDIR"] = str(home / "matplotlib")  # filled, as it is there
    subprocess.run([python, "-c", "import matplotlib.pyplot"], check=True)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if not names or path.stem in names:
            begun = time.monotonic()
            found = faults(path, python, home)
            failed += bool(found)
            took = f"{(time.monotonic() - begun) / 60:.1f} min"
            print(path.stem, took, "; ".join(found) or "passed", sep=" · ", flush=True)
    return failed


def environment(folder: Path) -> Path:
    """The Python of an environment with Colab's versions, made if missing."""
    python = folder / "bin/python"
    if not (folder / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip(python, "install", *VERSIONS.split())
        (folder / "made").touch()
    return python


def pip(python: Path, *words) -> str:
    """Run pip; what it printed."""
    command = [python, "-m", "pip", "--disable-pip-version-check", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def faults(path: Path, python: Path, home: Path) -> list[str]:
    """What is wrong with a notebook after it ran alone in an empty folder."""
    folder, wheel = home / path.stem, next(home.glob("ganlib-*.whl"))
    pip(python, "uninstall", "-qq", "-y", *ABSENT)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    text = re.sub(r"git\+https://github\.com/[\w.-]+/[\w.-]+", str(wheel), path.read_text(encoding="utf-8"))
    notebook = json.loads(text)
    last = {"cell_type": "code", "id": "last", "source": LAST_CELL, "outputs": []}
    notebook["cells"].append(last | {"metadata": {}, "execution_count": None})
    (folder / path.name).write_text(json.dumps(notebook))
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("GANLIB", "PYTHONPATH", "MPLBACKEND"))
    }
    own = {"GANLIB_PROFILE": "ci", "GANLIB_DOWNLOAD": "0", "IPYTHONDIR": str(home / "ipython"), "HOME": str(folder)}
    own["PATH"] = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [python, "-c", EXECUTE, path.name], cwd=folder, env=kept | own, stderr=subprocess.PIPE, text=True
    )
    if ran.returncode:
        return [f"a cell failed (see {folder / 'ran.ipynb'}): {ran.stderr.strip().splitlines()[-1]}"]
    there = set(pip(python, "freeze").split())
    replaced = [line for line in VERSIONS.split() if "==" in line and line not in there]
    done = json.loads((folder / "ran.ipynb").read_text())
    return [*_wrong(done), *(f"{line} was replaced" for line in replaced)]


def _wrong(notebook: dict):
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    printed = "".join("".join(output.get("text", "")) for output in code[-1]["outputs"])
    if "usage: ganlib" not in printed or "trained" not in printed:
        yield f"!ganlib printed {printed!r}"
    first = [output["data"] for output in code[0]["outputs"] if "data" in output]
    if not any(base64.b64decode(data.get("image/png", "")) or "data:image/" in str(data) for data in first):
        yield "the first cell shows no picture"
    text = "".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    if local := re.findall(r"""(?:!\[[^]]*\]\(|<img[^>]*src=["'])(?!https?:|data:|attachment:)([^)"']+)""", text):
        yield f"pictures that are not there in Colab: {', '.join(local)}"
    if stderr := [output for cell in code for output in cell["outputs"] if output.get("name") == "stderr"]:
        yield f"an error output: {''.join(stderr[0]['text'])[:200]}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
