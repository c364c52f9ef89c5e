"""Whether a discriminator knows faces, or its own: on discriminators that are made to do either."""

import pytest
import torch
from torch import nn

from ganlib import models
from ganlib.data import ImageSet, augmented
from ganlib.metrics import overfitting
from helpers import noise


def image_set(pixels):
    return ImageSet(pixels, None, (), "noise", "noise")


class Brightness(nn.Linear):
    """A discriminator that calls real what is bright; its weights say on what device it is."""

    def forward(self, images):
        return 4 * images.mean((1, 2, 3))


class Grey(nn.Module):
    """A generator of grey images, a little darker than the middle."""

    z_dim = 3

    def forward(self, z):
        return torch.full((len(z), 1, 8, 8), -0.01)


BRIGHT = image_set(noise(200) // 2 + 128)
DARK = image_set(255 - BRIGHT.pixels)


def test_one_that_knows_only_its_own_reals_is_found_out():
    found = overfitting(Brightness(1, 1), Grey(), BRIGHT, DARK)
    assert (found["seen"], found["held_out"], found["fake"]) == (1, 0, 0)
    assert found["r_v"] > 1.5  # unseen reals lie beyond the fakes
    with pytest.raises(ValueError, match="1 images are too few .* hold out 100 or more"):
        overfitting(Brightness(1, 1), Grey(), BRIGHT, DARK.take(1))


def test_one_to_which_all_reals_are_alike_is_not():
    found = overfitting(Brightness(1, 1), Grey(), *BRIGHT.hold_out(80))
    assert (found["seen"], found["held_out"], found["fake"]) == (1, 1, 0) and abs(found["r_v"]) < 0.05


def test_nothing_is_changed_by_looking():
    discriminator = augmented(models.dcgan_discriminator(8, 1, 4), ["translation"])
    generator = models.dcgan_generator(8, 1, 4, 3).train()
    before, state = [value.clone() for value in discriminator.state_dict().values()], torch.get_rng_state()
    players = discriminator, generator, BRIGHT.take(51), DARK.take(51)  # the last batch is of one, which is left out
    assert overfitting(*players) == overfitting(*players)
    assert all(map(torch.equal, before, discriminator.state_dict().values()))
    assert torch.equal(state, torch.get_rng_state()) and generator.training
