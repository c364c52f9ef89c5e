"""What a run is, how it went, what its generator is worth, how several compare; and which datasets are here."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from ganlib._runtime import device as runtime
from ganlib.data import folders
from ganlib.data.images import ImageSet
from ganlib.data.loading import GENERATED, find_path, known_name
from ganlib.data.sets import SETS, Dataset
from ganlib.metrics import DigitScore, Report, cifar_net, digit_net, inception_net, score, score_digits
from ganlib.runs import checkpoint, folder, settings
from ganlib.runs.build import load_images
from ganlib.runs.config import Config, change
from ganlib.train import History
from ganlib.viz import images as viz

LAST = 100  # steps that a last loss is the mean of
OF_OPTIMISER = ("lr", "betas", "alpha", "momentum", "weight_decay")


def evaluate(
    run: Path,
    *,
    num: int = 10_000,
    ema: bool = True,
    against: Literal["train", "test"] = "train",
    net: Literal["auto", "digitnet", "cifarnet", "inception"] = "auto",
    data_root: Path | None = None,
) -> Report | DigitScore:
    """Score a run's newest intact checkpoint: each number with its protocol, beside what reals would get.

    The numbers are added to ``evaluations.jsonl`` in the run's folder, too.

    Args:
        run: the run's folder. Its images are found by what it noted of them; other images are refused.
        num: samples to draw and judge.
        ema: the running average of the generator's weights, usually the better one, or the weights themselves.
        against: the images it was trained on, or the test split of the same dataset.
        net: what looks at the images. auto: digitnet for MNIST, cifarnet for colour; with inception it is the FID.
        data_root: a folder to look for the images in first; of a run on a folder or an archive, that one itself.
    """
    run = Path(run)
    noted = folder.config_of(run)["images"]
    if net == "auto":
        digits = noted["name"] == "mnist" and tuple(noted["shape"]) == digit_net().image_shape
        net = "digitnet" if digits else "cifarnet" if noted["shape"][0] == 3 else None
        if net is None:
            what = f"'{noted['name']}', {noted['shape']}: the digitnet takes MNIST's digits, the others colour pictures"
            raise ValueError(f"No net judges {what}. Name one (net) if it fits all the same.")
    generator = checkpoint.load_generator(run, "ema_generator" if ema else "generator").to(runtime.device())
    reals = find_images(run, None if against == "train" else "test", data_root)
    runtime.check_writable(run)  # before the work, not after it
    if net == "digitnet":
        found = score_digits(generator, reals, n=num)
    else:
        judge = cifar_net() if net == "cifarnet" else inception_net()
        resize = net == "cifarnet" and tuple(reals.pixels.shape[1:]) != judge.image_shape
        found = score(generator, reals, judge, n=num, resizer="bicubic" if resize else "none")
    step = generator.steps_done
    print(f"step {step:,} of '{run}' · {'running average' if ema else 'weights'}\nagainst {reals.source}\n{found}")
    facts = {"step": step, "ema": ema, "against": against, "images": reals.source, "scores": found.to_dict()}
    with (run / "evaluations.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(facts, ensure_ascii=False) + "\n")
    return found


def find_images(run: Path, split: str | None = None, data_root: Path | None = None) -> ImageSet:
    """The images a run was trained on, or another split of the same dataset and classes; nothing is downloaded.

    They are loaded as the run loaded them, so that a folder is not prepared again, and refused if their pixels differ.
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
            if settings.fingerprint(images.pixels) == noted["fingerprint"]:
                same = split in (None, noted["split"])
                return images if same else load_images(replace(config, n=None), split, download=False)
        raise ValueError(f"Found is '{images.source}', with other pixels.")
    except (ValueError, OSError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(
            f"The images of the run in '{run}', {noted['count']:,} of '{noted['source']}', are not here: {error} Name "
            "the folder that has them (data_root), or score in Python: ganlib.metrics.score."
        ) from error


def info(run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]) -> dict[str, str]:
    """Tell what a run is, how far it got, whether its checkpoints are intact, and how to resume it.

    Args:
        run: the run's folder.
    """
    run = Path(run)
    config, intact = folder.config_of(run), False
    found = {"run": str(run), **_settings(config), **_progress(folder.history_of(run))}
    for path in (checkpoint.path_of(run, step) for step in checkpoint.steps_in(run)):
        try:
            checkpoint.read_checkpoint(path)
            found[path.stem], intact = "intact", True
        except ValueError as error:
            found[path.stem] = str(error)
    resume = f"ganlib train --resume-path {shlex.quote(str(run))}" if config.get("config") else "where it was written"
    found["to resume"] = resume if intact else "no checkpoint is intact: train anew"
    wide = max(map(len, found))
    print("\n".join(f"{name:<{wide}}  {value}" for name, value in found.items()))
    return found


def _settings(config: dict) -> dict[str, str]:
    """What a run is: images, players, step, arguments, and what was changed on the way."""
    images, players = config["images"], config["players"]
    found = {"images": " × ".join([f"{images['source']} · {images['count']}", *map(str, images["shape"])])}
    for name in ("generator", "discriminator"):
        about = players[name]
        found[name] = f"{about['parameters']:,} parameters · {_pairs(about['config'] or {'layers': about['layers']})}"
    for name in ("g_opt", "d_opt"):
        groups = [_pairs({k: group[k] for k in OF_OPTIMISER if k in group}) for group in players[name]["groups"]]
        found[name] = " · ".join([players[name]["kind"], *groups])
    found |= {"step": _pairs(config["step"]).removeprefix("step "), "settings": _pairs(config["arguments"])}
    return found | {f"after {change['after_step']:,}": " ".join(change["what"]) for change in config.get("changes", [])}


def _progress(history: History) -> dict[str, str]:
    """How far a run got and how it stands."""
    by_step = dict(history.scores)
    found = {"steps": f"{history.first_step + history.steps:,}", "time": f"{history.seconds:.3g} s"}
    last = {name: f"{np.mean(values[-LAST:]):.3g}" for name, values in history.losses.items()}
    found["last losses"] = f"{_pairs(last)} (mean of {min(LAST, history.steps):,} steps)" if last else "none yet"
    for name, step in (("best score", history.best), ("last score", max(by_step, default=None))):
        values = {score: f"{value:.4g}" for score, value in by_step.get(step, {}).items()}
        found[name] = f"{_pairs(values)} after step {step:,}" if values else "none"
    return found


def _pairs(values: dict) -> str:
    """Names and values in a line; those that are None are left out."""
    texts = {k: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for k, v in values.items() if v is not None}
    return " · ".join(f"{name} {text}" for name, text in texts.items())


def compare(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN RUN ...")],
    *,
    out: Path | None = None,
) -> dict[str, dict[str, str]]:
    """Compare runs: a table of what differs and how they went, and a picture with the curves of all.

    Args:
        runs: the folders of two or more runs.
        out: the PNG; a number is added if it is taken. None for one in the first run's folder.
    """
    configs = {str(run): folder.config_of(Path(run)) for run in runs}
    if len(configs) < 2:
        raise ValueError("A comparison takes two different runs or more; name others.")
    histories = {name: folder.history_of(Path(name)) for name in configs}
    table = {name: _settings(config) for name, config in configs.items()}
    alike = [row for row in next(iter(table.values())) if len({cells.get(row) for cells in table.values()}) == 1]
    for name, cells in table.items():
        table[name] = {row: text for row, text in cells.items() if row not in alike}
        table[name] |= _progress(histories[name])
    for row in dict.fromkeys(row for cells in table.values() for row in cells):
        print(row, *(f"  {name}  {cells.get(row, '–')}" for name, cells in table.items()), sep="\n")
    path = folder.new_file(out, Path(next(iter(configs))) / "comparison.png")
    _curves(histories).savefig(path, dpi=viz.DPI)
    print(f"curves · '{path}'")
    return table


def _curves(histories: dict[str, History]):
    """The losses (running means) and the first score of runs as a matplotlib Figure: a panel each, a colour a run."""
    lines: dict[str, dict[str, tuple]] = {}  # panel -> run -> x and y
    for run, history in histories.items():
        for name, values in history.losses.items():
            calm = viz.running_mean(np.asarray(values, dtype=float), max(1, len(values) // 50))
            lines.setdefault(name, {})[run] = history.first_step + np.arange(1, len(values) + 1), calm
        for name in list(history.scores[0][1])[:1] if history.scores else ():
            lines.setdefault(name, {})[run] = zip(*((k, v[name]) for k, v in history.scores if name in v), strict=True)
    if not lines:
        raise ValueError("No run has made a step yet, so there are no curves; train first.")
    page, panels = viz.panels(len(lines))
    order = list(histories)
    for panel, (name, of_runs) in zip(panels, lines.items(), strict=True):
        for run, (x, y) in of_runs.items():
            panel.plot(x, y, ".-" if len(x) < LAST else "-", color=f"C{order.index(run)}", label=run, linewidth=1.3)
        panel.set_ylabel(name)
        panel.legend(fontsize=8, frameon=False)
    panels[-1].set_xlabel("step (one generator update)")
    return page


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
        found = {label: _dataset(SETS[label], data_root) for label in ([key] if key else SETS)}
    for label, facts in found.items():
        print(label, *(f"  {fact}: " + "\n    ".join(lines) for fact, lines in facts.items()), sep="\n")
    return found


def _dataset(dataset: Dataset, root: Path | None) -> dict[str, list[str]]:
    """Where each split of a dataset is, and how to get what is missing."""
    found = {"what": [f"{dataset.title}: {dataset.unit}, {dataset.channels}×{dataset.size}×{dataset.size}"]}
    found |= {s: [f"{copy.where} · '{copy.files[0]}'" for copy in dataset.copies(s, root)] for s in dataset.splits}
    if missing := [split for split in dataset.splits if not found[split]]:
        found |= dict.fromkeys(missing, ["not on this machine"])
        where, found["to get it"] = runtime.data_roots(root)[0] / dataset.names[0], [dataset.missing]
        if files := dict.fromkeys(file for split in missing if dataset.files for file in dataset.files(split)):
            found["to get it"] += [f"It is downloaded when first asked for; or put these as they are into '{where}':"]
            found["to get it"] += [f"{url} ({file}, md5 {md5})" for file, url, md5 in files]
    return found


def _pictures(path: Path) -> dict[str, list[str]]:
    """How many pictures of which sizes and classes there are by their first bytes, and what is unreadable."""
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
