"""Whether a discriminator knows faces, or its own: on discriminators that are made to do either."""

import pytest
import torch
from torch import nn

from ganlib import models
from ganlib.data.augment import augmented
from ganlib.data.images import ImageSet
from ganlib.metrics.overfitting import overfitting
from helpers import noise


def image_set(pixels):
    return ImageSet(pixels, None, (), "noise", "noise")


def bright_and_dark():
    """200 bright and 200 dark images."""
    bright = torch.randint(128, 256, (200, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return image_set(bright), image_set(255 - bright)


class Brightness(nn.Module):
    """A discriminator that calls real what is bright."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(4.0))

    def forward(self, images):
        return self.scale * images.mean((1, 2, 3))


class Grey(nn.Module):
    """A generator of grey images, a little darker than the middle."""

    z_dim = 3

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(-0.01))

    def forward(self, z):
        return self.level.expand(len(z), 1, 8, 8)


def test_one_that_knows_only_its_own_reals_is_found_out():
    bright, dark = bright_and_dark()
    found = overfitting(Brightness(), Grey(), bright, dark)
    assert (found["seen"], found["held_out"], found["fake"]) == (1, 0, 0)
    assert found["r_v"] > 1.5  # unseen reals lie beyond the fakes


def test_one_to_which_all_reals_are_alike_is_not():
    bright, _ = bright_and_dark()
    rest, held_out = bright.hold_out(80)
    found = overfitting(Brightness(), Grey(), rest, held_out)
    assert (found["seen"], found["held_out"], found["fake"]) == (1, 1, 0)
    assert abs(found["r_v"]) < 0.05


def test_nothing_is_changed_by_looking():
    discriminator = augmented(models.dcgan_discriminator(8, 1, 4), ["translation"])
    generator = models.dcgan_generator(8, 1, 4, 3).train()
    before = [value.clone() for value in discriminator.state_dict().values()]
    state = torch.get_rng_state()
    images, others = image_set(noise(60, size=8)), image_set(noise(60, size=8, seed=1))
    first = overfitting(discriminator, generator, images, others, batch=16)
    assert overfitting(discriminator, generator, images, others, batch=16) == first
    assert all(map(torch.equal, before, discriminator.state_dict().values()))
    assert torch.equal(state, torch.get_rng_state()) and generator.training


def test_too_few_are_told():
    bright, dark = bright_and_dark()
    with pytest.raises(ValueError, match=r"1 images are too few .* hold out 100 or more"):
        overfitting(Brightness(), Grey(), bright, dark.take(1))
