"""What a run is and how it went, and how several compare: tables for a terminal, and a picture of all their curves."""

from __future__ import annotations

import contextlib
import itertools
import math
import shlex
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from ganlib._runtime import device as runtime
from ganlib.runs import checkpoint, saved
from ganlib.train import History
from ganlib.viz import images as viz

LAST = 100  # steps that a last loss is the mean of
COLORS = (viz.D_COLOR, viz.G_COLOR, viz.REAL_COLOR, viz.FAKE_COLOR, *viz.OTHER_COLORS)
MOST = 20  # runs in one comparison
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "_u", "_v")  # of BatchNorm and spectral norm
OF_OPTIMISER = ("lr", "betas", "alpha", "momentum", "weight_decay")


def info(run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]) -> dict[str, str]:
    """Tell what a run is, how far it got, whether its checkpoints are intact, and how to resume it.

    Args:
        run: the run's folder.
    """
    run = Path(run)
    config, history = saved.config_of(run), saved.history_of(run)
    checkpoints, counts = _checkpoints(run)
    found = {"run": str(run), **_settings(config), **_progress(history, config["arguments"].get("steps"))}
    for name, count in counts.items():
        found[name] = f"{count:,} parameters · {found[name]}"
    with contextlib.suppress(ValueError):  # there are none
        snapshots = saved.snapshots_of(run)
        found["snapshots"] = f"{len(snapshots):,}, after steps {snapshots[0][0]:,} to {snapshots[-1][0]:,}"
    found |= checkpoints | {"ran on": _pairs(config["ran_on"])}
    resume = f"ganlib train --resume-path {shlex.quote(str(run))}" if config.get("config") else "where it was written"
    found["to resume"] = resume if counts else "no checkpoint is intact: train anew"
    wide = max(map(len, found))
    print("\n".join(f"{name:<{wide}}  {value}" for name, value in found.items()))
    return found


def _settings(config: dict) -> dict[str, str]:
    """What a run is: images, players, step, arguments, and what was changed on the way."""
    images, players = config["images"], config["players"]
    shape = " × ".join(map(str, [images["count"], *images["shape"]]))
    found = {"images": f"{images['source']} · {shape}"}
    for name in ("generator", "discriminator"):
        found[name] = _pairs(players[name]["config"] or {"its own, layers": len(players[name]["layers"])})
    for name in ("g_opt", "d_opt"):
        groups = [_pairs({k: group[k] for k in OF_OPTIMISER if k in group}) for group in players[name]["groups"]]
        found[name] = " · ".join([players[name]["kind"], *groups])
    found |= {"step": _pairs(config["step"]).removeprefix("step "), "settings": _pairs(config["arguments"])}
    return found | {f"after {change['after_step']:,}": " ".join(change["what"]) for change in config.get("changes", [])}


def _checkpoints(run: Path) -> tuple[dict[str, str], dict[str, int]]:
    """The state of each checkpoint, and how many parameters each network has by the newest intact one."""
    found, counts = {}, {}
    for path in (checkpoint.path_of(run, step) for step in checkpoint.steps_in(run)):
        try:
            state, weights = "intact", checkpoint.read_checkpoint(path)[0]
            sizes = [(k.partition("/")[0], v.numel()) for k, v in weights.items() if not k.endswith(BUFFERS)]
            counts = {name: sum(n for of, n in sizes if of == name) for name in ("generator", "discriminator")}
        except ValueError as error:
            state = str(error)
        found[path.stem] = f"{path.stat().st_size / 1e6:.1f} MB · {state}"
    return found, counts


def _progress(history: History, asked: int | None) -> dict[str, str]:
    """How far a run got and how it stands."""
    done, by_step = history.first_step + history.steps, dict(history.scores)
    epochs = f" · {done / history.steps_per_epoch:.1f} epochs" if history.steps_per_epoch else ""
    found = {"steps": f"{done:,}" + (f" of {asked:,}" if asked else "") + epochs, "time": f"{history.seconds:.3g} s"}
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
    runs = [Path(run) for run in runs]
    if not 2 <= len({run.resolve() for run in runs}) == len(runs) <= MOST:
        raise ValueError(
            f"A comparison takes 2 to {MOST} different runs, not {', '.join(map(str, runs))}; name others."
        )
    target = Path(out) if out is not None else runs[0] / "comparison.png"
    if target.suffix.lower() != ".png":
        raise ValueError(f"out is '{target}', but must be a file that ends in .png.")
    alone = len({run.resolve().name for run in runs}) == len(runs)
    configs = {run.resolve().name if alone else str(run): saved.config_of(run) for run in runs}
    histories = dict(zip(configs, map(saved.history_of, runs), strict=True))
    settings = {name: _settings(config) for name, config in configs.items()}
    rows = dict.fromkeys(row for some in settings.values() for row in some)
    varied = [row for row in rows if len({some.get(row) for some in settings.values()}) > 1]
    table = {name: {row: settings[name].get(row, "–") for row in varied} for name in configs}
    for name, history in histories.items():
        table[name] |= _progress(history, configs[name]["arguments"].get("steps"))
    for row in next(iter(table.values())):
        print("\n".join([row, *(f"  {name:<{max(map(len, table))}}  {cells[row]}" for name, cells in table.items())]))
    if any(history.losses or history.scores for history in histories.values()):
        path = runtime.new_file(target)
        figure(histories).savefig(path, dpi=viz.DPI)
        print(f"curves · '{path}'")
    else:
        print("No run has made a step yet, so there are no curves.")
    return table


def figure(histories: dict[str, History]):
    """The losses (running means) and the first score of runs as a matplotlib Figure: a panel each, a colour a run."""
    losses = dict.fromkeys(name for history in histories.values() for name, v in history.losses.items() if len(v))
    scores = dict.fromkeys(next(iter(history.scores[0][1])) for history in histories.values() if history.scores)
    if not losses and not scores:
        raise ValueError("No run has a loss or a score yet; train for at least one step.")
    page, panels = viz.panels(len(losses) + len(scores))
    for panel, name in zip(panels, [*losses, *scores], strict=True):
        drawn: list[float] = []
        for color, (run, history) in zip(itertools.cycle(COLORS), histories.items(), strict=False):
            how = dict(color=color, label=run, linewidth=1.3)
            if name in scores:
                pairs = [(step, values.get(name, math.nan)) for step, values in history.scores]
                panel.plot([step for step, _ in pairs], [value for _, value in pairs], "o-", markersize=3, **how)
                drawn += [value for _, value in pairs if math.isfinite(value)]
            elif values := history.losses.get(name):
                calm = viz.running_mean(np.asarray(values, dtype=float), max(1, len(values) // 50))
                panel.plot(history.first_step + np.arange(1, len(values) + 1), calm, **how)
        if drawn and 0 < 20 * min(drawn) < max(drawn):
            panel.set_yscale("log")
        panel.set_ylabel(name)
        panel.legend(fontsize=8, frameon=False)
    panels[-1].set_xlabel("step (one generator update)")
    return page
