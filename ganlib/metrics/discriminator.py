"""Whether a discriminator has memorised its training images."""

import copy

import torch
from torch import nn

from ganlib._runtime.device import eval_mode
from ganlib._runtime.randomness import rng, seeded
from ganlib.data.images import ImageSet, to_float

BATCH = 50  # images over which BatchNorm takes its statistics


def overfitting(
    discriminator: nn.Module, generator: nn.Module, seen: ImageSet, held_out: ImageSet, n: int = 1000
) -> dict[str, float]:
    """Test for overfitting on ``n`` training images, ``n`` unseen reals, ``n`` fakes.

    ``seen``, ``held_out``, ``fake``: the share of each it calls real (logit above 0). ``r_v``: where the mean
    logit of unseen reals lies between that of seen ones, 0, and that of the fakes, 1: 0 without overfitting (Karras et
    al. 2020, arXiv:2006.06676, eq. (1)). A copy of it runs in train mode, as in the game.
    """
    n = min(n, len(seen), len(held_out))
    if n < 2:
        raise ValueError(f"{n} images are too few to tell how unseen ones fare: hold out 100 or more.")
    asked = copy.deepcopy(discriminator).train()
    where = next(asked.parameters()).device
    home = next((weight.device for weight in generator.parameters()), where)
    z = torch.randn(n, generator.z_dim, generator=rng(0))
    with eval_mode(generator):
        fakes = torch.cat([generator(part.to(home)) for part in z.split(BATCH)]).cpu()
    shares, mean = {}, {}
    with seeded(0, where):
        reals = (to_float(images.take(n).pixels) for images in (seen, held_out))
        for name, images in zip(("seen", "held_out", "fake"), (*reals, fakes), strict=True):
            parts = [part.to(where) for part in images.split(BATCH) if len(part) > 1]  # BatchNorm needs two
            logits = torch.cat([asked(part).float().cpu() for part in parts])
            shares[name], mean[name] = (logits > 0).float().mean().item(), logits.mean().item()
    return shares | {"r_v": (mean["seen"] - mean["held_out"]) / (mean["seen"] - mean["fake"])}
