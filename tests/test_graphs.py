"""A training step as one CUDA graph: the same numbers bit for bit, or eager with the reason. No GPU is needed."""

import functools
import math
import re
import time

import numpy as np
import pytest
import torch
from test_cuda import NO_WAITS, gpu, players, shapes  # noqa: F401 - a fixture
from torch import nn
from torch.nn import functional as F
from virtual_graph import VirtualGraph

from ganlib import GAN, fit, losses, models, steps
from ganlib._runtime import graphs
from ganlib.data.augment import augment
from ganlib.runs import Run, checkpoint
from ganlib.steps import frozen
from helpers import defined

weight, seen, mean = 0.5, [], {}  # what a learner's steps find beside them
settings = {"weight": 2.0}


@pytest.fixture
def replays(gpu, monkeypatch):  # noqa: F811
    """How often a graph was replayed, one that was just captured included."""
    counted, own = [], VirtualGraph.replay
    monkeypatch.setattr(VirtualGraph, "replay", lambda graph: counted.append(graph) or own(graph))
    return counted


def trained(gan, step, n=12, eager=False, **how):
    """The history and the whole state after ``n`` steps, with graphs or without."""
    with pytest.MonkeyPatch.context() as patch:
        if eager:
            patch.setattr(graphs, "WARM_UP", math.inf)
        history = fit(gan, step, shapes(), steps=n, batch_size=8, **{"watchers": ()} | how)
    return history, checkpoint.capture(gan)


def assert_same(mine, others):
    (history, (tensors, facts)), (expected, (wanted, known)) = mine, others
    assert history.losses == expected.losses and facts == known and {*tensors} == {*wanted}
    assert not [name for name, value in wanted.items() if not torch.equal(tensors[name], value)]


# What a learner may write.


def plain(gan, batches):
    real = next(batches)
    fake = gan.generator(gan.sample_z(len(real)))
    d_loss = F.softplus(-gan.discriminator(real)).mean() + F.softplus(gan.discriminator(fake.detach())).mean()
    gan.d_opt.zero_grad()
    d_loss.backward()
    gan.d_opt.step()
    with frozen(gan.discriminator):
        g_loss = F.softplus(-gan.discriminator(fake)).mean()
        gan.g_opt.zero_grad()
        g_loss.backward()
    gan.g_opt.step()
    return {"d_loss": d_loss, "g_loss": g_loss}


def noisy(gan, batches):
    record = plain(gan, (real + 0.1 * torch.randn_like(real) for real in batches))
    return record | {"noise": 0.1}


def weighted(gan, batches, times=1):
    for _ in range(times):
        real = augment(next(batches), ("translation", "cutout"))
        fake = gan.generator(gan.sample_z(len(real)))
        with torch.no_grad():
            fake = fake.detach()
        penalty = weight * losses.r1_penalty(gan.discriminator, real)
        d_loss = losses.hinge_d_loss(gan.discriminator(real), gan.discriminator(fake))
        gan.d_opt.zero_grad(set_to_none=False)
        (d_loss + penalty).backward()
        gan.d_opt.step()
    return plain(gan, batches) | {"penalty": penalty}


def between(gan, batches):
    """A step of 03 that draws its ε as ganlib does, or on the card."""
    real = next(batches)
    with torch.no_grad():
        fake = gan.generator(gan.sample_z(len(real)))
    gp = losses.gradient_penalty(gan.discriminator, real, fake, gan.z_rng)
    x_hat = torch.lerp(fake, real, torch.rand_like(real[:, :1, :1, :1])).requires_grad_()
    (slope,) = torch.autograd.grad(gan.discriminator(x_hat).sum(), x_hat, create_graph=True)
    own = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    gan.d_opt.zero_grad()
    (gan.discriminator(fake).mean() - gan.discriminator(real).mean() + 5 * (gp + own)).backward()
    gan.d_opt.step()
    return plain(gan, batches) | {"penalty": gp, "own": own}


def forgetful(gan, batches):
    real = next(batches)
    d_loss = losses.minimax_d_loss(gan.discriminator(real), gan.discriminator(gan.generator(gan.sample_z(8)).detach()))
    d_loss.backward()  # what was there is not zeroed
    gan.d_opt.step()
    g_loss = losses.non_saturating_g_loss(gan.discriminator(gan.generator(gan.sample_z(8))))
    g_loss.backward()
    gan.g_opt.step()
    gan.g_opt.zero_grad()
    return {"d_loss": d_loss, "g_loss": g_loss}


class Own(nn.Module):
    """A discriminator of a learner's."""

    def __init__(self, slope=0.2):
        super().__init__()
        self.body, self.head, self.slope = nn.Conv2d(3, 4, 4, 2, 1), nn.Linear(64, 1), slope

    def forward(self, x):
        h = F.leaky_relu(self.body(x), self.slope)
        return self.head(torch.flatten(h, 1)).squeeze(1)


def own_players():
    networks = models.dcgan_generator(8, 3, 4, 6), models.initialise(Own(), 1)
    return GAN(*networks, *[torch.optim.AdamW(network.parameters(), 1e-3) for network in networks], z_dim=6)


GRAPHS = {
    **{name: (step, how) for name, (step, how) in NO_WAITS.items() if "resident" not in how},
    "lazy": (functools.partial(steps.dcgan_r1_step, r1_every=3), {}),
    "a learner's": (plain, {}),
    "a learner's, with noise and a number": (noisy, {}),
    "a learner's, with penalties": (functools.partial(weighted, times=2), {}),
    "a learner's, with ε": (between, {}),
    "a learner's that forgets": (forgetful, {}),
    "a learner's network": (plain, {"make": own_players}),
    "notebook 01": (defined("01_dcgan_mnist.ipynb")["step"], {}),
    "momentum": (steps.dcgan_step, {"optimiser": functools.partial(torch.optim.SGD, momentum=0.9)}),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_has_the_same_numbers_bit_for_bit(replays, monkeypatch, name):
    step, how = GRAPHS[name]
    monkeypatch.setattr(steps, "critic_updates", lambda done, n, warm_up: n + 2 * (warm_up and done < 5))
    make, how = how.get("make", players), {key: value for key, value in how.items() if key not in ("make", "steps")}
    mine, others = trained(make(**how), step, 9), trained(make(**how), step, 9, eager=True)
    assert mine[0].eager is None and len(replays) == {"lazy": 5, "ns-r1": 5, "a warm-up": 5}.get(name, 7)
    assert_same(mine, others)


def test_a_replay_waits_for_nothing(gpu, replays):  # noqa: F811
    waits = []

    def watch(history):
        waits.append(gpu.waits.total())
        gpu.waits.clear()

    history = fit(players(), plain, shapes(), steps=20, batch_size=8, watchers=[watch])
    assert history.eager is None and len(replays) == 18 and not any(waits[3:19])


def asks_when(gan, batches):
    return plain(gan, batches) if gan.steps_done % 2 else steps.dcgan_step(gan, batches)


def counts(gan, batches):
    seen.append(1)
    return plain(gan, batches)


def keeps(gan, batches):
    gan.generator.latest = gan.steps_done if False else 0
    return plain(gan, batches)


def rebinds(gan, batches):
    global weight
    weight = weight * 0.9
    return plain(gan, batches)


def draws(gan, batches):
    z = torch.randn(8, 6, generator=gan.z_rng)
    return plain(gan, batches) | {"z": z.mean()}


def draws_with_numpy(gan, batches):
    return plain(gan, batches) | {"x": np.random.rand()}  # noqa: NPY002


def looks_at_the_time(gan, batches):
    return plain(gan, batches) | {"now": time.time()}


def reads(gan, batches):
    return {name: value.item() for name, value in plain(gan, batches).items()}


def looks_up(gan, batches):
    return plain(gan, batches) | {"weight": settings["weight"]}


def calls(gan, batches):
    return asks_when(gan, batches)


def hooks(gan, batches):
    hook = gan.discriminator.register_forward_hook(print)
    hook.remove()
    return plain(gan, batches)


def closure(gan, batches):
    n = 0

    def inner():
        nonlocal n
        n += 1
        return plain(gan, batches)

    return inner()


def counter():
    n = 0

    def step(gan, batches):
        nonlocal n
        n += 1
        return plain(gan, batches)

    return step


class Callable:
    def __call__(self, gan, batches):
        return plain(gan, batches)


EAGER = {
    "asks_when": (asks_when, "asks_when uses steps_done"),
    "counts": (counts, "counts uses append"),
    "keeps": (keeps, "keeps (changes latest|uses steps_done)"),
    "rebinds": (rebinds, "rebinds changes weight"),
    "draws": (draws, "it uses randn"),
    "looks at the time": (looks_at_the_time, "it uses time, a"),
    "draws with NumPy": (draws_with_numpy, "uses rand"),
    "reads": (reads, "it waits for the GPU"),
    "looks up": (looks_up, "it uses settings, a dict"),
    "calls": (calls, "asks_when uses steps_done"),
    "hooks": (hooks, "hooks uses remove"),
    "counter": (counter(), "step changes n"),
    "an object": (Callable(), "a Callable"),
    "a lazy one of ganlib's inside": (
        lambda g, b: steps.dcgan_r1_step(g, b, r1_every=3),
        "dcgan_r1_step uses steps_done",
    ),
    "another optimiser": (plain, "its optimiser is a Adagrad"),
    "not fused": (plain, "its optimiser is a Adam"),
    "a hook": (plain, "it uses .*list|<lambda>|append"),
}


@pytest.mark.parametrize("name", EAGER)
def test_what_is_more_than_arithmetic_stays_eager_and_says_why(replays, name):
    step, why = EAGER[name]
    how = {"another optimiser": {"optimiser": torch.optim.Adagrad}}.get(name, {})
    how |= {"not fused": {"optimiser": functools.partial(torch.optim.Adam, fused=False)}}.get(name, {})
    gan = players(**how)
    if name == "a hook":
        heard = []
        gan.discriminator.register_forward_hook(lambda *_: heard.append(1))
    history, _ = trained(gan, step, 5)
    assert history.steps == 5 and not replays
    assert re.search(why, history.eager), history.eager


# With everything that fit does.


def test_a_run_goes_on_with_a_graph_or_without(replays, tmp_path, quickly):
    def go(n, eager, name, **how):
        run = Run(tmp_path / name, resume=True, **how)
        return trained(players(dropout=0.3), steps.wgan_gp_step, n, eager, run=run, snapshot_every=4)

    wanted = go(12, True, "straight")
    for name, turns in {"captured later": (True, False), "captured first": (False, True)}.items():
        go(6, turns[0], name)
        mine = go(12, turns[1], name)
        assert_same(mine, wanted)
        for (_, images), (_, others) in zip(mine[0].snapshots, wanted[0].snapshots, strict=True):
            assert torch.equal(images, others)
    assert replays


def test_what_is_changed_by_hand_takes_effect(replays):
    changes = [(4, "d_lr", 0.01), (5, "g_lr", 0.02), (9, "n_critic", 1), (12, "d_lr", 0.001)]

    def go(eager):
        gan, step = players(), functools.partial(steps.wgan_gp_step, n_critic=2)
        return trained(gan, step, 16, eager, watchers=[steps.repeat(changes, gan, step)])

    mine = go(eager=False)
    assert mine[0].eager is None and len({*replays}) == 4  # not between 4 and 5: three steps make a graph
    assert_same(mine, go(eager=True))
    assert mine[0].changes == changes


def test_a_rate_that_changes_all_the_time_ends_the_attempts(replays):
    gan = players()

    def slower(history):
        gan.g_opt.param_groups[0]["lr"] *= 0.99

    history, _ = trained(gan, plain, 60, watchers=[slower])
    assert not replays and history.eager == "its settings never stay" and history.steps == 60


def test_a_graph_that_does_something_else_is_not_taken(gpu, monkeypatch):  # noqa: F811
    own = VirtualGraph.replay

    def wrong(graph):
        graph.operations = [op for op in graph.operations if "adam" not in str(op[0])]
        own(graph)

    monkeypatch.setattr(VirtualGraph, "replay", wrong)
    mine = trained(players(), plain)
    assert mine[0].eager == "its graph does something else"
    assert_same(mine, trained(players(), plain, eager=True))


def test_an_error_while_capturing_leaves_the_run_as_it_was(gpu, monkeypatch):  # noqa: F811
    monkeypatch.setattr(VirtualGraph, "replay", lambda graph: torch.ones(2) @ torch.ones(3))
    mine = trained(players(), steps.wgan_step)
    assert "size" in mine[0].eager
    assert_same(mine, trained(players(), steps.wgan_step, eager=True))


def test_the_time_it_takes_to_capture_does_not_count(gpu, monkeypatch):  # noqa: F811
    clock, own = [0.0], VirtualGraph.replay

    def replay(graph):
        clock[0] += 1000
        own(graph)

    monkeypatch.setattr(graphs.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(VirtualGraph, "replay", replay)
    history, _ = trained(players(), plain, n=4)
    assert history.seconds == 1000  # of the fourth step


def test_without_a_gpu_there_is_nothing_to_say():
    assert trained(players(device="cpu"), plain, 3)[0].eager is None
