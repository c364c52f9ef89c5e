"""Networks as figures: what is written over and under the boxes is what the network has."""

import pytest
from torch import nn

from ganlib import models
from ganlib.viz import network as drawing


def written(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def test_every_map_has_its_size_and_all_weights_are_counted():
    generator = models.dcgan_generator(16, 3, width=8, z_dim=10)
    texts = written(drawing.network(generator, (10,)))
    assert texts[::2] == ["10", "16 × 4 × 4", "8 × 8 × 8", "3 × 16 × 16"]
    assert texts[1] == "input" and texts[3].startswith("transposed\n4×4\n") and "4×4, stride 2\n" in texts[5]
    counts = [int(text.split("\n")[-1].split()[0].replace(",", "")) for text in texts[3::2]]
    assert sum(counts) == models.count_parameters(generator)


def test_a_discriminator_ends_in_one_number_and_has_the_other_colour():
    one = drawing.network(models.dcgan_discriminator(16, 1, width=8), (1, 16, 16), "a title")
    assert written(one)[-2] == "1" and one.texts[0].get_text() == "a title"
    other = drawing.network(models.dcgan_generator(16, 1, width=8, z_dim=10), (10,))
    first, second = (figure.axes[0].patches[0].get_facecolor() for figure in (one, other))
    assert first != second


def test_boxes_are_as_high_as_their_maps_have_rows():
    figure = drawing.network(models.dcgan_discriminator(16, 1, width=8), (1, 16, 16))
    fronts = [patch.get_xy() for patch in figure.axes[0].patches[::3]]
    heights = [corners[:, 1].max() - corners[:, 1].min() for corners in fronts]
    assert heights[0] ** 2 / heights[1] ** 2 == pytest.approx(2)


def test_nothing_to_draw_is_told():
    with pytest.raises(ValueError, match=r"Sequential has no convolution and no linear layer"):
        drawing.network(nn.Sequential(nn.Tanh(), nn.BatchNorm1d(3)), (3,))
