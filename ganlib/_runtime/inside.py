"""A look inside a network: its layers as they run, with their outputs' shapes."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import nn

from ganlib._runtime.device import eval_mode


def count_parameters(model: nn.Module) -> int:
    """The number of parameters of ``model``, frozen ones included, buffers not."""
    return sum(p.numel() for p in model.parameters())


def outputs(model: nn.Module, input_shape: tuple[int, ...]) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """The layers of ``model`` as they run, each with its output's shape, no batch.

    The model runs once, in eval mode, on zeros of ``input_shape`` (without the batch); nothing in it changes.
    """
    found = []

    def note(layer, _, output):
        found.append((layer, tuple(output.shape[1:])))

    with ExitStack() as stack:
        for layer in model.modules():
            if not list(layer.children()):
                stack.enter_context(layer.register_forward_hook(note))
        stack.enter_context(eval_mode(model))
        model(torch.zeros(1, *input_shape, device=next(model.parameters()).device))
    return found


def describe(model: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Print the output shape and the parameter count of each layer of ``model``.

    ``input_shape`` is that of one example: ``(100,)`` for a generator, ``(3, 64, 64)`` for a discriminator.
    """
    print(f"{'input':<36}{' x '.join(map(str, input_shape)):>18}")
    for layer, shape in outputs(model, input_shape):
        title, n = type(layer).__name__, count_parameters(layer)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):  # for example ConvTranspose2d 4x4, stride 2
            title += " {}x{}".format(*layer.kernel_size)
            title += f", stride {layer.stride[0]}" if layer.stride[0] > 1 else ""
        print(f"{title:<36}{' x '.join(map(str, shape)) or '1':>18}{n or '':>14{',' if n else ''}}")
    print(f"{'parameters':<36}{'':>18}{count_parameters(model):>14,}")
