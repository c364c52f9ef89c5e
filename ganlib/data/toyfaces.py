"""Generated faces with known attributes: a stand-in for photographs, and a test.

Every attribute is drawn independently, so a direction in a latent space that changes one of them has no reason to
change another. (One may hide another: a hat covers a fringe.)
"""

from collections.abc import Iterator

import numpy as np
import torch

from ganlib._runtime.randomness import rng

SWITCHES = {"smile": 0.5, "glasses": 0.35, "hat": 0.25, "beard": 0.25, "fringe": 0.4}  # and how often each is on
HAIR_COLOURS = {"black_hair": (44, 36, 42), "brown_hair": (104, 64, 42), "blond_hair": (232, 194, 112)}
HAIR_COLOURS |= {"red_hair": (188, 82, 40), "grey_hair": (184, 184, 192)}
HAIR_STYLES = ("bald", "short_hair", "bob", "long_hair", "curly_hair")
# 0 or 1, but for the last four: skin from 0 (light) to 1 (dark), background from 0 to 1 around the circle of hues,
# tilt from -1 (towards the picture's left) to 1, turn from -1 (looks to the picture's left) to 1.
ATTRIBUTES = (*SWITCHES, *HAIR_COLOURS, *HAIR_STYLES, "skin", "background", "tilt", "turn")
BUILD = ("x", "y", "scale", "jaw", "eyes", "brows", "width", "part", "lids", "wide")  # each from 0 to 1
SKIN = np.array([(255, 226, 202), (244, 200, 166), (226, 172, 126), (196, 132, 90), (142, 88, 58), (92, 58, 42)])
CLOTHES = np.array([(214, 92, 92), (86, 128, 190), (92, 160, 118), (238, 190, 92), (124, 98, 160), (70, 76, 92)])
FRAMES = np.array([(36, 36, 44), (120, 70, 40), (176, 44, 60), (60, 84, 150)])
IRISES = np.array([(84, 54, 36), (70, 112, 160), (84, 128, 84), (112, 84, 52)])
WHITE = (250, 249, 246)
VERSION = 1  # raise it with every change to the faces, so that cached ones are drawn again
AT_ONCE = 16  # faces; few enough for the processor's cache


def face_chunks(n: int, image_size: int, seed: int, size: int, start: int = 0) -> Iterator[tuple]:
    """Draw n faces from ``start`` on, ``size`` at a time, each independent of n.

    Yields pixels uint8 [k, 3, image_size, image_size] and ``ATTRIBUTES`` float32 [k, A].
    """
    if n < 1 or image_size < 16:
        raise ValueError(f"Cannot draw {n} faces of {image_size}×{image_size}; use n ≥ 1 and image_size ≥ 16.")
    chance = torch.rand(n, 24, generator=rng(seed)).double().numpy()
    for k in range(start, n, size):
        rows = chance[k : k + size]
        parts = [_Faces(rows[j : j + AT_ONCE], image_size).painted() for j in range(0, len(rows), AT_ONCE)]
        yield np.concatenate(parts), _attributes(rows)


def _attributes(chance: np.ndarray) -> np.ndarray:
    """The attributes float32 [n, A] made from random numbers [n, 24]."""
    on = [chance[:, k] < share for k, share in enumerate(SWITCHES.values())]
    hair = [_choice(chance[:, 5 + k], np.eye(len(kinds))) for k, kinds in enumerate((HAIR_COLOURS, HAIR_STYLES))]
    return np.column_stack([*on, *hair, chance[:, 7:9], 2 * chance[:, 9:11] - 1]).astype(np.float32)


def _choice(chance: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The row of the table for each random number in [0, 1)."""
    return table[(chance * len(table)).astype(int)]


class _Faces:
    """Draw about forty soft-edged shapes over each other; attributes are [n, 1, 1].

    A shape is a signed distance of (u, v), below 0 inside, about 1 a unit of length; the head fills [-0.5, 0.5] by
    [-0.66, 0.66], and v points down. Sums, products, quotients and roots come out the same on every machine.
    """

    def __init__(self, chance: np.ndarray, size: int):
        columns = np.column_stack([_attributes(chance), chance[:, 11:21]]).astype(np.float32)
        self.__dict__.update(zip((*ATTRIBUTES, *BUILD), columns.T[:, :, None, None], strict=True))
        self.shift = 0.13 * self.turn  # shift of what is on the face, when the head is turned
        scale, angle = 0.84 + 0.1 * self.scale, 0.2 * self.tilt.astype(np.float64)
        self.unit = scale * (size / 2)  # of (u, v), in pixels
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        line = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
        x, y = line[None, None, :], line[None, :, None]
        dx, dy = (x - 0.12 * (self.x - 0.5)) / scale, (y - (0.04 + 0.1 * (self.y - 0.5))) / scale
        self.in_body, self.in_head = (dx, dy), (cos * dx + sin * dy, cos * dy - sin * dx)
        hue = 2 * np.pi * (self.background[:, None].astype(np.float64) + np.array([0, -1 / 3, -2 / 3])[:, None, None])
        glow = 1 - 0.16 * ((x - 0.4) ** 2 + (y + 0.6) ** 2)  # lighter where the light comes from
        self.pixels = (188 + 44 * np.cos(hue)).astype(np.float32) * glow

        tone = self.skin * (len(SKIN) - 1)
        self.skin_colour = np.stack([np.interp(tone, range(len(SKIN)), channel) for channel in SKIN.T], 1)
        hair = sum(np.array(rgb)[:, None, None] * getattr(self, name)[:, None] for name, rgb in HAIR_COLOURS.items())
        self.hair_colour = hair * (0.9 + 0.2 * self.brows[:, None])
        tables = enumerate((CLOTHES, FRAMES, IRISES), 21)
        self.clothes, self.frames, self.irises = (_choice(chance[:, k], t)[:, :, None, None] for k, t in tables)

    def paint(self, shape, colour, alpha=1.0, soft=1.0, at=None) -> None:
        """Paint a shape in a colour, [3] or [n, 3, 1, 1]; ``soft``: its edge in pixels."""
        mask = np.clip(shape(*(at or self.in_head)) * (-self.unit / soft) + 0.5, 0, 1) * alpha
        self.pixels += mask[:, None] * (np.asarray(colour, np.float32).reshape(-1, 3, 1, 1) - self.pixels)

    def painted(self) -> np.ndarray:
        paint, skin, hair, body = self.paint, self.skin_colour, self.hair_colour, self.in_body
        paint(lambda u, v: np.maximum(_ellipse(u, v + 0.14, 0.57, 0.63), v - 0.12), 0.78 * hair, self.short_hair)
        paint(lambda u, v: _both(_ellipse(u, v + 0.02, 0.68, 0.78), v - 0.52), 0.78 * hair, self.bob)
        paint(lambda u, v: _box(u * (1 - 0.14 * v), v - 0.45, 0.62, 1.2, 0.6), 0.78 * hair, self.long_hair)
        paint(_curls, 0.78 * hair, self.curly_hair)
        paint(lambda u, v: _box(u, v - 0.7, 0.2, 0.4, 0.1), 0.8 * skin, at=body)
        paint(lambda u, v: _ellipse(u, v - 1.5, 1.05, 0.66), self.clothes, at=body)
        paint(lambda u, v: _ellipse(u, v - 0.84, 0.27, 0.17), 0.82 * skin, at=body)
        paint(_collar, 0.8 * self.clothes, at=body)
        self.paint_face(paint, skin, 0.82 * hair)
        for side in (-1, 1):
            self.paint_eye(side)
        paint(self.on_face(_box, 0, -0.01, 0.07, 0.016, 0.01), self.frames, self.glasses)
        paint(self.over_forehead, hair, 1 - self.bald)
        paint(self.shine, 0.7 * hair + 70, 0.4 * (1 - self.bald), 3)
        colour = 255 - 0.75 * (255 - self.clothes[:, [1, 2, 0]])  # the hat's: as warm or cold as the clothes
        light = np.minimum(colour * 1.12 + 16, 255)
        paint(lambda u, v: _ellipse(u, v + 0.88, 0.13, 0.12), light, self.hat, 2)
        paint(_dome, colour, self.hat)
        paint(_rim(_dome, 0.1, -0.05), 0.85 * colour, self.hat, 3)
        paint(lambda u, v: _box(u, v + 0.35 + 0.12 * u * u, 0.62, 0.1, 0.08), light, self.hat)
        return np.clip(self.pixels.round(), 0, 255).astype(np.uint8)

    def paint_face(self, paint, skin, beard) -> None:
        blush, lips = skin * [[[0.97]], [[0.7]], [[0.68]]], skin * [[[0.84]], [[0.5]], [[0.5]]]
        for side in (-1, 1):
            paint(self.on_face(_ellipse, side * 0.52, 0.04, 0.09, 0.14, shift=-0.3), 0.9 * skin)
        paint(self.outline, skin)
        paint(_rim(self.outline, 0.09, -0.06), 0.88 * skin, soft=3)
        for side in (-1, 1):
            paint(self.on_face(_ellipse, side * 0.27, 0.17, 0.13, 0.1), blush, 0.55, 6)
        paint(self.chin, beard, self.beard, 2)
        paint(self.on_face(_ellipse, 0, 0.385, 0.27, 0.105), skin, self.beard, 2)
        paint(self.moustache, beard, self.beard, 1.5)
        paint(lambda u, v: self.mouth(u, v, 0.018), lips)
        paint(self.mouth, (116, 40, 46), self.smile)
        paint(lambda u, v: self.mouth(u, v, teeth=True), WHITE, self.smile)
        paint(lambda u, v: np.abs(self.mouth(u, v) + 0.012) - 0.006, 0.62 * lips, 1 - self.smile)
        paint(self.on_face(_ellipse, 0, 0.155, 0.058, 0.042, shift=1.5), 0.82 * skin, soft=1.5)
        paint(self.on_face(_ellipse, 0.01, 0.13, 0.04, 0.032, shift=1.5), 0.4 * skin + 150, 0.35, 2)

    def paint_eye(self, side: int) -> None:
        def seen(u):  # distance from the middle of the eye, in units of its visible width
            return (u - side * 0.205 - self.shift) / (1 + 0.18 * side * self.turn)

        def ball(u, v, a, b, du=0.0, dv=0.0, look=0.02):
            return _ellipse(seen(u) - du - look * self.turn, v - dv, a, b * (0.8 + 0.4 * self.eyes))

        def brow(u, v):
            w = seen(u)
            height = 0.165 + 0.03 * self.lids - 1.6 * w * w + 0.06 * side * w * (2 * self.part - 1)
            return np.maximum(np.abs(v + height) - 0.024, np.abs(w) - 0.13)

        def arm(u, v):
            return np.maximum(_box(seen(u) - side * 0.26, v + 0.03, 0.1, 0.014, 0.01), self.outline(u, v) - 0.03)

        paint, lash = self.paint, 0.32 * self.skin_colour
        white, glass = (0.1, 0.066, 0, 0, 0), (0.165, 0.135, 0.12)
        paint(lambda u, v: ball(u, v, *white), WHITE)
        paint(lambda u, v: np.maximum(ball(u, v, 0.058, 0.07), ball(u, v, *white)), self.irises)
        paint(lambda u, v: np.maximum(ball(u, v, 0.03, 0.036), ball(u, v, *white)), (24, 20, 24))
        paint(lambda u, v: ball(u, v, 0.018, 0.02, -0.02, -0.022), (255, 255, 255))
        paint(lambda u, v: np.maximum(np.abs(ball(u, v, 0.115, 0.08, look=0.0)) - 0.016, v + 0.005), lash)
        paint(brow, 0.6 * self.hair_colour)
        paint(lambda u, v: _box(seen(u), v, *glass), (226, 240, 255), 0.28 * self.glasses)
        paint(lambda u, v: np.abs(_box(seen(u), v, *glass)) - 0.019, self.frames, self.glasses)
        paint(arm, self.frames, self.glasses)

    def on_face(self, shape, u0, v0, *sizes, shift=1.0):
        """A shape around (u0, v0), moved by this share of the turn."""
        return lambda u, v: shape(u - u0 - shift * self.shift, v - v0, *sizes)

    def outline(self, u, v):
        """The head: an ellipse that narrows towards the chin."""
        narrow = 1 + (0.12 + 0.3 * self.jaw) * np.maximum(v, 0)
        return _ellipse(u * narrow, v, 0.49 + 0.05 * self.wide, 0.66)

    def over_forehead(self, u, v):
        """The hair in front: a cap with an opening, with a parting or a straight fringe."""
        covers = self.bob + self.long_hair + self.curly_hair  # the temples as well
        off = 0.3 * (self.part - 0.5) * (1 - self.fringe)
        opening = _ellipse(u - self.shift * 0.6 - off, v - 0.2, 0.5 - 0.05 * covers, 0.56)
        opening = np.maximum(opening, self.fringe * (-0.2 - v) + (1 - self.fringe) * opening)
        return np.maximum(np.maximum(_ellipse(u, v + 0.13, 0.57, 0.62), -opening), v - 0.12 - 0.3 * covers)

    def shine(self, u, v):
        return np.maximum(self.over_forehead(u, v), np.abs(_ellipse(u + 0.05, v + 0.1, 0.5, 0.5)) - 0.035)

    def chin(self, u, v):
        edge = 0.27 - 0.8 * np.maximum(np.abs(u - self.shift) - 0.24, 0) - v
        return np.maximum(self.outline(u, v) - 0.025, edge)

    def moustache(self, u, v):
        u = np.abs(u - self.shift)
        return _ellipse(u - 0.085, v - 0.265 - 0.25 * u * u, 0.12, 0.045)

    def mouth(self, u, v, grow=0.0, teeth=False):
        """The area between two parabolas that meet at the corners."""
        q = ((u - self.shift) / (0.15 + 0.05 * self.width + 0.05 * self.smile)) ** 2
        top = 0.345 - 0.055 * self.smile * q
        bottom = top + (0.03 + 0.105 * self.smile) * (1 - q)
        bottom = np.minimum(bottom - 0.02, top + 0.05) if teeth else bottom
        return np.maximum(top - grow - v, v - bottom - grow)


def _ellipse(u, v, a, b):
    k0 = np.sqrt((u / a) ** 2 + (v / b) ** 2)
    k1 = np.sqrt((u / (a * a)) ** 2 + (v / (b * b)) ** 2)
    return k0 * (k0 - 1) / (k1 + 1e-6)


def _both(a, b):
    """The intersection of two shapes, rounded outside where they meet."""
    return np.sqrt(np.maximum(a, 0) ** 2 + np.maximum(b, 0) ** 2) + np.minimum(np.maximum(a, b), 0)


def _box(u, v, width, height, radius):
    return _both(np.abs(u) - width + radius, np.abs(v) - height + radius) - radius


def _rim(shape, du, dv):
    """The part of a shape not covered by its copy moved by (du, dv): its shaded side."""
    return lambda u, v: np.maximum(shape(u, v), -shape(u - du, v - dv))


def _curls(u, v):
    distance = _ellipse(u, v + 0.1, 0.62, 0.66)
    for angle in np.pi * (np.linspace(0, 1.25, 13) - 1.125):
        du, dv = u - np.float32(0.6 * np.cos(angle)), v + np.float32(0.12 - 0.62 * np.sin(angle))
        distance = np.minimum(distance, np.sqrt(du * du + dv * dv) - 0.21)
    return distance


def _collar(u, v):
    return np.abs(_ellipse(u, v - 0.84, 0.285, 0.185)) - 0.03 + 9 * np.maximum(0.84 - v, 0)


def _dome(u, v):
    return _both(_ellipse(u, v + 0.3, 0.6, 0.56), v + 0.34)
