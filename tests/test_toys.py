"""The targets in the plane against their definitions, and what counts as a mode."""

import math

import numpy as np
import pytest
import torch

from ganlib.data import toys

OURS = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]
SAMPLERS = {name: getattr(toys, name) for name in ("ring", "grid25", "spiral", "two_moons")}
SAMPLERS["points"] = lambda n, rng: toys.points(OURS, n, rng)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_a_pure_function_of_its_generator(name):
    sampler, before = SAMPLERS[name], torch.get_rng_state()
    first, again, other = sampler(100, rng(1)), sampler(100, rng(1)), sampler(100, rng(2))
    assert first.shape == (100, 2) and first.dtype == torch.float32 and sampler(0, rng()).shape == (0, 2)
    assert torch.equal(first, again) and not torch.equal(first, other)
    generator = rng(1)
    assert not torch.equal(sampler(100, generator), sampler(100, generator))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("centers", "samples", "std"),
    [
        (toys.ring_centers(8, radius=2.0), toys.ring(40_000, rng(), std=0.1), 0.1),
        (toys.ring_centers(), toys.ring(40_000, rng()), 0.02),
        (toys.ring_centers(3, radius=1.0), toys.ring(30_000, rng(), 3, 1.0), 0.02),
        (toys.grid_centers(), toys.grid25(75_000, rng()), 0.05),
        (toys.grid_centers(spacing=1.0), toys.grid25(75_000, rng(), 1.0, 0.1), 0.1),
    ],
)
def test_mixtures_have_equally_likely_modes_of_their_spread(centers, samples, std):
    gap, nearest = torch.cdist(samples, centers).min(dim=1)
    assert gap.square().mean().item() == pytest.approx(2 * std**2, rel=0.03)  # two axes
    assert torch.bincount(nearest).mul(len(centers) / len(samples)).sub(1).abs().max() < 0.1


def test_centres_are_where_they_are_said_to_be():
    torch.testing.assert_close(toys.ring_centers()[[0, 2, 5]], torch.tensor([[2, 0], [0, 2], [-(2**0.5), -(2**0.5)]]))
    line = (-4.0, -2.0, 0.0, 2.0, 4.0)
    assert toys.grid_centers().tolist() == [[x, y] for y in line for x in line]


def test_spiral_winds_and_two_moons_have_their_moments():
    line = toys.spiral(20_000, rng(), turns=1.5, radius=3.0, std=0.0)
    r = line.norm(dim=1)
    assert r.max() <= 3.0 + 1e-5 and (r.square() / 9).mean().item() == pytest.approx(0.5, abs=0.01)
    angle = math.pi * r
    torch.testing.assert_close(line, r[:, None] * torch.stack([angle.cos(), angle.sin()], 1), atol=1e-4, rtol=0)
    moons = toys.two_moons(20_000, rng(), std=0.0)
    middle = torch.tensor([0.5, 0.25])
    upper, lower = (((moons + sign * middle).norm(dim=1) - 1).abs() < 1e-4 for sign in (1, -1))
    assert moons.mean(dim=0).abs().max() < 0.02 and (upper | lower).all()
    assert upper.float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert moons[upper, 1].min() < -0.24 and moons[upper & ~lower, 1].max() > 0.74


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_own_points_are_resampled_with_jitter(kind):
    still, moved = (toys.points(kind(OURS), 3_000, rng(), std=std) for std in (0.0, 0.5))
    seen, counts = still.unique(dim=0, return_counts=True)
    assert seen.tolist() == sorted(OURS) and counts.min() > 900
    assert (moved - still).std().item() == pytest.approx(0.5, rel=0.1)


def test_a_drawing_is_where_its_characters_are():
    # Two columns a line: the square of two characters' width is one line high.
    assert toys.drawing("#.#\n  #\n").tolist() == [[-2.0, 2.0], [0.0, 2.0], [2.0, 2.0], [2.0, -2.0]]
    assert toys.drawing("\n\n   o   o\n", radius=1.0).tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert toys.drawing("#").tolist() == [[0.0, 0.0]]


def test_modes_are_covered_by_samples_near_their_centre():
    centers = toys.ring_centers(4, radius=1.0)  # (1, 0), (0, 1), (-1, 0), (0, -1)
    samples = torch.tensor([[1.0, 0.0], [1.29, 0.0], [0.0, 1.31], [math.nan, 0.0], [math.inf, 1.0]])
    assert toys.modes_covered(samples, centers, std=0.1) == (1, 0.4)  # 1.31 is 3.1 deviations away
    assert toys.modes_covered(samples, centers, std=0.1, within=3.2) == (2, 0.6)
    assert toys.modes_covered(torch.full((5, 2), 9.0), centers, std=0.1) == (0, 0.0)
    count, share = toys.modes_covered(toys.grid25(2_500, rng()), toys.grid_centers(), std=0.05)
    assert count == 25 and share == pytest.approx(1 - math.exp(-4.5), abs=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: toys.ring(-1, rng()), "n is -1.*at least 0"),
        (lambda: toys.ring(5, rng(), modes=0), "modes is 0.*at least 1"),
        (lambda: toys.grid_centers(0), "side is 0.*at least 1"),
        (lambda: toys.spiral(5, rng(), std=-0.1), "std is -0.1.*at least 0"),
        (lambda: toys.two_moons(-5, rng()), "n is -5.*at least 0"),
        (lambda: toys.points([], 5, rng()), r"\[0\].*pairs"),
        (lambda: toys.points([[1, 2, 3]], 5, rng()), r"\[1, 3\].*pairs"),
        (lambda: toys.points([[1, math.nan]], 5, rng()), "finite"),
        (lambda: toys.modes_covered(torch.empty(0, 2), torch.ones(1, 2), 0.1), r"samples.*\[0, 2\].*at least 1"),
        (lambda: toys.modes_covered(torch.ones(1, 2), torch.ones(3), 0.1), r"centers.*\[3\]"),
        (lambda: toys.modes_covered(torch.ones(1, 2), torch.ones(1, 2), 0), "std is 0.*above 0"),
        (lambda: toys.drawing("  \n\t\n"), "empty; type a '#'"),
    ],
)
def test_wrong_input_gets_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
