"""What the notebooks write out is what the library has, and their exercises can be solved as they say."""

import copy
import itertools
import math
import re
from functools import partial

import pytest
import torch
from scipy.stats import wasserstein_distance

from ganlib import GAN, ImageSet, conditional, latent, losses, models, sample, steps
from ganlib._runtime import notebook
from ganlib.data import augmented, toys
from ganlib.latent import inversion
from ganlib.metrics import (
    density_coverage,
    distances,
    frechet_distance,
    kernel_distance,
    memorisation,
    overfitting,
    precision_recall,
)
from ganlib.runs import record
from helpers import (
    NOTEBOOKS,
    Colours,
    defined,
    exercises,
    load_script,
    noise,
    pictures,
    read_notebook,
    source,
    try_answer,
)

PATHS = {path.name[:2]: path for path in NOTEBOOKS}


def lesson(number, **settings):
    """What notebook ``number`` defines, with other ``settings`` in place of its own."""
    namespace = defined(PATHS[number])
    namespace.update(settings)
    return namespace


def cell_with(number, text):
    (found,) = (source(cell) for cell in read_notebook(PATHS[number])["cells"] if text in source(cell))
    return found


def players(number="00"):
    """Small ones for the step of a notebook."""
    if number == "00":
        networks, z_dim = (models.mlp_generator(2, 8, 0), models.mlp_discriminator(8, 1)), 2
    else:
        norm, z_dim = "none" if number in ("03", "08") else "batch", 8
        networks = models.dcgan_generator(16, 1, 4, z_dim), models.dcgan_discriminator(16, 1, 4, norm=norm, seed=1)
    if number == "03":
        return GAN(*networks, *(torch.optim.RMSprop(net.parameters(), 1e-4) for net in networks), z_dim)
    return GAN(*networks, *(torch.optim.Adam(net.parameters(), 1e-2, (0.5, 0.9)) for net in networks), z_dim)


def reals(number="00"):
    draw, points = seeded(5), number == "00"
    return (toys.ring(16, draw) if points else torch.rand(6, 1, 16, 16, generator=draw) * 2 - 1 for _ in range(99))


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


GAMMAS = {"r1_gamma": 0.7, "r2_gamma": 0.3}
STEPS = [
    ("00", lambda its: its["step"], steps.dcgan_step),
    ("00", lambda its: partial(its["step"], g_loss_of=its["saturating"]), steps.minimax_step),
    ("01", lambda its: its["step"], steps.dcgan_step),
    ("03", lambda its: its["wgan_step"], steps.wgan_step),
    ("03", lambda its: its["wgan_gp_step"], steps.wgan_gp_step),
    ("08", lambda its: its["pairs_step"], partial(steps.rpgan_step, r1_gamma=0.0, r2_gamma=0.0)),
    ("08", lambda its: partial(its["r3_step"], **GAMMAS), partial(steps.rpgan_step, **GAMMAS)),
]


@pytest.mark.parametrize(("number", "step_of", "known"), STEPS, ids=lambda value: getattr(value, "__name__", value))
def test_its_step_makes_the_same_moves_as_the_librarys(number, step_of, known):
    mine, theirs, step = players(number), players(number), step_of(lesson(number))
    batches, same_batches = reals(number), reals(number)
    start = weights(mine.generator), weights(mine.discriminator)
    for _ in range(3):
        found, expected = step(mine, batches), known(theirs, same_batches)
    if number == "08":
        del expected["penalty"]
    assert {k: v.item() for k, v in found.items()} == pytest.approx({k: v.item() for k, v in expected.items()})
    for before, name in zip(start, ("generator", "discriminator"), strict=True):
        one, two = (weights(getattr(gan, name)) for gan in (mine, theirs))
        torch.testing.assert_close(one, two, rtol=0, atol={"03": 1e-7, "08": 1e-5}.get(number, 0))
        assert not torch.equal(one, before)
    torch.testing.assert_close(next(batches), next(same_batches))  # as many were taken


@pytest.mark.parametrize(
    ("number", "settings", "args", "generator", "discriminator"),
    [
        ("00", {"width": 8}, (3,), models.mlp_generator(3, 8, 3), models.mlp_discriminator(8, 4)),
        ("01", {}, (16,), models.dcgan_generator(28, 1, 32, 16, seed=3), models.dcgan_discriminator(28, 1, 16, seed=4)),
        ("01", {}, (2,), models.dcgan_generator(28, 1, 32, 2, seed=3), models.dcgan_discriminator(28, 1, 16, seed=4)),
        (
            *("02", {"z_dim": 10, "g_width": 8, "d_width": 6}, ()),
            *(models.dcgan_generator(32, 3, 8, 10, seed=3), models.dcgan_discriminator(32, 3, 6, depth=2, seed=4)),
        ),
        (
            *("04", {"z_dim": 10, "width": 8}, ()),
            *(models.dcgan_generator(64, 3, 8, 10, seed=3), models.dcgan_discriminator(64, 3, 8, seed=4)),
        ),
    ],
)
def test_its_networks_are_the_librarys(number, settings, args, generator, discriminator):
    its, first_weights = lesson(number, **settings), models.he_normal if number == "00" else models.initialise
    mine = first_weights(its["make_generator"](*args), 3), first_weights(its["make_discriminator"](), 4)
    images = generator(z := torch.randn(5, generator.config["z_dim"] if number != "00" else 3))
    assert torch.equal(mine[0](z), images) and torch.equal(mine[1](images), discriminator(images))


# --- 00 -------------------------------------------------------------------------------------------


def test_its_losses_are_the_librarys_and_its_bilinear_game_is_what_it_says():
    real, fake = torch.randn(2, 50, generator=seeded(0)) * 4
    its = lesson("00")
    assert torch.equal(its["d_loss_of"](real, fake), losses.non_saturating_d_loss(real, fake))
    assert torch.equal(its["saturating"](fake), losses.minimax_g_loss(fake))
    assert torch.equal(its["non_saturating"](fake), losses.non_saturating_g_loss(fake))
    assert its["play"](0.5, 2, in_turns=False).tolist() == [[1, 0], [1, 0.5], [0.75, 1]]
    assert its["play"](0.5, 2, in_turns=True).tolist() == [[1, 0], [1, 0.5], [0.75, 0.875]]


def test_its_other_steps_take_the_turns_that_they_say():
    its = lesson("00")

    def turns(step, **how):
        gan, counts, seen = players(), {"g": 0, "d": 0}, []
        gan.g_opt.register_step_post_hook(lambda *_: counts.update(g=counts["g"] + 1))
        gan.d_opt.register_step_post_hook(lambda *_: counts.update(d=counts["d"] + 1))
        before = weights(gan.generator)
        its[step](gan, (seen.append(real) or real for real in reals()), **how)
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(seen, 2))  # fresh points each time
        return counts, len(seen), torch.equal(weights(gan.generator), before)

    assert turns("step", n_d=5) == ({"g": 1, "d": 5}, 5, False)
    assert turns("step", n_g=4) == ({"g": 4, "d": 1}, 1, False)
    assert turns("stuck_step") == ({"g": 1, "d": 1}, 1, True)  # the generator's turn, but it does not move


def test_its_training_loop_keeps_what_was_seen_and_ends_early_if_its_bar_does():
    its, looked = lesson("00"), []
    run = its["train"](players(), toys.ring, 5, lambda gan, done: looked.append(done) or done, 2)
    assert run.seen == [(0, 0), (2, 2), (4, 4)] and looked == [0, 2, 4]
    assert {name: len(values) for name, values in run.losses.items()} == {"d_loss": 5, "g_loss": 5}
    run = its["train"](players(), toys.ring, 5, lambda gan, done: done, 2, loop=lambda steps: list(steps)[:3], n_g=2)
    assert run.seen == [(0, 0), (2, 2)] and len(run.losses["g_loss"]) == 3


def test_its_live_figure_plays_the_notebooks_own_game_with_a_control_for_all_that_it_takes(monkeypatch):
    its = lesson("00", targets={"ring": toys.ring}, centers={})
    monkeypatch.setattr(notebook, "someone_there", lambda: True)
    monkeypatch.setitem(its, "seen", None)
    exec("seen = " + cell_with("00", "viz.playground("), its)

    def inside(widget):
        return [widget, *(found for child in getattr(widget, "children", ()) for found in inside(child))]

    (play,) = (child for child in inside(its["seen"]) if type(child).__name__ == "Play")
    play.value = 1
    *_, note = (child for child in inside(its["seen"]) if type(child).__name__ == "HTML")
    assert note.value.startswith("step ") and " · d_loss " in note.value
    names = {getattr(child, "description", "") for child in inside(its["seen"])}
    assert {
        "z_dim",
        "Adam's betas",
        "generator's loss",
        "freeze D",
        "D's updates a step",
        "G's updates a step",
    } <= names


def test_all_five_targets_are_there_and_give_points():
    its = lesson("00")
    exec(cell_with("00", "targets = {"), its)
    assert list(its["targets"]) == ["ring", "grid", "spiral", "moons", "mine"]
    for target in its["targets"].values():
        assert target(7, seeded(0)).shape == (7, 2)


# --- 01 to 04 -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "theirs", "shape"),
    [
        (lambda: lesson("01")["make_with_choice"](36), models.dcgan_generator(28, 1, 32, 36, categories=20), (5, 36)),
        *(
            (lambda c=c, n=n: lesson("03")["make_critic"](c, 8, n), models.dcgan_discriminator(n, c, 8, norm="none"), x)
            for c, n, x in ((1, 28, (2, 1, 28, 28)), (3, 32, (2, 3, 32, 32)))
        ),
    ],
)
def test_its_choice_and_its_critics_are_the_librarys(mine, theirs, shape):
    x = torch.randn(shape, generator=seeded(0))
    assert torch.equal(models.initialise(mine(), 3)(x), models.initialise(theirs, 3)(x))


def test_its_penalties_are_the_librarys():
    x, x_tilde = torch.randn(2, 5, 3, 32, 32, generator=seeded(0))
    D = models.dcgan_discriminator(32, 3, 6, depth=2, seed=4)
    mine = lesson("02")["R_1"](D, x)
    assert mine > 0 and torch.allclose(mine, losses.r1_penalty(D, x, batch_norm=True))
    f = models.dcgan_discriminator(32, 3, 4, norm="none")
    mine = lesson("03")["penalty"](f, x, x_tilde, torch.rand(5, 1, 1, 1, generator=seeded(1)))
    assert mine > 0 and torch.allclose(mine, losses.gradient_penalty(f, x, x_tilde, seeded(1)))


def test_its_average_is_the_librarys():
    mean, model = (models.dcgan_generator(8, 3, 4, 6, seed=k) for k in (0, 1))
    expected = copy.deepcopy(mean)
    for network, average in ((mean, lesson("02")["average"]), (expected, partial(steps.update_ema, step=10_000))):
        average(network, model, decay=0.9)
    for name, weight in expected.state_dict().items():
        torch.testing.assert_close(mean.state_dict()[name], weight)


def test_its_earth_movers_distance_is_scipys():
    x, y = torch.randn(2, 40, 2, generator=seeded(0), dtype=torch.float64)
    y = y * 1.3 + 0.2
    x[:, 1] = y[:, 1] = 0  # on a line
    expected = wasserstein_distance(x[:, 0], y[:, 0])
    assert lesson("03")["earth_movers"](x, y)[0] == pytest.approx(expected, rel=1e-6)


def test_what_it_moves_and_finds_is_what_the_library_does():
    its, images = lesson("04", seed=0), torch.randn(7, 3, 16, 24, generator=seeded(0))
    same = its["moved"](images, [0, 3, -2, 0, 16, 0, 1], [0, 0, 0, -5, 0, 24, 1])
    assert torch.equal(same[0], images[0]) and not same[4:6].any()  # not moved; moved out of the picture
    assert torch.equal(same[1, :, 3:], images[1, :, :-3]) and torch.equal(same[3, :, :, :-5], images[3, :, :, 5:])
    mine, theirs = its["Moved"](models.dcgan_discriminator(16, 3, 4)), models.dcgan_discriminator(16, 3, 4)
    theirs, images = augmented(theirs, ["translation"]), images[..., :16]
    for training in (True, False):
        found = []
        for D in (mine.train(training), theirs.train(training)):
            torch.manual_seed(1)
            found.append(D(images))
        assert torch.equal(*found)


def test_its_two_measures_of_learning_by_heart_are_the_librarys():
    its = lesson("04")
    few, others = (ImageSet(noise(60, 3, 16, seed=k), None, (), "noise", "noise") for k in (1, 2))
    its |= {"few": few, "others": others}
    D, G = models.dcgan_discriminator(16, 3, 4), models.dcgan_generator(16, 3, 4, 8)
    for _ in range(3):
        D(few.sample(60))  # its running averages are those of its own faces
    fakes = sample(G, torch.randn(60, 8, generator=seeded(0)))
    pairs, r_v = its["by_heart"](D, fakes, n=60)
    known = overfitting(D, G, few, others, n=60)
    assert r_v == pytest.approx(known["r_v"], rel=0.02) and 0.3 < pairs < 0.7
    its |= {"others": few}
    assert its["by_heart"](D, fakes, n=60) == (pytest.approx(0.5, abs=0.01), 0)


def test_its_search_for_copies_is_the_librarys():
    its, net = lesson("04"), Colours()
    base, queries = pictures(40), pictures(9, seed=1)
    its["net"] = net
    found = memorisation(queries, base, net, 9, held_out=pictures(9, seed=2), resizer="bicubic").to_train
    for view, known in (("as_pixels", found.pixels), ("as_features", found.features)):
        assert torch.equal(its["nearest"](its[view], queries, base).indices, known.index)


# --- 05 -------------------------------------------------------------------------------------------


def test_its_walks_directions_and_truncation_are_the_librarys():
    a, b = torch.randn(2, 20, generator=seeded(0), dtype=torch.float64)
    t, its = torch.linspace(0, 1, 5, dtype=torch.float64), lesson("05", z_dim=100)
    torch.testing.assert_close(its["slerp"](a, b, t[:, None]), latent.slerp(a, b, t))
    for tau in (0.5, 1.5):
        found = its["truncated"](50, tau, 9)
        assert found.abs().max() <= tau and torch.equal(found, latent.draw_z(50, 100, 9, truncation=tau))
    z = torch.randn(9, 100, generator=seeded(1))
    assert torch.equal(its["direction"](z[:4], z[4:]), latent.direction(z[:4], z[4:]))
    torch.testing.assert_close(its["on_shell"](z).norm(dim=1), torch.full((9,), 10.0))


def test_its_flips_are_the_librarys_and_its_nearest_leaves_out_itself():
    generator = models.dcgan_generator(8, 3, 4, 6, seed=1).eval()

    def dark(pixels):  # two answers about an image
        level = pixels.float().mean((1, 2, 3))
        return torch.stack([level > 255, level > middle], 1).long()

    z, d = torch.randn(200, 6, generator=seeded(2)), torch.ones(6)
    middle = latent.readings(generator, z, lambda pixels: pixels.float().mean((1, 2, 3))).median()
    its = lesson("05", g=generator)
    its["read"] = lambda pixels: (dark(pixels), None)
    for strength in (2.0, -2.0):
        expected = latent.flips(generator, z, d, lambda pixels: dark(pixels)[:, 1].bool(), strength)
        assert its["flips"](z, d, 1, strength) == pytest.approx(expected)
    assert 0 < expected < 1
    x, y = torch.randn(1100, 3, generator=seeded(3)), torch.randn(700, 3, generator=seeded(4))
    for found, at in (its["nearest"](x, y), (torch.cdist(x, y).min(1))):
        torch.testing.assert_close((x - y[at]).norm(dim=1), found, atol=1e-3, rtol=1e-3)
    among, at = its["nearest"](x, x, skip_itself=True)
    assert among.min() > 0 and not (at == torch.arange(1100)).any()
    torch.testing.assert_close(among, torch.cdist(x, x).fill_diagonal_(torch.inf).amin(1), atol=1e-3, rtol=1e-3)


def test_its_objective_is_the_librarys():
    generator = models.dcgan_generator(8, 3, 4, 6, seed=1).eval()
    x, z = torch.rand(3, 3, 8, 8) * 2 - 1, torch.randn(3, 6, requires_grad=True)
    mine = lesson("05", G=generator)["objective"](x, z)
    theirs = inversion._nll(generator(z), x, "gaussian")[0] + z.square().sum(1) / 2
    torch.testing.assert_close(mine + x[0].numel() * math.log(2 * math.pi) / 2, theirs)  # equal but for a constant
    torch.testing.assert_close(*(torch.autograd.grad(f.sum(), z, retain_graph=True)[0] for f in (mine, theirs)))


def test_the_runs_that_it_compares_are_on_record():
    runs = record("celeba")
    assert list(runs)[:2] == ["moved", "plain"]
    for moments in runs.values():
        at = [moment["step"] for moment in moments]
        assert at == sorted(at) and len(at) > 5
        assert all({"fd_cifarnet_2k", "seen", "held_out", "fake", "r_v"} <= moment.keys() for moment in moments)
        assert all(0 <= moment[name] <= 1 for moment in moments for name in ("seen", "held_out", "fake"))
    with pytest.raises(ValueError, match="cifar10"):
        record("cifar10")


# --- 06 -------------------------------------------------------------------------------------------


def test_its_scores_are_the_librarys():
    real, fake = torch.randn(2, 300, 6, generator=seeded(0), dtype=torch.float64)
    fake, its = fake * 1.3 + 0.2, lesson("06")
    assert its["my_frechet"](real, fake).item() == pytest.approx(frechet_distance(real, fake), rel=1e-6)
    assert its["my_kid"](real, fake) == pytest.approx(kernel_distance(real, fake)[0], rel=1e-6)
    logits = 3 * torch.randn(300, 10, generator=seeded(1))
    assert its["my_inception_score"](logits) == pytest.approx(distances.inception_score(logits), rel=1e-5)
    found = its["four"](real[:80], fake[:50])
    assert (found["precision"], found["recall"]) == pytest.approx(precision_recall(real[:80], fake[:50]))
    assert (found["density"], found["coverage"]) == pytest.approx(density_coverage(real[:80], fake[:50], k=3))


def test_its_circle_answers_at_once_with_the_numbers_of_the_fakes_that_are_drawn():
    its = lesson("06")
    exec(cell_with("06", "circle_reals ="), its)
    told = {tuple(how.items()): its["circle"](**how).get_label() for how in ({}, {"astray": 20}, {"known": 0.25})}
    found = {how: its["four"](its["circle_reals"], its["fakes_on_circle"](**dict(how))) for how in told}
    for how, values in found.items():
        assert all(f"{metric} {value:.2f}" in told[how] for metric, value in values.items())
    at_outlier = found[("astray", 20),]
    assert at_outlier["precision"] == 1 and at_outlier["density"] == pytest.approx(1 / 3)  # one ball of three
    assert len({tuple(values.values()) for values in found.values()}) == 3


# --- 07 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Concat", "Auxiliary", "Projection"])
def test_its_networks_with_labels_and_their_steps_are_the_librarys(name):
    its, label = lesson("07", z_dim=14, g_width=4, d_width=4), name.lower()
    mine = models.initialise(its["make_generator"](), 3), models.initialise(its[name](), 4)
    theirs = (
        conditional.conditional_generator(28, 1, 4, 14, seed=3),
        *[conditional.conditional_discriminator(28, 1, 4, label=label, seed=4)],
    )
    how = (
        (its["auxiliary_step"], conditional.auxiliary_step) if name == "Auxiliary" else (its["step"], steps.dcgan_step)
    )
    weights_after, records = [], []
    for networks, step in zip((mine, theirs), how, strict=True):
        gan = GAN(*networks, *(torch.optim.Adam(net.parameters(), 1e-2, (0.5, 0.9)) for net in networks), 14)
        draw = seeded(5)
        batches = (
            (torch.rand(6, 1, 28, 28, generator=draw) * 2 - 1, torch.eye(10)[torch.randint(10, (6,), generator=draw)])
            for _ in range(3)
        )
        records.append([{k: v.item() for k, v in step(gan, batches).items()} for _ in range(3)])
        weights_after.append([weights(network) for network in networks])
    assert records[0] == records[1]
    for one, two, network in zip(*weights_after, theirs, strict=True):
        assert torch.equal(one, two) and not torch.equal(one, weights(type(network).build(network.config)))


def test_its_label_is_the_librarys():
    its, z, y = lesson("07"), torch.randn(4, 26), torch.eye(10)[torch.tensor([1, 0, 7, 7])]
    assert torch.equal(its["labelled"](z, y), steps.labelled(z, y)) and torch.equal(its["asked_for"](7, 2), y[2:])


# --- exercises ------------------------------------------------------------------------------------


def test_the_rungs_of_notebook_08_are_those_of_the_script_that_made_its_record():
    its, ladder = lesson("08"), load_script("modern_ladder", "examples")
    for cell in read_notebook(PATHS["08"])["cells"]:
        changes = [line for line in source(cell).splitlines() if re.match(r"(parts|rungs)\b.* = ", line)]
        exec("\n".join(changes) if cell["cell_type"] == "code" else "", its)
    names = dict(zip(its["rungs"], [*ladder.RUNGS, "lazy penalties"], strict=True))
    for name, known in names.items():
        parts, how = its["rungs"][name], ladder.settings(known)
        mine = parts["weights"](its["generator"](**parts), 0), parts["weights"](its["discriminator"](**parts), 1)
        theirs = ladder.generator(0, **how), ladder.discriminator(0, **how)
        for one, two in zip(mine, theirs, strict=True):
            shapes = [[(k, w.shape) for k, w in network.state_dict().items()] for network in (one, two)]
            assert shapes[0] == shapes[1], name
            for a, b in zip(one.parameters(), two.parameters(), strict=True):  # drawn in another order
                assert a.std(correction=0).item() == pytest.approx(b.std(correction=0).item(), rel=0.35, abs=1e-4), name


WRONG_01 = {  # of notebook 01; several a piece
    "1": [
        "my_count = discriminator[3].weight.numel()\n",  # at the width that it has
        "my_count = 64 * 128 * 4 * 4 + 128\n",  # a bias
        "my_count = 64 * 128 * 3 * 3\n",
        "my_count = 64 * 64 * 4 * 4\n",
        "my_count = 4 * discriminator[3].weight.numel()\n",
        "my_count = 16 * sum(p.numel() for p in (*discriminator[3].parameters(), *discriminator[4].parameters()))\n",
    ],
    "2": [
        "def my_g_loss(fake_logits):\n    return softplus(-fake_logits).mean()\n",  # the non-saturating one
        "my_g_loss = lambda logits: -softplus(-logits).mean()\n",
        "my_g_loss = lambda logits: softplus(logits).mean()\n",
        "my_g_loss = lambda logits: -softplus(logits).sum()\n",
        "my_g_loss = lambda logits: -softplus(logits)\n",  # no mean
        "my_g_loss = lambda logits: torch.log(1 - torch.sigmoid(logits)).mean()\n",  # minus infinity at 120
        "my_g_loss = lambda logits: torch.tensor(-0.9402)\n",
    ],
    "3": [
        f"def my_path(a, b, n):\n    t = torch.linspace(0, 1, n)[:, None]\n{lines}"
        for lines in (
            "    return a + t * (b - a)\n",
            "    line = a + t * (b - a)\n    return line / line.norm(dim=1, keepdim=True) * 4\n",  # misses both ends
            "    return slerp(a, b, t[:, 0])[torch.randperm(n)]\n",
            "    return slerp(a, b, (t[:, 0] * (n - 1)).round().div(n))\n",  # never arrives
            "    return slerp(a, b, torch.linspace(0, 1, n + 1))\n",
            "    return torch.cat([a.expand(n - 1, -1), b[None]])\n",
            "    return slerp(a, b, t[:, 0] ** 3)\n",  # unequal steps
            # zigzag: every other point well off the short way, at the right length
            "    line = slerp(a, b, t[:, 0])\n    away = torch.randn(16, generator=rng(0))\n"
            "    line[1:-1:2] += 0.7 * away\n    line[2:-1:2] -= 0.7 * away\n"
            "    length = (1 - t) * a.norm() + t * b.norm()\n"
            "    return line / line.norm(dim=1, keepdim=True) * length\n",
            # the long way round
            "    angle = torch.cosine_similarity(a, b, dim=0).arccos()\n    t = t * (1 - 2 * math.pi / angle)\n"
            "    way = ((1 - t) * angle).sin() * a / a.norm() + (t * angle).sin() * b / b.norm()\n"
            "    t = torch.linspace(0, 1, n)[:, None]\n"
            "    return way / angle.sin() * ((1 - t) * a.norm() + t * b.norm())\n",
        )
    ],
    "4": [
        "my_step = step\n",
        "my_step = lambda gan, batches: step(gan, batches) | {'D(x)': 0.5, 'D(G(z))': 0.5}\n",
        "my_step = lambda gan, batches: {'d_loss': 0.0, 'g_loss': 0.0, 'D(x)': 0.5, 'D(G(z))': 0.5}\n",  # nor trains
        *(  # edits of the solution
            ("torch.sigmoid(real_logits).mean()", "real_logits.mean()"),
            ("torch.sigmoid(real_logits).mean()", "torch.sigmoid(real_logits.mean())"),
            ('"D(x)": torch.sigmoid(real_logits)', '"D(x)": torch.sigmoid(fake_logits)'),
            ("torch.sigmoid(fake_logits).mean()", "torch.sigmoid(gan.discriminator(fake)).mean()"),  # after its update
            ("torch.sigmoid(fake_logits).mean()", "1 - torch.sigmoid(fake_logits).mean()"),
            ("    gan.g_opt.step()\n", ""),
        ),
    ],
}
WRONG_00 = {  # of notebook 00; several a piece
    "1": [
        "my_logit = lambda p, q: p / (p + q)\n",  # the probability
        "my_logit = lambda p, q: torch.log(q) - torch.log(p)\n",  # upside down
        "my_logit = lambda p, q: torch.log(p / (p + q))\n",  # a logarithm of the probability
        "my_logit = lambda p, q: torch.log(p / (1 - p))\n",  # forgets q
        "my_logit = lambda p, q: p - q\n",
        "my_logit = lambda p, q: torch.log10(p / q)\n",
        "my_logit = 0.0\n",
    ],
    "2": [
        "my_c = lambda eta: eta\n",
        "my_c = -0.1\n",  # a number
        "my_c = lambda eta: -0.1\n",  # right for one eta
        "my_c = lambda eta: -(eta**2)\n",
        "my_c = lambda eta: 0.0\n",
        "my_c = lambda eta: -2 * eta\n",
        "my_c = lambda eta: float('nan')\n",
        "def my_c():\n    return -0.1\n",
    ],
    "3": [
        "my_step = lambda x, y, eta: (x - eta * y, y + eta * x)\n",  # at once
        "def my_step(x, y, eta):\n    x = x - eta * y\n    return x, y + eta * x\n",  # in turns
        # the right radius, but the players have swapped their wishes
        "def my_step(x, y, eta):\n    a, b = x + eta * y, y - eta * x\n    return x + eta * b, y - eta * a\n",
        # looks ahead, but steps from the new place
        "def my_step(x, y, eta):\n    a, b = x - eta * y, y + eta * x\n    return a - eta * b, b + eta * a\n",
        # one of them alone looks ahead
        "def my_step(x, y, eta):\n    return x - eta * (y + eta * x), y + eta * x\n",
        # half a step ahead
        "def my_step(x, y, eta):\n    h = eta / 2\n    return x - eta * (y + h * x), y + eta * (x - h * y)\n",
        # a smaller radius, by shrinking
        "def my_step(x, y, eta):\n    s = (1 - eta**2 + eta**4) ** 0.5\n    return s * x, s * y\n",
        "my_step = (0.99, 0.1)\n",
    ],
    "4": [
        "my_covered = lambda points, centers, std: toys.modes_covered(points, centers, std)[0]\n",  # any hit
        ("/ 5).sum()", "/ 10).sum()"),
        ("/ 5).sum()", "/ 4).sum()"),
        ("/ 5).sum()", ").sum()"),  # all of the fair share
        ("3 * std", "2 * std"),
        ("nearest[distance <= 3 * std]", "nearest"),  # however far away
        ("len(points) /", "(distance <= 3 * std).sum() /"),  # of those on a mode, not of all
        ("len(points) / len(centers) / 5", "20"),
        "my_covered = lambda points, centers, std: 8\n",
        # a point counts for each mode that it is near to
        "def my_covered(points, centers, std):\n    hits = (torch.cdist(points, centers) <= 3 * std).sum(0)\n"
        "    return (hits >= len(points) / len(centers) / 5).sum().item()\n",
    ],
    "5": [
        "my_art = '# #'\n",
        "my_art = '#' * 25\n",  # in one line
        "my_art = '\\n'.join(['#'] * 25)\n",
        "my_art = '##########\\n#########'\n",  # 19
        "my_art = ' \\n ' * 25\n",
        "my_art = 25\n",
    ],
}
WRONG_02 = {
    "1": [
        f"def my_cost(conv, side):\n    k, stride, p = conv.kernel_size[0], conv.stride[0], conv.padding[0]\n{lines}"
        for lines in (
            "    return side * side * conv.weight.numel()\n",  # the input's size
            "    return 2 * ((side + 2 * p - k) // stride + 1) ** 2 * conv.weight.numel()\n",  # additions, too
            "    return ((side + 2 * p - k) // stride + 1) * conv.weight.numel()\n",
            "    return ((side + 2 * p - k) // stride + 1) ** 2 * conv.out_channels * k * k\n",  # one input channel
            "    return ((side + 2 * p - k) // stride + 1) ** 2 * conv.in_channels * conv.out_channels * k\n",
            "    return (side // stride) ** 2 * conv.weight.numel()\n",  # right where the padding fits
            "    return ((side + p - k) // stride + 1) ** 2 * conv.weight.numel()\n",
            "    return ((side + 2 * p - k) // stride + 1) ** 2 * (conv.weight.numel() + conv.out_channels)\n",
            "    return conv.weight.numel()\n",
        )
    ],
    "2": [
        "my_beta = lambda n: 1 - 1 / n if n > 1 else 0.5\n",  # reaches back n steps, but with 1 - 1/e of the weight
        "my_beta = lambda n: 0.5**n\n",
        "my_beta = lambda n: 1 - 0.5 / n\n",
        "my_beta = lambda n: 2.718281828 ** (-1 / n)\n",
        "my_beta = lambda n: 1 - 0.693147 / n if n > 1 else 0.5\n",  # nearly, for a large n
        "my_beta = lambda n: 0.5 ** (1 / (n + 1))\n",
        "my_beta = lambda n: 0.99\n",
    ],
    "3": [
        f"def my_twins(fake, real):\n    near = torch.pdist(real).min()\n    apart = torch.cdist(fake, fake)\n{lines}"
        for lines in (
            "    return (apart.amin(1) < near).float().mean()\n",  # oneself
            "    return (apart < near).float().mean()\n",
            "    return (torch.pdist(fake) < near).float().mean()\n",  # the share of pairs
            "    return (torch.pdist(fake) < near).sum() / len(fake)\n",
            "    return (torch.cdist(fake, real).amin(1) < near).float().mean()\n",  # copies of reals
            "    apart.fill_diagonal_(torch.inf)\n"
            "    return (apart.amin(1) < torch.pdist(real).mean()).float().mean()\n",
            "    apart.fill_diagonal_(torch.inf)\n    return (apart.amin(1) < near).sum()\n",
            "    return ((apart < near).sum(1) > 2).float().mean()\n",  # triplets only
            "    first = torch.triu(torch.ones_like(apart), 1).bool()\n"  # each pair counted at one of its ends
            "    return ((apart < near) & first).any(1).float().mean()\n",
        )
    ],
    "4": [
        # pictures, not weights
        "class Mean(nn.Module):\n    forward = lambda self, z: sum(s * g(z) for s, g in zip(self.shares, self.of))\n"
        "def my_blend(nets, shares):\n    mean = Mean()\n    mean.of, mean.shares = nets, shares\n    return mean\n",
        "my_blend = lambda nets, shares: nets[max(range(3), key=lambda k: shares[k])]\n",
        # the first of them, changed
        ("copy.deepcopy(generators[0])", "generators[0]"),
        (
            "mixed.load_state_dict(mean)",
            "mixed.load_state_dict({name: w for name, w in mean.items() if 'running' not in name}, strict=False)",
        ),
        ("s * state[name]", "state[name] / len(states)"),
        ("zip(shares, states)", "zip(shares[:2], states)"),
        ("mixed.load_state_dict(mean)", "pass"),
        ("return mixed", "return generators[0]"),
    ],
}
WRONG_06 = {  # of notebook 06; several a piece
    "1": [
        "my_coverage = lambda real, fake, k: 1.0\n",
        ("k + 1", "k"),  # the nearest is the point itself
        (".any(0)", ".any(1)"),  # precision
        ("(real, fake, k)", "(fake, real, k)"),  # roles swapped
        (".any(0).float().mean()", ".float().sum(1).mean() / k"),  # density
        ("kthvalue(k + 1)", "kthvalue(4)"),
        # recall
        "def my_coverage(real, fake, k):\n    radius = torch.cdist(fake, fake).kthvalue(k + 1).values\n"
        "    return (torch.cdist(real, fake) <= radius).any(1).float().mean()\n",
        ("torch.cdist(real, real).kthvalue(k + 1).values", "torch.cdist(real, real).mean()"),  # one radius for all
    ],
    "2": [
        "my_fd_infinity = lambda counts, fds: fds[-1]\n",
        "my_fd_infinity = lambda counts, fds: min(fds)\n",
        "my_fd_infinity = lambda counts, fds: sum(fds) / len(fds)\n",
        ("1 / torch.tensor(counts)", "torch.tensor(counts)"),  # a line in n
        ("1 / torch.tensor(counts).double()", "torch.tensor(counts).double() ** -0.5"),
        ("(y.mean() - slope * x.mean()).item()", "slope.item()"),
        # through the last two alone
        "def my_fd_infinity(counts, fds):\n    (n, m), (a, b) = counts[-2:], fds[-2:]\n"
        "    return (m * b - n * a) / (m - n)\n",
        "my_fd_infinity = lambda counts, fds: 7.0\n",
        ("return (", "return max(0, 0 * slope.item()) + (y.min() - "),  # of the lowest, not of the mean
    ],
    "3": [
        "my_floor = lambda real, n, draws, distance: 0.0\n",
        ("real[order[n:]]", "real"),  # the others, and the same once more
        ("real[order[n:]], real[order[:n]]", "real[order[:n]], real[order[n:]]"),  # roles swapped
        ("real[order[n:]]", "real[order[n : 2 * n]]"),  # not all of the others
        ("sum(found) / draws", "sum(found)"),
        ("sum(found) / draws", "min(found)"),
        ("torch.randperm(len(real))", "torch.arange(len(real))"),  # the same draw again and again
        ("torch.randperm(len(real))", "torch.randint(len(real), (len(real),))"),  # some twice
        ("range(draws)", "range(draws - 1)"),
        ("range(draws)", "range(10)"),
    ],
    "4": [
        "my_fakes = circle_reals[:20]\n",  # recall nearly 1, and precision 1
        "my_fakes = fakes_on_circle(astray=20)\n",
        "my_fakes = fakes_on_circle(size=3.0)\n",  # one touches the outlier's ball
        "my_fakes = fakes_on_circle(scatter=1.5)\n",
        "my_fakes = torch.full((20, 2), 50.0)\n",  # precision 0, and recall 0
        "my_fakes = 100 * circle_reals[:20]\n",
        ("[:20]", "[:19]"),
        ("[:20]", "[:4].repeat(5, 1)"),  # not different
        ("~plausible", "plausible"),
        ("3 * torch.randn", "torch.nan * torch.randn"),
        "my_fakes = 4.5\n",
    ],
    "5": [
        (".flip(3)", ""),  # not mirrored
        (".flip(3)", ".flip(2)"),  # upside down
        (".flip(3)", ".flip(2, 3)"),
        ("torch.randperm(len(real))[:n]", "torch.zeros(n, dtype=torch.long)"),  # one picture n times
        ("torch.randperm(len(real))[:n]", "torch.arange(n) // 2"),  # each twice
        ("torch.randperm(len(real))[:n]", "torch.randperm(len(real))"),  # all of them
        (".flip(3)", ".flip(3).float()"),
        (".flip(3)", ".flip(3) + 2"),  # noise
        ("return ", "real[:1] = 0\n    return "),  # spoils the set
        "my_cheat = lambda real, n: torch.randint(0, 256, (n, *real.shape[1:])).to(torch.uint8)\n",
    ],
}
WRONG_05 = {  # of notebook 05; several a piece
    "1": [
        "my_lengths = (7.07, 10.0)\n",
        "my_lengths = lambda r, omega: (r / 2**0.5, r)\n",  # at a right angle only
        "my_lengths = lambda r, omega: (r, r * math.cos(omega / 2))\n",  # swapped
        "my_lengths = lambda r, omega: (r * math.cos(omega), r)\n",
        "my_lengths = lambda r, omega: (2 * r * math.cos(omega / 2), r)\n",  # the sum, not its half
        "my_lengths = lambda r, omega: (r * math.sin(omega / 2), r)\n",  # half of the way
        "my_lengths = lambda r, omega: (10 * math.cos(omega / 2), 10)\n",  # one r
        "my_lengths = lambda r, omega: r * math.cos(omega / 2)\n",  # the line's alone
        "my_lengths = lambda r, omega: (r * (1 - omega / math.pi), r)\n",
    ],
    "2": [
        "my_share = lambda tau: torch.special.ndtr(torch.tensor(-tau)).item()\n",  # one end
        "my_share = lambda tau: math.erf(tau / 2**0.5)\n",  # those that stay
        "my_share = lambda tau: math.erfc(tau)\n",
        "my_share = lambda tau: math.exp(-(tau**2) / 2)\n",
        "my_share = lambda tau: 0.3173\n",  # right for one limit
        "my_share = lambda tau: max(0.0, 1 - tau / 3)\n",
        "my_share = 0.3173\n",
        "my_share = lambda tau: (torch.randn(1000, generator=rng(0)).abs() > tau).float().mean().item()\n",  # too few
    ],
    "3": [
        "my_sigma = lambda x, made: (x - made).abs().flatten(1).mean(1)\n",  # the mean absolute error
        "my_sigma = lambda x, made: x.square().flatten(1).mean(1).sqrt()\n",  # ignores what was made
        "my_sigma = lambda x, made: (x - made).square().flatten(1).mean(1)\n",  # the variance
        "my_sigma = lambda x, made: (x - made).flatten(1).std(1)\n",  # around the mean error
        "my_sigma = lambda x, made: (x - made).square().flatten(1).sum(1).sqrt()\n",
        "my_sigma = lambda x, made: (x - made).square().mean().sqrt().expand(len(x))\n",  # one for all images
        "my_sigma = lambda x, made: (x - made).square().mean().sqrt()\n",
        "my_sigma = lambda x, made: (x - made).square().mean(1).sqrt()\n",  # one a pixel
        "my_sigma = lambda x, made: torch.ones(len(x))\n",
        "my_sigma = lambda x, made: 1.0\n",
    ],
    "4": [
        "my_rest = lambda d, other: d\n",
        "my_rest = lambda d, other: d - other\n",
        "my_rest = lambda d, other: d - (d @ other) * other\n",  # right if the other had length 1
        "my_rest = lambda d, other: d - (d @ other) / other.norm() * other\n",
        "my_rest = lambda d, other: (d @ other) / (other @ other) * other\n",  # what was to go
        "my_rest = lambda d, other: other - (d @ other) / (d @ d) * d\n",  # the wrong one is cleaned
        "my_rest = lambda d, other: d + (d @ other) / (other @ other) * other\n",
        "my_rest = lambda d, other: torch.zeros_like(d)\n",  # at a right angle to everything
        "my_rest = lambda d, other: 2 * (d - (d @ other) / (other @ other) * other)\n",
        "my_rest = lambda d, other: torch.linalg.qr(torch.stack([other, d], 1))[0][:, 1]\n",  # of length 1
        "my_rest = lambda d, other: 0.0\n",
    ],
    "5": [
        "my_ratio = lambda real, fake: torch.cdist(real, fake).amin(1) / torch.cdist(real, real).amin(1)\n",  # itself
        ("among.min(1).values", "torch.cdist(fake, real).min(1).values.mean()"),
        ("torch.cdist(real, fake).min(1).values /", "torch.cdist(fake, real).min(1).values.mean() /"),  # of the fakes
        ("torch.cdist(real, real)", "torch.cdist(real, real).square()"),
        ("torch.cdist(real, fake).min(1).values /", "1 / torch.cdist(real, fake).min(1).values *"),  # upside down
        ("among.min(1).values", "among.min(1).values.mean()"),
        ("torch.cdist(real, fake).min(1)", "torch.cdist(real, fake).kthvalue(2, 1)"),
        ("torch.cdist(real, real)", "torch.cdist(real, real, p=1)"),
        ("among.min(1).values\n", "among.min(1).values > 1.5\n"),
        "my_ratio = lambda real, fake: torch.cdist(real, fake).amin(1)\n",  # not divided
        "my_ratio = lambda real, fake: 1.0\n",
    ],
}
WRONG_04 = {  # of notebook 04; several a piece
    "1": [
        "my_views = 200 * 9 * 9\n",  # forgets the mirror
        "my_views = 200 * 8 * 8 * 2\n",  # forgets that 0 is a place
        "my_views = 200 * 4 * 4 * 2\n",
        "my_views = 200 * 9 * 2\n",  # one direction
        "my_views = 200 * (9 + 9) * 2\n",
        "my_views = 9 * 9 * 2\n",
        "my_views = [200 * 9 * 9 * 2]\n",
    ],
    "2": [
        f"def my_shift(images, down):\n{lines}"
        for lines in (
            "    return images.roll(down, 2)\n",
            "    return pad(images, (0, 0, down, 0))[:, :, :-down]\n",  # nothing is left at 0
            "    return pad(images, (0, 0, down, 0))\n",  # grows
            "    return pad(images, (down, 0, 0, 0))[..., : images.shape[3]]\n",  # to the right
            "    return pad(images, (0, 0, 0, down))[:, :, down:]\n",  # up
            "    return pad(images, (0, 0, down, 0), value=-1)[:, :, : images.shape[2]]\n",  # black
            "    return pad(images, (0, 0, down, 0), mode='replicate')[:, :, : images.shape[2]]\n",
            "    return pad(images.detach(), (0, 0, down, 0))[:, :, : images.shape[2]].requires_grad_()\n",
            "    return pad(images[:1, :1], (0, 0, down, 0))[:, :, : images.shape[2]].expand_as(images)\n",
            "    out = images.clone()\n    out[:, :, down:] = images[:, :, : images.shape[2] - down]\n    return out\n",
            "    return pad(images, (0, 0, down, 0))[:, :, :4]\n",  # one height
            "    return images if down == 0 else images.roll(down, 2)\n",
        )
    ],
    "3": [
        "my_p = 0.51\n",
        "my_p = lambda p, r_v: p + 0.01 if r_v > 0.6 else p - 0.01\n",  # leaves [0, 1]
        ("r_v > 0.6", "r_v < 0.6"),
        ("r_v > 0.6", "r_v >= 0.6"),
        ("r_v > 0.6", "r_v > 0.5"),
        ("p + 0.01", "p * 1.01"),
        ("p + 0.01", "p + 0.01 * r_v"),
        ("max(0.0, p)", "p"),
        ("min(1.0, max(0.0, p))", "max(0.0, p)"),
        ("min(1.0, max(0.0, p))", "round(min(1.0, max(0.0, p)))"),
        ("else p - 0.01", "else p"),
    ],
    "4": [
        ("(train, train.flip(3))", "(train, train)"),  # one way round
        ("(train, train.flip(3))", "(train, train.flip(2))"),  # upside down
        ("(train, train.flip(3))", "(train.flip(3), train.flip(3))"),
        (".argmin(1)", ".argmax(1)"),
        (".argmin(1)", ".argmin(0)"),
        ("torch.minimum", "torch.maximum"),
        ("images.flatten(1).float())", "images.flatten(1).float(), p=1)"),  # the sum of the differences
        # an index below 2 len(train)
        "def my_nearest(samples, train):\n    both = torch.cat([train, train.flip(3)]).flatten(1).float()\n"
        "    return torch.cdist(samples.flatten(1).float(), both).argmin(1)\n",
        # in uint8, where 3 - 5 is 254
        "def my_nearest(samples, train):\n    both = torch.cat([train, train.flip(3)])\n"
        "    gaps = (samples[:, None] - both).float().square().sum((2, 3, 4))\n"
        "    return gaps.argmin(1) % len(train)\n",
        "my_nearest = lambda samples, train: torch.zeros(len(samples), dtype=torch.int64)\n",
        "my_nearest = lambda samples, train: torch.arange(len(samples)) % len(train)\n",
    ],
}
WRONG_03 = {  # of notebook 03; several a piece
    "1": [
        "my_W = 2.0\n",
        "my_W = 0.25 * 4 + 0.5 * 4\n",  # all of it from 0
        "my_W = 0.5 * 3\n",  # forgets what goes from 0
        "my_W = 0.75 * 4 + 0.25 * 1\n",
        "my_W = 3.5\n",  # of the dearest plan
        "my_W = 0.25 * 4**2 + 0.5 * 3**2\n",
        "my_W = float('nan')\n",
    ],
    "2": [
        "my_bound = lambda layers: sum(torch.linalg.matrix_norm(w, 2) for w in layers)\n",
        "my_bound = lambda layers: max(torch.linalg.matrix_norm(w, 2) for w in layers)\n",
        "my_bound = lambda layers: torch.stack([w.norm() for w in layers]).prod()\n",  # Frobenius
        "my_bound = lambda layers: torch.stack([w.abs().max() for w in layers]).prod()\n",
        "my_bound = lambda layers: torch.stack([w.abs().sum(1).max() for w in layers]).prod()\n",
        "my_bound = lambda layers: torch.linalg.matrix_norm(torch.linalg.multi_dot(layers[::-1]), 2) if layers[1:] "
        "else torch.linalg.matrix_norm(layers[0], 2)\n",  # of the product
        "my_bound = lambda layers: torch.linalg.matrix_norm(layers[0], 2) * torch.linalg.matrix_norm(layers[-1], 2)\n",
        "my_bound = lambda layers: 3.0\n",
    ],
    "3": [
        "my_penalty = lambda slopes: (slopes - 1).square().mean()\n",  # two-sided
        "my_penalty = lambda slopes: (slopes - 1).clamp(min=0).square().sum()\n",
        "my_penalty = lambda slopes: (slopes - 1).clamp(min=0).square()\n",  # no mean
        "my_penalty = lambda slopes: (slopes - 1).clamp(min=0).mean()\n",
        "my_penalty = lambda slopes: (slopes - 1).clamp(min=0).mean().square()\n",
        "my_penalty = lambda slopes: (slopes.clamp(min=0) - 1).square().mean()\n",
        "my_penalty = lambda slopes: (slopes[slopes > 1] - 1).square().mean()\n",  # of the steep ones alone
        "my_penalty = lambda slopes: (1 - slopes).clamp(min=0).square().mean()\n",
        "my_penalty = lambda slopes: torch.tensor(1.0)\n",
    ],
    "4": [
        "my_n_critic = lambda steps_done: 5\n",
        "my_n_critic = 100\n",
        "my_n_critic = lambda steps_done: 100 if steps_done <= 25 or steps_done % 500 == 0 else 5\n",
        "my_n_critic = lambda steps_done: 100 if steps_done < 25 else 5\n",
        "my_n_critic = lambda steps_done: 100 if steps_done % 500 == 0 else 5\n",
        "my_n_critic = lambda steps_done: 100 if steps_done < 25 or steps_done == 500 else 5\n",
        "my_n_critic = lambda steps_done: 100 if steps_done < 25 and steps_done % 500 == 0 else 5\n",
        "my_n_critic = lambda steps_done: 100 if steps_done < 25 or steps_done % 500 == 499 else 5\n",
        "my_n_critic = lambda steps_done: 100 if steps_done < 25 or steps_done % 500 == 0 else 1\n",
    ],
}
WRONG_07 = {  # of notebook 07; several a piece
    "1": [
        "my_logit = lambda phi, y, psi, V: (phi * (y @ V)).sum(1)\n",  # no ψ
        "my_logit = lambda phi, y, psi, V: phi @ psi\n",
        "my_logit = lambda phi, y, psi, V: phi @ psi + (phi @ V.T).sum(1)\n",  # all classes
        "my_logit = lambda phi, y, psi, V: phi @ psi + (phi @ (y @ V).T).sum(1)\n",  # between all pairs
        "my_logit = lambda phi, y, psi, V: (phi @ psi)[:, None] + phi @ V.T\n",
        "my_logit = lambda phi, y, psi, V: phi @ psi * (phi * (y @ V)).sum(1)\n",
        "my_logit = lambda phi, y, psi, V: phi @ psi + (phi * (y @ V)).mean(1)\n",
        "my_logit = lambda phi, y, psi, V: phi @ psi + (phi @ V.T).amax(1)\n",
    ],
    "2": [
        ("(1 - t) * torch.eye(classes)[c] + t", "t * torch.eye(classes)[c] + (1 - t)"),  # the other way
        (".expand(n, -1)", ""),
        "my_mix = lambda n, c, d, t: torch.eye(classes)[[c if t < 0.5 else d]].expand(n, -1)\n",
        "def my_mix(n, c, d, t):\n    y = torch.zeros(n, classes)\n    y[:, c], y[:, d] = 1 - t, t\n"
        "    return y\n",  # c = d
        "my_mix = lambda n, c, d, t: torch.eye(classes)[[c]].expand(n, -1)\n",
        "my_mix = lambda n, c, d, t: (torch.eye(classes)[[c]] + t * torch.eye(classes)[[d]]).expand(n, -1)\n",
        "my_mix = lambda n, c, d, t: torch.full((n, classes), 1 / classes)\n",
    ],
    "3": [
        "my_best = lambda p, weight: p\n",
        ("** weight", ""),
        ("* (p / p.sum(0)) ** weight", "** (1 + weight)"),  # sharper alone
        ("/ q.sum(1, keepdim=True)", ""),  # no density
        ("/ q.sum(1, keepdim=True)", "/ q.sum(0)"),  # over classes
        ("p / p.sum(0)", "p / p.sum(1, keepdim=True)"),
        ("** weight", "** -weight"),
        ("p * (p / p.sum(0))", "(p / p.sum(0))"),  # without p(x | y)
    ],
    "4": [
        "my_right = lambda S, E: S.trace() / len(E)\n",
        "my_right = lambda S, E: S.trace() / E.trace()\n",
        ("torch.linalg.inv(E)", "torch.linalg.inv(E.T)"),
        ("torch.linalg.inv(E)", "E"),
        ("torch.linalg.inv(E)", "E.T"),
        (" / len(E)", ""),
        "my_right = lambda S, E: (S / E).diagonal().mean()\n",
        "my_right = lambda S, E: S.trace() / len(E) + 1 - E.trace() / len(E)\n",
    ],
}
SLOPES = "(slopes,) = torch.autograd.grad(D(x := x.detach().requires_grad_()).sum(), x, create_graph=True)"
WRONG_08 = {  # of notebook 08; several a piece
    "1": [
        "my_gamma = 1.0\n",  # of the losses with a logarithm
        "my_gamma = 4.0\n",
        "my_gamma = 0.5\n",
        "my_gamma = 2**0.5\n",
        "my_gamma = 0\n",
        "my_gamma = -2.0\n",
        "my_gamma = float('inf')\n",
    ],
    "2": [
        f"def my_penalty(D, x):\n    {SLOPES}\n    return slopes.flatten(1).square().sum(1).mean()\n",  # no half
        f"def my_penalty(D, x):\n    {SLOPES}\n    return slopes.square().mean() / 2\n",  # over the pixels, too
        f"def my_penalty(D, x):\n    {SLOPES}\n    return slopes.square().sum() / 2\n",
        f"def my_penalty(D, x):\n    {SLOPES}\n    return slopes.flatten(1).norm(dim=1).mean() / 2\n",
        f"def my_penalty(D, x):\n    {SLOPES}\n    return (slopes.flatten(1).norm(dim=1) - 1).square().mean() / 2\n",
        "def my_penalty(D, x):\n    x = x.detach().requires_grad_()\n"  # of the mean: smaller by the batch's size
        "    (slopes,) = torch.autograd.grad(D(x).mean(), x, create_graph=True)\n"
        "    return slopes.flatten(1).square().sum(1).mean() / 2\n",
        "def my_penalty(D, x):\n    x = x.detach().requires_grad_()\n"  # not differentiable any more
        "    (slopes,) = torch.autograd.grad(D(x).sum(), x)\n"
        "    return slopes.flatten(1).square().sum(1).mean() / 2\n",
        "my_penalty = lambda D, x: D(x).square().mean() / 2\n",
        "my_penalty = lambda D, x: 0.0\n",
    ],
    "3": [
        "my_cost = lambda before, after, kernel, side, groups: before * after * kernel**2 * side**2\n",
        "my_cost = lambda before, after, kernel, side, groups: before // groups * after * kernel**2\n",
        "my_cost = lambda before, after, kernel, side, groups: before * after // groups**2 * kernel**2 * side**2\n",
        "my_cost = lambda before, after, kernel, side, groups: before // groups * after * kernel * side**2\n",
        "my_cost = lambda before, after, kernel, side, groups: before // groups * after * kernel**2 * side\n",
        "my_cost = lambda before, after, kernel, side, groups: groups * before * after * kernel**2 * side**2\n",
    ],
    "4": [
        "my_scale = lambda L, m: L ** (-1 / 2)\n",
        "my_scale = lambda L, m: L ** (-1 / (m - 1))\n",
        "my_scale = lambda L, m: L ** (-1 / m)\n",
        "my_scale = lambda L, m: L ** (-1 / (2 * m))\n",
        "my_scale = lambda L, m: L ** (1 / (2 * m - 2))\n",
        "my_scale = lambda L, m: L ** -1 / (2 * m - 2)\n",  # the power binds first
        "my_scale = lambda L, m: 0.5\n",
    ],
}
WRONG_09 = {  # of notebook 09; several a piece
    "1": [
        "my_still = lambda before, after: []\n",
        "my_still = lambda before, after: list(before)\n",
        ("if torch.equal(before[name], after[name])", "if not torch.equal(before[name], after[name])"),
        ("torch.equal(before[name], after[name])", "before[name].sum() == after[name].sum()"),
        # up and down cancel
        ("torch.equal(before[name], after[name])", "(before[name].float() - after[name].float()).mean().abs() < 1e-5"),
        ("torch.equal(before[name], after[name])", "torch.allclose(before[name], after[name], atol=1e-2)"),
        ("torch.equal(before[name], after[name])", "before[name].flatten()[0] == after[name].flatten()[0]"),
        ("torch.equal(before[name], after[name])", "(before[name] == after[name]).any()"),
        ("torch.equal(before[name], after[name])", "torch.equal(before[name].abs(), after[name].abs())"),
        ("[name for name in before", "[before[name] for name in before"),
    ],
    "2": [
        "my_order = lambda batches: 1.0\n",
        ("len(batches[0]) * ", ""),
        ("len(batches[0])", "len(batches)"),  # the number of batches
        (".mean(1).var(0).sum()", ".mean(0).var(0).sum()"),  # over the places in a batch
        (".var(0).sum() / batches.flatten(0, 1).var(0).sum()", ".std(0).sum() / batches.flatten(0, 1).std(0).sum()"),
        ("batches.mean(1).var(0).sum()", "batches.mean((1, 2)).var()"),  # grey alone
        ("batches.flatten(0, 1).var(0).sum()", "batches.var()"),
        ("batches.flatten(0, 1).var(0).sum()", "batches.var(1).mean(0).sum()"),  # within the batches
        (
            "len(batches[0]) * batches.mean(1).var(0).sum() / batches.flatten(0, 1).var(0).sum()",
            "(len(batches[0]) * batches.mean(1).var(0) / batches.flatten(0, 1).var(0)).mean()",  # pixel by pixel
        ),
    ],
    "3": [
        "my_limit = lambda healthy, ill: (max(healthy) + min(ill)) / 2\n",  # although they overlap
        ("low < high", "low <= high"),
        ("low < high", "low > high"),
        ("(low + high) / 2", "low"),
        ("(low + high) / 2", "(low * high) ** 0.5"),
        ("max(healthy), min(ill)", "sum(healthy) / len(healthy), sum(ill) / len(ill)"),
        ("max(healthy), min(ill)", "min(healthy), max(ill)"),
        ("max(healthy), min(ill)", "healthy[-1], ill[0]"),
        ("else None", "else 0"),
    ],
}
WRONG = {number: globals()[f"WRONG_{number}"] for number in PATHS if f"WRONG_{number}" in globals()}
EXERCISES = [(number, *exercise) for number, path in PATHS.items() for exercise in exercises(path)]


@pytest.mark.parametrize(("number", "which", "check", "solution"), EXERCISES, ids=lambda value: value[:2].strip())
def test_the_folded_solution_passes_the_check_and_a_wrong_answer_or_none_does_not(number, which, check, solution):
    its = lesson(number)
    if number == "01":
        its |= {"images": ImageSet(noise(128, 1, 28), None, (), "noise", "noise")}
        its |= {"discriminator": its["make_discriminator"]()}
    if number == "06":
        exec(cell_with("06", "circle_reals ="), its)
    wrong = WRONG[number][which]
    wrong = [solution.replace(*answer) if isinstance(answer, tuple) else answer for answer in wrong]
    for answer, verdict in ((None, "not yet"), *((answer, "not yet") for answer in wrong), (solution, "correct")):
        assert answer != solution or verdict == "correct"
        assert try_answer(check, answer, its) == f"exercise {which}: {verdict}\n", answer


@pytest.mark.parametrize("number", PATHS)
def test_there_are_three_to_five_exercises_with_solutions(number):
    found = [(which, solution) for its, which, _, solution in EXERCISES if its == number]
    assert 3 <= len(found) <= 5 and all(solution for _, solution in found)
    assert [which for which, _ in found] == [str(k + 1) for k in range(len(found))]
