"""The committed notebooks: executed in order, clean, short, complete; and each check fails on a bad one."""

import json
import re
import subprocess
import sys

import pytest

from helpers import NOTEBOOKS, ROOT, defined, load_script, read_notebook, source

clean_notebooks = load_script("clean_notebooks")
SLUG = load_script("set_repository").repository(ROOT)

LARGEST = 3_000_000  # bytes
LONGEST = {"code": 25, "markdown": 40, "raw": 40}  # lines of a cell
PROGRESS = re.compile(r"(it/s|s/it|\?it/s|step/s)[^\n\r]*\]|\d+%\|")
SOME_PROGRESS = 3  # a finished bar or two may stay; a trace of every step may not
NOT_IN_COLAB = "tyro torch-fidelity pooch"  # of what ganlib needs; --no-deps leaves them out, and torch alone
COLAB = "https://colab.research.google.com/github/"


def outputs(notebook):
    """Cell number, counted from 1, and output, of every output."""
    return [(n, out) for n, cell in enumerate(notebook["cells"], 1) for out in cell.get("outputs", ())]


def text_of(notebook, kind):
    return "\n".join(source(cell) for cell in notebook["cells"] if cell["cell_type"] == kind)


# --- the checks: each takes a notebook and its path, and yields what is wrong, a sentence each ----


def ran_from_top_to_bottom(notebook, path):
    yield from clean_notebooks.faults(notebook)


def carries_nothing_of_its_run(notebook, path):
    if clean_notebooks.clean(notebook) != notebook:
        yield "its metadata is not clean; run 'make notebooks'"


def has_no_residue(notebook, path):
    for n, output in outputs(notebook):
        shown = [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))]
        shown = "\n".join(map(clean_notebooks.joined, shown))
        if any(kind.startswith("application/vnd.jupyter.widget") for kind in output.get("data", {})):
            yield f"cell {n} left a widget, which shows nothing once the kernel is gone"
        if len(PROGRESS.findall(shown)) > SOME_PROGRESS or shown.count("\r") > SOME_PROGRESS:
            yield f"cell {n} left the trace of a progress bar"


def is_small(notebook, path):
    if (size := len(clean_notebooks.dump(notebook).encode())) > LARGEST:
        yield f"it has {size:,} bytes, more than {LARGEST:,}"
    for n, cell in enumerate(notebook["cells"], 1):
        if (length := len(source(cell).splitlines())) > LONGEST[cell["cell_type"]]:
            yield f"cell {n} has {length} lines"


def shows_pictures_that_exist(notebook, path):
    for n, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] == "markdown":
            named = re.findall(r"!\[[^\]]*\]\(\s*<?([^)\s>]+)", source(cell))
            for name in named + re.findall(r"<img\b[^>]*?\bsrc\s*=\s*[\"']([^\"']+)", source(cell)):
                attached = name.removeprefix("attachment:") in cell.get("attachments", {})
                if not (attached or re.match(r"https://|data:", name) or (path.parent / name).is_file()):
                    yield f"cell {n} shows '{name}', which does not exist"


def says_what_its_pictures_show(notebook, path):
    for n, output in outputs(notebook):
        data = output.get("data", {})
        pictures = re.findall(r"<img\b[^>]*>", clean_notebooks.joined(data.get("text/html", "")))
        if any(kind.startswith("image/") for kind in data) and not pictures:
            yield f"cell {n} shows a picture without an <img alt=...> beside it"
        if not all(re.search(r"\balt=([\"'])[^\"']{12,}\1", picture) for picture in pictures):
            yield f"cell {n} shows a picture that has no text, or hardly any"


def has_checked_outputs(notebook, path):
    tags = {n: cell["metadata"].get("tags", []) for n, cell in enumerate(notebook["cells"], 1)}
    checked = [n for n in tags if "nbval-check-output" in tags[n]]
    if not checked:
        yield "no cell is tagged nbval-check-output, so nothing it prints is ever compared"
    for n in set(checked) - {n for n, output in outputs(notebook) if output["output_type"] == "stream"}:
        yield f"cell {n} is tagged nbval-check-output but prints nothing"


def is_ready_for_colab(notebook, path):
    metadata = notebook["metadata"]
    asked = [name for name in (metadata.get("accelerator"), metadata.get("colab", {}).get("gpuType")) if name]
    if 'budget("cpu"' in text_of(notebook, "code"):
        if asked:
            yield f"its metadata asks Colab for a GPU that it does not use ({asked[0]})"
    elif metadata.get("accelerator") != "GPU" or len(asked) < 2:
        yield 'its metadata does not ask Colab for a GPU ("accelerator": "GPU", "colab": {"gpuType": "T4"})'
    linked = set(re.findall(rf"{re.escape(COLAB)}([^)\s\"\\]+)", text_of(notebook, "markdown")))
    if linked != {f"{SLUG}/blob/main/notebooks/{path.name}"}:
        yield f"it has no Open-in-Colab badge that links to itself, but {sorted(linked)}"
    if not re.search(rf"pip install .*git\+https://github\.com/{re.escape(SLUG)}(?![\w-])", text_of(notebook, "code")):
        yield f"its set-up cell does not install from git+https://github.com/{SLUG}"
    if not re.search(rf"pip install -q {NOT_IN_COLAB}$", text_of(notebook, "code"), re.MULTILINE):
        yield f"its set-up cell does not install what Colab lacks: {NOT_IN_COLAB}"
    if "../runs" in text_of(notebook, "code"):
        yield "it writes to '../runs', which is not there in Colab; files belong beside the notebook"


CHECKS = [ran_from_top_to_bottom, carries_nothing_of_its_run, has_no_residue, is_small, shows_pictures_that_exist]
CHECKS += [has_checked_outputs, is_ready_for_colab, says_what_its_pictures_show]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, check):
    assert not list(check(read_notebook(path), path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_saving_it_again_changes_nothing(path):
    nbformat, text = pytest.importorskip("nbformat"), path.read_text(encoding="utf-8")
    assert nbformat.writes(nbformat.reads(text, 4)) + "\n" == text


@pytest.mark.parametrize("command", ["check", "format --check"])
def test_sources_are_lint_clean(command):
    words = [sys.executable, "-m", "ruff", *command.split(), "--no-cache", "notebooks"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# --- the checks themselves, on a notebook made here -----------------------------------------------


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def code(text, *outs, tags=()):
    metadata = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "source": text, "outputs": [*outs], "metadata": metadata, "execution_count": None}


def good_notebook():
    badge = f"[![c](https://x.org/c.svg)]({COLAB}{SLUG}/blob/main/notebooks/a.ipynb)"
    top = {"cell_type": "markdown", "source": f"# A GAN\n\n{badge}\n\n![it moves](moves.gif)", "metadata": {}}
    cells = [
        code(f"if COLAB:\n    %pip install -q git+https://github.com/{SLUG}\n    %pip install -q {NOT_IN_COLAB}"),
        code("def step(gan, batches):\n    return {}"),
        code("print(6 * 7)", stream("42\n"), tags=["nbval-check-output"]),
    ]
    for count, cell in enumerate(cells, 1):
        cell["execution_count"] = count
    metadata = {"accelerator": "GPU", "colab": {"gpuType": "T4"}, "kernelspec": dict(clean_notebooks.KERNEL)}
    metadata |= {"language_info": dict(clean_notebooks.LANGUAGE)}
    return {"cells": [top, *cells], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def path(tmp_path):
    (tmp_path / "moves.gif").write_bytes(b"GIF89a")
    return tmp_path / "a.ipynb"


def picture(data):
    return {"output_type": "display_data", "data": data, "metadata": {}}


def change(notebook, place, value):
    """Put ``value`` at ``place``; a list there gets it appended."""
    *way, last = place
    for key in way:
        notebook = notebook[key]
    if isinstance(notebook, dict) and isinstance(notebook.get(last), list):
        notebook[last].append(value)
    else:
        notebook[last] = value


ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "z has the wrong shape", "traceback": []}
WIDGET = {"output_type": "display_data", "data": {"application/vnd.jupyter.widget-view+json": {}}, "metadata": {}}
BAR = " 50%|#####     | 50/100 [00:01<00:01, 50.00it/s]\n"
FLICKER = {"output_type": "display_data", "data": {"text/plain": ["1 it/s]\n"] * 9}, "metadata": {}}
OUT, TEXT, BADGE = ["cells", 2, "outputs"], ["cells", 2, "source"], ["cells", 0, "source"]

SPOILED = [
    (ran_from_top_to_bottom, ["cells", 2, "execution_count"], None, "cell 3 has the execution count None"),
    (ran_from_top_to_bottom, ["cells", 2, "execution_count"], 7, "cell 3 has the execution count 7 instead of 2"),
    (ran_from_top_to_bottom, ["cells"], code("  "), "cell 5 is empty"),
    (ran_from_top_to_bottom, OUT, ERROR, "cell 3 raised ValueError: z has the wrong"),
    (ran_from_top_to_bottom, OUT, stream("oh", "stderr"), "cell 3 wrote to stderr: oh"),
    (carries_nothing_of_its_run, ["metadata", "widgets"], {}, "not clean"),
    (carries_nothing_of_its_run, ["metadata", "kernelspec", "name"], "ganlib", "not clean"),
    (carries_nothing_of_its_run, ["cells", 2, "metadata", "execution"], {}, "not clean"),
    (carries_nothing_of_its_run, ["metadata", "language_info", "version"], "3.11.1", "not clean"),
    (has_no_residue, OUT, WIDGET, "cell 3 left a widget"),
    (has_no_residue, OUT, stream(BAR * 9), "cell 3 left the trace"),
    (has_no_residue, OUT, stream(BAR.replace("it/s", "step/s") * 9), "cell 3 left the trace"),
    (has_no_residue, OUT, stream("step\r" * 9), "cell 3 left the trace"),
    (has_no_residue, OUT, FLICKER, "cell 3 left the trace"),
    (is_small, OUT, stream("x" * LARGEST), "more than 3,000,000"),
    (is_small, TEXT, "\n" * 25 + "x", "cell 3 has 26 lines"),
    (is_small, BADGE, "so\n" * 41, "cell 1 has 41 lines"),
    (shows_pictures_that_exist, BADGE, "![x](gone.png)", "cell 1 shows 'gone.png'"),
    (shows_pictures_that_exist, BADGE, "<img src='gone.png'>", "cell 1 shows 'gone.png'"),
    (shows_pictures_that_exist, BADGE, "![x](attachment:a.png)", "'attachment:a.png'"),
    (has_checked_outputs, ["cells", 3, "metadata"], {}, "no cell is tagged nbval-check-output"),
    (has_checked_outputs, ["cells", 2, "metadata"], {"tags": ["nbval-check-output"]}, "cell 3 is tagged"),
    (is_ready_for_colab, ["metadata", "accelerator"], "TPU", "does not ask Colab for a GPU"),
    (is_ready_for_colab, ["metadata", "colab"], {}, "does not ask Colab for a GPU"),
    (is_ready_for_colab, ["cells", 2, "source"], 'budget("cpu", steps=9)', "asks Colab for a GPU that it does not use"),
    (is_ready_for_colab, BADGE, "# A GAN", "no Open-in-Colab badge"),
    (is_ready_for_colab, BADGE, f"({COLAB}{SLUG}/blob/main/notebooks/b.ipynb)", "no Open-in-Colab badge"),
    (is_ready_for_colab, ["cells", 1, "source"], "%pip install ganlib", "does not install from git"),
    (
        is_ready_for_colab,
        ["cells", 1, "source"],
        f"pip install git+https://github.com/{SLUG}",
        "what Colab lacks: tyro",
    ),
    (is_ready_for_colab, TEXT, "save('../runs/x')", "'../runs'"),
    (says_what_its_pictures_show, OUT, picture({"image/png": "x"}), "cell 3 shows a picture without an <img"),
    (
        says_what_its_pictures_show,
        OUT,
        picture({"text/html": "<img src='x'>"}),
        "cell 3 shows a picture that has no text",
    ),
    (says_what_its_pictures_show, OUT, picture({"text/html": "<img alt='x'>"}), "or hardly any"),
]
assert {check for check, *_ in SPOILED} == {*CHECKS}  # each check is shown to fail


@pytest.mark.parametrize(("check", "place", "value", "sentence"), SPOILED)
def test_a_bad_notebook_is_seen(check, place, value, sentence, path):
    notebook = good_notebook()
    assert not list(check(notebook, path))
    change(notebook, place, value)
    assert any(sentence in found for found in check(notebook, path))


# --- cleaning, and taking definitions out ---------------------------------------------------------


def test_cleaning_keeps_what_matters_is_stable_and_refuses_to_hide_an_error(path, capsys):
    notebook = good_notebook()
    notebook["metadata"]["widgets"] = {"state": {}}
    notebook["metadata"]["kernelspec"] = {"display_name": "my env", "language": "python", "name": "mine"}
    notebook["metadata"]["language_info"]["version"] = "3.12.1"
    notebook["cells"][3]["metadata"]["execution"] = {"iopub.execute_input": "2026-01-01"}
    notebook["cells"][3]["outputs"].insert(0, picture({"text/plain": []}))  # of a progress bar that was removed
    path.write_text(json.dumps(notebook))
    assert clean_notebooks.main(["--check", str(path)]) == 1
    assert "it carries metadata of one run" in capsys.readouterr().err
    assert clean_notebooks.main([str(path)]) == 0 and json.loads(path.read_text()) == good_notebook()
    written = path.read_bytes()
    assert clean_notebooks.main([str(path)]) == clean_notebooks.main(["--check", str(path)]) == 0
    assert path.read_bytes() == written
    notebook["cells"][2]["outputs"].append(stream("UserWarning: look here\n", "stderr"))
    path.write_text(json.dumps(notebook))
    assert clean_notebooks.main([str(path)]) == 1 and json.loads(path.read_text()) == notebook
    assert "a.ipynb: cell 3 wrote to stderr: UserWarning: look here." in capsys.readouterr().err


def test_what_a_notebook_defines_is_taken_out_without_running_it():
    notebook = good_notebook()
    text = "from functools import cache\nk, n = 3, [-1]\n@cache\ndef triple(x):\n    return k * x\nraise ValueError"
    notebook["cells"] += [code(f"%matplotlib inline\n{text}"), code("class Net:\n    pass"), code("z = gone()")]
    found = defined(notebook)
    assert found["triple"](14) == 42 and found["n"] == [-1] and found["step"](None, None) == {} and "Net" in found
    assert "z" not in found
    found["k"] = 2
    assert found["triple"](21) == 42
