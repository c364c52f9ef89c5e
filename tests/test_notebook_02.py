"""What notebook 02 writes out is what the library has, and its exercises can be solved as it says."""

import ast

import pytest
import torch
from torch import nn

from ganlib import models
from ganlib.data.loading import ImageSet
from ganlib.losses import r1_penalty
from ganlib.metrics.distances import density_coverage, frechet_distance, kernel_distance
from helpers import exercises, from_notebook, plain_python, read_notebook, source, try_answer

NOTEBOOK = "02_dcgan_cifar10.ipynb"


def test_its_networks_are_the_librarys():
    names = {"nn": nn, "g_width": 8, "d_width": 6, "z_dim": 10}
    generator = models.initialise(from_notebook(NOTEBOOK, "make_generator", names)(), 3)
    discriminator = models.initialise(from_notebook(NOTEBOOK, "make_discriminator", names)(), 4)
    z = torch.randn(5, 10)
    images = models.dcgan_generator(32, 3, 8, 10, seed=3)(z)
    assert torch.equal(generator(z), images)
    assert torch.equal(discriminator(images), models.dcgan_discriminator(32, 3, 6, depth=2, seed=4)(images))


def test_its_penalty_is_the_librarys():
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    discriminator = models.dcgan_discriminator(32, 3, 6, depth=2, seed=4)
    mine = from_notebook(NOTEBOOK, "R_1", {"torch": torch})(discriminator, images)
    assert torch.allclose(mine, r1_penalty(discriminator, images, batch_norm=True)) and mine > 0


def test_its_distances_are_the_librarys():
    x, y = torch.randn(2, 300, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = y * 1.3 + 0.2
    mine = from_notebook(NOTEBOOK, "my_frechet", {"torch": torch})(x, y).item()
    assert mine == pytest.approx(frechet_distance(x, y), rel=1e-6)
    found = from_notebook(NOTEBOOK, "my_kid", {"torch": torch})(x, y)
    assert found == pytest.approx(kernel_distance(y, x)[0], rel=1e-6)


def circle_cell():
    """The lines that make the points on a circle, without the figure."""
    text = next(t for c in read_notebook(NOTEBOOK)["cells"] if "on_circle =" in (t := source(c)))
    return text.partition("fig, ax")[0]


@pytest.mark.parametrize(("number", "check", "solution"), exercises(NOTEBOOK))
def test_the_folded_solution_passes_the_check_and_nothing_does_not(number, check, solution):
    pixels = torch.randint(0, 256, (400, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    namespace = {"torch": torch, "images": ImageSet(pixels, None, (), "noise", "noise")}
    namespace["paper_g"] = models.dcgan_generator(64, 3, width=128, z_dim=100)
    exec(circle_cell(), namespace)
    assert try_answer(check, None, namespace) == f"exercise {number}: not yet\n"
    assert try_answer(check, solution, namespace) == f"exercise {number}: correct\n"


def test_the_coverage_on_the_circle_is_the_librarys():
    namespace = {"torch": torch}
    exec(circle_cell(), namespace)
    real, fake = namespace["on_circle"], namespace["right_half"]
    inside = torch.cdist(fake, real) < namespace["radius"]
    assert inside.any(0).float().mean().item() == pytest.approx(density_coverage(real, fake, k=2)[1])


def test_every_cell_is_python():
    for cell in read_notebook(NOTEBOOK)["cells"]:
        if cell["cell_type"] == "code":
            ast.parse(plain_python(source(cell)))
