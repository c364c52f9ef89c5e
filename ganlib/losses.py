"""The losses of the game, in pairs; penalties on gradients; clipping of weights.

A logit x is the discriminator's output before the sigmoid: D = sigmoid(x). Two identities turn the paper's logarithms
into functions that neither overflow nor lose digits at x = ±100:

    -log D       = softplus(-x)
    -log (1 - D) = softplus(x)

Every loss takes the logits of real images (if it needs them) before those of generated images, tensors of any shape
(usually [B]), and returns a scalar to be **minimised**: in nats where it has a logarithm, else in units of the output.
Half-precision logits are cast to float32 first: softplus and mean would stay in bfloat16, which has three digits.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from ganlib._runtime.randomness import fresh


def _full(numbers: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are."""
    return numbers if numbers.dtype.itemsize >= 4 else numbers.float()


def minimax_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator's minimax loss: ``-E[log D(x)] - E[log(1 - D(G(z)))]``, >= 0.

    At logit 0 everywhere it is ``2 log 2 = 1.386``, which is also its value at the game's equilibrium.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, eq. (1) with its sign turned.
    """
    return softplus(-_full(real_logits)).mean() + softplus(_full(fake_logits)).mean()


def minimax_g_loss(fake_logits: Tensor) -> Tensor:
    """The generator's minimax loss, *saturating*: ``E[log(1 - D(G(z)))]``, <= 0.

    Its gradient with respect to a logit is ``-D(G(z))``: it vanishes exactly where the discriminator is sure that the
    sample is fake. At logit 0 the loss is ``-log 2 = -0.693``.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, eq. (1) and Algorithm 1.
    """
    return -softplus(_full(fake_logits)).mean()


# The discriminator plays the same side in both games; only the generator's objective differs.
non_saturating_d_loss = minimax_d_loss


def non_saturating_g_loss(fake_logits: Tensor) -> Tensor:
    """The generator maximises ``log D(G(z))`` instead: ``-E[log D(G(z))]``, >= 0.

    Its gradient with respect to a logit is ``-(1 - D(G(z)))``: largest where the discriminator is sure that the sample
    is fake. The fixed point of the game is the same. At logit 0 the loss is ``log 2 = 0.693``.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, section 3, last paragraph.
    """
    return softplus(-_full(fake_logits)).mean()


# A Wasserstein loss takes unbounded scores f, and the network that returns them is a critic.


def wasserstein_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """The critic's side of the Wasserstein game: ``E[f(G(z))] - E[f(x)]``, unbounded.

    If the critic is K-Lipschitz (:func:`clip_weights`, :func:`gradient_penalty`), the negative of this loss is its
    estimate of K times the earth mover's distance between fakes and reals; else it means nothing.

    Source: Arjovsky et al. 2017, arXiv:1701.07875, eq. (3) and Algorithm 1, with the sign turned.
    """
    return _full(fake_scores).mean() - _full(real_scores).mean()


def wasserstein_g_loss(fake_scores: Tensor) -> Tensor:
    """The generator's side of the Wasserstein game: ``-E[f(G(z))]``, unbounded.

    Its gradient with respect to a score is always -1: it never saturates. Two values are comparable only if their
    critics are.

    Source: Arjovsky et al. 2017, arXiv:1701.07875, Algorithm 1, line 10.
    """
    return -_full(fake_scores).mean()


def hinge_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator's hinge loss: ``E[max(0, 1 - x)] + E[max(0, 1 + y)]``, >= 0.

    Here x and y are the raw outputs for reals and fakes. At 0 everywhere it is 2. A real beyond +1 and a fake beyond -1
    are right enough and have no gradient. It is not a Wasserstein loss, although the generator's side is the same.

    Source: Lim & Ye 2017, arXiv:1705.02894, and Miyato et al. 2018, arXiv:1802.05957, eq. (16).
    """
    return relu(1 - _full(real_logits)).mean() + relu(1 + _full(fake_logits)).mean()


# Miyato et al. 2018, eq. (17): the generator just raises the output for its samples.
hinge_g_loss = wasserstein_g_loss


def relativistic_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator's relativistic pairing loss: ``E[softplus(-(x - y))]``, >= 0.

    The i-th real, with logit x, is paired with the i-th fake, with logit y: the discriminator says which of the two is
    real, and only the difference counts. At equal logits it is ``log 2``. ValueError if the shapes differ.

    Source: Jolicoeur-Martineau 2018, arXiv:1807.00734 (RSGAN); Huang et al. 2024 (R3GAN), arXiv:2501.05441, eq. (2).
    """
    _check_pairs(real_logits, fake_logits)
    return softplus(_full(fake_logits) - _full(real_logits)).mean()


def relativistic_g_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The generator's relativistic pairing loss: the same with the roles exchanged."""
    return relativistic_d_loss(fake_logits, real_logits)


@torch.no_grad()
def clip_weights(critic: nn.Module, clip_value: float) -> None:
    """Clamp each parameter of ``critic``, but no buffer, to [-clip_value, clip_value].

    Raises:
        ValueError: if ``clip_value`` is not above 0.

    Source: Arjovsky et al. 2017, arXiv:1701.07875, Algorithm 1, line 7.
    """
    check_clip_value(clip_value)
    torch._foreach_clamp_min_(list(critic.parameters()), -clip_value)
    torch._foreach_clamp_max_(list(critic.parameters()), clip_value)


def check_clip_value(clip_value: float) -> None:
    """Raise a ValueError if weights cannot be clipped to [-clip_value, clip_value]."""
    if not clip_value > 0:
        raise ValueError(f"clip_value={clip_value}, but the bound of the weights must be above 0; the paper has 0.01.")


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
    """How far the gradient's length between reals and fakes is from 1, squared.

    It is ``E[(|∇f(x̂)|₂ - 1)²]`` at ``x̂ = ε x + (1 - ε) G(z)`` with a fresh ε ~ U[0, 1] for each example. Two-sided:
    slopes below 1 are also penalised. The norm is of each example's full gradient, over all its pixels.

    Args:
        critic: network [B, ...] -> scores [B]; if it has BatchNorm, there is a warning.
        real, fake: [B, ...] alike, such as [B, C, H, W]; neither gets a gradient.
        rng: random generator on the CPU, from which ε is drawn.

    Returns:
        scalar, >= 0, to be weighted (10 in the paper) and added to the critic's loss; differentiable by its weights.

    Raises:
        ValueError: if ``real`` and ``fake`` differ in shape.

    Source: Gulrajani et al. 2017, arXiv:1704.00028, eq. (3) and section 4.
    """
    _check_pairs(real, fake)
    epsilon = fresh(real.device, torch.rand, len(real), *[1] * (real.ndim - 1), generator=rng)
    return (_input_gradients(critic, epsilon * real + (1 - epsilon) * fake).norm(dim=1) - 1).square().mean()


def r1_penalty(discriminator: nn.Module, real: Tensor, *y: Tensor, batch_norm: bool = False) -> Tensor:
    """Half the squared length of the gradient at the reals: ``E[|∇D(x)|²] / 2``.

    Args:
        discriminator: network [B, ...] -> logits [B]; if it has BatchNorm, there is a warning.
        real: [B, ...], such as [B, C, H, W]; it gets no gradient.
        y: what else the discriminator takes, such as labels.
        batch_norm: whether BatchNorm is intended, so that there is no warning. The penalty is then on how all logits of
            a batch together change with each example: not the paper's bound, but still a penalty on steepness.

    Returns:
        scalar, >= 0, to be weighted with γ; differentiable by the discriminator's weights.

    Source: Mescheder et al. 2018, arXiv:1801.04406, eq. (9).
    """
    return _input_gradients(discriminator, real, *y, batch_norm=batch_norm).square().sum(dim=1).mean() / 2


def r2_penalty(discriminator: nn.Module, fake: Tensor) -> Tensor:
    """As :func:`r1_penalty` at the fakes [B, ...]: Mescheder et al. 2018, eq. (10)."""
    return r1_penalty(discriminator, fake)


def _input_gradients(critic: nn.Module, points: Tensor, *y: Tensor, batch_norm: bool = False) -> Tensor:
    """The gradient of each score by its example, flat [B, D], itself differentiable."""
    if not batch_norm and any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in critic.modules()):
        warnings.warn(
            "This critic has BatchNorm, so one example's score depends on its whole batch, and the penalised gradient "
            "is not that of one example; use a critic with norm='none' or norm='layer'.",
            UserWarning,
            stacklevel=3,
        )
    # At least float32: a gradient of a gradient loses too many digits in bfloat16.
    with torch.autocast(points.device.type, enabled=False):
        points = _full(points.detach()).requires_grad_()
        # The sum's gradient is every example's own, as no score depends on another example.
        (gradients,) = torch.autograd.grad(critic(points, *y).sum(), points, create_graph=True)
    return gradients.flatten(1)


def _check_pairs(real: Tensor, fake: Tensor) -> None:
    if real.shape != fake.shape:
        shapes = f"{list(real.shape)} and {list(fake.shape)}"
        raise ValueError(
            f"Each real is paired with a fake, but they are {shapes}; draw as many fakes, of the same size."
        )
