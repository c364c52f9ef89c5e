"""The colours of the course, for every kind of eye, and points drawn in them.

Reals are gold discs and fakes are ink crosses. Together with D's blue and G's vermilion they stay at least ΔE 40 apart
(CIE 1976) for people without colour-blindness, with protanopia, deuteranopia or tritanopia, and in grey; so do the two
grounds, at least 25. Only D and G are alike in grey, so they differ in their lines, too.
"""

D_COLOR, G_COLOR = "#0068B0", "#BF4200"
REAL_COLOR, FAKE_COLOR = "#FFD21A", "#08070F"
REAL_GROUND, FAKE_GROUND = "#FFF2C2", "#AAA2CE"  # where D expects reals, and fakes
OTHER_COLORS = ("#56B4E9", "#CC79A7", "#707070")


def points(axes, real=None, fake=None, size: float = 12, **style) -> None:
    """Draw reals and fakes, each [n, 2], into a matplotlib Axes; ``size`` is a disc's area in square points."""
    if real is not None:
        axes.scatter(*real.T, s=size, color=REAL_COLOR, edgecolors=FAKE_COLOR, linewidths=0.25, **style)
    if fake is not None:
        axes.scatter(*fake.T, s=size, color=FAKE_COLOR, marker="x", linewidths=0.11 * size**0.5 + 0.35, **style)
