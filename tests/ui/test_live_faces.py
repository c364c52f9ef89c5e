"""The sliders of notebook 04: they move what two discriminators see, and the pairs are counted anew."""

import ast

from playwright.sync_api import expect

from helpers import plain_python, read_notebook, source

CELLS = [source(cell) for cell in read_notebook("04_dcgan_celeba.ipynb")["cells"] if cell["cell_type"] == "code"]
SETUP = """
import copy
from types import SimpleNamespace
import torch
from torch.nn.functional import pad
from ganlib import load, rng, sample, viz
from ganlib.data import to_float
from ganlib.models import dcgan_discriminator, dcgan_generator

few, others = load("fake", image_size=32, channels=3, n=400).hold_out(200)
cured = SimpleNamespace(ema_generator=dcgan_generator(32, 3, 4, 100))
fixed_z = torch.randn(10, 100, generator=rng(3))
networks = {"as they are": dcgan_discriminator(32, 3, 4, seed=1), "moved": dcgan_discriminator(32, 3, 4, seed=2)}
"""


def functions(*names):
    """The notebook's functions of these names, as text."""
    found = {}
    for text in map(plain_python, CELLS):
        nodes = (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef))
        found |= {node.name: ast.get_source_segment(text, node) for node in nodes}
    return "\n\n\n".join(found[name] for name in names)


def test_the_sliders_move_what_the_discriminators_see(notebook):
    (live,) = (cell for cell in CELLS if "viz.explore(look" in cell)
    book = notebook(SETUP, functions("moved", "logits_of", "pairs_after"), live)
    book.run_all()
    book.wait(2)
    handle = book.page.locator(".widget-slider", has_text="right").locator(".noUi-handle, .ui-slider-handle")
    shown = book.page.locator("img[alt*='moved 2 to the right, 1 down']")
    expect(shown).to_have_count(2)  # between the sliders, and below them, which a saved page has
    handle.focus()
    book.page.keyboard.press("ArrowRight")
    expect(book.page.locator("img[alt*='moved 3 to the right, 1 down']")).to_have_count(1, timeout=30_000)
    expect(shown).to_have_count(1)
