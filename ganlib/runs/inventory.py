"""The command ``ganlib data``: which datasets are here, what a folder holds."""

import contextlib
from collections import Counter, deque
from pathlib import Path
from typing import Annotated

import tyro

from ganlib._runtime import device as runtime
from ganlib.data import cache, folders
from ganlib.data.loading import GENERATED, find_path, known_name
from ganlib.data.sets import SETS, Dataset


def data(
    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None,
    *,
    data_root: Path | None = None,
) -> dict[str, dict[str, list[str]]]:
    """Tell which datasets are here and how to get others, or what a folder holds.

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
        found = {label: _dataset(label, SETS[label], data_root) for label in ([key] if key else SETS)}
        if key is None and (others := _others(data_root)):
            found["other pictures"] = others
    for label, facts in found.items():
        print(label, *(f"  {fact}: " + "\n    ".join(lines) for fact, lines in facts.items()), sep="\n")
    return found


def _dataset(label: str, dataset: Dataset, root: Path | None) -> dict[str, list[str]]:
    """Where each split of a dataset is, and how to get what is missing."""
    found = {"what": [f"{dataset.title}: {dataset.unit}, {dataset.channels}×{dataset.size}×{dataset.size}"]}
    found |= {s: [f"{copy.where} · '{copy.files[0]}'" for copy in dataset.copies(s, root)] for s in dataset.splits}
    for split in dataset.splits:
        for entry in sorted(runtime.cache_dir().glob(f"{label}-{split}-*")):
            if kept := cache.restore(entry, None):
                found[split].append(f"prepared earlier, {'×'.join(map(str, kept[0].shape))} · '{entry}'")
    if missing := [split for split in dataset.splits if not found[split]]:
        found |= dict.fromkeys(missing, ["not on this machine"])
        folder, found["to get it"] = runtime.data_roots(root)[0] / dataset.names[0], [dataset.missing]
        if files := dict.fromkeys(file for split in missing if dataset.files for file in dataset.files(split)):
            found["to get it"] += [f"It is downloaded when first asked for; or put these as they are into '{folder}':"]
            found["to get it"] += [f"{url} ({file}, md5 {md5})" for file, url, md5 in files]
    return found


def _others(root: Path | None) -> dict[str, list[str]]:
    """Folders and archives of pictures in the data roots that are no dataset."""
    known = {file for one in SETS.values() for s in one.splits for copy in one.copies(s, root) for file in copy.files}
    places = (path for base in runtime.data_roots(root) if base.is_dir() for path in sorted(base.iterdir()))
    places = (p for p in places if (folders.is_archive(p) if p.is_file() else folders.holds_pictures(p)))
    return {path.name: [f"'{path}'"] for path in places if path not in known and path != runtime.cache_dir()}


def _pictures(path: Path) -> dict[str, list[str]]:
    """How many pictures of which sizes and classes there are, and what is unreadable."""
    if not (headers := folders.read_headers(folders.members(path))):
        raise ValueError(folders.none_readable(path, {}))
    skipped = {name: why for name, why in headers.items() if isinstance(why, str)}
    names, thorough = [name for name in headers if name not in skipped], len(headers) <= folders.SILENT_UP_TO
    found = {"what": [f"{len(headers):,} pictures · '{path}'"]}
    for split in folders.SPLITS if names else ():
        with contextlib.suppress(ValueError):  # there is no such split
            picked = folders.by_folders(path, names, split)
            counts = Counter(picked.known.values())
            classes = ", ".join(f"{label} {counts[k]:,}" for k, label in enumerate(picked.classes[:20]))
            found[split] = [f"{len(picked.known):,} pictures · {len(picked.classes)} classes {classes}".rstrip()]
            if thorough:
                reading = folders.open_pictures(path, split)
                deque(reading.chunks(), maxlen=0)
                skipped |= reading.skipped
    if names:
        sizes = [f"{w}×{h} ({n:,})" for (w, h), n in Counter(headers[name][:2] for name in names).most_common(3)]
        shortest, grey = min(min(headers[name][:2]) for name in names), sum(headers[name][2] for name in names)
        found["sizes"] = [f"most often {', '.join(sizes)}; at most image_size={shortest} fits all; {grey:,} are grey"]
    how = "every picture was decoded" if thorough else "by the first bytes of each"
    found["unreadable"] = [f"{len(skipped):,} ({how})", *(f"{n} ({why})" for n, why in list(skipped.items())[:10])]
    return found
