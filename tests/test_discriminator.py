"""What a discriminator has learned: features that a linear classifier can use, or its own reals by heart."""

import pytest
import torch
from torch import nn

from ganlib import models
from ganlib._runtime.randomness import rng
from ganlib.data import ImageSet, augmented, load
from ganlib.metrics import overfitting, probe
from ganlib.metrics.discriminator import PENALTIES, classify, pooled_maps
from helpers import noise


def image_set(pixels, labels=None):
    return ImageSet(pixels, labels, (), "noise", "noise")


@pytest.fixture(scope="module")
def digits():
    """300 real digits to learn from and 500 others to be judged on."""
    some = load("mnist", download=False).take(800)
    return [image_set(some.pixels[part], some.labels[part]) for part in (slice(0, 300), slice(300, 800))]


def test_features_are_every_layers_maps_max_pooled_to_four_by_four():
    net, pixels = models.dcgan_discriminator(32, 3, 4, norm="none").train(), noise(5, 3, 32)
    x, by_hand = pixels.float() / 127.5 - 1, []
    for layer in list(net)[:-1]:
        x = layer(x)
        if isinstance(layer, nn.LeakyReLU):  # 4 maps of 16 × 16, 8 of 8 × 8, 16 of 4 × 4
            by_hand.append(nn.functional.max_pool2d(x, x.shape[-1] // 4).flatten(1))
    found = pooled_maps(net, pixels)
    torch.testing.assert_close(found, torch.cat(by_hand, 1).detach())
    assert found.shape == (5, 16 * (4 + 8 + 16)) and not found.requires_grad
    # Small maps are taken as they are.
    assert pooled_maps(models.dcgan_discriminator(28, 1, 4), noise(2, 1, 28)).shape == (2, 16 * 4 + 16 * 8 + 9 * 16)


@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_nothing_is_changed_by_looking(norm):
    net, generator = models.dcgan_discriminator(8, 1, 4, norm=norm).train(), models.dcgan_generator(8, 1, 4, 3).train()
    before, state = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    pooled_maps(net, noise(9, 1, 8))
    moved = augmented(net, ["translation"])
    players = moved, generator, BRIGHT.take(51), DARK.take(51)  # the last batch is of one, which is left out
    assert overfitting(*players) == overfitting(*players)
    assert net.training and generator.training and torch.equal(state, torch.get_rng_state())
    assert all(not layer._forward_hooks for layer in net.modules())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_what_is_linear_is_learned_at_any_scale_and_what_is_not_there_is_not():
    x = torch.randn(400, 20, generator=rng(1))
    labels = (x[:, 3] > 0).long() + 2 * (x[:, 7] > 0).long()
    found = classify(x[:300], labels[:300], x[300:], labels[300:])
    assert found.value > 0.85 and found.size == 20 and found.penalty in PENALTIES
    assert found.error == pytest.approx((found.value * (1 - found.value) / 100) ** 0.5)
    assert found == classify(x[:300], labels[:300], x[300:], labels[300:])
    mixed = labels[torch.randperm(300, generator=rng(1))]
    assert classify(x[:300], mixed, x[300:], labels[300:]).value < 0.45
    shifted = classify(1000 * x[:300] + 5, labels[:300], 1000 * x[300:] + 5, labels[300:])
    assert shifted.value == pytest.approx(found.value, abs=0.02)


def test_digits_are_told_apart_by_pixels_and_by_features(digits, recwarn):
    net, twin = (models.dcgan_discriminator(28, 1, 8) for _ in range(2))
    with torch.no_grad():
        for p in net.parameters():  # some other network than the untrained one
            p += 0.02 * torch.randn(p.shape, generator=rng(0))
    found = probe(net, *digits)
    assert 0.75 < found.pixels.value < 0.93 and 0.005 < found.pixels.error < 0.02  # 300 digits, 30 of a class
    assert found.features.value > 0.6 and found.untrained.value > 0.6  # chance is 0.1
    assert found.features.value != found.untrained.value
    assert found.pixels.size == 784 and found.features.size == found.untrained.size == 16 * 8 + 16 * 16 + 9 * 32
    start = f"discriminator {found.features.value:.1%} ± {found.features.error:.1%} (672 numbers)\nuntrained "
    end = "  chance 10% · linear classifier on 300 labelled images, judged on 500 (± one standard error)"
    assert str(found).startswith(start) and str(found).endswith(f"(784 numbers)\n{end}")
    assert max(map(len, str(found).splitlines())) <= 100
    assert not recwarn.list  # of scikit-learn, that it has not converged
    assert probe(twin, *digits).features == found.untrained == probe(net, *digits, untrained=twin).untrained


def test_what_cannot_be_probed_gets_a_sentence(digits):
    train, test = digits
    net, own = models.dcgan_discriminator(28, 1, 4), nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU())
    bare = image_set(noise(60, 1, 28))
    for do, message in (
        (lambda: probe(net, bare, test), "'noise' has no labels"),
        (lambda: probe(net, train, bare), "'noise' has no labels"),
        (lambda: probe(net, train.take(49), test), "50 training images .* not 49 of 10"),
        (lambda: probe(net, image_set(test.pixels, test.labels * 0), test), "2 classes, not 500 of 1"),
        (lambda: probe(own, train, test), "how it was built; .* untrained=..."),
        (lambda: pooled_maps(own, train.pixels), "No ReLU or LeakyReLU"),
        (lambda: overfitting(net, None, train, test.take(1)), "1 images are too few .* hold out 100 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            do()


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
