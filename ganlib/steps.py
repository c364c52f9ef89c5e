"""The two players, and one optimisation step of each kind of game: the canonical form of what the notebooks write out.

A step takes ``(gan, batches)``, makes **one** generator update and returns the scalars to record.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ganlib._runtime.device import FIXED_Z_STREAM, Z_STREAM, rng
from ganlib.losses import (
    check_clip_value,
    clip_weights,
    gradient_penalty,
    hinge_d_loss,
    hinge_g_loss,
    minimax_g_loss,
    non_saturating_d_loss,
    non_saturating_g_loss,
    r1_penalty,
    r2_penalty,
    relativistic_d_loss,
    relativistic_g_loss,
    wasserstein_critic_loss,
    wasserstein_g_loss,
)


@dataclass
class GAN:
    """The two players, their optimisers, and how far their training has come.

    Attributes:
        generator: network [B, z_dim] -> images [B, C, H, W] in [-1, 1].
        discriminator: network [B, C, H, W] -> logits [B].
        g_opt, d_opt: their optimisers.
        z_dim: size of the latent vector.
        seed: of the latent vectors, the order of the images and dropout.
        ema_decay: share of itself that the running average keeps at each step; 0 for no average.
        fixed_z: [n, z_dim], the same latent vectors for every snapshot; default: 64 of their own seed.
        device: "cuda", "mps" or "cpu", where to train; default: the best there is.
        ema_generator: the running average of the generator's weights, at first a copy.
        steps_done: generator updates so far.
        data_position: how far the batches have come, None before the first.
    """

    generator: nn.Module
    discriminator: nn.Module
    g_opt: Optimizer
    d_opt: Optimizer
    z_dim: int
    seed: int = 0
    ema_decay: float = 0.995
    fixed_z: Tensor | None = field(default=None, repr=False)
    device: str | None = None
    ema_generator: nn.Module = field(init=False, repr=False)
    steps_done: int = field(default=0, init=False)
    data_position: dict | None = field(default=None, init=False, repr=False)

    def __post_init__(self):
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay={self.ema_decay}, but must be at least 0 (no average) and below 1.")
        if self.fixed_z is None:
            self.fixed_z = torch.randn(64, self.z_dim, generator=rng(self.seed + FIXED_Z_STREAM))
        elif self.fixed_z.ndim != 2 or self.fixed_z.shape[1] != self.z_dim:
            raise ValueError(f"fixed_z has shape {list(self.fixed_z.shape)}, but must be [n, {self.z_dim}] (z_dim).")
        self.ema_generator = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.ema_generator.averaged = True  # a score can say whose samples it judged
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


def dcgan_r1_step(
    gan: GAN, batches: Iterator[Tensor], *, r1_gamma: float = 0.02, r1_every: int = 8
) -> dict[str, Tensor]:
    """The same with a penalty on how steep the discriminator is at the reals (R1), which keeps it from winning.

    Args:
        gan: the players; the discriminator may have BatchNorm (see :func:`ganlib.losses.r1_penalty`).
        batches: iterator of real images, float32 [B, C, H, W] in [-1, 1].
        r1_gamma: weight γ of the penalty, at least 0.
        r1_every: steps from one penalty to the next, which counts for all of them: each takes one more pass forwards
            and two backwards. At least 1.

    Returns:
        ``d_loss`` without the penalty, and ``g_loss``, scalars in nats.

    Raises:
        ValueError: if ``r1_gamma`` or ``r1_every`` is out of range.

    Source: Mescheder et al. 2018, arXiv:1801.04406, eq. (9); seldom but strongly: Karras et al. 2020, arXiv:1912.04958,
    section 3.1 (lazy regularization).
    """
    _check_weight(r1_gamma=r1_gamma)
    if r1_every < 1:
        raise ValueError(f"r1_every={r1_every}, but must be at least 1, which is in every step.")

    def penalty(real: Tensor) -> Tensor | float:
        due = gan.steps_done % r1_every == 0
        return r1_gamma * r1_every * r1_penalty(gan.discriminator, real, batch_norm=True) if due else 0.0

    return _step(gan, batches, non_saturating_g_loss, penalty=penalty)


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


def _step(
    gan: GAN,
    batches: Iterator[Tensor],
    g_loss_of: Callable[[Tensor], Tensor],
    d_loss_of: Callable[[Tensor, Tensor], Tensor] = non_saturating_d_loss,
    penalty: Callable[[Tensor], Tensor | float] = lambda real: 0.0,
) -> dict[str, Tensor]:
    real = next(batches)
    fake = gan.generator(gan.sample_z(len(real)))

    # Reals and fakes go through the discriminator separately, so that BatchNorm never mixes their statistics.
    d_loss = d_loss_of(gan.discriminator(real), gan.discriminator(fake.detach()))
    _descend(gan.d_opt, d_loss + penalty(real))

    with frozen(gan.discriminator):
        g_loss = g_loss_of(gan.discriminator(fake))
        _descend(gan.g_opt, g_loss)
    return {"d_loss": d_loss, "g_loss": g_loss}


def hinge_step(gan: GAN, batches: Iterator[Tensor]) -> dict[str, Tensor]:
    """One step of the hinge game, usually with a discriminator under spectral norm.

    Args:
        gan: the players.
        batches: iterator of real images, float32 [B, C, H, W] in [-1, 1].

    Returns:
        ``d_loss`` and ``g_loss``, scalars.

    Source: Miyato et al. 2018, arXiv:1802.05957, eqs. (16) and (17).
    """
    return _step(gan, batches, hinge_g_loss, hinge_d_loss)


def wgan_step(
    gan: GAN, batches: Iterator[Tensor], *, n_critic: int = 5, clip_value: float = 0.01, warm_up: bool = False
) -> dict[str, Tensor]:
    """One step of the Wasserstein game with clipped weights: ``n_critic`` updates of the critic, each on fresh reals
    and fresh fakes, then one of the generator.

    Args:
        gan: the players; ``gan.discriminator`` is the critic and has no BatchNorm.
        batches: iterator of real images, float32 [B, C, H, W] in [-1, 1]; ``n_critic`` batches are taken.
        n_critic: critic updates, at least 1.
        clip_value: bound of the critic's weights, above 0.
        warm_up: whether to make 100 critic updates in each of the first 25 steps and in every 500th, as the authors do.

    Returns:
        ``critic_loss`` (after the last update's batch; its negative estimates a multiple of the Wasserstein distance)
        and ``g_loss``.

    Raises:
        ValueError: if ``n_critic`` or ``clip_value`` is out of range.

    Source: Arjovsky et al. 2017, arXiv:1701.07875, Algorithm 1; the warm-up is in the authors' code.
    """
    critic = gan.discriminator
    check_clip_value(clip_value)
    for _ in range(critic_updates(gan.steps_done, n_critic, warm_up)):
        real, fake = _pair(gan, batches)
        critic_loss = wasserstein_critic_loss(critic(real), critic(fake))
        _descend(gan.d_opt, critic_loss)
        clip_weights(critic, clip_value)
    return {"critic_loss": critic_loss, "g_loss": _raise_score(gan, len(real))}


def wgan_gp_step(
    gan: GAN, batches: Iterator[Tensor], *, n_critic: int = 5, gp_weight: float = 10.0, warm_up: bool = False
) -> dict[str, Tensor]:
    """One step of the Wasserstein game with a gradient penalty in place of clipping.

    Args:
        gan: the players; ``gan.discriminator`` is the critic and has no BatchNorm. ``gan.z_rng`` also draws ε.
        batches: iterator of real images, float32 [B, C, H, W] in [-1, 1]; ``n_critic`` batches are taken.
        n_critic: critic updates, at least 1.
        gp_weight: λ of the penalty, at least 0.
        warm_up: as in :func:`wgan_step`.

    Returns:
        ``critic_loss`` without the penalty, ``penalty`` unweighted, ``g_loss``.

    Raises:
        ValueError: if ``n_critic`` or ``gp_weight`` is out of range.

    Source: Gulrajani et al. 2017, arXiv:1704.00028, Algorithm 1.
    """
    critic = gan.discriminator
    _check_weight(gp_weight=gp_weight)
    for _ in range(critic_updates(gan.steps_done, n_critic, warm_up)):
        real, fake = _pair(gan, batches)
        critic_loss = wasserstein_critic_loss(critic(real), critic(fake))
        penalty = gradient_penalty(critic, real, fake, gan.z_rng)
        _descend(gan.d_opt, critic_loss + gp_weight * penalty)
    return {"critic_loss": critic_loss, "penalty": penalty, "g_loss": _raise_score(gan, len(real))}


def rpgan_step(
    gan: GAN, batches: Iterator[Tensor], *, r1_gamma: float = 1.0, r2_gamma: float = 1.0
) -> dict[str, Tensor]:
    """One step of the relativistic pairing game with zero-centred penalties at reals (R1) and fakes (R2).

    Args:
        gan: the players; the discriminator has no BatchNorm.
        batches: iterator of real images, float32 [B, C, H, W] in [-1, 1].
        r1_gamma, r2_gamma: weights γ of the penalties, at least 0.

    Returns:
        ``d_loss`` without the penalties, ``penalty`` (R1 + R2, unweighted) and ``g_loss``.

    Raises:
        ValueError: if a weight is negative.

    Source: Huang et al. 2024 (R3GAN), arXiv:2501.05441, eq. (2) and section 2.2.
    """
    discriminator = gan.discriminator
    _check_weight(r1_gamma=r1_gamma, r2_gamma=r2_gamma)
    real = next(batches)
    fake = gan.generator(gan.sample_z(len(real)))
    d_loss = relativistic_d_loss(discriminator(real), discriminator(fake.detach()))
    r1, r2 = r1_penalty(discriminator, real), r2_penalty(discriminator, fake.detach())
    _descend(gan.d_opt, d_loss + r1_gamma * r1 + r2_gamma * r2)
    with frozen(discriminator):
        g_loss = relativistic_g_loss(discriminator(real), discriminator(fake))
        _descend(gan.g_opt, g_loss)
    return {"d_loss": d_loss, "penalty": r1 + r2, "g_loss": g_loss}


def critic_updates(steps_done: int, n_critic: int = 5, warm_up: bool = False) -> int:
    """How many updates the critic gets before the generator's next one.

    Args:
        steps_done: generator updates made so far.
        n_critic: the usual number, at least 1.
        warm_up: whether it is 100 in the first 25 steps and in every 500th.

    Raises:
        ValueError: if ``n_critic`` is below 1.
    """
    if n_critic < 1:
        raise ValueError(
            f"n_critic={n_critic}, but a critic that is never updated says nothing: use at least 1; the papers use 5."
        )
    return max(100, n_critic) if warm_up and (steps_done < 25 or steps_done % 500 == 0) else n_critic


def _check_weight(**weights: float) -> None:
    for name, value in weights.items():
        if not value >= 0:
            raise ValueError(f"{name}={value}, but a penalty's weight is at least 0; a negative one would reward it.")


def _pair(gan: GAN, batches: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Fresh reals and as many fresh fakes, through which no gradient reaches the generator."""
    real = next(batches)
    with torch.no_grad():
        return real, gan.generator(gan.sample_z(len(real)))


def _raise_score(gan: GAN, n: int) -> Tensor:
    """The generator's update of both Wasserstein games; its loss."""
    with frozen(gan.discriminator):
        g_loss = wasserstein_g_loss(gan.discriminator(gan.generator(gan.sample_z(n))))
        _descend(gan.g_opt, g_loss)
    return g_loss


def _descend(optimiser: Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


# name -> step, as settings and checkpoints name it
STEPS = {
    "ns": dcgan_step,
    "ns-r1": dcgan_r1_step,
    "minimax": minimax_step,
    "wgan": wgan_step,
    "wgan-gp": wgan_gp_step,
    "hinge": hinge_step,
    "rpgan": rpgan_step,
}
