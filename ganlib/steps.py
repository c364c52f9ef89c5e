"""The two players, and one training step of each kind of game.

They are the reference form of the notebooks' steps. A step makes **one** generator update: it takes the GAN and
an iterator of batches of real images, and returns the scalars to record by name, in the units of :mod:`ganlib.losses`:
losses without their penalties, and penalties without their weights. A ValueError names a setting out of range.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ganlib import losses
from ganlib._runtime.players import check_gan
from ganlib._runtime.randomness import FIXED_Z_STREAM, Z_STREAM, fresh, rng

Batches = Iterator[Tensor]  # of real images, float32 [B, C, H, W] in [-1, 1]; some steps take (images, labels)
Record = dict[str, Tensor]  # name -> scalar


@dataclass
class GAN:
    """The two players, their optimisers, and the progress of their training.

    Attributes:
        generator: network [B, z_dim] -> images [B, C, H, W] in [-1, 1].
        discriminator: network [B, C, H, W] -> logits [B].
        g_opt, d_opt: their optimisers; z_dim: size of the latent vector.
        seed: of the latent vectors, the order of the images and dropout.
        ema_decay: decay of the generator's running average per step; 0 for no average.
        fixed_z: [n, z_dim], the same latent vectors for every snapshot; default: 64, seeded separately.
        device: "cuda", "mps" or "cpu", where to train; default: the best available.
        ema_generator: the running average of the generator's weights, at first a copy.
        scaling: what float16 scales the loss with, empty without it.
        steps_done: generator updates so far; data_position: how far the batches have come, None before the first.
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
    scaling: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    steps_done: int = field(default=0, init=False)
    data_position: dict | None = field(default=None, init=False, repr=False)

    def __post_init__(self):
        check_gan(self)
        if self.fixed_z is None:
            self.fixed_z = torch.randn(64, self.z_dim, generator=rng(self.seed + FIXED_Z_STREAM))
        self.ema_generator = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.ema_generator.averaged = True  # lets a score tell whose samples it scored
        for model in (self.generator, self.ema_generator):
            model.z_dim = self.z_dim  # lets a score also draw from a plain nn.Sequential
        self.z_rng = rng(self.seed + Z_STREAM)

    def sample_z(self, n: int) -> Tensor:
        """z ~ N(0, I), float32 [n, z_dim], drawn on the CPU: the same on every device."""
        where = next(self.generator.parameters()).device
        return fresh(where, torch.randn, n, self.z_dim, generator=self.z_rng)


@contextlib.contextmanager
def frozen(model: nn.Module):
    """``model`` with frozen weights inside the block: gradients only flow through it.

    The generator's loss is differentiated through the discriminator but only updates the generator; without this,
    backward would also compute every weight gradient of the discriminator, in vain.
    """
    free = [weight for weight in model.parameters() if weight.requires_grad]
    model.requires_grad_(False)
    try:
        yield model
    finally:
        for weight in free:
            weight.requires_grad_(True)


def labelled(z: Tensor, y: Tensor | None = None) -> Tensor:
    """z [B, z_dim] with the label y, one-hot [B, K], as its last K numbers, if given."""
    return z if y is None else torch.cat([z[:, : -y.shape[1]], y], 1)


def dcgan_step(gan: GAN, batches: Batches) -> Record:
    """One step of the non-saturating game: ``d_loss`` and ``g_loss``.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, Algorithm 1, section 3; Radford et al. 2015, arXiv:1511.06434.
    """
    return _step(gan, batches, losses.non_saturating_d_loss, losses.non_saturating_g_loss)


def minimax_step(gan: GAN, batches: Batches) -> Record:
    """One step of the (saturating) minimax game: ``d_loss`` and ``g_loss``.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, eq. (1) and Algorithm 1 with k = 1.
    """
    return _step(gan, batches, losses.minimax_d_loss, losses.minimax_g_loss)


def hinge_step(gan: GAN, batches: Batches) -> Record:
    """One step of the hinge game: ``d_loss`` and ``g_loss``.

    Usually with spectral norm on the discriminator. Source: Miyato et al. 2018, arXiv:1802.05957, eqs. (16) and (17).
    """
    return _step(gan, batches, losses.hinge_d_loss, losses.hinge_g_loss)


def dcgan_r1_step(gan: GAN, batches: Batches, *, r1_gamma=0.02, r1_every=8) -> Record:
    """As :func:`dcgan_step`, with a penalty that keeps the discriminator from winning.

    It returns ``d_loss`` and ``g_loss``. The penalty R1, on the discriminator's steepness at the reals, has the weight
    ``r1_gamma`` (γ, at least 0). It costs one more forward pass and two backward ones, so it is applied every
    ``r1_every`` steps (at least 1), weighted for all of them. The discriminator may have BatchNorm.

    Source: Mescheder et al. 2018, arXiv:1801.04406, eq. (9); lazy regularization: Karras et al. 2020, arXiv:1912.04958,
    section 3.1.
    """
    _check_weight(r1_gamma=r1_gamma)
    if r1_every < 1:
        raise ValueError(f"r1_every={r1_every}, but must be at least 1: a penalty in every step.")
    weight = r1_gamma * r1_every if gan.steps_done % r1_every == 0 else 0.0
    return _step(gan, batches, losses.non_saturating_d_loss, losses.non_saturating_g_loss, weight)


def _step(gan: GAN, batches: Batches, d_loss_of: Callable, g_loss_of: Callable, r1_weight=0.0) -> Record:
    real, *y = batch if isinstance(batch := next(batches), tuple) else [batch]  # y: labels, from images that have them
    fake = gan.generator(labelled(gan.sample_z(len(real)), *y))

    # Reals and fakes go through the discriminator separately, so that BatchNorm never mixes their statistics.
    d_loss = d_loss_of(gan.discriminator(real, *y), gan.discriminator(fake.detach(), *y))
    penalty = r1_weight * losses.r1_penalty(gan.discriminator, real, *y, batch_norm=True) if r1_weight else 0.0
    descend(gan.d_opt, d_loss + penalty)

    with frozen(gan.discriminator):
        g_loss = g_loss_of(gan.discriminator(fake, *y))
        descend(gan.g_opt, g_loss)
    return {"d_loss": d_loss, "g_loss": g_loss}


def rpgan_step(gan: GAN, batches: Batches, *, r1_gamma=1.0, r2_gamma=1.0) -> Record:
    """A relativistic pairing step: ``d_loss``, ``penalty`` (R1 + R2) and ``g_loss``.

    The penalties at reals (R1) and fakes (R2) are weighted with ``r1_gamma`` and ``r2_gamma``, at least 0; the
    discriminator has no BatchNorm.

    Source: Huang et al. 2024 (R3GAN), arXiv:2501.05441, eq. (2) and section 2.2.
    """
    _check_weight(r1_gamma=r1_gamma, r2_gamma=r2_gamma)
    discriminator, real = gan.discriminator, next(batches)
    fake = gan.generator(gan.sample_z(len(real)))
    d_loss = losses.relativistic_d_loss(discriminator(real), discriminator(fake.detach()))
    r1, r2 = losses.r1_penalty(discriminator, real), losses.r2_penalty(discriminator, fake.detach())
    descend(gan.d_opt, d_loss + r1_gamma * r1 + r2_gamma * r2)
    with frozen(discriminator):
        g_loss = losses.relativistic_g_loss(discriminator(real), discriminator(fake))
        descend(gan.g_opt, g_loss)
    return {"d_loss": d_loss, "penalty": r1 + r2, "g_loss": g_loss}


def wgan_step(gan: GAN, batches: Batches, *, n_critic=5, clip_value=0.01, warm_up=False) -> Record:
    """A Wasserstein step with clipped weights: ``critic_loss`` and ``g_loss``.

    ``n_critic`` updates of the critic (at least 1), each on a fresh batch of reals and fresh fakes, after which its
    weights are clipped to [-clip_value, clip_value]; then one update of the generator. The critic has no BatchNorm. The
    negative of ``critic_loss``, from its last batch, estimates a multiple of the Wasserstein distance. ``warm_up``
    makes 100 updates of the critic in each of the first 25 steps and in every 500th, as the authors do.

    Source: Arjovsky et al. 2017, arXiv:1701.07875, Algorithm 1; the warm-up is in the authors' code.
    """
    critic = gan.discriminator
    losses.check_clip_value(clip_value)
    for _ in range(critic_updates(gan.steps_done, n_critic, warm_up)):
        real, fake = _pair(gan, batches)
        critic_loss = losses.wasserstein_critic_loss(critic(real), critic(fake))
        descend(gan.d_opt, critic_loss)
        losses.clip_weights(critic, clip_value)
    return {"critic_loss": critic_loss, "g_loss": _raise_score(gan, len(real))}


def wgan_gp_step(gan: GAN, batches: Batches, *, n_critic=5, gp_weight=10.0, warm_up=False) -> Record:
    """A Wasserstein step with a penalty: ``critic_loss``, ``penalty``, ``g_loss``.

    As :func:`wgan_step`, but with the penalty in place of clipping, weighted with ``gp_weight`` (λ, at least 0). Its ε
    come from ``gan.z_rng``.

    Source: Gulrajani et al. 2017, arXiv:1704.00028, Algorithm 1.
    """
    critic = gan.discriminator
    _check_weight(gp_weight=gp_weight)
    for _ in range(critic_updates(gan.steps_done, n_critic, warm_up)):
        real, fake = _pair(gan, batches)
        critic_loss = losses.wasserstein_critic_loss(critic(real), critic(fake))
        penalty = losses.gradient_penalty(critic, real, fake, gan.z_rng)
        descend(gan.d_opt, critic_loss + gp_weight * penalty)
    return {"critic_loss": critic_loss, "penalty": penalty, "g_loss": _raise_score(gan, len(real))}


def critic_updates(steps_done: int, n_critic=5, warm_up=False) -> int:
    """The critic's updates in the next step; arguments as in :func:`wgan_step`."""
    if n_critic < 1:
        raise ValueError(f"n_critic={n_critic}, but a critic needs at least 1 update a step; the papers use 5.")
    return max(100, n_critic) if warm_up and (steps_done < 25 or steps_done % 500 == 0) else n_critic


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Update a running average: ``w <- decay w + (1 - decay) w_model``.

    In the first steps the decay is at most ``(1 + step) / (10 + step)``, so that the average forgets its start.

    Source: Yazici et al. 2018, arXiv:1806.04498, eq. (3); the warm-up is that of TensorFlow's ExponentialMovingAverage.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    states = (network.state_dict(keep_vars=True).values() for network in (average, model))
    pairs = list(zip(*states, strict=True))
    floats = [(a, m) for a, m in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [m for _, m in floats], weight)
    for a, m in pairs:
        if not a.is_floating_point():
            a.copy_(m)


def form(step: Callable, steps_done: int):
    """What differs from step to step in a step of ganlib's, for a captured graph."""
    held = {}
    while isinstance(step, functools.partial):
        held, step = step.keywords | held, step.func
    return FORMS[step](steps_done, **held) if step in FORMS else None


def change(gan: GAN, step: Callable, name: str, value) -> None:
    """Change a setting between two steps: ``g_lr``, ``d_lr`` or what ``step`` takes.

    What it takes is a keyword of ``functools.partial(wgan_step, n_critic=5)``, changed in place. A ValueError says what
    may be changed if ``name`` may not.
    """
    taken = step.keywords if isinstance(step, functools.partial) else {}
    if name in ("g_lr", "d_lr"):
        for group in getattr(gan, f"{name[0]}_opt").param_groups:
            group["lr"] = torch.full_like(group["lr"], value) if isinstance(group["lr"], Tensor) else value
    elif name in taken:
        taken[name] = value
    else:
        raise ValueError(f"'{name}' cannot be changed; what can is: {', '.join(['g_lr', 'd_lr', *taken])}.")


def repeat(changes: Sequence[tuple], gan: GAN, step: Callable) -> Callable:
    """A watcher for ``fit`` that makes another run's ``history.changes`` once more."""

    def watch(history):
        for at, name, value in changes:
            if history.running and at == gan.steps_done:
                change(gan, step, name, value)
                history.changes.append((at, name, value))

    return watch


def _pair(gan: GAN, batches: Batches) -> tuple[Tensor, Tensor]:
    """Fresh reals and as many fresh fakes, with no gradient to the generator."""
    real = next(batches)
    with torch.no_grad():
        return real, gan.generator(gan.sample_z(len(real)))


def _raise_score(gan: GAN, n: int) -> Tensor:
    """The generator's update in both Wasserstein games; returns its loss."""
    with frozen(gan.discriminator):
        g_loss = losses.wasserstein_g_loss(gan.discriminator(gan.generator(gan.sample_z(n))))
        descend(gan.g_opt, g_loss)
    return g_loss


def descend(optimiser: Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _check_weight(**weights: float) -> None:
    for name, value in weights.items():
        if not value >= 0:
            raise ValueError(f"{name}={value}, but a penalty's weight is at least 0; a negative one would reward it.")


# name -> step, as in settings and checkpoints
STEPS = {
    "ns": dcgan_step,
    "ns-r1": dcgan_r1_step,
    "minimax": minimax_step,
    "wgan": wgan_step,
    "wgan-gp": wgan_gp_step,
    "hinge": hinge_step,
    "rpgan": rpgan_step,
}
# Of steps that are not always the same: which of its forms comes after so many steps, with its settings.
FORMS = {
    dcgan_r1_step: lambda done, r1_every=8, **_: done % r1_every == 0,
    wgan_step: lambda done, n_critic=5, warm_up=False, **_: critic_updates(done, n_critic, warm_up),
}
FORMS[wgan_gp_step] = FORMS[wgan_step]
