"""Notebook 05's live parts: a map that answers the pointer, and sliders that draw a face anew."""

import re

from playwright.sync_api import expect

MAP = """
import torch
from ganlib import viz

levels = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1) * 20  # 3 rows of 4 grey squares
viz.draggable(levels.expand(12, 3, 32, 32).contiguous(), cols=4, alt="twelve grey squares")
"""
SLIDERS = """
import torch
from ganlib import viz

def face(number=1, smile=0.0):
    pixels = torch.full((1, 3, 16, 16), 40 * number, dtype=torch.uint8)
    return viz.show(pixels, scale=4, alt=f"face {number}, smile {smile:+.1f}")

viz.explore(face, number=(0, 5), smile=(-2.0, 2.0, 0.5))
viz.show(torch.zeros(1, 3, 16, 16))
"""


def test_the_image_under_the_pointer_is_shown(notebook):
    book = notebook(MAP)
    book.run_all()
    book.wait(0)
    sheet, view = book.cell(0).locator("img"), book.cell(0).locator("[data-tile]")
    expect(view).to_have_attribute("data-tile", "1, 2")  # the middle, before the pointer comes
    box = sheet.bounding_box()
    for x, y, tile in ((0.1, 0.1, "0, 0"), (0.9, 0.5, "1, 3"), (0.4, 0.99, "2, 1")):
        sheet.hover(position={"x": x * box["width"], "y": y * box["height"]})
        expect(view).to_have_attribute("data-tile", tile)
        row, column = map(int, tile.split(","))
        place = f"{100 * column / 3:.0f}% {100 * row / 2:.0f}%"
        found = view.evaluate(
            "it => it.style.backgroundPosition.split(' ').map(s => Math.round(parseFloat(s)) + '%').join(' ')"
        )
        assert found == place


def test_a_moved_slider_draws_the_face_anew(notebook):
    book = notebook(SLIDERS)
    book.run_all()
    book.wait(0)
    face = book.cell(0).locator("img[alt^=face]")
    expect(face).to_have_attribute("alt", re.compile("face 1, smile"))
    sliders = book.cell(0).locator(".noUi-handle, .ui-slider-handle")
    sliders.first.press("ArrowRight")
    expect(face).to_have_attribute("alt", re.compile("face 2, smile"))
    sliders.nth(1).press("ArrowRight")
    expect(face).to_have_attribute("alt", "face 2, smile +0.5")
