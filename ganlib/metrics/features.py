"""From images to features: samples in batches, and what a network makes of them.

A *feature net* is any callable from uint8 images [B, C, H, W] to features [B, D], or to features and logits [B, K]. It
may have a ``name``, for the names of scores, an ``image_shape`` (C, H, W), and a ``resizer`` of its own.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganlib._runtime.device import eval_mode
from ganlib._runtime.randomness import GIVEN_STREAM, global_generators_kept, rng
from ganlib.data.images import ImageSet, as_uint8
from ganlib.metrics.distances import Statistics, check_features

FeatureNet = Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]
Given = Tensor | ImageSet
Images = Callable | Given  # a generator counts as the images it draws

BATCH = 100  # the fastest on a CPU, whose caches hold it
KEEP = 10_000  # features kept of a set, and reals that a score compares with


class Features(NamedTuple):
    """Features float32 [N, D] and logits [N, K] (or None) of at most 10,000 images, and the statistics of all."""

    features: Tensor
    logits: Tensor | None
    statistics: Statistics


@torch.no_grad()
def extract_batch(net: FeatureNet, images: Tensor, resizer: str = "none") -> tuple[Tensor, Tensor | None]:
    """Features [B, D] and logits [B, K] (or None) of one batch, float32 on the CPU.

    ``resizer="bicubic"`` first brings the images to the size that the net takes, antialiased and rounded to uint8.
    """
    name, shape = getattr(net, "name", "custom"), getattr(net, "image_shape", None)
    if resizer not in ("none", "bicubic"):
        raise ValueError(f"resizer is '{resizer}', but must be one of: none, bicubic.")
    if resizer == "bicubic" and shape is None:
        raise ValueError(f"{name} does not say what size it takes; set its 'image_shape' to (C, H, W).")
    if resizer == "bicubic" and images.shape[2:] != shape[1:]:
        # Without antialiasing a smaller picture is speckled: Parmar et al. 2022, arXiv:2104.11222.
        images = interpolate(images.float(), shape[1:], mode="bicubic", antialias=True)
        images = images.round_().clamp_(0, 255).to(torch.uint8)
    found = net(images)
    features, logits = found if isinstance(found, tuple) else (found, None)
    features, logits = features.float().cpu(), None if logits is None else logits.float().cpu()
    check_features(features)
    if len(features) != len(images):
        raise ValueError(f"{name} gave {len(features)} rows of features for {len(images)} images.")
    return features, logits


def extract(net: FeatureNet, images: Tensor | Iterable[Tensor], resizer: str = "none") -> Features:
    """What ``net`` sees in uint8 images [N, C, H, W], or in batches of such: memory does not grow with their number."""
    features, logits = [], []
    n, mean, scatter = 0, 0, 0
    for batch in images.split(BATCH) if isinstance(images, Tensor) else images:
        some, some_logits = extract_batch(net, batch, resizer)
        if n < KEEP:
            features.append(some[: KEEP - n])
            logits += [] if some_logits is None else [some_logits[: KEEP - n]]
        # Running sums about the mean so far, which lose no digits: Chan, Golub & LeVeque 1983, eq. (2.1).
        x = some.double()
        middle, n = x.mean(0), n + len(x)
        x, off = x - middle, middle - mean
        scatter = scatter + x.T @ x + off[:, None] * off * ((n - len(x)) * len(x) / n)
        mean = mean + off * (len(x) / n)
    if n == 0:
        raise ValueError("There are no images to look at.")
    statistics = Statistics(mean, scatter / max(n - 1, 1), n)
    return Features(torch.cat(features), torch.cat(logits) if logits else None, statistics)


def fake_batches(fakes: Images, n: int, seed: int = 0, mode: str = "eval") -> Iterator[Tensor]:
    """``n`` fakes as a PNG would keep them: uint8 [B, C, H, W] on the CPU, B at most 100.

    ``fakes`` is a generator with a ``z_dim``, or images, of which ``n`` are taken at random. With ``mode="train"``
    BatchNorm takes its statistics from each batch: a mistake worth seeing. It leaves nothing behind.
    """
    if mode not in ("eval", "train"):
        raise ValueError(f"mode is '{mode}', but must be one of: eval, train.")
    if isinstance(fakes, Given):
        pixels = getattr(fakes, "pixels", fakes)
        order = torch.randperm(len(pixels), generator=rng(seed + GIVEN_STREAM))
        for rows in (order[:n] if n < len(order) else torch.arange(len(order))).split(BATCH):
            yield as_uint8(pixels[rows.to(pixels.device)])
        return
    if not isinstance(getattr(fakes, "z_dim", None), int):
        raise ValueError("The generator has no whole number 'z_dim', so no z can be drawn; set it.")
    where, g = torch.device("cpu"), rng(seed)
    if isinstance(fakes, nn.Module):
        where = next((p.device for p in fakes.parameters()), where)
    for start in range(0, n, BATCH):
        # Full batches: BatchNorm in train mode sees a hundred each time, and the first m of n are always the same.
        z = torch.randn(BATCH, fakes.z_dim, generator=g)
        with _in_mode(fakes, mode, seed + start, where):
            images = fakes(z.to(where))
        yield as_uint8(images[: n - start])


@contextlib.contextmanager
def _in_mode(generator: Callable, mode: str, seed: int, where: torch.device):
    """A generator without gradients and with its own noise, drawn from ``seed``; nothing is changed afterwards."""
    is_net, before = isinstance(generator, nn.Module), []
    with global_generators_kept(where), eval_mode(generator) if is_net else torch.no_grad():
        torch.manual_seed(seed)
        if is_net and mode == "train":  # moves BatchNorm's running statistics
            before = [(buffer, buffer.clone()) for buffer in generator.buffers()]
            generator.train()
        try:
            yield
        finally:
            for buffer, old in before:
                buffer.copy_(old)


def generate(generator: Images, n: int, seed: int = 0, mode: str = "eval") -> Tensor:
    """``n`` images of a generator at once, as a PNG would keep them: uint8 [n, C, H, W] on the CPU."""
    return torch.cat(list(fake_batches(generator, n, seed, mode)))


def available(fakes: Images, n: int) -> int:
    """``n``, or how many images there are if they are fewer."""
    return min(n, len(fakes)) if isinstance(fakes, Given) else n
