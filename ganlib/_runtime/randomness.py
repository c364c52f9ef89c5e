"""Random numbers: a generator for each purpose, and steps whose global generators depend on their number alone."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import torch

# Added to a seed for numbers that must not be those drawn from the seed itself: z in training is not what the first
# weights were drawn from, the fixed z are not the first ones in training, and images made of a score's reals, such as
# resized ones, do not meet just their own originals. Below 2**32: torch's CPU generator ignores the bits above.
Z_STREAM, FIXED_Z_STREAM, GIVEN_STREAM = 1 << 30, 2 << 30, 3 << 30


def rng(seed: int, where: str | torch.device = "cpu") -> torch.Generator:
    """A random generator of its own, seeded with ``seed``: the only source of randomness ganlib draws from.

    Raises:
        ValueError: if ``seed`` has more than 64 bits.
    """
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"The seed {seed} is no number of 64 bits; take a smaller one.")
    return torch.Generator(where).manual_seed(seed)


@contextlib.contextmanager
def global_generators_kept(where: torch.device):
    """Give the global generators of torch, Python and NumPy back as they were when the block ends."""
    python, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002 - a step may draw from it
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)  # noqa: NPY002


def seed_step(seed: int, step: int, where: torch.device) -> None:
    """Seed every global generator that a step may draw from, as dropout does: a checkpoint need not keep them.

    ``torch.manual_seed`` would do, but where there is no GPU it keeps its own stack at each call, for the day there is.
    """
    number = (seed * 1_000_003 + step) % 2**63
    torch.default_generator.manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002
    if where.type == "cuda":
        torch.cuda.manual_seed_all(number)
    elif where.type == "mps":
        torch.mps.manual_seed(number)
