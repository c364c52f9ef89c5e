"""What the notebooks write out is what the library has, and their exercises can be solved as they say."""

import copy
import itertools
import math
from functools import partial

import pytest
import torch
from scipy.stats import wasserstein_distance

from ganlib import GAN, ImageSet, latent, losses, models, steps
from ganlib._runtime import notebook
from ganlib.data import toys
from ganlib.latent import inversion
from ganlib.runs import record
from helpers import NOTEBOOKS, defined, exercises, noise, read_notebook, source, try_answer

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
        norm, z_dim = "none" if number == "03" else "batch", 8
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


STEPS = [
    ("00", lambda its: its["step"], steps.dcgan_step),
    ("00", lambda its: partial(its["step"], g_loss_of=its["saturating"]), steps.minimax_step),
    ("01", lambda its: its["step"], steps.dcgan_step),
    ("03", lambda its: its["wgan_step"], steps.wgan_step),
    ("03", lambda its: its["wgan_gp_step"], steps.wgan_gp_step),
]


@pytest.mark.parametrize(("number", "step_of", "known"), STEPS, ids=lambda value: getattr(value, "__name__", value))
def test_its_step_makes_the_same_moves_as_the_librarys(number, step_of, known):
    mine, theirs, step = players(number), players(number), step_of(lesson(number))
    batches, same_batches = reals(number), reals(number)
    start = weights(mine.generator), weights(mine.discriminator)
    for _ in range(3):
        found, expected = step(mine, batches), known(theirs, same_batches)
    assert {k: v.item() for k, v in found.items()} == pytest.approx({k: v.item() for k, v in expected.items()})
    for before, name in zip(start, ("generator", "discriminator"), strict=True):
        one, two = (weights(getattr(gan, name)) for gan in (mine, theirs))
        torch.testing.assert_close(one, two, rtol=0, atol=1e-7 if number == "03" else 0)
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


def test_its_great_circle_and_its_objective_are_the_librarys():
    a, b = torch.randn(2, 20, generator=seeded(0), dtype=torch.float64)
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(lesson("04")["slerp"](a, b, t[:, None]), latent.slerp(a, b, t))
    generator = models.dcgan_generator(8, 3, 4, 6, seed=1).eval()
    x, z = torch.rand(3, 3, 8, 8) * 2 - 1, torch.randn(3, 6, requires_grad=True)
    mine = lesson("04", G=generator)["objective"](x, z)
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


# --- exercises ------------------------------------------------------------------------------------

WRONG = {
    ("03", "1"): "my_W = 2.0\n",
    ("03", "2"): "my_bound = lambda layers: sum(layer.norm() for layer in layers)\n",
    ("03", "3"): "my_penalty = lambda slopes: (slopes - 1).square().mean()\n",
    ("03", "4"): "my_n_critic = lambda steps_done: 5\n",
    ("04", "1"): "my_share = 0.5\n",
    ("04", "2"): "my_shift = lambda x, n: x.roll(n, 2)\n",
    ("04", "3"): "my_lengths = (10.0, 10.0)\n",
    ("04", "4"): "my_sigma = lambda x, found: (x - found).abs().mean()\n",
}
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
EXERCISES = [(number, *exercise) for number, path in PATHS.items() for exercise in exercises(path)]


@pytest.mark.parametrize(("number", "which", "check", "solution"), EXERCISES, ids=lambda value: value[:2].strip())
def test_the_folded_solution_passes_the_check_and_a_wrong_answer_or_none_does_not(number, which, check, solution):
    its = lesson(number)
    if number == "01":
        its |= {"images": ImageSet(noise(128, 1, 28), None, (), "noise", "noise")}
        its |= {"discriminator": its["make_discriminator"]()}
    of_its_own = {"00": WRONG_00, "01": WRONG_01, "02": WRONG_02}
    wrong = of_its_own[number][which] if number in of_its_own else [WRONG[number, which]]
    wrong = [solution.replace(*answer) if isinstance(answer, tuple) else answer for answer in wrong]
    for answer, verdict in ((None, "not yet"), *((answer, "not yet") for answer in wrong), (solution, "correct")):
        assert answer != solution or verdict == "correct"
        assert try_answer(check, answer, its) == f"exercise {which}: {verdict}\n", answer


@pytest.mark.parametrize("number", PATHS)
def test_there_are_three_to_five_exercises_with_solutions(number):
    found = [(which, solution) for its, which, _, solution in EXERCISES if its == number]
    assert 3 <= len(found) <= 5 and all(solution for _, solution in found)
    assert [which for which, _ in found] == [str(k + 1) for k in range(len(found))]
