"""What a run is, how it went, and how several compare: tables and curves."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from torch import Tensor

from ganlib.runs import checkpoint, folder
from ganlib.train import History
from ganlib.viz import images as viz

LAST = 100  # steps over which a last loss is averaged
OF_OPTIMISER = ("lr", "betas", "alpha", "momentum", "weight_decay")


def info(run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]) -> dict[str, str]:
    """Show what a run is, how far it got, and how to resume it.

    Args:
        run: the run's folder.
    """
    run = Path(run)
    config, history, intact = folder.config_of(run), folder.history_of(run), None
    found = {"run": str(run), **_settings(config), **_progress(history)}
    if asked := config["arguments"].get("steps"):
        found["steps"] += f" of {asked:,}"
    found |= {f"doctor, {step:,}": text for step, _, text in history.findings}
    found |= {"snapshots": str(len(folder.snapshots_in(run))), "ran on": _pairs(config["ran_on"])}
    for step, path in ((step, checkpoint.path_of(run, step)) for step in checkpoint.steps_in(run)):
        try:
            checkpoint.read_checkpoint(path)
            found[path.stem], intact = "intact", step
        except ValueError as error:
            found[path.stem] = str(error)
    resume = f"ganlib train --resume-path {shlex.quote(str(run))}" if config.get("config") else "where it was written"
    found["to resume"] = resume if intact is not None else "no checkpoint is intact: train anew"
    if intact is not None and config.get("config"):
        found["to go back"] = f"ganlib train --from {shlex.quote(str(run))} --step {intact} --out NEW --g-lr ..."
    wide = max(map(len, found))
    print("\n".join(f"{name:<{wide}}  {value}" for name, value in found.items()))
    return found


def _settings(config: dict) -> dict[str, str]:
    """What a run is: images, players, step, arguments, and changes since its start."""
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
    """Names and values in one line, without those that are None."""
    texts = {k: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for k, v in values.items() if v is not None}
    return " · ".join(f"{name} {text}" for name, text in texts.items())


def compare(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN RUN ...")],
    *,
    out: Path | None = None,
) -> dict[str, dict[str, str]]:
    """Compare runs: a table of their differences and results, and a plot of curves.

    Args:
        runs: the folders of two or more runs.
        out: the PNG, numbered if it exists. Default: one in the first run's folder.
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
    _curves(histories).savefig(path)
    print(f"curves · '{path}'")
    return table


def _curves(histories: dict[str, History]):
    """The losses (running means) and first score of runs as a Figure, one panel each."""
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


def film(name: str, run: str) -> list[tuple[int, Tensor]]:
    """Samples of a run that comes with ganlib, (step, uint8 [n, C, H, W]): one frame for each moment of its record."""
    moments, images = checkpoint.record(name)[run], folder.read_snapshot(checkpoint.shipped(f"{name}-{run}", ".png"))
    frames = images.split(len(images) // len(moments))
    return [(moment["step"], frame) for moment, frame in zip(moments, frames, strict=True)]
