"""Going back to a checkpoint of a run: a branch from it, and what a run that diverged says about it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
from pathlib import Path

from ganlib._runtime import device as runtime
from ganlib._runtime import durable
from ganlib.runs import checkpoint
from ganlib.runs.snapshots import snapshots_in
from ganlib.steps import GAN
from ganlib.train import History

DIVERGED = "diverged.json"  # in the folder of a run that has: at which step, and how to go back


def branch(run: str | os.PathLike, new: str | os.PathLike, step: int | None = None) -> Path:
    """Make a new run of what ``run`` had at one of its checkpoints (default: the newest).

    Continue it with other settings: ``fit(..., run=Run(new, resume=True, allow_changes=True))``. The old run stays.
    """
    run, new = Path(run), Path(new)
    source = checkpoint.path_at(run, step)
    _, facts = checkpoint.newest(source)
    if new.exists() and any(new.iterdir()):
        raise FileExistsError(f"'{new}' is not empty; choose another folder for the branch.")
    for part in ("checkpoints", "samples"):
        runtime.check_writable(new / part)
    done = facts["steps_done"]
    for at, path in snapshots_in(run):
        if at <= done:
            shutil.copy2(path, new / "samples")
    text = json.dumps(facts["config"], indent=2, ensure_ascii=False)
    durable.write(new / "config.json", f"{text}\n".encode(errors="backslashreplace"))
    shutil.copy2(checkpoint.path_of(run, done), new / "checkpoints")
    return new


def note_divergence(folder: Path, gan: GAN, history: History, by_command: bool) -> str:
    """Note in its folder that a run has diverged; return how to go back."""
    steps = checkpoint.steps_in(folder)
    if not steps:
        return f"'{folder}' has no checkpoint from before: train anew, in another folder."
    old, new = (shlex.quote(f"{folder}{ending}") for ending in ("", "-2"))
    rates = [f"--{name}-lr {getattr(gan, f'{name}_opt').param_groups[0]['lr'] / 2:g}" for name in "gd"]
    how = f"ganlib.runs.branch({str(folder)!r}, NEW, step={steps[-1]}), then Run(NEW, resume=True, allow_changes=True)"
    if by_command:
        how = f"ganlib train --from {old} --step {steps[-1]} --out {new} {' '.join(rates)}"
    how = f"To go back to step {steps[-1]:,} (there are {', '.join(f'{step:,}' for step in steps)}):  {how}"
    with contextlib.suppress(OSError):
        about = {"step": history.first_step + history.steps + 1, "to go back": how}
        durable.write(folder / DIVERGED, json.dumps(about).encode())
    return how


def check_not_diverged(folder: Path) -> None:
    """Refuse to resume a run that has diverged: with the same settings it would do it again."""
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        found = json.loads((folder / DIVERGED).read_text(encoding="utf-8"))
        what = f"The run in '{folder}' diverged at step {found['step']:,}, and would again. {found['to go back']}"
        raise FileExistsError(f"{what}  Or, if what was wrong is mended, resume it with allow_changes=True.")


def check_nothing_is_gone(folder: Path) -> None:
    """Refuse to begin anew over a run that has lost its checkpoints."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError, IndexError, KeyError, TypeError):
        arguments = json.loads((folder / "config.json").read_text(encoding="utf-8-sig"))["arguments"]
        done = json.loads((folder / "history.jsonl").read_text(encoding="utf-8").splitlines()[-1])["step"]
        first = min(arguments["checkpoint_every"], arguments["steps"] or done + 1)
        if done > first or not (folder / "checkpoints").is_dir():  # at the first, it may have been killed in the save
            raise FileExistsError(
                f"'{folder}' is a run of {done:,} steps whose checkpoints are gone: put them back into "
                f"'{folder / 'checkpoints'}', or train anew in another folder."
            )
