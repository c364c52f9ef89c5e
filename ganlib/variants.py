"""Other architectures to hold against the DCGAN: linear ends, a classifier's pooling, one generator a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ganlib.models import LEAK, Discriminator, Generator, initialise


def linear_generator(
    image_size: int = 32, channels: int = 3, width: int = 64, z_dim: int = 100, *, seed: int = 0
) -> Generator:
    """A generator that begins with a linear projection and ends with an ordinary convolution.

    z_dim -> Linear -> 4w maps at an eighth of the size, three transposed convolutions that double it (2w, w, w/2
    maps), one 3x3 convolution to the image. The ends of SNGAN's plain network.

    Args:
        image_size: side of the square images, pixels, a multiple of 8.
        channels: colour channels of the images.
        width: channels of the map at half the image's size; even.
        z_dim: size of the latent vector.
        seed: of the initial weights.

    Returns:
        network [B, z_dim] -> [B, channels, image_size, image_size] in [-1, 1].

    Raises:
        ValueError: if ``image_size`` is no multiple of 8 or ``width`` is odd.

    Source: after Miyato et al. 2018, arXiv:1802.05957, table 3; narrower there than here by the first map's 512.
    """
    side = _eighth(image_size, width)
    config = dict(kind="linear", image_size=image_size, channels=channels, width=width, z_dim=z_dim, seed=seed)
    maps = (4 * width, 2 * width, width, width // 2)
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(z_dim, maps[0] * side * side, bias=False)]
    layers += [nn.Unflatten(1, (maps[0], side, side)), nn.BatchNorm2d(maps[0]), nn.ReLU(inplace=True)]
    for before, after in zip(maps, maps[1:], strict=False):
        layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    layers += [nn.Conv2d(maps[-1], channels, 3, 1, 1), nn.Tanh()]
    return initialise(Generator(layers, z_dim, config), seed)


def linear_discriminator(image_size: int = 32, channels: int = 3, width: int = 64, *, seed: int = 0) -> Discriminator:
    """The mirror image of :func:`linear_generator`: a 3x3 convolution, three strided ones, a linear layer to one logit.

    Args:
        image_size: side of the square images, pixels, a multiple of 8.
        channels: colour channels of the images.
        width: channels of the map at half the image's size; even.
        seed: of the initial weights.

    Returns:
        network [B, channels, image_size, image_size] -> logits [B].

    Raises:
        ValueError: if ``image_size`` is no multiple of 8 or ``width`` is odd.
    """
    side = _eighth(image_size, width)
    config = dict(kind="linear", image_size=image_size, channels=channels, width=width, seed=seed)
    maps = (width // 2, width, 2 * width, 4 * width)
    layers: list[nn.Module] = [nn.Conv2d(channels, maps[0], 3, 1, 1), nn.LeakyReLU(LEAK, inplace=True)]
    for before, after in zip(maps, maps[1:], strict=False):
        layers += [
            nn.Conv2d(before, after, 4, 2, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(LEAK, inplace=True),
        ]
    layers += [nn.Flatten(), nn.Linear(maps[-1] * side * side, 1)]
    return initialise(Discriminator(layers, image_size, channels, config), seed)


def _eighth(image_size: int, width: int) -> int:
    if image_size < 8 or image_size % 8:
        raise ValueError(f"image_size={image_size}, but the linear networks halve it three times: use a multiple of 8.")
    if width < 2 or width % 2:
        raise ValueError(f"width={width}, but the linear networks need an even one: their outermost maps have half.")
    return image_size // 8


class PerClass(nn.Module):
    """Generators of one class each, taken for one generator: image i of a batch is of class i modulo their number.

    Attributes:
        generators: one a class, in the order of the labels.
        z_dim: size of the latent vector.
        averaged: True if every generator is a running average.
    """

    def __init__(self, generators: Sequence[Generator]):
        """Take several generators for one.

        Raises:
            ValueError: if there are none, or they differ in ``z_dim``.
        """
        super().__init__()
        sizes = {generator.z_dim for generator in generators}
        if len(sizes) != 1:
            raise ValueError(
                f"PerClass needs generators of one z_dim, one for each class, but was given {sorted(sizes)}."
            )
        self.generators = nn.ModuleList(generators)
        (self.z_dim,) = sizes
        self.averaged = all(getattr(generator, "averaged", False) for generator in generators)

    def forward(self, z: Tensor) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] of latent vectors ``z`` [B, z_dim]; the classes take turns."""
        k = len(self.generators)
        parts = {c: generator(z[c::k]) for c, generator in enumerate(self.generators) if c < len(z)}
        images = torch.empty(len(z), *parts[0].shape[1:], dtype=parts[0].dtype, device=z.device)
        for c, part in parts.items():
            images[c::k] = part
        return images


def pooled_generator(z_dim: int = 100, seed: int = 0) -> Generator:
    """The generator that many MNIST tutorials pair with a max-pooling discriminator; 1,929,921 parameters.

    z_dim -> 256@7 -> 128@14 -> 64@28 -> 32@28 -> 1@28, kernels 7, 4, 4, 3, 3, a bias in every layer.

    Args:
        z_dim: size of the latent vector.
        seed: of the initial weights.

    Returns:
        network [B, z_dim] -> [B, 1, 28, 28] in [-1, 1].
    """
    layers: list[nn.Module] = []
    for before, after, kernel, stride, pad in (
        (z_dim, 256, 7, 1, 0),
        (256, 128, 4, 2, 1),
        (128, 64, 4, 2, 1),
        (64, 32, 3, 1, 1),
    ):
        layers += [nn.ConvTranspose2d(before, after, kernel, stride, pad), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    layers += [nn.ConvTranspose2d(32, 1, 3, 1, 1), nn.Tanh()]
    return initialise(Generator(layers, z_dim, dict(kind="pooled", z_dim=z_dim, seed=seed)), seed)


def pooled_discriminator(seed: int = 0) -> Discriminator:
    """A classifier's layout used as a discriminator: max-pooling, dropout and two linear layers; 9,942,401 parameters.

    Four 3x3 convolutions 64-128-256-512 with BatchNorm and LeakyReLU, max-pooling and dropout 0.3 between them
    (28 -> 14 -> 7 -> 4), then Linear 8192 -> 1024 -> 1: 84% of the parameters sit in the first linear layer.

    Args:
        seed: of the initial weights.

    Returns:
        network [B, 1, 28, 28] -> logits [B].
    """
    layers: list[nn.Module] = []
    maps = (1, 64, 128, 256, 512)
    for before, after in zip(maps, maps[1:], strict=False):
        if before > 1:
            layers += [nn.MaxPool2d(2, ceil_mode=True), nn.Dropout(0.3)]
        layers += [nn.Conv2d(before, after, 3, 1, 1), nn.BatchNorm2d(after), nn.LeakyReLU(LEAK, inplace=True)]
    layers += [nn.Flatten(), nn.Linear(8192, 1024), nn.LeakyReLU(LEAK, inplace=True), nn.Linear(1024, 1)]
    return initialise(Discriminator(layers, 28, 1, dict(kind="pooled", seed=seed)), seed)
