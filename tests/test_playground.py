"""The live figure, driven as a browser would: its clock ticks, its sliders move, its button is pressed."""

import io
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from ganlib.data import toys
from ganlib.losses import minimax_g_loss, non_saturating_g_loss
from ganlib.models import mlp_discriminator, mlp_generator
from ganlib.steps import GAN, dcgan_step
from ganlib.viz import playground

TARGETS = {"ring": toys.ring, "moons": toys.two_moons}


def make_gan(seed):
    generator, discriminator = mlp_generator(width=8, seed=seed), mlp_discriminator(width=8, seed=seed + 1)
    g_opt, d_opt = (torch.optim.Adam(net.parameters(), lr) for net, lr in ((generator, 1e-3), (discriminator, 1e-2)))
    return GAN(generator, discriminator, g_opt, d_opt, z_dim=2)


@pytest.fixture
def game():
    """A playground's widgets, and ``calls``: what its step was called with, (g_lr, d_lr, loss, n_d)."""
    calls = []

    def step(gan, batches, g_loss_of, n_d):
        calls.append((*(round(opt.param_groups[0]["lr"], 9) for opt in (gan.g_opt, gan.d_opt)), g_loss_of, n_d))
        return dcgan_step(gan, batches)

    controls, view = playground(make_gan, step, TARGETS, steps_a_frame=3).children
    target, loss, g_rate, d_rate, n_d, buttons, note = controls.children
    play, button = buttons.children
    return SimpleNamespace(**locals())


def test_a_tick_of_the_clock_trains_draws_and_obeys_the_controls(game):
    before = game.view.value
    assert not game.calls and game.note.value == "step 0" and game.target.options == ("ring", "moons")
    game.play.value = 1
    assert game.calls == [(1e-3, 1e-2, non_saturating_g_loss, 1)] * 3  # the sliders start at the players' own rates
    assert game.note.value.startswith("step 3 · d_loss ") and " · g_loss " in game.note.value
    assert game.view.value != before and Image.open(io.BytesIO(game.view.value)).size == (450, 450)
    game.g_rate.value, game.d_rate.value, game.n_d.value, game.loss.value = 1e-4, 1e-1, 5, "minimax (saturating)"
    game.play.value = 2
    assert game.calls[-1] == (1e-4, 1e-1, minimax_g_loss, 5)


def test_starting_over_is_the_same_game_again_and_another_target_another_one(game):
    game.play.value = 1
    first = game.view.value, game.note.value
    game.play.value = 2
    assert game.view.value != first[0]
    game.button.click()
    assert game.note.value == "step 0"
    game.play.value = 3
    assert (game.view.value, game.note.value) == first
    game.play.value = 0  # the stop button of the clock
    assert game.note.value == "step 0" and len(game.calls) == 9
    ring = game.view.value
    game.target.value = "moons"
    assert game.note.value == "step 0" and game.view.value != ring


def test_a_game_that_diverged_says_so_and_stops_the_clock(game):
    for rate in (game.g_rate, game.d_rate):
        rate.max, rate.value = 30, 1e30
    game.play.playing = True
    for tick in range(1, 50):
        if game.play.playing:
            game.play.value = tick
    assert "diverged" in game.note.value and not game.play.playing
    game.button.click()
    assert game.note.value == "step 0"


def test_what_is_missing_is_named(monkeypatch):
    with pytest.raises(ValueError, match="no target"):
        playground(make_gan, dcgan_step, {})
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match="pip install ipywidgets"):
        playground(make_gan, dcgan_step, TARGETS)
