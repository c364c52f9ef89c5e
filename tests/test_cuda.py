"""Everything on a CUDA device, without one: nothing fails, nothing waits in a step, and the numbers are the CPU's."""

import copy
import json
import logging
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from conftest import trained_by_command
from torch import nn
from torch.nn import functional as F
from virtual_cuda import is_there, virtual_cuda

from ganlib import GAN, Diverged, ImageSet, conditional, fit, latent, losses, metrics, models, sample, steps, train, viz
from ganlib._runtime import device as runtime
from ganlib._runtime import graphs, randomness, scaling, stage
from ganlib._runtime.device import device as find  # before the tests' own stands in its place
from ganlib.data import images as data
from ganlib.data.augment import augmented
from ganlib.metrics import nets
from ganlib.runs import Run, checkpoint, cli
from ganlib.runs.folder import config_of
from helpers import NOTEBOOKS, ROOT, noise

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")


@pytest.fixture
def gpu(monkeypatch):
    """A virtual CUDA device, which everything takes if it is not told otherwise."""
    yield from _device(monkeypatch, "cuda")


@pytest.fixture
def mps(monkeypatch):
    yield from _device(monkeypatch, "mps")


def _device(monkeypatch, kind):
    monkeypatch.setattr(runtime, "device", find)
    for cached in (runtime._works, nets.digit_net, nets.cifar_net):
        cached.cache_clear()
    with virtual_cuda(kind=kind) as device:
        yield device
    for cached in (runtime._works, nets.digit_net, nets.cifar_net):
        cached.cache_clear()


# The device itself.


@pytest.mark.parametrize(
    ("wrong", "error", "sentence"),
    [
        (lambda x: x + torch.ones(3), RuntimeError, "same device.*cuda:0 and cpu"),
        (lambda x: x.add_(torch.ones(3)), RuntimeError, "same device"),
        (lambda x: torch.cat([x, torch.ones(3)]), RuntimeError, "same device"),
        (lambda x: torch.stack([x[0], torch.tensor(1.0)]), RuntimeError, "same device"),
        (lambda x: torch.where(x > 0, x, torch.ones(3)), RuntimeError, "same device"),
        (lambda x: F.mse_loss(x, torch.ones(3)), RuntimeError, "same device"),
        (lambda x: nn.Linear(3, 2)(x), RuntimeError, "same device"),
        (lambda x: torch.allclose(x, torch.ones(3)), RuntimeError, "same device"),
        (lambda x: torch.ones(3)[x > 0], RuntimeError, "indices"),
        (lambda x: x.numpy(), TypeError, "numpy"),
        (lambda x: np.asarray(x), TypeError, "numpy"),
        (lambda x: torch.randn(3, generator=randomness.rng(0), device="cuda"), RuntimeError, "generator"),
        (lambda x: torch.rand_like(x, generator=randomness.rng(0)), RuntimeError, "generator"),
        (lambda x: x.pin_memory(), RuntimeError, "pin"),
    ],
)
def test_the_virtual_device_refuses_what_a_real_one_refuses(gpu, wrong, error, sentence):
    with pytest.raises(error, match=sentence):
        wrong(torch.ones(3, device="cuda"))


@pytest.mark.parametrize(
    ("waits", "work"),
    [
        (1, lambda x: x.sum().item()),
        (1, lambda x: float(x[0])),
        (1, lambda x: bool((x > 0).all())),
        (1, lambda x: x.tolist()),
        (1, lambda x: x.cpu()),
        (1, lambda x: x.to("cpu", non_blocking=True)),
        (1, lambda x: x[x > 0]),
        (1, lambda x: x[torch.tensor([0, 1])]),
        (1, lambda x: x.nonzero()),
        (1, lambda x: torch.ones(3).to("cuda")),
        (1, lambda x: torch.ones(3).to(x)),
        (1, lambda x: torch.ones(3).type_as(x)),
        (1, lambda x: torch.ones(3).pin_memory().to("cuda")),
        (1, lambda x: torch.ones(3).to("cuda", non_blocking=True)),
        (1, lambda x: torch.tensor([1.0, 2.0], device="cuda")),
        (1, lambda x: x.copy_(torch.ones(3))),
        (1, lambda x: x.copy_(torch.ones(3).pin_memory())),
        (1, lambda x: torch.ones(3).copy_(x)),
        (1, lambda x: torch.cuda.synchronize()),
        (0, lambda x: torch.ones(3).pin_memory().to("cuda", non_blocking=True)),
        (0, lambda x: x.copy_(torch.ones(3).pin_memory(), non_blocking=True)),
        (0, lambda x: x * 2 + torch.tensor(1.0)),
        (0, lambda x: torch.where(x > 0, x, 0.0).softmax(0)),
        (0, lambda x: x[torch.arange(2, device="cuda")]),
        (0, lambda x: x.to(torch.float64).to("cuda")),
        (0, lambda x: torch.full((3,), 2.0, device="cuda")),
    ],
)
def test_the_virtual_device_counts_what_would_wait(gpu, waits, work):
    x = torch.ones(3, device="cuda")
    gpu.waits.clear()
    work(x)
    assert gpu.waits.total() == waits
    assert all(key.startswith("test_cuda.py:") for key in gpu.waits)


def test_everything_made_of_a_tensor_of_the_virtual_device_is_there(gpu):
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).cuda()
    optimiser = torch.optim.Adam(net.parameters(), fused=True)
    x = torch.ones(2, 3, device="cuda", requires_grad=True)
    net(x).square().sum().backward()
    optimiser.step()
    there = [x, x[0], x.detach(), x.grad, x.new_zeros(2), torch.empty_like(x), x.clone(), *x.split(1), x.max(0).values]
    there += [*net.state_dict().values(), *(weight.grad for weight in net.parameters()), net[0].weight.data]
    there += [*copy.deepcopy(net).state_dict().values(), *optimiser.state[net[0].weight].values()]
    there += torch.autograd.grad(net(x).sum(), [x])
    assert all(tensor.device == CUDA and tensor.is_cuda and not tensor.is_cpu for tensor in there)
    elsewhere = [
        x.cpu(),
        torch.ones(3),
        torch.ones(3).expand_as(x),
        torch.zeros(2, 3).copy_(x.detach()),
        torch.zeros_like(x, device="cpu"),
        *net.cpu().state_dict().values(),
    ]
    assert all(tensor.device == CPU and not tensor.is_cuda for tensor in elsewhere)


# Training.

# Each kind of step, and what else a step can bring with it. None may wait for the GPU, not once: a dcgan step of three
# waits loses on a small network what the GPU is for.
NO_WAITS = {
    **{name: (step, {}) for name, step in steps.STEPS.items()},
    "a penalty in each step": (partial(steps.dcgan_r1_step, r1_every=1), {}),
    "a warm-up": (partial(steps.wgan_step, n_critic=2, warm_up=True), {"steps": 2}),
    "augmented": (steps.dcgan_step, {"augment": ["colour", "translation", "cutout"]}),
    "pixels on the CPU": (steps.dcgan_step, {"resident": 0}),
    "a record with a plain number": (lambda gan, batches: steps.dcgan_step(gan, batches) | {"rate": 0.1}, {}),
    "no average": (steps.dcgan_step, {"ema_decay": 0.0}),
    "spectral norm": (steps.hinge_step, {"norm": "spectral"}),
    "dropout": (steps.dcgan_step, {"dropout": 0.3}),
    "RMSprop": (steps.wgan_step, {"optimiser": torch.optim.RMSprop}),
}


def players(seed=0, norm="layer", augment=(), optimiser=torch.optim.Adam, dropout=0.0, **how):
    networks = models.dcgan_generator(8, 3, 4, 6, seed=seed), models.dcgan_discriminator(8, 3, 4, norm=norm, seed=seed)
    if dropout:
        networks[1].insert(2, nn.Dropout(dropout))
    augmented(networks[1], augment)
    return GAN(*networks, *[optimiser(network.parameters(), 1e-3) for network in networks], z_dim=6, **how)


def shapes(n=24):
    return ImageSet(noise(n, 3, 8), None, (), "noise", "noise").with_flips()


@pytest.mark.parametrize("limit", ["steps", "seconds"])
@pytest.mark.parametrize("name", NO_WAITS)
def test_no_kind_of_step_waits_between_two_looks(gpu, monkeypatch, name, limit):
    step, how = NO_WAITS[name][0], dict(NO_WAITS[name][1])
    monkeypatch.setattr(data, "RESIDENT_BELOW", how.pop("resident", 2**31))
    n, seen = how.pop("steps", 8), []  # more than one epoch; the last step is a look

    def watched(gan, batches):
        if gan.steps_done == 0:
            gpu.waits.clear()
        return step(gan, batches)

    def watch(history):
        seen.append(dict(gpu.waits))
        if limit == "seconds" and len(seen) == n - 1:
            history.stop()

    given = {"steps": n} if limit == "steps" else {"seconds": 1000}
    history = fit(players(**how), watched, shapes(), batch_size=8, watchers=[watch], **given)
    assert not seen[n - 2], "these lines wait for the GPU"
    assert history.device == "cuda" and history.steps == (n if limit == "steps" else n - 1)


@pytest.mark.parametrize("name", [name for name in NO_WAITS if name != "spectral norm"])
def test_the_numbers_are_those_of_the_cpu(gpu, monkeypatch, name):
    step, how = NO_WAITS[name][0], dict(NO_WAITS[name][1])
    monkeypatch.setattr(data, "RESIDENT_BELOW", how.pop("resident", 2**31))
    monkeypatch.setattr(train, "memory_layout", lambda *_: torch.channels_last)  # as on the CPU
    n = how.pop("steps", 6)  # the last are replays of a graph
    found = [fit(players(device=d, **how), step, shapes(), steps=n, batch_size=8, watchers=()) for d in ("cpu", "cuda")]
    assert found[0].losses == found[1].losses and [history.device for history in found] == ["cpu", "cuda"]


def test_the_gpus_start_up_does_not_count_and_changes_no_number(gpu, monkeypatch):
    clock, heard = [0.0], []
    monkeypatch.setattr(train.clock.time, "perf_counter", lambda: clock[0])
    own = models.Generator.forward
    monkeypatch.setattr(models.Generator, "forward", lambda *given: clock.append(clock.pop() + 1) or own(*given))

    def go(**how):
        gan = players(norm="batch", dropout=0.3)
        gan.discriminator.register_forward_hook(lambda *_: heard.append(1))
        history = fit(gan, steps.dcgan_step, shapes(), batch_size=8, watchers=(), **how)
        return history.losses, checkpoint.capture(gan), history.seconds, heard.clear()

    (losses, (tensors, facts), seconds, _), (wanted, (expected, known), _, _) = go(seconds=4), go(steps=4)
    assert seconds == 4 and losses == {name: values for name, values in wanted.items()} and facts == known
    assert all(torch.equal(value, expected[name]) for name, value in tensors.items())
    assert clock[0] == 2 * (1 + 1 + 4)  # each run with a look at the players, and its start-up


def test_losses_and_the_clock_are_read_every_25_steps(gpu, monkeypatch):
    gan, seen = players(), []
    clock = iter(range(10**6))
    monkeypatch.setattr(train.clock.time, "perf_counter", lambda: next(clock) / 2)  # each step takes half a second
    monkeypatch.setattr(graphs, "WARM_UP", 99)
    watch = [lambda history: seen.append((gan.steps_done, history.steps, history.seconds))]
    history = fit(gan, steps.dcgan_step, shapes(), seconds=14.9, batch_size=8, watchers=watch)
    assert [steps_read for _, steps_read, _ in seen] == [0] * 24 + [25] * 6 + [30]
    assert history.steps == gan.steps_done == 30 and seen[-1][2] > seen[-2][2], "the last steps' time counts, too"


@pytest.mark.parametrize("at", [3, 30])
def test_a_loss_that_is_not_finite_never_reaches_the_average(gpu, at):
    gan, averages = players(), []

    def breaks(gan, batches):
        record = steps.dcgan_step(gan, batches)
        averages.append(copy.deepcopy(gan.ema_generator.state_dict()))
        if gan.steps_done == at:
            with torch.no_grad():
                gan.generator[0].weight.fill_(torch.nan)
        return record | {"g_loss": record["g_loss"] * (torch.nan if gan.steps_done >= at else 1)}

    with pytest.raises(Diverged, match=f"g_loss became nan at step {at + 1}") as caught:
        fit(gan, breaks, shapes(), steps=40, batch_size=8, watchers=())
    assert caught.value.history.steps == at
    kept = averages[0 if at < train.READ_EVERY else train.READ_EVERY - 1]
    for name, value in gan.ema_generator.state_dict().items():
        assert torch.equal(value, kept[name]) and is_there(value)


def test_the_names_of_losses_are_compared_at_once(gpu):
    gan = players()

    def forgets(gan, batches):
        record = steps.dcgan_step(gan, batches)
        return record if gan.steps_done < 2 else {"d_loss": record["d_loss"]}

    with pytest.raises(ValueError, match=r"\['d_loss'\], but earlier \['d_loss', 'g_loss'\]"):
        fit(gan, forgets, shapes(), steps=9, batch_size=8, watchers=())
    assert gan.steps_done == 2


def test_a_run_is_saved_scored_and_resumed_exactly(gpu, tmp_path, quickly):
    how = dict(batch_size=8, watchers=(), snapshot_every=2, score_every={3}, score=lambda g: {"x": sum_of(g)})

    def sum_of(generator):
        return sample(generator, torch.ones(2, 6)).double().sum()

    once, twice = players(dropout=0.3), [players(dropout=0.3) for _ in range(2)]
    straight = fit(once, steps.dcgan_step, shapes(), steps=5, **how)
    for gan, n in zip(twice, (2, 5), strict=True):
        run = Run(tmp_path / "run", resume=True)
        history = fit(gan, steps.dcgan_step, shapes(), steps=n, run=run, **how)
    assert history.losses == straight.losses and history.scores == straight.scores
    for (_, mine), (_, others) in zip(history.snapshots, straight.snapshots, strict=True):
        assert torch.equal(mine, others) and mine.device == CPU
    for mine, others in zip(gan.ema_generator.parameters(), once.ema_generator.parameters(), strict=True):
        assert torch.equal(mine, others)
    assert config_of(tmp_path / "run")["ran_on"].items() >= {"card": "virtual", "cuda": torch.version.cuda}.items()
    assert next(checkpoint.load_generator(tmp_path / "run").parameters()).device == CUDA


def test_the_commands_take_the_card(gpu, tmp_path, quickly, capsys):
    run = trained_by_command(tmp_path / "run", "--dataset=fake", "--n=150", "--image-size=32", "--snapshot-every=1")
    assert config_of(run)["arguments"]["device"] == "cuda"
    resumed = ["--resume-path", str(run), "--steps=2"]
    given = ["--num=100"], ["--num=4"], [], ["--frames=3"], ["--num=2", "--steps=2"]
    commands = dict(zip(("evaluate", "generate", "gif", "interpolate", "reconstruct"), given, strict=True))
    for name, words in [("train", resumed), *((name, ["--run", str(run), *words]) for name, words in commands.items())]:
        assert cli.main([name, *words]) == 0, (name, capsys.readouterr().err)


def test_fit_trains_on_apples_devices_too(mps):
    found = [
        fit(players(device=d), steps.wgan_gp_step, shapes(), steps=2, batch_size=8, watchers=()) for d in ("cpu", None)
    ]
    assert found[1].device == "mps" and found[0].losses["g_loss"] == pytest.approx(found[1].losses["g_loss"], rel=1e-3)


# Randomness.


def test_only_the_generators_that_are_restored_are_seeded(gpu, monkeypatch):
    def refuse(*_):
        raise AssertionError("every device was seeded")

    gan = players()
    with torch.no_grad():
        gan.generator.cuda(), gan.discriminator.cuda()
    for owner, name in ((torch.cuda, "manual_seed_all"), (torch, "manual_seed"), (torch.random, "manual_seed")):
        monkeypatch.setattr(owner, name, refuse)
    gpu.numbers.manual_seed(5)
    before = gpu.numbers.get_state(), torch.default_generator.get_state()
    with randomness.seeded(3, CUDA):
        assert gpu.numbers.initial_seed() == torch.default_generator.initial_seed() == 3
    with randomness.seeded(3, CPU):
        assert torch.equal(gpu.numbers.get_state(), before[0])
    models.dcgan_discriminator(8, 3, 4, norm="spectral")
    before = before[0], torch.default_generator.get_state()  # torch draws weights when it makes a layer
    fit(gan, steps.dcgan_step, shapes(), steps=2, batch_size=8, watchers=())
    metrics.overfitting(gan.discriminator, gan.generator, shapes(), shapes())
    metrics.generate(gan.generator, 10)
    assert torch.equal(gpu.numbers.get_state(), before[0])
    assert torch.equal(torch.default_generator.get_state(), before[1])


def test_apples_generator_is_restored_too(mps):
    before = mps.numbers.get_state()
    with randomness.seeded(3, torch.device("mps")):
        assert mps.numbers.initial_seed() == 3
    assert torch.equal(mps.numbers.get_state(), before)


# Scores, latent vectors, inversion.


def test_scores_are_computed_on_the_card_and_are_those_of_the_cpu(gpu, monkeypatch):
    generator, reals = models.dcgan_generator(32, 3, 4, 6), noise(300, 3, 32)
    where, own = [], nets.Classifier.forward
    monkeypatch.setattr(nets.Classifier, "forward", lambda net, x: where.append(net.head.weight.device) or own(net, x))
    how = dict(n=200, metrics=("fd", "is", "precision", "coverage"))
    on_cpu = metrics.score(generator, reals, nets.load_weights(nets.new_cifar_net()), **how).numbers()
    assert {*where} == {CPU}
    judge = nets.load_weights(nets.new_cifar_net())
    given_on_cpu = metrics.score(reals, reals, judge, **how).numbers()["fd_cifarnet_200"]
    where.clear()
    on_gpu = metrics.score(generator.cuda(), reals, metrics.cifar_net(), **how).numbers()
    assert {*where} == {CUDA} and on_cpu == pytest.approx(on_gpu, rel=1e-4)
    given = metrics.score(reals.cuda(), reals, metrics.cifar_net(), **how).numbers()
    assert given["fd_cifarnet_200"] == pytest.approx(given_on_cpu)
    features, logits = metrics.cifar_net()(reals)
    assert features.device == logits.device == CPU and metrics.cifar_net()(reals.cuda())[0].device == CUDA


def test_every_other_score_takes_a_generator_of_the_card(gpu, monkeypatch):
    generator, digits = models.dcgan_generator(28, 1, 4, 6).cuda(), noise(200, 1, 28)
    reals = ImageSet(digits, torch.arange(200) % 10, tuple("0123456789"), "noise", "noise")
    discriminator = models.dcgan_discriminator(28, 1, 4).cuda()
    assert metrics.score_digits(generator, reals, n=100).n_fake == 100
    where, own = [], torch.cdist
    monkeypatch.setattr(torch, "cdist", lambda x, y: where.append(x.device) or own(x, y))
    assert metrics.memorisation(generator, reals, metrics.digit_net(), n=50).samples.device == CPU
    assert {*where} == {CUDA}
    assert 0 <= metrics.overfitting(discriminator, generator, reals, reals, n=60)["fake"] <= 1
    stacked = models.dcgan_generator(28, 3, 4, 6).cuda()
    assert metrics.stacked_modes(stacked, n=50).n == 50
    both = conditional.PerClass([generator, models.dcgan_generator(28, 1, 4, 6, seed=1).cuda()])
    assert sample(both, torch.ones(5, 6)).shape == (5, 1, 28, 28)


def test_the_shipped_generators_are_on_the_card(gpu):
    generator = checkpoint.pretrained("cifar10")
    assert next(generator.parameters()).device == CUDA
    assert sample(generator, latent.draw_z(2, generator.z_dim)).device == CPU


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_inversion_runs_on_the_card_and_does_not_wait_in_a_step(gpu, likelihood):
    generator, found = models.dcgan_generator(8, 3, 4, 6), []
    images = sample(generator, latent.draw_z(3, 6))
    for where, n in (("cpu", 2), ("cuda", 2), ("cuda", 7)):
        generator.to(where)
        gpu.waits.clear()
        how = dict(restarts=2, steps=n, likelihood=likelihood, progress=False)
        found.append((latent.invert(generator, images, **how), gpu.waits.total()))
    (cpu, none), (mine, few), (_, more) = found
    assert torch.equal(cpu.z, mine.z) and mine.z.device == mine.images.device == CPU
    assert none == 0 < few == more


def test_walks_are_the_same_on_every_device(request):
    ends, corners, t = latent.draw_z(2, 6), latent.draw_z(4, 6), torch.linspace(0, 1, 5)
    walks = [
        lambda to: latent.lerp(*to(ends), 0.3),
        lambda to: latent.slerp(*to(ends), to(t)),
        lambda to: latent.path(to(ends), 4, loop=True),
        lambda to: latent.path(to(ends), 4, spherical=False),
        lambda to: latent.plane(to(corners), 3, 4),
    ]
    here = [walk(lambda x: x) for walk in walks]
    for kind in ("cuda", "mps"):
        with virtual_cuda(kind=kind):
            for walk, expected in zip(walks, here, strict=True):
                there = walk(partial(torch.Tensor.to, device=kind))
                assert there.device.type == kind and torch.equal(there.cpu(), expected)
    generator = models.dcgan_generator(8, 3, 4, 6)
    with virtual_cuda():
        generator.cuda()
        z = latent.draw_z(40, 6)
        light = latent.readings(generator, z, lambda images: images.float().mean((1, 2, 3)))
        middle = light.median().item()
        share = latent.flips(generator, z, torch.ones(6), lambda images: images.float().mean((1, 2, 3)) > middle)
        assert light.device == CPU and 0 <= share <= 1


def test_pictures_are_drawn_of_what_is_on_the_card(gpu):
    gan = players()
    fit(gan, steps.dcgan_step, shapes(), steps=1, batch_size=8, watchers=())
    images = gan.generator(gan.sample_z(4))
    assert viz.grid(images, cols=2).shape == (22, 22, 3) and viz.show(images) and viz.network(gan.generator, (6,))
    assert viz.panel(gan, controls=False)._samples().shape[2] == 3
    judge, points = models.mlp_discriminator(8).cuda(), torch.ones(20, 2, device="cuda")
    assert viz.plane.picture(points, points / 2, judge, losses.non_saturating_g_loss).shape == (300, 300, 3)


# Precision, and cards that do not fit.


def test_sixteen_bits_are_for_large_networks_and_the_kind_is_the_cards():
    adam, rmsprop = ([kind([nn.Parameter(torch.ones(1))])] for kind in (torch.optim.Adam, torch.optim.RMSprop))
    choose = runtime.choose_precision
    with virtual_cuda(capability=(8, 0)):
        assert choose(CUDA, 1_000_000) == torch.bfloat16 == choose(CUDA, 1, "bf16")
        assert choose(CUDA, 999_999) == torch.float32 and choose(CUDA, 1, "fp16", adam) == torch.float16
    with virtual_cuda(capability=(7, 5)):
        assert choose(CUDA, 1_000_000, optimisers=adam) == torch.float16
        assert choose(CUDA, 999_999, optimisers=adam) == torch.float32 == choose(CUDA, 10**7, optimisers=rmsprop)
        with pytest.raises(ValueError, match=r"this card \(virtual\) has no bfloat16; take 'fp32'"):
            choose(CUDA, 10_000_000, "bf16")
        with pytest.raises(ValueError, match="overflow, which RMSprop cannot: take Adam, AdamW or SGD; or take 'fp32'"):
            choose(CUDA, 10_000_000, "fp16", adam + rmsprop)
    with virtual_cuda(capability=(6, 1)):  # no tensor cores
        assert choose(CUDA, 10_000_000, optimisers=adam) == torch.float32
    for where in ("cpu", "mps"):
        with pytest.raises(ValueError, match=f"fp16 is for CUDA cards, and this is '{where}'"):
            choose(torch.device(where), 10_000_000, "fp16")


def test_channels_come_last_where_that_is_faster():
    last, first = torch.channels_last, torch.contiguous_format
    half, single = torch.float16, torch.float32
    wanted = [(CPU, single, last), (CPU, torch.bfloat16, last), (torch.device("mps"), single, first)]
    for where, dtype, layout in [*wanted, (CUDA, half, last), (CUDA, torch.bfloat16, last), (CUDA, single, first)]:
        assert stage.memory_layout(where, dtype) == layout


# float16 and the scale of its loss.


def half(step, gan, n=6, **how):
    return fit(gan, step, shapes(), steps=n, batch_size=8, precision="fp16", **{"watchers": ()} | how)


def test_a_step_in_fp16_finds_the_gradients_of_fp32_and_waits_for_nothing(gpu, monkeypatch):
    monkeypatch.setattr(scaling, "FIRST_SCALE", 2.0**8)  # no update is skipped
    found = []

    def looks(gan, batches):
        if gan.steps_done == 0:
            gpu.waits.clear()
        record = steps.wgan_gp_step(gan, batches, n_critic=1)
        found.append([w.grad.clone() for net in (gan.generator, gan.discriminator) for w in net.parameters()])
        record["waited"] = float(gpu.waits.total())
        return record

    for precision in ("fp32", "fp16"):
        gan = players(optimiser=torch.optim.SGD)  # Adam makes a step of each gradient that is nearly 0
        history = fit(gan, looks, shapes(), steps=1, batch_size=8, watchers=(), precision=precision)
        assert history.losses["waited"] == [0]
    assert history.precision == "float16"
    for exact, mine in zip(*found, strict=True):
        assert mine.dtype == torch.float32 and torch.allclose(exact, mine, rtol=0.05, atol=0.02 * exact.abs().max())


def own_penalty(critic, points, factor):
    """As a learner writes it; times a ``factor`` so small that float16 would lose the gradient."""
    points = points.detach().requires_grad_()
    (slope,) = torch.autograd.grad(outputs=(critic(points) * factor).sum(), inputs=points, create_graph=True)
    return (slope / factor).flatten(1).norm(dim=1).sub(1).square().mean()


def test_gradients_that_a_learner_asks_for_are_scaled_in_fp16(gpu, monkeypatch):
    monkeypatch.setattr(scaling, "FIRST_SCALE", 2.0**8)  # no update is skipped
    found = {}

    def penalised(gan, batches):
        penalty = own_penalty(gan.discriminator, next(batches), 2.0**-14)
        (again,) = torch.autograd.grad([penalty * 2], [gan.discriminator[0].weight], retain_graph=True)
        gan.d_opt.zero_grad()
        penalty.backward()
        found[torch.is_autocast_enabled("cpu")] = [w.grad.clone() for w in gan.discriminator.parameters() if w.ndim > 1]
        return {"penalty": penalty, "again": again.norm()}

    full = fit(players(), penalised, shapes(), steps=1, batch_size=8, watchers=(), precision="fp32").losses
    mine = half(penalised, players(), 1).losses
    assert mine == {name: pytest.approx(values, rel=0.02) for name, values in full.items()}
    for exact, close in zip(found[False], found[True], strict=True):
        assert torch.allclose(exact, close, rtol=0.05, atol=0.02 * exact.abs().max())


def test_gradients_of_several_backwards_add_up(gpu, monkeypatch):
    monkeypatch.setattr(scaling, "FIRST_SCALE", 2.0**8)  # the gradients of a sum overflow before those of its parts

    def steps_of(turns):
        def step(gan, batches):
            real = next(batches)
            logits = gan.discriminator(torch.ones_like(real)).float()
            gan.d_opt.zero_grad()
            for k in range(turns):
                (logits.mean() * (k + 1)).backward(retain_graph=True)
            total = sum(w.grad.abs().sum() for w in gan.discriminator.parameters())
            return {"d_loss": logits.mean(), "total": total / sum(range(1, turns + 1))}

        return half(step, players(), 1).losses["total"][0]

    assert steps_of(3) == pytest.approx(steps_of(1), rel=1e-3)


def test_an_update_that_overflows_is_skipped_and_halves_the_scale(gpu, monkeypatch):
    monkeypatch.setattr(scaling, "FIRST_SCALE", 2.0**8)
    gan, weights, scales = players(), [], []

    def overflows(gan, batches):
        record = steps.dcgan_step(gan, batches)
        gan.d_opt.zero_grad()
        bad = 1e30 if gan.steps_done in (2, 3) else 1.0
        (gan.discriminator(torch.ones_like(next(batches))).float().mean() * bad * bad).backward()
        gan.d_opt.step()
        weights.append(gan.discriminator[0].weight.detach().clone())
        return record

    def watch(history):
        scales.append(gan.scaling["scale"].item())

    before = gan.discriminator[0].weight.detach().cuda()
    history = half(overflows, gan, 5, watchers=[watch])
    assert all(map(np.isfinite, sum(history.losses.values(), []))) and history.eager
    moved = [not torch.equal(a, b) for a, b in zip([before, *weights], weights, strict=False)]
    assert scales[:5] == [256, 256, 128, 64, 64] and moved[0] and moved[4]
    assert gan.d_opt.state[gan.discriminator[0].weight]["step"].item() == 2 * 5 - 2
    assert not hasattr(gan.d_opt, "found_inf") and not gan.d_opt._optimizer_step_pre_hooks


def test_a_run_in_fp16_is_resumed_exactly_with_a_graph_or_without(gpu, monkeypatch, tmp_path, quickly):
    monkeypatch.setattr(scaling, "FIRST_SCALE", 2.0**40)  # overflows in some steps
    states = {}
    for name, parts in {"straight": (9,), "in parts": (4, 9)}.items():
        for n in parts:
            monkeypatch.setattr(graphs, "WARM_UP", 3 if name == "in parts" else 99)
            gan = players()
            history = half(steps.dcgan_step, gan, n, run=Run(tmp_path / name, resume=True))
        states[name] = history.losses, checkpoint.capture(gan)[0]
    assert states["straight"][0] == states["in parts"][0]
    assert {"scaling/scale", "scaling/steps"} <= states["straight"][1].keys()
    assert 1 < states["straight"][1]["scaling/scale"] < 2.0**40
    for name, value in states["straight"][1].items():
        assert torch.equal(value, states["in parts"][1][name]), name
    with pytest.raises(ValueError, match="precision was 'float16' and is 'float32' now"):
        fit(players(), steps.dcgan_step, shapes(), steps=10, batch_size=8, precision="fp32",
            run=Run(tmp_path / "straight", resume=True))  # fmt: skip


def test_a_run_in_bf16_goes_on_without_only_if_that_is_asked_for(gpu, monkeypatch, tmp_path, quickly):
    monkeypatch.setattr(runtime, "SMALLEST_HALF_NETWORK", 0)

    def go(n, **how):
        run = Run(tmp_path / "run", resume=True, allow_changes="precision" in how)
        return fit(players(), steps.dcgan_step, shapes(), steps=n, run=run, batch_size=8, watchers=(), **how)

    assert go(1).precision == "bfloat16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    with pytest.raises(ValueError, match="no bfloat16; take 'fp32' .*allow_changes"):
        go(2)
    assert go(2, precision="fp32").precision == "float32" == go(3).precision


def test_a_run_keeps_its_precision_on_another_card_and_names_the_card(gpu, monkeypatch, tmp_path, quickly, caplog):
    monkeypatch.setattr(runtime, "SMALLEST_HALF_NETWORK", 0)
    how = dict(batch_size=8, watchers=())

    def go(n, precision="auto"):
        run = Run(tmp_path / "run", resume=True)
        return fit(players(), steps.dcgan_step, shapes(), steps=n, run=run, precision=precision, **how)

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "T4")
    assert go(1).precision == "float16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "L4")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 1)
    caplog.set_level(logging.INFO, "ganlib")
    assert go(2).precision == "float16"
    assert "card L4 instead of T4, cudnn 1 instead of" in caplog.text
    with pytest.raises(ValueError, match="precision was 'float16' and is 'bfloat16' now"):
        go(3, "bf16")
    assert fit(players(), steps.dcgan_step, shapes(), steps=1, **how).precision == "bfloat16"
    damaged = tmp_path / "run" / "config.json"
    damaged.write_text("{")  # the checkpoints have it all, but for what auto meant
    with pytest.raises(ValueError, match="precision was"):
        go(3)
    assert go(3, "fp16").steps == 3 and json.loads(damaged.read_text())["ran_on"]["card"] == "L4"


def test_a_card_without_kernels_gives_way_to_the_cpu_with_a_sentence(gpu, monkeypatch, caplog):
    def fails(*args, **kwargs):
        if str(kwargs.get("device")).startswith("cuda"):
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nMore.")
        return made(*args, **kwargs)

    made = torch.ones
    monkeypatch.setattr(torch, "ones", fails)
    assert find() == CPU and find() == CPU
    (told,) = [record.message for record in caplog.records]
    assert "'cuda'" in told and "no kernel image" in told and "CPU is used" in told and "More" not in told
    with pytest.raises(ValueError, match="no device 'cuda' here; this machine has: cpu"):
        find("cuda")


# Every notebook.


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_of_every_notebook_runs_on_a_card(path):
    command = [sys.executable, str(ROOT / "tests" / "virtual_notebook.py"), str(path)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    ran = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr[-2000:]
