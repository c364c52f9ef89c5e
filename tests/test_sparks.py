"""Small curves: every pixel's column against what the numbers say."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from ganlib.viz.palette import D_COLOR, G_COLOR, OTHER_COLORS
from ganlib.viz.sparks import small_curves

PANEL = slice(25, 135), slice(45, 440)  # inside the frame, for one line of labels and the default size


def inked(picture, color):
    """The rows and columns of the panel with about this colour."""
    near = np.abs(picture[PANEL] - 255 * np.array(to_rgb(color))).max(axis=2) < 40
    return np.nonzero(near)


def test_each_player_has_its_colour_and_the_generator_the_thick_line():
    picture = small_curves({"d_loss": [1.0] * 50, "g_loss": [2.0] * 50, "penalty": [3.0] * 50})
    assert picture.shape == (150, 450, 3) and picture.dtype == np.uint8
    (d, _), (g, _), (other, _) = (inked(picture, color) for color in (D_COLOR, G_COLOR, OTHER_COLORS[0]))
    assert d.min() > g.max() > g.min() > other.max()  # large is up
    assert len(g) > 1.5 * len(d) > 300
    own = small_curves({"d_loss": [1.0] * 50}, colors={"d_loss": "#00FF00"})
    assert len(inked(own, "#00FF00")[0]) and not len(inked(own, D_COLOR)[0])


def test_many_values_are_means_and_one_spike_or_nan_spoils_nothing():
    values = np.where(np.arange(100_000) < 50_000, 1.0, 3.0) + np.tile([-0.5, 0.5], 50_000)
    values[777], values[1::7] = 1e9, np.nan
    rows, columns = inked(small_curves({"d_loss": values.tolist()}), D_COLOR)
    steady = (columns > 10) & (abs(columns - 197) > 5)
    low, high = rows[steady & (columns < 197)], rows[steady & (columns > 197)]
    assert low.min() > 90 and high.max() < 20 and np.ptp(low) <= 6 and np.ptp(high) <= 6
    assert len(np.unique(columns)) > 380  # no gap where a value is missing


def test_marks_stand_where_something_was_changed():
    series = {"d_loss": [1.0] * 100}
    plain = small_curves(series, first=500)
    changed = [
        np.nonzero((small_curves(series, marks=[step], first=500) != plain).any(axis=(0, 2)))[0] for step in (525, 575)
    ]
    assert all(len(columns) <= 2 for columns in changed)
    assert 195 <= changed[1].mean() - changed[0].mean() <= 210  # half of the panel
    assert np.array_equal(small_curves(series, marks=[500, 601], first=500), plain)  # outside of what is shown


def test_the_labels_say_the_last_value_and_the_steps():
    series = {"d_loss": [1.0, 1.25], "g_loss": [2.0, 1.5]}
    one, other, later = (
        small_curves(series),
        small_curves({**series, "g_loss": [2.0, 1.75]}),
        small_curves(series, first=9),
    )
    assert (one != other)[:18].any() and np.array_equal(one[:18], later[:18]) and (one != later)[138:].any()
    names = {f"a_rather_long_name_{k}": [1.0, 2.0] for k in range(6)}
    assert (small_curves(names)[18:40, :40] < 255).any(), "labels go on in a second line"


@pytest.mark.parametrize("series", [{}, {"d_loss": []}, {"d_loss": [float("nan")] * 3}, {"d_loss": [0.0]}])
def test_nothing_yet_is_an_empty_panel(series):
    picture = small_curves(series, size=(120, 60))
    assert picture.shape == (60, 120, 3) and (picture == 255).any()


def test_a_panel_too_small_is_refused():
    with pytest.raises(ValueError, match="119 × 60.*at least 120 × 60"):
        small_curves({}, size=(119, 60))
