"""What a discriminator has learned to see: its features under a linear classifier, beside raw pixels.

To tell reals from fakes it needs to know what reals are made of. How much of that is worth something elsewhere shows a
classifier that can only add up: the better the features, the less is left for it to do.

Source: Radford et al. 2015, arXiv:1511.06434, section 5.1, with logistic regression in place of their L2-SVM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganlib import models
from ganlib._runtime import device as runtime
from ganlib.data.images import ImageSet, to_float

SIDE = 4  # each layer's maps are pooled to so many by so many
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # on the squares of the weights; tried on a part of the training images
HELD_BACK = 5  # one in so many training images chooses the penalty
ITERATIONS = 100  # of L-BFGS
BATCH = 250
ACTIVATIONS = (nn.LeakyReLU, nn.ReLU)


@dataclass(frozen=True)
class Accuracy:
    """How often a linear classifier is right.

    Attributes:
        value: share of the test images.
        error: its standard error, from the number of test images alone.
        size: numbers that stand for an image.
        penalty: the weight on the squares that was chosen.
    """

    value: float
    error: float
    size: int
    penalty: float


@dataclass(frozen=True)
class Probe:
    """Accuracy of a linear classifier on three views of the same images; prints as one line.

    Attributes:
        features: the discriminator's.
        untrained: those of the same network before its training.
        pixels: the images as they are.
        n_train, n_test: labelled images that the classifier learned from and was judged on.
        classes: how many.
    """

    features: Accuracy
    untrained: Accuracy
    pixels: Accuracy
    n_train: int
    n_test: int
    classes: int

    def __str__(self) -> str:
        views = {
            "discriminator": self.features,
            "untrained": self.untrained,
            "pixels": self.pixels,
        }
        told = " · ".join(f"{name} {a.value:.1%} ± {a.error:.1%} ({a.size:,} numbers)" for name, a in views.items())
        return (
            f"{told} · chance {1 / self.classes:.0%} · linear classifier on {self.n_train:,} labelled images, judged "
            f"on {self.n_test:,} (± one standard error)"
        )


def probe(
    discriminator: nn.Module,
    train: ImageSet,
    test: ImageSet,
    *,
    untrained: nn.Module | None = None,
    seed: int = 0,
) -> Probe:
    """Train a linear classifier on the discriminator's features, on an untrained network's, and on pixels.

    Args:
        discriminator: network of images [B, C, H, W]; it is looked into in eval mode and stays as it is.
        train, test: labelled images, disjoint.
        untrained: the network to compare with; None builds the discriminator as it was before its training, if it is
            one of ganlib's.
        seed: of the part of ``train`` that chooses the penalty.

    Raises:
        ValueError: if there are no labels, there are fewer than 50 training images or two classes, or the untrained
            network is not given and cannot be built.
    """
    for images in (train, test):
        if images.labels is None:
            raise ValueError(f"'{images.name}' has no labels, so no classifier can learn from it; take a set that has.")
    if len(train) < 50 or len(train.labels.unique()) < 2:
        raise ValueError(
            f"There are {len(train)} training images of {len(train.labels.unique())} classes; a probe takes 50 or more "
            "of 2 classes or more."
        )
    untrained = _before_training(discriminator) if untrained is None else untrained
    views = {
        "features": lambda images: features(discriminator, images.pixels),
        "untrained": lambda images: features(untrained, images.pixels),
        "pixels": lambda images: to_float(images.pixels).flatten(1),
    }
    found = {name: classify(view(train), train.labels, view(test), test.labels, seed) for name, view in views.items()}
    return Probe(**found, n_train=len(train), n_test=len(test), classes=len(train.labels.unique()))


def features(discriminator: nn.Module, pixels: Tensor) -> Tensor:
    """What every layer of a discriminator sees, max-pooled to 4 × 4 places and laid side by side.

    Args:
        discriminator: network of images [B, C, H, W], with ReLU or LeakyReLU after its layers.
        pixels: uint8 [N, C, H, W].

    Returns:
        float32 [N, D] on the CPU: D is 16 times the number of maps, less where maps are smaller than 4 × 4.

    Raises:
        ValueError: if no activation of the network is a map.
    """
    where = next(discriminator.parameters()).device
    seen: list[Tensor] = []

    def note(_layer, _inputs, maps: Tensor) -> None:
        if maps.ndim == 4:
            size = [min(SIDE, side) for side in maps.shape[2:]]
            seen.append(F.adaptive_max_pool2d(maps.float(), size).flatten(1).cpu())

    hooks = [layer.register_forward_hook(note) for layer in discriminator.modules() if isinstance(layer, ACTIVATIONS)]
    rows = []
    try:
        with runtime.eval_mode(discriminator):
            for batch in pixels.split(BATCH):
                seen.clear()
                discriminator(to_float(batch.to(where)))
                if not seen:
                    raise ValueError("No ReLU or LeakyReLU of this discriminator gives maps [B, C, H, W] to look at.")
                rows.append(torch.cat(seen, 1))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(rows)


def classify(x: Tensor, labels: Tensor, x_test: Tensor, labels_test: Tensor, seed: int = 0) -> Accuracy:
    """How well multinomial logistic regression tells classes apart.

    Every column is shifted and scaled to mean 0 and variance 1 on the training images. The penalty is the best of
    ``PENALTIES`` on a fifth of them, after training on the others; then it learns from all.

    Args:
        x, x_test: float [n, D] and [m, D].
        labels, labels_test: int64 [n] and [m], from 0.
        seed: of that fifth.
    """
    mean, spread = x.mean(0), x.std(0)
    spread = torch.where(spread > 1e-6 * spread.max(), spread, 1.0)  # a pixel that is always black says nothing
    x, x_test = (x - mean) / spread, (x_test - mean) / spread
    k = int(max(labels.max(), labels_test.max())) + 1
    order = torch.randperm(len(x), generator=runtime.rng(seed))
    back, rest = order[: len(x) // HELD_BACK], order[len(x) // HELD_BACK :]

    def right(weights: tuple[Tensor, Tensor], rows: Tensor, of: Tensor) -> float:
        return (F.linear(rows, *weights).argmax(1) == of).double().mean().item()

    # The first of equals is the smallest penalty.
    tried = {w: right(_regress(x[rest], labels[rest], k, w), x[back], labels[back]) for w in PENALTIES}
    penalty = max(tried, key=tried.get)
    value = right(_regress(x, labels, k, penalty), x_test, labels_test)
    return Accuracy(value, math.sqrt(value * (1 - value) / len(x_test)), x.shape[1], penalty)


def _regress(x: Tensor, labels: Tensor, k: int, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights [k, D] and biases [k] of the least cross-entropy plus half the penalty times the squared weights.

    It is convex: zeros are as good a beginning as any.
    """
    weights = torch.zeros(k, x.shape[1], requires_grad=True), torch.zeros(k, requires_grad=True)
    optimiser = torch.optim.LBFGS(weights, max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(F.linear(x, *weights), labels) + penalty / 2 * weights[0].square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return weights[0].detach(), weights[1].detach()


def _before_training(discriminator: nn.Module) -> nn.Module:
    config = dict(getattr(discriminator, "config", None) or {})
    kind = config.pop("kind", None)
    if kind not in models.BUILDERS:
        raise ValueError(
            "This discriminator does not say how it was built; give the same network before its training: untrained=..."
        )
    return models.BUILDERS[kind][1](**config)
