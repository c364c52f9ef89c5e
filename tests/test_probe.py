"""The linear probe: what it looks at, that it learns what is there to learn, and that the network stays as it was."""

import pytest
import torch
from torch import nn

from ganlib import models
from ganlib._runtime.randomness import rng
from ganlib.data import ImageSet, load
from ganlib.metrics import probe
from ganlib.metrics.probe import PENALTIES, classify, pooled_maps
from helpers import noise


@pytest.fixture(scope="module")
def digits():
    """300 real digits to learn from and 500 others to be judged on."""
    some = load("mnist", download=False).take(800)
    parts = (slice(0, 300), slice(300, 800))
    return [ImageSet(some.pixels[p], some.labels[p], some.classes, "mnist", some.source) for p in parts]


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
def test_the_discriminator_is_not_changed(norm):
    net = models.dcgan_discriminator(16, 1, 4, norm=norm).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    pooled_maps(net, noise(9, 1, 16))
    assert net.training and all(not layer._forward_hooks for layer in net.modules())
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
    net = models.dcgan_discriminator(28, 1, 8)
    with torch.no_grad():
        for p in net.parameters():  # some other network than the untrained one
            p += 0.02 * torch.randn(p.shape, generator=rng(0))
    found = probe(net, *digits)
    assert 0.75 < found.pixels.value < 0.93 and 0.005 < found.pixels.error < 0.02  # 300 digits, 30 of a class
    assert found.features.value > 0.6 and found.untrained.value > 0.6  # chance is 0.1
    assert found.features.value != found.untrained.value
    assert found.pixels.size == 784 and found.features.size == found.untrained.size == 16 * 8 + 16 * 16 + 9 * 32
    assert str(found).startswith(
        f"discriminator {found.features.value:.1%} ± {found.features.error:.1%} (672 numbers) ·"
    )
    assert str(found).endswith(
        "(784 numbers) · chance 10% · linear classifier on 300 labelled images, judged on 500 (± one standard error)"
    )
    assert not recwarn.list  # of scikit-learn, that it has not converged
    # The untrained network is the same before its training.
    twin = models.dcgan_discriminator(28, 1, 8)
    assert probe(twin, *digits).features == found.untrained == probe(net, *digits, untrained=twin).untrained


def test_what_cannot_be_probed_gets_a_sentence(digits):
    train, test = digits
    net, own = models.dcgan_discriminator(28, 1, 4), nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU())
    bare = ImageSet(noise(60, 1, 28), None, (), "noise", "noise")
    for do, message in (
        (lambda: probe(net, bare, test), "'noise' has no labels"),
        (lambda: probe(net, train, bare), "'noise' has no labels"),
        (lambda: probe(net, train.take(49), test), "50 training images .* not 49 of 10"),
        (lambda: probe(net, ImageSet(test.pixels, test.labels * 0, (), "one", "one"), test), "2 classes, not 500 of 1"),
        (lambda: probe(own, train, test), "how it was built; .* untrained=..."),
        (lambda: pooled_maps(own, train.pixels), "No ReLU or LeakyReLU"),
    ):
        with pytest.raises(ValueError, match=message):
            do()
