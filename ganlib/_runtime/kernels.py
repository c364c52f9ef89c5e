"""Faster kernels for large networks on a CPU (gains: benchmarks/README.md).

Convolutions of small maps become one matrix product, the patches that a kernel sees times its weights: oneDNN is
slow for maps of hundreds of channels and a few pixels. The bias of a transposed convolution is added after it, as
oneDNN's gradient of it is slow. Dropout draws its mask as whole numbers, four at a time, not bit by bit.
"""

from __future__ import annotations

import contextlib
import itertools

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

MOST_PLACES = 16  # of a kernel on a map, up to which the product is faster
LARGE_NETWORK = 2_000_000  # parameters of both players; below this it costs more than it saves


class FasterKernels(TorchFunctionMode):
    """Inside the block, torch's functions are replaced by those in ``INSTEAD``."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        other = INSTEAD.get(func)
        found = other(*args, **(kwargs or {})) if other else None
        return func(*args, **(kwargs or {})) if found is None else found


def faster_kernels(where: torch.device, n_parameters: int) -> contextlib.AbstractContextManager:
    """:class:`FasterKernels`, if on a CPU with enough parameters in both players."""
    large = where.type == "cpu" and n_parameters >= LARGE_NETWORK
    return FasterKernels() if large else contextlib.nullcontext()


def conv2d(input: Tensor, weight: Tensor, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor | None:
    """:func:`torch.conv2d` as a product; None if that is not faster."""
    step, pad = _alike(stride, padding)
    if not _plain(input, weight, step, pad, dilation, groups) or input.shape[1] != weight.shape[1]:
        return None
    k = weight.shape[2]
    h, w = (_places(side, k, step, pad) for side in input.shape[2:])
    if not 0 < h * w <= MOST_PLACES:
        return None
    rows = weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
    y = F.linear(_Patches.apply(input, k, step, pad), rows, bias)
    return y.view(len(input), h, w, -1).permute(0, 3, 1, 2)


def conv_transpose2d(
    input: Tensor, weight: Tensor, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
) -> Tensor | None:
    """:func:`torch.conv_transpose2d` as a product or with its bias apart, or None."""
    step, pad, more = _alike(stride, padding, output_padding)
    plain = _plain(input, weight, step, pad, dilation, groups) and more is not None and input.shape[1] == len(weight)
    if plain and 0 < input.shape[2] * input.shape[3] <= MOST_PLACES:
        k = weight.shape[2]
        height, width = ((side - 1) * step - 2 * pad + k + more for side in input.shape[2:])
        rows = weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
        patches = input.permute(0, 2, 3, 1).reshape(-1, input.shape[1]) @ rows
        y = _Sum.apply(patches, (len(input), weight.shape[1], height, width), k, step, pad)
    elif input.ndim == 4 and bias is not None:
        y = torch.conv_transpose2d(input, weight, None, stride, padding, output_padding, groups, dilation)
    else:
        return None
    return y if bias is None else y + bias.to(y.dtype).view(-1, 1, 1)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor | None:
    """Dropout with 16-bit masks; None if nothing is drawn or the rate is too extreme."""
    if not training or inplace or not 0.01 <= p <= 0.99:
        return None
    # Sixteen random bits for each number, four numbers from each draw: the rate is p to within 1/131,072.
    drawn = torch.empty(-(-input.numel() // 4), dtype=torch.int64, device=input.device).random_(-(2**63), None)
    layout = torch.empty_like(input, device="meta").stride()  # of a contiguous tensor
    kept = drawn.view(torch.int16).as_strided(input.shape, layout) >= round(p * 2**16) - 2**15
    return input * kept.to(input.dtype).mul_(1 / (1 - p))


# Their arguments have the names of the originals: a network may pass them by name.
INSTEAD = {torch.conv2d: conv2d, torch.conv_transpose2d: conv_transpose2d, F.dropout: dropout}


class _Patches(torch.autograd.Function):
    """[B, C, H, W] -> [B h w, k k C], a patch a row. Its transpose is :class:`_Sum`."""

    @staticmethod
    def forward(ctx, x: Tensor, k: int, step: int, pad: int) -> Tensor:
        ctx.how = (x.shape, k, step, pad)
        n, c, height, width = x.shape
        h, w = (_places(side, k, step, pad) for side in (height, width))
        x = x.permute(0, 2, 3, 1)
        x = (F.pad(x, (0, 0, pad, pad, pad, pad)) if pad else x).contiguous()
        # A row of a patch, k pixels of all channels, is contiguous in memory.
        a, b, pixel, _ = x.stride()
        return x.as_strided((n, h, w, k, k * c), (a, step * b, step * pixel, b, 1)).reshape(n * h * w, k * k * c)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _Sum.apply(gradient, *ctx.how), None, None, None


class _Sum(torch.autograd.Function):
    """[B h w, k k C] -> [B, C, H, W]: patches placed on the map, overlaps added."""

    @staticmethod
    def forward(ctx, patches: Tensor, shape: tuple[int, int, int, int], k: int, step: int, pad: int) -> Tensor:
        ctx.how = (k, step, pad)
        n, c, height, width = shape
        h, w = (_places(side, k, step, pad) for side in (height, width))
        # A patch is r x r tiles of step x step pixels, and so is the map: what overlaps is added a tile at a time.
        r, down, across = k // step, -(-(height + 2 * pad) // step), -(-(width + 2 * pad) // step)
        patches = patches.reshape(n, h, w, r, step, r, step, c)
        tiles = patches.new_zeros(n, down, step, across, step, c)
        for i, j in itertools.product(range(r), range(r)):
            tiles[:, i : i + h, :, j : j + w] += patches[:, :, :, i, :, j].transpose(2, 3)
        padded = tiles.view(n, down * step, across * step, c)
        # Contiguous: BatchNorm takes ten times as long for a part of a larger map.
        return padded[:, pad : pad + height, pad : pad + width].contiguous().permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _Patches.apply(gradient, *ctx.how), None, None, None, None


def _places(side: int, k: int, step: int, pad: int) -> int:
    """The number of places of a kernel along a side of the map."""
    return (side + 2 * pad - k) // step + 1


def _alike(*pairs) -> list[int | None]:
    """The number for both sides in each setting; None for unequal sides, or a string."""
    return [p if isinstance(p, int) else p[0] if not isinstance(p, str) and len(set(p)) == 1 else None for p in pairs]


def _plain(x: Tensor, weight: Tensor, step, pad, dilation, groups) -> bool:
    """Whether it is one undilated group, its square kernel a multiple of the stride."""
    if x.ndim != 4 or weight.ndim != 4 or None in (step, pad) or groups != 1 or _alike(dilation) != [1]:
        return False
    return weight.shape[2] == weight.shape[3] and weight.shape[2] % step == 0
