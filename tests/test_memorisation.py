"""Copies of training images among samples are found, and nothing else is."""

import json

import pytest
import torch

from ganlib.metrics import memorisation
from helpers import Colours, pictures


def test_planted_copies_are_found_with_their_images_the_nearest_first():
    train, fakes = pictures(400), pictures(40, 1)
    fakes[7], fakes[20] = train[123], train[5]
    found = memorisation(fakes, train, Colours(), n=40, held_out=pictures(40, 2))
    assert set(found.near_copies[:2].tolist()) == {7, 20}
    for nearest in found.to_train:
        assert nearest.index[[7, 20]].tolist() == [123, 5] and nearest.distance[[7, 20]].tolist() == [0, 0]
    assert found.value == len(found.near_copies) / 40 <= 0.15
    first, second, third = str(found).splitlines()
    assert first.startswith(f"near-copies(colours) {found.value:.1%} · floor {found.floor:.1%} · duplicates ")
    assert second.startswith("  median distance to the training images ")
    assert third == "  40 samples v 400 given images, 40 given images as floor · given images · seed 0"
    kept = json.loads(json.dumps(found.to_dict()))
    assert kept["near_copies_colours_40"] == found.value and [7, 123] in kept["near_copies"] and kept["n_fake"] == 40


def test_nearest_neighbours_are_those_of_brute_force():
    train, fakes = pictures(1150), pictures(30, 1)  # in more than one batch
    found = memorisation(fakes, train, Colours(), n=30, held_out=pictures(30, 2)).to_train
    gap = (fakes[:, None].double() - train[None].double()).square().flatten(2).mean(2).sqrt()
    assert torch.allclose(found.pixels.distance.double(), gap.amin(1), rtol=1e-3, atol=1e-3)
    assert torch.equal(found.pixels.index, gap.argmin(1))
    gap = torch.cdist(Colours()(fakes)[0].double(), Colours()(train)[0].double())
    assert torch.equal(found.features.index, gap.argmin(1))


def test_fresh_images_are_no_copies_and_repeated_ones_are_duplicates():
    train, held_out = pictures(500), pictures(200, 1)
    fresh = memorisation(pictures(200, 2), train, Colours(), n=200, held_out=held_out)
    assert fresh.value <= 0.04 and fresh.duplicates_value <= 0.04 and fresh.floor == fresh.duplicates_floor == 0.01
    collapsed = memorisation(pictures(1, 2).expand(200, -1, -1, -1), train, Colours(), n=200, held_out=held_out)
    assert collapsed.duplicates_value == 1


def test_without_held_out_reals_training_images_stand_in_each_without_itself():
    found = memorisation(pictures(50, 1), pictures(300), Colours(), n=50)
    assert found.real_to_train.pixels.distance.min() > 0 and found.protocol["held_out"] == "other training"


def test_too_few_and_other_sizes_get_a_sentence():
    with pytest.raises(ValueError, match="4 to 10,000 samples, .* not 3"):
        memorisation(pictures(3), pictures(30), Colours())
    with pytest.raises(ValueError, match="of different sizes"):
        memorisation(pictures(10), pictures(30)[:, :, :4, :4], Colours())
