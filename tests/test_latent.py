"""Walks through the latent space against the geometry they claim, and an attribute whose direction is known."""

import math

import pytest
import torch
from torch import nn

from ganlib import models
from ganlib.latent import walks as latent

rng = torch.Generator().manual_seed


def z_of(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def test_lerp_is_the_straight_line():
    a, b = torch.randn(2, 7, generator=rng(0))
    assert torch.equal(latent.lerp(a, b, 0.0), a) and torch.equal(latent.lerp(a, b, 1.0), b)
    torch.testing.assert_close(latent.lerp(a, b, 0.25), 0.75 * a + 0.25 * b)
    assert latent.lerp(a, b, torch.linspace(0, 1, 5)).shape == (5, 7)


def test_slerp_turns_evenly_and_keeps_the_length():
    a, b = torch.randn(2, 64, generator=rng(0), dtype=torch.float64)
    a, b = 8 * a / a.norm(), 8 * b / b.norm()
    walk = latent.slerp(a, b, torch.linspace(0, 1, 9))
    torch.testing.assert_close(walk[[0, -1]], torch.stack([a, b]))
    torch.testing.assert_close(walk.norm(dim=1), torch.full((9,), 8.0, dtype=torch.float64))
    steps = walk.diff(dim=0).norm(dim=1)
    torch.testing.assert_close(steps, steps[:1].expand(8))
    assert latent.lerp(a, b, 0.5).norm() < 6.5  # the dip that it avoids


def test_slerp_of_a_quarter_turn_by_hand():
    half = latent.slerp(z_of([3, 0])[0], z_of([0, 3])[0], 0.5)
    torch.testing.assert_close(half, z_of([3 / math.sqrt(2), 3 / math.sqrt(2)])[0])
    batch = latent.slerp(z_of([1, 0], [0, 2]), z_of([0, 1], [2, 0]), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(batch, z_of([1, 0], [2, 0]))  # a t for each pair


@pytest.mark.parametrize("factor", [1.0, 3.0, -1.0, 0.0, 1 + 1e-7])
def test_slerp_is_safe_where_the_vectors_lie_on_one_line(factor):
    a = torch.randn(16, generator=rng(1))
    walk = latent.slerp(a, factor * a, torch.linspace(0, 1, 5))
    assert walk.isfinite().all() and torch.equal(walk[0], a)
    torch.testing.assert_close(walk[-1], factor * a)
    if factor:
        torch.testing.assert_close(walk[2], (1 + factor) / 2 * a, atol=1e-6, rtol=1e-5)


def test_nearly_opposite_vectors_still_go_round():
    a, aside = torch.eye(4)[:2]
    walk = latent.slerp(a, -a + 1e-3 * aside, torch.linspace(0, 1, 5))
    torch.testing.assert_close(walk.norm(dim=1), torch.ones(5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("spherical", [True, False])
def test_a_path_meets_its_points_and_a_loop_has_no_seam(spherical):
    points = torch.randn(4, 10, generator=rng(2))
    walk = latent.path(points, 6, spherical)
    assert walk.shape == (19, 10) and walk.dtype == points.dtype
    assert torch.equal(walk[::6], points)
    loop = latent.path(points, 6, spherical, loop=True)
    assert loop.shape == (24, 10) and torch.equal(loop[::6], points) and torch.equal(loop[:18], walk[:18])
    steps = torch.cat([loop, loop[:1]]).diff(dim=0).norm(dim=1)
    assert steps.min() > 0  # no frame twice, not at the seam either
    last_leg = torch.cat([loop[18:], loop[:1]])
    torch.testing.assert_close(last_leg, latent.path(points[[3, 0]], 6, spherical))


def test_what_is_no_path_gets_a_sentence():
    for points in (torch.zeros(1, 3), torch.zeros(3), torch.tensor([[0.0], [math.nan]])):
        with pytest.raises(ValueError, match="through 2 or more points, finite and"):
            latent.path(points, 3)
    with pytest.raises(ValueError, match="n is 0, but at least 1"):
        latent.path(torch.zeros(2, 3), 0)


@pytest.mark.parametrize("spherical", [True, False])
def test_a_map_meets_its_corners_and_its_edges_are_paths(spherical):
    corners = torch.randn(4, 100, generator=rng(3))
    page = latent.plane(corners, 5, 7, spherical).view(5, 7, 100)
    assert page.dtype == corners.dtype
    assert torch.equal(page[[0, 0, -1, -1], [0, -1, 0, -1]], corners)
    for edge, ends in ((page[0], [0, 1]), (page[-1], [2, 3]), (page[:, 0], [0, 2]), (page[:, -1], [1, 3])):
        torch.testing.assert_close(edge, latent.path(corners[ends], len(edge) - 1, spherical))
    torch.testing.assert_close(page[2], latent.path(page[2, [0, -1]], 6, spherical))


def test_a_map_keeps_the_length_and_its_middle_is_as_far_from_all_corners():
    corners = 8 * torch.eye(64, dtype=torch.float64)[:4]
    page = latent.plane(corners, 5, 5).view(5, 5, 64)
    torch.testing.assert_close(page.norm(dim=2), torch.full((5, 5), 8.0, dtype=torch.float64))
    torch.testing.assert_close(page[2, 2], corners.mean(0) * 2)  # corners at right angles: the mean has half the length
    straight = latent.plane(corners, 5, 5, spherical=False).view(5, 5, 64)
    torch.testing.assert_close(straight[2, 2], corners.mean(0))
    torch.testing.assert_close(straight, straight.flip(0, 1)[..., [3, 2, 1, 0, *range(4, 64)]])


def test_what_is_no_map_gets_a_sentence():
    for corners in (torch.zeros(3, 5), torch.zeros(4), torch.full((4, 2), math.inf)):
        with pytest.raises(ValueError, match="A map has 4 corners, finite and"):
            latent.plane(corners, 3, 3)
    with pytest.raises(ValueError, match="rows is 1, but a map reaches from corner to corner: at least 2"):
        latent.plane(torch.zeros(4, 3), 1, 3)
    with pytest.raises(ValueError, match="cols is 0, but"):
        latent.plane(torch.zeros(4, 3), 2, 0)


def test_draws_are_normal_and_the_same_for_the_same_seed():
    z = latent.draw_z(4000, 5, seed=3)
    assert torch.equal(z, latent.draw_z(4000, 5, seed=3)) and not torch.equal(z, latent.draw_z(4000, 5, seed=4))
    assert abs(z.mean().item()) < 0.02 and abs(z.std().item() - 1) < 0.02


@pytest.mark.parametrize("truncation", [0.02, 0.5, 2.0])
def test_truncated_draws_are_those_of_the_truncated_normal(truncation):
    whole, z = latent.draw_z(4000, 5, seed=3), latent.draw_z(4000, 5, 3, truncation)
    inside = whole.abs() <= truncation
    assert torch.equal(z[inside], whole[inside]) and z.abs().max() <= truncation
    density, mass = math.exp(-(truncation**2) / 2) / math.sqrt(2 * math.pi), math.erf(truncation / math.sqrt(2))
    variance = 1 - 2 * truncation * density / mass  # of the normal within ± truncation
    n = (~inside).sum().item()
    for numbers in (z, z[~inside]):  # those drawn again are of the same distribution
        assert numbers.var().item() == pytest.approx(variance, rel=6 / math.sqrt(n))
        assert abs(numbers.mean().item()) < 4 * math.sqrt(variance / n)


def test_what_cannot_be_drawn_gets_a_sentence():
    for truncation in (0, -1.0, math.nan):
        with pytest.raises(ValueError, match="truncation is .*, but must be above 0, such as 0.7"):
            latent.draw_z(2, 2, truncation=truncation)
    with pytest.raises(ValueError, match="n is 0, but must be at least 1"):
        latent.draw_z(0, 2)
    with pytest.raises(ValueError, match="z_dim is 0, but must be at least 1"):
        latent.even_z(4, 0)
    with pytest.raises(ValueError, match="n is 10, but a map is a square: take 9 or 16"):
        latent.even_z(10)


def test_the_map_is_laid_out_as_a_page():
    page = latent.even_z(400).view(20, 20, 2)
    assert torch.equal(page[0, :, 0], page[7, :, 0]) and torch.equal(page[:, 0, 1], page[:, 7, 1])
    assert (page[:, :, 0].diff(dim=1) > 0).all() and (page[:, :, 1].diff(dim=0) < 0).all()
    mass = torch.special.ndtr(page[0, :, 0].double())
    torch.testing.assert_close(mass, (torch.arange(20).double() + 0.5) / 20)
    assert latent.even_z(1).tolist() == [[0, 0]]


@pytest.mark.parametrize("z_dim", [1, 3, 100])
def test_even_draws_leave_no_holes_in_any_dimension(z_dim):
    even, random = latent.even_z(256, z_dim), latent.draw_z(256, z_dim)
    assert even.shape == random.shape == (256, z_dim) and even.isfinite().all()
    shares = [(torch.special.ndtr(z.double()) * 256).long().clamp(max=255) for z in (even, random)]
    taken = [[len(column.unique()) for column in share.T] for share in shares]
    assert min(taken[0]) >= 255  # each of 256 intervals of equal probability has one; rounding may move one across
    assert max(taken[1]) < 200  # of random ones 1 - 1/e
    assert not torch.equal(even, latent.even_z(256, z_dim, seed=1))


class Lamp(nn.Module):
    """A generator whose images are bright where the first number of z is positive; the rest of z does nothing."""

    z_dim = 12

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.dropout = nn.Dropout(0.5)  # would be seen in training mode

    def forward(self, z):
        return self.dropout(torch.tanh(self.gain * z[:, 0])).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)


def bright(images):
    assert images.dtype == torch.uint8 and images.shape[1:] == (1, 4, 4)
    return images.float().mean((1, 2, 3)) > 127.5


def test_a_known_direction_is_found_with_its_sign_and_size():
    lamp, z = Lamp().train(), latent.draw_z(6000, 12)
    has = latent.answers(lamp, z, bright)
    assert torch.equal(has, z[:, 0] > 0.0039) or (has != (z[:, 0] > 0)).float().mean() < 0.01
    along = latent.direction(z[has], z[~has])
    # The mean of a half normal is sqrt(2 / pi) from 0: between the two halves lies twice that.
    torch.testing.assert_close(along, 2 * math.sqrt(2 / math.pi) * torch.eye(12)[0], atol=0.08, rtol=0)
    assert lamp.training and lamp.gain.grad is None


def test_the_answers_flip_as_often_as_they_must():
    lamp, z = Lamp(), latent.draw_z(4000, 12, seed=1)
    along = 2 * math.sqrt(2 / math.pi) * torch.eye(12)[0]
    found = latent.flips(lamp, z, along, bright)
    expected = math.erf(2 * math.sqrt(2 / math.pi) / math.sqrt(2))  # P(|z| < 1.6) = 0.889
    assert found.gained == pytest.approx(expected, abs=0.03) and found.lost == pytest.approx(expected, abs=0.03)
    assert found.without + found.having == 4000
    assert found.rate == pytest.approx(expected, abs=0.02)
    assert f"{found.rate:.0%} of the answers flip" in str(found)
    assert latent.flips(lamp, z, along, bright, strength=-1).rate == 0  # the wrong way
    assert latent.flips(lamp, z, along.roll(1), bright).rate == 0  # aside
    assert latent.flips(lamp, z, along, bright, strength=3).rate > 0.99


def test_arithmetic_with_averages_is_that_of_the_dcgan_paper():
    smiling_woman, woman, man = torch.randn(3, 3, 8, generator=rng(5))
    made = man.mean(0) + latent.direction(smiling_woman, woman)
    torch.testing.assert_close(made, smiling_woman.mean(0) - woman.mean(0) + man.mean(0))


def test_directions_that_cannot_be_get_a_sentence():
    with pytest.raises(ValueError, match=r"they are \[3, 5\] and \[2, 4\]"):
        latent.direction(torch.zeros(2, 4), torch.zeros(3, 5))
    with pytest.raises(ValueError, match="with the attribute and without it; draw more"):
        latent.direction(torch.zeros(0, 4), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="All of the 9 images have the attribute"):
        latent.flips(Lamp(), torch.ones(9, 12), torch.ones(12), bright)
    with pytest.raises(ValueError, match="None of the 9 images have the attribute"):
        latent.flips(Lamp(), -torch.ones(9, 12), torch.ones(12), bright)


def test_a_real_generator_is_walked_and_left_as_it_was():
    generator = models.dcgan_generator(8, 1, 4, 12).train()
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    walk = latent.path(latent.draw_z(3, 12), 4, loop=True)
    latent.answers(generator, walk, lambda images: images.float().mean((1, 2, 3)) > 127)
    assert generator.training
    assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())
