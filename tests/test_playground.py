"""The live figure, driven as a browser would: its clock ticks, its sliders move, its buttons are pressed."""

import base64
import io
import sys
import threading
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from ganlib._runtime import notebook
from ganlib.data import toys
from ganlib.losses import minimax_g_loss, non_saturating_g_loss
from ganlib.models import mlp_discriminator, mlp_generator
from ganlib.steps import GAN, dcgan_step
from ganlib.viz import playground

TARGETS = {"ring": toys.ring, "moons": toys.two_moons}
CENTERS = {"ring": (toys.ring_centers(), 0.02)}


def make_gan(seed, z_dim=3, betas=(0.4, 0.8)):
    players = mlp_generator(z_dim, width=8, seed=seed), mlp_discriminator(width=8, seed=seed + 1)
    opts = (torch.optim.Adam(net.parameters(), lr, betas) for net, lr in zip(players, (1.2e-3, 1e-2), strict=True))
    return GAN(*players, *opts, z_dim=z_dim)


def inside(widget):
    return [widget, *(found for child in getattr(widget, "children", ()) for found in inside(child))]


@pytest.fixture(autouse=True)
def a_picture_a_tick(monkeypatch):
    monkeypatch.setattr(sys.modules["ganlib.viz.playground"], "A_TICK", 1)


def test_a_tick_brings_several_pictures(monkeypatch):
    monkeypatch.setattr(sys.modules["ganlib.viz.playground"], "A_TICK", 3)
    monkeypatch.setattr(notebook, "someone_there", lambda: True)
    box, seen = playground(make_gan, dcgan_step, TARGETS), []
    (play,) = (widget for widget in inside(box) if type(widget).__name__ == "Play")
    box.children[1].children[0].observe(lambda change: seen.append(change["new"]), "value")
    play.value = 1
    assert len(set(seen)) == 3 and box.children[1].children[1].value.startswith("step 15 · ")


@pytest.fixture
def game(monkeypatch):
    """A playground's widgets by name, and ``calls``: what its step was called with, and the rates it found."""
    calls = []

    def step(gan, batches, g_loss_of, n_d=2, n_g=1):
        rates = [opt.param_groups[0]["lr"] for opt in (gan.g_opt, gan.d_opt)]
        calls.append(SimpleNamespace(gan=gan, rates=rates, how=(g_loss_of, n_d, n_g)))
        return dcgan_step(gan, batches)

    monkeypatch.setattr(notebook, "someone_there", lambda: True)
    box = playground(make_gan, step, TARGETS, centers=CENTERS, batch_size=16)
    widgets = {getattr(widget, "description", "") or type(widget).__name__: widget for widget in inside(box)}
    view, note = box.children[1].children
    return SimpleNamespace(calls=calls, play=widgets["Play"], view=view, note=note, its=widgets)


def test_a_tick_of_the_clock_trains_and_draws(game):
    before = game.view.value
    assert (
        not game.calls and game.note.value.startswith("step 0 · ") and game.its["target"].options == ("ring", "moons")
    )
    game.play.value = 1
    assert len(game.calls) == 5 and game.calls[0].rates == [1.2e-3, 1e-2]  # exactly the players' own
    assert game.calls[0].how == (non_saturating_g_loss, 2, 1)  # and the step's own
    assert game.note.value.startswith("step 5 · d_loss ") and " · g_loss " in game.note.value
    picture = Image.open(io.BytesIO(game.view.value))
    assert game.view.value != before and picture.size == (450, 580) and game.view.format == picture.format.lower()
    game.its["steps a picture"].value = 2
    game.play.value = 2
    game.its["one step"].click()
    assert len(game.calls) == 5 + 2 + 1 and game.note.value.startswith("step 8 · ")


def test_what_acts_at_once_does_and_leaves_the_players(game):
    game.play.value = 1
    fast, slow = game.its["D's learning rate"].options[-1][1], game.its["G's learning rate"].options[0][1]
    game.its["D's learning rate"].value, game.its["G's learning rate"].value = fast, slow
    game.its["D's updates a step"].value, game.its["G's updates a step"].value = 5, 20
    drawn = game.view.value
    game.its["generator's loss"].value = minimax_g_loss
    assert game.view.value != drawn  # the arrows are those of the new loss
    game.play.value = 2
    assert game.calls[-1].rates == [slow, fast] and game.calls[-1].how == (minimax_g_loss, 5, 20)
    assert game.calls[-1].gan is game.calls[0].gan


def test_a_frozen_discriminator_stays_as_it_is_and_then_learns_again(game):
    def weights(player):
        return torch.cat([weight.detach().flatten() for weight in player.parameters()])

    game.play.value = 1
    gan = game.calls[0].gan
    for frozen in (True, False):
        game.its["freeze D"].value = frozen
        d, g = weights(gan.discriminator), weights(gan.generator)
        game.play.value += 1
        assert torch.equal(weights(gan.discriminator), d) == frozen and not torch.equal(weights(gan.generator), g)
    assert game.calls[-1].rates == [1.2e-3, 1e-2] and game.calls[-1].gan is gan


def test_z_dim_and_betas_build_new_players(game):
    game.play.value = 1
    game.its["z_dim"].value = 8
    assert game.note.value.startswith("step 0 · ")
    game.its["Adam's betas"].value = (0.9, 0.999)
    game.play.value = 2
    gan = game.calls[-1].gan
    assert gan is not game.calls[0].gan and (game.calls[0].gan.z_dim, gan.z_dim) == (3, 8)
    assert gan.g_opt.param_groups[0]["betas"] == gan.d_opt.param_groups[0]["betas"] == (0.9, 0.999)


def test_starting_over_is_the_same_game_again_and_another_target_another_one(game):
    game.play.value = 1
    first = game.view.value, game.note.value
    game.play.value = 2
    assert game.view.value != first[0]
    game.its["start over"].click()
    assert game.note.value.startswith("step 0 · ")
    game.play.value = 3
    assert (game.view.value, game.note.value) == first
    game.play.value = 0  # the stop button of the clock keeps the game
    assert (game.view.value, game.note.value) == first and len(game.calls) == 15
    ring = game.view.value
    game.its["target"].value = "moons"
    assert game.note.value == "step 0" and game.view.value != ring  # moons have no modes to count


def test_the_modes_are_those_of_2500_fakes(monkeypatch):
    """A generator whose fakes are the target's: all modes, and the share of a perfect one."""

    def perfect(seed):
        gan = make_gan(seed)
        gan.generator.forward = lambda z: toys.ring(len(z), torch.Generator().manual_seed(1))
        return gan

    monkeypatch.setattr(notebook, "someone_there", lambda: True)
    shown = playground(perfect, dcgan_step, TARGETS, centers=CENTERS)
    _, note = shown.children[1].children
    assert note.value in [f"step 0 · 8 of 8 modes, {share}% of the points on a mode" for share in (98, 99)]


def test_the_game_waits_while_a_cell_runs_and_a_cell_while_it_draws(game, monkeypatch):
    events, calls = {}, []
    shell = SimpleNamespace(events=SimpleNamespace(register=lambda name, call: events.update({name: call})))
    monkeypatch.setattr(notebook, "kernel", lambda: SimpleNamespace(shell=shell))
    monkeypatch.setattr(notebook, "_cell", {"runs": False, "watched": False})
    notebook.watch_cells()
    game.play.value = 1
    game.its["G's learning rate"].index += 1
    assert not game.calls and game.note.value.startswith("step 0")  # the cell that shows it has not ended
    events["post_run_cell"](None)
    game.play.value = 2
    assert len(game.calls) == 5 and game.note.value.startswith("step 5")
    with notebook.between_cells() as free:
        begins = threading.Thread(target=lambda: (events["pre_run_cell"](None), calls.append("begun")))
        begins.start()
        begins.join(0.2)
        assert free and not calls
    begins.join()
    game.play.value = 3
    assert calls == ["begun"] and len(game.calls) == 5


def test_a_game_that_diverged_says_so_and_stops_the_clock(game):
    for who in "GD":
        slider = game.its[f"{who}'s learning rate"]
        slider.options = [*slider.options, ("far too high", 1e30)]
        slider.value = 1e30
    playing = "playing" if game.play.has_trait("playing") else "_playing"  # ipywidgets 8, 7
    setattr(game.play, playing, True)
    for tick in range(1, 50):
        if getattr(game.play, playing):
            game.play.value = tick
    assert "diverged" in game.note.value and not getattr(game.play, playing)
    game.its["start over"].click()
    assert game.note.value.startswith("step 0 · ")


def test_there_are_controls_only_for_what_the_functions_take(monkeypatch):
    monkeypatch.setattr(notebook, "someone_there", lambda: True)
    box = playground(lambda seed: make_gan(seed), dcgan_step, TARGETS)
    names = {getattr(widget, "description", "") for widget in inside(box)}
    assert {"target", "G's learning rate", "D's learning rate", "freeze D", "steps a picture"} <= names
    assert not {"z_dim", "Adam's betas", "generator's loss", "D's updates a step", "G's updates a step"} & names
    next(widget for widget in inside(box) if type(widget).__name__ == "Play").value = 1
    assert box.children[1].children[1].value.startswith("step 5 · ")


def test_where_nobody_is_there_it_is_a_picture_and_no_widget(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    shown, _ = DisplayFormatter().format(playground(make_gan, partial(dcgan_step), TARGETS, centers=CENTERS))
    picture = Image.open(io.BytesIO(base64.b64decode(shown["text/html"].split("base64,")[1].rstrip('">'))))
    assert picture.size == (450, 450)
    assert f'alt="{shown["text/plain"]}"' in shown["text/html"] and "step 0" in shown["text/plain"]
    assert not [kind for kind in shown if "widget" in kind]


def test_what_is_missing_is_named(monkeypatch):
    with pytest.raises(ValueError, match="no target"):
        playground(make_gan, dcgan_step, {})
    monkeypatch.setattr(notebook, "someone_there", lambda: True)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match="pip install ipywidgets"):
        playground(make_gan, dcgan_step, TARGETS)
