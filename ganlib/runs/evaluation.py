"""The score of a run's generator, against the images that it was trained on or their test split."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ganlib._runtime import device as runtime
from ganlib.data.images import ImageSet
from ganlib.data.loading import known_name
from ganlib.metrics.nets import cifar_net, digit_net, inception_net
from ganlib.metrics.scores import DigitScore, Report, score, score_digits
from ganlib.runs import saved, settings
from ganlib.runs.build import load_images
from ganlib.runs.checkpoint import load_generator
from ganlib.runs.config import Config, change

log = logging.getLogger("ganlib")


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
    """Score a run's newest intact checkpoint: each number with its protocol, beside what reals would get.

    Args:
        run: the run's folder. Its images are found by what it noted of them; other images are refused.
        num: samples to draw and judge.
        ema: the running average of the generator's weights, usually the better one, or the weights themselves.
        against: the images it was trained on, or the test split of the same dataset.
        net: what looks at the images. auto: digitnet for MNIST, cifarnet for colour; with inception it is the FID.
        data_root: a folder to look for the images in first; of a run on a folder or an archive, that one itself.
        out: the file to which a line of JSON is added. None for evaluations.jsonl in the run's folder.
    """
    run, nets = Path(run), ("auto", "digitnet", "cifarnet", "inception")
    if against not in ("train", "test") or net not in nets:
        raise ValueError(f"against is '{against}' (train or test) and net is '{net}' (one of {', '.join(nets)}).")
    if num < 2:
        raise ValueError(f"num is {num}, but a score needs at least 2 samples, better 10,000.")
    noted = saved.config_of(run)["images"]
    generator = load_generator(run, "ema_generator" if ema else "generator").to(runtime.device())
    net = _suitable(noted.get("name"), tuple(noted["shape"])) if net == "auto" else net
    reals = find_images(run, None if against == "train" else "test", data_root)
    target = Path(out) if out is not None else run / "evaluations.jsonl"
    runtime.check_writable(target.parent)  # before the work, not after it
    if net == "digitnet":
        found = score_digits(generator, reals, n=num)
    else:
        judge = cifar_net() if net == "cifarnet" else inception_net()
        resize = net == "cifarnet" and tuple(reals.pixels.shape[1:]) != judge.image_shape
        found = score(generator, reals, judge, n=num, resizer="bicubic" if resize else "none")
    step = generator.steps_done
    print(f"step {step:,} of '{run}' · {'running average' if ema else 'weights'}\nagainst {reals.source}\n{found}")
    facts = {"step": step, "ema": ema, "against": against, "images": reals.source, "scores": found.to_dict()}
    try:
        with target.open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts, ensure_ascii=False) + "\n")
    except OSError as error:
        raise type(error)(f"Cannot write '{target}' ({error.strerror}); the scores are only printed.") from error
    log.info(f"added to '{target}'")
    return found


def _suitable(name: str | None, shape: tuple[int, ...]) -> str:
    """The net that can judge a run's images."""
    if name == "mnist" and shape == digit_net().image_shape:
        return "digitnet"
    if shape[0] == 3:
        return "cifarnet"
    what = "the digitnet takes MNIST's digits, the cifarnet and inception colour pictures"
    raise ValueError(f"No net judges '{name}', {shape}: {what}. Name one (net) if it fits all the same.")


def find_images(run: Path, split: str | None = None, data_root: Path | None = None) -> ImageSet:
    """The images a run was trained on, or another split of the same dataset and classes; nothing is downloaded.

    They are loaded as the run loaded them, so that a folder is not prepared again, and refused if their pixels differ.
    """
    about = saved.config_of(run)
    noted = about["images"]
    try:
        for config in _candidates(about, data_root and Path(data_root)):
            images = load_images(config, noted["split"], download=False)
            same = len(images) == noted["count"] and list(images.pixels.shape[1:]) == noted["shape"]
            if same and settings.fingerprint(images.pixels) == noted["fingerprint"]:
                elsewhere = split not in (None, noted["split"])
                return load_images(replace(config, n=None), split, download=False) if elsewhere else images
        raise ValueError(f"Found is '{images.source}', with other pixels.")
    except (ValueError, OSError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(
            f"The images of the run in '{run}', {noted['count']:,} of '{noted['source']}', are not here: {error} Name "
            "the folder that has them (data_root), or score in Python: ganlib.metrics.score."
        ) from error


def _candidates(about: dict, data_root: Path | None) -> Iterator[Config]:
    """The settings that a run's images may have been loaded with: those of ``ganlib train``, or likely ones."""
    noted = about["images"]
    if about.get("config"):
        yield _rooted(change(Config(), about["config"] | {"resume_path": None, "allow_changes": False}), data_root)
        return
    if not isinstance(noted.get("name"), str):
        raise ValueError("They were given as a bare tensor, without a name.")
    channels, size, _ = noted["shape"]
    plain = _rooted(change(Config(), {"dataset": noted["name"], "image_size": size, "n": noted["count"]}), data_root)
    yield plain
    plain = replace(plain, channels=channels)
    yield plain
    for name in load_images(replace(plain, n=None), noted["split"], download=False).classes:
        yield replace(plain, classes=(name,))


def _rooted(config: Config, data_root: Path | None) -> Config:
    """``config`` with another data root, which may be the folder of images itself."""
    if data_root is None:
        return config
    try:
        if known_name(config.dataset) not in (None, "folder"):
            return replace(config, data_root=str(data_root))
    except ValueError:  # the name of a folder that has moved
        pass
    inside = data_root / config.dataset
    return replace(config, dataset=str(inside if inside.exists() else data_root))
