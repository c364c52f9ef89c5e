"""Losses, penalties and their gradients against hand formulas, and at the ends of the range."""

import inspect
import math
import warnings

import pytest
import torch
from torch import nn

from ganlib import losses, models
from ganlib._runtime.randomness import rng

X = torch.tensor([-3.0, -0.5, 0.0, 0.7, 4.0], dtype=torch.float64)
Y = 1 - 2 * X
ZERO = torch.zeros(4, dtype=torch.float64)


def grad(loss, logits):
    logits = logits.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(logits), logits)
    return g * len(logits)  # undo the mean: the derivative for one example


@pytest.mark.parametrize(
    ("loss", "given", "by_hand"),
    [
        (losses.minimax_d_loss, (ZERO, ZERO), 2 * math.log(2)),
        (losses.minimax_g_loss, (ZERO,), -math.log(2)),
        (losses.non_saturating_g_loss, (ZERO,), math.log(2)),
        (losses.minimax_d_loss, (X, Y), -(X.sigmoid().log().mean() + (1 - Y.sigmoid()).log().mean())),
        (losses.non_saturating_d_loss, (X, Y), -(X.sigmoid().log().mean() + (1 - Y.sigmoid()).log().mean())),
        (losses.minimax_g_loss, (Y,), (1 - Y.sigmoid()).log().mean()),
        (losses.non_saturating_g_loss, (Y,), -Y.sigmoid().log().mean()),
        (losses.wasserstein_critic_loss, (X, Y), Y.mean() - X.mean()),
        (losses.wasserstein_g_loss, (Y,), -Y.mean()),
        (losses.hinge_d_loss, (ZERO, ZERO), 2.0),
        (losses.hinge_d_loss, (X, Y), (4 + 1.5 + 1 + 0.3 + 0) / 5 + (8 + 3 + 2 + 0.6 + 0) / 5),
        (losses.hinge_g_loss, (Y,), -Y.mean()),
        (losses.relativistic_d_loss, (ZERO + 7, ZERO + 7), math.log(2)),
        (losses.relativistic_d_loss, (X, Y), -(X - Y).sigmoid().log().mean()),
        (losses.relativistic_d_loss, (X + 10 * Y, 11 * Y), -(X - Y).sigmoid().log().mean()),  # only differences count
        (losses.relativistic_g_loss, (X, Y), -(Y - X).sigmoid().log().mean()),
    ],
)
def test_values_by_hand(loss, given, by_hand):
    assert loss(*given).ndim == 0 and loss(*given).item() == pytest.approx(float(by_hand), abs=1e-12)


@pytest.mark.parametrize(
    ("loss", "derivative"),
    [
        (lambda x: losses.minimax_d_loss(x, ZERO), lambda x: x.sigmoid() - 1),
        (lambda x: losses.minimax_d_loss(ZERO, x), torch.sigmoid),
        (losses.minimax_g_loss, lambda x: -x.sigmoid()),
        (losses.non_saturating_g_loss, lambda x: x.sigmoid() - 1),
        (lambda x: losses.wasserstein_critic_loss(x, ZERO), lambda x: -torch.ones_like(x)),
        (lambda x: losses.wasserstein_critic_loss(ZERO, x), torch.ones_like),
        (losses.wasserstein_g_loss, lambda x: -torch.ones_like(x)),
        (lambda x: losses.hinge_d_loss(x, ZERO), lambda x: -(x < 1).double()),
        (lambda x: losses.hinge_d_loss(ZERO, x), lambda x: (x > -1).double()),
        (losses.hinge_g_loss, lambda x: -torch.ones_like(x)),
        (lambda x: losses.relativistic_d_loss(x, Y), lambda x: -(Y - x).sigmoid()),
        (lambda x: losses.relativistic_d_loss(Y, x), lambda x: (x - Y).sigmoid()),
        (lambda x: losses.relativistic_g_loss(Y, x), lambda x: -(Y - x).sigmoid()),
    ],
)
def test_gradients_by_hand(loss, derivative):
    torch.testing.assert_close(grad(loss, X + 0.1), derivative(X + 0.1), rtol=0, atol=1e-12)


def test_stable_at_plus_and_minus_100():
    far = torch.tensor([-100.0, 100.0], requires_grad=True)
    assert losses.minimax_d_loss(far, far).item() == pytest.approx(100.0)
    assert losses.non_saturating_g_loss(far).item() == pytest.approx(50.0)
    assert losses.minimax_g_loss(far).item() == pytest.approx(-50.0)
    assert losses.relativistic_d_loss(far, far.flip(0)).item() == pytest.approx(100.0)
    (losses.minimax_d_loss(far, far) + losses.non_saturating_g_loss(far)).backward()
    assert torch.isfinite(far.grad).all()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name in dir(losses) if name.endswith("_loss")])
def test_half_precision_logits_give_the_float32_loss_of_the_same_logits(name, half):
    loss = getattr(losses, name)
    given = torch.randn(len(inspect.signature(loss).parameters), 1000, generator=rng(0)).to(half)
    found, exact = loss(*given), loss(*given.double())
    assert found.dtype == torch.float32 and exact.dtype == torch.float64
    assert found.item() == pytest.approx(exact.item(), rel=1e-5, abs=1e-6)  # half arithmetic would be off by 1e-3


# --- penalties ------------------------------------------------------------------------------------


class Quadratic(nn.Module):
    """f(x) = a |x|² / 2 on [B, D]: its gradient at x is a x."""

    def __init__(self, a):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x):
        return self.a * x.square().sum(1) / 2


class Along(Quadratic):
    """f(x) = a·x: its gradient is a everywhere."""

    def forward(self, x):
        return x.flatten(1) @ self.a


@pytest.mark.parametrize(
    ("w", "shape", "penalty", "gradient"),
    [
        # |w| = 5, and d/dw (|w| - 1)² = 2 (|w| - 1) w / |w|; then two-sided: a descent step makes it steeper
        ([3.0, 4.0], (7, 2), 16.0, [2 * 4 * 3 / 5, 2 * 4 * 4 / 5]),
        ([0.3, 0.0], (3, 2), 0.49, [-1.4, 0.0]),
        ([1.0] * 12, (2, 3, 2, 2), (12**0.5 - 1) ** 2, [2 * (12**0.5 - 1) / 12**0.5] * 12),  # an image's whole gradient
    ],
)
def test_penalty_of_a_linear_critic_is_that_of_its_slope(w, shape, penalty, gradient):
    critic = Along(w)
    found = losses.gradient_penalty(critic, torch.randn(shape), torch.randn(shape), rng(0))
    found.backward()
    assert found.item() == pytest.approx(penalty, rel=1e-5)
    torch.testing.assert_close(critic.a.grad, torch.tensor(gradient))


def test_penalty_is_taken_between_the_pairs_with_an_epsilon_for_each():
    # Real and fake i lie on one ray, at lengths 2 and 4: the point between has the length 4 - 2 ε, and |∇f| is a of it.
    real, fake, critic = torch.eye(5) * 2, torch.eye(5) * 4, Quadratic(0.5)
    lengths = 4 - 2 * torch.rand(5, generator=rng(3))
    assert lengths.unique().numel() == 5
    penalty = losses.gradient_penalty(critic, real, fake, draw := rng(3))
    penalty.backward()
    assert penalty.item() == pytest.approx(((0.5 * lengths - 1) ** 2).mean().item(), rel=1e-6)
    assert critic.a.grad.item() == pytest.approx((2 * (0.5 * lengths - 1) * lengths).mean().item(), rel=1e-6)
    assert losses.gradient_penalty(critic, real, fake, draw).item() != penalty.item()  # a fresh ε at each call


def test_r1_and_r2_of_a_quadratic():
    real, fake = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0]])
    critic = Quadratic(2.0)  # gradient 2 x, so |∇|² / 2 = 2 |x|²
    r1, r2 = losses.r1_penalty(critic, real), losses.r2_penalty(critic, fake)
    assert r1.item() == pytest.approx(2 * (25 + 1) / 2) and r2.item() == pytest.approx(8.0)
    (r1 + r2).backward()  # d/da a² |x|² / 2 = a |x|²
    assert critic.a.grad.item() == pytest.approx(2 * 13 + 2 * 4)


def penalties(critic, real, fake):
    yield losses.gradient_penalty(critic, real, fake, rng(0))
    yield losses.r1_penalty(critic, real)
    yield losses.r2_penalty(critic, fake)


def test_reals_and_fakes_get_no_gradient():
    real, fake = (torch.randn(3, 2, requires_grad=True) for _ in range(2))
    sum(penalties(Quadratic(1.0), real, fake)).backward()
    assert real.grad is None and fake.grad is None


@pytest.mark.parametrize("given", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_penalties_keep_float64_and_raise_half_precision_to_float32(given):
    wanted = torch.float64 if given is torch.float64 else torch.float32
    critic = models.dcgan_discriminator(8, 1, 4, norm="none").to(wanted)
    for penalty in penalties(critic, *torch.randn(2, 3, 1, 8, 8, generator=rng(1)).to(given)):
        assert penalty.dtype == wanted and penalty > 0


def test_penalties_are_in_full_precision_under_autocast():
    critic = nn.Sequential(nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    real, fake = torch.randn(2, 8, 6, generator=rng(1)).bfloat16().float()
    full = list(penalties(critic, real, fake))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert list(penalties(critic, real, fake)) == full and full[0].dtype == torch.float32


def test_batchnorm_is_warned_of_unless_it_is_meant():
    critic, images = models.dcgan_discriminator(16, 1, 4), torch.randn(4, 1, 16, 16)
    with pytest.warns(UserWarning, match="BatchNorm.*norm='none'") as caught:
        list(penalties(critic, images, -images))
    assert len(caught) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert losses.r1_penalty(critic, images, batch_norm=True) > 0


@pytest.mark.bare
def test_the_warning_of_batchnorm_names_the_callers_line():
    critic, images = models.dcgan_discriminator(16, 1, 4), torch.randn(4, 1, 16, 16)
    with pytest.warns(UserWarning, match="BatchNorm") as caught:
        list(penalties(critic, images, -images))
    first = penalties.__code__.co_firstlineno
    assert [w.lineno - first for w in caught[:2]] == [1, 2] and caught[0].filename == __file__


@pytest.mark.parametrize("norm", [norm for norm in models.NORMS if norm != "batch"])
def test_penalties_are_silent_and_reach_every_weight_of_a_critic(norm):
    critic = models.dcgan_discriminator(16, 3, 8, norm=norm)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sum(penalties(critic, *torch.randn(2, 4, 3, 16, 16))).backward()
    assert all(p.grad.abs().max() > 0 for p in critic.parameters() if p.ndim == 4)


def test_clipping_moves_what_is_outside_to_the_bound_and_spares_buffers():
    critic = models.dcgan_discriminator(16, 1, 4)
    inside, before = critic[0].weight.detach().abs() < 0.01, critic[0].weight.detach().clone()
    losses.clip_weights(critic, 0.01)
    assert all(p.abs().max() <= 0.01 for p in critic.parameters())
    assert torch.equal(critic[0].weight[inside], before[inside])
    assert torch.equal(critic[0].weight[~inside], before[~inside].sign() * 0.01)
    assert critic[3].running_var.min() == 1 and critic[0].weight.requires_grad


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: losses.clip_weights(nn.Linear(2, 2), 0), "clip_value=0.*above 0"),
        (lambda: losses.clip_weights(nn.Linear(2, 2), -0.01), "clip_value=-0.01.*above 0"),
        (lambda: losses.clip_weights(nn.Linear(2, 2), math.nan), "clip_value=nan.*above 0"),
        (lambda: losses.relativistic_d_loss(torch.zeros(4), torch.zeros(5)), r"\[4\] and \[5\].*as many"),
        (lambda: losses.relativistic_g_loss(torch.zeros(4), torch.zeros(1)), "as many"),
        (lambda: list(penalties(Quadratic(1.0), ZERO[:, None], ZERO[:1, None])), r"\[4, 1\] and \[1, 1\]"),
    ],
)
def test_what_cannot_be_done_gets_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
