"""The Dirac-GAN of notebook 08 moves as the same sums in Python do, and starts where it is dragged to."""

import math
import re

import pytest
from playwright.sync_api import expect

CELL = "from ganlib import viz\n\nviz.dirac()"


def sigmoid(t):
    return 1 / (1 + math.exp(-t))


# loss, penalty as chosen -> the forces on θ and on ψ at (a, p) with γ = 0.3
GAMES = {
    ("non-saturating", "none"): lambda a, p: (p * sigmoid(-a * p), -a * sigmoid(a * p)),
    ("minimax", "R1"): lambda a, p: (p * sigmoid(a * p), -a * sigmoid(a * p) - 0.3 * p),
    ("relativistic pairs", "R1 + R2"): lambda a, p: (p * sigmoid(-a * p), -a * sigmoid(a * p) - 0.6 * p),
    ("Wasserstein", "slope 1 (WGAN-GP)"): lambda a, p: (p, -a - 0.6 * (p - math.copysign(1, p))),
    ("hinge", "R1"): lambda a, p: (p, -a * (a * p > -1) - 0.3 * p),
}


def end(force, start=(1.0, 1.0), rate=0.1, steps=600):
    a, p = start
    for _ in range(steps):
        u, v = force(a, p)
        a, p = a + rate * u, p + rate * v
    return a, p


def test_it_moves_as_it_should_and_starts_where_it_is_dragged_to(notebook):
    book = notebook(CELL)
    book.run_all()
    book.wait(0)
    cell = book.cell(0)
    said = cell.locator("[data-said]")
    for (loss, penalty), force in GAMES.items():
        cell.locator("[name=loss]").select_option(loss)
        cell.locator("[name=penalty]").select_option(penalty)
        found = [float(number) for number in said.get_attribute("data-said").split()]
        assert found == pytest.approx(end(force), abs=2e-4), (loss, penalty)
    canvas = cell.locator("canvas")
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 0.25, "y": box["height"] * 0.75})  # θ = ψ = -1
    found = [float(number) for number in said.get_attribute("data-said").split()]
    assert found == pytest.approx(end(GAMES["hinge", "R1"], (-1.0, -1.0)), abs=2e-2)
    cell.locator("[name=rate]").press("End")
    expect(said).to_have_text(re.compile("Starts 1.4"))
