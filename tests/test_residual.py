"""Residual networks: their shapes, first weights and gradients, and a step with them in double precision."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from ganlib import models, rng, steps
from ganlib.models import residual_discriminator, residual_generator
from ganlib.residual import Bottleneck

RESAMPLING = nn.Upsample | nn.AvgPool2d


def pair(size=16, channels=1, width=8, z_dim=6, **how):
    return residual_generator(size, channels, width, z_dim, **how), residual_discriminator(size, channels, width, **how)


def sizes(network, shape):
    """The shapes between resamplings, from the first to the last."""
    found = models.outputs(network, shape)
    return [out for layer, out in found if isinstance(layer, RESAMPLING)]


@pytest.mark.parametrize("size", [8, 20, 28, 48])
def test_they_play_together_and_reach_every_pixel_and_every_weight(size):
    generator, discriminator = (network.double() for network in pair(size))
    for network in (generator, discriminator):  # first weights are 0 in places: take others
        for k, weight in enumerate(network.parameters()):
            weight.data.add_(0.1 * torch.randn(weight.shape, generator=rng(k), dtype=torch.float64))
    images = generator(torch.randn(3, 6, generator=rng(0), dtype=torch.float64))
    assert images.shape == (3, 1, size, size) and images.abs().max() <= 1 and (images[0] != images[1]).all()
    logits = discriminator(pixels := images.detach().requires_grad_())
    (slopes,) = torch.autograd.grad(logits.sum(), pixels, create_graph=True)
    assert logits.shape == (3,) and (slopes != 0).all()
    (slopes.square().sum() + discriminator(images).sum()).backward()
    assert all((weight.grad != 0).any() for net in (generator, discriminator) for weight in net.parameters())


def test_the_smallest_map_has_four_to_seven_pixels_and_maps_get_eight_times_as_wide_at_most():
    generator, discriminator = pair(128, 3)
    assert sizes(generator, (6,)) == [(64, 8, 8), (32, 16, 16), (16, 32, 32), (8, 64, 64), (8, 128, 128)]
    found = [(8, 64, 64), (8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4)]
    assert sizes(discriminator, (3, 128, 128)) == found
    assert sizes(pair(28)[1], (1, 28, 28))[-1] == (8, 7, 7)
    blocks = [layer for layer in pair(32, blocks=2)[1] if isinstance(layer, Bottleneck)]
    assert len(blocks) == 6 and blocks[-1].branch[2].groups == 4


def test_a_block_starts_as_its_input_and_its_branch_scaled_down_by_the_number_of_blocks():
    for blocks in (1, 16):
        block, x = Bottleneck(64, blocks, rng(0)), torch.randn(4, 64, 8, 8, generator=rng(1))
        assert torch.equal(block(x), x)
        spread = block.branch[0](x).std().item()
        assert spread == pytest.approx((2 / 1.04) ** 0.5 * blocks**-0.25, rel=0.05)
    block.branch[-1].weight.data.fill_(0.1)
    assert (block(x) != x).all()


@pytest.mark.parametrize("size", [16, 64])
def test_signals_keep_their_size_at_first_and_weights_come_of_the_seed_alone(size):
    generator, discriminator = pair(size, 3, 32, 100, seed=3)
    z = torch.randn(200, 100, generator=rng(0))
    assert 0.3 < generator(z).std() < 0.7
    assert 0.02 < discriminator(torch.randn(50, 3, size, size, generator=rng(1))).std() < 2
    again, other = pair(size, 3, 32, 100, seed=3), pair(size, 3, 32, 100, seed=4)
    for network, same, different in zip((generator, discriminator), again, other, strict=True):
        assert all(map(torch.equal, network.parameters(), same.parameters()))
        assert not torch.equal(next(network.parameters()), next(different.parameters()))
        built = type(network).build(network.config)
        assert built.config == network.config and all(map(torch.equal, network.parameters(), built.parameters()))


def test_a_step_of_pairs_is_the_textbook_one_in_double_precision():
    players = [network.double() for network in pair()]
    for weight in (w for network in players for w in network.parameters() if not w.any()):
        weight.data.normal_(0, 0.1, generator=rng(5))
    optimisers = [torch.optim.SGD(network.parameters(), 0.05) for network in players]
    gan = steps.GAN(*players, *optimisers, z_dim=6)
    gan.sample_z = lambda n: torch.randn(n, 6, generator=rng(2), dtype=torch.float64)
    G, D = copy.deepcopy(players)
    x, z = torch.rand(5, 1, 16, 16, generator=rng(3), dtype=torch.float64) * 2 - 1, gan.sample_z(5)

    def penalty(points):  # half the mean squared slope, one example at a time
        points = [point[None].detach().requires_grad_() for point in points]
        slopes = [torch.autograd.grad(D(point)[0], point, create_graph=True)[0] for point in points]
        return sum(slope.square().sum() for slope in slopes) / len(points) / 2

    loss = -logsigmoid(D(x) - D(G(z))).mean()
    total = loss + 0.7 * penalty(x) + 0.3 * penalty(G(z))
    for weight, slope in zip(D.parameters(), torch.autograd.grad(total, list(D.parameters())), strict=True):
        weight.data -= 0.05 * slope
    g_loss = -logsigmoid(D(G(z)) - D(x)).mean()
    for weight, slope in zip(G.parameters(), torch.autograd.grad(g_loss, list(G.parameters())), strict=True):
        weight.data -= 0.05 * slope

    found = steps.rpgan_step(gan, iter([x]), r1_gamma=0.7, r2_gamma=0.3)
    assert found["d_loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    assert found["g_loss"].item() == pytest.approx(g_loss.item(), rel=1e-12)
    for mine, theirs in ((gan.generator, G), (gan.discriminator, D)):
        for one, two in zip(mine.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        (dict(size=7), "image_size=7.*4, 5, 6 or 7 times a power of 2"),
        (dict(size=36), "image_size=36.*such as 32, 48"),
        (dict(size=30), "image_size=30"),
        (dict(width=12), "width=12.*multiple of 8"),
        (dict(width=0), "width=0.*multiple of 8"),
    ],
)
def test_what_cannot_be_gets_a_sentence(how, sentence):
    for build in (0, 1):
        with pytest.raises(ValueError, match=sentence):
            (residual_generator, residual_discriminator)[build](
                how.get("size", 32), 1, how.get("width", 8), *[6][build:]
            )
