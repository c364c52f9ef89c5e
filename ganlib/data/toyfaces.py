"""Generated faces of which everything is known: where there are no photographs, and to check what a latent space says.

Every attribute is drawn independently of the others, so that a direction in a latent space which changes one of them
has no excuse to change another. (One may hide another: a fringe does not show under a hat, nor the colour of the hair
on a bald head without a beard.) How they look is in ``portrait``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ganlib._runtime import device as runtime
from ganlib.data import portrait

SWITCHES = {"smile": 0.5, "glasses": 0.35, "hat": 0.25, "beard": 0.25, "fringe": 0.4}  # and how often each is on
# 0 or 1, but for the last four: skin from 0 (light) to 1 (dark), background from 0 to 1 around the circle of hues,
# tilt from -1 (towards the picture's left) to 1, turn from -1 (looks to the picture's left) to 1.
ATTRIBUTES = (*SWITCHES, *portrait.HAIR_COLOURS, *portrait.HAIR_STYLES, "skin", "background", "tilt", "turn")
VERSION = 1  # to be raised with every change to the faces: prepared ones are then drawn anew
CHANCES = 24  # random numbers a face
AT_ONCE = 32  # faces; what they need stays in the processor's cache


def draw_faces(n: int, image_size: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """``n`` faces, the same for the same arguments; the first of many are those of few.

    Args:
        n: how many, at least 1.
        image_size: height and width in pixels, at least 16: below that a smile cannot be seen.
        seed: of everything.

    Returns:
        pixels: uint8 ``[n, 3, image_size, image_size]``; attributes: float32 ``[n, A]``, whose columns are named
            in ``ATTRIBUTES``.

    Raises:
        ValueError: if ``n`` or ``image_size`` is too small.
    """
    pixels, attributes = zip(*face_chunks(n, image_size, seed, AT_ONCE), strict=True)
    return np.concatenate(pixels), np.concatenate(attributes)


def face_chunks(
    n: int, image_size: int, seed: int, size: int, start: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What :func:`draw_faces` gives, at most ``size`` faces at a time, from the face with the number ``start`` on.

    Raises:
        ValueError: if ``n`` or ``image_size`` is too small.
    """
    if n < 1 or image_size < 16:
        raise ValueError(f"Cannot draw {n} faces of {image_size}×{image_size}; use n ≥ 1 and image_size ≥ 16.")
    chance = torch.rand(n, CHANCES, generator=runtime.rng(seed)).double().numpy()
    for k in range(start, n, size):
        rows = chance[k : k + size]
        pixels = [_draw(rows[j : j + AT_ONCE], image_size) for j in range(0, len(rows), AT_ONCE)]
        yield np.concatenate(pixels), _attributes(rows)


def _attributes(chance: np.ndarray) -> np.ndarray:
    """The attributes that the random numbers ``[n, CHANCES]`` stand for: float32 ``[n, A]``."""
    on = [chance[:, k] < share for k, share in enumerate(SWITCHES.values())]
    kinds = (portrait.HAIR_COLOURS, portrait.HAIR_STYLES)
    hair = [np.eye(len(kind))[_choice(chance[:, 5 + k], kind)] for k, kind in enumerate(kinds)]
    pose = 2 * chance[:, 9:11] - 1
    return np.column_stack([*on, *hair, chance[:, 7:9], pose]).astype(np.float32)


def _draw(chance: np.ndarray, image_size: int) -> np.ndarray:
    known = dict(zip(ATTRIBUTES, _attributes(chance).T, strict=True))
    build = dict(zip(portrait.BUILD, chance[:, 11:21].T.astype(np.float32), strict=True))
    colours = {
        name: table[_choice(chance[:, 21 + k], table)] for k, (name, table) in enumerate(portrait.COLOURS.items())
    }
    return portrait.draw(known, build, colours, image_size)


def _choice(chance: np.ndarray, things) -> np.ndarray:
    """Which of the things each random number in [0, 1) stands for."""
    return (chance * len(things)).astype(int)
