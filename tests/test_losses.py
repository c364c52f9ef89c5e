"""Losses against hand formulas, against autograd in float64, and at the ends of the range."""

import math

import pytest
import torch

from ganlib import losses

LOGITS = torch.tensor([-3.0, -0.5, 0.0, 0.7, 4.0], dtype=torch.float64)


def grad(loss, logits):
    logits = logits.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(logits), logits)
    return g * len(logits)  # undo the mean: the derivative for one example


def test_at_logit_zero_the_losses_are_log_2():
    zero = torch.zeros(4, dtype=torch.float64)
    assert losses.non_saturating_d_loss(zero, zero).item() == pytest.approx(2 * math.log(2), abs=1e-12)
    assert losses.non_saturating_g_loss(zero).item() == pytest.approx(math.log(2), abs=1e-12)
    assert losses.minimax_g_loss(zero).item() == pytest.approx(-math.log(2), abs=1e-12)


def test_values_are_the_papers_logarithms():
    d_real, d_fake = torch.sigmoid(LOGITS), torch.sigmoid(-2 * LOGITS + 1)
    fake = -2 * LOGITS + 1
    by_hand = -(torch.log(d_real).mean() + torch.log(1 - d_fake).mean())
    assert losses.minimax_d_loss(LOGITS, fake).item() == pytest.approx(by_hand.item(), abs=1e-12)
    assert losses.minimax_g_loss(fake).item() == pytest.approx(torch.log(1 - d_fake).mean().item(), abs=1e-12)
    assert losses.non_saturating_g_loss(fake).item() == pytest.approx(-torch.log(d_fake).mean().item(), abs=1e-12)


@pytest.mark.parametrize(
    ("loss", "derivative"),
    [
        (lambda x: losses.minimax_d_loss(x, torch.zeros_like(x)), lambda d: -(1 - d)),
        (lambda x: losses.minimax_d_loss(torch.zeros_like(x), x), lambda d: d),
        (losses.minimax_g_loss, lambda d: -d),
        (losses.non_saturating_g_loss, lambda d: -(1 - d)),
    ],
    ids=["d_real", "d_fake", "g_minimax", "g_non_saturating"],
)
def test_gradients_are_the_hand_formulas(loss, derivative):
    torch.testing.assert_close(grad(loss, LOGITS), derivative(torch.sigmoid(LOGITS)), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(loss, LOGITS.clone().requires_grad_())


def test_both_generator_losses_push_the_logit_up():
    for loss in (losses.minimax_g_loss, losses.non_saturating_g_loss):
        assert (grad(loss, LOGITS) < 0).all()


def test_only_the_saturating_gradient_vanishes_when_the_discriminator_is_sure():
    sure = torch.full((1,), -20.0, dtype=torch.float64)
    assert abs(grad(losses.minimax_g_loss, sure).item()) < 1e-8
    assert grad(losses.non_saturating_g_loss, sure).item() == pytest.approx(-1.0, abs=1e-8)


def test_stable_at_plus_and_minus_100():
    far = torch.tensor([-100.0, 100.0], requires_grad=True)
    assert losses.minimax_d_loss(far, far).item() == pytest.approx(100.0)
    assert losses.non_saturating_g_loss(far).item() == pytest.approx(50.0)
    assert losses.minimax_g_loss(far).item() == pytest.approx(-50.0)
    (losses.minimax_d_loss(far, far) + losses.non_saturating_g_loss(far)).backward()
    assert torch.isfinite(far.grad).all()


def test_half_precision_logits_give_a_float32_loss():
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    half = losses.non_saturating_g_loss(logits.bfloat16())
    assert half.dtype == torch.float32
    exact = losses.non_saturating_g_loss(logits.bfloat16().double()).item()
    assert half.item() == pytest.approx(exact, rel=1e-6)  # bfloat16 arithmetic would be off by 1e-3


# --- scores of any size -----------------------------------------------------------------------------

SCORES = torch.tensor([-2.0, -0.25, 0.5, 3.0, 1.5], dtype=torch.float64)


def test_the_wasserstein_losses_are_differences_of_means():
    real, fake = SCORES, 2 * SCORES - 1
    assert losses.wasserstein_critic_loss(real, fake).item() == pytest.approx((fake.mean() - real.mean()).item())
    assert losses.wasserstein_critic_loss(real, real).item() == 0
    assert losses.wasserstein_g_loss(fake).item() == pytest.approx(-fake.mean().item())


@pytest.mark.parametrize(
    ("loss", "derivative"),
    [
        (lambda x: losses.wasserstein_critic_loss(x, torch.zeros_like(x)), lambda x: -torch.ones_like(x)),
        (lambda x: losses.wasserstein_critic_loss(torch.zeros_like(x), x), torch.ones_like),
        (losses.wasserstein_g_loss, lambda x: -torch.ones_like(x)),
        (lambda x: losses.hinge_d_loss(x, torch.zeros_like(x)), lambda x: -(x < 1).double()),
        (lambda x: losses.hinge_d_loss(torch.zeros_like(x), x), lambda x: (x > -1).double()),
        (losses.hinge_g_loss, lambda x: -torch.ones_like(x)),
        (lambda x: losses.relativistic_d_loss(x, SCORES), lambda x: -torch.sigmoid(SCORES - x)),
        (lambda x: losses.relativistic_d_loss(SCORES, x), lambda x: torch.sigmoid(x - SCORES)),
        (lambda x: losses.relativistic_g_loss(SCORES, x), lambda x: -torch.sigmoid(SCORES - x)),
    ],
    ids=["w_real", "w_fake", "w_g", "hinge_real", "hinge_fake", "hinge_g", "rp_real", "rp_fake", "rp_g"],
)
def test_gradients_of_the_other_games_are_the_hand_formulas(loss, derivative):
    x = -0.7 * SCORES + 0.3
    torch.testing.assert_close(grad(loss, x), derivative(x), rtol=0, atol=1e-12)


def test_hinge_by_hand():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    assert losses.hinge_d_loss(real, fake).item() == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1 + 2) / 3)
    assert losses.hinge_d_loss(torch.zeros(3), torch.zeros(3)).item() == 2


def test_relativistic_by_hand():
    x = torch.zeros(4, dtype=torch.float64)
    assert losses.relativistic_d_loss(x + 7, x + 7).item() == pytest.approx(math.log(2), abs=1e-12)
    assert losses.relativistic_g_loss(x - 7, x - 7).item() == pytest.approx(math.log(2), abs=1e-12)
    # Only the difference of each pair counts.
    shift = torch.tensor([0.0, 5.0, -3.0, 1.0, 40.0], dtype=torch.float64)
    fake = SCORES.flip(0)
    one, two = losses.relativistic_d_loss(SCORES, fake), losses.relativistic_d_loss(SCORES + shift, fake + shift)
    assert one.item() == pytest.approx(two.item(), abs=1e-12)


def test_relativistic_needs_pairs():
    with pytest.raises(
        ValueError, match=r"pairs each real with a fake, but there are \[4\] real and \[5\] fake logits"
    ):
        losses.relativistic_d_loss(torch.zeros(4), torch.zeros(5))


def test_half_precision_scores_give_float32_losses():
    half = torch.randn(1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    for loss in (
        losses.wasserstein_critic_loss(half, half.flip(0)),
        losses.wasserstein_g_loss(half),
        losses.hinge_d_loss(half, half),
        losses.relativistic_g_loss(half, half.flip(0)),
    ):
        assert loss.dtype == torch.float32
