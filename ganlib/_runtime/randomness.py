"""Random numbers: a generator for each purpose, a seed for each step, a way to the GPU."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable
from contextvars import ContextVar
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

# Added to a seed for numbers that must differ from those drawn from the seed itself: z in training from the numbers
# behind the first weights, fixed z from the first z in training, and images made from a score's reals, such as resized
# ones, must not only meet their own originals. Below 2**32: torch's CPU generator ignores the bits above.
Z_STREAM, FIXED_Z_STREAM, GIVEN_STREAM = 1 << 30, 2 << 30, 3 << 30


def rng(seed: int, where: str | torch.device = "cpu") -> torch.Generator:
    """A new random generator, ganlib's only source of randomness.

    Raises:
        ValueError: if ``seed`` has more than 64 bits.
    """
    if not isinstance(seed, Integral) or not -(2**63) <= seed < 2**64:
        raise ValueError(f"The seed {seed!r} is no whole number of 64 bits; take a smaller one.")
    return torch.Generator(where).manual_seed(seed)


# Stands in for ``fresh`` while a step becomes a CUDA graph (see ganlib._runtime.graphs).
door: ContextVar[Callable[..., Tensor] | None] = ContextVar("door", default=None)


def fresh(where: torch.device, draw: Callable[..., Tensor], *settings, **named) -> Tensor:
    """``draw(*settings, **named)`` on ``where``: how everything new enters a step.

    Reals, z, ε and augmentations are drawn on the CPU, the same on every device. No setting is a tensor: a graph draws
    again what its step drew, and would keep that tensor.
    """
    draw, through = functools.partial(draw, *settings, **named), door.get()
    return through(draw, where) if through else onto(draw(), where)


def onto(numbers: Tensor, where: torch.device) -> Tensor:
    """``numbers`` from the CPU on ``where``; a GPU's work goes on meanwhile.

    A copy from ordinary memory would wait until the GPU has finished all that it was given so far.
    """
    if where.type != "cuda" or numbers.device.type != "cpu":
        return numbers.to(where)
    return numbers.pin_memory().to(where, non_blocking=True)


@contextlib.contextmanager
def global_generators_kept(where: torch.device):
    """Restore the global generators of torch, Python, NumPy and ``where`` after the block."""
    python, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002 - a step may draw from it
    on_mps = torch.mps.get_rng_state() if where.type == "mps" else None  # fork_rng does not know how
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)  # noqa: NPY002
            if on_mps is not None:
                torch.mps.set_rng_state(on_mps)


@contextlib.contextmanager
def seeded(number: int, where: torch.device):
    """The global generators, seeded inside the block and restored after it."""
    with global_generators_kept(where):
        _seed(number, where)
        yield


def seed_step(seed: int, step: int, where: torch.device) -> None:
    """Seed the global generators before each step, so checkpoints need not save them."""
    _seed((seed * 1_000_003 + step) % 2**63, where)


def _seed(number: int, where: torch.device) -> None:
    """Seed the global generators of torch, Python, NumPy and ``where``, no other's.

    ``torch.manual_seed`` seeds all devices; without a GPU it stores a stack trace at each call, in case one appears.
    """
    torch.default_generator.manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002
    if where.type == "cuda":
        with torch.cuda.device(where):
            torch.cuda.manual_seed(number)
    elif where.type == "mps":
        torch.mps.manual_seed(number)
