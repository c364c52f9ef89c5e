"""The circle of notebook 06: fakes are moved by sliders, and four numbers answer."""

import re

from playwright.sync_api import expect

from helpers import read_notebook, source

IMPORTS = """
import math

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from ganlib import rng, viz
"""
STARTS = (
    "def radius(",
    "u = torch.arange(",
    "def circle(",
)  # the notebook's own cells, without what one of them prints


def test_the_circle_answers_a_slider_with_four_numbers(notebook):
    cells = [source(cell) for cell in read_notebook("06_scores.ipynb")["cells"]]
    mine = [next(cell for cell in cells if cell.startswith(start)) for start in STARTS]
    book = notebook(IMPORTS, *(cell.partition("\n\n\nfor ")[0] for cell in mine))
    book.run_all()
    cell = book.cell(3)
    expect(picture := cell.locator("img")).to_have_attribute(
        "alt", re.compile("precision 1.00, recall 0.95"), timeout=60_000
    )
    for slider, key, wanted in (
        ("known", "Home", "recall 0.05, density 1.00, coverage 0.14"),  # one picture, twenty times
        ("astray", "End", "precision 1.00, recall 0.05, density 0.33"),  # all at the outlier
    ):
        cell.locator(".widget-slider", has_text=slider).locator(".noUi-handle, .ui-slider-handle").first.focus()
        book.page.keyboard.press(key)
        expect(picture).to_have_attribute("alt", re.compile(wanted), timeout=30_000)
