"""What notebook 04 writes out is what the library has, and its exercises can be solved as it says."""

import ast
import math

import pytest
import torch
from torch import nn

from ganlib import models
from ganlib.latent import inversion
from ganlib.latent import walks as latent
from ganlib.runs.checkpoint import record
from helpers import exercises, from_notebook, plain_python, read_notebook, source, try_answer

NOTEBOOK = "04_dcgan_celeba.ipynb"
CONFIGURATION = {"nn": nn, "width": 8, "z_dim": 10, "leak": 0.2, "image_size": 64}


def test_its_networks_are_the_librarys():
    names = {**CONFIGURATION, "network": lambda *_: None}
    generator = models.initialise(from_notebook(NOTEBOOK, "make_generator", names)(), 3)
    discriminator = models.initialise(from_notebook(NOTEBOOK, "make_discriminator", names)(), 4)
    images = models.dcgan_generator(64, 3, 8, 10, seed=3)(z := torch.randn(5, 10))
    assert torch.equal(generator(z), images)
    assert torch.equal(discriminator(images), models.dcgan_discriminator(64, 3, 8, seed=4)(images))


def test_its_great_circle_is_the_librarys():
    a, b = torch.randn(2, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    mine = from_notebook(NOTEBOOK, "slerp", {"torch": torch})(a, b, t[:, None])
    torch.testing.assert_close(mine, latent.slerp(a, b, t))


def test_its_objective_is_the_librarys_but_for_a_constant():
    generator = models.dcgan_generator(8, 3, 4, 6, seed=1).eval()
    x, z = torch.rand(3, 3, 8, 8) * 2 - 1, torch.randn(3, 6, requires_grad=True)
    mine = from_notebook(NOTEBOOK, "objective", {"torch": torch, "G": generator})(x, z)
    nll, _ = inversion._nll(generator(z), x, "gaussian", "learned")
    theirs = nll + z.square().sum(1) / 2
    torch.testing.assert_close(mine + x[0].numel() * math.log(2 * math.pi) / 2, theirs)
    for found, wanted in zip(
        *(torch.autograd.grad(v.sum(), z, retain_graph=True) for v in (mine, theirs)), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_the_runs_it_compares_are_on_record():
    runs = record("celeba")
    assert list(runs)[:2] == ["moved", "plain"]
    for moments in runs.values():
        steps = [moment["step"] for moment in moments]
        assert steps == sorted(steps) and len(steps) > 5
        assert all({"fd_cifarnet_2k", "seen", "held_out", "fake", "r_v"} <= moment.keys() for moment in moments)
        assert all(0 <= moment[name] <= 1 for moment in moments for name in ("seen", "held_out", "fake"))
    with pytest.raises(FileNotFoundError, match="No record of 'cifar10' comes with ganlib"):
        record("cifar10")


@pytest.mark.parametrize(("number", "check", "solution"), exercises(NOTEBOOK))
def test_the_folded_solution_passes_the_check_and_nothing_does_not(number, check, solution):
    namespace = {"torch": torch, "nn": nn, "latent": latent}
    names = {**CONFIGURATION, "width": 64, "z_dim": 100, "network": lambda *_: None}
    namespace["make_generator"] = from_notebook(NOTEBOOK, "make_generator", names)
    assert try_answer(check, None, namespace) == f"exercise {number}: not yet\n"
    assert try_answer(check, solution, namespace) == f"exercise {number}: correct\n"


def test_every_cell_is_python():
    for cell in read_notebook(NOTEBOOK)["cells"]:
        if cell["cell_type"] == "code":
            ast.parse(plain_python(source(cell)))
