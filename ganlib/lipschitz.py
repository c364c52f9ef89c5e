"""What keeps a critic from growing ever steeper: clipped weights, and penalties on the gradient at chosen points.

All penalties are of the gradient with respect to the **input**, of each example for itself. That needs a critic in
which no example sees another: BatchNorm mixes the batch, and what it gives for one example's gradient is one of all.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

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
