"""Ten generated classes: the same for the same seed, all there, and different enough to learn."""

import numpy as np
import pytest
import torch

from ganlib.data.shapes import SHAPES, draw_shapes


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_are_the_same_for_the_same_seed(channels):
    (pixels, labels), (again, _) = (draw_shapes(30, 28, channels, seed=3) for _ in range(2))
    assert (
        pixels.shape == (30, channels, 28, 28) and pixels.dtype == np.uint8 and (pixels.min(), pixels.max()) == (0, 255)
    )
    assert np.array_equal(pixels, again) and not np.array_equal(pixels, draw_shapes(30, 28, channels, seed=4)[0])
    assert labels.dtype == np.int64 and labels.tolist() == [*range(len(SHAPES))] * 3 and len(set(SHAPES)) == 10


def test_shapes_can_be_told_apart():
    """Nearest class mean on held-out pictures: far above chance, so that there is something to learn."""
    (x, y), (x2, y2) = (map(torch.from_numpy, draw_shapes(n, 16, 1, seed=n)) for n in (2000, 500))
    means = torch.stack([x[y == c].float().flatten(1).mean(0) for c in range(10)])
    assert (torch.cdist(x2.float().flatten(1), means).argmin(1) == y2).float().mean() > 0.4


@pytest.mark.parametrize(("n", "size"), [(0, 32), (5, 7)])
def test_shapes_too_few_or_too_small(n, size):
    assert len(draw_shapes(1, 8)[0]) == 1
    with pytest.raises(ValueError, match=f"{n} shapes of {size}×{size}; use n ≥ 1 and image_size ≥ 8"):
        draw_shapes(n, size)
