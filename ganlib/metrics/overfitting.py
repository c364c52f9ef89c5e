"""Whether a discriminator tells reals from fakes, or the reals it was shown from all others."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ganlib._runtime.device import eval_mode, rng
from ganlib.data.images import ImageSet, to_float


@torch.no_grad()
def overfitting(
    discriminator: nn.Module,
    generator: nn.Module,
    seen: ImageSet,
    held_out: ImageSet,
    *,
    n: int = 1000,
    batch: int = 50,
) -> dict[str, float]:
    """What the discriminator answers for reals it was trained on, for reals it never saw, and for fakes.

    One that has learned what faces are calls unseen faces real as often as its own. Each batch goes through in training
    mode, as in the game: BatchNorm takes the statistics of the batch, and an augmentation is on. The discriminator
    itself stays as it is.

    Args:
        discriminator: network [B, C, H, W] -> logits [B].
        generator: network [B, z_dim] -> images in [-1, 1], with ``z_dim``; asked in eval mode.
        seen: reals it was trained on.
        held_out: reals it was not.
        n: of each, at most so many as there are held out.
        batch: images a batch.

    Returns:
        ``seen``, ``held_out``, ``fake``: the share of each that is called real (a logit above 0; for the fakes a
        mistake), and ``r_v``, how far the mean logit of held-out reals has gone from that of seen ones towards that of
        the fakes: 0 without overfitting, 1 where unseen reals are taken for fakes.

    Raises:
        ValueError: if fewer than 2 images are held out.

    Source: Karras et al. 2020, arXiv:2006.06676, section 3, eq. (1).
    """
    n = min(n, len(seen), len(held_out))
    if n < 2:
        raise ValueError(f"{n} images are too few to tell how unseen ones fare: hold out 100 or more.")
    judge = copy.deepcopy(discriminator).train()
    where = next(judge.parameters()).device
    z = torch.randn(n, generator.z_dim, generator=rng(0)).to(where)
    with eval_mode(generator):
        fakes = torch.cat([generator(part) for part in z.split(batch)]).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        logits = {
            name: _logits(judge, images, batch, where)
            for name, images in {
                "seen": to_float(seen.take(n).pixels),
                "held_out": to_float(held_out.take(n).pixels),
                "fake": fakes,
            }.items()
        }
    means = {name: float(values.mean()) for name, values in logits.items()}
    shares = {name: float((values > 0).float().mean()) for name, values in logits.items()}
    return shares | {"r_v": (means["seen"] - means["held_out"]) / (means["seen"] - means["fake"])}


def _logits(judge: nn.Module, images: Tensor, batch: int, where: torch.device) -> Tensor:
    parts = [part for part in images.split(batch) if len(part) > 1]  # BatchNorm needs two
    return torch.cat([judge(part.to(where)).float().cpu() for part in parts])
