"""Make the small emoji drawings that come with ganlib, from the npm package emoji-datasource-twitter.

    python scripts/make_emoji.py emoji-datasource-twitter-16.0.0.tgz

Each is shrunk to 32×32, colours to 6 bits and opacity to 5, as 8 would take twice the place. Prints the counts that
``ganlib.data.emoji`` has to name.
"""

import json
import lzma
import sys
import tarfile
from io import BytesIO

import numpy as np
from PIL import Image

from ganlib.data.emoji import COUNTS, HANDS, SHIPPED, SIDE

STEPS = np.array([2**6, 2**6, 2**6, 2**5]) - 1  # of red, green, blue and opacity


def small(raw: bytes) -> np.ndarray:
    """One drawing, uint8 [32, 32, 4]; black where it is transparent."""
    picture = Image.open(BytesIO(raw)).convert("RGBA").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    coarse = np.round(np.round(np.asarray(picture) * (STEPS / 255)) * (255 / STEPS)).astype(np.uint8)
    return np.where(coarse[..., 3:] > 0, coarse, 0)


def main(path: str) -> None:
    files = {kind: [] for kind in COUNTS}
    with tarfile.open(path) as archive:
        contents = {member.name: archive.extractfile(member).read() for member in archive if member.isreg()}
    for emoji in sorted(json.loads(contents["package/emoji.json"]), key=lambda emoji: emoji["sort_order"]):
        kind = HANDS if emoji["subcategory"].startswith("hand") else emoji["category"].lower().replace(" & ", "-")
        tones = emoji.get("skin_variations", {}).values()
        files.get(kind, []).extend(one["image"] for one in (emoji, *tones))
    pixels = [small(contents[f"package/img/twitter/64/{name}"]) for names in files.values() for name in names]
    content = lzma.compress(np.stack(pixels).tobytes(), preset=9)
    SHIPPED.parent.mkdir(exist_ok=True)
    SHIPPED.write_bytes(content)
    print({kind: len(names) for kind, names in files.items()}, f"{len(pixels):,} drawings, {len(content):,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
