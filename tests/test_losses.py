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
