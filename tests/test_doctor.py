"""The doctor finds planted bugs, each by its name, and nothing in healthy games; trying a step changes nothing."""

import copy
import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from ganlib import GAN, ImageSet, fit, frozen, models, steps
from ganlib.data import toys
from ganlib.metrics.doctor import diagnose

Z = 8
PIXELS = (torch.rand(200, 1, 16, 16, generator=torch.Generator().manual_seed(0)) ** 3 * 255).to(torch.uint8)
IMAGES = ImageSet(PIXELS, None, (), "spots", "made for this test")
HEALTHY = {
    "dcgan": (steps.dcgan_step, "batch"),
    "minimax": (steps.minimax_step, "batch"),
    "r1": (steps.dcgan_r1_step, "batch"),
    "wgan": (steps.wgan_step, "none"),
    "wgan-gp": (steps.wgan_gp_step, "none"),
    "hinge": (steps.hinge_step, "spectral"),
    "rpgan": (steps.rpgan_step, "none"),
}


def players(norm="batch", seed=0, end=None, critic_end=None, rate=2e-3):
    generator = models.dcgan_generator(16, 1, 8, Z, seed=seed)
    critic = models.dcgan_discriminator(16, 1, 8, norm=norm, seed=seed + 1)
    if end is not None:
        generator[-1] = end
    if critic_end is not None:
        critic = nn.Sequential(critic, critic_end)
    adams = (torch.optim.Adam(player.parameters(), rate, (0.0, 0.99)) for player in (generator, critic))
    return GAN(generator, critic, *adams, z_dim=Z, seed=seed, ema_decay=0.9)


def names(found):
    return [finding.name for finding in found]


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_is_found_in_a_healthy_game(name, seed):
    step, norm = HEALTHY[name]
    gan = players(norm, seed)
    assert diagnose(gan, IMAGES, step) == []
    history = fit(gan, step, IMAGES, steps=60, batch_size=16, watchers=())
    assert diagnose(gan, IMAGES, step, history) == []


def test_points_in_the_plane_are_no_less_healthy():
    generator, critic = models.mlp_generator(2, 32, 0), models.mlp_discriminator(32, 1)
    adams = (torch.optim.Adam(player.parameters(), 1e-3) for player in (generator, critic))
    gan = GAN(generator, critic, *adams, z_dim=2, ema_decay=0.9)

    def drawn(n, seed):
        return toys.ring(n, torch.Generator().manual_seed(seed))

    points = type("Points", (), {"sample": staticmethod(drawn), "__len__": lambda self: 5000})()
    assert diagnose(gan, points, steps.dcgan_step) == []


def make_step(z_of=None, cut=False, zero=True, mixed=False):
    """The textbook step, with a bug."""

    def step(gan, batches):
        real = next(batches)
        z = z_of(len(real)) if z_of else gan.sample_z(len(real))
        fake = gan.generator(z)
        if mixed:
            real_logits, fake_logits = gan.discriminator(torch.cat([real, fake.detach()])).split(len(real))
        else:
            real_logits, fake_logits = gan.discriminator(real), gan.discriminator(fake.detach())
        d_loss = softplus(-real_logits).mean() + softplus(fake_logits).mean()
        if zero:
            gan.d_opt.zero_grad()
        d_loss.backward()
        gan.d_opt.step()
        fake = gan.generator(gan.sample_z(len(real)))
        fake_logits = gan.discriminator(fake.detach() if cut else fake)
        g_loss = softplus(-fake_logits).mean()
        gan.g_opt.zero_grad()
        g_loss.backward()
        gan.g_opt.step()
        return {"d_loss": d_loss, "g_loss": g_loss}

    return step


class Wide(nn.Module):
    def forward(self, x):
        return 200 * x


def one_batch_for_all(gan, batches):
    real = next(batches)
    return steps.wgan_gp_step(gan, itertools.repeat(real))


def without_a_bound(gan, batches):
    for _ in range(3):
        real = next(batches)
        loss = (
            gan.discriminator(gan.generator(gan.sample_z(len(real))).detach()).mean() - gan.discriminator(real).mean()
        )
        gan.d_opt.zero_grad()
        loss.backward()
        gan.d_opt.step()
    with frozen(gan.discriminator):
        g_loss = -gan.discriminator(gan.generator(gan.sample_z(len(real)))).mean()
        gan.g_opt.zero_grad()
        g_loss.backward()
    gan.g_opt.step()
    return {"critic_loss": loss, "g_loss": g_loss}


def with_foreign_optimiser():
    gan = players()
    both = [*gan.generator.parameters(), *gan.discriminator.parameters()]
    gan.g_opt = torch.optim.Adam(both, 2e-3)
    return gan


def with_a_stranger():
    gan = players()
    gan.g_opt = torch.optim.Adam(players(seed=5).generator.parameters(), 2e-3)  # of a network since replaced
    return gan


def with_a_sure_critic():
    gan = players("none")
    with torch.no_grad():
        *_, last = (layer for layer in gan.discriminator.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
        last.weight.mul_(1e-3)
        last.bias.fill_(-40.0)
    return gan


def with_a_long_average():
    gan = players()
    gan.ema_decay, gan.steps_done = 0.9999, 500
    return gan


def with_odd_averages():
    gan = players()
    gan.steps_done = 500
    for layer in gan.generator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.fill_(100.0)
    return gan


STEP = make_step()
PLANTED = [
    ("G's turn is cut off", players, make_step(cut=True), ["the generator does not move"]),
    ("an optimiser of both", with_foreign_optimiser, STEP, ["an optimiser holds weights that are not its player's"]),
    ("one of another network", with_a_stranger, STEP, ["not its player's", "the generator does not move"]),
    ("a rate of 0", lambda: players(rate=0.0), STEP, ["the generator does not move"]),
    ("no zero_grad", players, make_step(zero=False), ["gradients are not zeroed"]),
    ("uniform z", players, make_step(z_of=lambda n: torch.rand(n, Z)), ["z is drawn differently"]),
    ("one mixed batch", players, make_step(mixed=True), ["in one batch"]),
    ("a sigmoid on G", lambda: players(end=nn.Sigmoid()), STEP, ["different ranges"]),
    (
        "nothing on G",
        lambda: players(end=Wide()),
        STEP,
        ["ranges"],
    ),
    ("a sigmoid on D", lambda: players(critic_end=nn.Sigmoid()), STEP, ["probabilities, not logits"]),
    ("the same reals", lambda: players("none"), one_batch_for_all, ["the same reals again"]),
    ("no clipping", lambda: players("none"), without_a_bound, ["nothing bounds the critic's slope"]),
    ("saturation", with_a_sure_critic, steps.minimax_step, ["vanishes (saturation)"]),
    ("a slow average", with_a_long_average, STEP, ["train mode differ", "the running average lags"]),
    ("odd averages of BatchNorm", with_odd_averages, STEP, ["train mode differ"]),
]


@pytest.mark.parametrize("case", PLANTED, ids=[case[0] for case in PLANTED])
@pytest.mark.parametrize("batch_size", [16, 64])
def test_a_planted_bug_is_named(case, batch_size):
    _, make, step, expected = case
    found = diagnose(make(), IMAGES, step, batch_size=batch_size)
    assert len(found) == len(expected) and all(part in name for part, name in zip(expected, names(found), strict=True))
    for finding in found:
        assert all(len(text) > 10 for text in (finding.evidence, finding.cause, finding.first, finding.lesson))
        assert finding.evidence in str(finding) and any(character.isdigit() for character in finding.evidence)


def history(best_by=None, scores=(), **losses):
    return SimpleNamespace(losses=losses, scores=list(scores), best_by=best_by)


def test_what_only_a_history_shows():
    gan, calm = players(), [1.3] * 200
    assert diagnose(gan, IMAGES, STEP, history(d_loss=calm, g_loss=calm)) == []
    cases = {
        "clamp of BCELoss": history(d_loss=calm, g_loss=[1.0] * 100 + [100.0] * 100),
        "both losses are low at once": history(d_loss=[0.2] * 200, g_loss=[0.3] * 200),
        "far ahead": history(d_loss=[0.01] * 200, g_loss=[9.0] * 200),
        "far behind": history(d_loss=[5.0] * 200, g_loss=[0.1] * 200),
    }
    worse = [(100 * k, {"fd": value}) for k, value in enumerate([90.0, 20, 8, 5, 9, 12, 15, 18, 22])]
    cases["the score has been getting worse"] = history(("fd", "lowest"), worse, d_loss=calm, g_loss=calm)
    for name, ran in cases.items():
        (found,) = diagnose(gan, IMAGES, STEP, ran)
        assert name in found.name
    assert "go back to step 300" in found.first
    better = history(("fd", "lowest"), worse[:4] + [(900, {"fd": 4.0})] * 4, d_loss=calm, g_loss=calm)
    assert diagnose(gan, IMAGES, STEP, better) == []


def test_the_losses_of_a_step_with_another_z_cannot_both_be_low():
    gan, step = players(), make_step(z_of=lambda n: torch.rand(n, Z))
    found = diagnose(gan, IMAGES, step, history(d_loss=[0.1] * 200, g_loss=[0.1] * 200))
    assert names(found) == ["z is drawn differently in the two players' turns", "both losses are low at once"]


def test_the_images_are_looked_at_too():
    twice = ImageSet(PIXELS[:90].repeat(2, 1, 1, 1), None, (), "twice", "made for this test")
    flat = ImageSet(torch.full((90, 1, 16, 16), 7, dtype=torch.uint8), None, (), "flat", "made for this test")
    for images, name in ((twice, "many images are there twice"), (flat, "the images are nearly constant")):
        assert name in names(diagnose(players(), images, STEP))


def test_trying_a_step_changes_nothing():
    gan = players()
    fit(gan, STEP, IMAGES, steps=3, batch_size=16, watchers=())
    before, drawn = copy.deepcopy(gan), torch.get_rng_state()
    diagnose(gan, IMAGES, STEP)
    for name in ("generator", "discriminator", "ema_generator", "g_opt", "d_opt"):
        one, other = (getattr(each, name).state_dict() for each in (gan, before))
        assert str(one) == str(other)
    assert torch.equal(torch.get_rng_state(), drawn) and torch.equal(gan.sample_z(4), before.sample_z(4))
    assert not gan.discriminator._forward_hooks
