"""Differentiable augmentation of all images the discriminator sees.

With few images a discriminator memorises them. Augmenting the reals alone would teach the generator to draw augmented
pictures; augmenting the fakes as well, also in the generator's update, does not (Zhao et al. 2020, arXiv:2006.10738).
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ganlib._runtime.randomness import fresh


def augment(images: Tensor, kinds: Iterable[str]) -> Tensor:
    """Augment images [B, C, H, W] in [-1, 1], each at random; twice differentiable.

    The random numbers are torch's global ones on the CPU, which ``fit`` seeds at each step: the same on every device.
    Pixels from outside the image are 0: grey. With ``"colour"`` values may leave [-1, 1].
    """
    for kind in check_kinds(kinds):
        images = KINDS[kind](images)
    return images


def augmented(discriminator: nn.Module, kinds: Iterable[str]) -> nn.Module:
    """Make ``discriminator`` :func:`augment` its images in training mode; return it."""
    if before := getattr(discriminator, "augment", ()):
        raise ValueError(f"This discriminator is augmented already ({', '.join(before)}); build a new one.")
    if kinds := check_kinds(kinds):
        discriminator.augment = kinds  # a run saves them in its config.json
        discriminator.register_forward_pre_hook(_augment_inputs)
    return discriminator


def check_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    """``kinds`` once each, in the order of application: colour, translation, cutout."""
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    if unknown := kinds - set(KINDS):
        raise ValueError(f"There is no augmentation '{unknown.pop()}'; there are: {', '.join(KINDS)}.")
    return tuple(kind for kind in KINDS if kind in kinds)


def _augment_inputs(discriminator: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    return (augment(inputs[0], discriminator.augment), *inputs[1:]) if discriminator.training else None


def _colour(images: Tensor) -> Tensor:
    """Shift brightness by up to ±0.5, scale saturation by 0-2, contrast by 0.5-1.5."""
    brightness, saturation, contrast = fresh(images.device, _changes, len(images)).to(images.dtype).unbind(1)
    images = images + 0.5 * (2 * brightness - 1)
    grey = images.mean(1, keepdim=True)
    images = grey + 2 * saturation * (images - grey)
    level = images.mean((1, 2, 3), keepdim=True)
    return level + (0.5 + contrast) * (images - level)


def _changes(n: int) -> Tensor:
    """Of brightness, saturation and contrast, uniform in [0, 1]: [n, 3, 1, 1, 1]."""
    return torch.rand(3, n, 1, 1, 1).transpose(0, 1)


def _translate(images: Tensor) -> Tensor:
    """Shift by whole pixels, up to an eighth of the side each way."""
    for _ in range(2):  # vertically, then horizontally
        images = images.transpose(2, 3)
        reach, size = images.shape[3] // 8, images.shape[3]
        come_from = fresh(images.device, _shifted, len(images), size, reach)
        images = pad(images, (reach, reach)).gather(3, come_from.expand(images.shape))
    return images


def _shifted(n: int, size: int, reach: int) -> Tensor:
    """Where each pixel of a row comes from, [n, 1, 1, size]."""
    return (torch.arange(size) + reach - torch.randint(-reach, reach + 1, (n, 1))).view(-1, 1, 1, size)


def _cut_out(images: Tensor) -> Tensor:
    """Blank a square of half the side, centred anywhere in the image."""
    return images * fresh(images.device, _kept, len(images), *images.shape[2:]).to(images.dtype)


def _kept(n: int, *sides: int) -> Tensor:
    """Where there is no square: bool [n, 1, H, W]."""
    inside = torch.ones(n, 1, 1, dtype=torch.bool)
    for axis, size in enumerate(sides, 1):
        place = torch.arange(size) - torch.randint(0, size + 1, (n, 1)) + size // 2 // 2
        inside = inside & ((place >= 0) & (place < size // 2)).unsqueeze(3 - axis)
    return ~inside.unsqueeze(1)


# name -> what it does to images [B, C, H, W], in the order in which they are applied
KINDS = {"colour": _colour, "translation": _translate, "cutout": _cut_out}
