"""The networks: DCGAN for any image size and its relatives, and a look inside.

A generator maps latent vectors z [B, z_dim] to images [B, C, H, W] in [-1, 1]; a discriminator maps such images to one
logit each, [B], with no sigmoid. The builders share these arguments; a ValueError names an invalid one:

    image_size  side of the square images, pixels        channels  colour channels of the images
    width       channels of the hidden map next to the image; each map further in has twice as many, up to 8 x width
    z_dim       size of the latent vector                seed      of the initial weights
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from itertools import pairwise

import torch
from torch import Tensor, nn

from ganlib import residual
from ganlib._runtime.checks import check_whole
from ganlib._runtime.inside import count_parameters, describe, outputs  # noqa: F401 - they belong here, too
from ganlib._runtime.randomness import rng, seeded
from ganlib._runtime.weights import Network
from ganlib._runtime.weights import load_strict as load_strict

LEAK = 0.2  # slope of LeakyReLU below zero, Radford et al. 2015, section 4
CHOSEN = 3.0  # the value of the chosen entry of a CategoricalCode; 2, 4 and 6 were worse (benchmarks/README.md)


class Generator(Network):
    """A network from latent vectors [B, z_dim] to images [B, C, H, W] in [-1, 1]."""

    def __init__(self, layers: Iterable[nn.Module], z_dim: int, config: dict):
        super().__init__(layers, [z_dim], config)
        self.z_dim = z_dim

    def forward(self, z: Tensor) -> Tensor:
        self.check(z)
        return super().forward(z[:, :, None, None])


class Discriminator(Network):
    """A network from images [B, C, H, W] in [-1, 1] to one logit each, [B]."""

    def __init__(self, layers: Iterable[nn.Module], image_size: int, channels: int, config: dict):
        super().__init__(layers, [channels, image_size, image_size], config)

    def forward(self, images: Tensor) -> Tensor:
        self.check(images)
        return super().forward(images).flatten()


class CategoricalCode(nn.Module):
    """The last ``k`` numbers of z [B, z_dim, ...] as a choice.

    The largest becomes CHOSEN, the others 0. A generator is continuous: if all of z is as well, every path from a 3 to
    a 7 passes images that are neither, and some z lie there. Between two choices there is nothing. As all
    z_i ~ N(0, 1), each choice is equally likely. The gradient is that of a softmax, so that z can be optimised
    (straight-through: Bengio et al. 2013, arXiv:1308.3432).

    Source: the categorical code of Chen et al. 2016 (InfoGAN), arXiv:1606.03657, section 7.2, but without its loss;
    Khayatkhoei et al. 2018, arXiv:1806.00880, explain why a connected z is not enough.
    """

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def forward(self, z: Tensor) -> Tensor:
        numbers, rivals = z.split([z.shape[1] - self.k, self.k], 1)
        code = torch.zeros_like(rivals).scatter_(1, rivals.argmax(1, keepdim=True), CHOSEN)
        if rivals.requires_grad:
            soft = CHOSEN * rivals.softmax(1)
            code = code + soft - soft.detach()
        return torch.cat([numbers, code], 1)


def dcgan_generator(image_size=64, channels=3, width=64, z_dim=100, *, base=4, categories=0, seed=0) -> Generator:
    """The DCGAN generator: a small map doubled in size by transposed convolutions.

    A kernel (4) divisible by its stride covers every output pixel equally often, so there is no checkerboard (Odena et
    al. 2016, doi:10.23915/distill.00003). ReLU and BatchNorm everywhere but on the output, which is a tanh.

    Args:
        image_size: 8 or more.
        base: largest side of the smallest map, pixels: 28 goes 28-14-7-3 with 4, and 28-14-7 with 7.
        categories: how many of the last numbers of z are a :class:`CategoricalCode`; 0 for none.

    Source: Radford et al. 2015, arXiv:1511.06434, section 3 and figure 1 (which has width 128 at 64 pixels).
    """
    config = {"kind": "dcgan", **locals()}  # the arguments as given
    if categories and not 2 <= categories < z_dim:
        raise ValueError(f"categories={categories}, but must be 0, or at least 2 and below z_dim={z_dim}.")
    *sides, first = _sides(image_size, base, channels=channels, width=width, z_dim=z_dim)  # such as 64, 32, 16, 8, 4
    maps = [width * min(2**k, 8) for k in reversed(range(len(sides)))]
    layers = [CategoricalCode(categories)] if categories else []
    layers += _block(nn.ConvTranspose2d(z_dim, maps[0], first, bias=False))
    for side, (before, after) in zip(sides[:0:-1], pairwise(maps), strict=True):
        layers += _block(nn.ConvTranspose2d(before, after, 4, 2, 1, output_padding=side % 2, bias=False))
    layers += [nn.ConvTranspose2d(width, channels, 4, 2, 1, output_padding=image_size % 2), nn.Tanh()]
    return initialise(Generator(layers, z_dim, config), seed)


def dcgan_discriminator(image_size=64, channels=3, width=64, *, base=4, norm="batch", depth=1, seed=0) -> Discriminator:
    """The DCGAN discriminator: strided convolutions down to a small map and a logit.

    LeakyReLU throughout, and normalisation everywhere except on the input layer and the output. With BatchNorm an
    image's logit depends on its whole batch; a Wasserstein critic and every penalty on gradients need another ``norm``.

    Args:
        image_size, base: as in :func:`dcgan_generator`.
        norm: ``"batch"``; ``"none"``; ``"layer"`` (over the whole map of each image, with a scale and a shift for
            each channel); ``"instance"`` (over each channel of each image); or ``"spectral"``, which divides every
            layer's weights by their largest singular value (Miyato et al. 2018, arXiv:1802.05957).
        depth: convolutions from one size to the next, 1 or more, except for the first halving: all but the last are
            3x3 and keep the size.

    Source: Radford et al. 2015, arXiv:1511.06434, section 3.
    """
    config = {"kind": "dcgan", **locals()}
    if norm not in NORMS:
        raise ValueError(f"norm is '{norm}', but must be one of: {', '.join(NORMS)}.")
    if depth < 1:
        raise ValueError(f"depth={depth}, but a discriminator has at least 1 convolution from one size to the next.")
    *sides, last = _sides(image_size, base, channels=channels, width=width)
    maps = [width * min(2**k, 8) for k in range(len(sides))]
    layers = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(LEAK, inplace=True)]
    for before, after in pairwise(maps):
        for n, shape in [(before, (3, 1, 1))] * (depth - 1) + [(after, (4, 2, 1))]:
            layers += _block(nn.Conv2d(before, n, *shape, bias=NORMS[norm] is None), LEAK, NORMS[norm])
    layers += [nn.Conv2d(maps[-1], 1, last)]
    discriminator = initialise(Discriminator(layers, image_size, channels, config), seed)
    if norm == "spectral":
        with seeded(seed, torch.device("cpu")):  # the first singular vectors are drawn from the global generator
            for layer in discriminator:
                if isinstance(layer, nn.Conv2d):
                    nn.utils.parametrizations.spectral_norm(layer)
    return discriminator


# name -> the layer that normalises n channels after a convolution of a discriminator
NORMS = {
    "batch": nn.BatchNorm2d,
    "none": None,
    "layer": lambda n: nn.GroupNorm(1, n),
    "instance": lambda n: nn.InstanceNorm2d(n, affine=True),
    "spectral": None,
}


def _block(layer: nn.Module, leak: float = 0.0, norm=nn.BatchNorm2d) -> list[nn.Module]:
    """A convolution, a norm (which would subtract a bias), a ReLU or LeakyReLU."""
    # In place: the same numbers in half the memory. That is safe, as nothing else reads the input.
    activation = nn.LeakyReLU(leak, inplace=True) if leak else nn.ReLU(inplace=True)
    return [layer, *([norm(layer.out_channels)] if norm else []), activation]


def _sides(image_size: int, base: int, **others: int) -> list[int]:
    """The sides of the maps, from the image on, halved down to ``base`` or less."""
    check_whole(image_size=image_size, base=base, **others)
    if image_size < 8:
        raise ValueError(f"image_size={image_size}, but a DCGAN can be built for 8 pixels and more.")
    if not 2 <= base < image_size:
        raise ValueError(f"base={base}, but the smallest map has at least 2 pixels and fewer than {image_size}.")
    sides = [image_size]
    while sides[-1] > base:
        sides.append(sides[-1] // 2)
    return sides


def linear_generator(image_size=32, channels=3, width=64, z_dim=100, *, seed=0) -> Generator:
    """A generator with a linear projection first and an ordinary convolution last.

    z -> Linear -> 4w maps at an eighth of the size, three transposed convolutions that double it (2w, w, w/2 maps), a
    3x3 convolution to the image. ``image_size`` is a multiple of 8; w is ``width``, at half that size, and even.

    Source: after Miyato et al. 2018, arXiv:1802.05957, table 3; narrower there than here by the first map's 512.
    """
    config = {"kind": "linear", **locals()}
    side, maps = _eighth(image_size, width), (4 * width, 2 * width, width, width // 2)
    layers = [nn.Flatten(), nn.Linear(z_dim, maps[0] * side * side, bias=False)]
    layers += [nn.Unflatten(1, (maps[0], side, side)), nn.BatchNorm2d(maps[0]), nn.ReLU(inplace=True)]
    for before, after in pairwise(maps):
        layers += _block(nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False))
    layers += [nn.Conv2d(maps[-1], channels, 3, 1, 1), nn.Tanh()]
    return initialise(Generator(layers, z_dim, config), seed)


def linear_discriminator(image_size=32, channels=3, width=64, *, seed=0) -> Discriminator:
    """Its mirror image: a 3x3 convolution, three strided ones, a linear layer."""
    config = {"kind": "linear", **locals()}
    side, maps = _eighth(image_size, width), (width // 2, width, 2 * width, 4 * width)
    layers = [nn.Conv2d(channels, maps[0], 3, 1, 1), nn.LeakyReLU(LEAK, inplace=True)]
    for before, after in pairwise(maps):
        layers += _block(nn.Conv2d(before, after, 4, 2, 1, bias=False), LEAK)
    layers += [nn.Flatten(), nn.Linear(maps[-1] * side * side, 1)]
    return initialise(Discriminator(layers, image_size, channels, config), seed)


def _eighth(image_size: int, width: int) -> int:
    if image_size < 8 or image_size % 8:
        raise ValueError(f"image_size={image_size}, but the linear networks halve it three times: use a multiple of 8.")
    if width < 2 or width % 2:
        raise ValueError(f"width={width}, but the linear networks need an even one: their outermost maps have half.")
    return image_size // 8


def pooled_generator(z_dim=100, seed=0) -> Generator:
    """The generator of 28-pixel digits in many tutorials.

    z_dim -> 256@7 -> 128@14 -> 64@28 -> 32@28 -> 1@28, kernels 7, 4, 4, 3, 3; 1,929,921 parameters at z_dim 100.
    """
    config = {"kind": "pooled", **locals()}
    shapes = (z_dim, 256, 7, 1, 0), (256, 128, 4, 2, 1), (128, 64, 4, 2, 1), (64, 32, 3, 1, 1)
    layers = [layer for shape in shapes for layer in _block(nn.ConvTranspose2d(*shape))]
    return initialise(Generator([*layers, nn.ConvTranspose2d(32, 1, 3, 1, 1), nn.Tanh()], z_dim, config), seed)


def pooled_discriminator(seed=0) -> Discriminator:
    """Its discriminator, a classifier's layout: max-pooling, dropout, linear layers.

    9,942,401 parameters. Four 3x3 convolutions 64-128-256-512 with BatchNorm and LeakyReLU, max-pooling and dropout 0.3
    between them (28 -> 14 -> 7 -> 4), then Linear 8192 -> 1024 -> 1: 84% of the parameters are in the first of these.
    """
    config = {"kind": "pooled", **locals()}
    layers = _block(nn.Conv2d(1, 64, 3, 1, 1), LEAK)
    for n in (64, 128, 256):
        layers += [nn.MaxPool2d(2, ceil_mode=True), nn.Dropout(0.3), *_block(nn.Conv2d(n, 2 * n, 3, 1, 1), LEAK)]
    layers += [nn.Flatten(), nn.Linear(8192, 1024), nn.LeakyReLU(LEAK, inplace=True), nn.Linear(1024, 1)]
    return initialise(Discriminator(layers, 28, 1, config), seed)


def residual_generator(image_size=32, channels=3, width=32, z_dim=64, *, blocks=1, seed=0) -> Generator:
    """A small R3GAN's generator: residual blocks, bilinear doublings, no normalisation.

    Args:
        image_size: 4, 5, 6 or 7 times a power of 2, from 8 on; ``width`` is a multiple of 8.
        blocks: at each size below the image's own; the paper has 2 there and at its own.

    Source: Huang et al. 2024, arXiv:2501.05441, section 3, config E; see :mod:`ganlib.residual`.
    """
    config = {"kind": "residual", **locals()}
    return Generator(residual.upwards(image_size, channels, width, z_dim, blocks, rng(seed)), z_dim, config)


def residual_discriminator(image_size=32, channels=3, width=32, *, blocks=1, seed=0) -> Discriminator:
    """Its mirror image: halving bilinearly is taking the mean of each four pixels."""
    config = {"kind": "residual", **locals()}
    layers = residual.downwards(image_size, channels, width, blocks, rng(seed))
    return Discriminator(layers, image_size, channels, config)


def mlp_generator(z_dim=2, width=64, seed=0, *, depth=2) -> nn.Sequential:
    """Latent vectors [B, z_dim] to points [B, 2]; ``depth`` hidden layers of ReLUs."""
    return he_normal(nn.Sequential(*_hidden([z_dim, *[width] * depth], nn.ReLU), nn.Linear(width, 2)), seed)


def mlp_discriminator(width=64, seed=0, *, depth=2) -> nn.Sequential:
    """Points [B, 2] to one logit each, [B]; ``depth`` hidden layers of LeakyReLUs."""
    layers = _hidden([2, *[width] * depth], lambda: nn.LeakyReLU(LEAK))
    return he_normal(nn.Sequential(*layers, nn.Linear(width, 1), nn.Flatten(0)), seed)


def _hidden(sizes, activation) -> list[nn.Module]:
    return [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), activation())]


def _late(name: str):  # ganlib.conditional builds upon this module
    return lambda **config: getattr(import_module("ganlib.conditional"), name)(**config)


# kind, as named in a network's config -> (generator, discriminator)
BUILDERS = {
    "conditional": (_late("conditional_generator"), _late("conditional_discriminator")),
    "dcgan": (dcgan_generator, dcgan_discriminator),
    "linear": (linear_generator, linear_discriminator),
    "pooled": (pooled_generator, pooled_discriminator),
    "residual": (residual_generator, residual_discriminator),
}
Generator.builders, Discriminator.builders = ({kind: pair[k] for kind, pair in BUILDERS.items()} for k in (0, 1))


def initialise(model: nn.Module, seed: int) -> nn.Module:
    """Draw the weights of ``model`` as DCGAN does, in place, and return it.

    N(0, 0.02) for convolutions and linear layers; N(1, 0.02) for the scale of BatchNorm and its kin (around 1, not 0: a
    scale near 0 switches the layer off); 0 for every bias.

    Source: Radford et al. 2015, arXiv:1511.06434, section 4; the BatchNorm scale from the authors' code.
    """
    draw = rng(seed)
    for layer in model.modules():
        scales = isinstance(layer, nn.BatchNorm2d | nn.GroupNorm | nn.InstanceNorm2d)
        if scales or isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 1.0 if scales else 0.0, 0.02, generator=draw)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return model


def he_normal(model: nn.Module, seed: int) -> nn.Module:
    """Draw the weights of linear layers N(0, 2 / inputs), in place; biases are 0.

    Signals keep their size. Source: He et al. 2015, arXiv:1502.01852, eq. (10).
    """
    draw = rng(seed)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, (2 / layer.in_features) ** 0.5, generator=draw)
            nn.init.zeros_(layer.bias)
    return model
