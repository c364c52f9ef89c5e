"""Which datasets are here, and what a folder of pictures holds."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Annotated

import tyro

from ganlib.data import folders
from ganlib.data.loading import GENERATED, find_path, known_name
from ganlib.data.sets import SETS, Dataset


def data(
    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None,
    *,
    data_root: Path | None = None,
) -> dict[str, dict[str, list[str]]]:
    """List the datasets found here and how to get others, or what a folder holds.

    Args:
        name: a dataset, or the path of a folder or an archive of pictures. Default: all datasets.
        data_root: a folder to look in first.
    """
    key = known_name(name) if name is not None else None
    if key in GENERATED:
        found = {key: {"to get it": ["nothing: the pictures are drawn, at any size"]}}
    elif name is not None and key not in SETS:
        found = {name: _pictures(find_path(name, key, data_root))}
    else:
        found = {label: _dataset(SETS[label], data_root) for label in ([key] if key else SETS)}
    for label, facts in found.items():
        print(label, *(f"  {fact}: " + "\n    ".join(lines) for fact, lines in facts.items()), sep="\n")
    return found


def _dataset(dataset: Dataset, root: Path | None) -> dict[str, list[str]]:
    """The location of each split of a dataset, and how to get what is missing."""
    found = {"what": [f"{dataset.title}: {dataset.unit}, {dataset.channels}×{dataset.size}×{dataset.size}"]}
    found |= {s: [f"{copy.where} · '{copy.files[0]}'" for copy in dataset.copies(s, root)] for s in dataset.splits}
    if missing := [split for split in dataset.splits if not found[split]]:
        found |= dict.fromkeys(missing, ["not on this machine"])
        found["to get it"] = dataset.to_get(missing, root)
    return found


def _pictures(path: Path) -> dict[str, list[str]]:
    """The sizes and classes of pictures, from their headers, and what is unreadable."""
    if not (headers := folders.read_headers(folders.members(path))):
        raise ValueError(folders.none_readable(path, {}))
    skipped = [f"{name} ({why})" for name, why in headers.items() if isinstance(why, str)]
    names = [name for name, header in headers.items() if not isinstance(header, str)]
    found = {"what": [f"{len(headers):,} pictures · '{path}'"]}
    for split in folders.SPLITS if names else ():
        with contextlib.suppress(ValueError):  # there is no such split
            picked = folders.by_folders(path, names, split)
            counts = Counter(picked.known.values())
            classes = ", ".join(f"{label} {counts[k]:,}" for k, label in enumerate(picked.classes[:20]))
            found[split] = [f"{len(picked.known):,} pictures · {len(picked.classes)} classes {classes}".rstrip()]
    if names:
        sizes = Counter(headers[name][:2] for name in names)
        common, smallest = (", ".join(f"{w}×{h} ({n:,})" for (w, h), n in sizes.most_common(3))), min(map(min, sizes))
        found["sizes"] = [f"most often {common}; at most image_size={smallest} fits all"]
    return found | {"unreadable": [f"{len(skipped):,}", *skipped[:10]]}
