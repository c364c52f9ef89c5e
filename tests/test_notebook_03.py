"""What notebook 03 writes out is what the library has, and its exercises can be solved as it says."""

import itertools

import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import nn

from ganlib import models, steps
from ganlib.losses import gradient_penalty
from ganlib.steps import GAN, frozen
from helpers import exercises, from_notebook, try_answer

NOTEBOOK = "03_wgan.ipynb"
SETTINGS = {"torch": torch, "nn": nn, "frozen": frozen, "n_critic": 5, "clip_value": 0.01, "gp_weight": 10.0}


def taken(name, **more):
    return from_notebook(NOTEBOOK, name, SETTINGS | more)


def small_players(optimiser):
    generator = models.dcgan_generator(16, 1, 4, 8, seed=0)
    critic = models.dcgan_discriminator(16, 1, 4, norm="none", seed=1)
    return GAN(generator, critic, *(optimiser(m.parameters(), 1e-4) for m in (generator, critic)), z_dim=8)


def reals():
    draw = torch.Generator().manual_seed(5)
    return (torch.rand(6, 1, 16, 16, generator=draw) * 2 - 1 for _ in itertools.count())


@pytest.mark.parametrize("name", ["wgan_step", "wgan_gp_step"])
def test_its_steps_are_the_librarys(name):
    mine, theirs = small_players(torch.optim.RMSprop), small_players(torch.optim.RMSprop)
    step, batches, same_batches = taken(name, penalty=taken("penalty")), reals(), reals()
    for _ in range(2):
        found, expected = step(mine, batches), getattr(steps, name)(theirs, same_batches)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert value.item() == pytest.approx(expected[key].item(), rel=1e-5, abs=1e-7)
    for network in ("generator", "discriminator"):
        one, two = (getattr(gan, network).parameters() for gan in (mine, theirs))
        for a, b in zip(one, two, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-7)


def test_its_penalty_is_the_librarys():
    f = models.dcgan_discriminator(16, 1, 4, norm="none", seed=2)
    x, x_tilde = next(reals()), -next(reals())
    epsilon = torch.rand(6, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    found = taken("penalty")(f, x, x_tilde, epsilon)
    expected = gradient_penalty(f, x, x_tilde, torch.Generator().manual_seed(1))
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_its_critic_is_the_librarys(channels, size):
    mine = models.initialise(taken("make_critic")(channels, 8, size), 3)
    theirs = models.dcgan_discriminator(size, channels, 8, norm="none", seed=3)
    images = torch.randn(2, channels, size, size)
    assert torch.equal(mine(images), theirs(images))


@pytest.mark.parametrize(("number", "check", "solution"), exercises(NOTEBOOK))
def test_the_folded_solution_passes_the_check_and_nothing_does_not(number, check, solution):
    namespace = {"torch": torch, "steps": steps, "wasserstein_distance": wasserstein_distance}
    assert try_answer(check, None, namespace) == f"exercise {number}: not yet\n"
    assert try_answer(check, solution, namespace) == f"exercise {number}: correct\n"


def test_the_earth_movers_distance_on_a_line_is_scipys():
    from scipy.optimize import linear_sum_assignment

    earth_movers = taken("earth_movers", linear_sum_assignment=linear_sum_assignment)
    x, y = torch.randn(2, 40, 2, generator=torch.Generator().manual_seed(0))
    x[:, 1] = y[:, 1] = 0
    assert earth_movers(x, y)[0] == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]), rel=1e-6)
