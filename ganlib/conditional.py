"""Labels: a generator that can be asked for a class, three discriminators that see whether it obeys; one pair a class.

A label y is one-hot, float32 [B, K]; ``images.with_labels()`` give it beside the reals. The generator takes it as the
last K numbers of z (see :func:`ganlib.steps.labelled`), the largest of which is the class. So whatever draws z also
draws a class, each equally often, and nothing else needs to know of labels: averages, snapshots, scores, walks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, cross_entropy

from ganlib import losses, models
from ganlib._runtime.randomness import rng
from ganlib.models import CHOSEN, CategoricalCode, Discriminator, Generator, initialise
from ganlib.steps import GAN, Batches, Record, descend, frozen, labelled

KINDS = ("concat", "auxiliary", "projection")


class ClassBatchNorm(nn.BatchNorm2d):
    """BatchNorm of [B, n, H, W] with a scale and a shift for each of ``classes``.

    Source: de Vries et al. 2017, arXiv:1707.00683, section 3; in a generator: Miyato and Koyama 2018, arXiv:1802.05637.
    """

    def __init__(self, n: int, classes: int):
        super().__init__(n, affine=False)
        self.weight, self.bias = nn.Parameter(torch.ones(classes, n)), nn.Parameter(torch.zeros(classes, n))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = batch_norm(x, self.running_mean, self.running_var, training=self.training, eps=self.eps)
        return x * (y @ self.weight)[:, :, None, None] + (y @ self.bias)[:, :, None, None]


class ConditionalGenerator(Generator):
    """A network from z [B, z_dim], its last ``classes`` numbers a label, to images."""

    def __init__(self, layers: Iterable[nn.Module], z_dim: int, classes: int, config: dict):
        super().__init__(layers, z_dim, config)
        self.classes = classes

    def forward(self, z: Tensor) -> Tensor:
        self.check(z)
        y = CategoricalCode(self.classes)(z[:, -self.classes :]) / CHOSEN  # one-hot
        x = z[:, : -self.classes, None, None]
        for layer in self:
            x = layer(x, y) if isinstance(layer, ClassBatchNorm) else layer(x)
        return x


class ConditionalDiscriminator(Discriminator):
    """A network from images [B, C, H, W] and their labels y [B, K] to logits [B].

    ``kind`` says how: ``"concat"`` joins a plane for each class to the image. The others have a last layer of 1 + K
    numbers: the first is the logit; ``"projection"`` adds the one that y chooses, and ``"auxiliary"``, which takes no
    y, returns the rest as logits of the classes: ([B], [B, K]).
    """

    def __init__(self, layers: Iterable[nn.Module], image_size: int, channels: int, kind: str, config: dict):
        super().__init__(layers, image_size, channels, config)
        self.kind = kind

    def forward(self, images: Tensor, y: Tensor | None = None):
        self.check(images)
        if self.kind == "concat":
            images = torch.cat([images, y[:, :, None, None].expand(-1, -1, *images.shape[2:])], 1)
        for layer in self:
            images = layer(images)
        first, rest = images.flatten(1)[:, 0], images.flatten(1)[:, 1:]
        if self.kind == "auxiliary":
            return first, rest
        return first + (rest * y).sum(1) if self.kind == "projection" else first


class PerClass(nn.Module):
    """One generator for each class, all with one z_dim: image i has class i modulo k."""

    def __init__(self, generators: Sequence[nn.Module]):
        super().__init__()
        sizes = {generator.z_dim for generator in generators}
        if len(sizes) != 1:
            raise ValueError(f"PerClass needs one generator for each class, all of one z_dim, but got {sorted(sizes)}.")
        self.generators = nn.ModuleList(generators)
        (self.z_dim,) = sizes
        self.averaged = all(getattr(generator, "averaged", False) for generator in generators)

    def forward(self, z: Tensor) -> Tensor:
        turns = torch.arange(len(z), device=z.device) % len(self.generators)
        parts = [generator(z[turns == c]) for c, generator in enumerate(self.generators) if c < len(z)]
        return torch.cat(parts)[turns.argsort(stable=True).argsort()]  # back to the order of z


def conditional_generator(image_size=64, channels=3, width=64, z_dim=110, *, classes=10, base=4, seed=0):
    """The DCGAN generator with a :class:`ClassBatchNorm` for each BatchNorm.

    ``z_dim`` counts the ``classes`` numbers of the label, too. Source: Miyato and Koyama 2018, arXiv:1802.05637.
    """
    config = {"kind": "conditional", **locals()}
    if not 2 <= classes < z_dim:
        raise ValueError(f"classes={classes}, but must be at least 2 and below z_dim={z_dim}, which includes them.")
    plain = models.dcgan_generator(image_size, channels, width, z_dim - classes, base=base)
    layers = [ClassBatchNorm(it.num_features, classes) if isinstance(it, nn.BatchNorm2d) else it for it in plain]
    return initialise(ConditionalGenerator(layers, z_dim, classes, config), seed)


def conditional_discriminator(
    image_size=64, channels=3, width=64, *, classes=10, label="projection", base=4, norm="batch", depth=1, seed=0
):
    """The DCGAN discriminator that also takes a label, in the way of ``label``.

    Sources: Mirza and Osindero 2014, arXiv:1411.1784 (``"concat"``); Odena et al. 2016, arXiv:1610.09585
    (``"auxiliary"``); Miyato and Koyama 2018, arXiv:1802.05637 (``"projection"``).
    """
    config = {"kind": "conditional", **locals()}
    if label not in KINDS:
        raise ValueError(f"label is '{label}', but must be one of: {', '.join(KINDS)}.")
    if norm == "spectral":
        raise ValueError("norm is 'spectral', which a discriminator with labels does not have: take another.")
    planes = classes if label == "concat" else 0
    *layers, last = models.dcgan_discriminator(image_size, channels + planes, width, base=base, norm=norm, depth=depth)
    layers.append(nn.Conv2d(last.in_channels, 1 if planes else 1 + classes, last.kernel_size))
    return initialise(ConditionalDiscriminator(layers, image_size, channels, label, config), seed)


def columns(rows: int, z_dim: int, classes: int, seed: int = 0) -> Tensor:
    """z [rows * classes, z_dim] for a grid with a class a column and a style a row."""
    z = torch.randn(rows, z_dim, generator=rng(seed)).repeat_interleave(classes, 0)
    return labelled(z, torch.eye(classes).repeat(rows, 1))


def auxiliary_step(gan: GAN, batches: Batches) -> Record:
    """One step with an auxiliary classifier: ``d_loss``, ``g_loss`` and ``class_loss``.

    The discriminator learns to name the class of reals and fakes, the generator to draw what it names right;
    ``class_loss`` is that of the reals.

    Source: Odena et al. 2016, arXiv:1610.09585, section 3, with the non-saturating loss.
    """
    real, y = next(batches)
    fake = gan.generator(labelled(gan.sample_z(len(real)), y))
    (real_logits, real_classes), (fake_logits, fake_classes) = gan.discriminator(real), gan.discriminator(fake.detach())
    d_loss = losses.non_saturating_d_loss(real_logits, fake_logits)
    class_loss = cross_entropy(real_classes.to(y.dtype), y)
    descend(gan.d_opt, d_loss + class_loss + cross_entropy(fake_classes.to(y.dtype), y))
    with frozen(gan.discriminator):
        fake_logits, fake_classes = gan.discriminator(fake)
        g_loss = losses.non_saturating_g_loss(fake_logits)
        descend(gan.g_opt, g_loss + cross_entropy(fake_classes.to(y.dtype), y))
    return {"d_loss": d_loss, "g_loss": g_loss, "class_loss": class_loss}
