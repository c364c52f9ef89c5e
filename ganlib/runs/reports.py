"""What a run is and how it went, and how several compare: tables for a terminal, and a picture of all their curves."""

from __future__ import annotations

import contextlib
import itertools
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from ganlib._runtime import device as runtime
from ganlib.models import count_parameters
from ganlib.runs import checkpoint, resuming, saved, settings
from ganlib.train import History
from ganlib.viz import images as viz

LAST = 100  # steps that a last loss is the mean of
COLORS = (viz.D_COLOR, viz.G_COLOR, viz.REAL_COLOR, viz.FAKE_COLOR, *viz.OTHER_COLORS)
MOST = 20  # runs in one comparison
VERSIONS = ("ganlib", "torch", "numpy", "safetensors", "python", "git", "processor", "threads")


def info(run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]) -> dict:
    """Tell what a run is, how far it got, whether its checkpoints are whole, and how to go on with it.

    Args:
        run: the run's folder.

    Returns:
        the same by name, as texts; of a run with one generator a class by class, and then by name.

    Raises:
        ValueError: if ``config.json`` is damaged.
        FileNotFoundError: if there is no run.
        OSError: if it cannot be read.
    """
    run = Path(run)
    if classes := saved.class_runs(run):
        print(f"'{run}' has one generator a class: {', '.join(classes)}")
        print(f"to go on with all of them: ganlib train --resume-path {shlex.quote(str(run))}")
        every = {}
        for label, folder in classes.items():
            print()
            every[label] = info(folder)
        return every
    config, history = saved.config_of(run), saved.history_of(run)
    images, arguments, ran_on = config["images"], config["arguments"], config["ran_on"]
    found = {
        "run": str(run),
        "images": f"{images['source']} · {' × '.join(map(str, [images['count'], *images['shape']]))}",
    }
    found |= _players(run, config)
    found["step"] = str(config.get("step"))
    found["settings"] = _pairs({name: value for name, value in arguments.items() if value is not None})
    for change in config.get("changes", []):
        found[f"after {change['after_step']:,}"] = " ".join(change["what"])
    found |= _progress(history, arguments.get("steps"))
    with contextlib.suppress(ValueError):  # there are none
        snapshots = saved.snapshots_of(run)
        found["snapshots"] = f"{len(snapshots):,}, after steps {snapshots[0][0]:,} to {snapshots[-1][0]:,}"
    whole = []
    for step in checkpoint.steps_in(run):
        folder = checkpoint.step_folder(run, step)
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        try:
            checkpoint.read(folder)
            whole.append(step)
            state = "whole"
        except (FileNotFoundError, ValueError) as error:
            state = str(error)
        found[folder.name] = f"{size / 1e6:.1f} MB · {state}"
    if ran_on.get("git"):
        ran_on["git"] = ran_on["git"][:10] + "+" * ran_on["git"].endswith("+")
    found["ran on"] = _pairs({name: ran_on.get(name) for name in VERSIONS if ran_on.get(name) is not None})
    found["to go on"] = (
        f"ganlib train --resume-path {shlex.quote(str(run))}" if whole else "no checkpoint is whole: train anew"
    )
    wide = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{wide}}  {value}")
    return found


def _players(run: Path, config: dict) -> dict[str, str]:
    """Both networks with their parameters, and both optimisers."""
    players = config["players"]
    try:
        gan, _ = resuming.rebuild(run)
        counts = {
            name: f"{count_parameters(getattr(gan, name)):,} parameters" for name in ("generator", "discriminator")
        }
    except (ValueError, OSError):  # players of a notebook's own, of which config.json has only what they look like
        counts = {}
    found = {}
    for name in ("generator", "discriminator"):
        about = players.get(name) or {}
        built = _pairs(about["config"]) if about.get("config") else f"its own, {len(about.get('layers', []))} lines"
        found[name] = " · ".join([counts.get(name, "parameters not known"), built])
    for name in ("g_opt", "d_opt"):
        about = players.get(name) or {}
        groups = [
            _pairs({k: v for k, v in group.items() if k in ("lr", "betas", "alpha", "momentum", "weight_decay")})
            for group in about.get("groups", [])
        ]
        found[name] = " · ".join([str(about.get("kind")), *groups])
    return found


def _progress(history: History, asked: int | None) -> dict[str, str]:
    """How far a run got and how it stands."""
    done = history.first_step + history.steps
    epochs = f" · {done / history.steps_per_epoch:.1f} epochs" if history.steps_per_epoch else ""
    found = {"steps": f"{done:,}" + (f" of {asked:,}" if asked else "") + epochs}
    found["time"] = _time(history)
    last = {name: f"{np.mean(values[-LAST:]):.3g}" for name, values in history.losses.items()}
    found["last losses"] = f"{_pairs(last)} (mean of {min(LAST, history.steps):,} steps)" if last else "none yet"
    by_step = dict(history.scores)
    for name, step in (("best score", history.best), ("last score", max(by_step, default=None))):
        values = {score: f"{value:.4g}" for score, value in by_step.get(step, {}).items()}
        found[name] = f"{_pairs(values)} after step {step:,}" if values else "none"
    return found


def _time(history: History) -> str:
    return f"{history.seconds:,.0f} s" if history.seconds >= 10 else f"{history.seconds:.2g} s"


def _pairs(values: dict) -> str:
    return " · ".join(f"{name} {_plain(value)}" for name, value in values.items())


def _plain(value) -> str:
    """A setting as short as it can be told."""
    if isinstance(value, dict) and value.keys() == {"start", "stop", "step"}:  # a range of steps
        return f"every {value['step']:,}" if value["stop"] > value["step"] else "none"
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) if len(value) <= 4 else f"{len(value)} of them"
    return "–" if value is None else str(value)


def compare(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN RUN ...")],
    *,
    out: Path | None = None,
) -> dict[str, dict]:
    """Compare runs: a table of what differs and how they went, and a picture with the curves of all.

    Args:
        runs: the folders of two or more runs.
        out: the PNG; a number is added if it is taken. None for one in the first run's folder.

    Returns:
        run -> name of a row of the table -> text.

    Raises:
        ValueError: if there are fewer than two, two are the same, or ``config.json`` of one is damaged.
        FileNotFoundError: if one is not there.
        OSError: if nothing can be written there.
    """
    runs = [Path(run) for run in runs]
    if not 2 <= len(runs) <= MOST:
        raise ValueError(
            f"To compare takes 2 to {MOST} runs, and there are {len(runs)}; name the folders of more than one."
        )
    if twice := next((run for run in runs if [r.resolve() for r in runs].count(run.resolve()) > 1), None):
        raise ValueError(f"'{twice}' is named twice; name different runs.")
    target = Path(out) if out is not None else runs[0] / "comparison.png"
    if target.suffix.lower() != ".png":
        raise ValueError(f"out is '{target}', but must be a file that ends in .png.")
    configs, histories = [saved.config_of(run) for run in runs], [saved.history_of(run) for run in runs]
    names = _names(runs)
    table: dict[str, dict] = {name: {} for name in names}
    for setting, values in settings.varied(configs).items():
        for name, value in zip(names, values, strict=True):
            table[name][setting] = _plain(value)
    for name, config, history in zip(names, configs, histories, strict=True):
        table[name] |= _progress(history, config["arguments"].get("steps"))
    _print(table)
    if any(history.losses or history.scores for history in histories):
        path = runtime.new_file(target)
        figure(dict(zip(names, histories, strict=True))).savefig(path, dpi=viz.DPI)
        print(f"curves · '{path}'")
    else:
        print("No run has made a step yet, so there are no curves.")
    return table


def _names(runs: Sequence[Path]) -> list[str]:
    """The last parts of the paths of ``runs``, as few as tell them apart."""
    parts = [run.resolve().parts for run in runs]
    for k in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-k:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def _print(table: dict[str, dict]) -> None:
    """A row for each setting and result, a column for each run; cells that are too long to stand side by side, below
    each other."""
    names = list(table)
    rows = list(dict.fromkeys(row for values in table.values() for row in values))
    first = max(map(len, rows))
    wide = [max(len(name), *(len(table[name].get(row, "–")) for row in rows)) for name in names]
    if first + sum(wide) + 2 * len(wide) <= 120:
        print("  ".join([" " * first, *(f"{name:<{w}}" for name, w in zip(names, wide, strict=True))]).rstrip())
        for row in rows:
            cells = [f"{table[name].get(row, '–'):<{w}}" for name, w in zip(names, wide, strict=True)]
            print("  ".join([f"{row:<{first}}", *cells]).rstrip())
        return
    longest = max(map(len, names))
    for row in rows:
        print(row)
        for name in names:
            print(f"  {name:<{longest}}  {table[name].get(row, '–')}")


def figure(histories: dict[str, History]):
    """The losses and the first score of several runs as a matplotlib Figure: a panel each, a colour a run.

    Each loss is drawn as the mean of the steps around it, a fiftieth of its run.

    Args:
        histories: name of a run -> what :func:`ganlib.runs.saved.history_of` or ``fit`` gives.

    Raises:
        ValueError: if there is nothing to draw.
    """
    losses = dict.fromkeys(name for history in histories.values() for name, v in history.losses.items() if len(v))
    firsts = {run: next(iter(history.scores[0][1]), None) for run, history in histories.items() if history.scores}
    scores = dict.fromkeys(name for name in firsts.values() if name)
    if not losses and not scores:
        raise ValueError("No run has a loss or a score yet; train for at least one step.")
    page, panels = viz.panels(len(losses) + len(scores))
    colors = dict(zip(histories, itertools.cycle(COLORS), strict=False))
    for panel, loss in zip(panels, losses, strict=False):
        for run, history in histories.items():
            if values := history.losses.get(loss):
                x = history.first_step + np.arange(1, len(values) + 1)
                calm = viz.running_mean(np.asarray(values, dtype=float), max(1, len(values) // 50))
                panel.plot(x, calm, color=colors[run], linewidth=1.4, label=run, alpha=0.9)
        panel.set_ylabel(loss)
    for panel, score in zip(panels[len(losses) :], scores, strict=True):
        drawn = []
        for run, history in histories.items():
            pairs = [
                (step, values[score]) for step, values in history.scores if math.isfinite(values.get(score, math.nan))
            ]
            if pairs:
                panel.plot(*zip(*pairs, strict=True), "o-", color=colors[run], markersize=3, linewidth=1.2, label=run)
                drawn += [value for _, value in pairs]
        if drawn and min(drawn) > 0 and max(drawn) > 20 * min(drawn):
            panel.set_yscale("log")
        panel.set_ylabel(score)
    for panel in panels:
        panel.legend(fontsize=8, frameon=False)
    panels[-1].set_xlabel("step (one generator update)")
    return page
