"""What a discriminator has learned to see: its features under a linear classifier, beside raw pixels.

The better the features, the less is left to do for a classifier that can only add up: Radford et al. 2015,
arXiv:1511.06434, section 5.1, with logistic regression in place of their L2-SVM.
"""

import math
from collections import namedtuple
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganlib import models
from ganlib._runtime.device import eval_mode
from ganlib._runtime.randomness import rng
from ganlib.data.images import ImageSet, to_float

SIDE = 4  # each layer's maps are pooled to so many by so many
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # on the squares of the weights; tried on a part of the training images
HELD_BACK = 5  # one in so many training images chooses the penalty

# Share of the test images that are right, its standard error, how many numbers stand for an image, the penalty chosen.
Accuracy = namedtuple("Accuracy", "value error size penalty")


@dataclass(frozen=True)
class Probe:
    """Accuracy from a discriminator's features, from those before its training, and from pixels; prints as one line."""

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
        return " · ".join([*told, f"chance {1 / self.classes:.0%}", how])


def probe(discriminator: nn.Module, train: ImageSet, test: ImageSet, *, untrained: nn.Module | None = None) -> Probe:
    """Train a linear classifier on the discriminator's features, on an untrained network's, and on pixels.

    ``train`` and ``test`` are labelled and disjoint. ``untrained=None`` builds the discriminator as it was before its
    training, if it is one of ganlib's.
    """
    for images in (train, test):
        if images.labels is None:
            raise ValueError(f"'{images.name}' has no labels for a classifier to learn; take a set that has.")
    classes = len(train.labels.unique())
    if len(train) < 50 or classes < 2:
        raise ValueError(f"A probe takes 50 training images or more, of 2 classes, not {len(train)} of {classes}.")
    before = _before_training(discriminator) if untrained is None else untrained
    networks = [partial(pooled_maps, network) for network in (discriminator, before)]
    views = (*networks, lambda pixels: to_float(pixels).flatten(1))
    found = [classify(view(train.pixels), train.labels, view(test.pixels), test.labels) for view in views]
    return Probe(*found, len(train), len(test), classes)


def pooled_maps(discriminator: nn.Module, pixels: Tensor) -> Tensor:
    """What the (Leaky)ReLUs of a discriminator give for uint8 images, max-pooled to 4 × 4, side by side: [N, D]."""
    where, maps = next(discriminator.parameters()).device, []

    def note(_layer, _inputs, output: Tensor) -> None:
        if output.ndim == 4:
            size = [min(SIDE, side) for side in output.shape[2:]]
            maps.append(F.adaptive_max_pool2d(output.float(), size).flatten(1).cpu())

    layers = [layer for layer in discriminator.modules() if isinstance(layer, nn.LeakyReLU | nn.ReLU)]
    hooks, rows = [layer.register_forward_hook(note) for layer in layers], []
    try:
        with eval_mode(discriminator):
            for batch in pixels.split(250):
                maps.clear()
                discriminator(to_float(batch.to(where)))
                if not maps:
                    raise ValueError("No ReLU or LeakyReLU of this discriminator gives maps [B, C, H, W] to look at.")
                rows.append(torch.cat(maps, 1))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(rows)


def classify(x: Tensor, labels: Tensor, x_test: Tensor, labels_test: Tensor) -> Accuracy:
    """How well logistic regression on features [n, D], each scaled to variance 1, tells classes apart.

    The penalty is the best of ``PENALTIES`` on a fifth of them, after training on the others; then it learns from all.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import, and nothing else needs it
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def trained(x: Tensor, labels: Tensor, penalty: float):
        # scikit-learn's C is on the sum of the losses, the penalty on their mean.
        regression = LogisticRegression(C=1 / (penalty * len(x)), max_iter=1000)
        return make_pipeline(StandardScaler(), regression).fit(x, labels)

    back, rest = torch.randperm(len(x), generator=rng(0)).tensor_split([len(x) // HELD_BACK])
    # The first of equals is the smallest penalty.
    penalty = max(PENALTIES, key=lambda w: trained(x[rest], labels[rest], w).score(x[back], labels[back]))
    value = trained(x, labels, penalty).score(x_test, labels_test)
    return Accuracy(value, math.sqrt(value * (1 - value) / len(x_test)), x.shape[1], penalty)


def _before_training(discriminator: nn.Module) -> nn.Module:
    config = dict(getattr(discriminator, "config", None) or {})
    if (kind := config.pop("kind", None)) not in models.BUILDERS:
        raise ValueError("This discriminator does not say how it was built; give it as it was before: untrained=...")
    return models.BUILDERS[kind][1](**config)
