"""The other architectures: their layers, their counts, and several generators taken for one."""

import pytest
import torch
from torch import nn

from ganlib import models
from ganlib import models as variants


def kinds(model, kind):
    return [layer for layer in model.modules() if type(layer) is kind]


def test_linear_networks_are_those_of_the_course():
    generator, discriminator = variants.linear_generator(32, 3, 64, 100), variants.linear_discriminator(32, 3, 64)
    counts = [len(kinds(generator, kind)) for kind in (nn.Linear, nn.ConvTranspose2d, nn.Conv2d)]
    assert counts == [1, 3, 1]
    assert [len(kinds(discriminator, kind)) for kind in (nn.Conv2d, nn.Linear)] == [4, 1]
    # Counted by hand: 100 * 256 * 16, 16 (256 * 128 + 128 * 64 + 64 * 32), 32 * 3 * 9 + 3, and BatchNorm's two a map.
    assert models.count_parameters(generator) == 409_600 + 688_128 + 867 + 2 * (256 + 128 + 64 + 32)
    assert models.count_parameters(discriminator) == 896 + 688_128 + 2 * (64 + 128 + 256) + 4097


@pytest.mark.parametrize("size", [8, 32, 64])
def test_linear_networks_play_together_at_multiples_of_8(size):
    images = variants.linear_generator(size, 3, 8, 5)(torch.randn(3, 5))
    assert images.shape == (3, 3, size, size)
    assert images.abs().max() <= 1
    assert variants.linear_discriminator(size, 3, 8)(images).shape == (3,)


@pytest.mark.parametrize("make", [variants.linear_generator, variants.linear_discriminator])
def test_linear_networks_name_the_sizes_they_can_have(make):
    with pytest.raises(ValueError, match="image_size=28, .* use a multiple of 8"):
        make(28)
    with pytest.raises(ValueError, match="width=7, .* need an even one"):
        make(32, 3, 7)


def test_pooled_networks_have_the_published_counts_and_play_together():
    generator, discriminator = variants.pooled_generator(100), variants.pooled_discriminator()
    assert models.count_parameters(generator) == 1_929_921
    assert models.count_parameters(discriminator) == 9_942_401
    images = generator(torch.randn(3, 100))
    assert images.shape == (3, 1, 28, 28)
    assert discriminator(images).shape == (3,)


def test_per_class_gives_each_generator_its_turn():
    generators = [models.dcgan_generator(8, 1, 4, 6, seed=seed).eval() for seed in range(3)]
    z = torch.randn(8, 6)
    images = variants.PerClass(generators)(z)
    for row in range(8):
        assert torch.allclose(images[row : row + 1], generators[row % 3](z[row : row + 1]), atol=1e-6)
    assert torch.allclose(variants.PerClass(generators)(z[:2]), images[:2], atol=1e-6)  # fewer images than classes


def test_per_class_is_averaged_only_if_all_are():
    generators = [models.dcgan_generator(8, 1, 4, 6) for _ in range(2)]
    generators[0].averaged = True
    assert not variants.PerClass(generators).averaged
    generators[1].averaged = True
    assert variants.PerClass(generators).averaged


def test_per_class_refuses_generators_of_several_sizes_or_none():
    with pytest.raises(ValueError, match=r"one z_dim, .* given \[5, 6\]"):
        variants.PerClass([models.dcgan_generator(8, 1, 4, size) for size in (5, 6)])
    with pytest.raises(ValueError, match=r"one z_dim, .* given \[\]"):
        variants.PerClass([])
