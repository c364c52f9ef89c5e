"""The course as a book: every notebook a page, as it was executed. `make site` builds it into site/build/."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "scripts"))
from set_repository import repository  # noqa: E402

project, author, copyright = "Learn GANs by running them", "the authors", "the authors, MIT licence"
extensions = ["myst_nb", "sphinx.ext.mathjax"]
exclude_patterns = ["build", "extra"]
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]

html_theme = "furo"
html_title = project
html_static_path, html_extra_path = ["static"], ["extra"]
html_css_files = ["book.css"]
html_copy_source = html_show_sphinx = False
html_show_search_summary = False  # it would fetch the pages found, which a browser forbids where there is no host
html_theme_options = {"top_of_page_buttons": [], "footer_icons": []}
mathjax_path = "tex-svg.js"  # all of MathJax in one file: no fonts to fetch, no other host


def stage() -> None:
    """Copy what the pages are made of to where Sphinx looks for it."""
    pages, extra, static = HERE / "notebooks", HERE / "extra", HERE / "static"
    for folder in (pages, extra / "notebooks", static):
        folder.mkdir(parents=True, exist_ok=True)
    for old in (*pages.glob("*.ipynb"), *(extra / "notebooks").glob("*.ipynb")):
        old.unlink()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        (extra / "notebooks" / path.name).write_text(text, encoding="utf-8")
        (pages / path.name).write_text(as_page(text, path.name), encoding="utf-8")
    mathjax = Path(find_spec("sphinx-mathjax-offline").submodule_search_locations[0]) / "static" / "mathjax"
    (static / "tex-svg.js").write_bytes((mathjax / "tex-svg.js").read_bytes())


def as_page(text: str, name: str) -> str:
    """A notebook with links in place of its badge, which is a picture on another host."""
    notebook = nbformat.reads(text, 4)
    links = rf'[Open in Colab](\1) · <a href="{name}" download>download this notebook</a>'
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace("](../", f"](https://github.com/{repository(ROOT)}/blob/main/")
            cell.source = re.sub(r"\[!\[[^\]]*\]\([^)]*\)\]\(([^)]*)\)", links, cell.source)
    return nbformat.writes(notebook)


def setup(app) -> None:
    stage()
