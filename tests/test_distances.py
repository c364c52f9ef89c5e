"""Every distance against an independent computation or a closed form."""

import math
from unittest.mock import Mock

import numpy as np
import pytest
import scipy.linalg
import torch
from torch_fidelity import metric_fid, metric_kid

from ganlib._runtime.randomness import rng
from ganlib.metrics import density_coverage, distances, frechet_distance, kernel_distance, precision_recall
from ganlib.metrics.distances import Statistics, feature_statistics, inception_score


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed))


def test_frechet_of_diagonal_gaussians_is_the_closed_form():
    m1, m2 = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([3.0, 1.0, 0.0])
    s1, s2 = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([2.0, 2.0, 0.0])
    want = (9 + 0 + 4) + (1 + 0 + 0.25)  # Σ (μ₁ - μ₂)² + Σ (σ₁ - σ₂)²
    got = frechet_distance(Statistics(m1.double(), (s1**2).diag()), Statistics(m2.double(), (s2**2).diag()))
    assert got == pytest.approx(want, abs=1e-9)


def test_frechet_in_one_dimension_by_hand():
    a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]])  # means 1, 3; unbiased variances 2, 8
    assert frechet_distance(a, b) == pytest.approx(4 + (math.sqrt(8) - math.sqrt(2)) ** 2)
    assert feature_statistics(b) == Statistics(torch.tensor([3.0]), torch.tensor([[8.0]]), 2)


@pytest.mark.parametrize(("n", "d"), [(500, 64), (2000, 8), (64, 64)])
def test_frechet_agrees_with_scipys_matrix_root_and_is_torch_fidelitys_to_the_bit(n, d):
    a, b = normal(n, d), normal(n + 50, d, seed=1) @ normal(d, d, seed=2) / d**0.5 + 0.1
    a, b = a.relu().double(), b.relu().double()
    c1, c2 = (np.cov(x.numpy(), rowvar=False) for x in (a, b))
    want = (a.mean(0) - b.mean(0)).square().sum().item() + np.trace(c1 + c2 - 2 * scipy.linalg.sqrtm(c1 @ c2).real)
    assert frechet_distance(a, b) == pytest.approx(want, rel=1e-5)
    theirs = [metric_fid.fid_features_to_statistics(x) for x in (a, b)]
    theirs = metric_fid.fid_statistics_to_metric(*theirs, verbose=False)[metric_fid.KEY_METRIC_FID]
    assert frechet_distance(a, b) == theirs == pytest.approx(frechet_distance(a.float(), b.float()), rel=1e-6)


def test_frechet_is_symmetric_and_zero_on_itself():
    a, b = normal(300, 16), torch.rand(200, 16, generator=rng(1))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert frechet_distance(a, b) > 1
    # With more rounding than distance it would fall below 0.
    assert all(0 <= frechet_distance(x, x) < 1e-6 for x in (a, *(normal(90, 30, seed=s) for s in range(9))))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(1, 4), torch.zeros(5, 4), "at least 2 .* not 1"),
        (torch.zeros(5, 4), torch.zeros(5, 3), "4, 3.* wide"),
        (torch.full((5, 4), math.nan), torch.zeros(5, 4), "NaN or Inf"),
        (torch.full((5, 4), math.inf), torch.zeros(5, 4), "NaN or Inf"),
        (torch.zeros(90, 64), torch.zeros(63, 64), "of 64 features needs 64 samples .* not 63"),
        (torch.zeros(5), torch.zeros(5), r"must be \[N, D\], not \[5\]"),
        (torch.zeros(5, 2, 2), torch.zeros(5, 2, 2), r"must be \[N, D\], not \[5, 2, 2\]"),
    ],
)
def test_frechet_refuses(a, b, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)


def kernel(x, y):
    return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3


def test_kernel_distance_is_the_unbiased_sum_over_pairs():
    real, fake = normal(12, 3).double(), normal(12, 3, seed=1).double() + 0.5
    x, y, n = real.tolist(), fake.tolist(), 12
    within = sum(kernel(s[i], s[j]) for s in (x, y) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    across = sum(kernel(a, b) for a in x for b in y) / n**2
    mean, deviation = kernel_distance(real, fake, subsets=3)  # of all 12: each subset is the same set
    assert mean == pytest.approx(within - 2 * across, rel=1e-6)
    assert deviation == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_over_100_subsets_of_1000_and_follows_its_seed(monkeypatch, capfd):
    with monkeypatch.context() as patched:
        answer = {metric_kid.KEY_METRIC_KID_MEAN: 3, metric_kid.KEY_METRIC_KID_STD: 4}
        patched.setattr(metric_kid, "kid_features_to_metric", Mock(return_value=answer))
        assert kernel_distance(normal(2000, 2), normal(1100, 2)) == (3, 4)
        how = {"kid_subsets": 100, "kid_subset_size": 1000, "rng_seed": 0, "verbose": False}
        assert metric_kid.kid_features_to_metric.call_args.kwargs == how
        for seed, theirs in ((2**32 - 1, 2**32 - 1), (2**32 + 1, 1)):  # theirs have 32 bits
            kernel_distance(normal(9, 2), normal(9, 2), seed=seed)
            assert metric_kid.kid_features_to_metric.call_args.kwargs["rng_seed"] == theirs
    monkeypatch.setattr(distances, "SUBSET_SIZE", 50)
    first, again, other = (kernel_distance(*normal(2, 90, 2), 2, seed) for seed in (1, 1, 2))
    assert first == again != other and first[1] > 0
    assert capfd.readouterr() == ("", "")


def test_inception_score_is_one_for_equal_answers_and_k_for_sure_and_even_ones():
    assert inception_score(normal(1, 7).expand(50, -1)) == pytest.approx(1, abs=1e-5)
    assert inception_score(100 * torch.eye(10).repeat(5, 1)) == pytest.approx(10, rel=1e-5)
    assert inception_score(100 * torch.eye(10)[:4]) == pytest.approx(4, rel=1e-5)


def test_inception_score_by_its_formula_over_all_samples_in_their_order():
    p = normal(60, 5).double().softmax(1)
    want = (p * (p.log() - p.mean(0).log())).sum(1).mean().exp().item()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert inception_score(p.log().float()) == pytest.approx(want, rel=1e-5)
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    assert inception_score(normal(1, 7)) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least 1 .* not 0"):
        inception_score(normal(0, 7))
    with pytest.raises(ValueError, match="needs logits"):
        inception_score(None)
    with pytest.raises(ValueError, match="NaN"):
        inception_score(p / 0 * 0)


def brute_force(real, fake, k_precision, k_density):
    """Precision, recall, density, coverage by numpy, from the papers' formulas."""

    def distances(a, b):
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))

    def radius(x, k):
        return np.sort(distances(x, x), 1)[:, k]

    def among(points, centres):
        return (distances(points, centres) <= radius(centres, k_precision)[None]).any(1).mean()

    inside = distances(fake, real) < radius(real, k_density)[None]
    return among(fake, real), among(real, fake), inside.sum() / (k_density * len(fake)), inside.any(0).mean()


@pytest.mark.parametrize(("k", "n"), [((3, 5), 120), ((1, 2), 120), ((3, 5), 1100)])  # chunks are of 1,000
def test_precision_recall_density_coverage_agree_with_brute_force(k, n, capfd):
    real, fake = normal(n, 4), 0.7 * normal(90, 4, seed=1) + 0.3
    want = brute_force(real.double().numpy(), fake.double().numpy(), *k)
    asked = [()] * 2 if k == (3, 5) else [(one,) for one in k]  # these are the defaults
    found = *precision_recall(real, fake, *asked[0]), *density_coverage(real, fake, *asked[1])
    assert found == pytest.approx(want, abs=1e-6) and all(0 < value < 1.5 for value in found)
    assert capfd.readouterr() == ("", "")


def test_sets_far_apart_share_nothing_and_equal_ones_all():
    real = normal(100, 4)
    assert precision_recall(real, real) == (1, 1) and density_coverage(real, real)[1] == 1
    assert precision_recall(real, real + 100) == density_coverage(real, real + 100) == (0, 0)


def test_a_ball_is_open_and_of_the_kth_neighbour():
    real = torch.arange(4.0)[:, None]  # 0, 1, 2, 3: with k = 1 each ball has radius 1
    assert density_coverage(real, torch.tensor([[-1.0], [4.0]]), 1) == (0, 0)  # just on its edge
    assert density_coverage(real, torch.tensor([[0.5], [9.0]]), 1) == (1, 0.5)


@pytest.mark.parametrize(("distance", "least"), [(kernel_distance, 2), (precision_recall, 4), (density_coverage, 6)])
def test_pairs_that_cannot_be_compared_get_a_sentence(distance, least):
    good = normal(20, 4)
    for real, fake, message in (
        (good, good[:, :3], r"4, 3\] wide do not compare; take both from one net"),
        (good, good / 0, "NaN or Inf .*look for NaN in the images"),
        (good / 0, good, "NaN or Inf"),
        (good, good[: least - 1], f"at least {least} images on each side, not {least - 1}; take more"),
        (good[: least - 1], good, f"at least {least} images on each side, not {least - 1}; take more"),
    ):
        with pytest.raises(ValueError, match=message):
            distance(real, fake)
    assert len(distance(good[:least], good[:least])) == 2
