"""One update of each game, against a slow textbook version of itself."""

import inspect
import itertools
import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import logsigmoid

from ganlib import losses, models, steps
from ganlib._runtime import randomness
from ganlib.steps import GAN


def players(norm="none", optimiser=torch.optim.SGD, lr=1e-2, seed=0):
    generator = models.dcgan_generator(16, 1, 4, 8, seed=seed)
    discriminator = models.dcgan_discriminator(16, 1, 4, norm=norm, seed=seed + 1)
    return GAN(generator, discriminator, *(optimiser(m.parameters(), lr) for m in (generator, discriminator)), z_dim=8)


def reals(asked=None):
    draw = torch.Generator().manual_seed(5)
    for k in itertools.count():
        if asked is not None:
            asked.append(k)
        yield torch.rand(6, 1, 16, 16, generator=draw) * 2 - 1


def weights(gan):
    return torch.cat([p.detach().flatten() for m in (gan.generator, gan.discriminator) for p in m.parameters()])


def slopes(gan, points):
    """The squared length of the gradient at each point, one example at a time."""
    for point in points:
        point = point[None].clone().requires_grad_()
        (g,) = torch.autograd.grad(gan.discriminator(point)[0], point, create_graph=True)
        yield g.square().sum()


def r1(gan, points):
    return sum(slopes(gan, points)) / 6 / 2


def gp(gan, real, fake):
    epsilon = torch.rand(6, 1, 1, 1, generator=gan.z_rng)
    return sum((slope.sqrt() - 1) ** 2 for slope in slopes(gan, epsilon * real + (1 - epsilon) * fake)) / 6


def cross_entropy(x, y):
    return bce(x, torch.ones(6)) + bce(y, torch.zeros(6))


# name -> settings, the two losses of x and y (logits of reals and fakes), the penalty with its weight, critic updates
TEXTBOOK = {
    "ns": ({}, cross_entropy, lambda x, y: bce(y, torch.ones(6)), None, 1),
    "ns-r1": ({}, *[cross_entropy, lambda x, y: bce(y, torch.ones(6)), lambda gan, x, y: 0.16 * r1(gan, x)], 1),
    "minimax": ({}, cross_entropy, lambda x, y: -bce(y, torch.zeros(6)), None, 1),
    "hinge": ({}, lambda x, y: (1 - x).relu().mean() + (1 + y).relu().mean(), lambda x, y: -y.mean(), None, 1),
    "rpgan": (
        {"r1_gamma": 0.7, "r2_gamma": 0.3},
        *[lambda x, y: -logsigmoid(x - y).mean(), lambda x, y: -logsigmoid(y - x).mean()],
        *[lambda gan, x, y: 0.7 * r1(gan, x) + 0.3 * r1(gan, y), 1],
    ),
    "wgan": ({}, lambda x, y: y.mean() - x.mean(), lambda x, y: -y.mean(), None, 5),
    "wgan-gp": ({}, lambda x, y: y.mean() - x.mean(), lambda x, y: -y.mean(), lambda *given: 10 * gp(*given), 5),
}


def textbook_step(name, gan, batches):
    """The papers' loops, with nothing frozen and nothing shared."""
    _, d_loss, g_loss, penalty, updates = TEXTBOOK[name]
    for _ in range(updates):
        real, fake = next(batches), gan.generator(gan.sample_z(6))
        loss = d_loss(gan.discriminator(real), gan.discriminator(fake.detach()))
        due = penalty and (name != "ns-r1" or gan.steps_done % 8 == 0)
        extra = penalty(gan, real, fake.detach()) if due else 0
        gan.d_opt.zero_grad()
        (loss + extra).backward()
        gan.d_opt.step()
        for p in gan.discriminator.parameters():
            p.data = p.data.clamp(-0.01, 0.01) if name == "wgan" else p.data
    fake = gan.generator(gan.sample_z(6)) if updates > 1 else fake
    gan.g_opt.zero_grad()
    last = g_loss(gan.discriminator(real) if name == "rpgan" else None, gan.discriminator(fake))
    last.backward()
    gan.g_opt.step()
    return {"d_loss": loss, "critic_loss": loss, "g_loss": last, "penalty": extra / 10}


@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.RMSprop])
@pytest.mark.parametrize("name", steps.STEPS)
def test_every_step_is_the_textbook_one(name, optimiser):
    how = ("spectral" if name == "hinge" else "none", optimiser, 1e-4 if "wgan" in name else 1e-3)
    one, two, ours, theirs = players(*how), players(*how), reals(), reals()
    start = weights(one)
    for k in (0, 7, 8):
        one.steps_done = two.steps_done = k  # as fit counts
        record = steps.STEPS[name](one, ours, **TEXTBOOK[name][0])
        by_hand = textbook_step(name, two, theirs)
        names = {"critic_loss" if "wgan" in name else "d_loss", "g_loss"}
        assert set(record) == names | ({"penalty"} if name in ("rpgan", "wgan-gp") else set())
        for which, value in record.items():
            if (name, which) != ("rpgan", "penalty"):  # which is recorded without its weights
                assert value.ndim == 0 and value.item() == pytest.approx(by_hand[which].item(), rel=1e-4, abs=1e-6)
    torch.testing.assert_close(weights(one), weights(two), rtol=0, atol=2e-6)
    assert (weights(one) - start).abs().max() > 3e-5  # far more than the two may differ
    assert torch.equal(one.z_rng.get_state(), two.z_rng.get_state())


def test_rpgan_records_the_sum_of_its_unweighted_penalties_and_defaults_are_the_papers():
    one, two = players(), players()
    record = steps.rpgan_step(one, reals(), r1_gamma=0.0, r2_gamma=0.0)
    real, fake = next(reals()), two.generator(two.sample_z(6))
    assert record["penalty"].item() == pytest.approx((r1(two, real) + r1(two, fake.detach())).item(), rel=1e-4)
    defaults = [inspect.signature(step).parameters for step in (steps.rpgan_step, steps.wgan_step, steps.wgan_gp_step)]
    assert defaults[0]["r1_gamma"].default == defaults[0]["r2_gamma"].default == 1.0
    assert not defaults[1]["warm_up"].default and not defaults[2]["warm_up"].default


@pytest.mark.parametrize("step", [steps.wgan_step, steps.wgan_gp_step])
def test_every_critic_update_sees_fresh_reals_and_fakes_and_leaves_the_generator_alone(step, monkeypatch):
    seen, counts, asked, loss = [], [], [], losses.wasserstein_critic_loss
    monkeypatch.setattr(losses, "wasserstein_critic_loss", lambda *pair: seen.append(pair) or loss(*pair))
    gan = players(lr=0.0)  # nothing moves, so equal scores would mean equal images
    for parameter in gan.generator.parameters():
        parameter.register_hook(lambda grad: counts.append(1))
    step(gan, reals(asked), n_critic=3)
    assert asked == [0, 1, 2]
    assert all(len({tuple(scores.tolist()) for scores in side}) == 3 for side in zip(*seen, strict=True))
    assert len(counts) == len(list(gan.generator.parameters()))  # one backward pass, the generator's own
    step(gan, reals(asked), n_critic=2, warm_up=True)
    assert len(asked) == 103


def test_warm_up_is_the_authors():
    counts = [steps.critic_updates(done, 5, warm_up=True) for done in range(1002)]
    assert [k for k in range(1002) if counts[k] == 100] == [*range(25), 500, 1000] and set(counts) == {5, 100}
    assert steps.critic_updates(0) == steps.critic_updates(500) == 5 and steps.critic_updates(0, 1) == 1
    assert steps.critic_updates(0, 200, warm_up=True) == 200


def test_r1_takes_a_discriminator_with_batchnorm_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps.dcgan_r1_step(players("batch"), reals(), r1_every=1)


@pytest.mark.parametrize(
    ("step", "wrong", "sentence"),
    [
        (steps.wgan_step, {"n_critic": 0}, "n_critic=0.*at least 1"),
        (steps.wgan_gp_step, {"n_critic": -1}, "n_critic=-1.*at least 1"),
        (steps.wgan_step, {"clip_value": -0.01}, "clip_value=-0.01.*above 0"),
        (steps.wgan_gp_step, {"gp_weight": -10}, "gp_weight=-10.*at least 0"),
        (steps.rpgan_step, {"r1_gamma": -1.0}, "r1_gamma=-1.0.*at least 0"),
        (steps.rpgan_step, {"r2_gamma": -1.0}, "r2_gamma=-1.0.*at least 0"),
        (steps.dcgan_r1_step, {"r1_gamma": -1.0}, "r1_gamma=-1.0.*at least 0"),
        (steps.dcgan_r1_step, {"r1_every": 0}, "r1_every=0.*at least 1"),
    ],
)
def test_wrong_settings_get_a_sentence_and_change_nothing(step, wrong, sentence):
    gan = players()
    before = weights(gan)
    with pytest.raises(ValueError, match=sentence):
        step(gan, reals(), **wrong)
    assert torch.equal(weights(gan), before)


def test_frozen_lets_gradients_through_and_thaws_after_an_error_what_was_free():
    model, x = nn.Linear(2, 2), torch.ones(1, 2, requires_grad=True)
    model.bias.requires_grad_(False)
    with pytest.raises(RuntimeError), steps.frozen(model) as same:
        same(x).sum().backward()
        raise RuntimeError
    assert x.grad is not None and model.weight.grad is None
    assert model.weight.requires_grad and not model.bias.requires_grad
    for step, settings in ((steps.dcgan_step, {}), (steps.rpgan_step, {}), (steps.wgan_step, {"n_critic": 1})):
        gan, counts = players(), []
        gan.discriminator[0].weight.register_hook(lambda grad, counts=counts: counts.append(1))
        step(gan, reals(), **settings)
        assert len(counts) == 1, step  # the generator's update computes no gradient of the discriminator


def test_every_kind_of_z_has_a_stream_of_its_own():
    one, before = players(), torch.random.get_rng_state()
    z, streams = one.sample_z(3), (0, randomness.Z_STREAM, randomness.FIXED_Z_STREAM, randomness.GIVEN_STREAM)
    drawn = [torch.randn(64, 8, generator=randomness.rng(stream)) for stream in streams]
    assert len({tuple(numbers.flatten().tolist()) for numbers in drawn}) == 4
    assert torch.equal(one.fixed_z, drawn[2]) and torch.equal(
        z, torch.randn(3, 8, generator=randomness.rng(randomness.Z_STREAM))
    )
    assert not torch.equal(z, one.sample_z(3)) and torch.equal(before, torch.random.get_rng_state())


def test_a_gan_has_what_fit_needs():
    generator, discriminator = nn.Linear(4, 3), nn.Linear(3, 1)
    given = generator, discriminator, *[torch.optim.SGD(m.parameters(), 0.1) for m in (generator, discriminator)], 4
    gan = GAN(*given)
    assert list(inspect.signature(GAN).parameters)[4:] == ["z_dim", "seed", "ema_decay", "fixed_z", "device"]
    assert not any(name in repr(gan) for name in ("fixed_z", "ema_generator", "data_position"))
    assert (gan.seed, gan.ema_decay, gan.device, gan.steps_done, gan.data_position) == (0, 0.995, None, 0, None)
    assert gan.fixed_z.shape == (64, 4) and gan.generator.z_dim == gan.ema_generator.z_dim == 4
    assert gan.ema_generator.averaged and not gan.ema_generator.training and generator.training
    assert torch.equal(gan.ema_generator.weight, generator.weight) and gan.ema_generator is not generator
    assert generator.weight.requires_grad and not gan.ema_generator.weight.requires_grad
    other = GAN(*given, seed=3, fixed_z=torch.zeros(3, 4), ema_decay=0)
    assert not torch.equal(gan.sample_z(2), other.sample_z(2)) and len(other.fixed_z) == 3
    for wrong, sentence in (
        (dict(ema_decay=1.0), "ema_decay=1.0.*below 1"),
        (dict(ema_decay=-0.1), "ema_decay=-0.1.*at least 0"),
        (dict(fixed_z=torch.zeros(3, 5)), r"fixed_z.*\[3, 5\].*\[n, 4\]"),
        (dict(fixed_z=torch.zeros(4)), r"fixed_z.*\[4\].*\[n, 4\]"),
    ):
        with pytest.raises(ValueError, match=sentence):
            GAN(*given, **wrong)
