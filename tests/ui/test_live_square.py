"""Notebook 02: a slider between two classes, and a square to drag over, which needs no kernel."""

from playwright.sync_api import expect

from helpers import read_notebook, source

BEFORE = """
import copy, torch
from ganlib import models, rng, sample, viz

def average(mean, model, decay):
    for ours, theirs in zip(mean.parameters(), model.parameters(), strict=True):
        ours.data.lerp_(theirs.data, 1 - decay)

names = [f"class {c}" for c in range(10)]
specialists = [models.dcgan_generator(32, 3, 2, 6, seed=c) for c in range(10)]
z_row = torch.randn(10, 6, generator=rng(4))
"""


def test_the_slider_redraws_and_the_square_follows_the_pointer(notebook):
    (square,) = (source(c) for c in read_notebook("02_dcgan_cifar10.ipynb")["cells"] if "viz.explore(" in source(c))
    book = notebook(BEFORE, square)
    book.run_all()
    book.wait(1, 180)
    drawn = book.cell(1).locator("img[alt^='ten z']")
    expect(drawn).to_have_attribute("alt", "ten z, 50% of the way from class 0 to class 9", timeout=60_000)
    before = drawn.get_attribute("src")
    book.cell(1).locator(".widget-slider").locator(".noUi-handle, .ui-slider-handle").press("ArrowRight")
    expect(drawn).to_have_attribute("alt", "ten z, 55% of the way from class 0 to class 9", timeout=30_000)
    assert drawn.get_attribute("src") != before

    view, sheet = book.cell(1).locator("[data-tile]"), book.cell(1).locator("img[alt^='A square']")
    expect(view).to_have_attribute("data-tile", "4, 4")
    sheet.hover(position={"x": 2, "y": 2})
    expect(view).to_have_attribute("data-tile", "0, 0")
