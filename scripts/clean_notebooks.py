"""Strip from executed notebooks what differs from run to run or from machine to machine.

    python scripts/clean_notebooks.py notebooks/*.ipynb           clean them in place
    python scripts/clean_notebooks.py --check notebooks/*.ipynb   change nothing; exit 1 if one is not clean
    python scripts/clean_notebooks.py --filter                    clean what git sends to stdin; refuse nothing

The last is for git, which then stores nothing else of notebooks that another editor than ours (scripts/lab.py) saved:

    git config filter.notebooks.clean "python3 scripts/clean_notebooks.py --filter"

Removed: widget state, execution times, and what editors add; the kernel becomes the plain "Python 3" that
every machine has. A notebook with an error, with something on stderr or with a cell that has not run is
refused and left as it is: those are for the author to repair, not to hide.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

# What JupyterLab writes of every Python kernel, but for its version.
LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
NOTEBOOK_EXTRAS = ("widgets", "vscode", "interpreter", "papermill", "toc")
CELL_EXTRAS = ("execution", "ExecuteTime", "papermill", "vscode", "outputId", "executionInfo", "trusted")


def joined(text: str | list[str]) -> str:
    """A notebook stores text as one string or as a list of lines; here it is one string."""
    return text if isinstance(text, str) else "".join(text)


def faults(notebook: dict) -> list[str]:
    """What cleaning must not hide, one sentence each: errors, stderr, cells that have not run in order."""
    found, count = [], 0
    for number, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] != "code":
            continue
        if not joined(cell["source"]).strip():
            found.append(f"cell {number} is empty; remove it")
            continue
        count += 1
        if cell.get("execution_count") != count:
            found.append(
                f"cell {number} has the execution count {cell.get('execution_count')} instead of {count}; "
                "run the notebook from top to bottom"
            )
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                found.append(f"cell {number} raised {output['ename']}: {output['evalue'][:80]}")
            elif output.get("name") == "stderr":
                found.append(f"cell {number} wrote to stderr: {joined(output['text']).strip()[:80]}")
    return found


def clean(notebook: dict) -> dict:
    """A copy of ``notebook`` without what differs between runs and machines; the outputs stay as they are."""
    notebook = json.loads(json.dumps(notebook))
    metadata = notebook["metadata"]
    for key in NOTEBOOK_EXTRAS:
        metadata.pop(key, None)
    if metadata.get("kernelspec", {}).get("language", "python") == "python":
        metadata["kernelspec"] = dict(KERNEL)
    if metadata.get("language_info", {}).get("name") == "python":
        metadata["language_info"] = dict(LANGUAGE)
    for cell in notebook["cells"]:
        for key in CELL_EXTRAS:
            cell["metadata"].pop(key, None)
        for output in cell.get("outputs", []):
            output.get("metadata", {}).pop("execution", None)
        if "outputs" in cell:  # a progress bar that was removed leaves an empty line
            cell["outputs"] = [output for output in cell["outputs"] if not _is_empty(output.get("data", {}))]
    return notebook


def _is_empty(data: dict) -> bool:
    return list(data) == ["text/plain"] and not joined(data["text/plain"])


def dump(notebook: dict) -> str:
    """The text of a notebook file, laid out as Jupyter does."""
    return json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def filtered(content: bytes) -> bytes:
    """What git is to store of a file: a cleaned notebook; anything else, or a broken one, as it is."""
    try:
        return dump(clean(json.loads(content.decode("utf-8")))).encode("utf-8")
    except (ValueError, KeyError, TypeError, AttributeError):
        return content


def before_saving(model: dict, **_) -> None:
    """Clean what JupyterLab saves, all but the marks of trust: its server signs by them, and drops them itself."""
    if model["type"] == "notebook":
        notebook = model["content"]
        model["content"] = clean(notebook)
        for cell, before in zip(model["content"]["cells"], notebook["cells"], strict=True):
            cell["metadata"] |= {name: mark for name, mark in before["metadata"].items() if name == "trusted"}


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--check", action="store_true", help="change nothing, name what is not clean")
    parser.add_argument("--filter", action="store_true", help="clean stdin to stdout, for git")
    args = parser.parse_args(arguments)
    if args.filter:
        sys.stdout.buffer.write(filtered(sys.stdin.buffer.read()))
        return 0
    status = 0
    for path in args.notebooks:
        text = path.read_text(encoding="utf-8")
        notebook = json.loads(text)
        found = faults(notebook)
        cleaned = clean(notebook)
        if args.check and cleaned != notebook:
            found.append(f"it carries metadata of one run or one editor; run: python scripts/clean_notebooks.py {path}")
        for fault in found:
            print(f"{path}: {fault}.", file=sys.stderr)
        if found:
            status = 1
        elif not args.check and dump(cleaned) != text:  # in Jupyter's layout, too: one line a line
            path.write_text(dump(cleaned), encoding="utf-8")
            print(f"{path}: cleaned.")
    return status


if __name__ == "__main__":
    sys.exit(main())
