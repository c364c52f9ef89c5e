"""The moving picture at the top of each notebook, from a film that ships in the package.

Made by scripts/make_teasers.py, of the films in examples/gallery/ or by drawing.
"""

import io
from pathlib import Path

from PIL import Image

from ganlib.viz.display import img

FILMS = Path(__file__).parent / "teasers"
LEAST = 480  # pixels on the page
ALTS = {
    "00": "A GAN learns a ring of eight clusters in 1,500 steps. Gold discs are real points, black crosses generated "
    "ones; a light ground is where the discriminator expects reals, and arrows show where the generator is pushed.",
    "01": "Each square is one fixed random vector: in 90 seconds of training on two CPU cores the generator turns it "
    "from noise into a handwritten digit.",
    "02": "Each square is one fixed random vector: in 22 minutes of training on two CPU cores the generator turns it "
    "from noise into a small colour picture, of the kinds in CIFAR-10.",
    "03": "Sixteen digits of a WGAN-GP run beside the estimate of its critic and the Fréchet distance: clear digits; "
    "at step 1,000 both numbers leap up and the digits fall apart, to come back only as scraps.",
    "04": "Each square is one fixed random vector: in 75 minutes of training the generator turns it from noise into a "
    "face. Nobody has these faces; it learned from CelebA, which is for non-commercial research only.",
    "05": "Four faces flow into others and back, as their latent vectors go round a circle. Nobody has these faces; "
    "the generator learned from CelebA, which is for non-commercial research only.",
    "06": "Twenty generated points (black crosses) on a ring of real ones (gold discs) go wrong in four ways: they "
    "keep to one side, shrink, scatter, sit at an outlier. Bars show precision, recall, density and coverage answer.",
    "07": "Ten columns, one for each digit that is asked for, eight rows, one for each random vector: noise turns into "
    "digits, in each column the one asked for, in each row in one hand.",
    "08": "The smallest GAN, a point and a slope, with three losses. Above, without a penalty, it circles the goal or "
    "spirals out of the picture; below, with the penalty R1, each spirals in.",
    "09": "A patient of the clinic: generated digits on 32 tiles change together, from one class to the next, because "
    "the real ones come sorted by class.",
}


class Teaser:
    """An animated WebP, shown by notebooks as an ``<img>``, or as its last frame."""

    def __init__(self, film: bytes, alt: str):
        self.film, self.alt = film, alt

    def __repr__(self) -> str:
        return self.alt

    def _repr_html_(self) -> str:
        with Image.open(io.BytesIO(self.film)) as image:
            width = image.width * -(-LEAST // image.width)  # a whole multiple: every pixel becomes a square
        return img("image/webp", self.film, width, self.alt)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with Image.open(io.BytesIO(self.film)) as image:
            image.seek(image.n_frames - 1)
            image.convert("RGB").quantize(128).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


def teaser(notebook: str) -> Teaser:
    """What a notebook is about, as a moving picture: ``teaser("01")``."""
    if notebook not in ALTS:
        raise ValueError(f"There is no teaser '{notebook}'; there are: {', '.join(ALTS)}.")
    (film,) = FILMS.glob(f"{notebook}_*.webp")
    return Teaser(film.read_bytes(), ALTS[notebook])
