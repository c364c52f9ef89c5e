"""Random numbers: a generator for each purpose, and steps that depend on their number alone."""

import random

import numpy as np
import pytest
import torch

from ganlib import rng
from ganlib._runtime.randomness import global_generators_kept, seed_step

CPU = torch.device("cpu")


def drawn():
    """A number from each global generator."""
    return torch.rand(1).item(), random.random(), np.random.random()  # noqa: NPY002


def test_generators_are_reproducible_and_do_not_touch_the_global_one():
    before = torch.random.get_rng_state()
    assert torch.equal(*(torch.randn(3, generator=rng(5)) for _ in range(2)))
    assert torch.equal(before, torch.random.get_rng_state())
    assert rng(-(2**63)) and rng(2**64 - 1)
    for seed in (2**64, -(2**63) - 1):
        with pytest.raises(ValueError, match=f"{seed}.*smaller"):
            rng(seed)


def test_a_seeded_step_draws_the_same_numbers_and_leaves_nothing_behind():
    def queued():  # what waits for a GPU to be there, each with the stack of who asked for it
        return len(getattr(torch.cuda, "_queued_calls", ()))

    with global_generators_kept(CPU):
        found, before = [], queued()
        for seed, step in ((7, 3), (7, 3), (7, 4), (8, 3), (-1, 0)):
            seed_step(seed, step, CPU)
            found.append(drawn())
        assert queued() == before
        assert found[0] == found[1] and len({*found}) == 4
        left = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        with pytest.raises(KeyError), global_generators_kept(CPU):
            drawn()
            raise KeyError
        assert torch.equal(left[0], torch.random.get_rng_state()) and left[1] == random.getstate()
        assert left[2] == np.random.get_state()[1].tolist()  # noqa: NPY002
