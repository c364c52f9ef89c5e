"""The faster ways: the same numbers and gradients as PyTorch's, only where they are meant for."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ganlib import models, steps, train
from ganlib._runtime import kernels
from ganlib._runtime.kernels import FasterKernels
from ganlib.data.loading import ImageSet

LAYERS = {  # each with the shape that comes in
    "halving to 4x4": (nn.Conv2d(6, 5, 4, 2, 1), (3, 6, 8, 8)),
    "halving, no bias": (nn.Conv2d(6, 5, 4, 2, 1, bias=False), (3, 6, 7, 8)),
    "the whole map": (nn.Conv2d(6, 1, 4), (3, 6, 4, 4)),
    "3x3 at 4x4": (nn.Conv2d(2, 3, 3, padding=1), (2, 2, 4, 4)),
    "halving to 3x3": (nn.Conv2d(2, 3, 4, 2, 1), (2, 2, 7, 7)),
    "1x1": (nn.Conv2d(2, 3, 1), (2, 2, 4, 3)),
    "from z": (nn.ConvTranspose2d(7, 5, 4, bias=False), (3, 7, 1, 1)),
    "doubling from 4x4": (nn.ConvTranspose2d(6, 5, 4, 2, 1), (3, 6, 4, 4)),
    "doubling to an odd side": (nn.ConvTranspose2d(6, 5, 4, 2, 1, output_padding=1), (3, 6, 3, 3)),
    "doubling a large map": (nn.ConvTranspose2d(3, 2, 4, 2, 1), (2, 3, 5, 6)),
    "doubling to unlike sides": (nn.ConvTranspose2d(3, 2, 4, (2, 1), 1), (2, 3, 3, 3)),
    "transposed 3x3": (nn.ConvTranspose2d(6, 5, 3, 1, 1), (3, 6, 4, 4)),
}


def counted(monkeypatch):
    """For each call that could have gone another way, whether it did."""
    made = []

    def spying(other):
        def run(*args, **kwargs):
            found = other(*args, **kwargs)
            made.append(found is not None)
            return found

        return run

    monkeypatch.setattr(kernels, "INSTEAD", {name: spying(other) for name, other in kernels.INSTEAD.items()})
    return made


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", LAYERS)
def test_a_product_is_its_convolution_and_so_are_both_derivatives(name, layout, monkeypatch):
    layer, shape = LAYERS[name]
    layer = layer.double().to(memory_format=layout)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double().to(memory_format=layout)
    x.requires_grad_()

    def all_of_it():
        y = layer(x)
        weights = [x, *layer.parameters()]
        gradients = torch.autograd.grad(y.pow(3).sum(), weights, create_graph=True)
        second = torch.autograd.grad(gradients[0].square().sum(), weights[:2])
        return [y, *gradients, *second]

    expected, made = all_of_it(), counted(monkeypatch)
    with FasterKernels():
        found = all_of_it()
    assert made == [True]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(2, 3, 4, 2, 1), (2, 2, 16, 16)),
        (nn.ConvTranspose2d(2, 3, 4, 2, 1, bias=False), (2, 2, 5, 5)),
        (nn.Conv2d(2, 4, 3, padding=1, groups=2), (2, 2, 4, 4)),
        (nn.Conv2d(2, 3, 3, 2, 1), (2, 2, 7, 7)),
        (nn.Conv2d(2, 4, 3, padding=2, dilation=2), (2, 2, 4, 4)),
        (nn.Conv2d(2, 4, 3, padding="same"), (2, 2, 4, 4)),
        (nn.Conv2d(2, 4, (3, 1), padding=(1, 0)), (2, 2, 4, 4)),
        (nn.Conv2d(2, 4, 3, stride=(1, 2), padding=1), (2, 2, 4, 4)),
        (nn.Conv2d(2, 4, 3, padding=1), (2, 4, 4)),
        (nn.ConvTranspose2d(2, 4, 3, 2, output_padding=(1, 0), bias=False), (2, 2, 4, 4)),
        (nn.Dropout(0.3).eval(), (2, 2, 4, 4)),
        (nn.Dropout(0), (2, 2, 4, 4)),
        (nn.Dropout(0.3, inplace=True).eval(), (2, 2, 4, 4)),
    ],
)
def test_other_convolutions_are_left_alone(layer, shape, monkeypatch):
    made, x = counted(monkeypatch), torch.randn(shape)
    with FasterKernels():
        found = layer(x)
    assert made == [False]
    assert torch.equal(found, layer(x))


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(2, 3, 3), nn.Conv2d(4, 3, 5)])
def test_what_does_not_fit_is_told_by_torch(layer):
    with FasterKernels(), pytest.raises(RuntimeError, match=r"expected input|Kernel size"):
        layer(torch.zeros(1, 4, 4, 4))


def test_arguments_may_be_given_by_name(monkeypatch):
    x, w, made = torch.randn(2, 3, 4, 4), torch.randn(3, 3, 4, 4), counted(monkeypatch)
    how = dict(weight=w, bias=torch.zeros(3), stride=2, padding=1)
    plain = [F.conv2d(input=x, **how), F.conv_transpose2d(input=x, **how)]
    with FasterKernels():
        found = [F.conv2d(input=x, **how), F.conv_transpose2d(input=x, **how)]
        assert F.dropout(input=x, p=0.5, training=True).shape == x.shape
    assert made == [True] * 3
    for mine, theirs in zip(found, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_under_autocast_a_product_is_in_bfloat16_too():
    layer, x = nn.Conv2d(6, 5, 4, 2, 1), torch.randn(3, 6, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = layer(x)
        with FasterKernels():
            found = layer(x)
    assert found.dtype == plain.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), F.conv2d(x, layer.weight, layer.bias, 2, 1), rtol=0.05, atol=0.02)


def test_dropout_keeps_as_many_and_scales_them_in_training_only():
    x = torch.ones(100, 3, 20, 20, requires_grad=True).to(memory_format=torch.channels_last)
    with FasterKernels():
        torch.manual_seed(0)
        y, other = nn.Dropout(0.3)(x), nn.Dropout(0.3)(x)
        torch.manual_seed(0)
        again = nn.Dropout(0.3)(x)
    assert torch.equal(y, again) and not torch.equal(y, other)
    assert y.stride() == x.stride()
    assert y.unique().tolist() == [0, pytest.approx(1 / 0.7)]
    assert (y > 0).double().mean().item() == pytest.approx(0.7, abs=4 * (0.3 * 0.7 / x.numel()) ** 0.5)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y)


@pytest.mark.parametrize("rate", [1e-6, 0.01, 0.5, 0.99, 1 - 1e-6])
@pytest.mark.parametrize("layout", ["whole", "part", "expanded", "odd", "none"])
def test_dropout_of_any_rate_and_layout(rate, layout):
    x = torch.ones(60, 3, 20, 20)
    x = {"whole": x, "part": x[:, :, 1:, ::2], "expanded": x[:1].expand_as(x), "odd": x[0, 0, 0, :7], "none": x[:0]}[
        layout
    ]
    with FasterKernels():
        torch.manual_seed(0)
        y = F.dropout(x, rate)
    assert y.shape == x.shape and y.isfinite().all()
    if x.numel() > 7:
        zero = (y == 0).double()
        spread = (rate * (1 - rate) / x.numel()) ** 0.5
        assert zero.mean().item() == pytest.approx(rate, abs=4 * spread + 2**-16)
        # What is dropped says nothing of what is dropped beside it, in any direction.
        for dim in range(4):
            one, other = (zero.narrow(dim, start, x.shape[dim] - 1) for start in (0, 1))
            together = (one * other).mean() - one.mean() * other.mean()
            assert abs(together.item()) < 0.05 * rate * (1 - rate) + 2**-15


def test_what_a_product_gives_is_in_one_piece():
    x, layer = torch.randn(2, 6, 4, 4), nn.ConvTranspose2d(6, 5, 4, 2, 1)
    with FasterKernels():
        assert layer(x).is_contiguous(memory_format=torch.channels_last)


def large_gan():
    generator, discriminator = models.dcgan_generator(32, 3, 96, 16), models.dcgan_discriminator(32, 3, 96)
    sgd = [torch.optim.SGD(m.parameters(), 1e-3) for m in (generator, discriminator)]
    return steps.GAN(generator, discriminator, *sgd, z_dim=16)


def test_a_large_network_is_trained_with_products_to_the_same_weights(monkeypatch):
    pixels = torch.randint(0, 256, (24, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images, weights = ImageSet(pixels, None, (), "noise", "noise"), []
    for smallest in (0, 10**9):
        monkeypatch.setattr(kernels, "LARGE_NETWORK", smallest)
        gan, made = large_gan(), counted(monkeypatch)
        train.fit(gan, steps.dcgan_step, images, steps=3, batch_size=8, precision="fp32", progress=False)
        assert sum(made) == (0 if smallest else 3 * 9)  # a step: two layers of D thrice, three of G once
        weights.append([*gan.generator.parameters(), *gan.discriminator.parameters()])
    for mine, theirs in zip(*weights, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5, check_stride=False)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_with_every_fast_way_on_a_run_can_be_repeated_and_gone_on_with(precision, monkeypatch, tmp_path):
    monkeypatch.setattr(kernels, "LARGE_NETWORK", 0)
    pixels = torch.randint(0, 256, (40, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = ImageSet(pixels, None, (), "noise", "noise")
    step = functools.partial(steps.dcgan_r1_step, r1_every=3)

    def run(*lengths, out=None):
        for length in lengths:
            generator = models.dcgan_generator(28, 1, 4, 8)
            layers = [nn.Conv2d(1, 4, 4, 4), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Conv2d(4, 4, 4, 2, 1)]
            layers += [nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3), nn.Flatten(0)]
            discriminator = models.initialise(nn.Sequential(*layers), 1)
            adam = [torch.optim.Adam(m.parameters(), 1e-3) for m in (generator, discriminator)]
            gan = steps.GAN(generator, discriminator, *adam, z_dim=8)
            how = dict(batch_size=8, precision=precision, progress=False, out=out, resume=out is not None)
            train.fit(gan, step, images, steps=length, **how)
        return [v for m in (gan.generator, gan.discriminator, gan.ema_generator) for v in m.state_dict().values()]

    whole = run(5)
    assert all(map(torch.equal, whole, run(5)))
    assert all(map(torch.equal, whole, run(2, 5, out=tmp_path / "run")))
