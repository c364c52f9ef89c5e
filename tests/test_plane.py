"""The picture of the game in the plane, against what can be worked out by hand."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from torch import nn

from ganlib._runtime.randomness import rng
from ganlib.data import toys
from ganlib.losses import minimax_g_loss, non_saturating_g_loss
from ganlib.viz.palette import D_COLOR, FAKE_COLOR, G_COLOR, REAL_COLOR
from ganlib.viz.plane import picture, pushes

REAL, FAKE = toys.ring(40, rng(0)), 0.1 * torch.randn(40, 2, generator=rng(1))


def tilted(a=0.0, b=0.0, c=0.0):
    """A discriminator whose logit is a * x + b * y + c."""
    layer = nn.Linear(2, 1)
    layer.weight.data, layer.bias.data = torch.tensor([[a, b]]), torch.tensor([c])
    return nn.Sequential(layer, nn.Flatten(0))


def rgb(color):
    return 255 * np.array(to_rgb(color))


def test_a_push_is_the_formula_whatever_the_number_of_fakes():
    # d/dx -log sigmoid(ax + c) = -(1 - D) a, and d/dx log(1 - sigmoid(ax + c)) = -D a: the push has the sign turned.
    for fake in (FAKE, FAKE[:1]):
        D = torch.sigmoid(3 * fake[:, 0] - 1)
        strong, weak = (pushes(fake, tilted(3.0, c=-1.0), loss) for loss in (non_saturating_g_loss, minimax_g_loss))
        assert torch.allclose(strong[:, 0], 3 * (1 - D), atol=1e-6) and strong[:, 1].abs().max() == 0
        assert torch.allclose(weak[:, 0], 3 * D, atol=1e-6)


def test_nothing_of_the_discriminator_changes_and_it_may_be_frozen():
    discriminator = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0)).eval()
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    picture(REAL, FAKE, discriminator, non_saturating_g_loss)
    assert all(torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())
    assert not discriminator.training and all(weight.grad is None for weight in discriminator.parameters())
    with torch.no_grad():
        assert pushes(FAKE, discriminator.requires_grad_(False), non_saturating_g_loss).shape == (40, 2)


def test_the_picture_has_the_points_the_ground_and_the_line():
    frame = picture(REAL, FAKE, tilted(2.0), non_saturating_g_loss, size=200, arrows=0)
    assert frame.shape == (200, 200, 3) and frame.dtype == np.uint8
    large = picture(REAL, FAKE, tilted(2.0), non_saturating_g_loss, size=400, arrows=0)
    for color in (REAL_COLOR, FAKE_COLOR):  # so many pixels have about this colour
        assert (np.abs(large - rgb(color)).max(axis=2) <= 12).sum() > 100
    left, right = frame[150, 5].astype(int), frame[150, 195].astype(int)
    assert left[2] - left[0] > 20 and right[0] - right[2] > 40  # D says fake: lilac; real: pale gold
    line = np.abs(frame - rgb(D_COLOR)).max(axis=2) < 60
    assert np.flatnonzero(line.sum(axis=0) > 100).tolist() in ([99], [100], [99, 100])  # x = 0, where D = 1/2


def test_up_is_up_and_a_title_stands_at_the_top():
    game = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, -2.0]]), tilted(b=2.0), non_saturating_g_loss
    frame, titled = (picture(*game, size=200, arrows=0, title=title) for title in ("", "step 3"))
    assert np.abs(frame[33, 100] - rgb(REAL_COLOR)).max() <= 30  # y = 2 of ±3: a sixth from the top
    assert frame[5, 5, 0] > frame[5, 5, 2] and frame[195, 5, 2] > frame[195, 5, 0]  # D expects reals above
    assert (titled != frame)[:25].any() and np.array_equal(titled[25:], frame[25:])


def test_arrows_point_where_the_fakes_are_pushed_and_die_with_the_saturating_loss():
    def ink(g_loss, side):
        frame = picture(torch.tensor([[2.0, 0.0]]), torch.tensor([[-2.0, 0.0]]), tilted(10.0), g_loss, size=300)
        arrow = (np.abs(frame - rgb(G_COLOR)).max(axis=2) < 40)[:, :140]  # x = -2, where the logit is -20, is pixel 50
        return arrow[:, 54:].sum() if side == "right" else arrow[:, :42].sum()

    assert ink(non_saturating_g_loss, "right") > 20 and ink(non_saturating_g_loss, "left") == 0
    assert ink(minimax_g_loss, "right") == 0


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((REAL[:, :1], FAKE, tilted()), {}, r"real has shape \[40, 1\]"),
        ((REAL, FAKE[:0], tilted()), {}, r"fake has shape \[0, 2\]"),
        ((REAL, FAKE / 0, tilted()), {}, "fake holds NaN"),
        ((REAL, FAKE, nn.Linear(2, 1)), {}, r"\[40, 1\].*nn.Flatten\(0\)"),
        ((REAL, FAKE, tilted(c=float("nan"))), {}, "discriminator gives NaN"),
        ((REAL, FAKE, tilted()), {"extent": 0}, "extent=0.*above 0"),
        ((REAL, FAKE, tilted()), {"size": 20}, "size=20.*at least 50"),
    ],
)
def test_wrong_input_is_named(arguments, settings, message):
    with pytest.raises(ValueError, match=message):
        picture(*arguments, non_saturating_g_loss, **settings)
