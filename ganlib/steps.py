"""The two players, and one optimisation step of each kind of game: the canonical form of what the notebooks write out.

A step takes ``(gan, batches)``, makes **one** generator update and returns the scalars to record.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ganlib.losses import minimax_g_loss, non_saturating_d_loss, non_saturating_g_loss
from ganlib.runtime import rng

# Added to a seed, so that z is not the very numbers that the first weights were drawn from.
Z_STREAM = 1 << 32


@dataclass
class GAN:
    """The two players and their optimisers, and where they are in their training.

    Attributes:
        generator: network [B, z_dim] -> images [B, C, H, W] in [-1, 1].
        discriminator: network [B, C, H, W] -> logits [B].
        g_opt, d_opt: their optimisers.
        z_dim: size of the latent vector.
        seed: of the latent vectors drawn during training.
        ema_generator: running average of the generator's weights, kept by ``fit``; at first a copy. Its attribute
            ``averaged`` is True, so that a score can say whose samples it judged.
        steps_done: generator updates made so far.
        data_position: where ``fit`` left the data, None before the first.
        saved_in: the folder of the run that ``fit`` keeps of it, None without one.
    """

    generator: nn.Module
    discriminator: nn.Module
    g_opt: Optimizer
    d_opt: Optimizer
    z_dim: int
    seed: int = 0
    ema_generator: nn.Module = field(init=False, repr=False)
    steps_done: int = field(default=0, init=False)
    data_position: dict | None = field(default=None, init=False, repr=False)
    saved_in: Path | None = field(default=None, init=False, repr=False)

    def __post_init__(self):
        self.ema_generator = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.ema_generator.averaged = True
        for model in (self.generator, self.ema_generator):
            model.z_dim = self.z_dim  # so that a score can draw from a plain nn.Sequential, too
        self.z_rng = rng(self.seed + Z_STREAM)

    def sample_z(self, n: int) -> Tensor:
        """``n`` latent vectors z ~ N(0, I), float32 [n, z_dim] on the generator's device.

        They are drawn on the CPU from the GAN's own random generator, so every device sees the same ones.
        """
        z = torch.randn(n, self.z_dim, generator=self.z_rng)
        return z.to(next(self.generator.parameters()).device)


@contextlib.contextmanager
def frozen(model: nn.Module):
    """``model`` held fixed inside the block: gradients flow through it to its input, none are computed for its weights.

    The generator's loss is differentiated through the discriminator but only moves the generator; without this,
    backward would also compute every weight gradient of the discriminator, for nothing.
    """
    free = [weight for weight in model.parameters() if weight.requires_grad]
    model.requires_grad_(False)
    try:
        yield model
    finally:
        for weight in free:
            weight.requires_grad_(True)


def dcgan_step(gan: GAN, batches: Iterator[Tensor]) -> dict[str, Tensor]:
    """One step of the non-saturating game: the discriminator on reals and fakes, then the generator through it.

    Args:
        gan: the players.
        batches: iterator of real images, float32 [B, C, H, W] in [-1, 1].

    Returns:
        ``d_loss`` and ``g_loss``, scalars in nats.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, Algorithm 1 with k = 1 and section 3's generator loss;
    Radford et al. 2015, arXiv:1511.06434.
    """
    return _step(gan, batches, non_saturating_g_loss)


def minimax_step(gan: GAN, batches: Iterator[Tensor]) -> dict[str, Tensor]:
    """One step of the minimax game, whose generator saturates: as :func:`dcgan_step` but for the generator's loss.

    Args:
        gan: the players.
        batches: iterator of real images, float32 [B, C, H, W] in [-1, 1].

    Returns:
        ``d_loss`` and ``g_loss``, scalars in nats.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, eq. (1) and Algorithm 1 with k = 1.
    """
    return _step(gan, batches, minimax_g_loss)


def _step(gan: GAN, batches: Iterator[Tensor], g_loss_of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    real = next(batches)
    fake = gan.generator(gan.sample_z(len(real)))

    # Reals and fakes go through the discriminator separately, so that BatchNorm never mixes their statistics.
    d_loss = non_saturating_d_loss(gan.discriminator(real), gan.discriminator(fake.detach()))
    gan.d_opt.zero_grad()
    d_loss.backward()
    gan.d_opt.step()

    with frozen(gan.discriminator):
        g_loss = g_loss_of(gan.discriminator(fake))
        gan.g_opt.zero_grad()
        g_loss.backward()
    gan.g_opt.step()
    return {"d_loss": d_loss, "g_loss": g_loss}
