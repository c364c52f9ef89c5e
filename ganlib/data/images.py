"""A set of images in one uint8 tensor, and the endless batches that training draws from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ganlib._runtime import device as runtime

# Up to this many bytes the whole set moves to the training device; a larger one stays where it is.
RESIDENT_BELOW = 2 * 2**30


def to_float(pixels: Tensor) -> Tensor:
    """uint8 pixels of any shape as float32 in [-1, 1]: 0 becomes -1 and 255 becomes 1, both exactly."""
    return pixels.float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [-1, 1], of any shape, as uint8: rounded to nearest; what lies outside is clamped."""
    return images.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def as_uint8(images) -> Tensor:
    """Any images [N, C, H, W] as uint8 on the CPU: an ImageSet, or a tensor or array, uint8 or float in [-1, 1].

    Raises:
        ValueError: if the shape or type is another, there is no image, or a float is NaN or outside of [-1, 1].
    """
    images = torch.as_tensor(getattr(images, "pixels", images)).detach().cpu()
    shape = list(images.shape)
    if images.ndim != 4 or 0 in shape:
        raise ValueError(f"The images have shape {shape}, but must be [N, C, H, W], none of them 0.")
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise ValueError(f"The images are {images.dtype}, but must be uint8 or float in [-1, 1].")
    if not images.isfinite().all():
        raise ValueError("The images hold NaN or infinite values: the network that made them has diverged.")
    low, high = images.min().item(), images.max().item()
    if low < -1.001 or high > 1.001:  # bfloat16 and resizing overshoot by a hair
        raise ValueError(
            f"The images run from {low:.2f} to {high:.2f}, but floats must lie in [-1, 1]: end the generator in tanh, "
            "or normalise pixels with x / 127.5 - 1."
        )
    return to_uint8(images)


@dataclass(frozen=True)
class ImageSet:
    """Images of one size in one tensor, with where they came from.

    Attributes:
        pixels: uint8 ``[N, C, H, W]`` in memory, or mapped from disk if large.
        labels: int64 ``[N]``, indices into ``classes``, or None.
        classes: the names of the classes; empty without labels.
        name: what was asked for.
        source: one line to print: what it is, how many, from where.
        skipped: names of images that could not be read.
        split: which part of the set they are: ``"train"`` or ``"test"``, or what a folder calls it.
        attributes: float32 ``[N, A]``, what else is known of each image (0 or 1 for no and yes), or None.
        attribute_names: of the columns of ``attributes``; empty without any.
        flip: whether batches mirror each image left to right with probability 1/2.
    """

    pixels: Tensor
    labels: Tensor | None
    classes: tuple[str, ...]
    name: str
    source: str
    skipped: tuple[str, ...] = ()
    split: str = "train"
    attributes: Tensor | None = None
    attribute_names: tuple[str, ...] = ()
    flip: bool = False

    def with_flips(self) -> ImageSet:
        """The same images, each mirrored left to right with probability 1/2 in every batch. Not for letters."""
        return replace(self, flip=True)

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        return f"{self.source} · uint8 {list(self.pixels.shape)}"

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return self.pixels.shape[-1]

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return self.pixels.shape[1]

    def take(self, n: int, seed: int = 0) -> ImageSet:
        """A random subset of ``n`` images without replacement, with the classes as balanced as they allow.

        With labels, the images come in rounds of one of each class, so that any beginning is balanced too.

        Raises:
            ValueError: if ``n`` is below 1 or more than there are.
        """
        if not 1 <= n <= len(self):
            raise ValueError(f"Cannot take {n} of {len(self)} images; use n from 1 to {len(self)}.")
        order = torch.randperm(len(self), generator=runtime.rng(seed))
        if self.labels is not None:
            labels, round_of = self.labels[order], torch.empty(len(order), dtype=torch.int64)
            for c in labels.unique():
                round_of[labels == c] = torch.arange(int((labels == c).sum()))
            order = order[round_of.argsort(stable=True)]
        return self._subset(order[:n], f"{n:,} of {self.source}")

    def hold_out(self, n: int, seed: int = 0) -> tuple[ImageSet, ImageSet]:
        """All images but ``n``, and these ``n``, chosen with ``seed``: to train on the one and look at the other.

        Raises:
            ValueError: if ``n`` is below 1 or leaves none.
        """
        if not 1 <= n < len(self):
            raise ValueError(f"Cannot hold out {n} of {len(self)} images; use n from 1 to {len(self) - 1}.")
        order = torch.randperm(len(self), generator=runtime.rng(seed))
        held_out, rest = order[:n].sort().values, order[n:].sort().values
        return (
            self._subset(rest, f"{len(rest):,} of {self.source}"),
            self._subset(held_out, f"{n:,} others of {self.source}"),
        )

    def of_class(self, *classes: int | str) -> ImageSet:
        """The images of a class, or of several, by index or name.

        Raises:
            ValueError: if there are no labels, or no such class.
        """
        if self.labels is None:
            raise ValueError(
                f"'{self.name}' has no labels, so no images of class {classes[0]!r}; put each class in a folder."
            )
        for c in classes:
            if c not in self.classes and c not in range(len(self.classes)):
                there = ", ".join(f"{k} {name}" for k, name in enumerate(self.classes))
                raise ValueError(f"'{self.name}' has no class {c!r}; it has: {there}.")
        numbers = [self.classes.index(c) if isinstance(c, str) else c for c in classes]
        rows = torch.isin(self.labels, torch.tensor(numbers)).nonzero().flatten()
        names = ", ".join(self.classes[k] for k in numbers)
        return self._subset(rows, f"class {names} of {self.source}")

    def attribute(self, name: str) -> Tensor:
        """One attribute of every image: float32 ``[N]``.

        Raises:
            ValueError: if nothing of that name is known.
        """
        if name not in self.attribute_names:
            there = ", ".join(self.attribute_names) or "none"
            raise ValueError(f"'{self.name}' has no attribute '{name}'; it has: {there}.")
        return self.attributes[:, self.attribute_names.index(name)]

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """``n`` images, chosen as :meth:`take` does: float32 ``[n, C, H, W]`` in [-1, 1].

        Raises:
            ValueError: if ``n`` is below 1 or more than there are.
        """
        return to_float(self.take(n, seed).pixels)

    def _subset(self, rows: Tensor, source: str) -> ImageSet:
        labels, attributes = (None if known is None else known[rows] for known in (self.labels, self.attributes))
        pixels = self.pixels.index_select(0, rows)
        return replace(self, pixels=pixels, labels=labels, attributes=attributes, source=source)


class Batches:
    """An endless iterator of real images in batches: float32 ``[B, C, H, W]`` in [-1, 1], on the device.

    Each epoch is a new permutation that depends on the seed and the number of the epoch only, so that a run
    can go on exactly where it stopped; the ragged end of an epoch is dropped. No worker processes: up to
    ``RESIDENT_BELOW`` bytes the pixels live on the device, where a batch is one gather.

    Attributes:
        epoch: which pass over the images the next batch is of, from 0.
        index: how many batches of that epoch were given out.
        per_epoch: batches an epoch.
    """

    def __init__(
        self,
        images: ImageSet,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        flip: bool = False,
        memory_format: torch.memory_format = torch.contiguous_format,
    ):
        """Batches of ``images`` from the first epoch on.

        Args:
            images: the set; a bare uint8 tensor ``[N, C, H, W]`` will do.
            batch_size: images a batch, 1 to N.
            device: where the batches are wanted.
            seed: of the order and the flips.
            flip: mirror each image left to right with probability 1/2.
            memory_format: of the batches, e.g. ``torch.channels_last``.

        Raises:
            ValueError: if ``batch_size`` is below 1 or more than there are images, or the pixels are not
                uint8.
        """
        pixels = getattr(images, "pixels", images)
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise ValueError(
                f"Batches takes uint8 images [N, C, H, W], not {pixels.dtype} {list(pixels.shape)}; "
                "convert floats in [-1, 1] with ganlib.data.to_uint8."
            )
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, but must be at least 1.")
        if len(pixels) < batch_size:
            raise ValueError(
                f"There are {len(pixels)} images, fewer than one batch of {batch_size}; "
                f"use batch_size={len(pixels)} or less, or more images."
            )
        self.device = torch.device(device)
        self.pixels = pixels.to(self.device) if pixels.nbytes <= RESIDENT_BELOW else pixels
        self.batch_size, self.seed, self.flip, self.memory_format = batch_size, seed, flip, memory_format
        self.per_epoch = len(pixels) // batch_size
        self.epoch, self.index = 0, 0
        self._shuffled = None

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Tensor:
        if self.index >= self.per_epoch:
            self.epoch, self.index = self.epoch + 1, 0
        if self._shuffled != self.epoch:
            self._shuffle()
        rows = slice(self.index * self.batch_size, (self.index + 1) * self.batch_size)
        self.index += 1
        batch = self.pixels.index_select(0, self._order[rows])
        if batch.device.type != self.device.type:  # "cuda" and "cuda:0" are one device
            if self.device.type == "cuda":
                batch = batch.pin_memory()
            batch = batch.to(self.device, non_blocking=self.device.type == "cuda")
        if self.flip:
            batch = torch.where(self._mirrored[rows].view(-1, 1, 1, 1), batch.flip(-1), batch)
        # Reordered while a pixel is still one byte: half the time of reordering floats.
        return to_float(batch.contiguous(memory_format=self.memory_format))

    def _shuffle(self) -> None:
        # On the CPU whatever the device, so that every machine sees the same order.
        rng = runtime.rng((self.seed * 1_000_003 + self.epoch) % 2**63)
        n = len(self.pixels)
        self._order = torch.randperm(n, generator=rng).to(self.pixels.device)
        self._mirrored = (torch.rand(n, generator=rng) < 0.5).to(self.device)
        self._shuffled = self.epoch

    def state_dict(self) -> dict[str, int]:
        """The position (``epoch``, ``index``) and its units: ``seed``, ``batch_size``, ``n_images``."""
        counts = {"seed": self.seed, "batch_size": self.batch_size, "n_images": len(self.pixels)}
        return {"epoch": self.epoch, "index": self.index, **counts}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a position: the batches that follow are those that followed when it was saved.

        Raises:
            ValueError: if it was saved with another seed, batch size or number of images, or lies outside an
                epoch.
        """
        for key, mine in list(self.state_dict().items())[2:]:
            if state.get(key, mine) != mine:
                raise ValueError(
                    f"The position was saved with {key}={state[key]}, but this run has {key}={mine}; "
                    "use the saved value to go on exactly, or start at the first epoch."
                )
        if state["epoch"] < 0 or not 0 <= state["index"] <= self.per_epoch:
            raise ValueError(
                f"There is no batch {state['index']} in epoch {state['epoch']}; each has {self.per_epoch}."
            )
        self.epoch, self.index = state["epoch"], state["index"]
