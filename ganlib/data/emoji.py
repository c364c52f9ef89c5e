"""Emoji drawings, which may be shown and passed on: a copy, the npm package, or the small ones that come along.

Twemoji, copyright Twitter, Inc and other contributors, CC-BY 4.0: see ``emoji/LICENCE.txt``.
"""

import functools
import json
import lzma
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ganlib.data.archives import intact, places, stamp
from ganlib.data.folders import USUAL, Picked, Reading, Source, open_members, open_pictures

PACKAGE = "emoji-datasource-twitter-16.0.0.tgz"
FILE = (PACKAGE, f"https://registry.npmjs.org/emoji-datasource-twitter/-/{PACKAGE}", "19fb55ef34e83997e985f687762798eb")
IN_PACKAGE = "package/img/twitter/64"
SHIPPED, SIDE = Path(__file__).parent / "emoji" / "emoji32.xz", 32  # bytes of [N, 32, 32, 4], in the order of COUNTS
PEOPLE, HANDS = "people-body", "hands"
# How many of each kind are shipped; hands are people-body's.
COUNTS = {"activities": 85, "animals-nature": 159, "flags": 270, "food-drink": 131, "objects": 264, PEOPLE: 1983}
COUNTS |= {HANDS: 278, "smileys-emotion": 169, "symbols": 224, "travel-places": 218}
KINDS = tuple(kind for kind in COUNTS if kind != HANDS)
TEST_EVERY = 7  # of the stand-in's drawings, one is for testing; 7, as skin tones come in sixes


def find(folder: Path, split: str, _=None) -> Iterator[Source]:
    """The copies of the emoji below a folder: pictures in folders by kind, then npm's package."""
    found = {place: functools.partial(open_pictures, place, split) for place in places(folder, ("emoji",), ("",))}
    for path in filter(Path.is_file, (folder / "emoji" / PACKAGE, folder / PACKAGE)):
        pick = functools.partial(_pick, path)
        found[path] = functools.partial(open_pictures, path / IN_PACKAGE, split, pick=pick, how=USUAL)
    for path, opener in found.items():
        yield Source(path.relative_to(folder).as_posix(), stamp(path), opener, files=[path])


def _pick(path: Path, _, names: Sequence[str], __) -> Picked:
    """The pictures of the package that its list puts into a category with more than swatches."""
    with intact(path, KeyError, ValueError), tarfile.open(path) as archive:
        kind_of = {}
        for emoji in json.load(archive.extractfile("package/emoji.json")):
            kind = emoji["category"].lower().replace(" & ", "-")
            files = (emoji, *emoji.get("skin_variations", {}).values())
            kind_of |= {file["image"]: KINDS.index(kind) for file in files if kind in KINDS}
    return Picked({name: kind_of[name] for name in names if name in kind_of}, KINDS)


def shipped(split: str, *, instead_of: str = "") -> Source:
    """The small drawings that come with ganlib; ``instead_of`` another set they have its ten classes and its splits."""
    classes = tuple(COUNTS) if instead_of else KINDS
    kinds = [classes.index(kind if kind in classes else PEOPLE) for kind, n in COUNTS.items() for _ in range(n)]
    mine = [k for k in range(len(kinds)) if not instead_of or (k % TEST_EVERY == TEST_EVERY - 1) == (split == "test")]

    def read(image_size, channels) -> Reading:
        pixels = np.frombuffer(lzma.decompress(SHIPPED.read_bytes()), np.uint8).reshape(-1, SIDE, SIDE, 4)

        def again():
            return ((str(k), functools.partial(Image.fromarray, pixels[k])) for k in mine)

        def pick(_, names: Sequence[str], __) -> Picked:
            return Picked({name: kinds[int(name)] for name in names}, classes)

        return open_members(again, SHIPPED.name, split, image_size, channels, pick=pick)

    unit = f"emoji drawings, NOT {instead_of}" if instead_of else "drawings"
    where = f"offline {'stand-in' if instead_of else 'copy'} (32×32, comes with ganlib)"
    return Source(where, f"{SHIPPED.name} {split} {instead_of}", read, unit, real=False)
