"""A map to drag over: the sheet as a picture with a text, and a script that shows the image under the pointer."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from ganlib import viz
from helpers import noise


@pytest.mark.parametrize("channels", [1, 3])
def test_it_holds_the_sheet_once_with_its_text_and_its_rows_and_columns(channels):
    images = noise(6, channels, 32)
    found = viz.draggable(images, cols=3, alt="six squares of noise")
    page = found._repr_html_()
    (alt, sheet) = re.fullmatch(
        r'<div.*?<img alt="(.+?)" width="480" src="data:image/jpeg;base64,(.+?)">.*', page, re.S
    ).groups()
    assert alt == "six squares of noise" and page.count(sheet) == 1 and "cols = 3, rows = 2;" in page
    with Image.open(io.BytesIO(base64.b64decode(sheet))) as picture:
        assert picture.size == (96, 64)
        shown = np.asarray(picture.convert("RGB"), float)
    assert np.abs(shown[32:, 64:].mean((0, 1)) - images[5].float().mean((1, 2)).numpy()).max() < 4
    assert repr(found) == "Map(2 rows of 3)" and "{{" not in page and "}}" not in page


@pytest.mark.parametrize(("n", "cols"), [(3, 3), (7, 3), (4, 1)])
def test_what_is_no_map_gets_a_sentence(n, cols):
    with pytest.raises(ValueError, match=f"{n} images, {cols} a row"):
        viz.draggable(torch.zeros(n, 1, 8, 8), cols=cols)
