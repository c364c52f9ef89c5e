"""Stacked digits carry their number; counting reads it back."""

import math

import pytest
import torch

from ganlib.data.images import ImageSet
from ganlib.data.loading import load
from ganlib.metrics.stacked import MODES, stack, stacked_modes


@pytest.fixture(scope="module")
def digits():
    return load("mnist", n=2000)


def test_each_channel_is_one_of_the_digits_and_the_label_is_their_number(digits):
    stacks = stack(digits, 50, seed=3)
    assert stacks.pixels.shape == (50, 3, 28, 28) and stacks.pixels.dtype == torch.uint8
    flat = digits.pixels.flatten(1)
    for picture, label in zip(stacks.pixels[:10], stacks.labels[:10], strict=True):
        found = [
            {int(digits.labels[k]) for k in (flat == channel.flatten()).all(1).nonzero().flatten()}
            for channel in picture
        ]
        assert all(int(d) in some for d, some in zip(f"{int(label):03d}", found, strict=True))
    assert torch.equal(stack(digits, 50, seed=3).pixels, stacks.pixels)
    assert not torch.equal(stack(digits, 50, seed=4).pixels, stacks.pixels)


def test_reals_are_read_back(digits):
    stacks = stack(digits, 3000)
    found = stacked_modes(stacks)
    true = stacks.labels.unique().numel()
    assert abs(found.modes - true) < 0.03 * MODES
    assert found.kl == pytest.approx(found.kl_floor, abs=0.1)
    assert "3,000 samples read by the digit net" in str(found) and found.name == "modes_digitnet_3k"


def test_one_mode_is_one_mode(digits):
    of_seven = digits.pixels[digits.labels == 7][:1].expand(200, 3, -1, -1)
    found = stacked_modes(of_seven)
    assert found.modes == 1
    assert found.kl == pytest.approx(math.log(1000))


def test_a_net_that_makes_the_same_digit_in_two_channels_has_a_hundred_modes(digits):
    stacks = stack(digits, 3000).pixels.clone()
    stacks[:, 1] = stacks[:, 0]
    found = stacked_modes(stacks)
    assert 95 <= found.modes <= 150  # the net misreads a few
    assert found.kl == pytest.approx(math.log(10), abs=0.3)


def test_wrong_input_gets_a_sentence(digits):
    with pytest.raises(ValueError, match="Asked for 0 stacked pictures"):
        stack(digits, 0)
    bare = ImageSet(digits.pixels, None, (), "mine", "mine")
    with pytest.raises(ValueError, match=r"'mine' has 1 channels and no labels; load\('mnist'\)"):
        stack(bare, 5)
    with pytest.raises(ValueError, match="Stacked digits have 3 channels, but these images have 1"):
        stacked_modes(digits.pixels[:10])
