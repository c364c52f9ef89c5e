"""The live panel, moved by hands of our own: a browser does it for real in tests/ui."""

import functools
import html
import importlib
import re
import time
from types import SimpleNamespace

import ipywidgets
import pytest
import torch
from test_train import players, quick, same, state

from ganlib._runtime import notebook
from ganlib.data.images import ImageSet
from ganlib.losses import minimax_g_loss, non_saturating_g_loss
from ganlib.runs import Run, checkpoint
from ganlib.steps import GAN, change, dcgan_r1_step, dcgan_step, repeat
from helpers import noise

PANEL = importlib.import_module("ganlib.viz.panel")  # in ganlib.viz the name is its function
make_panel = PANEL.panel


@pytest.fixture(scope="module")
def images():
    return ImageSet(noise(40, size=28), None, (), "noise", "noise")


@pytest.fixture
def page(monkeypatch):
    """A notebook with a reader: what is displayed, in order, each as it stands at last."""
    shown = []

    def display(what, **_):
        if view := what.get("application/vnd.jupyter.widget-view+json"):
            what = ipywidgets.widgets.widget._instances[view["model_id"]]
        item = SimpleNamespace(first=what, now=what, times=1)
        item.update = lambda data, **_: item.__dict__.update(now=data, times=item.times + 1)
        shown.append(item)
        return item

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(notebook, "someone_there", lambda: True)
    monkeypatch.setattr("ganlib.train.someone_there", lambda: True)
    monkeypatch.setattr(notebook, "ears", lambda widgets: lambda: None)
    for name in ("REDRAWN", "LISTENS"):
        monkeypatch.setattr(PANEL, name, 0.0)
    monkeypatch.setattr(PANEL, "SHARE", 1e9)
    return shown


def widgets(page):
    """The panel's widgets by what is written on them."""
    *sliders, buttons = page[0].first.children
    return {w.description: w for w in (*sliders, *buttons.children)}


def hands(page, at):
    """A watcher before the panel's: at each step in ``at`` it does something with the widgets."""

    def move(history):
        if history.running and history.steps in at:
            at[history.steps](widgets(page))

    return move


def test_where_nobody_looks_it_is_a_bar_and_changes_nothing(images, capsys):
    one, other = players(), players()
    quick(one, images, watchers=[make_panel(one)])
    assert "4/4" in capsys.readouterr().err
    quick(other, images)
    assert same(state(one), state(other))


def test_untouched_it_changes_nothing_shows_samples_and_leaves_no_widget(images, page):
    step = functools.partial(dcgan_r1_step, r1_every=3)
    one, other = players(), players()
    history = quick(
        one, images, step, steps=6, watchers=[make_panel(one, step)], score=lambda g: {"fd": 2.0}, score_every=2
    )
    quick(other, images, step, steps=6)
    assert same(state(one), state(other)) and history.changes == []
    controls, picture = page
    assert controls.now == {"text/plain": "changed by hand: nothing"} and controls.first.comm is None  # closed
    assert picture.times == 7 and set(picture.now) == {"text/html", "text/plain"}
    alt = re.search('alt="([^"]*)"', picture.now["text/html"])[1]
    assert html.unescape(alt) == picture.now["text/plain"] and alt.startswith("Samples and curves after step 6: d_loss")
    assert re.search('width="9[0-9][0-9]"', picture.now["text/html"]) and "data:image/jpeg" in picture.now["text/html"]


def test_what_is_moved_is_changed_recorded_and_can_be_repeated_bit_for_bit(images, page):
    def game(gan, batches, r1_every, g_loss_of):
        record = dcgan_r1_step(gan, batches, r1_every=r1_every)
        used.append((gan.g_opt.param_groups[0]["lr"], r1_every, g_loss_of))
        return record

    used, losses = [], [non_saturating_g_loss, minimax_g_loss]
    make = lambda: functools.partial(game, r1_every=3, g_loss_of=losses[0])  # noqa: E731

    def first(w):
        w["G's learning rate"].index += 5

    def again(w):
        w["G's learning rate"].index -= 1

    def second(w):
        w["r1_every"].value, w["g_loss_of"].label = 1, "minimax_g_loss"

    gan, step = players(), make()
    live = make_panel(gan, step, g_loss_of=losses)
    history = quick(gan, images, step, steps=6, watchers=[hands(page, {2: first, 3: again, 4: second}), live])
    rate, then = 0.0063, 0.005  # two digits of the ladder's 10^0.5 and 10^0.4 times 0.002
    assert history.changes == [
        (2, "g_lr", rate),
        (3, "g_lr", then),
        (4, "r1_every", 1),
        (4, "g_loss_of", minimax_g_loss),
    ]
    played = [*[(2e-3, 3, losses[0])] * 2, (rate, 3, losses[0]), (then, 3, losses[0]), *[(then, 1, losses[1])] * 2]
    assert used == played
    assert page[0].now["text/plain"] == (
        "changed by hand: steps 2 to 3: G's learning rate 0.005 · step 4: r1_every 1 · step 4: g_loss_of minimax_g_loss"
    )
    other, step = players(), make()
    again = quick(other, images, step, steps=6, watchers=[repeat(history.changes, other, step)])
    assert same(state(gan), state(other)) and again.losses == history.losses and again.changes == history.changes


def test_pause_one_step_go_on_stop_and_checkpoint(images, page, tmp_path, monkeypatch):
    run, gan = Run(tmp_path), players()
    seen = []

    def wait(seconds):  # the person, while the run is paused
        seen.append((gan.steps_done, widgets(page)["go on"].description))
        if len(seen) == 1:
            widgets(page)["checkpoint"].click()
        elif len(seen) < 4:
            widgets(page)["one step"].click()
        else:
            widgets(page)["go on"].click()

    monkeypatch.setattr(PANEL, "time", SimpleNamespace(sleep=wait, monotonic=time.monotonic))
    at = {2: lambda w: w["pause"].click(), 7: lambda w: w["stop"].click()}
    live = make_panel(gan, run=run)
    history = quick(gan, images, steps=100, run=run, watchers=[hands(page, at), live])
    assert [step for step, _ in seen] == [2, 2, 3, 4] and history.steps == 7 and history.changes == []
    assert checkpoint.steps_in(tmp_path) == [2, 7] and history.stopped == "interrupted after 7 steps"
    at.clear()
    history.total = 9
    history.go_on()  # the panel opens anew
    assert history.steps == 9 and len(page) == 4


def test_every_fit_in_a_notebook_shows_samples_without_controls(images, page):
    gan = players()
    quick(gan, images, watchers=None)
    (picture,) = page
    assert picture.times == 5 and "Samples and curves after step 4" in picture.now["text/plain"]


def test_where_the_kernel_is_unknown_there_is_the_picture_alone(images, page, monkeypatch):
    monkeypatch.setattr(notebook, "ears", lambda widgets: None)
    gan = players()
    quick(gan, images, watchers=[make_panel(gan)])
    (picture,) = page
    assert "Samples and curves after step 4" in picture.now["text/plain"]


def test_what_is_no_picture_leaves_the_curves(page):
    generator, critic = torch.nn.Linear(8, 2), torch.nn.Linear(2, 1)
    gan = GAN(generator, critic, *(torch.optim.SGD(m.parameters(), 0.1) for m in (generator, critic)), z_dim=8)
    points = ImageSet(noise(40, 1, 28), None, (), "noise", "noise")
    quick(gan, points, lambda gan, batches: {"loss": next(batches).mean()}, watchers=[make_panel(gan)])
    assert page[-1].now["text/plain"].startswith("The curves after step 4: loss")


def test_a_setting_that_the_step_does_not_take_is_named():
    with pytest.raises(ValueError, match=r"no 'n_critic' to change; write functools.partial\(step, n_critic=...\)"):
        make_panel(players(), dcgan_step, n_critic=[1, 5])
    with pytest.raises(ValueError, match="'clip' cannot be changed; what can is: g_lr, d_lr, r1_every"):
        change(players(), functools.partial(dcgan_r1_step, r1_every=8), "clip", 1)
