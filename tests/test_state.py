"""What is captured comes back bit for bit, through bytes and JSON, and training goes on the same."""

import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from test_steps import reals, small_gan
from torch import nn

from ganlib import steps
from ganlib.runs import state
from ganlib.train import History

OPTIMISERS = {
    "adam": lambda p: torch.optim.Adam(p, 1e-2, betas=(0.5, 0.9), amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1),
    "adam, lr in a tensor": lambda p: torch.optim.Adam(p, torch.tensor(1e-2), capturable=False, foreach=False),
    "sgd": lambda p: torch.optim.SGD(p, 1e-2),
    "sgd with momentum": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-2, momentum=0.5, centered=True),
    "two groups": lambda p: torch.optim.Adam([{"params": p[:1]}, {"params": p[1:], "lr": 1e-3}], 1e-2),
}


def through_bytes(tensors, facts):
    return {name: load(save(some)) for name, some in tensors.items()}, json.loads(json.dumps(facts))


def train(model, optimiser, steps):
    for k in range(steps):
        optimiser.zero_grad()
        (model(torch.full((2, 3), 0.5 + k)) ** 2).sum().backward()
        optimiser.step()


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)
def test_an_optimiser_goes_on_where_it_was(make):
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    optimiser = make(list(model.parameters()))
    train(model, optimiser, 3)
    optimiser.param_groups[0]["lr"] *= 0.5  # as a schedule would
    tensors, facts = state.flatten(optimiser)
    other = nn.Linear(3, 4)
    other.load_state_dict(model.state_dict())
    resumed = make(list(other.parameters()))
    state.unflatten(resumed, load(save(tensors)), json.loads(json.dumps(facts)))
    there, here = optimiser.state_dict(), resumed.state_dict()
    assert there["param_groups"] == here["param_groups"]
    assert all(
        torch.equal(torch.as_tensor(there["state"][k][name]), torch.as_tensor(value))
        for k, values in here["state"].items()
        for name, value in values.items()
    )
    assert there["state"].keys() == here["state"].keys()
    train(model, optimiser, 3)
    train(other, resumed, 3)
    assert torch.equal(model.weight, other.weight)


def test_new_settings_of_an_optimiser_may_stay_and_another_kind_keeps_its_own():
    model = nn.Linear(3, 4)
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    train(model, adam, 3)
    slower, sgd = torch.optim.Adam(model.parameters(), 1e-3), torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    state.unflatten(slower, *state.flatten(adam), keep_settings=True)
    assert slower.param_groups[0]["lr"] == 1e-3
    assert torch.equal(slower.state[model.weight]["exp_avg"], adam.state[model.weight]["exp_avg"])
    state.unflatten(sgd, *state.flatten(adam))
    assert sgd.param_groups[0]["momentum"] == 0.9 and not sgd.state


def test_an_optimiser_that_keeps_more_than_numbers_is_refused():
    model = nn.Linear(3, 4)
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    optimiser.state[model.weight]["trace"] = {"a": 1}
    with pytest.raises(TypeError, match="SGD keeps a dict in 'trace', which no checkpoint can hold"):
        state.flatten(optimiser)


def test_players_go_on_where_they_were():
    gan, source = small_gan(), reals()
    for _ in range(3):
        steps.dcgan_step(gan, source)
    gan.steps_done, gan.data_position = 3, {"epoch": 1, "index": 2}
    captured = through_bytes(*state.capture(gan))
    later = reals(1)
    for _ in range(2):
        steps.dcgan_step(gan, later)  # what was captured is a copy
    resumed = small_gan(seed=7)
    state.restore(resumed, *captured)
    assert (resumed.steps_done, resumed.data_position) == (3, {"epoch": 1, "index": 2})
    later = reals(1)
    for _ in range(2):
        steps.dcgan_step(resumed, later)
    for name in state.NETWORKS:
        pairs = zip(getattr(gan, name).state_dict().values(), getattr(resumed, name).state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_other_networks_are_refused_untouched():
    tensors, facts = state.capture(small_gan())
    other = small_gan(seed=5, z_dim=9)
    before = {k: v.clone() for k, v in other.discriminator.state_dict().items()}
    with pytest.raises(ValueError, match=r"The generator does not fit: '0.weight' has shape \[8, 16, .*\[9, 16"):
        state.restore(other, tensors, facts)
    assert all(torch.equal(v, before[k]) for k, v in other.discriminator.state_dict().items())


def test_the_global_generators_go_on_where_they_were():
    def draw():
        return random.random(), random.gauss(), float(np.random.standard_normal()), torch.randn(3).tolist()  # noqa: NPY002

    random.seed(3)
    draw()  # an odd number of normals: a spare one is kept
    captured = through_bytes(*state.capture(small_gan()))
    expected = [draw(), draw()]
    state.restore_global_random(*captured)
    assert [draw(), draw()] == expected


def test_a_history_comes_back_up_to_the_step_that_was_captured():
    history = History(8, 5, "cpu", "float32", first_step=2, seconds=1.5, batches=6)
    history.losses = {"g_loss": [0.1, 1 / 3, 2.0, 9.0], "d_loss": [1e-30, 0.2, 0.3, 9.0]}
    history.scores = [(4, {"fd": 0.1, "sure": 1})]
    losses, facts = state.capture_history(history, 3)
    tensors, facts = through_bytes({"run": losses}, facts)
    back = History(8, 5, "cpu", "float32", first_step=99)
    state.restore_history(back, tensors["run"], facts)
    assert back.losses == {name: values[:3] for name, values in history.losses.items()}
    assert list(back.losses) == ["g_loss", "d_loss"]
    assert (back.first_step, back.batches, back.seconds, back.scores) == (2, 6, 1.5, history.scores)
    assert back.steps == 3 and back.best == 4
