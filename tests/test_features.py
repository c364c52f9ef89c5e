"""What a net sees, batch by batch, and how samples are drawn for it."""

import math

import pytest
import torch
from torch import nn

from ganlib._runtime.randomness import rng
from ganlib.data import to_float
from ganlib.metrics import extract, features, generate
from ganlib.metrics.features import BATCH, KEEP, fake_batches
from ganlib.metrics.nets import digit_net, new_cifar_net
from helpers import noise


def colours(pixels):
    """A feature net of one line: mean and spread of each channel."""
    x = pixels.float().flatten(2)
    return torch.cat([x.mean(2), x.std(2)], 1)


def small_generator():
    generator = nn.Sequential(
        nn.Linear(3, 192), nn.BatchNorm1d(192), nn.Dropout(), nn.Tanh(), nn.Unflatten(1, (3, 8, 8))
    )
    generator.z_dim = 3
    return generator


@pytest.mark.parametrize("n", [1, 7, 2 * BATCH + 37])
def test_statistics_of_a_stream_are_those_of_all_features(n):
    pixels = noise(n, 3)
    found, every = extract(colours, pixels), colours(pixels).double()
    assert found.statistics.n == n and found.logits is None
    assert torch.allclose(found.features, colours(pixels), atol=1e-4)
    assert torch.allclose(found.statistics.mean, every.mean(0), rtol=1e-6)
    assert torch.allclose(found.statistics.cov, every.T.cov() if n > 1 else torch.zeros(6, 6).double(), rtol=1e-6)


def test_only_so_many_features_are_kept_but_all_count(monkeypatch):
    monkeypatch.setattr(features, "KEEP", 250)
    found, every = extract(colours, noise(400, 3)), colours(noise(400, 3))
    assert KEEP == 10_000 and torch.allclose(found.features, every[:250], atol=1e-4) and found.statistics.n == 400
    monkeypatch.setattr(features, "KEEP", 5)
    found = extract(digit_net(), noise(7, 1, 28))  # a net that classifies gives logits, too
    assert found.features.shape == (5, 64) and found.logits.shape == (5, 10)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_generator_is_drawn_from_by_the_seed_and_stays_as_it_is(mode):
    generator = small_generator()
    generator[1].eval()  # some users freeze a layer
    state, before = torch.random.get_rng_state(), {k: v.clone() for k, v in generator.state_dict().items()}
    first = generate(generator, 170, seed=1, mode=mode)
    assert first.dtype == torch.uint8 and first.shape == (170, 3, 8, 8)
    assert torch.equal(first, generate(generator, 170, seed=1, mode=mode))
    assert torch.equal(first[:50], generate(generator, 50, seed=1, mode=mode))
    assert not torch.equal(first, generate(generator, 170, seed=2, mode=mode))
    assert not torch.equal(first, generate(generator, 170, seed=1, mode="eval" if mode == "train" else "train"))
    assert generator.training and not generator[1].training
    assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_in_eval_mode_samples_are_those_of_the_generator_itself():
    generator = small_generator().eval()
    with torch.no_grad():
        want = generator(torch.randn(BATCH, 3, generator=rng(4)))
    assert torch.equal(generate(generator, BATCH, seed=4), features.as_uint8(want))


def test_images_are_taken_as_a_png_would_keep_them():
    pixels = noise(130, 3)
    for given in (pixels, to_float(pixels)):
        assert torch.equal(torch.cat(list(fake_batches(given, 130))), pixels)
        assert torch.equal(torch.cat(list(fake_batches(given, 999))), pixels)


def test_a_choice_among_given_images_follows_the_seed_and_is_not_the_choice_of_reals():
    pixels = torch.arange(200, dtype=torch.uint8).view(200, 1, 1, 1).expand(200, 3, 8, 8)
    mine, again, other = (torch.cat(list(fake_batches(pixels, 50, seed)))[:, 0, 0, 0] for seed in (0, 0, 1))
    assert torch.equal(mine, again) and not torch.equal(mine, other)
    theirs = torch.randperm(200, generator=rng(0))[:50]  # what reference_for takes first
    assert len(set(mine.tolist())) == 50
    assert (mine == theirs).sum() < 10 and len(set(mine.tolist()) & set(theirs.tolist())) < 30


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda: generate(torch.full((5, 3, 8, 8), math.nan), 5), "NaN"),
        (lambda: generate(torch.full((5, 3, 8, 8), 3.0), 5), r"\[-1, 1\]"),
        (lambda: generate(torch.zeros(5, 3, 8, 8, dtype=torch.int64), 5), "uint8 or float"),
        (lambda: generate(lambda z: z, 5), "no whole number 'z_dim'"),
        (lambda: generate(small_generator(), 5, mode="test"), "mode is 'test'.* eval, train"),
        (lambda: extract(colours, noise(5, 3), "nearest"), "resizer is 'nearest'.* none, bicubic"),
        (lambda: extract(colours, noise(5, 3), "bicubic"), "custom .*image_shape"),
        (lambda: extract(new_cifar_net().eval(), noise(5, 1, 32)), r"colour 32×32 .*\[5, 1, 32, 32\].*channels=3"),
        (lambda: extract(colours, []), "no images"),
        (lambda: extract(lambda pixels: colours(pixels)[:1], noise(5, 3)), "custom gave 1 rows .* for 5 images"),
        (lambda: extract(lambda pixels: colours(pixels) / 0, noise(5, 3)), "NaN"),
    ],
)
def test_what_cannot_be_judged_gets_a_sentence(do, message):
    with pytest.raises(ValueError, match=message):
        do()


def test_a_resizer_brings_images_to_the_size_of_the_net():
    net = new_cifar_net().eval()
    flat, pixels = torch.full((3, 3, 64, 64), 77, dtype=torch.uint8), noise(3, 3, 32)
    small = flat[:, :, :32, :32]
    assert torch.allclose(extract(net, flat, "bicubic").features, extract(net, small).features, atol=1e-4)
    assert torch.equal(extract(net, pixels, "bicubic").features, extract(net, pixels).features)
