"""From images to features: drawing samples, and what a network sees in them, a batch at a time.

A *feature net* is any callable from uint8 images ``[B, C, H, W]`` to features ``[B, D]``, or to features and logits
``[B, K]`` if it also classifies. Its attributes, all optional: ``name``, for the names of scores; ``image_shape``
``(C, H, W)``, for a resizer; ``resizer``, what it resizes with itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganlib._runtime import device as runtime
from ganlib.data.images import ImageSet, to_uint8
from ganlib.metrics.distances import Statistics, check_features

FeatureNet = Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]
Images = Callable | Tensor | ImageSet  # a generator counts as the images it draws

BATCH = 100  # the fastest on a CPU, whose caches hold it
KEEP = 10_000  # features kept of a set, and reals that a score compares with
MODES = ("eval", "train")
RESIZERS = ("none", "bicubic")


class Features(NamedTuple):
    """What a net saw in N images.

    Attributes:
        features: float32 ``[N, D]`` on the CPU, of the first 10,000 if there are more.
        logits: float32 ``[N, K]``, of the same; None if the net does not classify.
        statistics: of all N.
    """

    features: Tensor
    logits: Tensor | None
    statistics: Statistics

    @property
    def n(self) -> int:
        """How many images were seen."""
        return self.statistics.n


@torch.no_grad()
def look(net: FeatureNet, images: Tensor, resizer: str = "none") -> tuple[Tensor, Tensor | None]:
    """What ``net`` sees in one batch.

    Args:
        net: a feature net.
        images: uint8 ``[B, C, H, W]``.
        resizer: ``"none"``, or ``"bicubic"`` (antialiased, rounded to uint8) to the size that ``net`` takes.

    Returns:
        features float32 ``[B, D]`` and logits float32 ``[B, K]`` or None, on the CPU.

    Raises:
        ValueError: if there is no such resizer, or the features are not ``[B, D]`` or not finite.
    """
    if resizer not in RESIZERS:
        raise ValueError(f"resizer is '{resizer}', but must be one of: {', '.join(RESIZERS)}.")
    if resizer != "none":
        shape = getattr(net, "image_shape", None)
        if shape is None:
            raise ValueError(f"{name_of(net)} does not say what size it takes; set its 'image_shape' to (C, H, W).")
        if images.shape[2:] != shape[1:]:
            # Without antialiasing a smaller picture is speckled: Parmar et al. 2022, arXiv:2104.11222.
            images = interpolate(images.float(), shape[1:], mode="bicubic", antialias=True)
            images = images.round_().clamp_(0, 255).to(torch.uint8)
    seen = net(images)
    features, logits = seen if isinstance(seen, tuple) else (seen, None)
    features, logits = features.float().cpu(), None if logits is None else logits.float().cpu()
    check_features(features)
    if len(features) != len(images):
        raise ValueError(f"{name_of(net)} gave {len(features)} rows of features for {len(images)} images.")
    return features, logits


@torch.no_grad()
def extract(net: FeatureNet, images: Tensor | Iterable[Tensor], resizer: str = "none") -> Features:
    """What ``net`` sees in ``images``, a batch at a time: memory does not grow with their number.

    Args:
        net: a feature net.
        images: uint8 ``[N, C, H, W]``, N ≥ 1, or batches of such.
        resizer: as in :func:`look`.

    Returns:
        ``(features, logits, statistics)``: see :class:`Features`.

    Raises:
        ValueError: as :func:`look`; from ``net`` for images that it cannot judge.
    """
    batches = images.split(BATCH) if isinstance(images, Tensor) else images
    features, logits, kept = [], [], 0
    n, mean, scatter = 0, 0, 0
    for batch in batches:
        some, some_logits = look(net, batch, resizer)
        if kept < KEEP:
            features.append(some[: KEEP - kept])
            logits += [] if some_logits is None else [some_logits[: KEEP - kept]]
            kept += len(features[-1])
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


def draw(fakes: Images, n: int, seed: int = 0, mode: str = "eval") -> Iterator[Tensor]:
    """``n`` images as a PNG would keep them, in batches of at most 100.

    Args:
        fakes: a generator z ``[B, z_dim]`` -> ``[B, C, H, W]`` in [-1, 1] with the attribute ``z_dim``; or images,
            uint8 or float in [-1, 1], of which ``n`` are taken at random if there are more.
        n: how many, ≥ 1.
        seed: of z ~ N(0, I), the same on every device, and of the choice of images.
        mode: ``"eval"`` or ``"train"``: what BatchNorm and dropout do in the generator. In train mode BatchNorm
            takes its statistics from each batch of 100. Nothing of it stays in the generator.

    Yields:
        uint8 ``[B, C, H, W]`` on the CPU.

    Raises:
        ValueError: if there is no ``z_dim``, no such mode, or the images are not finite or leave [-1, 1].
    """
    if mode not in MODES:
        raise ValueError(f"mode is '{mode}', but must be one of: {', '.join(MODES)}.")
    if is_given(fakes):
        pixels = getattr(fakes, "pixels", fakes)
        order = torch.arange(n)
        if n < len(pixels):
            order = torch.randperm(len(pixels), generator=runtime.rng(seed + runtime.GIVEN_STREAM))
        for rows in order[: min(n, len(pixels))].split(BATCH):
            yield as_png(pixels[rows.to(pixels.device)])
        return
    if not isinstance(getattr(fakes, "z_dim", None), int):
        raise ValueError("The generator has no whole number 'z_dim', so no z can be drawn; set it.")
    where, g = torch.device("cpu"), runtime.rng(seed)
    if isinstance(fakes, nn.Module):
        where = next((p.device for p in fakes.parameters()), where)
    for start in range(0, n, BATCH):
        # Whole batches: BatchNorm in train mode sees a hundred samples each time, and the first m of n are always
        # the same ones.
        z = torch.randn(BATCH, fakes.z_dim, generator=g)
        with _in_mode(fakes, mode, seed + start, where):
            images = fakes(z.to(where))
        yield as_png(images[: n - start])


def generate(generator: Callable[[Tensor], Tensor], n: int, seed: int = 0, mode: str = "eval") -> Tensor:
    """The images that :func:`draw` draws from a generator, all at once: uint8 ``[n, C, H, W]`` on the CPU.

    Raises:
        ValueError: as :func:`draw`.
    """
    return torch.cat(list(draw(generator, n, seed, mode)))


def is_given(fakes: Images) -> bool:
    """Whether ``fakes`` are images, of any shape, and not a generator of them."""
    return isinstance(fakes, Tensor | ImageSet)


def as_png(images: Tensor) -> Tensor:
    """uint8 images, of any shape, on the CPU, from uint8 or from floats in [-1, 1].

    Raises:
        ValueError: if they are of another type, not finite or outside [-1, 1].
    """
    if images.dtype == torch.uint8:
        return images.cpu()
    if not images.is_floating_point():
        raise ValueError(f"Images must be uint8 or float in [-1, 1], not {images.dtype}.")
    if not images.isfinite().all():
        raise ValueError("There are NaN or Inf in the images; the generator has diverged.")
    if images.abs().amax() > 1.01:
        span = f"{images.amin():.3g} to {images.amax():.3g}"
        raise ValueError(f"The images span {span}, but must lie in [-1, 1]; end the generator in tanh.")
    return to_uint8(images).cpu()


def name_of(net: FeatureNet) -> str:
    """The name of a feature net; ``custom`` if it has none."""
    return str(getattr(net, "name", "") or "custom")


@contextlib.contextmanager
def _in_mode(generator: Callable, mode: str, seed: int, where: torch.device):
    """A generator without gradients, its own noise drawn from ``seed``; unchanged afterwards, the global state too."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([where] if where.type == "cuda" else []))
        torch.manual_seed(seed)
        stack.enter_context(torch.no_grad())
        if isinstance(generator, nn.Module):
            # eval_mode remembers each module's mode; train mode also moves BatchNorm's running statistics.
            stack.enter_context(runtime.eval_mode(generator))
            before = [(buffer, buffer.clone()) for buffer in generator.buffers()] if mode == "train" else []
            generator.train(mode == "train")
            stack.callback(lambda: [buffer.copy_(old) for buffer, old in before])
        yield
