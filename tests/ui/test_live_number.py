"""The number of notebook 07: typed digits are drawn anew, and a slider changes the style of one."""

import re

from playwright.sync_api import expect

from helpers import read_notebook, source

IMPORTS = """
import math

import torch

from ganlib import GAN, rng, sample, viz
from ganlib.conditional import conditional_generator
from ganlib.steps import labelled
"""
PLAYERS = """
classes, z_dim = 10, 26
class gan:
    ema_generator = conditional_generator(28, 1, 4, z_dim)
"""


def test_a_typed_number_is_drawn_and_a_slider_changes_one_digit(notebook):
    cells = [source(cell) for cell in read_notebook("07_conditional.ipynb")["cells"]]
    mine = next(cell for cell in cells if cell.startswith("a, b = "))
    book = notebook(IMPORTS, PLAYERS, mine.partition("turns = torch.arange")[0])
    book.run_all()
    cell = book.cell(2)
    expect(picture := cell.locator("img")).to_have_attribute("alt", re.compile(r"\[2, 0, 2, 6\]"), timeout=60_000)
    cell.locator("input[type=text]").first.fill("73")
    book.page.keyboard.press("Enter")
    expect(picture).to_have_attribute("alt", re.compile(r"\[7, 3\] as written, styles 0°, 0°"), timeout=30_000)
    cell.locator(".widget-slider", has_text="style_2").locator(".noUi-handle, .ui-slider-handle").first.focus()
    book.page.keyboard.press("ArrowRight")
    expect(picture).to_have_attribute("alt", re.compile("styles 0°, 15°"), timeout=30_000)
