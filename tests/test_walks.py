"""Walks through the latent space against the geometry they claim, and an attribute whose direction is known."""

import math

import pytest
import torch
from torch import nn

from ganlib import latent
from ganlib.latent import walks

normal = torch.distributions.Normal(0.0, 1.0)


def some_z(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_lerp_is_the_straight_line():
    a, b = some_z(2, 7)
    assert torch.equal(latent.lerp(a, b, 0.0), a) and torch.equal(latent.lerp(a, b, 1.0), b)
    torch.testing.assert_close(latent.lerp(a, b, 0.25), 0.75 * a + 0.25 * b)
    assert latent.lerp(a, b, torch.linspace(0, 1, 5)).shape == (5, 7)


def test_slerp_turns_evenly_and_keeps_the_length():
    a, b = some_z(2, 64).double()
    a, b = 8 * a / a.norm(), 8 * b / b.norm()
    walk = latent.slerp(a, b, torch.linspace(0, 1, 9))
    torch.testing.assert_close(walk[[0, -1]], torch.stack([a, b]))
    torch.testing.assert_close(walk.norm(dim=1), torch.full((9,), 8.0, dtype=torch.float64))
    steps = walk.diff(dim=0).norm(dim=1)
    torch.testing.assert_close(steps, steps[:1].expand(8))


def test_slerp_by_hand():
    one, other = torch.tensor([[3.0, 0], [0, 3]])
    torch.testing.assert_close(latent.slerp(one, other, 0.5), torch.full((2,), 3 / math.sqrt(2)))
    third = torch.tensor([3 * math.cos(math.pi / 6), 3 * math.sin(math.pi / 6)])
    torch.testing.assert_close(latent.slerp(one, other, 1 / 3), third)
    for between in (latent.slerp, latent.lerp):  # t is as fine as a and b
        one = between(torch.eye(2, dtype=torch.float64)[0], torch.eye(2, dtype=torch.float64)[1], 1 / 3)
        assert one[1].item() == pytest.approx(0.5 if between is latent.slerp else 1 / 3, abs=1e-12)
        assert between(other.to("meta"), other.to("meta"), torch.linspace(0, 1, 5)).device.type == "meta"
    pairs = torch.tensor([[1.0, 0], [0, 2]]), torch.tensor([[0, 1.0], [2, 0]])
    torch.testing.assert_close(latent.slerp(*pairs, torch.tensor([0.0, 1.0])), torch.tensor([[1.0, 0], [2, 0]]))


@pytest.mark.parametrize("factor", [1.0, 3.0, -1.0, 1 + 1e-7])
def test_slerp_is_lerp_where_the_vectors_lie_on_one_line(factor):
    a, t = some_z(16, seed=1), torch.linspace(0, 1, 5)
    walk = latent.slerp(a, factor * a, t)
    torch.testing.assert_close(walk, latent.lerp(a, factor * a, t), atol=1e-6, rtol=1e-5)
    many = some_z(1000, 16)  # of some the cosine is above 1 by a hair
    assert all(latent.slerp(many, f * many, 0.5).isfinite().all() for f in (factor, -factor, 0))


def test_nearly_opposite_vectors_still_go_round():
    for angle, length, dtype in ((1e-3, 1, torch.float32), (1.1e-6, 1, torch.float64), (0.9e-6, 0, torch.float64)):
        a, aside = torch.eye(4, dtype=dtype)[:2]
        half = latent.slerp(a, -math.cos(angle) * a + math.sin(angle) * aside, 0.5)
        assert half.dtype == dtype and half.norm().item() == pytest.approx(length, abs=1e-3)


@pytest.mark.parametrize(("spherical", "between"), [(True, latent.slerp), (False, latent.lerp)])
def test_a_path_meets_its_points_and_a_loop_has_no_seam(spherical, between):
    points = some_z(4, 10, seed=2)
    walk = latent.path(points, 6, spherical)
    assert walk.shape == (19, 10) and walk.dtype == points.dtype and torch.equal(walk[::6], points)
    torch.testing.assert_close(walk[6:12], between(points[1], points[2], torch.arange(6) / 6))
    loop = latent.path(points, 6, spherical, loop=True)
    assert loop.shape == (24, 10) and torch.equal(loop[:18], walk[:18])
    torch.testing.assert_close(torch.cat([loop[18:], loop[:1]]), latent.path(points[[3, 0]], 6, spherical))
    assert torch.equal(latent.path(points, 1, spherical), points)


@pytest.mark.parametrize(("spherical", "between"), [(True, latent.slerp), (False, latent.lerp)])
def test_a_map_meets_its_corners_and_its_rows_are_paths(spherical, between):
    corners = some_z(4, 100, seed=3)
    page = latent.plane(corners, 5, 7, spherical).view(5, 7, 100)
    assert page.dtype == corners.dtype and torch.equal(page[[0, 0, -1, -1], [0, -1, 0, -1]], corners)
    for edge, ends in ((page[0], [0, 1]), (page[-1], [2, 3]), (page[:, 0], [0, 2]), (page[:, -1], [1, 3])):
        torch.testing.assert_close(edge, latent.path(corners[ends], len(edge) - 1, spherical))
    torch.testing.assert_close(page[2], between(page[2, 0], page[2, -1], torch.linspace(0, 1, 7)))
    assert torch.equal(latent.plane(corners, 2, 2), corners)


def test_walks_are_spherical_unless_told_otherwise():
    corners = 8 * torch.eye(64, dtype=torch.float64)[:4]
    for walk in (latent.plane(corners, 5, 5), latent.path(corners, 5)):
        torch.testing.assert_close(walk.norm(dim=1), torch.full((len(walk),), 8.0, dtype=torch.float64))
    torch.testing.assert_close(latent.plane(corners, 5, 5)[12], corners.mean(0) * 2)  # as far from all corners


def test_draws_are_those_of_the_seed():
    assert torch.equal(latent.draw_z(40, 5, seed=3), some_z(40, 5, seed=3))
    assert torch.equal(latent.draw_z(1, 1), some_z(1, 1))


@pytest.mark.parametrize("truncation", [0.02, 0.5, 2.0])
def test_truncated_draws_are_those_of_the_truncated_normal(truncation):
    everywhere, z, again = latent.draw_z(4000, 5, 3), *(latent.draw_z(4000, 5, 3, truncation) for _ in range(2))
    assert torch.equal(z, again) and len(z.unique()) > 19_990  # finer than float32 between 0 and 1 would be
    inside = everywhere.abs() <= truncation
    assert torch.equal(z[inside], everywhere[inside]) and z.abs().max() <= truncation
    density, mass = math.exp(-(truncation**2) / 2) / math.sqrt(2 * math.pi), math.erf(truncation / math.sqrt(2))
    variance = 1 - 2 * truncation * density / mass  # of the normal within ± truncation
    n = (~inside).sum().item()
    for numbers in (z, z[~inside]):  # those drawn again are of the same distribution
        assert numbers.var().item() == pytest.approx(variance, rel=6 / math.sqrt(n))
        assert abs(numbers.mean().item()) < 4 * math.sqrt(variance / n)
    assert z[~inside].abs().max() > 0.98 * truncation


class Lamp(nn.Module):
    """A generator whose images are bright where the first number of z is positive; the rest of z does nothing."""

    z_dim = 12

    def __init__(self):
        super().__init__()
        self.gain, self.batches = nn.Parameter(torch.ones(1)), []
        self.dropout = nn.Dropout(0.5)  # would be seen in training mode

    def forward(self, z):
        self.batches.append(len(z))
        return self.dropout(torch.tanh(self.gain * z[:, 0])).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)


def bright(images):
    assert images.dtype == torch.uint8 and images.shape[1:] == (1, 4, 4)
    return images.float().mean((1, 2, 3)) > 127.5


def test_what_is_measured_is_that_of_each_image():
    lamp, z = Lamp().train(), latent.draw_z(501, 12)
    found = latent.readings(lamp, z, lambda images: images[:, 0, 0, :2].float())
    torch.testing.assert_close(found, (z[:, :1].tanh() + 1).mul(127.5).round().expand(-1, 2))
    assert lamp.batches == [250, 250, 1] and walks.BATCH == 250
    assert not found.requires_grad and lamp.training and lamp.gain.grad is None
    said = latent.answers(lamp, z, lambda images: images[:, 0, 0, 0] // 200)  # a number is a yes, too
    assert said.dtype == torch.bool and torch.equal(said, found[:, 0] >= 200)


def test_a_known_direction_is_found_with_its_sign_and_size():
    lamp, z = Lamp(), latent.draw_z(6000, 12)
    has = latent.answers(lamp, z, bright)
    # The mean of a half normal is sqrt(2 / pi) from 0: between the two halves lies twice that.
    along = 2 * math.sqrt(2 / math.pi) * torch.eye(12)[0]
    torch.testing.assert_close(latent.direction(z[has], z[~has]), along, atol=0.08, rtol=0)
    smiling_woman, woman, man = some_z(3, 3, 8, seed=5)  # as in the DCGAN paper
    made = man.mean(0) + latent.direction(smiling_woman, woman[:1])
    torch.testing.assert_close(made, smiling_woman.mean(0) - woman[0] + man.mean(0))


def test_the_answers_flip_as_often_as_they_must():
    lamp, z, along = Lamp(), torch.zeros(9, 12), torch.eye(12)[0]
    z[:, 0] = torch.tensor([-3, -1.5, -1.005, -0.7, -0.4, 0.2, 0.6, 0.9, 3])  # without it five, with it four
    found = latent.flips(lamp, z, along, bright)
    assert type(found) is float and found == pytest.approx(5 / 9)  # two are gained, three lost
    assert latent.flips(lamp, z, along, bright, strength=0.5) == pytest.approx(2 / 9)
    assert latent.flips(lamp, z, along, bright, strength=-1) == 0  # the wrong way
    assert latent.flips(lamp, z, along.roll(1), bright) == 0  # aside


NAN, INF = torch.full((3, 2), math.nan), torch.full((4, 2), math.inf)
Z = torch.zeros(4, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: latent.path(Z[:1], 3), r"2 or more finite points.*\[1, 3\]"),
        (lambda: latent.path(Z[0], 3), r"2 or more finite points.*\[3\]"),
        (lambda: latent.path(NAN, 3), "finite"),
        (lambda: latent.path(Z, 0), "n is 0.*at least 1"),
        (lambda: latent.plane(Z[:3], 3, 3), r"4 finite corners.*\[3, 3\]"),
        (lambda: latent.plane(Z[:, 0], 3, 3), r"4 finite corners.*\[4\]"),
        (lambda: latent.plane(INF, 3, 3), "finite"),
        (lambda: latent.plane(Z, 1, 3), "rows is 1.*at least 2"),
        (lambda: latent.plane(Z, 2, 1), "cols is 1.*at least 2"),
        (lambda: latent.draw_z(2, 2, truncation=0), "truncation is 0.*above 0"),
        (lambda: latent.draw_z(2, 2, truncation=math.nan), "truncation is nan.*above 0"),
        (lambda: latent.draw_z(0, 2), "n is 0.*at least 1"),
        (lambda: latent.draw_z(2, 0), "z_dim is 0.*at least 1"),
        (lambda: latent.direction(torch.zeros(2, 4), Z), r"from \[4, 3\] to \[2, 4\]"),
        (lambda: latent.direction(Z[0], Z), r"from \[4, 3\] to \[3\]"),
        (lambda: latent.direction(Z, Z[0]), r"from \[3\] to \[4, 3\]"),
        (lambda: latent.direction(Z[0], Z[0]), r"from \[3\] to \[3\]"),
        (lambda: latent.direction(Z[None], Z[None]), r"from \[1, 4, 3\] to \[1, 4, 3\]"),
        (lambda: latent.direction(Z[:0], Z), r"none of them 0, .*to \[0, 3\]"),
        (lambda: latent.direction(Z, Z[:0]), r"from \[0, 3\]"),
        (lambda: latent.flips(Lamp(), torch.ones(9, 12), torch.ones(12), bright), "All of the 9 .*draw more"),
        (lambda: latent.flips(Lamp(), -torch.ones(9, 12), torch.ones(12), bright), "None of the 9 .*draw more"),
    ],
)
def test_what_cannot_be_gets_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
