"""Networks as figures: what is written over and under the boxes is what the network has."""

import numpy as np
import pytest
from torch import nn

from ganlib import models
from ganlib.viz.network import network


def written(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def test_every_map_has_its_size_and_all_weights_are_counted():
    generator = models.dcgan_generator(16, 3, width=8, z_dim=10)
    texts = written(network(generator, (10,)))
    assert texts[::2] == ["10", "16 × 4 × 4", "8 × 8 × 8", "3 × 16 × 16"]
    assert texts[1] == "input" and texts[3].startswith("transposed\n4×4\n") and "4×4, stride 2\n" in texts[5]
    counts = [int(text.split("\n")[-1].split()[0].replace(",", "")) for text in texts[3::2]]
    assert sum(counts) == models.count_parameters(generator)
    with pytest.raises(ValueError, match="Sequential.*no convolution"):
        network(nn.Sequential(nn.Tanh(), nn.BatchNorm1d(3)), (3,))


def test_a_discriminator_ends_in_one_number_and_has_the_other_colour():
    one = network(models.dcgan_discriminator(16, 1, width=8), (1, 16, 16), "a title")
    other = network(models.mlp_generator(width=8, z_dim=1), (1,))
    assert written(one)[-2] == "1" and one.texts[0].get_text() == "a title" and "linear\n16 weights" in written(other)
    assert one.axes[0].patches[0].get_facecolor() != other.axes[0].patches[0].get_facecolor()


def test_boxes_are_as_high_as_their_maps_have_rows_and_stand_side_by_side():
    (axes,) = network(models.dcgan_discriminator(16, 1, width=8), (1, 16, 16)).axes
    fronts = [patch.get_xy() for patch in axes.patches[::3]]
    heights = [np.ptp(corners[:, 1]) for corners in fronts]
    assert heights[0] ** 2 / heights[1] ** 2 == pytest.approx(2)
    edges = [x for corners in fronts for x in (corners[:, 0].min(), corners[:, 0].max())]
    assert edges == sorted(edges) and axes.get_xlim()[0] < edges[0] and edges[-1] < axes.get_xlim()[1]
