"""A set of images in one uint8 tensor, and endless batches for training."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from ganlib._runtime.randomness import fresh, onto, rng

RESIDENT_BELOW = 2 * 2**30  # bytes: up to this, pixels are moved to the training device; more stay where they are


def to_float(pixels: Tensor) -> Tensor:
    """Convert uint8 pixels to float32 in [-1, 1]: exactly -1 for 0 and 1 for 255."""
    return pixels.float().div_(127.5).sub_(1)


def quantised(images: Tensor) -> Tensor:
    """A generator's floats in [-1, 1] as uint8, rounded to nearest and clamped."""
    return images.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def to_uint8(images: Tensor) -> Tensor:
    """Convert floats in [-1, 1] to uint8, rounded to nearest and clamped; or in [0, 1], if none is below 0."""
    if images.numel() and images.min() >= 0:
        if (high := images.max().item()) > 1.001:
            raise ValueError(f"Floats from 0 to {high:.4g} do not lie in [-1, 1]: normalise with x / 127.5 - 1.")
        images = images.detach().float() * 2 - 1
    return quantised(images)


def as_uint8(images, drawn: bool = False) -> Tensor:
    """Convert images [N, C, H, W], uint8 or float in [-1, 1], to uint8 on the CPU.

    Floats of which none is below 0 are taken as 0 to 1, unless a generator has ``drawn`` them.
    """
    images = getattr(images, "pixels", images)
    if not isinstance(images, Tensor):
        images = np.require(images, requirements=["C", "W"])  # torch rejects arrays that are mirrored or read-only
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"The images have shape {list(images.shape)}, but must be [N, C, H, W], none of them 0.")
    if str(images.dtype).removeprefix("torch.") not in ("uint8", "bfloat16", "float16", "float32", "float64"):
        raise ValueError(f"The images are {images.dtype}, but must be uint8 or float in [-1, 1].")
    images = torch.as_tensor(images)
    if images.dtype == torch.uint8:
        return images.cpu()
    low, high = (end.item() for end in images.aminmax())
    if not math.isfinite(high - low):
        bad = (~images.isfinite()).flatten(1).any(1).nonzero()[0].item()
        raise ValueError(f"Image {bad} holds NaN or infinite values: the network that made it has diverged.")
    if low < -1.001 or high > 1.001:  # bfloat16 and resizing overshoot by a hair
        why = f"The images run from {low:.2f} to {high:.2f}, but floats must lie in [-1, 1]"
        raise ValueError(f"{why}: end the generator in tanh, or normalise pixels with x / 127.5 - 1.")
    return (quantised if drawn else to_uint8)(images).cpu()


def ready(images, generator, z: Tensor):
    """An ImageSet or uint8 [N, C, H, W]; made of whatever ``load`` takes, as the generator draws it."""
    if isinstance(images, ImageSet):
        return images
    if getattr(images, "dtype", None) == torch.uint8 and images.ndim == 4 and images.shape[3] not in (1, 3, 4):
        return images
    from ganlib.data.loading import load  # late: it imports every reader

    with torch.no_grad():
        drawn = generator(z[:2].to(next(generator.parameters()).device))
    return load(images, image_size=drawn.shape[-1], channels=drawn.shape[1])


@dataclass(frozen=True)
class ImageSet:
    """Images of one size in one tensor, with their labels and attributes."""

    pixels: Tensor  # uint8 [N, C, H, W], in memory, or mapped from disk if large
    labels: Tensor | None  # int64 [N], indices into ``classes``
    classes: tuple[str, ...]  # class names; empty without labels
    name: str  # the requested dataset
    source: str  # one line to print: name, number and origin
    skipped: tuple[str, ...] = ()  # names of images that could not be read
    split: str = "train"  # or "test", or the folder's name
    attributes: Tensor | None = None  # float32 [N, A]: 0 or 1 for no and yes
    attribute_names: tuple[str, ...] = ()  # names of the columns of ``attributes``
    summary: tuple[str, ...] = ()  # sentences about what is in it, and what was done to it
    flip: bool = False  # whether batches mirror each image left to right with probability 1/2
    labelled: bool = False  # whether batches give labels, too

    def with_flips(self) -> ImageSet:
        """The same images, but batches mirror each with probability 1/2. Not for letters."""
        return replace(self, flip=True)

    def with_labels(self) -> ImageSet:
        """The same images, but batches are (images, labels), one-hot float32 [B, K]."""
        if self.labels is None:
            raise ValueError(f"'{self.name}' has no labels to train with; put each class in a folder.")
        return replace(self, labelled=True)

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        return f"{self.source} · uint8 {list(self.pixels.shape)}"

    @property
    def image_size(self) -> int:
        return self.pixels.shape[-1]

    @property
    def channels(self) -> int:
        return self.pixels.shape[1]

    def take(self, n: int, seed: int = 0) -> ImageSet:
        """A random subset of ``n`` images; with labels, classes take turns."""
        if not isinstance(n, Integral) or not 1 <= n <= len(self):
            raise ValueError(f"Cannot take {n} of {len(self)} images; use n from 1 to {len(self)}.")
        order = torch.randperm(len(self), generator=rng(seed))
        if self.labels is not None:
            labels, round_of = self.labels[order], torch.empty_like(order)
            for c in labels.unique():
                round_of[labels == c] = torch.arange(int((labels == c).sum()))
            order = order[round_of.argsort(stable=True)]
        return self._subset(order[:n], f"{n:,} of {self.source}")

    def hold_out(self, n: int, seed: int = 0) -> tuple[ImageSet, ImageSet]:
        """A random split: all images but ``n`` for training, and ``n`` held out."""
        if not isinstance(n, Integral) or not 1 <= n < len(self):
            raise ValueError(f"Cannot hold out {n} of {len(self)} images; use n from 1 to {len(self) - 1}.")
        order = torch.randperm(len(self), generator=rng(seed))
        rest = self._subset(order[n:].sort().values, f"{len(self) - n:,} of {self.source}")
        return rest, self._subset(order[:n].sort().values, f"{n:,} others of {self.source}")

    def of_class(self, *classes: int | str) -> ImageSet:
        """The images of one or more classes, by index or name."""
        if self.labels is None:
            raise ValueError(f"'{self.name}' has no labels, so no class {classes[0]!r}; put each class in a folder.")
        for c in classes:
            if c not in self.classes and c not in range(len(self.classes)):
                there = ", ".join(f"{k} {name}" for k, name in enumerate(self.classes))
                raise ValueError(f"'{self.name}' has no class {c!r}; it has: {there}.")
        numbers = [self.classes.index(c) if isinstance(c, str) else c for c in classes]
        rows = torch.isin(self.labels, torch.tensor(numbers)).nonzero().flatten()
        return self._subset(rows, f"class {', '.join(self.classes[k] for k in numbers)} of {self.source}")

    def attribute(self, name: str) -> Tensor:
        """One attribute of every image: float32 [N]."""
        if name not in self.attribute_names:
            there = ", ".join(self.attribute_names) or "none"
            raise ValueError(f"'{self.name}' has no attribute '{name}'; it has: {there}.")
        return self.attributes[:, self.attribute_names.index(name)]

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """``n`` images, chosen as in :meth:`take`: float32 [n, C, H, W] in [-1, 1]."""
        return to_float(self.take(n, seed).pixels)

    def _subset(self, rows: Tensor, source: str) -> ImageSet:
        labels, attributes = (None if known is None else known[rows] for known in (self.labels, self.attributes))
        pixels = self.pixels.index_select(0, rows)
        return replace(self, pixels=pixels, labels=labels, attributes=attributes, source=source)


class Batches:
    """An endless iterator of reals, float32 [B, C, H, W] in [-1, 1], on the device.

    From images ``with_labels()`` they are pairs: reals, and their labels one-hot, float32 [B, K].

    Each epoch is a new permutation that depends only on the seed and the number of the epoch, so that a run can be
    resumed exactly; an incomplete last batch is dropped. There are no worker processes: a batch is one gather.
    """

    def __init__(self, images, batch_size: int, device="cpu", seed: int = 0, memory_format=torch.contiguous_format):
        """Start at the first epoch of an ImageSet or a uint8 tensor [N, C, H, W]."""
        pixels, self.flip = (images.pixels, images.flip) if isinstance(images, ImageSet) else (images, False)
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise ValueError(f"Images are uint8 [N, C, H, W], not {pixels.dtype} {list(pixels.shape)}; use as_uint8.")
        if not isinstance(batch_size, Integral) or not 1 <= batch_size <= len(pixels):
            raise ValueError(f"batch_size is {batch_size}, but must be 1 to {len(pixels)}, the number of images.")
        self.labels, self._one_hot = None, None
        if getattr(images, "labelled", False):
            self.labels, self._one_hot = images.labels, torch.eye(len(images.classes))
        self.device = torch.device(device)
        self.pixels = pixels.to(self.device) if pixels.nbytes <= RESIDENT_BELOW else pixels
        self.batch_size, self.seed, self.memory_format = batch_size, seed, memory_format
        self.per_epoch = len(pixels) // batch_size
        self.epoch = self.index = 0  # position of the next batch
        self._shuffled = None  # the epoch of the current order

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Tensor | tuple[Tensor, Tensor]:
        reals = fresh(self.device, self._batch)
        return reals if self.labels is None else (reals, fresh(self.device, self._labels))

    def _batch(self) -> Tensor:
        if self.index == self.per_epoch:
            self.epoch, self.index = self.epoch + 1, 0
        if self._shuffled != self.epoch:
            self._shuffle()
        rows = slice(self.index * self.batch_size, (self.index + 1) * self.batch_size)
        self.index += 1
        batch = onto(self.pixels.index_select(0, self._order[rows]), self.device)
        if self.flip:
            batch = torch.where(self._mirrored[rows].view(-1, 1, 1, 1), batch.flip(-1), batch)
        # Reordered as bytes: half the time of reordering floats.
        return to_float(batch.contiguous(memory_format=self.memory_format))

    def _labels(self) -> Tensor:
        """Those of the last batch."""
        rows = slice((self.index - 1) * self.batch_size, self.index * self.batch_size)
        return self._one_hot[self.labels[self._order[rows].cpu()]]

    def _shuffle(self) -> None:
        # Always on the CPU, so that every machine sees the same order.
        chance = rng((self.seed * 1_000_003 + self.epoch) % 2**63)
        self._order = onto(torch.randperm(len(self.pixels), generator=chance), self.pixels.device)
        self._mirrored = onto(torch.rand(len(self.pixels), generator=chance) < 0.5, self.device)
        self._shuffled = self.epoch

    def state_dict(self) -> dict[str, int]:
        """The position (``epoch``, ``index``) and ``seed``, ``batch_size``, ``n_images``."""
        position = {"epoch": self.epoch, "index": self.index}
        return position | {"seed": self.seed, "batch_size": self.batch_size, "n_images": len(self.pixels)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a saved position; the same batches follow as when it was saved."""
        for key, now in list(self.state_dict().items())[2:]:
            if (was := state.get(key, now)) != now:
                raise ValueError(f"The position was saved with {key}={was}, not {now}; use {was} to resume exactly.")
        if state["epoch"] < 0 or not 0 <= state["index"] <= self.per_epoch:
            raise ValueError(f"There is no batch {state['index']} in epoch {state['epoch']}: it has {self.per_epoch}.")
        self.epoch, self.index = state["epoch"], state["index"]
