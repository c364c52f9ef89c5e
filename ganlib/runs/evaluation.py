"""Scoring a run's generator against the images it was trained on."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ganlib._runtime import device as runtime
from ganlib.data.images import ImageSet
from ganlib.data.sets import SETS
from ganlib.metrics import (
    DigitScore,
    Finding,
    Report,
    cifar_net_for,
    digit_net,
    doctor,
    inception_net,
    score,
    score_digits,
)
from ganlib.runs import build, checkpoint, folder, provenance
from ganlib.runs.build import load_images
from ganlib.runs.config import LENGTH, Config, change, changed
from ganlib.runs.training import stored


def evaluate(
    run: Path,
    *,
    num: int = 10_000,
    ema: bool = True,
    against: Literal["train", "test"] = "train",
    net: Literal["auto", "digitnet", "cifarnet", "inception"] = "auto",
    data_root: Path | None = None,
) -> Report | DigitScore:
    """Score a run's newest intact checkpoint, next to what real images would score.

    The scores, with their protocol, are also added to ``evaluations.jsonl`` in the run's folder.

    Args:
        run: the run's folder. Its images are found by what it recorded about them; other images are refused.
        num: samples to draw and score.
        ema: score the running average of the generator's weights, usually the better one, or the weights themselves.
        against: the training images, or the test split of the same dataset.
        net: what looks at the images. auto: digitnet for MNIST, else cifarnet, for which grey pictures get three equal
            channels and transparent ones lie on white; with inception it is the FID.
        data_root: a folder to look for the images in first; for a run on a folder or an archive, its path.
    """
    run = Path(run)
    noted = folder.config_of(run)["images"]
    if net == "auto":
        digits = noted["name"] == "mnist" and tuple(noted["shape"]) == digit_net().image_shape
        net = "digitnet" if digits else "cifarnet"
    generator = checkpoint.load_generator(run, "ema_generator" if ema else "generator")
    reals = find_images(run, None if against == "train" else "test", data_root)
    runtime.check_writable(run)  # fail before the work, not after it
    if net == "digitnet":
        found = score_digits(generator, reals, n=num)
    else:
        judge = cifar_net_for(reals.channels) if net == "cifarnet" else inception_net()
        resize = net == "cifarnet" and reals.image_size != judge.image_shape[1]
        found = score(generator, reals, judge, n=num, resizer="bicubic" if resize else "none")
    step = generator.steps_done
    print(f"step {step:,} of '{run}' · {'running average' if ema else 'weights'}\nagainst {reals.source}\n{found}")
    facts = {"step": step, "ema": ema, "against": against, "images": reals.source, "scores": found.to_dict()}
    with (run / "evaluations.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(facts, ensure_ascii=False) + "\n")
    return found


def diagnose(
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")], *, data_root: Path | None = None
) -> list[Finding]:
    """Say what is wrong with a run: its newest checkpoint, its history, its images.

    Args:
        run: the run's folder, of ``ganlib train``.
        data_root: as for ``ganlib evaluate``.
    """
    run, images, history = Path(run), find_images(Path(run), None, data_root), folder.history_of(Path(run))
    config = build.fitted(stored(run), images)
    gan = build.players(config, fresh=False)
    checkpoint.resume(gan, run)
    found = doctor.diagnose(gan, images, build.step(config), history, batch_size=config.batch_size)
    print(f"step {gan.steps_done:,} of '{run}'", *(found or ["nothing is found"]), sep="\n")
    if "score_worsens" in {finding.check for finding in found} and history.best in checkpoint.steps_in(run):
        back = checkpoint.path_of(run, history.best)
        given = {k: v for k, v in changed(stored(run)).items() if k not in ("out", "resume_path", *LENGTH)}
        words = [
            f"--{k.replace('_', '-')} {' '.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in given.items()
        ]
        weights = [f"--{name} {shlex.quote(str(back))}" for name in ("generator", "discriminator")]
        print("to go back:  ganlib train", *words, *weights)
    return found


def find_images(run: Path, split: str | None = None, data_root: Path | None = None) -> ImageSet:
    """The images of a run, or another split of its dataset, without downloading.

    They are loaded as the run loaded them, so a folder is not prepared again, and refused if their pixels differ.
    """
    about = folder.config_of(run)
    noted = about["images"]
    try:
        if about.get("config"):  # of ganlib train
            config = change(Config(), about["config"])
        else:
            config = change(Config(), {"dataset": noted["name"], "image_size": noted["shape"][1], "n": noted["count"]})
        if data_root is not None:
            of_folder = config.dataset == "folder" or noted["name"] not in SETS
            config = replace(config, **{"dataset" if of_folder else "data_root": str(data_root)})
        for channels in dict.fromkeys([config.channels, noted["shape"][0]]):
            config = replace(config, channels=channels)
            images = load_images(config, noted["split"], download=False)
            if provenance.fingerprint(images.pixels) == noted["fingerprint"]:
                same = split in (None, noted["split"])
                return images if same else load_images(replace(config, n=None), split, download=False)
        raise ValueError(f"'{images.source}' was found, but has other pixels.")
    except (ValueError, OSError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(
            f"The images of the run in '{run}', {noted['count']:,} of '{noted['source']}', are not here: {error} Name "
            "the folder that has them (data_root), or score in Python: ganlib.metrics.score."
        ) from error
