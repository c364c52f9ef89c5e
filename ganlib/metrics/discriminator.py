"""What a discriminator has learned, and whether it memorised its training images."""

import contextlib
import copy
import math
from collections import namedtuple
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganlib import models
from ganlib._runtime.device import eval_mode
from ganlib._runtime.randomness import rng, seeded
from ganlib.data.images import ImageSet, to_float

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # on the squared weights; a fifth of the training images chooses one
BATCH = 50  # images over which BatchNorm takes its statistics

# Share of test images classified correctly, its standard error, features per image, the chosen penalty.
Accuracy = namedtuple("Accuracy", "value error size penalty")


@dataclass(frozen=True)
class Probe:
    """Accuracy from trained features, untrained ones and pixels; prints as four lines."""

    features: Accuracy
    untrained: Accuracy
    pixels: Accuracy
    n_train: int
    n_test: int
    classes: int

    def __str__(self) -> str:
        views = (("discriminator", self.features), ("untrained", self.untrained), ("pixels", self.pixels))
        told = [f"{name} {a.value:.1%} ± {a.error:.1%} ({a.size:,} numbers)" for name, a in views]
        how = f"linear classifier on {self.n_train:,} labelled images, judged on {self.n_test:,} (± one standard error)"
        return "\n".join([*told, f"  chance {1 / self.classes:.0%} · {how}"])


def probe(discriminator: nn.Module, train: ImageSet, test: ImageSet, *, untrained: nn.Module | None = None) -> Probe:
    """Train linear classifiers on trained and untrained features, and on pixels.

    The better the features, the better a classifier that is only linear can do: Radford et al. 2015,
    arXiv:1511.06434, section 5.1, with logistic regression in place of their L2-SVM. ``train`` and ``test`` are
    labelled and disjoint; ``untrained=None`` builds a discriminator of ganlib's as it was before its training.
    """
    for images in (train, test):
        if images.labels is None:
            raise ValueError(f"'{images.name}' has no labels for a classifier to learn; take a set that has.")
    classes = len(train.labels.unique())
    if len(train) < 50 or classes < 2:
        raise ValueError(f"A probe takes 50 training images or more, of 2 classes, not {len(train)} of {classes}.")
    config = getattr(discriminator, "config", None)
    if untrained is None and not config:
        raise ValueError("This discriminator does not say how it was built; give one as it was before: untrained=...")
    if untrained is None:
        untrained = models.Discriminator.build(config).to(next(discriminator.parameters()).device)
    views = [partial(pooled_maps, net) for net in (discriminator, untrained)] + [lambda x: to_float(x).flatten(1)]
    found = [classify(view(train.pixels), train.labels, view(test.pixels), test.labels) for view in views]
    return Probe(*found, len(train), len(test), classes)


def pooled_maps(discriminator: nn.Module, pixels: Tensor) -> Tensor:
    """A discriminator's features [N, D]: all (Leaky)ReLU outputs, pooled to 4 × 4."""
    where, maps, rows = next(discriminator.parameters()).device, [], []

    def note(_layer, _inputs, output: Tensor) -> None:
        if output.ndim == 4:
            size = [min(4, side) for side in output.shape[2:]]
            maps.append(F.adaptive_max_pool2d(output.float(), size).flatten(1).cpu())

    with contextlib.ExitStack() as hooks, eval_mode(discriminator):
        for layer in discriminator.modules():
            if isinstance(layer, nn.LeakyReLU | nn.ReLU):
                hooks.enter_context(layer.register_forward_hook(note))
        for batch in pixels.split(250):
            maps.clear()
            discriminator(to_float(batch.to(where)))
            if not maps:
                raise ValueError("No ReLU or LeakyReLU of this discriminator gives maps [B, C, H, W] to look at.")
            rows.append(torch.cat(maps, 1))
    return torch.cat(rows)


def classify(x: Tensor, labels: Tensor, x_test: Tensor, labels_test: Tensor) -> Accuracy:
    """The accuracy of logistic regression on features [n, D], scaled to variance 1."""
    from sklearn.linear_model import LogisticRegression  # takes a second to import, and only this needs it
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def trained(x: Tensor, labels: Tensor, penalty: float):
        # scikit-learn's C is on the sum of the losses, the penalty on their mean.
        regression = LogisticRegression(C=1 / (penalty * len(x)), max_iter=1000)
        return make_pipeline(StandardScaler(), regression).fit(x, labels)

    back, rest = torch.randperm(len(x), generator=rng(0)).tensor_split([len(x) // 5])
    # Of equals the first, the smallest penalty, is taken.
    penalty = max(PENALTIES, key=lambda w: trained(x[rest], labels[rest], w).score(x[back], labels[back]))
    value = trained(x, labels, penalty).score(x_test, labels_test)
    return Accuracy(value, math.sqrt(value * (1 - value) / len(x_test)), x.shape[1], penalty)


@torch.no_grad()
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
