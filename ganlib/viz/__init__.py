"""Pictures: grids, curves, films, network diagrams, games in the plane, controls."""

from ganlib.viz.film import animation, frames_of, save_gif
from ganlib.viz.images import (
    D_COLOR,
    FAKE_COLOR,
    G_COLOR,
    OTHER_COLORS,
    REAL_COLOR,
    curves,
    grid,
    panels,
    save_png,
    show,
    strip,
)
from ganlib.viz.network import network
from ganlib.viz.plane import picture, pushes
from ganlib.viz.playground import playground
