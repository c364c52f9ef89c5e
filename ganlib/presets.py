"""Recipes by name: a size, a learning rate and a loss that were tried together, so that a run can be repeated."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ganlib import models
from ganlib.steps import GAN


@dataclass(frozen=True)
class Recipe:
    """What decides a DCGAN run besides the images and the time.

    Attributes:
        image_size: pixels.
        channels: colour channels.
        z_dim: size of the latent vector.
        g_width, d_width: channels of the map next to the image, see :mod:`ganlib.models`.
        base: side that the smallest map has at most, pixels.
        batch_size: images a batch.
        g_lr, d_lr: Adam's learning rates.
        betas: Adam's decay rates.
        ema_decay: of the generator's running average.
        flip: whether the reals are mirrored at random.
    """

    image_size: int = 28
    channels: int = 1
    z_dim: int = 64
    g_width: int = 32
    d_width: int = 32
    base: int = 4
    batch_size: int = 64
    g_lr: float = 2e-4
    d_lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    ema_decay: float = 0.995
    flip: bool = False

    def build(self, seed: int = 0) -> GAN:
        """The players of this recipe, their weights and latent vectors seeded with ``seed``."""
        size = (self.image_size, self.channels)
        generator = models.dcgan_generator(*size, self.g_width, self.z_dim, base=self.base, seed=2 * seed)
        discriminator = models.dcgan_discriminator(*size, self.d_width, base=self.base, seed=2 * seed + 1)
        g_opt = torch.optim.Adam(generator.parameters(), self.g_lr, self.betas)
        d_opt = torch.optim.Adam(discriminator.parameters(), self.d_lr, self.betas)
        return GAN(generator, discriminator, g_opt, d_opt, self.z_dim, seed)


# DCGAN's published settings (arXiv:1511.06434, section 4) at MNIST's size, with the usual two doublings 7-14-28.
PLAIN = Recipe(base=7)

# What a laptop without a GPU gets furthest with in a minute, chosen by benchmarks/quality.py: narrow, so that a step
# is cheap; a third halving, so that the discriminator sees whole digits; learning rates ten times the published ones.
DEMO = Recipe(z_dim=32, g_width=16, d_width=16, g_lr=2e-3, d_lr=2e-3, betas=(0.5, 0.99))

# For CIFAR-10 at its own size, with DCGAN's published learning rate and momentum: a run of an hour or more, in which a
# higher rate stops helping (FD after 800 steps 21.1 at 2e-4, 18.0 at 5e-4; after 1,600 steps 15.8 and 15.1). Mirrored
# reals, and an average over about a thousand steps.
CIFAR10 = Recipe(image_size=32, channels=3, z_dim=100, g_width=64, d_width=64, base=4, ema_decay=0.999, flip=True)

# The same with fewer images: four times as many, smaller steps, a generator that moves faster than its discriminator,
# and an average over about a hundred steps (after 128,000 images and 5,000 samples: FD 7.4; over a thousand steps 8.6,
# without one 8.4).
CIFAR10_SHORT = replace(CIFAR10, batch_size=16, g_lr=5e-4, ema_decay=0.99)
