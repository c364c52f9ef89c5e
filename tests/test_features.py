"""What a net sees, batch by batch, and how samples are drawn for it."""

import math

import pytest
import torch
from torch import nn

from ganlib.data import loading as data
from ganlib.metrics import nets as featurenets
from ganlib.metrics.features import BATCH, KEEP, draw, extract, generate, name_of


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(n, channels=3, size=8):
    return torch.randint(0, 256, (n, channels, size, size), generator=rng()).to(torch.uint8)


def colours(pixels):
    """A feature net of one line: mean and spread of each channel."""
    x = pixels.float().flatten(2)
    return torch.cat([x.mean(2), x.std(2)], 1)


def small_generator():
    generator = nn.Sequential(nn.Linear(3, 192), nn.BatchNorm1d(192), nn.Tanh(), nn.Unflatten(1, (3, 8, 8)))
    generator.z_dim = 3
    return generator


def test_statistics_of_a_stream_are_those_of_all_features():
    pixels = noise(2 * BATCH + 37)
    seen = extract(colours, pixels)
    assert seen.n == len(pixels) and seen.logits is None
    assert torch.allclose(seen.features, colours(pixels), atol=1e-4)
    every = colours(pixels).double()
    assert torch.allclose(seen.statistics.mean, every.mean(0), rtol=1e-9)
    assert torch.allclose(seen.statistics.cov, every.T.cov(), rtol=1e-6)


def test_only_so_many_features_are_kept_but_all_count():
    batches = (noise(BATCH) for _ in range(KEEP // BATCH + 2))
    seen = extract(colours, batches)
    assert len(seen.features) == KEEP and seen.n == KEEP + 2 * BATCH


def test_a_net_that_classifies_gives_logits_too():
    seen = extract(featurenets.digit_net(), noise(7, 1, 28))
    assert seen.features.shape == (7, 64) and seen.logits.shape == (7, 10)
    assert name_of(featurenets.digit_net()) == "digitnet" and name_of(colours) == "custom"


def test_generate_draws_in_eval_mode_without_gradients_and_from_the_seed():
    generator = small_generator()
    state, before = torch.random.get_rng_state(), {k: v.clone() for k, v in generator.state_dict().items()}
    first = generate(generator, 170, seed=1)
    assert first.dtype == torch.uint8 and first.shape == (170, 3, 8, 8)
    assert torch.equal(first[:50], generate(generator, 50, seed=1))
    assert not torch.equal(first, generate(generator, 170, seed=2))
    in_train_mode = generate(generator, 170, seed=1, mode="train")
    assert not torch.equal(first, in_train_mode)
    assert torch.equal(in_train_mode, generate(generator, 170, seed=1, mode="train"))
    assert generator.training
    assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_images_are_taken_as_a_png_would_keep_them():
    pixels = noise(30)
    assert torch.equal(torch.cat(list(draw(pixels, 30))), pixels)
    assert torch.equal(torch.cat(list(draw(data.to_float(pixels), 30))), pixels)
    few = torch.cat(list(draw(pixels, 10, seed=3)))
    assert len(few) == 10 and torch.equal(few, torch.cat(list(draw(pixels, 10, seed=3))))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((5, 3, 8, 8), math.nan), "NaN or Inf in the images; the generator has diverged"),
        (torch.full((5, 3, 8, 8), 3.0), r"span 3 to 3, but must lie in \[-1, 1\]; end the generator in tanh"),
        (torch.zeros(5, 3, 8, 8, dtype=torch.int64), "uint8 or float"),
        (lambda z: z, "no whole number 'z_dim'"),
    ],
)
def test_images_that_are_none_get_a_sentence(images, message):
    with pytest.raises(ValueError, match=message):
        list(draw(images, 5))


def test_wrong_modes_resizers_and_images_get_a_sentence():
    with pytest.raises(ValueError, match="mode is 'test', but must be one of: eval, train"):
        list(draw(small_generator(), 5, mode="test"))
    with pytest.raises(ValueError, match="resizer is 'nearest', but must be one of: none, bicubic"):
        extract(colours, noise(5), "nearest")
    with pytest.raises(ValueError, match=r"colour 32×32 pictures .*these are \[5, 1, 32, 32\].*channels=3"):
        extract(featurenets.new_cifar_net().eval(), noise(5, 1, 32))
    with pytest.raises(ValueError, match="no images to look at"):
        extract(colours, [])
    with pytest.raises(ValueError, match="gave 1 rows of features for 5 images"):
        extract(lambda pixels: colours(pixels)[:1], noise(5))


def test_a_resizer_brings_images_to_the_size_of_the_net():
    net = featurenets.new_cifar_net().eval()
    flat = torch.full((3, 3, 64, 64), 77, dtype=torch.uint8)
    assert torch.allclose(
        extract(net, flat, "bicubic").features, extract(net, flat[:, :, :32, :32]).features, atol=1e-4
    )
    pixels = noise(3, 3, 32)
    assert torch.equal(extract(net, pixels, "bicubic").features, extract(net, pixels).features)


def test_a_choice_among_given_images_is_not_the_choice_of_reals():
    pixels = torch.arange(200, dtype=torch.uint8).view(200, 1, 1, 1).expand(200, 3, 8, 8)
    mine = torch.cat(list(draw(pixels, 50, seed=0)))[:, 0, 0, 0]
    theirs = torch.randperm(200, generator=rng(0))[:50]  # what look_at_reals takes first
    assert len(set(mine.tolist())) == 50
    assert (mine == theirs).sum() < 10 and len(set(mine.tolist()) & set(theirs.tolist())) < 30
