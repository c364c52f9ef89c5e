"""Whether a discriminator tells reals from fakes, or the reals it was shown from all others."""

import copy

import torch
from torch import nn

from ganlib._runtime.device import eval_mode
from ganlib._runtime.randomness import global_generators_kept, rng
from ganlib.data.images import ImageSet, to_float

BATCH = 50  # what BatchNorm takes its statistics of


@torch.no_grad()
def overfitting(
    discriminator: nn.Module, generator: nn.Module, seen: ImageSet, held_out: ImageSet, n: int = 1000
) -> dict[str, float]:
    """What the discriminator answers for ``n`` reals it was trained on, ``n`` that it never saw, and ``n`` fakes.

    ``seen``, ``held_out``, ``fake``: the share of each that is called real (a logit above 0). ``r_v``: how far the mean
    logit of held-out reals has gone from that of seen ones towards that of the fakes: 0 without overfitting, 1 where
    unseen reals are taken for fakes (Karras et al. 2020, arXiv:2006.06676, eq. (1)). A copy is asked in train mode, as
    in the game: BatchNorm takes each batch's statistics, an augmentation is on.
    """
    n = min(n, len(seen), len(held_out))
    if n < 2:
        raise ValueError(f"{n} images are too few to tell how unseen ones fare: hold out 100 or more.")
    asked = copy.deepcopy(discriminator).train()
    where = next(asked.parameters()).device
    z = torch.randn(n, generator.z_dim, generator=rng(0)).to(where)
    with eval_mode(generator):
        fakes = torch.cat([generator(part) for part in z.split(BATCH)]).cpu()
    images = {"seen": to_float(seen.take(n).pixels), "held_out": to_float(held_out.take(n).pixels), "fake": fakes}
    logits = {}
    with global_generators_kept(where):
        torch.manual_seed(0)
        for name, those in images.items():
            parts = [part.to(where) for part in those.split(BATCH) if len(part) > 1]  # BatchNorm needs two
            logits[name] = torch.cat([asked(part).float().cpu() for part in parts])
    mean = {name: values.mean().item() for name, values in logits.items()}
    shares = {name: (values > 0).float().mean().item() for name, values in logits.items()}
    return shares | {"r_v": (mean["seen"] - mean["held_out"]) / (mean["seen"] - mean["fake"])}
