"""The game on a line in notebook 03: both critics are drawn anew when a slider is let go."""

import re

from playwright.sync_api import expect

from helpers import read_notebook, source

STARTS = ("z_dim = 100", "def penalty(", "def climb(", "def play(", "def on_the_line(", "from ipywidgets import Float")


def test_the_game_on_a_line_answers_a_slider(notebook):
    cells = [source(cell) for cell in read_notebook("03_wgan.ipynb")["cells"]]
    setup = next(cell for cell in cells if cell.startswith("import sys")).replace('viz.teaser("03")', "")
    mine = [next(cell for cell in cells if cell.startswith(start)) for start in STARTS]
    book = notebook(setup, *(cell.partition("\n\n\nf = ")[0] for cell in mine))
    book.run_all()
    cell = book.cell(len(STARTS))
    expect(picture := cell.locator("img").first).to_have_attribute("alt", re.compile("λ = 10 and"), timeout=120_000)
    for slider, key, wanted in (("λ", "ArrowLeft", "λ = 3.16 and c = 0.1,"), ("n_critic", "Home", "n_critic = 1:")):
        cell.locator(".widget-slider", has_text=slider).locator(".noUi-handle, .ui-slider-handle").first.focus()
        book.page.keyboard.press(key)
        expect(picture).to_have_attribute("alt", re.compile(wanted), timeout=120_000)
