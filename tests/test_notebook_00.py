"""What notebook 00 writes out is what the library has, and its exercises can be solved as it says."""

import ast
import itertools
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from ganlib import losses, steps
from ganlib.data import toys
from ganlib.steps import GAN
from ganlib.viz import plane
from helpers import exercises, from_notebook, plain_python, read_notebook, source, try_answer

NOTEBOOK = "00_gan_in_2d.ipynb"
LOSSES = ("d_loss_of", "saturating", "non_saturating")


def small_gan(seed=0):
    generator, discriminator = plane.mlp_generator(2, 8, seed), plane.mlp_discriminator(8, seed + 1)
    g_opt, d_opt = (torch.optim.Adam(net.parameters(), 1e-2, betas=(0.5, 0.9)) for net in (generator, discriminator))
    return GAN(generator, discriminator, g_opt, d_opt, z_dim=2)


def reals(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return (toys.ring(16, draw) for _ in itertools.count())


def weights(gan):
    return torch.cat([p.detach().flatten() for m in (gan.generator, gan.discriminator) for p in m.parameters()])


def its_losses():
    return {name: from_notebook(NOTEBOOK, name, {"softplus": softplus}) for name in LOSSES}


def its_step():
    return from_notebook(NOTEBOOK, "step", {**its_losses(), "frozen": steps.frozen})


def test_its_losses_are_the_librarys():
    real, fake = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)) * 4
    theirs = its_losses()
    assert torch.equal(theirs["d_loss_of"](real, fake), losses.non_saturating_d_loss(real, fake))
    assert torch.equal(theirs["saturating"](fake), losses.minimax_g_loss(fake))
    assert torch.equal(theirs["non_saturating"](fake), losses.non_saturating_g_loss(fake))


@pytest.mark.parametrize(("loss", "ours"), [("non_saturating", steps.dcgan_step), ("saturating", steps.minimax_step)])
def test_its_step_is_the_librarys(loss, ours):
    theirs, mine = small_gan(), small_gan()
    start = weights(mine)
    their_reals, my_reals, step = reals(), reals(), its_step()
    for _ in range(3):
        their_record = step(theirs, their_reals, g_loss_of=its_losses()[loss])
        my_record = ours(mine, my_reals)
    assert {k: v.item() for k, v in their_record.items()} == {k: v.item() for k, v in my_record.items()}
    assert torch.equal(weights(theirs), weights(mine)) and not torch.equal(weights(mine), start)


def test_more_turns_of_the_discriminator_see_fresh_points():
    asked = []

    def counted():
        for real in reals():
            asked.append(real)
            yield real

    gan, g_updates = small_gan(), []
    gan.g_opt.register_step_post_hook(lambda *_: g_updates.append(1))
    its_step()(gan, counted(), n_d=5)
    assert len(asked) == 5 and len(g_updates) == 1
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(asked, 2))


def test_its_networks_are_the_librarys():
    names = {"nn": nn, "z_dim": 3, "width": 8}
    generator = plane.he_normal(from_notebook(NOTEBOOK, "make_generator", names)(), 3)
    discriminator = plane.he_normal(from_notebook(NOTEBOOK, "make_discriminator", names)(), 4)
    z = torch.randn(5, 3)
    assert torch.equal(generator(z), plane.mlp_generator(3, 8, seed=3)(z))
    assert torch.equal(discriminator(z[:, :2]), plane.mlp_discriminator(8, seed=4)(z[:, :2]))


def test_the_stuck_step_moves_only_the_discriminator():
    stuck, gan = from_notebook(NOTEBOOK, "stuck_step", its_losses()), small_gan()
    before = [p.detach().clone() for m in (gan.generator, gan.discriminator) for p in m.parameters()]
    stuck(gan, reals())
    after = [p.detach() for m in (gan.generator, gan.discriminator) for p in m.parameters()]
    same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert same == [True] * 6 + [False] * 6


def test_the_greedy_step_updates_the_generator_so_often():
    names = {"step": its_step(), "frozen": steps.frozen, **its_losses()}
    greedy, gan, counts = from_notebook(NOTEBOOK, "greedy_step", names), small_gan(), {"g": 0, "d": 0}
    gan.g_opt.register_step_post_hook(lambda *_: counts.update(g=counts["g"] + 1))
    gan.d_opt.register_step_post_hook(lambda *_: counts.update(d=counts["d"] + 1))
    greedy(gan, reals(), n_g=4)
    assert counts == {"g": 4, "d": 1}
    one, two = small_gan(), small_gan()
    greedy(one, reals(), n_g=1)
    steps.dcgan_step(two, reals())
    assert torch.equal(weights(one), weights(two))


def is_literal(node):
    """Whether a statement gives names to plain numbers or texts."""
    plain = ast.Constant | ast.Tuple | ast.Load
    return isinstance(node, ast.Assign) and all(isinstance(part, plain) for part in ast.walk(node.value))


def everything_defined():
    """The notebook's imports, functions and plain numbers, without running a cell that trains or draws."""
    namespace = {}
    for cell in read_notebook(NOTEBOOK)["cells"]:
        if cell["cell_type"] == "code":
            for node in ast.parse(plain_python(source(cell))).body:
                if is_literal(node) or isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef):
                    exec(compile(ast.Module([node], []), NOTEBOOK, "exec"), namespace)
    return namespace


@pytest.mark.parametrize(("number", "check", "solution"), exercises(NOTEBOOK))
def test_the_folded_solution_passes_the_check_and_nothing_does_not(number, check, solution):
    namespace = everything_defined()
    assert try_answer(check, None, namespace) == f"exercise {number}: not yet\n"
    assert try_answer(check, solution, namespace) == f"exercise {number}: correct\n"


@pytest.mark.parametrize(
    ("number", "wrong"),
    [
        ("1", "my_logit = lambda p, q: p / (p + q)\n"),
        ("2", "my_c = lambda eta: eta\n"),
        ("3", "my_step = lambda x, y, eta: (x - eta * y, y + eta * x)\n"),
        ("4", "my_covered = lambda points, centers, std: toys.modes_covered(points, centers, std)[0]\n"),
        ("5", "my_art = '# #'\n"),
    ],
)
def test_a_wrong_answer_is_not_accepted(number, wrong):
    (check,) = (check for n, check, _ in exercises(NOTEBOOK) if n == number)
    assert try_answer(check, wrong, everything_defined()) == f"exercise {number}: not yet\n"


def test_the_live_figure_is_off_and_plays_the_notebooks_own_game():
    """The cell as committed trains stills; with ``live = True`` it shows the widget, made of the learner's step."""
    (cell,) = (source(c) for c in read_notebook(NOTEBOOK)["cells"] if "playground" in source(c))
    assert cell.startswith("live = False")
    shown = []
    namespace = everything_defined() | {"targets": {"ring": toys.ring}, "display": shown.append}
    exec(re.sub(r"^live = False", "live = True", cell), namespace)
    (play,) = (child for child in walk(shown[0]) if type(child).__name__ == "Play")
    play.value = 1
    (note,) = (child for child in walk(shown[0]) if type(child).__name__ == "HTML")
    assert note.value.startswith("step 10 · d_loss ")


def walk(widget):
    return [widget, *(found for child in getattr(widget, "children", ()) for found in walk(child))]


def test_its_bilinear_game_is_what_it_says():
    play = from_notebook(NOTEBOOK, "play", {"np": np})
    at_once, turns = play(0.5, 2, in_turns=False), play(0.5, 2, in_turns=True)
    assert at_once.tolist() == [[1, 0], [1, 0.5], [0.75, 1]]
    assert turns.tolist() == [[1, 0], [1, 0.5], [0.75, 0.875]]


def test_all_five_targets_are_there_and_give_points():
    defined = everything_defined()
    text = "\n".join(source(c) for c in read_notebook(NOTEBOOK)["cells"] if c["cell_type"] == "code")
    (cell,) = (source(c) for c in read_notebook(NOTEBOOK)["cells"] if source(c).startswith("targets = {"))
    exec(cell.split("fig, axes")[0], defined)
    assert list(defined["targets"]) == ["ring", "grid", "spiral", "moons", "mine"]
    for target in defined["targets"].values():
        assert target(7, torch.Generator().manual_seed(0)).shape == (7, 2)
    typed = ast.literal_eval(re.search(r"my_points = (\[\[.*?\]\])", text)[1])
    assert toys.points(typed, 3, torch.Generator().manual_seed(0)).shape == (3, 2)
