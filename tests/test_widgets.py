"""The live figure, driven as a browser would: its clock ticks, its sliders move, its button is pressed."""

import io
import itertools
import sys

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image

from ganlib.data import toys
from ganlib.losses import minimax_g_loss, non_saturating_g_loss
from ganlib.steps import GAN, dcgan_step
from ganlib.viz import plane
from ganlib.viz import playground as widgets

TARGETS = {"ring": toys.ring, "moons": toys.two_moons}


def make_gan(seed):
    generator, discriminator = plane.mlp_generator(width=8, seed=seed), plane.mlp_discriminator(width=8, seed=seed + 1)
    g_opt, d_opt = (torch.optim.Adam(net.parameters(), lr) for net, lr in ((generator, 1e-3), (discriminator, 1e-2)))
    return GAN(generator, discriminator, g_opt, d_opt, z_dim=2)


def parts(box, kind):
    """All the widgets of one kind, in the order in which they stand."""
    inside = [found for child in getattr(box, "children", ()) for found in parts(child, kind)]
    return ([box] if type(box) is kind else []) + inside


@pytest.fixture
def game():
    """The live figure, and the list of what its step was called with: (g_lr, d_lr, loss, n_d)."""
    calls = []

    def step(gan, batches, g_loss_of, n_d):
        rates = [opt.param_groups[0]["lr"] for opt in (gan.g_opt, gan.d_opt)]
        calls.append((*(round(rate, 9) for rate in rates), g_loss_of, n_d))
        return dcgan_step(gan, batches)

    return widgets.playground(make_gan, step, TARGETS, steps_a_frame=3), calls


def pieces(box):
    (play,), (view,), (note,), (button,) = (
        parts(box, kind) for kind in (ipywidgets.Play, ipywidgets.Image, ipywidgets.HTML, ipywidgets.Button)
    )
    return play, view, note, button


def test_a_tick_of_the_clock_trains_and_draws(game):
    box, calls = game
    play, view, note, _ = pieces(box)
    before = view.value
    assert not calls and note.value == "step 0"
    play.value = 1
    assert calls == [(1e-3, 1e-2, non_saturating_g_loss, 1)] * 3  # the sliders start at the players' own rates
    assert note.value.startswith("step 3 · d_loss ") and " · g_loss " in note.value
    assert view.value != before
    assert np.asarray(Image.open(io.BytesIO(view.value))).shape == (450, 450, 3)


def test_the_controls_reach_the_next_step(game):
    box, calls = game
    target, loss = parts(box, ipywidgets.Dropdown)
    g_rate, d_rate = parts(box, ipywidgets.FloatLogSlider)
    (n_d,) = parts(box, ipywidgets.IntSlider)
    g_rate.value, d_rate.value, n_d.value, loss.value = 1e-4, 1e-1, 5, "minimax (saturating)"
    pieces(box)[0].value = 1
    assert calls[-1] == (1e-4, 1e-1, minimax_g_loss, 5)
    assert target.options == ("ring", "moons")


def test_starting_over_is_the_same_game_again(game):
    box, calls = game
    play, view, note, button = pieces(box)
    play.value = 1
    first = view.value, note.value
    play.value = 2
    assert view.value != first[0]
    button.click()
    assert note.value == "step 0"
    play.value = 3
    assert (view.value, note.value) == first
    play.value = 0  # the stop button of the clock
    assert note.value == "step 0" and len(calls) == 9


def test_another_target_starts_a_new_game(game):
    box, _ = game
    play, view, note, _ = pieces(box)
    play.value = 1
    ring = view.value
    parts(box, ipywidgets.Dropdown)[0].value = "moons"
    assert note.value == "step 0" and view.value != ring


def test_a_game_that_diverged_says_so_and_stops_the_clock(game):
    box, _ = game
    play, view, note, button = pieces(box)
    for rate in parts(box, ipywidgets.FloatLogSlider):
        rate.max, rate.value = 30, 1e30
    play.playing = True
    for tick in itertools.count(1):
        play.value = tick
        if "diverged" in note.value:
            break
        assert tick < 50
    assert not play.playing
    button.click()
    assert note.value == "step 0"


def test_without_ipywidgets_there_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match="needs ipywidgets: pip install ipywidgets"):
        widgets.playground(make_gan, dcgan_step, TARGETS)


def test_without_a_target_there_is_a_sentence():
    with pytest.raises(ValueError, match="There is no target to learn"):
        widgets.playground(make_gan, dcgan_step, {})
