"""Which image sets are on this machine, what is missing and how to get it; and what is in a folder of pictures."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro

from ganlib._runtime import device as runtime
from ganlib.data import archives, folders, sources
from ganlib.data.loading import find_path, known_name
from ganlib.data.sets import SETS
from ganlib.data.sources import NamedSet, PhotoSet

DRAWN = {"fake": "generated shapes, any size", "toyfaces": "generated faces with known attributes, any size"}


def data(
    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None,
    *,
    data_root: Path | None = None,
) -> dict:
    """Tell which image sets are on this machine and how to get the others, or what is in a folder of pictures.

    Nothing is downloaded, prepared or changed.

    Args:
        name: a set by its name, or the path of a folder or an archive of pictures; None for all sets there are.
        data_root: a folder to look in first.

    Returns:
        what is printed, by name.

    Raises:
        ValueError: if there is no such set, no picture in the folder, or the archive is damaged.
        FileNotFoundError: if there is no such path.
    """
    key = known_name(name) if name is not None else None
    if key == "folder" and data_root is None:
        raise ValueError("'folder' needs data_root, the path of a folder or an archive of pictures.")
    if name is not None and key is None or key == "folder":
        found = {str(name): _pictures(find_path(name, key, data_root))}
    elif key in DRAWN:
        found = {key: {"what": DRAWN[key], "to get it": "nothing to get: they are drawn"}}
    else:
        found = {label: _named(label, data_root) for label in ([key] if key else SETS)}
        if key is None and (others := list(_others(data_root))):
            found["other pictures"] = {path.name: f"'{path}'" for path in others}
    for label, facts in found.items():
        print(label)
        wide = max(map(len, facts))
        for fact, text in facts.items():
            lines = [text] if isinstance(text, str) else text
            for line, head in zip(lines, [fact] + [""] * len(lines), strict=False):
                print(f"  {head:<{wide}}  {line}")
    return found


def _named(label: str, root: Path | None) -> dict[str, str | list[str]]:
    """What is known of a named set: where each split of it is, and how to get what is missing."""
    named = SETS[label]
    colour = "grey" if named.channels == 1 else "colour"
    what = f"{named.title}: {named.unit}, {named.size}×{named.size} {colour}"
    what += f", {len(named.classes)} classes" if isinstance(named, NamedSet) else " unless asked for otherwise"
    found: dict[str, str | list[str]] = {"what": what}
    missing = []
    for split in named.splits:
        there = [*_copies(named, split, root), *_prepared(label, split)]
        found[split] = there or "not on this machine"
        missing += [] if there else [split]
    if missing:
        roots = runtime.data_roots(root)
        found["looked in"] = [f"'{base}'" for base in roots]
        found["to get it"] = _how_to_get(named, missing, roots[0])
        if named.stand_in:
            found["without it"] = [f"{split}: {_stand_in(named, split)}" for split in missing]
    return found


def _how_to_get(named: NamedSet | PhotoSet, splits: list[str], root: Path) -> list[str]:
    """Where the splits can be had, and where they are looked for."""
    itself = f"with internet by itself: it is downloaded when it is first asked for, to '{runtime.cache_dir()}'"
    if isinstance(named, PhotoSet):
        return [*([itself] if named.fetch else []), named.missing]
    files = dict.fromkeys(file for split in splits for file in named.files[split])
    return [
        itself,
        f"by hand, into '{root / named.names[0]}', without unpacking:",
        *(f"  {named.url}{file}  md5 {md5}" for file, md5 in files),
        "or give data_root, or the environment variable GANLIB_DATA, a folder that has it: see data/README.md",
    ]


def _copies(named: NamedSet | PhotoSet, split: str, root: Path | None) -> Iterator[str]:
    for source in sources.copies(named, split, root):
        gone = [path.name for path in source.files if not path.exists()]
        where = source.files[0] if len(source.files) == 1 else source.files[0].parent
        yield f"{source.where} · '{where}'" + (f" · incomplete: {', '.join(gone)} missing" if gone else "")


def _prepared(label: str, split: str) -> Iterator[str]:
    """What was made ready of real images earlier, and is used if they are gone."""
    for path in sorted(runtime.cache_dir().glob(f"{label}-{split}-*/about.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # damaged: made anew
            about = json.loads(path.read_text())
            n, channels, height, width = about["shape"]
            if about["real"]:
                yield f"prepared earlier, {n:,} of {channels}×{height}×{width} · '{path.parent}'"


def _stand_in(named: NamedSet | PhotoSet, split: str) -> str:
    """What is trained on where the set is not to be had."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it would be announced here as if it were used
            source = named.stand_in(split)
    except FileNotFoundError as error:
        return str(error)
    return f"{source.where}: {source.unit or named.unit}"


def _others(root: Path | None) -> Iterator[Path]:
    """Folders and archives of pictures in the data roots that are none of the named sets."""
    named = {file for one in SETS.values() for split in one.splits for file in _files(one, split, root)}
    for base in dict.fromkeys(runtime.data_roots(root)):
        with contextlib.suppress(OSError):  # no such folder
            for path in sorted(base.iterdir()):
                pictures = path.is_dir() and path != runtime.cache_dir() and next(archives.walk(path), None)
                if path not in named and (pictures or (path.is_file() and archives.is_archive(path))):
                    yield path


def _files(named: NamedSet | PhotoSet, split: str, root: Path | None) -> Iterator[Path]:
    for source in sources.copies(named, split, root):
        yield from source.files


def _pictures(path: Path) -> dict[str, str | list[str]]:
    """What is in a folder or an archive: how many pictures of which sizes and classes, and what cannot be read.

    Up to 5,000 pictures are decoded whole; of more, only the first bytes are looked at.
    """
    headers = folders.scan(archives.looks(path)())
    if not headers:
        raise ValueError(f"There are no images in '{path}' (looked for {' '.join(archives.PICTURES)}).")
    names = [name for name, header in headers.items() if not isinstance(header, str)]
    unreadable = {name: header for name, header in headers.items() if isinstance(header, str)}
    found: dict[str, str | list[str]] = {"what": f"{len(headers):,} pictures · '{path}'"}
    thorough = len(names) <= folders.SILENT_UP_TO
    for split in folders.SPLITS if names else ():
        try:
            picked = folders.by_folders(path, names, split)
        except ValueError:  # there is no such split
            continue
        counts = Counter(picked.known.values())
        some = [f"{label} {counts[c]:,}" for c, label in enumerate(picked.classes)]
        some = some[:20] + ([f"… {len(picked.classes)} in all"] if len(some) > 20 else [])
        found[split] = f"{len(picked.known):,} pictures · " + (f"by class: {', '.join(some)}" if some else "no classes")
        if thorough:
            reading = folders.open_pictures(path, split)
            for _ in reading.chunks():
                pass
            unreadable |= reading.skipped
    if names:
        sizes = Counter(headers[name][:2] for name in names)
        by_area = sorted(sizes, key=lambda size: size[0] * size[1])
        often, times = sizes.most_common(1)[0]
        ends = " to ".join(f"{w}×{h}" for w, h in dict.fromkeys([by_area[0], by_area[-1]]))
        found["sizes"] = f"{ends} pixels" + (
            f", most often {often[0]}×{often[1]} ({times:,})" if len(sizes) > 1 else ""
        )
        found["largest image size"] = f"{min(min(size) for size in sizes)}: the shorter side of the smallest"
        grey = sum(headers[name][2] for name in names)
        found["colours"] = f"{grey:,} grey, {len(names) - grey:,} in colour"
    how = "every picture was decoded" if thorough else "by the first bytes of each; training tells of others"
    few = [f"{name} ({why})" for name, why in list(unreadable.items())[:10]]
    found["unreadable"] = [f"{len(unreadable):,} ({how})", *few, *(["…"] if len(unreadable) > 10 else [])]
    return found
