"""How pictures get into a notebook: sharp, small, and with a text for who cannot see them.

Every matplotlib Figure takes this way, those made with pyplot too: ``register`` tells IPython. A picture goes in as an
``<img>`` within ``text/html``, since an ``image/png`` can have no text there. JupyterLab shows it in notebooks that it
does not trust, too, and so does nbconvert.
"""

import base64
import html
import io
import sys

import numpy as np
from PIL import Image

DPI = 100  # of a figure as designed, where a pixel is one of the page
SHARP = 2  # pixels drawn for one of the page, in each direction: screens have as many
PHOTOGRAPH = 50_000  # bytes; a picture in full colour with a larger PNG is tried as a JPEG, which looks the same


def register() -> None:
    """Let IPython show figures by ``show_figure``, if this runs in a notebook."""
    if (ipython := sys.modules.get("IPython")) and (shell := ipython.get_ipython()):
        # The first formatter that IPython asks. By name: matplotlib is imported when the first figure is.
        formatter = shell.display_formatter.ipython_display_formatter
        formatter.for_type_by_name("matplotlib.figure", "Figure", show_figure)


def blank(width: float, height: float, **options):
    """A Figure of ``width`` × ``height`` pixels on the page, unknown to pyplot."""
    from matplotlib.figure import Figure  # late: training without pictures need not wait for it

    return Figure((width / DPI, height / DPI), dpi=DPI, facecolor="white", **options)


def alt(figure, text: str) -> None:
    """Set the text that stands for a Figure where it is read aloud.

    Without it, the text is what is written in the figure: titles, axes, legends.
    """
    figure.set_label(text)


def show_figure(figure) -> None:
    """Display a Figure in a notebook."""
    from IPython.display import display

    picture = _drawn(figure, 1)
    if sharp := picture.mode != "RGB":  # samples in colour look the same at 1, in a third of the bytes
        picture = _drawn(figure, SHARP)
    width = round(picture.width / (SHARP if sharp else 1))
    tag = img(*encoded(picture), width, figure.get_label() or _written_in(figure))
    display({"text/html": tag, "text/plain": repr(figure)}, raw=True)


def _drawn(figure, times: int) -> Image.Image:
    """A Figure as a picture, at so many times its resolution, in as few colours as it looks the same in."""
    # Those of pyplot are cropped, as Jupyter does it; others are shown in the size they were designed in.
    box, png = "tight" if figure.canvas.manager else figure.bbox_inches, io.BytesIO()
    figure.savefig(png, format="png", dpi=times * figure.dpi, bbox_inches=box)
    return reduced(Image.open(png).convert("RGB"))  # matplotlib always writes RGBA


def img(kind: str, content: bytes, width: int, text: str) -> str:
    """The HTML of a picture that is ``width`` pixels wide on the page."""
    source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return f'<img alt="{html.escape(text)}" width="{width}" src="{source}">'


def reduced(image: Image.Image) -> Image.Image:
    """A picture in grey or in 256 colours, if it looks the same then."""
    pixels = np.asarray(image.convert("RGB"))
    if not np.ptp(pixels, axis=2).any():  # all pixels are grey
        return image.convert("L")
    few = image.quantize(256)  # enough for a plot, whose many colours are smoothed edges
    error = np.abs(np.asarray(few.convert("RGB")).astype(np.int16) - pixels)
    return few if error[pixels.min(axis=2) < 255].mean() < 3 else image  # plots stay below 2, photographs start at 6


def encoded(image: Image.Image) -> tuple[str, bytes]:
    """Type and bytes of a picture: a PNG, or a JPEG of a photograph."""
    png, jpeg = io.BytesIO(), io.BytesIO()
    image.save(png, "PNG", optimize=True)
    if image.mode == "RGB" and png.tell() > PHOTOGRAPH:
        image.save(jpeg, "JPEG", quality=85, subsampling=0)  # optimised, Pillow fails on noise
        if jpeg.tell() < png.tell():
            return "image/jpeg", jpeg.getvalue()
    return "image/png", png.getvalue()


def _written_in(figure) -> str:
    """The titles, axes and legends of a Figure in a line."""
    lines = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        x, y, legend = axes.get_xlabel(), axes.get_ylabel(), axes.get_legend()
        lines += [axes.get_title(), f"{y} against {x}" if x and y else x or y]
        lines += [", ".join(text.get_text() for text in legend.get_texts())] if legend else []
    found = "; ".join(dict.fromkeys(" ".join(line.split()).replace("$", "") for line in lines if line))
    return found or "a figure without titles"
