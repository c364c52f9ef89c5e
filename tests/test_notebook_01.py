"""What notebook 01 writes out is what the library has, and its exercises can be solved as it says."""

import ast

import pytest
import torch
from test_steps import reals, small_gan, weights
from torch import nn
from torch.nn.functional import one_hot, softplus

from ganlib import models, steps
from ganlib.data.loading import ImageSet
from helpers import exercises, from_notebook, plain_python, read_notebook, source, try_answer

NOTEBOOK = "01_dcgan_mnist.ipynb"


def test_its_step_is_the_librarys():
    losses = {name: from_notebook(NOTEBOOK, name, {"softplus": softplus}) for name in ("d_loss_of", "g_loss_of")}
    step = from_notebook(NOTEBOOK, "step", {**losses, "frozen": steps.frozen})
    theirs, ours = small_gan(), small_gan()
    their_reals, our_reals = reals(), reals()
    for _ in range(2):
        their_record, our_record = step(theirs, their_reals), steps.dcgan_step(ours, our_reals)
    assert {k: v.item() for k, v in their_record.items()} == {k: v.item() for k, v in our_record.items()}
    assert torch.equal(weights(theirs), weights(ours))


@pytest.mark.parametrize("z_dim", [16, 2])
def test_its_networks_are_the_librarys(z_dim):
    names = {"nn": nn, "g_width": 32, "d_width": 16}
    generator = models.initialise(from_notebook(NOTEBOOK, "make_generator", names)(z_dim), 3)
    discriminator = models.initialise(from_notebook(NOTEBOOK, "make_discriminator", names)(), 4)
    z = torch.randn(5, z_dim)
    images = models.dcgan_generator(28, 1, 32, z_dim, seed=3)(z)
    assert torch.equal(generator(z), images)
    assert torch.equal(discriminator(images), models.dcgan_discriminator(28, 1, 16, seed=4)(images))


def test_its_choice_is_the_librarys():
    names = {"nn": nn, "torch": torch, "one_hot": one_hot, "g_width": 32, "z_dim": 16, "categories": 20}
    code, make = (from_notebook(NOTEBOOK, name, names) for name in ("CategoricalCode", "make_generator"))
    generator = models.initialise(nn.Sequential(code(), make(36)), 3)
    z = torch.randn(50, 36)
    assert torch.equal(generator(z), models.dcgan_generator(28, 1, 32, 36, categories=20, seed=3)(z))


def everything_defined():
    """The notebook's imports, functions and plain numbers, without running a cell that trains or draws."""
    namespace = {}
    for cell in read_notebook(NOTEBOOK)["cells"]:
        if cell["cell_type"] == "code":
            for node in ast.parse(plain_python(source(cell))).body:
                literal = isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.Tuple)
                if literal or isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef):
                    exec(compile(ast.Module([node], []), NOTEBOOK, "exec"), namespace)
    return namespace


@pytest.mark.parametrize(("number", "check", "solution"), exercises(NOTEBOOK))
def test_the_folded_solution_passes_the_check_and_nothing_does_not(number, check, solution):
    namespace = everything_defined()
    pixels = torch.randint(0, 256, (128, 1, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    namespace |= {"images": ImageSet(pixels, None, (), "noise", "noise")}
    namespace |= {"discriminator": namespace["make_discriminator"]()}
    assert try_answer(check, None, namespace) == f"exercise {number}: not yet\n"
    assert try_answer(check, solution, namespace) == f"exercise {number}: correct\n"
