"""Which datasets are here, and what your own pictures look like to a network."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Annotated

import tyro

from ganlib._runtime import device as runtime
from ganlib.data.folders import SPLITS
from ganlib.data.loading import GENERATED, find_path, known_name
from ganlib.data.sets import SETS, Dataset
from ganlib.runs.build import load_images
from ganlib.runs.config import Config, Images, check
from ganlib.viz.images import save_png

ON_SHEET = 100  # images


def data(
    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None,
    *,
    images: Images = Images(),  # noqa: B008 - frozen
) -> dict[str, dict[str, list[str]]]:
    """List the datasets found here and how to get others, or what your pictures become.

    Args:
        name: a dataset, or the path of pictures: a folder, an archive, .npy, .npz, CSV. Default: all datasets.
        images: as for ``ganlib train``.
    """
    key = known_name(name) if name is not None else None
    if key in GENERATED:
        found = {key: {"to get it": ["nothing: the pictures are drawn, at any size"]}}
    elif name is not None and key not in SETS:
        find_path(name, key, images.data_root)
        found = {name: _pictures(check(Config(**vars(replace(images, dataset=name)))))}
    else:
        found = {label: _dataset(SETS[label], images.data_root) for label in ([key] if key else SETS)}
        for label, facts in found.items():
            print(label, *(f"  {fact}: " + "\n    ".join(lines) for fact, lines in facts.items()), sep="\n")
    return found


def _dataset(dataset: Dataset, root: str | None) -> dict[str, list[str]]:
    """The location of each split of a dataset, and how to get what is missing."""
    found = {"what": [f"{dataset.title}: {dataset.unit}, {dataset.channels}×{dataset.size}×{dataset.size}"]}
    found |= {s: [f"{copy.where} · '{copy.files[0]}'" for copy in dataset.copies(s, root)] for s in dataset.splits}
    if missing := [split for split in dataset.splits if not found[split]]:
        found |= dict.fromkeys(missing, ["not on this machine"])
        found["to get it"] = dataset.to_get(missing, root)
    return found


def _pictures(config: Config) -> dict[str, list[str]]:
    """The summary of each split of your pictures, and the file of a contact sheet of the first."""
    found, log = {}, logging.getLogger("ganlib")
    for split in SPLITS:
        log.disabled = True  # load tells a part of it, too
        try:
            images = load_images(config, split)
        except ValueError:
            if split == "train":
                raise
            continue  # there is no such split
        finally:
            log.disabled = False
        print("\n  ".join(images.summary))
        found[split] = list(images.summary)
        if split == "train":
            sheet = runtime.cache_dir() / "contact-sheets" / f"{images.name}.png"
            sheet.parent.mkdir(parents=True, exist_ok=True)
            save_png(images.take(min(ON_SHEET, len(images))), sheet, scale=max(1, 64 // images.image_size))
    print(f"A contact sheet, as a network sees them: '{sheet}'")
    return found | {"contact sheet": [str(sheet)]}
