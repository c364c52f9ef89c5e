"""The doctor finds planted bugs, each by its name, and nothing in healthy games; trying a step changes nothing."""

import copy
import itertools
import math
import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from ganlib import GAN, ImageSet, fit, frozen, models, steps
from ganlib.data import toys
from ganlib.metrics import Doctor, checks, checkup, diagnose, doctor, symptoms
from ganlib.metrics.seen import Judged, Seen
from ganlib.runs import folder
from ganlib.runs.evaluation import diagnose as tell
from ganlib.runs.reports import info
from ganlib.runs.training import train
from helpers import NOTEBOOKS, read_notebook, source

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
    return [finding.check for finding in found]


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
    draw = torch.Generator().manual_seed(0)
    points = (toys.ring(64, draw) for _ in itertools.count())
    assert diagnose(GAN(generator, critic, *adams, z_dim=2, ema_decay=0.9), points, steps.dcgan_step) == []


def make_step(z_of=None, cut=False, zero="before", mixed=False, detach=True, sign=1):
    """The textbook step, with a bug."""

    def step(gan, batches):
        real = next(batches)
        z = z_of(len(real)) if z_of else gan.sample_z(len(real))
        fake = gan.generator(z)
        given = fake.detach() if detach else fake
        if mixed:
            real_logits, fake_logits = gan.discriminator(torch.cat([real, given])).split(len(real))
        else:
            real_logits, fake_logits = gan.discriminator(real), gan.discriminator(given)
        d_loss = softplus(-real_logits).mean() + softplus(fake_logits).mean()
        if zero == "before":
            gan.d_opt.zero_grad()
        d_loss.backward()
        gan.d_opt.step()
        if zero == "after":
            gan.d_opt.zero_grad()
        fake = gan.generator(gan.sample_z(len(real)))
        fake_logits = gan.discriminator(fake.detach() if cut else fake)
        g_loss = sign * softplus(-fake_logits).mean()
        gan.g_opt.zero_grad()
        g_loss.backward()
        gan.g_opt.step()
        return {"d_loss": d_loss, "g_loss": g_loss}

    return step


def penalised(at="line", graph=True):
    """A Wasserstein step with a penalty of its own."""

    def step(gan, batches):
        critic, real = gan.discriminator, next(batches)
        fake = gan.generator(gan.sample_z(len(real))).detach()
        x = (real if at == "reals" else (real + fake) / 2).clone().requires_grad_()
        (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=graph)
        loss = critic(fake).mean() - critic(real).mean() + 10 * (slope.flatten(1).norm(dim=1) - 1).square().mean()
        gan.d_opt.zero_grad()
        loss.backward()
        gan.d_opt.step()
        with frozen(critic):
            g_loss = -critic(gan.generator(gan.sample_z(len(real)))).mean()
            gan.g_opt.zero_grad()
            g_loss.backward()
        gan.g_opt.step()
        return {"critic_loss": loss, "g_loss": g_loss}

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
    with torch.no_grad():
        gan.generator[-2].weight.mul_(20)  # has learned, and its average not
    gan.steps_done = 500
    for layer in gan.generator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
            layer.reset_running_stats()
    gan.generator(torch.randn(64, Z))
    return gan


def with_odd_averages():
    gan = players()
    gan.steps_done = 500
    for layer in gan.generator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.fill_(100.0)
    return gan


def with_norms(**settings):
    gan = players()
    for layer in gan.generator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = settings.get("eps", layer.eps)
            nn.init.normal_(layer.weight, settings.get("mean", 1.0), 0.02)
    return gan


STEP = make_step()
PLANTED = [
    ("G's turn is cut off", players, make_step(cut=True), {"generator_does_not_move"}),
    ("an optimiser of both", with_foreign_optimiser, STEP, {"foreign_weights"}),
    ("one of another network", with_a_stranger, STEP, {"foreign_weights", "generator_does_not_move"}),
    ("rates of 0", lambda: players(rate=0.0), STEP, {"generator_does_not_move", "discriminator_does_not_move"}),
    ("no zero_grad", players, make_step(zero=None), {"gradients_not_zeroed"}),
    ("zero_grad too early", players, make_step(zero="after"), {"gradients_not_zeroed"}),
    ("a wrong sign", players, make_step(sign=-1), {"same_direction"}),
    ("not detached", players, make_step(detach=False), {"not_detached"}),
    ("uniform z", players, make_step(z_of=lambda n: torch.rand(n, Z)), {"different_z"}),
    ("one mixed batch", players, make_step(mixed=True), {"one_mixed_batch"}),
    ("a sigmoid on G", lambda: players(end=nn.Sigmoid()), STEP, {"ranges"}),
    ("nothing on G", lambda: players(end=Wide()), STEP, {"ranges"}),
    ("a sigmoid on D", lambda: players(critic_end=nn.Sigmoid()), STEP, {"probabilities"}),
    ("the same reals", lambda: players("none"), one_batch_for_all, {"same_reals_again"}),
    ("no clipping", lambda: players("none"), without_a_bound, {"unbounded_critic"}),
    ("BatchNorm in a critic", players, penalised(), {"batch_norm_in_critic"}),
    ("a dead penalty", lambda: players("none"), penalised(graph=False), {"penalty_without_gradient"}),
    ("at reals only", lambda: players("none"), penalised("reals"), {"penalty_at_reals_only"}),
    ("saturation", with_a_sure_critic, steps.minimax_step, {"vanishing"}),
    ("a slow average", with_a_long_average, STEP, {"ema_lags"}),
    ("odd averages of BatchNorm", with_odd_averages, STEP, {"train_differs_from_eval"}),
    ("BatchNorm around 0", lambda: with_norms(mean=0.0), STEP, {"batch_norm_scale"}),
    ("a large eps", lambda: with_norms(eps=0.8), STEP, {"batch_norm_eps"}),
]


@pytest.mark.parametrize("case", PLANTED, ids=[case[0] for case in PLANTED])
@pytest.mark.parametrize("batch_size", [16, 64])
def test_a_planted_bug_is_named(case, batch_size):
    _, make, step, expected = case
    found = diagnose(make(), IMAGES, step, batch_size=batch_size)
    # Copies that have not been trained say nothing of samples: those of players called old are not looked at.
    assert {*names(found)} - {"collapse", "twins"} == expected
    for finding in found:
        assert all(len(text) > 10 for text in (finding.name, finding.evidence, finding.cause, finding.first))
        assert finding.evidence in str(finding) and finding.lesson in str(finding)


def history(best_by=None, scores=(), **losses):
    return SimpleNamespace(losses=losses, scores=list(scores), best_by=best_by)


def test_what_only_a_history_shows():
    gan, calm = players(), [1.3] * 200
    assert diagnose(gan, IMAGES, STEP, history(d_loss=calm, g_loss=calm)) == []
    cases = {
        "clamped": history(d_loss=calm, g_loss=[1.0] * 100 + [100.0] * 100),
        "impossible_sum": history(d_loss=[0.2] * 200, g_loss=[0.3] * 200),
        "far_ahead": history(d_loss=[0.001] * 200, g_loss=[9.0] * 200),
        "far_behind": history(d_loss=[5.0] * 200, g_loss=[0.1] * 200),
        "explodes": history(d_loss=calm, g_loss=[2.0 ** (k / 10) for k in range(200)]),
    }
    worse = [(100 * k, {"fd": value}) for k, value in enumerate([90.0, 20, 8, 5, 9, 12, 15, 18, 22])]
    cases["score_worsens"] = history(("fd", "lowest"), worse, d_loss=calm, g_loss=calm)
    for name, ran in cases.items():
        assert names(diagnose(gan, IMAGES, STEP, ran)) == [name]
    better = history(("fd", "lowest"), worse[:4] + [(900, {"fd": 4.0})] * 4, d_loss=calm, g_loss=calm)
    assert diagnose(gan, IMAGES, STEP, better) == []


def test_the_losses_of_a_step_with_another_z_cannot_both_be_low():
    gan, step = players(), make_step(z_of=lambda n: torch.rand(n, Z))
    found = diagnose(gan, IMAGES, step, history(d_loss=[0.1] * 200, g_loss=[0.1] * 200))
    assert names(found) == ["different_z", "impossible_sum"]


def test_the_images_are_looked_at_too():
    twice = ImageSet(PIXELS[:90].repeat(2, 1, 1, 1), None, (), "twice", "made for this test")
    flat = ImageSet(torch.full((90, 1, 16, 16), 7, dtype=torch.uint8), None, (), "flat", "made for this test")
    assert names(diagnose(players(), twice, STEP)) == ["repeated_images"]
    assert {*names(diagnose(players(), flat, STEP))} == {"constant_images", "repeated_images"}


def test_a_doctor_watches_and_says_each_thing_once(caplog, monkeypatch):
    gan, watcher = players(), Doctor()
    monkeypatch.setattr(doctor, "SHARE", math.inf)  # at each step
    ran = fit(gan, make_step(cut=True), IMAGES, steps=9, batch_size=16, watchers=[watcher])
    assert [(step, check) for step, check, _ in ran.findings] == [(1, "generator_does_not_move")]
    assert [note.step for note in watcher.notes] == [*range(1, 10)]
    assert sum("the generator does not move" in line for line in caplog.messages) == 1
    ran = fit(gan, make_step(cut=True), IMAGES, steps=9, batch_size=16, watchers=[Doctor()])
    assert len(ran.findings) == 1


def test_what_only_shows_from_look_to_look():
    def anew(gan, batches):
        gan.fixed_z = gan.sample_z(64)
        return STEP(gan, batches)

    z = torch.randn(16, Z)
    ordered = itertools.cycle((IMAGES.sample(200).sort(dim=0).values).split(16)[:12])
    for step, batches, expected in (
        (anew, itertools.cycle([IMAGES.sample(16)]), "fixed_z_moves"),
        (make_step(z_of=lambda n: z[:n]), itertools.cycle([IMAGES.sample(16)]), "same_z_again"),
        (STEP, ordered, "unshuffled"),
    ):
        gan, watcher, found = players(), Doctor(), []
        for done in range(1, 13):
            step(gan, batches)
            gan.steps_done = done
            found += watcher.look(gan, step, batches, history())
        assert expected in names(found) and len({*names(found)}) == len(found)


def test_alike_narrowing_and_swinging_fakes():
    reals = torch.randn(64, 2)
    for spread, center, expected in (
        (lambda k: 0.01, lambda k: 0.0, {"collapse", "twins"}),
        (lambda k: 0.9**k, lambda k: 0.0, {"narrowing"}),
        (lambda k: 1.0, lambda k: 5.0 * (k % 2), {"oscillation"}),
        (lambda k: 1.0, lambda k: 0.0, set()),
    ):
        notes, found = [], set()
        for k in range(14):
            seen = Seen(
                nn.Linear(2, 2), nn.Linear(2, 1), None, None, SimpleNamespace(steps_done=300 + k, fixed_z=reals)
            )
            fakes = center(k) + spread(k) * torch.randn(64, 2)
            seen.z, seen.fakes, seen.earlier = [reals], [fakes], notes
            seen.judged = [Judged(reals, reals[:, 0], "real", False)]
            checks = (symptoms.collapse, symptoms.twins, symptoms.narrowing, symptoms.oscillation)
            values = {check.__name__: result for check in checks if (result := check(seen))}
            found |= {finding.check for finding in doctor.findings(values, silent=True)}
            notes.append(seen.note({name: value for name, (value, _) in values.items()}))
        assert expected == found if not expected else expected <= found


def test_a_doctor_that_fails_does_not_end_the_training(caplog):
    calls = []

    def once(gan, batches):  # works on no copy
        calls.append(gan)
        if gan is not calls[0]:
            raise RuntimeError("not with a copy")
        return STEP(gan, batches)

    ran = fit(players(), once, IMAGES, steps=4, batch_size=16, watchers=[Doctor()])
    assert ran.steps == 4 and len(calls) == 5 and "not with a copy" in caplog.text


@pytest.mark.parametrize("bug", [None, "cut", "z", "unzeroed"])
def test_a_checkup_listens_to_any_loop(bug):
    gan, zs, z = players(), [], torch.randn(16, Z)
    d_losses, g_losses = [1.4] * 300, [0.7] * 300
    before = gan.discriminator[0].weight.clone()
    with checkup(gan.generator, gan.discriminator, gan.g_opt, gan.d_opt, losses={"d_loss": d_losses}) as found:
        for k in range(3):
            real = IMAGES.sample(16, seed=k)
            fake = gan.generator(zs.append(0) or (z if bug == "z" else torch.randn(16, Z)))
            d_loss = softplus(-gan.discriminator(real)).mean() + softplus(gan.discriminator(fake.detach())).mean()
            if bug != "unzeroed":
                gan.discriminator.zero_grad()
            d_loss.backward()
            gan.d_opt.step()
            g_loss = softplus(-gan.discriminator(fake.detach() if bug == "cut" else fake)).mean()
            gan.generator.zero_grad()
            g_loss.backward()
            gan.g_opt.step()
            d_losses.append(d_loss.item()), g_losses.append(g_loss.item())
        assert found == []
    expected = {"cut": "generator_does_not_move", "z": "same_z_again", "unzeroed": "gradients_not_zeroed"}
    assert {*names(found)} - {"collapse", "twins"} == ({expected[bug]} if bug else set())
    assert not gan.discriminator._forward_hooks and not torch.equal(before, gan.discriminator[0].weight)


def test_every_check_has_words_and_every_lesson_its_place():
    functions = [check.__name__ for check in (*checks.CHECKS, *symptoms.SYMPTOMS)]
    assert sorted(functions) == sorted(doctor.texts())
    headings = {path.name[:2]: [] for path in NOTEBOOKS}
    for path in NOTEBOOKS:
        text = "\n".join(source(cell) for cell in read_notebook(path)["cells"] if cell["cell_type"] == "markdown")
        headings[path.name[:2]] = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    for check, said in doctor.texts().items():
        number, place = re.fullmatch(r"notebook (\d\d), (.+)", said["lesson"]).groups()
        assert any(heading.startswith(place) for heading in headings[number]), (check, said["lesson"])


def test_a_run_on_disk_is_diagnosed_and_told(tmp_path, capsys, quickly):
    how = dict(dataset="fake", n=300, image_size=28, channels=1, g_width=2, d_width=2, z_dim=4, batch_size=8)
    train(**how, d_lr=1e-9, out=str(tmp_path / "run"), steps=6)
    assert "nothing is found" in capsys.readouterr().out or tell(tmp_path / "run") is not None
    history = folder.history_of(tmp_path / "run")
    for step, check, text in history.findings:
        assert info(tmp_path / "run")[f"doctor, {step:,}"] == text and check in doctor.texts()
    assert isinstance(tell(tmp_path / "run"), list) and f"step 6 of '{tmp_path / 'run'}'" in capsys.readouterr().out


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
