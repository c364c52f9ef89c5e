"""Differentiable augmentation: what the discriminator sees is moved, cut and tinted, reals and fakes alike.

With few images the discriminator learns them by heart and then says nothing about the generator. Augmenting the reals
alone would teach the generator to draw augmented pictures. Augmenting everything that the discriminator sees, also in
the generator's update, does not, as long as the gradient comes back through it.

Source: Zhao et al. 2020, arXiv:2006.10738, section 3; the strengths are those of the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

REACH = 8  # a translation moves an image by at most so many-th of its side
LEVEL = 0.5  # brightness is shifted by up to this, of a range of 2


def augment(images: Tensor, kinds: Iterable[str]) -> Tensor:
    """The images, each changed in its own random way; differentiable, twice if need be.

    The numbers come from torch's global generator, on the CPU: the same on every device, and ``fit`` seeds it at each
    step, so that a run goes on exactly without a state of their own. Pixels that come from nowhere are 0: grey.

    Args:
        images: [B, C, H, W] in [-1, 1], C = 1 or 3.
        kinds: of :data:`KINDS`, in any order: the colours change first, then the place, then a piece is cut out.

    Returns:
        [B, C, H, W]; with ``"colour"`` it may leave [-1, 1].

    Raises:
        ValueError: if there is no such kind.
    """
    for kind in check_kinds(kinds):
        images = KINDS[kind](images)
    return images


def augmented(discriminator: nn.Module, kinds: Iterable[str]) -> nn.Module:
    """Let ``discriminator`` see its images through :func:`augment` from now on, whenever it is in training mode.

    Every training step works with it unchanged, its weights keep their names, and in eval mode it sees the images as
    they are. A run notes the kinds in its ``config.json``.

    Args:
        discriminator: any network of images [B, C, H, W].
        kinds: as in :func:`augment`; none leaves it as it is.

    Returns:
        ``discriminator`` itself; its ``augment`` has the kinds, in the order in which they are applied.

    Raises:
        ValueError: if there is no such kind, or it has been augmented before.
    """
    kinds = check_kinds(kinds)
    if before := getattr(discriminator, "augment", ()):
        raise ValueError(f"This discriminator is augmented already ({', '.join(before)}); build a new one.")
    if kinds:
        discriminator.augment = kinds
        discriminator.register_forward_pre_hook(_before)
    return discriminator


def check_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    """``kinds`` once each, in the order in which they are applied.

    Raises:
        ValueError: if there is no such kind.
    """
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"There is no augmentation '{kind}'; there are: {', '.join(KINDS)}.")
    return tuple(kind for kind in KINDS if kind in kinds)


def _before(discriminator: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
    """The hook that torch calls with the inputs of ``discriminator``."""
    return (augment(inputs[0], discriminator.augment), *inputs[1:]) if discriminator.training else None


def _colour(images: Tensor) -> Tensor:
    """Brightness by up to ±0.5, then saturation times 0 to 2 (nothing to a grey image), contrast times 0.5 to 1.5."""
    brightness, saturation, contrast = torch.rand(3, len(images), 1, 1, 1).to(images)
    images = images + LEVEL * (2 * brightness - 1)
    grey = images.mean(1, keepdim=True)
    images = grey + 2 * saturation * (images - grey)
    level = images.mean((1, 2, 3), keepdim=True)
    return level + (0.5 + contrast) * (images - level)


def _translate(images: Tensor) -> Tensor:
    """Down and to the right by whole pixels, up to an eighth of the side each way, or up and to the left."""
    for axis in (2, 3):
        size = images.shape[axis]
        by = torch.randint(-(size // REACH), size // REACH + 1, (len(images), 1))
        source = torch.arange(size) - by  # [B, size]: which row comes to each place
        shape = [len(images), 1, 1, 1]
        shape[axis] = size
        inside = ((source >= 0) & (source < size)).view(shape).to(images)
        source = source.clamp(0, size - 1).view(shape).to(images.device)
        images = images.gather(axis, source.expand(images.shape)) * inside
    return images


def _cut_out(images: Tensor) -> Tensor:
    """A square of half the side, whose centre is anywhere in the image: near an edge a part of it lies outside."""
    inside = torch.ones(len(images), 1, 1, dtype=torch.bool)
    for axis, size in enumerate(images.shape[2:], 1):
        side = size // 2
        first = torch.randint(0, size + 1, (len(images), 1)) - side // 2
        place = torch.arange(size)
        inside = inside & ((place >= first) & (place < first + side)).unsqueeze(3 - axis)
    return images * (~inside).unsqueeze(1).to(images)


# name -> what it does to images [B, C, H, W], in the order in which they are applied
KINDS = {"colour": _colour, "translation": _translate, "cutout": _cut_out}
