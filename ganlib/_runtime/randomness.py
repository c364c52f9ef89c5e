"""Random numbers: a generator for each purpose, and a seed for each step."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import torch

# Added to a seed for numbers that must differ from those drawn from the seed itself: z in training from the numbers
# behind the first weights, fixed z from the first z in training, and images made from a score's reals, such as resized
# ones, must not only meet their own originals. Below 2**32: torch's CPU generator ignores the bits above.
Z_STREAM, FIXED_Z_STREAM, GIVEN_STREAM = 1 << 30, 2 << 30, 3 << 30


def rng(seed: int, where: str | torch.device = "cpu") -> torch.Generator:
    """A new random generator, ganlib's only source of randomness.

    Raises:
        ValueError: if ``seed`` has more than 64 bits.
    """
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"The seed {seed} has more than 64 bits; take a smaller one.")
    return torch.Generator(where).manual_seed(seed)


@contextlib.contextmanager
def global_generators_kept(where: torch.device):
    """Restore the global generators of torch, Python and NumPy after the block."""
    python, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002 - a step may draw from it
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)  # noqa: NPY002


def seed_step(seed: int, step: int, where: torch.device) -> None:
    """Seed the global generators before each step, so checkpoints need not save them.

    ``torch.manual_seed`` would do, but without a GPU it stores a stack trace at each call, in case one appears later.
    """
    number = (seed * 1_000_003 + step) % 2**63
    torch.default_generator.manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002
    if where.type == "cuda":
        torch.cuda.manual_seed_all(number)
    elif where.type == "mps":
        torch.mps.manual_seed(number)
