"""The small networks and the picture of the game, against what can be worked out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from ganlib._runtime.device import rng
from ganlib.data import toys
from ganlib.losses import minimax_g_loss, non_saturating_g_loss
from ganlib.viz import plane
from ganlib.viz.images import FAKE_COLOR, REAL_COLOR


class Slope(nn.Module):
    """A discriminator whose logit is a * x + b, whatever y is."""

    def __init__(self, a=1.0, b=0.0):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, points):
        return self.a * points[:, 0] + self.b


def clouds(n=40):
    return toys.ring(n, rng(0)), 0.1 * torch.randn(n, 2, generator=rng(1))


def rgb(color):
    return np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)])


def near(frame, color, by=12):
    """How many pixels have about this colour."""
    return int((np.abs(frame.astype(int) - rgb(color)).max(axis=2) <= by).sum())


# --- networks -------------------------------------------------------------------------------------


def test_the_networks_have_the_shapes_they_say():
    generator, discriminator = plane.mlp_generator(z_dim=5, width=8, seed=3), plane.mlp_discriminator(width=8, seed=3)
    points = generator(torch.randn(7, 5))
    assert points.shape == (7, 2) and discriminator(points).shape == (7,)
    assert discriminator(points[:1]).shape == (1,)


def test_the_same_seed_gives_the_same_networks():
    first, again, other = (plane.mlp_generator(seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first[2].weight, again[2].weight) and not torch.equal(first[2].weight, other[2].weight)


def test_signals_keep_their_size_through_a_layer():
    wide = plane.he_normal(nn.Sequential(nn.Linear(500, 2000), nn.ReLU()), seed=0)
    z = torch.randn(200, 500, generator=rng(1))
    assert wide(z).square().mean().item() == pytest.approx(1.0, abs=0.05)  # half of variance 2 is left
    assert wide[0].bias.abs().max() == 0


# --- pushes ---------------------------------------------------------------------------------------


def test_a_push_is_the_formula_whatever_the_number_of_fakes():
    # d/dx -log sigmoid(ax + b) = -(1 - D) a, and d/dx log(1 - sigmoid(ax + b)) = -D a: the push has the sign turned.
    for n in (1, 9):
        fake = torch.randn(n, 2, generator=rng(n))
        D = torch.sigmoid(3 * fake[:, 0] - 1)
        strong = plane.pushes(fake, Slope(3, -1), non_saturating_g_loss)
        weak = plane.pushes(fake, Slope(3, -1), minimax_g_loss)
        assert torch.allclose(strong[:, 0], 3 * (1 - D), atol=1e-6) and strong[:, 1].abs().max() == 0
        assert torch.allclose(weak[:, 0], 3 * D, atol=1e-6)


def test_pushes_leave_no_gradient_behind_and_work_on_a_frozen_discriminator():
    discriminator = plane.mlp_discriminator(width=4)
    plane.pushes(clouds()[1], discriminator, non_saturating_g_loss)
    assert all(weight.grad is None for weight in discriminator.parameters())
    with torch.no_grad():
        assert plane.pushes(clouds()[1], discriminator.requires_grad_(False), non_saturating_g_loss).shape == (40, 2)


# --- the picture ----------------------------------------------------------------------------------


def test_the_picture_has_the_points_the_surface_and_the_line():
    real, fake = clouds()
    frame = plane.picture(real, fake, Slope(2), non_saturating_g_loss, size=200, arrows=0)
    assert frame.shape == (200, 200, 3) and frame.dtype == np.uint8
    assert near(frame, REAL_COLOR) > 30 and near(frame, FAKE_COLOR) > 10
    left, right = frame[150, 5].astype(int), frame[150, 195].astype(int)
    assert left[0] - left[1] > 20 and right[1] - right[0] > 20  # D says fake: pinkish; real: greenish
    dark = frame.max(axis=2) < 130
    assert np.flatnonzero(dark.any(axis=0)).tolist() in ([99], [100], [99, 100])  # x = 0, where D = 1/2


def test_up_is_up():
    high = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    nn.init.zeros_(high[0].bias)
    high[0].weight.data = torch.tensor([[0.0, 2.0]])  # real above, fake below
    real, fake = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, -2.0]])
    frame = plane.picture(real, fake, high, non_saturating_g_loss, size=200, arrows=0).astype(int)
    assert np.abs(frame[33, 100] - rgb(REAL_COLOR)).max() <= 30  # y = 2 of -3 ... 3 is a sixth from the top
    assert frame[5, 5, 1] > frame[5, 5, 0] and frame[195, 5, 0] > frame[195, 5, 1]


def test_arrows_point_where_the_fakes_are_pushed_and_die_with_the_saturating_loss():
    real, fake = torch.tensor([[2.0, 0.0]]), torch.tensor([[-2.0, 0.0]])
    sure = Slope(10, 0)  # logit -20 at the fake

    def ink(g_loss, side):
        frame = plane.picture(real, fake, sure, g_loss, size=300)
        dark = (frame.max(axis=2) < 90)[:, :140]
        at = 50  # the pixel of x = -2
        return dark[:, at + 4 :].sum() if side == "right" else dark[:, : at - 8].sum()

    assert ink(non_saturating_g_loss, "right") > 20 and ink(non_saturating_g_loss, "left") == 0
    assert ink(minimax_g_loss, "right") == 0


def test_the_discriminator_stays_as_it_was():
    discriminator = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0))
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    plane.picture(*clouds(), discriminator.eval(), non_saturating_g_loss)
    assert all(torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())
    assert not discriminator.training


REAL, FAKE = clouds()
ONE_COLUMN = nn.Linear(2, 1)


@pytest.mark.parametrize(
    ("arguments", "settings", "sentence"),
    [
        ((REAL[:, :1], FAKE, Slope()), {}, r"real has shape \[40, 1\], but must be points of the plane"),
        ((REAL, FAKE[:0], Slope()), {}, r"fake has shape \[0, 2\], but must be points"),
        ((REAL, FAKE / 0, Slope()), {}, "fake holds NaN or infinite points: the network .* has diverged"),
        ((REAL, FAKE, ONE_COLUMN), {}, r"gives \[40, 1\] for 40 points, .* end it with nn.Flatten\(0\)"),
        ((REAL, FAKE, Slope(float("nan"))), {}, "The discriminator gives NaN: it has diverged"),
        ((REAL, FAKE, Slope()), {"extent": 0}, "extent is 0, but must be above 0"),
        ((REAL, FAKE, Slope()), {"size": 20}, "size is 20, but must be a whole number of at least 50"),
        ((REAL, FAKE, Slope()), {"arrows": -1}, "arrows is -1, but must be a whole number"),
    ],
)
def test_wrong_input_gets_a_sentence(arguments, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        plane.picture(*arguments, non_saturating_g_loss, **settings)
