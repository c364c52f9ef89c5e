"""The layers of residual networks without normalisation: those of a small R3GAN.

What BatchNorm did for DCGAN, keeping signals and gradients at a useful size, is done here by the first weights: each
block adds a branch to its input, ``x + branch(x)``, and each branch is 0 at first (fix-up: Zhang et al. 2019,
arXiv:1901.09321). Maps are resampled bilinearly, which leaves no checkerboard.

Source: Huang et al. 2024 (R3GAN), arXiv:2501.05441, section 3, "config E".
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

LEAK = 0.2  # slope of LeakyReLU below zero
EXPANSION = 2  # a block's middle is so many times as wide as its ends
GROUP = 16  # channels that a grouped convolution mixes, in the paper at every width
GAIN = (2 / (1 + LEAK**2)) ** 0.5  # keeps the size of what goes through a LeakyReLU


class Bottleneck(nn.Module):
    """``x + branch(x)`` for [B, C, H, W]: 1x1 to more channels, 3x3 in groups, 1x1 back.

    The first m - 1 of the m = 3 layers in each of L branches are scaled by L^(-1 / (2m - 2)), the last is 0: then an
    update changes the output of all L by no more than it would that of one. ``blocks`` is L.
    """

    def __init__(self, width: int, blocks: int, draw: torch.Generator):
        super().__init__()
        gain, inner = GAIN * blocks**-0.25, EXPANSION * width
        self.branch = nn.Sequential(
            scaled(nn.Conv2d(width, inner, 1), gain, draw),
            nn.LeakyReLU(LEAK, inplace=True),
            scaled(nn.Conv2d(inner, inner, 3, 1, 1, groups=inner // GROUP), gain, draw),
            nn.LeakyReLU(LEAK, inplace=True),
            scaled(nn.Conv2d(inner, width, 1, bias=False), 0.0, draw),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def scaled(layer: nn.Module, gain: float, draw: torch.Generator) -> nn.Module:
    """``layer`` with weights N(0, gain^2 / inputs) and biases 0."""
    inputs = layer.in_channels if layer.transposed else layer.weight[0].numel()  # a map of 1x1 has one place
    nn.init.normal_(layer.weight, 0.0, gain * inputs**-0.5, generator=draw)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def upwards(image_size: int, channels: int, width: int, z_dim: int, blocks: int, draw) -> list[nn.Module]:
    """A generator's layers: a small map from z, then blocks and doublings."""
    side, maps = _stages(image_size, width)
    layers = [scaled(nn.ConvTranspose2d(z_dim, maps[-1], side, bias=False), 1.0, draw)]
    for before, after in pairwise([maps[-1], *maps[::-1]]):
        if len(layers) > 1:
            layers += [] if before == after else [scaled(nn.Conv2d(before, after, 1, bias=False), 1.0, draw)]
            layers += [nn.Upsample(scale_factor=2, mode="bilinear")]
        layers += [Bottleneck(after, blocks * len(maps), draw) for _ in range(blocks)]
    layers += [nn.Upsample(scale_factor=2, mode="bilinear"), nn.LeakyReLU(LEAK, inplace=True)]
    return [*layers, scaled(nn.Conv2d(width, channels, 3, 1, 1), 1.0, draw), nn.Tanh()]


def downwards(image_size: int, channels: int, width: int, blocks: int, draw) -> list[nn.Module]:
    """A discriminator's layers: blocks and halvings, down to a small map and a logit."""
    side, maps = _stages(image_size, width)
    layers = [scaled(nn.Conv2d(channels, width, 3, 1, 1), GAIN, draw), nn.LeakyReLU(LEAK, inplace=True)]
    for before, after in pairwise([width, *maps]):
        layers += [nn.AvgPool2d(2)]
        layers += [] if before == after else [scaled(nn.Conv2d(before, after, 1, bias=False), 1.0, draw)]
        layers += [Bottleneck(after, blocks * len(maps), draw) for _ in range(blocks)]
    return [*layers, scaled(nn.Conv2d(maps[-1], 1, side), 1.0, draw)]


def _stages(image_size: int, width: int) -> tuple[int, list[int]]:
    """The side of the smallest map, 4 to 7; the maps' channels, from half the image's size on."""
    halvings = max(0, (image_size // 4).bit_length() - 1)
    side = image_size >> halvings
    if not halvings or side << halvings != image_size:
        sizes = "take 4, 5, 6 or 7 times a power of 2, such as 32, 48 or 64"
        raise ValueError(f"image_size={image_size}, but a residual network halves it down to 4 to 7 pixels: {sizes}.")
    if width < 8 or width % 8:
        raise ValueError(f"width={width}, but a residual network's is a multiple of 8, for its groups of {GROUP}.")
    return side, [width * min(2**k, 8) for k in range(halvings)]
