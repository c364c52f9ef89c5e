"""One update of each game, against a slow textbook version of itself."""

import copy
import itertools
import warnings

import pytest
import torch
from torch.nn import functional as F

from ganlib import models, steps
from ganlib._runtime import device as runtime
from ganlib.steps import GAN


def small_gan(seed=0, z_dim=8):
    generator = models.dcgan_generator(28, 1, 4, z_dim, seed=seed)
    discriminator = models.dcgan_discriminator(28, 1, 4, seed=seed + 1)
    adam = [torch.optim.Adam(m.parameters(), 2e-3, betas=(0.5, 0.999)) for m in (generator, discriminator)]
    return GAN(generator, discriminator, *adam, z_dim=z_dim)


def reals(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return (torch.rand(6, 1, 28, 28, generator=draw) * 2 - 1 for _ in itertools.count())


def weights(gan):
    return torch.cat([p.detach().flatten() for m in (gan.generator, gan.discriminator) for p in m.parameters()])


def textbook_step(gan, batches, saturating):
    """Algorithm 1 with labels and binary cross-entropy, nothing frozen, nothing shared."""
    real, z = next(batches), gan.sample_z(6)
    ones, zeros = torch.ones(6), torch.zeros(6)
    fake = gan.generator(z)
    gan.d_opt.zero_grad()
    F.binary_cross_entropy_with_logits(gan.discriminator(real), ones).backward()
    F.binary_cross_entropy_with_logits(gan.discriminator(fake.detach()), zeros).backward()
    gan.d_opt.step()
    gan.g_opt.zero_grad()
    logits = gan.discriminator(fake)
    bce = F.binary_cross_entropy_with_logits
    (-bce(logits, zeros) if saturating else bce(logits, ones)).backward()
    gan.g_opt.step()


@pytest.mark.parametrize(("step", "saturating"), [(steps.dcgan_step, False), (steps.minimax_step, True)])
def test_step_is_the_textbook_one(step, saturating):
    one, two = small_gan(), small_gan()
    start = weights(one)
    ours, theirs = reals(), reals()
    for _ in range(3):
        record = step(one, ours)
        textbook_step(two, theirs, saturating)
    assert set(record) == {"d_loss", "g_loss"}
    torch.testing.assert_close(weights(one), weights(two), rtol=0, atol=2e-5)
    assert (weights(one) - start).abs().max() > 1e-3


def test_the_two_games_differ_only_in_the_generator():
    one, two = small_gan(), small_gan()
    steps.dcgan_step(one, reals())
    steps.minimax_step(two, reals())
    for a, b in zip(one.discriminator.parameters(), two.discriminator.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.generator[0].weight, two.generator[0].weight)


def test_generator_update_leaves_the_discriminator_alone():
    gan = small_gan()
    steps.dcgan_step(gan, reals())
    assert all(p.requires_grad for p in gan.discriminator.parameters())
    before = copy.deepcopy(gan.discriminator.state_dict())
    grads = [p.grad.clone() for p in gan.discriminator.parameters()]
    with steps.frozen(gan.discriminator):
        gan.discriminator(gan.generator(gan.sample_z(4))).sum().backward()
    assert gan.generator[0].weight.grad.abs().max() > 0
    assert all(torch.equal(p.grad, g) for p, g in zip(gan.discriminator.parameters(), grads, strict=True))
    assert torch.equal(gan.discriminator[0].weight, before["0.weight"])


def test_frozen_thaws_after_an_error():
    model = torch.nn.Linear(2, 2)
    with pytest.raises(RuntimeError), steps.frozen(model):
        assert not model.weight.requires_grad
        raise RuntimeError
    assert model.weight.requires_grad


def test_what_was_frozen_before_stays_frozen():
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    with steps.frozen(model):
        pass
    assert model.weight.requires_grad and not model.bias.requires_grad


def test_z_is_not_the_numbers_the_weights_were_drawn_from():
    gan = small_gan()
    first = gan.generator[0].weight.detach().flatten()[:24] / 0.02
    assert not torch.allclose(first, gan.sample_z(3).flatten(), atol=1e-3)


def test_streams_of_one_seed_differ():
    drawn = [
        torch.randn(4, generator=runtime.rng(3 + stream))
        for stream in (0, runtime.Z_STREAM, runtime.FIXED_Z_STREAM, runtime.GIVEN_STREAM)
    ]
    assert len({tuple(numbers.tolist()) for numbers in drawn}) == 4


def test_z_comes_from_the_gans_own_generator():
    one, two = small_gan(), small_gan()
    before = torch.random.get_rng_state()
    a, b = one.sample_z(3), two.sample_z(3)
    assert a.shape == (3, 8)
    assert torch.equal(a, b)
    assert not torch.equal(a, one.sample_z(3))
    assert torch.equal(before, torch.random.get_rng_state())


# --- the other games ------------------------------------------------------------------------------


def critic_gan(norm="none", optimiser=torch.optim.SGD, lr=1e-2, seed=0):
    generator = models.dcgan_generator(16, 1, 4, 8, seed=seed)
    critic = models.dcgan_discriminator(16, 1, 4, norm=norm, seed=seed + 1)
    return GAN(generator, critic, *(optimiser(m.parameters(), lr) for m in (generator, critic)), z_dim=8)


def small_reals(asked=None, size=16):
    draw = torch.Generator().manual_seed(5)
    for k in itertools.count():
        if asked is not None:
            asked.append(k)
        yield torch.rand(6, 1, size, size, generator=draw) * 2 - 1


def by_hand(gan, batches, n_critic, critic_extra, after=lambda critic: None):
    """The papers' loops, without anything frozen or shared; RMSprop or SGD as the GAN has it."""
    critic, generator = gan.discriminator, gan.generator
    for _ in range(n_critic):
        real, z = next(batches), gan.sample_z(6)
        fake = generator(z).detach()
        gan.d_opt.zero_grad()
        (critic(fake).mean() - critic(real).mean() + critic_extra(gan, real, fake)).backward()
        gan.d_opt.step()
        after(critic)
    gan.g_opt.zero_grad()
    (-critic(generator(gan.sample_z(6))).mean()).backward()
    gan.g_opt.step()


def textbook_penalty(gan, real, fake):
    """One example at a time: the slope at one point between each real and fake."""
    epsilon, total = torch.rand(6, 1, 1, 1, generator=gan.z_rng), 0
    for e, x, y in zip(epsilon, real, fake, strict=True):
        point = (e * x + (1 - e) * y)[None].requires_grad_()
        (g,) = torch.autograd.grad(gan.discriminator(point)[0], point, create_graph=True)
        total = total + (g.square().sum().sqrt() - 1) ** 2 / 6
    return 10 * total


def clamp(critic):
    for p in critic.parameters():
        p.data = p.data.clamp(-0.01, 0.01)


@pytest.mark.parametrize(
    ("step", "extra", "after"),
    [
        (steps.wgan_step, lambda *_: 0, clamp),
        (steps.wgan_gp_step, textbook_penalty, lambda critic: None),
    ],
    ids=["wgan", "wgan-gp"],
)
@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.RMSprop])
def test_wasserstein_steps_are_the_textbook_ones(step, extra, after, optimiser):
    one, two = critic_gan(optimiser=optimiser, lr=1e-4), critic_gan(optimiser=optimiser, lr=1e-4)
    start, ours, theirs = weights(one), small_reals(), small_reals()
    for _ in range(2):
        record = step(one, ours)
        by_hand(two, theirs, 5, extra, after)
    assert {"critic_loss", "g_loss"} <= set(record)
    torch.testing.assert_close(weights(one), weights(two), rtol=0, atol=2e-6)
    assert (weights(one) - start).abs().max() > 3e-5  # far more than the two may differ


@pytest.mark.parametrize("step", [steps.wgan_step, steps.wgan_gp_step])
def test_every_critic_update_sees_fresh_reals_and_fresh_fakes(step, monkeypatch):
    seen = []
    monkeypatch.setattr(
        steps, "wasserstein_critic_loss", lambda real, fake: seen.append((real, fake)) or fake.mean() - real.mean()
    )
    gan, asked = critic_gan(lr=0.0), []  # nothing moves, so equal scores would mean equal images
    step(gan, small_reals(asked), n_critic=3)
    assert asked == [0, 1, 2]
    for side in zip(*seen, strict=True):
        assert len({tuple(scores.tolist()) for scores in side}) == 3


@pytest.mark.parametrize("step", [steps.wgan_step, steps.wgan_gp_step])
def test_the_critics_updates_leave_the_generator_alone(step):
    gan = critic_gan()
    for parameter in gan.generator.parameters():
        parameter.register_hook(lambda grad: counts.append(1))
    counts = []
    step(gan, small_reals(), n_critic=4)
    assert len(counts) == len(list(gan.generator.parameters()))  # one backward pass, the generator's own


def test_clipped_weights_stay_clipped():
    gan = critic_gan(lr=1.0)
    steps.wgan_step(gan, small_reals(), n_critic=2, clip_value=0.02)
    largest = max(p.abs().max().item() for p in gan.discriminator.parameters())
    assert largest == pytest.approx(0.02)


def test_warm_up_is_the_authors():
    counts = [steps.critic_updates(done, 5, warm_up=True) for done in range(1002)]
    assert counts[:25] == [100] * 25 and counts[25:500] == [5] * 475
    assert [k for k in range(25, 1002) if counts[k] == 100] == [500, 1000]
    assert steps.critic_updates(0) == steps.critic_updates(500) == 5


def test_hinge_step_is_the_textbook_one():
    one, two = critic_gan("spectral", torch.optim.Adam, 1e-3), critic_gan("spectral", torch.optim.Adam, 1e-3)
    ours, theirs = small_reals(), small_reals()
    for _ in range(2):
        record = steps.hinge_step(one, ours)
        real, fake = next(theirs), two.generator(two.sample_z(6))
        two.d_opt.zero_grad()
        d_loss = (1 - two.discriminator(real)).clamp(min=0).mean() + (1 + two.discriminator(fake.detach())).clamp(
            min=0
        ).mean()
        d_loss.backward()
        two.d_opt.step()
        two.g_opt.zero_grad()
        (-two.discriminator(fake).mean()).backward()
        two.g_opt.step()
        assert record["d_loss"].item() == pytest.approx(d_loss.item(), rel=1e-5)
    torch.testing.assert_close(weights(one), weights(two), rtol=0, atol=2e-5)


def test_r1_comes_every_so_many_steps_and_counts_for_all_of_them():
    one, two = critic_gan(), critic_gan()
    ours, theirs = small_reals(), small_reals()
    for k in range(3):
        one.steps_done = k  # as fit counts
        steps.dcgan_r1_step(one, ours, r1_gamma=0.7, r1_every=2)
        real, fake = next(theirs), two.generator(two.sample_z(6))
        critic, penalty = two.discriminator, 0
        for point in real if k % 2 == 0 else ():
            point = point[None].clone().requires_grad_()
            (g,) = torch.autograd.grad(critic(point)[0], point, create_graph=True)
            penalty = penalty + 2 * 0.7 / 2 * g.square().sum() / 6
        two.d_opt.zero_grad()
        (-F.logsigmoid(critic(real)).mean() - F.logsigmoid(-critic(fake.detach())).mean() + penalty).backward()
        two.d_opt.step()
        two.g_opt.zero_grad()
        (-F.logsigmoid(critic(fake)).mean()).backward()
        two.g_opt.step()
    torch.testing.assert_close(weights(one), weights(two), rtol=0, atol=2e-5)


def test_r1_takes_a_discriminator_with_batchnorm_without_a_warning():
    gan = small_gan()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = steps.dcgan_r1_step(gan, reals())
    assert set(record) == {"d_loss", "g_loss"}


def test_rpgan_step_is_the_textbook_one():
    one, two = critic_gan(), critic_gan()
    ours, theirs = small_reals(), small_reals()
    for _ in range(2):
        steps.rpgan_step(one, ours, r1_gamma=0.7, r2_gamma=0.3)
        real, fake = next(theirs), two.generator(two.sample_z(6))
        critic, penalty = two.discriminator, 0
        for gamma, points in ((0.7, real), (0.3, fake.detach())):
            for point in points:
                point = point[None].clone().requires_grad_()
                (g,) = torch.autograd.grad(critic(point)[0], point, create_graph=True)
                penalty = penalty + gamma / 2 * g.square().sum() / 6
        two.d_opt.zero_grad()
        (-F.logsigmoid(critic(real) - critic(fake.detach())).mean() + penalty).backward()
        two.d_opt.step()
        two.g_opt.zero_grad()
        (-F.logsigmoid(critic(fake) - critic(real)).mean()).backward()
        two.g_opt.step()
    torch.testing.assert_close(weights(one), weights(two), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("step", "wrong", "sentence"),
    [
        (
            steps.wgan_step,
            {"n_critic": 0},
            "n_critic=0, but a critic that is never updated says nothing: use at least 1",
        ),
        (steps.wgan_gp_step, {"n_critic": -1}, "n_critic=-1, but a critic that is never updated"),
        (steps.wgan_step, {"clip_value": -0.01}, "clip_value=-0.01, but weights are clipped"),
        (steps.wgan_gp_step, {"gp_weight": -10}, "gp_weight=-10, but a penalty's weight is at least 0"),
        (steps.rpgan_step, {"r2_gamma": -1.0}, "r2_gamma=-1.0, but a penalty's weight is at least 0"),
        (steps.dcgan_r1_step, {"r1_gamma": -1.0}, "r1_gamma=-1.0, but a penalty's weight is at least 0"),
        (steps.dcgan_r1_step, {"r1_every": 0}, "r1_every=0, but must be at least 1"),
    ],
)
def test_wrong_settings_get_a_sentence(step, wrong, sentence):
    gan = critic_gan()
    before = weights(gan)
    with pytest.raises(ValueError, match=sentence):
        step(gan, small_reals(), **wrong)
    assert torch.equal(weights(gan), before)


def test_steps_record_what_fit_can_keep():
    for step, names in (
        (steps.wgan_step, {"critic_loss", "g_loss"}),
        (steps.wgan_gp_step, {"critic_loss", "penalty", "g_loss"}),
        (steps.rpgan_step, {"d_loss", "penalty", "g_loss"}),
        (steps.hinge_step, {"d_loss", "g_loss"}),
        (steps.dcgan_r1_step, {"d_loss", "g_loss"}),
    ):
        record = step(critic_gan(), small_reals())
        assert set(record) == names and all(value.ndim == 0 for value in record.values())
