import math

import numpy as np
import pytest
import torch

from ganlib.data import toys

SAMPLERS = {
    "ring": toys.ring,
    "grid25": toys.grid25,
    "spiral": toys.spiral,
    "two_moons": toys.two_moons,
    "points": lambda n, rng: toys.points([[0, 1], [2, 3]], n, rng),
}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_a_pure_function_of_its_generator(name):
    draw = SAMPLERS[name]
    before = torch.get_rng_state()
    first, again, other = draw(100, rng(1)), draw(100, rng(1)), draw(100, rng(2))
    assert first.shape == (100, 2) and first.dtype == torch.float32
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    assert draw(0, rng()).shape == (0, 2)
    generator = rng(1)
    assert not torch.equal(draw(100, generator), draw(100, generator))


def test_ring_has_its_centres_radius_and_spread():
    centers = toys.ring_centers(8, radius=2.0)
    assert torch.allclose(centers[0], torch.tensor([2.0, 0.0]))
    assert torch.allclose(centers[2], torch.tensor([0.0, 2.0]), atol=1e-6)
    assert torch.allclose(centers.norm(dim=1), torch.full((8,), 2.0))
    samples = toys.ring(40_000, rng(), std=0.1)
    gap, nearest = torch.cdist(samples, centers).min(dim=1)
    assert gap.square().mean().item() == pytest.approx(2 * 0.1**2, rel=0.03)  # two axes
    assert torch.bincount(nearest, minlength=8).float().div(5_000).sub(1).abs().max() < 0.06


def test_grid_is_25_centres_two_apart_and_each_as_likely():
    centers = toys.grid_centers()
    assert {tuple(c) for c in centers.tolist()} == {
        (x, y) for x in (-4.0, -2.0, 0.0, 2.0, 4.0) for y in (-4.0, -2.0, 0.0, 2.0, 4.0)
    }
    samples = toys.grid25(50_000, rng())
    gap, nearest = torch.cdist(samples, centers).min(dim=1)
    assert gap.square().mean().item() == pytest.approx(2 * 0.05**2, rel=0.03)
    assert torch.bincount(nearest, minlength=25).float().div(2_000).sub(1).abs().max() < 0.1


def test_spiral_winds_and_two_moons_have_their_moments():
    line = toys.spiral(20_000, rng(), turns=1.5, radius=3.0, std=0.0)
    r = line.norm(dim=1)
    assert r.max() <= 3.0 + 1e-5
    assert (r.square() / 9).mean().item() == pytest.approx(0.5, abs=0.01)
    angle = 2 * math.pi * 1.5 * r / 3.0
    assert torch.allclose(line, r[:, None] * torch.stack([angle.cos(), angle.sin()], 1), atol=1e-4)

    moons = toys.two_moons(20_000, rng(), std=0.0)
    assert moons.mean(dim=0).abs().max() < 0.02
    on_upper = ((moons + torch.tensor([0.5, 0.25])).norm(dim=1) - 1).abs() < 1e-4
    on_lower = ((moons - torch.tensor([0.5, 0.25])).norm(dim=1) - 1).abs() < 1e-4
    assert (on_upper | on_lower).all()
    assert on_upper.float().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_own_points_are_resampled_with_jitter(kind):
    mine = kind([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    still = toys.points(mine, 3_000, rng(), std=0.0)
    seen, counts = still.unique(dim=0, return_counts=True)
    assert seen.tolist() == [[0.0, 0.0], [0.0, 10.0], [10.0, 0.0]] and counts.min() > 900
    moved = toys.points(mine, 3_000, rng(), std=0.5)
    assert (moved - still).std().item() == pytest.approx(0.5, rel=0.1)


def test_modes_covered_counts_modes_with_a_high_quality_sample():
    centers = toys.ring_centers(4, radius=1.0)  # (1, 0), (0, 1), (-1, 0), (0, -1)
    samples = torch.tensor([[1.0, 0.0], [1.29, 0.0], [0.0, 1.31], [float("nan"), 0.0], [float("inf"), 1.0]])
    assert toys.modes_covered(samples, centers, std=0.1) == (1, 0.4)  # 1.31 is 3.1 deviations away
    assert toys.modes_covered(samples, centers, std=0.1, within=3.2) == (2, 0.6)
    assert toys.modes_covered(torch.full((5, 2), 9.0), centers, std=0.1) == (0, 0.0)


def test_modes_covered_of_the_target_itself_and_of_a_collapse():
    count, share = toys.modes_covered(toys.grid25(2_500, rng()), toys.grid_centers(), std=0.05)
    assert count == 25 and share == pytest.approx(1 - math.exp(-4.5), abs=0.01)
    collapsed = toys.ring_centers()[3] + 0.02 * torch.randn(500, 2, generator=rng())
    assert toys.modes_covered(collapsed, toys.ring_centers(), std=0.02)[0] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: toys.ring(-1, rng()), r"Asked for -1 points"),
        (lambda: toys.ring(5, rng(), modes=0), r"ring of 0 modes has nothing"),
        (lambda: toys.grid_centers(0), r"grid of side 0 has nothing"),
        (lambda: toys.spiral(5, rng(), std=-0.1), r"std is -0.1, but a standard deviation is 0 or more"),
        (lambda: toys.points([], 5, rng()), r"shape \[0\], but must be at least one pair"),
        (lambda: toys.points([[1, 2, 3]], 5, rng()), r"shape \[1, 3\], but must be at least one pair"),
        (lambda: toys.points([[1, 2], [3]], 5, rng()), r"must be pairs of numbers"),
        (lambda: toys.points([["a", "b"]], 5, rng()), r"must be pairs of numbers"),
        (lambda: toys.points([[1, float("nan")]], 5, rng()), r"NaN or infinite; leave those out"),
        (lambda: toys.modes_covered(torch.empty(0, 2), torch.ones(1, 2), 0.1), r"samples has shape \[0, 2\]"),
        (lambda: toys.modes_covered(torch.ones(1, 2), torch.ones(3), 0.1), r"centers has shape \[3\]"),
        (lambda: toys.modes_covered(torch.ones(1, 2), torch.ones(1, 2), 0), r"std is 0, but must be above 0"),
    ],
)
def test_wrong_input_gets_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_drawing_is_where_its_characters_are():
    # Two columns a line: the square of two characters' width is one line high.
    found = toys.drawing("#.#\n  #\n")
    assert found.tolist() == [[-2.0, 2.0], [0.0, 2.0], [2.0, 2.0], [2.0, -2.0]]
    flat = toys.drawing("\n\n   o   o\n", radius=1.0)
    assert flat.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert toys.drawing("#").tolist() == [[0.0, 0.0]]
    assert toys.points(toys.drawing("# #"), 50, rng(), std=0.0).unique(dim=0).shape == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["  \n\t\n"], "The drawing is empty; type a '#'"),
        ([[[0, 1]]], "A drawing is a string of several lines, but this is a list"),
        (["#", 0], "radius is 0, but must be above 0"),
    ],
)
def test_a_wrong_drawing_gets_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        toys.drawing(*arguments)
