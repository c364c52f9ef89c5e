"""Stacked digits carry their number; counting reads it back."""

import math

import pytest
import torch

from ganlib.data import ImageSet, load
from ganlib.metrics import stack, stacked_modes


@pytest.fixture(scope="module")
def digits():
    return load("mnist", n=2000, download=False)


@pytest.fixture(scope="module")
def stacks(digits):
    return stack(digits, 3000, seed=3)


def test_each_channel_is_one_of_the_digits_and_the_label_is_their_number(digits, stacks):
    assert stacks.pixels.shape == (3000, 3, 28, 28) and stacks.pixels.dtype == torch.uint8
    flat = digits.pixels.flatten(1)
    for picture, label in zip(stacks.pixels[:10], stacks.labels[:10], strict=True):
        rows = [(flat == channel.flatten()).all(1).nonzero().flatten() for channel in picture]
        assert all(int(d) in digits.labels[k] for d, k in zip(f"{int(label):03d}", rows, strict=True))
    assert torch.equal(stack(digits, 50, seed=4).pixels, stack(digits, 50, seed=4).pixels)
    assert not torch.equal(stack(digits, 3000, seed=4).pixels, stacks.pixels)


def test_reals_are_read_back_and_the_most_modes_are_best(stacks):
    found = stacked_modes(stacks)
    assert abs(found.modes - stacks.labels.unique().numel()) < 30 and abs(found.modes_floor - 950) < 20
    assert found.kl == pytest.approx(found.kl_floor, abs=0.1)
    assert str(found) == (
        f"{found.modes} of 1,000 modes (even draws: {found.modes_floor}) · KL {found.kl:.2f} (even draws: "
        f"{found.kl_floor:.2f}) · 3,000 samples read by the digit net · seed 0"
    )
    numbers = found.numbers()
    assert numbers == {"modes_digitnet_3k": found.modes, "kl": found.kl}
    assert numbers.best == ("modes_digitnet_3k", "highest")


def test_one_mode_is_one_and_the_same_digit_in_two_channels_gives_a_hundred(digits, stacks):
    found = stacked_modes(digits.pixels[digits.labels == 7][:1].expand(200, 3, -1, -1))
    assert found.modes == 1 and found.kl == pytest.approx(math.log(1000))
    twice = stacks.pixels.clone()
    twice[:, 1] = twice[:, 0]
    found = stacked_modes(twice)
    assert 95 <= found.modes <= 150  # the net misreads a few
    assert found.kl == pytest.approx(math.log(10), abs=0.3)


def test_wrong_input_gets_a_sentence(digits, stacks):
    bare = ImageSet(digits.pixels, None, (), "mine", "mine")
    for do, message in (
        (lambda: stack(digits, 0), "0 stacked pictures"),
        (lambda: stack(bare, 5), r"labels, and 'mine' .*load\('mnist'\)"),
        (lambda: stack(stacks, 5), "grey digits .* 'stacked mnist'"),
        (lambda: stacked_modes(digits.pixels[:10]), "3 channels, but these images have 1"),
    ):
        with pytest.raises(ValueError, match=message):
            do()
