"""One update of each game, against a slow textbook version of itself."""

import copy
import itertools

import pytest
import torch
from torch.nn import functional as F

from ganlib import models, steps
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


def test_z_comes_from_the_gans_own_generator():
    one, two = small_gan(), small_gan()
    before = torch.random.get_rng_state()
    a, b = one.sample_z(3), two.sample_z(3)
    assert a.shape == (3, 8)
    assert torch.equal(a, b)
    assert not torch.equal(a, one.sample_z(3))
    assert torch.equal(before, torch.random.get_rng_state())
