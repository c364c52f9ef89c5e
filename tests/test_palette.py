"""The colours of the course, as seen by every kind of eye."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from ganlib import viz

# Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113, table 1 (severity 1), for linear RGB.
EYES = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "grey": [[0.2126, 0.7152, 0.0722]] * 3,
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour: str, eye: str) -> np.ndarray:
    """CIE L*a*b* (D65) of ``#RRGGBB`` as seen by an eye."""
    rgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(EYES[eye]) @ linear, 0, 1)
    x, y, z = (t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in TO_XYZ @ seen / TO_XYZ.sum(1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(one: str, other: str, eye: str) -> float:
    return np.linalg.norm(lab(one, eye) - lab(other, eye))


def test_the_measure_itself():
    assert difference("#FFFFFF", "#000000", "grey") == pytest.approx(100, abs=0.1)
    assert difference("#009E73", "#CC79A7", "normal") == pytest.approx(88, abs=1)  # a green and a pink: to one kind of
    assert difference("#009E73", "#CC79A7", "deutan") == pytest.approx(18, abs=1)  # eye nearly one colour


@pytest.mark.parametrize("eye", EYES)
def test_players_points_and_grounds_are_told_apart_by(eye):
    players, kinds = (viz.D_COLOR, viz.G_COLOR), (viz.REAL_COLOR, viz.FAKE_COLOR)
    for one, other in [kinds, *itertools.product(kinds, players), *([players] if eye != "grey" else [])]:
        assert difference(one, other, eye) >= 40, (one, other)
    assert difference(viz.REAL_GROUND, viz.FAKE_GROUND, eye) >= 25
    for ground in (viz.REAL_GROUND, viz.FAKE_GROUND):  # and what is drawn on them stands out
        assert difference(viz.FAKE_COLOR, ground, eye) >= 40
        assert min(difference(player, ground, eye) for player in players) >= 20
        assert difference(viz.FAKE_COLOR, viz.REAL_COLOR, eye) >= 40  # the rim of a real


def test_reals_are_round_and_fakes_crosses():
    axes = Figure().subplots()
    viz.points(axes, real=np.zeros((3, 2)), fake=np.ones((2, 2)), size=9)
    reals, fakes = axes.collections
    assert len(reals.get_offsets()) == 3 and len(reals.get_paths()[0].vertices) > 20  # a circle's curve
    assert len(fakes.get_offsets()) == 2 and len(fakes.get_paths()[0].vertices) == 4  # two strokes
    viz.points(axes, fake=np.ones((2, 2)))
    assert len(axes.collections) == 3
