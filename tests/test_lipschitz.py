"""The penalties against gradients derived by hand; that no example sees another in a critic."""

import warnings

import pytest
import torch
from torch import nn

from ganlib import losses as lipschitz
from ganlib import models
from ganlib.models import NORMS

D = torch.float64


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


class Quadratic(nn.Module):
    """f(x) = a |x|² / 2 on [B, D]: its gradient at x is a x."""

    def __init__(self, a):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x):
        return self.a * x.square().sum(1) / 2


class Linear(nn.Module):
    """f(x) = w·x: its gradient is w everywhere."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))

    def forward(self, x):
        return x.flatten(1) @ self.w


def test_penalty_of_a_linear_critic_is_that_of_its_slope():
    critic = Linear([3.0, 4.0])  # |w| = 5
    penalty = lipschitz.gradient_penalty(critic, torch.randn(7, 2), torch.randn(7, 2), rng())
    assert penalty.item() == pytest.approx(16.0)
    penalty.backward()
    # d/dw (|w| - 1)² = 2 (|w| - 1) w / |w|
    torch.testing.assert_close(critic.w.grad, torch.tensor([2 * 4 * 3 / 5, 2 * 4 * 4 / 5]))


def test_penalty_is_two_sided():
    gentle = Linear([0.3, 0.0])
    penalty = lipschitz.gradient_penalty(gentle, torch.randn(3, 2), torch.randn(3, 2), rng())
    assert penalty.item() == pytest.approx(0.49, rel=1e-5)
    penalty.backward()
    assert gentle.w.grad[0] < 0  # a descent step makes it steeper


def test_penalty_is_taken_between_the_pairs_with_an_epsilon_for_each():
    # Real and fake i lie on one ray, at lengths 2 and 4: the point between has the length 4 - 2 ε, and |∇f| is a of it.
    real = torch.eye(5) * 2
    fake = torch.eye(5) * 4
    critic = Quadratic(0.5)
    epsilon = torch.rand(5, 1, generator=rng(3)).flatten()
    assert epsilon.unique().numel() == 5
    by_hand = ((0.5 * (4 - 2 * epsilon) - 1) ** 2).mean()
    penalty = lipschitz.gradient_penalty(critic, real, fake, rng(3))
    assert penalty.item() == pytest.approx(by_hand.item(), rel=1e-6)
    penalty.backward()
    lengths = 4 - 2 * epsilon
    assert critic.a.grad.item() == pytest.approx((2 * (0.5 * lengths - 1) * lengths).mean().item(), rel=1e-6)


def test_epsilon_is_fresh_at_each_call():
    draw, critic, real, fake = rng(), Quadratic(1.0), torch.ones(4, 3), torch.zeros(4, 3)
    one, two = (lipschitz.gradient_penalty(critic, real, fake, draw).item() for _ in range(2))
    assert one != two


def test_penalty_is_of_each_images_whole_gradient():
    # Over [B, C, H, W] the norm runs over all of C, H and W: 12 equal slopes of 1 have the length sqrt(12).
    critic = Linear([1.0] * 12)
    penalty = lipschitz.gradient_penalty(critic, torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2), rng())
    assert penalty.item() == pytest.approx((12**0.5 - 1) ** 2, rel=1e-5)


def test_reals_and_fakes_get_no_gradient():
    real, fake = torch.randn(3, 2, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    (
        lipschitz.gradient_penalty(Quadratic(1.0), real, fake, rng()) + lipschitz.r1_penalty(Quadratic(1.0), real)
    ).backward()
    assert real.grad is None and fake.grad is None


def test_r1_and_r2_of_a_quadratic():
    real, fake = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0]])
    critic = Quadratic(2.0)  # gradient 2 x, so |∇|² / 2 = 2 |x|²
    r1, r2 = lipschitz.r1_penalty(critic, real), lipschitz.r2_penalty(critic, fake)
    assert r1.item() == pytest.approx(2 * (25 + 1) / 2) and r2.item() == pytest.approx(8.0)
    (r1 + r2).backward()  # d/da a² |x|² / 2 = a |x|²
    assert critic.a.grad.item() == pytest.approx(2 * 13 + 2 * 4)


def test_penalties_are_in_full_precision_under_autocast():
    critic = nn.Sequential(nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    real, fake = torch.randn(8, 6, generator=rng(1)), torch.randn(8, 6, generator=rng(2))
    full = lipschitz.gradient_penalty(critic, real, fake, rng())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = lipschitz.gradient_penalty(critic, real.bfloat16().float(), fake.bfloat16().float(), rng())
    assert under.dtype == torch.float32
    assert under.item() == pytest.approx(full.item(), rel=2e-2)  # the inputs were rounded, nothing else


def test_clipping_moves_what_is_outside_to_the_bound():
    critic = models.dcgan_discriminator(8, 1, 4, norm="layer")
    inside = critic[0].weight.detach().abs() < 0.01
    before = critic[0].weight.detach().clone()
    lipschitz.clip_weights(critic, 0.01)
    assert all(p.abs().max() <= 0.01 for p in critic.parameters())
    assert torch.equal(critic[0].weight[inside], before[inside])
    assert torch.equal(critic[0].weight[~inside], before[~inside].sign() * 0.01)


@pytest.mark.parametrize("clip_value", [0, -0.01, float("nan")])
def test_clip_value_must_be_positive(clip_value):
    with pytest.raises(
        ValueError, match=r"clip_value=\S+, but weights are clipped .* above 0, and 0.01 is the paper's"
    ):
        lipschitz.clip_weights(nn.Linear(2, 2), clip_value)


def test_pairs_of_different_shape_are_refused():
    with pytest.raises(ValueError, match=r"\[4, 2\] and \[3, 2\]; draw as many fakes as reals"):
        lipschitz.gradient_penalty(Quadratic(1.0), torch.zeros(4, 2), torch.zeros(3, 2), rng())


def test_batchnorm_is_warned_of():
    critic, images = models.dcgan_discriminator(16, 1, 4), torch.randn(4, 1, 16, 16)
    with pytest.warns(
        UserWarning, match="has BatchNorm, so one example's score depends on the whole batch.*norm='none'"
    ):
        lipschitz.gradient_penalty(critic, images, -images, rng())
    with pytest.warns(UserWarning, match="has BatchNorm"):
        lipschitz.r1_penalty(critic, images)


@pytest.mark.parametrize("norm", NORMS)
def test_no_example_sees_another_in_a_critic_but_with_batchnorm(norm):
    # In train mode each forward pass of spectral norm also sharpens its singular vectors.
    critic = models.dcgan_discriminator(16, 3, 8, norm=norm, seed=1).train(norm != "spectral")
    images = torch.randn(6, 3, 16, 16, generator=rng()).requires_grad_()
    (sees,) = torch.autograd.grad(critic(images)[2], images)
    others = [k for k in range(6) if k != 2]
    assert sees[2].abs().max() > 0
    assert (sees[others].abs().max() > 0) == (norm == "batch")
    changed = images.detach().clone()
    changed[others] = 0.5
    with torch.no_grad():
        alike = torch.allclose(critic(changed)[2], critic(images)[2], atol=1e-6)
    assert alike == (norm != "batch")


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "batch"])
def test_a_penalty_is_silent_and_reaches_every_weight(norm):
    critic = models.dcgan_discriminator(16, 3, 8, norm=norm)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lipschitz.gradient_penalty(critic, torch.randn(4, 3, 16, 16), torch.randn(4, 3, 16, 16), rng()).backward()
    moved = [p.grad is not None and bool(p.grad.abs().max() > 0) for p in critic.parameters() if p.ndim == 4]
    assert all(moved) and moved


def test_spectral_norm_bounds_each_layer_by_one():
    critic = models.dcgan_discriminator(16, 3, 8, norm="spectral", seed=2)
    for _ in range(30):
        critic(torch.randn(2, 3, 16, 16))
    for layer in critic.modules():
        if isinstance(layer, nn.Conv2d):
            top = torch.linalg.svdvals(layer.weight.detach().flatten(1))[0]
            assert top.item() == pytest.approx(1.0, abs=2e-2)
