"""A map of images to drag a pointer over, which needs no kernel: it moves in a saved page, too."""

import io

import numpy as np
from PIL import Image

from ganlib.viz.display import img
from ganlib.viz.images import grid

MAP, VIEW = 480, 256  # pixels: the width of the map on the page, and of the image under the pointer
PAGE = """<div style="display:flex;gap:16px;align-items:center;max-width:{wide}px">{map}
<div style="width:{view}px;height:{view}px"></div><script>(root => {{
    const map = root.querySelector("img"), view = root.querySelector("div"), cols = {cols}, rows = {rows};
    map.style.cssText = "cursor:crosshair;touch-action:none;margin:0";
    map.draggable = false;
    view.style.backgroundImage = `url(${{map.src}})`;
    view.style.backgroundSize = `${{100 * cols}}% ${{100 * rows}}%`;
    const show = (x, y) => {{  // from 0 to 1
        const [column, row] = [[x, cols], [y, rows]].map(([at, n]) => Math.max(0, Math.min(n - 1, Math.floor(at * n))));
        view.style.backgroundPosition = `${{100 * column / (cols - 1)}}% ${{100 * row / (rows - 1)}}%`;
        view.dataset.tile = `${{row}}, ${{column}}`;
    }};
    map.addEventListener("pointermove", event => {{
        const box = map.getBoundingClientRect();
        show((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    }});
    show(0.5, 0.5);
}})(document.currentScript.parentElement)</script></div>"""


def draggable(images, cols: int, alt: str | None = None) -> "Map":
    """A sheet of images, ``cols`` a row, and beside it the one under the pointer, enlarged.

    To end a cell with. ``images`` are as in ``grid``, at least 2 × 2. Where scripts may not run, as on GitHub, the
    sheet alone is seen.
    """
    if cols < 2 or len(images) < 2 * cols or len(images) % cols:
        raise ValueError(
            f"A map has 2 or more full rows of 2 or more, but these are {len(images)} images, {cols} a row."
        )
    return Map(grid(images, cols, pad=0), len(images) // cols, cols, alt or f"A map of {len(images)} images")


class Map:
    """A picture [H, W, C] of ``rows`` × ``cols`` images, as HTML."""

    def __init__(self, picture: np.ndarray, rows: int, cols: int, alt: str):
        self.picture, self.rows, self.cols, self.alt = picture, rows, cols, alt

    def __repr__(self) -> str:
        return f"Map({self.rows} rows of {self.cols})"

    def _repr_html_(self) -> str:
        jpeg = io.BytesIO()
        Image.fromarray(self.picture.squeeze()).save(jpeg, "JPEG", quality=85)
        sheet = img("image/jpeg", jpeg.getvalue(), MAP, self.alt)
        return PAGE.format(map=sheet, wide=MAP + VIEW + 16, view=VIEW, rows=self.rows, cols=self.cols)
