"""Whether a discriminator has learned its own reals by heart."""

import pytest
import torch
from torch import nn

from ganlib import models
from ganlib.data import ImageSet, augmented
from ganlib.metrics import overfitting
from helpers import noise


def image_set(pixels, labels=None):
    return ImageSet(pixels, labels, (), "noise", "noise")


@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_nothing_is_changed_by_looking(norm):
    net, generator = models.dcgan_discriminator(8, 1, 4, norm=norm).train(), models.dcgan_generator(8, 1, 4, 3).train()
    before, state = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    moved = augmented(net, ["translation"])
    players = moved, generator, BRIGHT.take(51), DARK.take(51)  # the last batch is of one, which is left out
    assert overfitting(*players) == overfitting(*players)
    assert net.training and generator.training and torch.equal(state, torch.get_rng_state())
    assert all(not layer._forward_hooks for layer in net.modules())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_too_few_images_get_a_sentence():
    with pytest.raises(ValueError, match="1 images are too few .* hold out 100 or more"):
        overfitting(models.dcgan_discriminator(28, 1, 4), None, image_set(noise(60)), image_set(noise(1)))


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


def test_one_that_knows_only_its_own_reals_is_found_out_and_one_to_which_all_are_alike_is_not():
    found = overfitting(Brightness(1, 1), Grey(), BRIGHT, DARK)
    assert (found["seen"], found["held_out"], found["fake"]) == (1, 0, 0)
    assert found["r_v"] > 1.5  # unseen reals lie beyond the fakes
    found = overfitting(Brightness(1, 1), Grey(), *BRIGHT.hold_out(80))
    assert (found["seen"], found["held_out"], found["fake"]) == (1, 1, 0) and abs(found["r_v"]) < 0.05
