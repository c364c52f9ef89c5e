"""Pictures: grids, curves, films, network diagrams, games in the plane, controls."""

from ganlib.viz.controls import explore
from ganlib.viz.dirac import dirac
from ganlib.viz.display import alt, register
from ganlib.viz.draggable import draggable
from ganlib.viz.film import animation, save_gif
from ganlib.viz.images import curves, grid, panels, save_png, show, strip
from ganlib.viz.network import network
from ganlib.viz.palette import (
    D_COLOR,
    FAKE_COLOR,
    FAKE_GROUND,
    G_COLOR,
    OTHER_COLORS,
    REAL_COLOR,
    REAL_GROUND,
    points,
)
from ganlib.viz.panel import panel
from ganlib.viz.plane import picture, pushes
from ganlib.viz.playground import playground
from ganlib.viz.teaser import teaser

register()
