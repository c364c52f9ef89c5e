"""The faster ways: the same numbers and gradients as PyTorch's, only where they are meant for."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ganlib import GAN, ImageSet, fit, models, steps
from ganlib._runtime import kernels
from ganlib._runtime.kernels import FasterKernels
from ganlib.runs import Run
from helpers import noise

LAYERS = [  # each with the shape that comes in, and whether there is another way for it
    (nn.Conv2d(6, 5, 4, 2, 1), (3, 6, 8, 8), True),
    (nn.Conv2d(6, 5, 4, 2, 1, bias=False), (3, 6, 7, 8), True),
    (nn.Conv2d(6, 1, 4), (3, 6, 4, 4), True),
    (nn.Conv2d(2, 3, 3, padding=1), (2, 2, 4, 4), True),
    (nn.Conv2d(2, 3, 4, 2, 1), (2, 2, 7, 7), True),
    (nn.Conv2d(2, 3, 1), (2, 2, 4, 3), True),
    (nn.ConvTranspose2d(7, 5, 4, bias=False), (3, 7, 1, 1), True),
    (nn.ConvTranspose2d(6, 5, 4, 2, 1), (3, 6, 4, 4), True),
    (nn.ConvTranspose2d(6, 5, 4, 2, 1, output_padding=1), (3, 6, 3, 3), True),
    (nn.ConvTranspose2d(3, 2, 4, 2, 1), (2, 3, 5, 6), True),  # a large map: its bias alone is added another way
    (nn.ConvTranspose2d(3, 2, 4, (2, 1), 1), (2, 3, 3, 3), True),
    (nn.ConvTranspose2d(6, 5, 3, 1, 1), (3, 6, 4, 4), True),
    (nn.Conv2d(2, 3, 4, 2, 1), (2, 2, 16, 16), False),
    (nn.ConvTranspose2d(2, 3, 4, 2, 1, bias=False), (2, 2, 5, 5), False),
    (nn.Conv2d(2, 4, 3, padding=1, groups=2), (2, 2, 4, 4), False),
    (nn.Conv2d(2, 3, 3, 2, 1), (2, 2, 7, 7), False),
    (nn.Conv2d(2, 4, 3, padding=2, dilation=2), (2, 2, 4, 4), False),
    (nn.Conv2d(2, 4, 3, padding="same"), (2, 2, 4, 4), False),
    (nn.Conv2d(2, 4, (3, 1), padding=(1, 0)), (2, 2, 4, 4), False),
    (nn.Conv2d(2, 4, 3, stride=(1, 2), padding=1), (2, 2, 4, 4), False),
    (nn.Conv2d(2, 4, 3, padding=1), (2, 4, 4), False),
    (nn.ConvTranspose2d(2, 4, 3, 2, output_padding=(1, 0), bias=False), (2, 2, 4, 4), False),
    (nn.Dropout(0.3).eval(), (2, 2, 4, 4), False),
    (nn.Dropout(0), (2, 2, 4, 4), False),
    (nn.Dropout(0.3, inplace=True).eval(), (2, 2, 4, 4), False),
]


def counted(monkeypatch):
    """For each call that could have gone another way, whether it did."""
    made = []

    def spying(other):
        return lambda *args, **kwargs: (found := other(*args, **kwargs), made.append(found is not None))[0]

    monkeypatch.setattr(kernels, "INSTEAD", {name: spying(other) for name, other in kernels.INSTEAD.items()})
    return made


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("layer", "shape", "another"), LAYERS)
def test_a_product_is_its_convolution_and_so_are_both_derivatives(layer, shape, another, layout, monkeypatch):
    layer = layer.double().to(memory_format=layout)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()
    x = (x.to(memory_format=layout) if x.ndim == 4 else x).requires_grad_()

    def all_of_it():
        y, weights = layer(x), [x, *layer.parameters()]
        gradients = torch.autograd.grad(y.pow(3).sum(), weights, create_graph=True)
        return [y, *gradients, *torch.autograd.grad(gradients[0].square().sum(), weights[:2])]

    expected, made = all_of_it(), counted(monkeypatch)
    with FasterKernels():
        found = all_of_it()
    assert made == [another]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_product_takes_names_is_in_one_piece_and_obeys_autocast(monkeypatch):
    x, w, made = torch.randn(2, 3, 4, 4), torch.randn(3, 3, 4, 4), counted(monkeypatch)
    how = dict(weight=w, bias=torch.zeros(3), stride=2, padding=1)
    for name in ("conv2d", "conv_transpose2d"):
        plain, made[:] = getattr(F, name)(input=x, **how), []
        with FasterKernels():
            found = getattr(F, name)(input=x, **how)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                half = getattr(F, name)(input=x, **how)
        assert made == [True, True] and half.dtype == torch.bfloat16
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(half.float(), plain, rtol=0.05, atol=0.2)


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(2, 3, 3), nn.Conv2d(4, 3, 5)])
def test_what_does_not_fit_is_told_by_torch(layer):
    with FasterKernels(), pytest.raises(RuntimeError, match=r"expected input|Kernel size"):
        layer(torch.zeros(1, 4, 4, 4))


@pytest.mark.parametrize("rate", [1e-6, 0.01, 0.3, 0.5, 0.99, 1 - 1e-6])
@pytest.mark.parametrize("layout", ["all", "last", "part", "expanded", "odd", "none"])
def test_dropout_of_any_rate_and_layout(rate, layout):
    x = torch.ones(60, 3, 20, 20)
    x = {
        **{"all": x, "last": x.to(memory_format=torch.channels_last), "part": x[:, :, 1:, ::2]},
        **{"expanded": x[:1].expand_as(x), "odd": x[0, 0, 0, :7], "none": x[:0]},
    }[layout].requires_grad_()
    with FasterKernels():
        drawn = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            drawn.append(F.dropout(input=x, p=rate))
    y = drawn[0]
    assert torch.equal(y, drawn[1]) and y.shape == x.shape
    if x.numel() > 7:
        assert not 0.01 <= rate <= 0.99 or not torch.equal(y, drawn[2])
        assert y.max().item() in (0, pytest.approx(1 / (1 - rate), rel=1e-3)) and len(y.unique()) <= 2
        assert torch.equal(torch.autograd.grad(y.sum(), x)[0], y.detach())
        zero, spread = (y == 0).double(), (rate * (1 - rate) / x.numel()) ** 0.5
        assert zero.mean().item() == pytest.approx(rate, abs=4 * spread + 2**-16)
        # What is dropped says nothing of what is dropped beside it, in any direction.
        for dim in range(4):
            one, other = (zero.narrow(dim, start, x.shape[dim] - 1) for start in (0, 1))
            together = (one * other).mean() - one.mean() * other.mean()
            assert abs(together.item()) < 0.05 * rate * (1 - rate) + 2**-15


def test_a_large_network_is_trained_with_products_to_the_same_weights(monkeypatch):
    images, weights = ImageSet(noise(24, 3, 32), None, (), "noise", "noise"), []
    for smallest in (0, 10**9):
        monkeypatch.setattr(kernels, "LARGE_NETWORK", smallest)
        made = counted(monkeypatch)
        networks = models.dcgan_generator(32, 3, 24, 16), models.dcgan_discriminator(32, 3, 24)
        gan = GAN(*networks, *[torch.optim.SGD(m.parameters(), 1e-3) for m in networks], z_dim=16)
        fit(gan, steps.dcgan_step, images, steps=3, batch_size=8, precision="fp32", watchers=())
        assert sum(made) == (0 if smallest else 3 * 9)  # a step: two layers of D thrice, three of G once
        weights.append([*gan.generator.parameters(), *gan.discriminator.parameters()])
    for mine, theirs in zip(*weights, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5, check_stride=False)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_with_every_fast_way_on_a_run_can_be_repeated_and_resumed(precision, monkeypatch, tmp_path):
    monkeypatch.setattr(kernels, "LARGE_NETWORK", 0)
    images = ImageSet(noise(40, 1, 28), None, (), "noise", "noise")
    step = functools.partial(steps.dcgan_r1_step, r1_every=3)

    def weights_after(*lengths, folder=None):
        for length in lengths:
            layers = [nn.Conv2d(1, 4, 4, 4), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Conv2d(4, 4, 4, 2, 1)]
            layers += [nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3), nn.Flatten(0)]
            networks = models.dcgan_generator(28, 1, 4, 8), models.initialise(nn.Sequential(*layers), 1)
            gan = GAN(*networks, *[torch.optim.Adam(m.parameters(), 1e-3) for m in networks], z_dim=8)
            run = folder and Run(folder, resume=True)
            fit(gan, step, images, steps=length, batch_size=8, precision=precision, watchers=(), run=run)
        return [v for m in (gan.generator, gan.discriminator, gan.ema_generator) for v in m.state_dict().values()]

    once = weights_after(5)
    assert all(map(torch.equal, once, weights_after(5)))
    assert all(map(torch.equal, once, weights_after(2, 5, folder=tmp_path / "run")))
