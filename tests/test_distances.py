"""Every distance against an independent computation or a closed form."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from ganlib.metrics.distances import (
    Statistics,
    density_coverage,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


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
def test_frechet_agrees_with_scipys_matrix_root(n, d):
    g = rng(1)
    mix = torch.randn(d, d, generator=g, dtype=torch.float64)
    a = torch.randn(n, d, generator=g, dtype=torch.float64).relu()
    b = (torch.randn(n + 50, d, generator=g, dtype=torch.float64) @ mix / d**0.5 + 0.1).relu()
    c1, c2 = (np.cov(x.numpy(), rowvar=False) for x in (a, b))
    root = scipy.linalg.sqrtm(c1 @ c2).real
    want = (a.mean(0) - b.mean(0)).square().sum().item() + np.trace(c1 + c2 - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(want, rel=1e-6)


def test_frechet_is_torch_fidelitys_to_the_bit():
    from torch_fidelity import metric_fid

    a, b = torch.randn(300, 16, generator=rng()), torch.rand(200, 16, generator=rng(1))
    theirs = [metric_fid.fid_features_to_statistics(x.double()) for x in (a, b)]
    want = metric_fid.fid_statistics_to_metric(*theirs, verbose=False)[metric_fid.KEY_METRIC_FID]
    assert frechet_distance(a, b) == want


def test_frechet_is_symmetric_and_zero_on_itself():
    a, b = torch.randn(300, 16, generator=rng()), torch.rand(200, 16, generator=rng(1))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert frechet_distance(a, b) > 1
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(1, 4), torch.zeros(5, 4), "at least 2 samples on each side, not 1"),
        (torch.zeros(5, 4), torch.zeros(5, 3), "Features 4 and 3 wide do not compare"),
        (torch.full((5, 4), math.nan), torch.zeros(5, 4), "NaN or Inf"),
        (
            torch.randn(63, 64),
            torch.randn(90, 64),
            "of 64 features needs at least 64 samples .* not 63",
        ),
        (torch.zeros(5), torch.zeros(5), r"must be \[N, D\], not \[5\]"),
    ],
)
def test_frechet_refuses(a, b, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)


def kernel(x, y):
    return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3


def test_kernel_distance_is_the_unbiased_sum_over_pairs():
    real, fake = torch.randn(12, 3, generator=rng()).double(), torch.randn(12, 3, generator=rng(1)).double() + 0.5
    x, y, n = real.tolist(), fake.tolist(), 12
    within = sum(kernel(s[i], s[j]) for s in (x, y) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    across = sum(kernel(a, b) for a in x for b in y) / n**2
    mean, deviation = kernel_distance(real, fake, subsets=3)  # of all 12: each subset is the same set
    assert mean == pytest.approx(within - 2 * across, rel=1e-6)
    assert deviation == pytest.approx(0, abs=1e-9)


def test_kernel_distance_of_equal_distributions_is_zero_on_average_whatever_the_count():
    for n in (50, 400):
        found = [kernel_distance(*torch.randn(2, n, 4, generator=rng(s)), subsets=1)[0] for s in range(40)]
        assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(len(found))
        assert min(found) < 0 < max(found)


def test_kernel_distance_follows_its_seed_and_says_how_it_varies():
    real, fake = torch.randn(2, 3000, 4, generator=rng())
    assert kernel_distance(real, fake, seed=1) == kernel_distance(real, fake, seed=1)
    assert kernel_distance(real, fake, seed=1) != kernel_distance(real, fake, seed=2)
    assert kernel_distance(real, fake)[1] > 0


def test_inception_score_is_one_for_equal_answers_and_k_for_sure_and_even_ones():
    assert inception_score(torch.randn(1, 7, generator=rng()).expand(50, -1)) == pytest.approx(1, abs=1e-5)
    assert inception_score(100 * torch.eye(10).repeat(5, 1)) == pytest.approx(10, rel=1e-5)
    assert inception_score(100 * torch.eye(10)[:4].repeat(5, 1)) == pytest.approx(4, rel=1e-5)


def test_inception_score_by_its_formula():
    p = torch.randn(60, 5, generator=rng()).double().softmax(1)
    want = (p * (p.log() - p.mean(0).log())).sum(1).mean().exp().item()
    assert inception_score(p.log().float()) == pytest.approx(want, rel=1e-5)


def brute_force(real, fake, k):
    """Precision, recall, density, coverage by numpy, from the papers' formulas."""

    def distances(a, b):
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))

    def radius(x, k):
        return np.sort(distances(x, x), 1)[:, k]

    def among(points, centres, k):
        return (distances(points, centres) <= radius(centres, k)[None]).any(1).mean()

    inside = distances(fake, real) < radius(real, 5)[None]
    return among(fake, real, k), among(real, fake, k), inside.sum() / (5 * len(fake)), inside.any(0).mean()


def test_precision_recall_density_coverage_agree_with_brute_force():
    real, fake = torch.randn(120, 4, generator=rng()), 0.7 * torch.randn(90, 4, generator=rng(1)) + 0.3
    want = brute_force(real.double().numpy(), fake.double().numpy(), 3)
    found = *precision_recall(real, fake, 3), *density_coverage(real, fake, 5)
    assert found == pytest.approx(want, abs=1e-6)
    assert all(0 < value < 1.5 for value in found)


def test_a_collapsed_generator_is_precise_and_covers_little():
    real = torch.randn(500, 4, generator=rng())
    collapsed = real[:1] + 1e-3 * torch.randn(500, 4, generator=rng(1))
    precision, recall = precision_recall(real, collapsed)
    density, coverage = density_coverage(real, collapsed)
    assert precision == 1 and density > 0.5
    assert recall < 0.05 and coverage < 0.1


def test_sets_far_apart_share_nothing_and_equal_ones_all():
    real = torch.randn(100, 4, generator=rng())
    assert precision_recall(real, real) == (1, 1)
    assert density_coverage(real, real)[1] == 1
    assert precision_recall(real, real + 100) == (0, 0)
    assert density_coverage(real, real + 100) == (0, 0)


@pytest.mark.parametrize("distance", [kernel_distance, precision_recall, density_coverage])
def test_pairs_that_cannot_be_compared_get_a_sentence(distance):
    good = torch.randn(20, 4, generator=rng())
    with pytest.raises(ValueError, match="Features 4 and 3 wide do not compare; take both from one net"):
        distance(good, good[:, :3])
    with pytest.raises(ValueError, match="NaN or Inf .*look for NaN in the images"):
        distance(good, good / 0)
    with pytest.raises(ValueError, match="images on each side, but there are 20 real and 1 fake; take more"):
        distance(good, good[:1])
