"""Shapes, published parameter counts, the DCGAN rules, and the sentences for sizes that do not exist."""

import pytest
import torch
from torch import nn

from ganlib import models
from ganlib import models as variants


@pytest.mark.parametrize("size", [8, 28, 29, 32, 48, 50, 64, 96, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_dcgan_fits_every_size(size, channels):
    generator = models.dcgan_generator(size, channels, width=4, z_dim=7)
    images = generator(torch.randn(2, 7))
    assert images.shape == (2, channels, size, size)
    assert images.abs().max() <= 1
    assert models.dcgan_discriminator(size, channels, width=4)(images).shape == (2,)


@pytest.mark.parametrize("width", [8, 24])
def test_width_is_that_of_the_map_next_to_the_image(width):
    generator = models.dcgan_generator(32, 3, width)
    assert [m for m in generator if isinstance(m, nn.ConvTranspose2d)][-1].in_channels == width
    assert models.dcgan_discriminator(32, 3, width)[0].out_channels == width


def test_parameter_counts_are_the_published_ones():
    assert models.count_parameters(models.dcgan_generator(64, 3, 128, 100)) == 12_658_435
    assert models.count_parameters(models.dcgan_discriminator(64, 3, 64)) == 2_765_633


def test_every_kernel_is_divisible_by_its_stride():
    for size in (28, 48, 128):
        for layer in (*models.dcgan_generator(size, width=4), *models.dcgan_discriminator(size, width=4)):
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                assert layer.kernel_size[0] % layer.stride[0] == 0


def test_no_batchnorm_at_the_image_and_no_sigmoid_at_the_end():
    generator, discriminator = models.dcgan_generator(32), models.dcgan_discriminator(32)
    assert isinstance(generator[-1], nn.Tanh)
    assert isinstance(generator[-2], nn.ConvTranspose2d)
    assert isinstance(discriminator[0], nn.Conv2d)
    assert isinstance(discriminator[1], nn.LeakyReLU)
    assert isinstance(discriminator[-1], nn.Conv2d)
    logits = discriminator(10 * torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert (logits < 0).any()  # a sigmoid would not be


def test_a_deeper_discriminator_looks_once_more_before_each_halving_but_the_first():
    plain, deeper = models.dcgan_discriminator(32, 3, 4, seed=7), models.dcgan_discriminator(32, 3, 4, depth=2, seed=7)
    shapes = [
        (layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0], layer.bias is not None)
        for layer in deeper
        if isinstance(layer, nn.Conv2d)
    ]
    halvings = [(4, 4, 3, 1, False), (4, 8, 4, 2, False), (8, 8, 3, 1, False), (8, 16, 4, 2, False)]
    assert shapes == [(3, 4, 4, 2, True), *halvings, (16, 1, 4, 1, True)]
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in deeper) == 4
    assert deeper.config["depth"] == 2 and "depth" not in plain.config
    with pytest.raises(ValueError, match="depth=0, but a discriminator has at least 1"):
        models.dcgan_discriminator(32, depth=0)


def test_initial_weights_are_dcgans():
    for model in (models.dcgan_generator(64), models.dcgan_discriminator(64), variants.pooled_discriminator()):
        for layer in model:
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and layer.weight.numel() > 10_000:
                assert layer.weight.mean().item() == pytest.approx(0, abs=1e-3)
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.weight.mean().item() == pytest.approx(1, abs=0.02)
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.5)
            if getattr(layer, "bias", None) is not None:
                assert layer.bias.abs().max() == 0


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(1)
    one = models.dcgan_generator(28, 1, 4, seed=3)
    torch.manual_seed(2)
    two = models.dcgan_generator(28, 1, 4, seed=3)
    other = models.dcgan_generator(28, 1, 4, seed=4)
    assert torch.equal(one[0].weight, two[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)


@pytest.mark.parametrize("build", [models.dcgan_generator, models.dcgan_discriminator])
def test_a_size_that_cannot_be_built_says_which_can(build):
    with pytest.raises(ValueError, match="No DCGAN has image_size=7; every size from 8 pixels up can be built"):
        build(7)
    with pytest.raises(ValueError, match="base=28, but the smallest map must have .* fewer than 28"):
        build(28, base=28)


@pytest.mark.parametrize(("base", "kernel", "depth"), [(4, 3, 4), (7, 7, 3)])
def test_base_decides_how_far_the_maps_shrink(base, kernel, depth):
    generator = models.dcgan_generator(28, 1, 4, base=base)
    convolutions = [m for m in generator if isinstance(m, nn.ConvTranspose2d)]
    assert convolutions[0].kernel_size == (kernel, kernel)
    assert len(convolutions) == depth
    assert [m.out_channels for m in convolutions][-2] == 4
    assert models.dcgan_discriminator(28, 1, 4, base=base)(generator(torch.randn(2, 100))).shape == (2,)


@pytest.mark.parametrize("size", [9, 29, 50, 53])
def test_no_pixel_is_out_of_the_networks_reach(size):
    pixels = torch.randn(2, 1, size, size, requires_grad=True)
    models.dcgan_discriminator(size, 1, 4)(pixels).sum().backward()
    assert (pixels.grad[0] != 0).all()
    generator = models.dcgan_generator(size, 1, 4).double()
    one, two = generator(torch.randn(2, 100, generator=torch.Generator().manual_seed(0)).double())
    assert (one != two).all()


def test_the_largest_of_the_last_numbers_is_the_choice_and_every_choice_is_as_likely():
    z = torch.randn(6000, 9, 1, 1, generator=torch.Generator().manual_seed(0))
    code = models.CategoricalCode(6)(z)
    assert torch.equal(code[:, :3], z[:, :3])
    assert torch.equal(code[:, 3:].argmax(1), z[:, 3:].argmax(1))
    assert code[:, 3:].unique().tolist() == [0, models.CHOSEN]
    chosen = code[:, 3:, 0, 0].argmax(1).bincount(minlength=6)
    assert (chosen - 1000).abs().max() < 4 * (6000 * 5 / 36) ** 0.5  # standard deviations
    assert "CategoricalCode" in str(models.CategoricalCode(6)) and "(6)" in str(models.CategoricalCode(6))


def test_between_two_choices_there_is_nothing():
    z = torch.zeros(2, 4, 1, 1)
    z[:, 1] = 1.0
    z[:, 2] = torch.tensor([0.999, 1.001])[:, None, None]
    one, other = models.dcgan_generator(8, 1, 4, z_dim=4, categories=3).eval()(z[:, :, 0, 0])
    with_choice = (one - other).abs().max()
    one, other = models.dcgan_generator(8, 1, 4, z_dim=4).eval()(z[:, :, 0, 0])
    assert with_choice > 100 * (one - other).abs().max() > 0


def test_a_choice_has_the_gradient_of_a_softmax():
    z = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weight = torch.arange(10.0).view(2, 5)
    (found,) = torch.autograd.grad((weight * models.CategoricalCode(3)(z)).sum(), z)
    soft = torch.cat([z[:, :2], models.CHOSEN * z[:, 2:].softmax(1)], 1)
    (expected,) = torch.autograd.grad((weight * soft).sum(), z)
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("categories", [1, -1, 4, 5])
def test_categories_that_z_has_no_room_for_get_a_sentence(categories):
    with pytest.raises(ValueError, match=f"categories={categories}, but must be 0, or .* below z_dim=4"):
        models.dcgan_generator(8, 1, 4, z_dim=4, categories=categories)


def test_z_of_the_wrong_shape_gets_a_sentence():
    generator = models.dcgan_generator(28, 1, 4, z_dim=16)
    for z in (torch.randn(2, 15), torch.randn(16), torch.randn(2, 16, 1, 1)):
        with pytest.raises(ValueError, match=r"z has shape .*takes \[B, 16\]"):
            generator(z)


def test_images_of_the_wrong_size_get_a_sentence():
    with pytest.raises(ValueError, match=r"\[2, 1, 32, 32\].*takes \[B, 1, 28, 28\]"):
        models.dcgan_discriminator(28, 1, 4)(torch.zeros(2, 1, 32, 32))


def test_describe_prints_shapes_and_counts_and_changes_nothing(capsys):
    generator = models.dcgan_generator(28, 1, 4, z_dim=16)
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    models.describe(generator, (16,))
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["input", "16"]
    assert printed[1].split() == ["ConvTranspose2d", "3x3", "16", "x", "3", "x", "3", "2,304"]
    assert printed[-1].split() == ["parameters", f"{models.count_parameters(generator):,}"]
    assert generator.training
    assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())
    assert not any(m._forward_hooks for m in generator.modules())
