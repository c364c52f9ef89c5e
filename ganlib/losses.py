"""The losses of the game as pure functions on logits, in pairs: one for the discriminator, one for the generator.

A logit ``x`` is the discriminator's output before the sigmoid: ``D = sigmoid(x)``. Two identities turn the paper's
logarithms into functions that neither overflow nor lose digits at ``x = ±100``:

    -log D       = softplus(-x)
    -log (1 - D) = softplus(x)

Every function takes ``real_logits`` (if it needs them) before ``fake_logits``, tensors of any shape (usually ``[B]``),
and returns a scalar in nats to be **minimised**. Logits are cast to float32 first: under autocast softplus and mean
would stay in bfloat16, which has three significant digits.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus


def _full(logits: Tensor) -> Tensor:
    """Half-precision logits as float32; float32 and float64 as they are."""
    return logits if logits.dtype.itemsize >= 4 else logits.float()


def minimax_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator's side of the minimax game: ``-E[log D(x)] - E[log(1 - D(G(z)))]``.

    At logit 0 everywhere it is ``2 log 2 = 1.386``, which is also its value at the game's equilibrium.

    Args:
        real_logits: [B] logits of real images.
        fake_logits: [B] logits of generated images.

    Returns:
        scalar, nats, >= 0.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, eq. (1) with its sign turned.
    """
    return softplus(-_full(real_logits)).mean() + softplus(_full(fake_logits)).mean()


def minimax_g_loss(fake_logits: Tensor) -> Tensor:
    """The generator's side of the minimax game, *saturating*: ``E[log(1 - D(G(z)))]``.

    Its gradient with respect to a logit is ``-D(G(z))``: it vanishes just where the discriminator is sure that the
    sample is fake. At logit 0 the loss is ``-log 2 = -0.693``.

    Args:
        fake_logits: [B] logits of generated images.

    Returns:
        scalar, nats, <= 0.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, eq. (1) and Algorithm 1.
    """
    return -softplus(_full(fake_logits)).mean()


# The discriminator plays the same side in both games; only the generator's objective differs.
non_saturating_d_loss = minimax_d_loss


def non_saturating_g_loss(fake_logits: Tensor) -> Tensor:
    """The generator maximises ``log D(G(z))`` instead: ``-E[log D(G(z))]``.

    Its gradient with respect to a logit is ``-(1 - D(G(z)))``: largest where the discriminator is sure that the sample
    is fake. The fixed point of the game is the same. At logit 0 the loss is ``log 2 = 0.693``.

    Args:
        fake_logits: [B] logits of generated images.

    Returns:
        scalar, nats, >= 0.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, section 3, last paragraph.
    """
    return softplus(-_full(fake_logits)).mean()


# The pairs below take scores of any real size; only with a Wasserstein loss is the network that gives them a critic.


def wasserstein_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """The critic's side of the Wasserstein game: ``E[f(G(z))] - E[f(x)]``.

    Its negative is the critic's estimate of K times the earth mover's distance between fakes and reals, if the critic
    is K-Lipschitz; without such a bound (see :mod:`ganlib.losses`) it means nothing.

    Args:
        real_scores: [B] scores of real images.
        fake_scores: [B] scores of generated images.

    Returns:
        scalar, in units of the score; unbounded.

    Source: Arjovsky et al. 2017, arXiv:1701.07875, eq. (3) and Algorithm 1, with the sign turned.
    """
    return _full(fake_scores).mean() - _full(real_scores).mean()


def wasserstein_g_loss(fake_scores: Tensor) -> Tensor:
    """The generator's side of the Wasserstein game: ``-E[f(G(z))]``.

    Its gradient with respect to a score is -1 whatever the score: it never saturates.

    Args:
        fake_scores: [B] scores of generated images.

    Returns:
        scalar, in units of the score; unbounded, and comparable between two steps only as far as the critic is.

    Source: Arjovsky et al. 2017, arXiv:1701.07875, Algorithm 1, line 10.
    """
    return -_full(fake_scores).mean()


def hinge_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator's side of the hinge game: ``E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]``, D the raw output.

    At 0 everywhere it is 2. A real beyond +1 and a fake beyond -1 are right enough and pull no more. It is no
    Wasserstein loss, although both have the same generator's side.

    Args:
        real_logits: [B] outputs for real images.
        fake_logits: [B] outputs for generated images.

    Returns:
        scalar, >= 0.

    Source: Lim & Ye 2017, arXiv:1705.02894, and Miyato et al. 2018, arXiv:1802.05957, eq. (16).
    """
    return relu(1 - _full(real_logits)).mean() + relu(1 + _full(fake_logits)).mean()


# Miyato et al. 2018, eq. (17): the generator just raises the output for its samples.
hinge_g_loss = wasserstein_g_loss


def relativistic_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator's side of the relativistic pairing game (RpGAN): ``E[softplus(-(D(x) - D(G(z))))]``.

    Each real is paired with one fake, and only the difference counts: the discriminator says which of the two is the
    real one. At equal logits it is ``log 2``.

    Args:
        real_logits: [B] logits of real images.
        fake_logits: [B] logits of generated images, the i-th the partner of the i-th real.

    Returns:
        scalar, nats, >= 0.

    Raises:
        ValueError: if there are not as many of both.

    Source: Jolicoeur-Martineau 2018, arXiv:1807.00734 (RSGAN); Huang et al. 2024 (R3GAN), arXiv:2501.05441, eq. (2).
    """
    if real_logits.shape != fake_logits.shape:
        raise ValueError(
            f"The relativistic loss pairs each real with a fake, but there are {list(real_logits.shape)} real and "
            f"{list(fake_logits.shape)} fake logits; draw as many fakes as reals."
        )
    return softplus(-(_full(real_logits) - _full(fake_logits))).mean()


def relativistic_g_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The generator's side of the relativistic pairing game: ``E[softplus(-(D(G(z)) - D(x)))]``, the roles exchanged.

    Args:
        real_logits: [B] logits of real images.
        fake_logits: [B] logits of generated images, the i-th the partner of the i-th real.

    Returns:
        scalar, nats, >= 0; ``log 2`` at equal logits.

    Raises:
        ValueError: if there are not as many of both.

    Source: as :func:`relativistic_d_loss`.
    """
    return relativistic_d_loss(fake_logits, real_logits)


BATCH_NORMS = nn.modules.batchnorm._BatchNorm


@torch.no_grad()
def clip_weights(critic: nn.Module, clip_value: float) -> None:
    """Clamp every parameter of ``critic`` to [-clip_value, clip_value], in place.

    Args:
        critic: any network; its buffers stay.
        clip_value: the bound c, above 0.

    Raises:
        ValueError: if ``clip_value`` is not above 0.

    Source: Arjovsky et al. 2017, arXiv:1701.07875, Algorithm 1, line 7.
    """
    check_clip_value(clip_value)
    torch._foreach_clamp_min_(list(critic.parameters()), -clip_value)
    torch._foreach_clamp_max_(list(critic.parameters()), clip_value)


def check_clip_value(clip_value: float) -> None:
    """See that weights can be clipped to [-clip_value, clip_value].

    Raises:
        ValueError: if ``clip_value`` is not above 0.
    """
    if not clip_value > 0:
        raise ValueError(
            f"clip_value={clip_value}, but weights are clipped to [-clip_value, clip_value]: it must be above 0, and "
            "0.01 is the paper's."
        )


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
    """How far the gradient's length is from 1 between reals and fakes: ``E[(|∇f(x̂)|₂ - 1)²]``.

    ``x̂ = ε x + (1 - ε) G(z)`` with a fresh ε ~ U[0, 1] for each example. Two-sided: slopes below 1 cost as well. The
    norm is of each example's whole gradient, over all its pixels.

    Args:
        critic: network [B, ...] -> scores [B].
        real, fake: [B, ...] alike, such as [B, C, H, W]; neither gets a gradient.
        rng: random generator on the CPU that ε is drawn from.

    Returns:
        scalar, >= 0, to be weighted (10 in the paper) and added to the critic's loss; differentiable by its weights.

    Raises:
        ValueError: if ``real`` and ``fake`` differ in shape.

    Warns:
        UserWarning: if the critic has BatchNorm.

    Source: Gulrajani et al. 2017, arXiv:1704.00028, eq. (3) and section 4.
    """
    if real.shape != fake.shape:
        raise ValueError(
            f"The penalty is taken between pairs of a real and a fake, but they are {list(real.shape)} and "
            f"{list(fake.shape)}; draw as many fakes as reals, of the same size."
        )
    epsilon = torch.rand(len(real), *[1] * (real.ndim - 1), generator=rng).to(real.device)
    between = epsilon * real.detach() + (1 - epsilon) * fake.detach()
    return (_input_gradients(critic, between).norm(dim=1) - 1).square().mean()


def r1_penalty(discriminator: nn.Module, real: Tensor, *, batch_norm: bool = False) -> Tensor:
    """Half the squared length of the gradient at the reals: ``E[|∇D(x)|²] / 2``, to be weighted with γ.

    Args:
        discriminator: network [B, ...] -> logits [B].
        real: [B, ...].
        batch_norm: whether the discriminator may have BatchNorm. What is penalised then is how all scores of a batch
            together change with each example: no longer the paper's bound, but steepness all the same.

    Returns:
        scalar, >= 0, differentiable by the discriminator's weights.

    Warns:
        UserWarning: if the discriminator has BatchNorm, and ``batch_norm`` is False.

    Source: Mescheder et al. 2018, arXiv:1801.04406, eq. (9).
    """
    return _input_gradients(discriminator, real, batch_norm).square().sum(dim=1).mean() / 2


def r2_penalty(discriminator: nn.Module, fake: Tensor) -> Tensor:
    """The same at the fakes: ``E[|∇D(G(z))|²] / 2``.

    Args:
        discriminator: network [B, ...] -> logits [B].
        fake: [B, ...].

    Source: Mescheder et al. 2018, arXiv:1801.04406, eq. (10).
    """
    return r1_penalty(discriminator, fake)


def _input_gradients(critic: nn.Module, points: Tensor, batch_norm: bool = False) -> Tensor:
    """The gradient of each example's score with respect to that example, flat: [B, D], itself differentiable."""
    if not batch_norm and any(isinstance(layer, BATCH_NORMS) for layer in critic.modules()):
        warnings.warn(
            "This critic has BatchNorm, so one example's score depends on the whole batch and the gradient that is "
            "penalised is not that of one example; use a critic with norm='none' or norm='layer'.",
            UserWarning,
            stacklevel=3,
        )
    # In full precision: a gradient of a gradient loses too many digits in bfloat16.
    with torch.autocast(points.device.type, enabled=False):
        points = points.detach().float().requires_grad_()
        # The sum's gradient is every example's own, as no score depends on another example.
        (gradients,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return gradients.flatten(1)
