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

from torch import Tensor
from torch.nn.functional import softplus


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
