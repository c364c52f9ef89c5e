"""The committed notebooks: executed in order, clean, short, complete; and each check fails on a bad one."""

import ast
import copy
import json
import re

import pytest

from helpers import (
    NOTEBOOKS,
    ROOT,
    definition,
    exercises,
    from_notebook,
    load_script,
    plain_python,
    read_notebook,
    source,
)

clean_notebooks = load_script("clean_notebooks")
set_repository = load_script("set_repository")

LARGEST = 1_000_000  # bytes
LONGEST_CELL = 40  # lines
SHORT_CELL, SHORT_SHARE = 15, 0.70  # most code cells have at most so many lines
LONGEST_STEP = 25  # lines
PROGRESS = re.compile(r"(it/s|s/it|\?it/s)[^\n\r]*\]|\d+%\|")
SOME_PROGRESS = 3  # a finished bar or two may stay; a trace of every step may not


def code_cells(notebook):
    """Cell number, counted from 1, and cell, of the code cells."""
    return [(n, cell) for n, cell in enumerate(notebook["cells"], 1) if cell["cell_type"] == "code"]


def outputs(notebook):
    """Cell number and output, of every output."""
    return [(n, output) for n, cell in code_cells(notebook) for output in cell["outputs"]]


def shown_text(output):
    """All the text that an output shows, whatever its kind."""
    texts = [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))]
    return "\n".join(clean_notebooks.joined(text) for text in texts)


# --- the checks: each takes a notebook and its folder, and gives back what is wrong, one sentence e


def ran_from_top_to_bottom(notebook, folder):
    return clean_notebooks.faults(notebook)


def carries_nothing_of_its_run(notebook, folder):
    return [] if clean_notebooks.clean(notebook) == notebook else ["its metadata is not clean; run 'make notebooks'"]


def has_no_widgets(notebook, folder):
    return [
        f"cell {n} left a widget, which shows nothing once the kernel is gone"
        for n, output in outputs(notebook)
        if any(kind.startswith("application/vnd.jupyter.widget") for kind in output.get("data", {}))
    ]


def has_no_progress_left(notebook, folder):
    return [
        f"cell {n} left the trace of a progress bar"
        for n, output in outputs(notebook)
        if len(PROGRESS.findall(shown_text(output))) > SOME_PROGRESS or shown_text(output).count("\r") > SOME_PROGRESS
    ]


def is_small(notebook, folder):
    size = len(clean_notebooks.dump(notebook).encode())
    return [f"it has {size:,} bytes, more than {LARGEST:,}"] if size > LARGEST else []


def has_short_cells(notebook, folder):
    lengths = [len(source(cell).splitlines()) for cell in notebook["cells"]]
    found = [f"cell {n} has {length} lines" for n, length in enumerate(lengths, 1) if length > LONGEST_CELL]
    code = [lengths[n - 1] for n, _ in code_cells(notebook)]
    short = sum(length <= SHORT_CELL for length in code)
    if short < SHORT_SHARE * len(code):
        found.append(f"only {short} of {len(code)} code cells have at most {SHORT_CELL} lines")
    return found


def has_short_steps(notebook, folder):
    found = []
    for n, cell in code_cells(notebook):
        for node in ast.walk(ast.parse(plain_python(source(cell)))):
            if isinstance(node, ast.FunctionDef) and (node.name == "step" or node.name.endswith("_step")):
                length = node.end_lineno - node.lineno + 1
                if length > LONGEST_STEP:
                    found.append(f"the training step '{node.name}' in cell {n} has {length} lines")
    return found


def shows_pictures_that_exist(notebook, folder):
    found = []
    for n, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] != "markdown":
            continue
        named = re.findall(r"!\[[^\]]*\]\(\s*<?([^)\s>]+)", source(cell))
        named += re.findall(r"<img\b[^>]*?\bsrc\s*=\s*[\"']([^\"']+)", source(cell))
        for name in named:
            if name.startswith("attachment:"):
                there = name.removeprefix("attachment:") in cell.get("attachments", {})
            else:
                there = re.match(r"https://|data:", name) or (folder / name).is_file()
            if not there:
                found.append(f"cell {n} shows '{name}', which does not exist")
    return found


def has_checked_outputs(notebook, folder):
    checked = [n for n, cell in code_cells(notebook) if "nbval-check-output" in cell["metadata"].get("tags", [])]
    if not checked:
        return ["no cell is tagged nbval-check-output, so nothing it prints is ever compared"]
    printed = {n for n, output in outputs(notebook) if output["output_type"] == "stream"}
    return [f"cell {n} is tagged nbval-check-output but prints nothing" for n in checked if n not in printed]


def is_ready_for_colab(notebook, folder):
    metadata, slug = notebook["metadata"], set_repository.repository(ROOT)
    found = []
    if metadata.get("accelerator") != "GPU" or not metadata.get("colab", {}).get("gpuType"):
        found.append('its metadata does not ask Colab for a GPU ("accelerator": "GPU", "colab": {"gpuType": "T4"})')
    text = {
        kind: "\n".join(source(c) for c in notebook["cells"] if c["cell_type"] == kind) for kind in ("markdown", "code")
    }
    badge = f"https://colab.research.google.com/github/{slug}/blob/main/notebooks/"
    if badge not in text["markdown"]:
        found.append(f"it has no Open-in-Colab badge that links to {badge}...")
    if not re.search(rf"pip install .*git\+https://github\.com/{re.escape(slug)}(?![\w-])", text["code"]):
        found.append(f"its set-up cell does not install from git+https://github.com/{slug}")
    return found


CHECKS = [
    ran_from_top_to_bottom,
    carries_nothing_of_its_run,
    has_no_widgets,
    has_no_progress_left,
    is_small,
    has_short_cells,
    has_short_steps,
    shows_pictures_that_exist,
    has_checked_outputs,
    is_ready_for_colab,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, check):
    found = check(read_notebook(path), path.parent)
    assert not found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_opens_itself_in_colab(path):
    slug = set_repository.repository(ROOT)
    linked = re.findall(
        rf"colab\.research\.google\.com/github/{re.escape(slug)}/blob/main/([^)\s\"\\]+)", path.read_text()
    )
    assert linked
    assert set(linked) == {f"notebooks/{path.name}"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_three_to_five_exercises_with_solutions(path):
    found = exercises(path)
    assert 3 <= len(found) <= 5 and all(solution for _, _, solution in found)
    assert [number for number, _, _ in found] == [str(k + 1) for k in range(len(found))]


# --- the checks themselves, on a notebook made here -----------------------------------------------


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def code(text, *outs, tags=()):
    metadata = {"tags": list(tags)} if tags else {}
    return {
        "cell_type": "code",
        "source": text,
        "outputs": list(outs),
        "metadata": metadata,
        "execution_count": None,
    }


def markdown(text):
    return {"cell_type": "markdown", "source": text, "metadata": {}}


def good_notebook():
    slug = set_repository.repository(ROOT)
    badge = f"[![c](https://x.org/c.svg)](https://colab.research.google.com/github/{slug}/blob/main/notebooks/a.ipynb)"
    notebook = {
        "cells": [
            markdown(f"# A GAN\n\n{badge}\n\n![it moves](moves.gif)"),
            code(f"if COLAB:\n    %pip install -q git+https://github.com/{slug}"),
            code("def step(gan, batches):\n    return {}"),
            code("print(6 * 7)", stream("42\n"), tags=["nbval-check-output"]),
        ],
        "metadata": {
            "accelerator": "GPU",
            "colab": {"gpuType": "T4"},
            "kernelspec": dict(clean_notebooks.KERNEL),
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    for count, (_, cell) in enumerate(code_cells(notebook), 1):
        cell["execution_count"] = count
    return notebook


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "moves.gif").write_bytes(b"GIF89a")
    return tmp_path


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_good_notebook_passes(check, folder):
    assert not check(good_notebook(), folder)


def edit(path, value):
    """A change of one place in a notebook: ``path`` leads there; a list there gets ``value`` appended."""

    def change(notebook):
        *way, last = path
        for key in way:
            notebook = notebook[key]
        if isinstance(notebook, dict) and isinstance(notebook.get(last), list):
            notebook[last].append(value)
        else:
            notebook[last] = value

    return change


ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "z has the wrong shape", "traceback": []}
WIDGET = {
    "output_type": "display_data",
    "data": {"application/vnd.jupyter.widget-view+json": {}},
    "metadata": {},
}
BAR = " 50%|#####     | 50/100 [00:01<00:01, 50.00it/s]\n"
FLICKER = {"output_type": "display_data", "data": {"text/plain": ["1 it/s]\n"] * 9}, "metadata": {}}
LONG_STEP = "def wgan_step(gan, batches):\n" + "    x = 1\n" * LONGEST_STEP

SPOILED = [
    (
        ran_from_top_to_bottom,
        edit(["cells", 2, "execution_count"], None),
        "cell 3 has the execution count None",
    ),
    (
        ran_from_top_to_bottom,
        edit(["cells", 2, "execution_count"], 7),
        "cell 3 has the execution count 7 instead of 2",
    ),
    (ran_from_top_to_bottom, edit(["cells"], code("  ")), "cell 5 is empty"),
    (
        ran_from_top_to_bottom,
        edit(["cells", 2, "outputs"], ERROR),
        "cell 3 raised ValueError: z has the wrong",
    ),
    (
        ran_from_top_to_bottom,
        edit(["cells", 2, "outputs"], stream("oh", "stderr")),
        "cell 3 wrote to stderr: oh",
    ),
    (carries_nothing_of_its_run, edit(["metadata", "widgets"], {}), "metadata is not clean"),
    (carries_nothing_of_its_run, edit(["metadata", "kernelspec", "name"], "ganlib"), "metadata is not clean"),
    (carries_nothing_of_its_run, edit(["cells", 2, "metadata", "execution"], {}), "metadata is not clean"),
    (
        carries_nothing_of_its_run,
        edit(["metadata", "language_info", "version"], "3.11.1"),
        "metadata is not clean",
    ),
    (has_no_widgets, edit(["cells", 2, "outputs"], WIDGET), "cell 3 left a widget"),
    (has_no_progress_left, edit(["cells", 2, "outputs"], stream(BAR * 9)), "cell 3 left the trace"),
    (has_no_progress_left, edit(["cells", 2, "outputs"], stream("step\r" * 9)), "cell 3 left the trace"),
    (has_no_progress_left, edit(["cells", 2, "outputs"], FLICKER), "cell 3 left the trace"),
    (is_small, edit(["cells", 2, "outputs"], stream("x" * LARGEST)), "more than 1,000,000"),
    (has_short_cells, edit(["cells", 2, "source"], "\n" * 40 + "x"), "cell 3 has 41 lines"),
    (has_short_cells, edit(["cells", 0, "source"], "so\n" * 41), "cell 1 has 41 lines"),
    (has_short_cells, edit(["cells", 2, "source"], "x = 1\n" * 16), "only 2 of 3 code cells"),
    (
        has_short_steps,
        edit(["cells", 2, "source"], LONG_STEP),
        "the training step 'wgan_step' in cell 3 has 26 lines",
    ),
    (shows_pictures_that_exist, edit(["cells", 0, "source"], "![x](gone.png)"), "cell 1 shows 'gone.png'"),
    (
        shows_pictures_that_exist,
        edit(["cells", 0, "source"], "<img src='gone.png'>"),
        "cell 1 shows 'gone.png'",
    ),
    (shows_pictures_that_exist, edit(["cells", 0, "source"], "![x](attachment:a.png)"), "'attachment:a.png'"),
    (has_checked_outputs, edit(["cells", 3, "metadata"], {}), "no cell is tagged nbval-check-output"),
    (
        has_checked_outputs,
        edit(["cells", 2, "metadata"], {"tags": ["nbval-check-output"]}),
        "cell 3 is tagged",
    ),
    (is_ready_for_colab, edit(["metadata", "accelerator"], "TPU"), "does not ask Colab for a GPU"),
    (is_ready_for_colab, edit(["metadata", "colab"], {}), "does not ask Colab for a GPU"),
    (is_ready_for_colab, edit(["cells", 0, "source"], "# A GAN"), "no Open-in-Colab badge"),
    (is_ready_for_colab, edit(["cells", 1, "source"], "%pip install ganlib"), "does not install from git"),
]


@pytest.mark.parametrize(("check", "spoil", "sentence"), SPOILED, ids=[f"{c.__name__}-{s}" for c, _, s in SPOILED])
def test_a_bad_notebook_is_seen(check, spoil, sentence, folder):
    notebook = good_notebook()
    spoil(notebook)
    assert any(sentence in found for found in check(notebook, folder))


def test_every_check_is_shown_to_fail():
    assert {check for check, _, _ in SPOILED} == set(CHECKS)


# --- cleaning -------------------------------------------------------------------------------------


def test_cleaning_keeps_what_matters_and_is_stable(tmp_path, capsys):
    notebook, expected = good_notebook(), good_notebook()
    notebook["metadata"]["widgets"] = {"state": {}}
    notebook["metadata"]["kernelspec"] = {"display_name": "my env", "language": "python", "name": "mine"}
    notebook["metadata"]["language_info"]["version"] = "3.12.1"
    notebook["cells"][3]["metadata"]["execution"] = {"iopub.execute_input": "2026-01-01"}
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(notebook))
    assert clean_notebooks.main(["--check", str(path)]) == 1
    assert "it carries metadata of one run" in capsys.readouterr().err
    assert clean_notebooks.main([str(path)]) == 0
    assert json.loads(path.read_text()) == expected
    written = path.read_bytes()
    assert clean_notebooks.main([str(path)]) == clean_notebooks.main(["--check", str(path)]) == 0
    assert path.read_bytes() == written


def test_cleaning_refuses_to_hide_an_error(tmp_path, capsys):
    notebook = good_notebook()
    notebook["metadata"]["widgets"] = {}
    notebook["cells"][2]["outputs"].append(stream("UserWarning: look here\n", "stderr"))
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(notebook))
    assert clean_notebooks.main([str(path)]) == 1
    assert "a.ipynb: cell 3 wrote to stderr: UserWarning: look here." in capsys.readouterr().err
    assert json.loads(path.read_text()) == notebook


# --- taking definitions out -----------------------------------------------------------------------


def test_a_definition_is_taken_out_of_a_cell():
    notebook = good_notebook()
    double = "@cache\ndef double(x):\n    # twice\n    return 2 * x * one\n"
    notebook["cells"].append(code(f"%matplotlib inline\nk = 1\n{double}\nprint(double(1))"))
    assert definition(notebook, "double") == double
    assert from_notebook(notebook, "double", {"cache": lambda f: f, "one": 1})(21) == 42


def test_a_definition_that_is_missing_or_ambiguous_is_an_error():
    notebook = copy.deepcopy(good_notebook())
    with pytest.raises(LookupError, match="No cell of the notebook defines 'g_step'"):
        definition(notebook, "g_step")
    notebook["cells"].append(code("def step(gan, batches):\n    return {'broken': True}"))
    with pytest.raises(LookupError, match="Cells 3, 5 all define 'step'"):
        definition(notebook, "step")
    assert "broken" not in definition(notebook, "step", nth=0)
    assert "broken" in definition(notebook, "step", nth=1)
