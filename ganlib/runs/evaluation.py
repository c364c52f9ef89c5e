"""The score of a run that is there: its generator against the images that it was trained on, or their test split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch

from ganlib._runtime import device as runtime
from ganlib.data.images import ImageSet
from ganlib.data.loading import known_name, load
from ganlib.metrics.inception import inception_net
from ganlib.metrics.nets import cifar_net, digit_net
from ganlib.metrics.scores import DigitScore, Report, score, score_digits
from ganlib.models import PerClass
from ganlib.runs import saved, settings

NETS = ("auto", "digitnet", "cifarnet", "inception")
AGAINST = ("train", "test")


def evaluate(
    run: Path,
    *,
    num: int = 10_000,
    ema: bool = True,
    against: Literal["train", "test"] = "train",
    net: Literal["auto", "digitnet", "cifarnet", "inception"] = "auto",
    data_root: Path | None = None,
    out: Path | None = None,
) -> Report | DigitScore:
    """Score a run's generator: every number with its protocol, beside that of reals in the fakes' place.

    The newest whole checkpoint is taken. Its images are found again by what the run noted of them, and refused if
    they are others.

    Args:
        run: the run's folder.
        num: samples to draw and judge.
        ema: the running average of the generator's weights, usually the better one, or the weights themselves.
        against: the images it was trained on, or the test split of the same set.
        net: what looks at samples and reals. auto: digitnet for MNIST's digits, cifarnet for pictures in colour, both
            resized to 32×32 where they are of another size. With inception it is the FID.
        data_root: a folder to look for the images in first; of a run on a folder or an archive, that one itself.
        out: the file to which a line of JSON is added. None for evaluations.jsonl in the run's folder.

    Returns:
        the scores, as of ``ganlib.metrics.score``; of the digitnet, as of ``score_digits``.

    Raises:
        ValueError: if the images are others, no net can judge them, there are too few, or an argument is none of
            those that there are.
        FileNotFoundError: if there is no run, no checkpoint, or no images.
        OSError: if ``out`` cannot be written, or Inception's weights cannot be had.
    """
    run, data_root = Path(run), data_root and Path(data_root)
    for what, value, there in (("against", against, AGAINST), ("net", net, NETS)):
        if value not in there:
            raise ValueError(f"{what} is '{value}', but must be one of: {', '.join(there)}.")
    if num < 2:
        raise ValueError(f"num is {num}, but a score needs at least 2 samples, better 10,000.")
    folders = list(saved.class_runs(run).values()) or [run]
    configs = [saved.config_of(folder) for folder in folders]
    generators = list(saved.generators_of(run, name="ema_generator" if ema else "generator").values())
    chosen = _choose(configs[0]["images"]) if net == "auto" else net
    reals = _together([_reals(*pair, against, data_root) for pair in zip(folders, configs, strict=True)])
    target = Path(out) if out is not None else run / "evaluations.jsonl"
    runtime.check_writable(target.parent)  # before the work, not after it

    generator = (PerClass(generators) if len(generators) > 1 else generators[0]).to(runtime.device())
    if chosen == "digitnet":
        found = score_digits(generator, reals, n=num)
    else:
        judge = cifar_net() if chosen == "cifarnet" else inception_net()
        resize = chosen == "cifarnet" and tuple(reals.pixels.shape[1:]) != judge.image_shape
        found = score(generator, reals, judge, n=num, resizer="bicubic" if resize else "none")
    steps = [generator.steps_done for generator in generators]
    facts = {"step": steps[0] if len(steps) == 1 else steps, "ema": ema, "against": against, "images": reals.source}
    facts["scores"] = found.to_dict()
    print(f"step {' '.join(f'{step:,}' for step in steps)} of '{run}' · {'running average' if ema else 'weights'}")
    print(f"against {reals.source}")
    print(found)
    try:
        with target.open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts, ensure_ascii=False) + "\n")
    except OSError as error:
        raise type(error)(
            f"Cannot write '{target}' ({error.strerror}); the scores are only what is printed."
        ) from error
    print(f"added to '{target}'")
    return found


def _choose(images: dict) -> str:
    """The net that can judge a run's images, by what the run noted of them."""
    shape = tuple(images["shape"])
    if images.get("name") == "mnist" and shape == digit_net().image_shape:
        return "digitnet"
    if shape[0] == 3:
        return "cifarnet"
    raise ValueError(
        f"No net judges '{images.get('name')}', {shape[0]}×{shape[1]}×{shape[2]}: the digitnet takes MNIST's digits, "
        "grey and 28×28, the cifarnet and inception pictures in colour. Name one (net) if it fits all the same."
    )


def find_images(run: Path, config: dict, data_root: Path | None = None) -> tuple[ImageSet, tuple[int | str, ...]]:
    """The images that a run was trained on, found by what it noted of them; nothing is downloaded.

    Args:
        run: its folder, to be named in sentences.
        config: what :func:`ganlib.runs.saved.config_of` gives.
        data_root: a folder to look in first; of a run on a folder or an archive, that one itself.

    Returns:
        the images, and the classes that they are of, if they are not of all that the set has.

    Raises:
        ValueError: if what is found are other images.
        FileNotFoundError: if none are found.
    """
    there = config["images"]
    try:
        for seed in dict.fromkeys((0, config["arguments"].get("seed", 0))):
            images = load_set(config, data_root, there["split"], n=there["count"], seed=seed)
            if _are(images, there):
                return images, ()
        whole = load_set(config, data_root, there["split"])
        for classes in _asked(config, whole) or [(name,) for name in whole.classes]:
            some = whole.of_class(*classes)
            some = some.take(there["count"]) if len(some) > there["count"] else some
            if _are(some, there):
                return some, classes
    except (ValueError, OSError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"The images of the run in '{run}' are not to be had. {error}{_CURE}") from error
    raise ValueError(
        f"The images of the run in '{run}' are others than those that are here: it had {there['count']:,} of "
        f"'{there['source']}', and found is '{whole.source}', with other pixels.{_CURE}"
    )


_CURE = " Name the folder that has them (data_root), or score in Python: ganlib.metrics.score."


def _asked(config: dict, whole: ImageSet) -> list[tuple[int | str, ...]]:
    """The classes that a run of ``ganlib train`` was asked for, if it was for some."""
    names = (config.get("config") or {}).get("classes") or ()
    named = tuple(c if c in whole.classes or not str(c).isdecimal() else int(c) for c in names)
    return [named] if named else []


def load_set(config: dict, data_root: Path | None, split: str, **some) -> ImageSet:
    """A split of the set that a run's images are of, at their size; nothing is downloaded.

    Args:
        config, data_root: as in :func:`find_images`.
        split: which part of the set.
        **some: further arguments of :func:`ganlib.data.load`.

    Raises:
        ValueError, FileNotFoundError: as ``load``, and if the run's images had no name.
    """
    images, asked = config["images"], config.get("config") or {}  # the latter of ``ganlib train``
    name, root = asked.get("dataset") or images.get("name"), data_root or asked.get("data_root")
    if not isinstance(name, str):
        raise ValueError("They were given as a bare tensor, without a name.")
    channels, size, _ = images["shape"]
    if data_root is not None and not _is_set(name) and not (data_root / name).exists():
        name = "folder"  # it is data_root itself
    return load(name, image_size=size, channels=channels, split=split, root=root, download=False, **some)


def _is_set(name: str) -> bool:
    try:
        return known_name(name) is not None
    except ValueError:  # the name of a folder that has gone
        return False


def _are(images: ImageSet, there: dict) -> bool:
    same = len(images) == there["count"] and list(images.pixels.shape[1:]) == there["shape"]
    return same and settings.fingerprint(images.pixels) == there["fingerprint"]


def _reals(run: Path, config: dict, against: str, data_root: Path | None) -> ImageSet:
    """The images to score against, uint8: those of the run, or the test split of the set, of the same classes."""
    images, classes = find_images(run, config, data_root)
    if against == "train":
        return images
    test = load_set(config, data_root, "test")
    return test.of_class(*classes) if classes else test


def _together(sets: list[ImageSet]) -> ImageSet:
    """Several sets as one, without labels; a single one as it is."""
    if len(sets) == 1:
        return sets[0]
    first = sets[0]
    pixels = torch.cat([images.pixels for images in sets])
    return ImageSet(pixels, None, (), first.name, " + ".join(images.source for images in sets), split=first.split)
