"""How a generated face looks: some forty soft-edged shapes, laid over each other.

They are given in the head's own coordinates, where the head fills about [-0.5, 0.5] by [-0.66, 0.66] and v points down;
each is a signed distance, below 0 inside and about 1 a unit of length. Pixels take sums, products, quotients and roots,
which come out the same on every machine, and are computed only where a shape can be.
"""

from __future__ import annotations

import numpy as np

HAIR_COLOURS = {
    "black_hair": (44, 36, 42),
    "brown_hair": (104, 64, 42),
    "blond_hair": (232, 194, 112),
    "red_hair": (188, 82, 40),
    "grey_hair": (184, 184, 192),
}
HAIR_STYLES = ("bald", "short_hair", "bob", "long_hair", "curly_hair")
SKIN = np.array([(255, 226, 202), (244, 200, 166), (226, 172, 126), (196, 132, 90), (142, 88, 58), (92, 58, 42)])
COLOURS = {
    "clothes": np.array([(214, 92, 92), (86, 128, 190), (92, 160, 118), (238, 190, 92), (124, 98, 160), (70, 76, 92)]),
    "frames": np.array([(36, 36, 44), (120, 70, 40), (176, 44, 60), (60, 84, 150)]),
    "irises": np.array([(84, 54, 36), (70, 112, 160), (84, 128, 84), (112, 84, 52)]),
}
# What makes one face unlike another, each a number from 0 to 1.
BUILD = ("x", "y", "scale", "jaw", "eyes", "brows", "mouth", "part", "lids", "wide")
WHITE = (250, 249, 246)
# Parts of the head that hold all of what is drawn in them, however it is turned: left, top, right, bottom.
FACE, MOUTH, NOSE, TOP = (-0.6, -0.7, 0.6, 0.75), (-0.45, 0.1, 0.45, 0.6), (-0.35, 0, 0.35, 0.3), (-0.7, -0.9, 0.7, 0.5)


class _Canvas:
    """Some pictures of one size, the coordinates of their pixels, and what is known of the faces."""

    def __init__(self, known: dict[str, np.ndarray], build: dict[str, np.ndarray], size: int):
        self.p = p = {name: column[:, None, None] for name, column in (known | build).items()}
        p["shift"] = 0.13 * p["turn"]  # of what is on the face, when the head is turned
        self.scale = 0.84 + 0.1 * p["scale"]
        self.centre = 0.12 * (p["x"] - 0.5), 0.04 + 0.1 * (p["y"] - 0.5)
        angle = 0.2 * p["tilt"].astype(np.float64)
        self.axes = cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        self.sharp = self.scale * (size / 2)  # a unit of the head, in pixels
        line = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1)[None]
        self.x, self.y = np.broadcast_arrays(line[:, None, :], line[:, :, None])
        dx, dy = (self.x - self.centre[0]) / self.scale, (self.y - self.centre[1]) / self.scale
        self.coordinates = {"head": (cos * dx + sin * dy, cos * dy - sin * dx), "body": (dx, dy)}
        self.pixels = np.zeros((len(dx), 3, size, size), np.float32)

    def window(self, box: tuple[float, float, float, float], margin: float) -> tuple[slice, slice]:
        """The rows and columns that a box of the head touches in any of the pictures, and some pixels more."""
        (cos, sin), size, spans = self.axes, self.pixels.shape[-1], []
        corners = [(u, v) for u in (box[0], box[2]) for v in (box[1], box[3])]
        for middle, a, b in ((self.centre[1], sin, cos), (self.centre[0], cos, -sin)):
            ends = [middle + self.scale * (a * u + b * v) for u, v in corners]
            low, high = ((float(end) + 1) / 2 * size for end in (np.min(ends), np.max(ends)))
            spans.append(slice(max(0, int(low - margin)), max(0, min(size, int(high + margin) + 1))))
        return spans[0], spans[1]

    def paint(self, shape, colour, box=None, where=None, *, alpha=1.0, of="head", soft=1.0) -> None:
        """Lay ``colour`` over the pixels for which ``shape(u, v, p)``, a signed distance ``[b, h, w]``, is below 0.

        The colour is ``[3]`` or ``[b, 3, 1, 1]``, 0 to 255; ``box`` the part of the head that the shape stays in;
        ``where``, bool ``[b]``, tells in which pictures it is; ``alpha`` how much it covers; ``of`` whose coordinates
        it is given in (the body does not tilt); ``soft`` how many pixels wide its edge is.
        """
        pick = slice(None) if where is None else np.flatnonzero(where)
        if where is not None and not len(pick):
            return
        rows, cols = (slice(None), slice(None)) if box is None else self.window(box, 1 + soft)
        u, v = (a[pick, rows, cols] for a in self.coordinates[of])
        mask = shape(u, v, {name: a[pick] for name, a in self.p.items()}) * (-self.sharp[pick] / soft)
        mask = np.clip(mask + 0.5, 0, 1) * np.float32(alpha)
        colour = np.asarray(colour, np.float32)
        colour = colour[:, None, None] if colour.ndim == 1 else colour[pick]
        under = self.pixels[pick, :, rows, cols]
        self.pixels[pick, :, rows, cols] = under + mask[:, None] * (colour - under)


# --- Shapes -------------------------------------------------------------------------------------------------


def _ellipse(u, v, a, b):
    k0 = np.sqrt((u / a) ** 2 + (v / b) ** 2)
    k1 = np.sqrt((u / (a * a)) ** 2 + (v / (b * b)) ** 2)
    return k0 * (k0 - 1) / (k1 + 1e-6)


def _corner(a, b):
    """What is below 0 in both, rounded where they meet outside."""
    return np.sqrt(np.maximum(a, 0) ** 2 + np.maximum(b, 0) ** 2) + np.minimum(np.maximum(a, b), 0)


def _box(u, v, width, height, radius):
    return _corner(np.abs(u) - width + radius, np.abs(v) - height + radius) - radius


def _rim(shape, du, dv):
    """The part of a shape that its own copy, moved by (du, dv), leaves free: its shaded side."""
    return lambda u, v, p: np.maximum(shape(u, v, p), -shape(u - du, v - dv, p))


def _outline(u, v, p):
    """The head: an ellipse that narrows towards the chin."""
    narrow = 1 + (0.12 + 0.3 * p["jaw"]) * np.maximum(v, 0)
    return _ellipse(u * narrow, v, 0.49 + 0.05 * p["wide"], 0.66)


def _curls(u, v, p):
    distance = _ellipse(u, v + 0.1, 0.62, 0.66)
    for angle in np.pi * (np.linspace(0, 1.25, 13) - 1.125):
        du, dv = u - np.float32(0.6 * np.cos(angle)), v + np.float32(0.12 - 0.62 * np.sin(angle))
        distance = np.minimum(distance, np.sqrt(du * du + dv * dv) - 0.21)
    return distance


BEHIND = {  # the hair that is seen around the head
    "short_hair": lambda u, v, p: np.maximum(_ellipse(u, v + 0.14, 0.57, 0.63), v - 0.12),
    "bob": lambda u, v, p: _corner(_ellipse(u, v + 0.02, 0.68, 0.78), v - 0.52),
    "long_hair": lambda u, v, p: _box(u * (1 - 0.14 * v), v - 0.45, 0.62, 1.2, 0.6),
    "curly_hair": _curls,
}


def _over_forehead(u, v, p):
    """The hair in front: what a cap covers but for an opening, with a parting or cut straight into a fringe."""
    covers = p["bob"] + p["long_hair"] + p["curly_hair"]  # the temples, too
    cap = _ellipse(u, v + 0.13, 0.57, 0.62)
    off = 0.3 * (p["part"] - 0.5) * (1 - p["fringe"])
    opening = _ellipse(u - p["shift"] * 0.6 - off, v - 0.2, 0.5 - 0.05 * covers, 0.56)
    opening = np.maximum(opening, p["fringe"] * (-0.2 - v) + (1 - p["fringe"]) * opening)
    return np.maximum(np.maximum(cap, -opening), v - 0.12 - 0.3 * covers)


def _shine(u, v, p):
    return np.maximum(_over_forehead(u, v, p), np.abs(_ellipse(u + 0.05, v + 0.1, 0.5, 0.5)) - 0.035)


def _beard(u, v, p):
    edge = 0.27 - 0.8 * np.maximum(np.abs(u - p["shift"]) - 0.24, 0) - v
    return np.maximum(_outline(u, v, p) - 0.025, edge)


def _moustache(u, v, p):
    u = np.abs(u - p["shift"])
    return _ellipse(u - 0.085, v - 0.265 - 0.25 * u * u, 0.12, 0.045)


def _mouth(grow=0.0, teeth=False):
    def shape(u, v, p):  # between two parabolas, which meet at its corners
        q = ((u - p["shift"]) / (0.15 + 0.05 * p["mouth"] + 0.05 * p["smile"])) ** 2
        top = 0.345 - 0.055 * p["smile"] * q
        bottom = top + (0.03 + 0.105 * p["smile"]) * (1 - q)
        bottom = np.minimum(bottom - 0.02, top + 0.05) if teeth else bottom
        return np.maximum(top - grow - v, v - bottom - grow)

    return shape


def _dome(u, v, p):
    return _corner(_ellipse(u, v + 0.3, 0.6, 0.56), v + 0.34)


# --- The picture --------------------------------------------------------------------------------------------


def draw(known: dict[str, np.ndarray], build: dict[str, np.ndarray], colours: dict, image_size: int) -> np.ndarray:
    """Some faces: uint8 ``[n, 3, image_size, image_size]``.

    Args:
        known: each attribute that :mod:`ganlib.data.toyfaces` names, float32 ``[n]``.
        build: each number of ``BUILD``, float32 ``[n]``.
        colours: for each name in ``COLOURS``, ``[n, 3]``, 0 to 255.
        image_size: height and width in pixels.
    """
    c = _Canvas(known, build, image_size)
    paint, on = c.paint, {name: column > 0.5 for name, column in known.items()}
    tone = known["skin"] * (len(SKIN) - 1)
    skin = np.stack([np.interp(tone, range(len(SKIN)), SKIN[:, k]) for k in range(3)], 1)[:, :, None, None]
    hair = sum(np.array(rgb)[:, None, None] * c.p[name][:, None] for name, rgb in HAIR_COLOURS.items())
    hair = hair * (0.9 + 0.2 * c.p["brows"][:, None])
    clothes, frames, irises = (colours[name][:, :, None, None] for name in COLOURS)

    # The ground: a soft colour, lighter where the light comes from.
    glow = 1 - 0.16 * ((c.x - 0.4) ** 2 + (c.y + 0.6) ** 2)
    c.pixels[:] = _pastel(known["background"]) * glow[:, None]

    for style, shape in BEHIND.items():
        paint(shape, 0.78 * hair, where=on[style])
    _body(c, skin, clothes)
    for side in (-1, 1):
        box = (side * 0.52 - 0.2, -0.15, side * 0.52 + 0.2, 0.25)
        paint(_at(_ellipse, side * 0.52, 0.04, 0.09, 0.14, shift=-0.3), 0.9 * skin, box)
    paint(_outline, skin, FACE)
    paint(_rim(_outline, 0.09, -0.06), 0.88 * skin, FACE, soft=3)
    blush, lips = skin * [[[0.97]], [[0.7]], [[0.68]]], skin * [[[0.84]], [[0.5]], [[0.5]]]
    for side in (-1, 1):
        box = (side * 0.27 - 0.4, -0.1, side * 0.27 + 0.4, 0.45)
        paint(_at(_ellipse, side * 0.27, 0.17, 0.13, 0.1, shift=1), blush, box, alpha=0.55, soft=6)

    paint(_beard, 0.82 * hair, FACE, on["beard"], soft=2)
    paint(_at(_ellipse, 0, 0.385, 0.27, 0.105, shift=1), skin, MOUTH, on["beard"], soft=2)
    paint(_moustache, 0.82 * hair, MOUTH, on["beard"], soft=1.5)
    paint(_mouth(0.018), lips, MOUTH)
    paint(_mouth(), (116, 40, 46), MOUTH, on["smile"])
    paint(_mouth(teeth=True), WHITE, MOUTH, on["smile"])
    paint(lambda u, v, p: np.abs(_mouth()(u, v, p) + 0.012) - 0.006, 0.62 * lips, MOUTH, ~on["smile"])
    paint(_at(_ellipse, 0, 0.155, 0.058, 0.042, shift=1.5), 0.82 * skin, NOSE, soft=1.5)
    paint(_at(_ellipse, 0.01, 0.13, 0.04, 0.032, shift=1.5), 0.4 * skin + 150, NOSE, alpha=0.35, soft=2)
    for side in (-1, 1):
        _eye(c, side, irises, 0.32 * skin, 0.6 * hair)
        _lens(c, side, frames, on["glasses"])
    paint(_at(_box, 0, -0.01, 0.07, 0.016, 0.01, shift=1), frames, FACE, on["glasses"])

    paint(_over_forehead, hair, TOP, ~on["bald"])
    paint(_shine, 0.7 * hair + 70, TOP, ~on["bald"], alpha=0.4, soft=3)
    _hat(c, clothes, on["hat"])
    return np.clip(c.pixels.round(), 0, 255).astype(np.uint8)


def _at(shape, u0, v0, *sizes, shift):
    """A shape around (u0, v0), moved by so much of the turn."""
    return lambda u, v, p: shape(u - u0 - shift * p["shift"], v - v0, *sizes)


def _body(c: _Canvas, skin, clothes) -> None:
    box = (-0.7, 0.3, 0.7, 1.4)
    c.paint(lambda u, v, p: _box(u, v - 0.7, 0.2, 0.4, 0.1), 0.8 * skin, (-0.6, 0, 0.6, 1.5), of="body")
    c.paint(lambda u, v, p: _ellipse(u, v - 1.5, 1.05, 0.66), clothes, of="body")
    c.paint(lambda u, v, p: _ellipse(u, v - 0.84, 0.27, 0.17), 0.82 * skin, box, of="body")

    def collar(u, v, p):
        return np.abs(_ellipse(u, v - 0.84, 0.285, 0.185)) - 0.03 + 9 * np.maximum(0.84 - v, 0)

    c.paint(collar, 0.8 * clothes, box, of="body")


def _seen(side: int, u, p):
    """u from the middle of an eye (-1 is the picture's left), in the width at which it is seen."""
    return (u - side * 0.205 - p["shift"]) / (1 + 0.18 * side * p["turn"])


def _eye(c: _Canvas, side: int, iris, lash, brow) -> None:
    box = (side * 0.2 - 0.35, -0.4, side * 0.2 + 0.35, 0.2)

    def ball(a, b, du=0.0, dv=0.0, look=0.0):
        def shape(u, v, p):
            return _ellipse(_seen(side, u, p) - du - look * p["turn"], v - dv, a, b * (0.8 + 0.4 * p["eyes"]))

        return shape

    white = ball(0.1, 0.066)

    def inside(shape):
        return lambda u, v, p: np.maximum(shape(u, v, p), white(u, v, p))

    def lid(u, v, p):
        return np.maximum(np.abs(ball(0.115, 0.08)(u, v, p)) - 0.016, v + 0.005)

    def arch(u, v, p):
        w = _seen(side, u, p)
        height = 0.165 + 0.03 * p["lids"] - 1.6 * w * w + 0.06 * side * w * (2 * p["part"] - 1)
        return np.maximum(np.abs(v + height) - 0.024, np.abs(w) - 0.13)

    c.paint(white, WHITE, box)
    c.paint(inside(ball(0.058, 0.07, look=0.02)), iris, box)
    c.paint(inside(ball(0.03, 0.036, look=0.02)), (24, 20, 24), box)
    c.paint(ball(0.018, 0.02, -0.02, -0.022, look=0.02), (255, 255, 255), box)
    c.paint(lid, lash, box)
    c.paint(arch, brow, box)


def _lens(c: _Canvas, side: int, colour, where) -> None:
    box = (side * 0.25 - 0.6, -0.3, side * 0.25 + 0.6, 0.3)

    def glass(u, v, p):
        return _box(_seen(side, u, p), v, 0.165, 0.135, 0.12)

    def arm(u, v, p):
        return np.maximum(_box(_seen(side, u, p) - side * 0.26, v + 0.03, 0.1, 0.014, 0.01), _outline(u, v, p) - 0.03)

    c.paint(glass, (226, 240, 255), box, where, alpha=0.28)
    c.paint(lambda u, v, p: np.abs(glass(u, v, p)) - 0.019, colour, box, where)
    c.paint(arm, colour, box, where)


def _hat(c: _Canvas, clothes, where) -> None:
    colour = 255 - 0.75 * (255 - clothes[:, [1, 2, 0]])  # not that of the clothes, and as warm or cold
    light = np.minimum(colour * 1.12 + 16, 255)
    top, side = (-0.2, -1.1, 0.2, -0.7), (-0.75, -1, 0.75, -0.1)
    c.paint(lambda u, v, p: _ellipse(u, v + 0.88, 0.13, 0.12), light, top, where, soft=2)
    c.paint(_dome, colour, side, where)
    c.paint(_rim(_dome, 0.1, -0.05), 0.85 * colour, side, where, soft=3)
    c.paint(lambda u, v, p: _box(u, v + 0.35 + 0.12 * u * u, 0.62, 0.1, 0.08), light, side, where)


def _pastel(hue: np.ndarray) -> np.ndarray:
    """A light colour for each hue in turns: [n] to [n, 3, 1, 1], 0 to 255."""
    phase = 2 * np.pi * (hue[:, None].astype(np.float64) + np.array([0, -1 / 3, -2 / 3]))
    return (188 + 44 * np.cos(phase)).astype(np.float32)[:, :, None, None]
