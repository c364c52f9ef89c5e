"""What a run left in its folder, read without changing it: settings, losses, scores, snapshots."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path

from ganlib.runs import checkpoint, samples
from ganlib.train import History

log = logging.getLogger("ganlib")


def config_of(folder: Path) -> dict:
    """What ``config.json`` says of a run (see ganlib.runs.settings.describe); ValueError if it is damaged."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        intact = all(isinstance(config[name], dict) for name in ("arguments", "players", "step", "images", "ran_on"))
        shape = config["images"]["shape"]
        if intact and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape):
            return config
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(
            f"There is no run in '{folder}': 'config.json' is missing; name the folder that a run was trained in."
        ) from error
    except OSError as error:
        raise type(error)(f"'{path}' cannot be read ({error.strerror}); give yourself the right to.") from error
    except (ValueError, KeyError, TypeError):
        pass  # each is a way of being damaged
    raise ValueError(f"'{path}' is damaged; every checkpoint has the same settings in its metadata, as 'config'.")


def newest_facts(folder: Path) -> dict | None:
    """What the newest checkpoint that can be opened says besides tensors, or None."""
    for step in reversed(checkpoint.steps_in(folder)):
        with contextlib.suppress(FileNotFoundError, ValueError):
            return checkpoint.read_facts(checkpoint.path_of(folder, step))
    return None


def history_of(folder: Path) -> History:
    """The losses and scores of a run, without its snapshots; it may still be under way.

    Its time, its epochs and what its best score is come from the newest checkpoint.
    """
    config, facts = config_of(folder), newest_facts(folder) or {}
    arguments, of_checkpoint = config["arguments"], facts.get("history", {})
    losses, scores = _records(folder / "history.jsonl", alike=True), _records(folder / "metrics.jsonl", alike=False)
    history = History(
        batch_size=arguments.get("batch_size"),
        steps_per_epoch=0.0,
        device=arguments.get("device"),
        precision=arguments.get("precision"),
        first_step=losses[0]["step"] - 1 if losses else 0,
        batches=of_checkpoint.get("batches", 0),
        losses={n: [line[n] for line in losses] for n in (losses[0] if losses else {}) if n != "step"},
        scores=[(line.pop("step"), line) for line in scores],
        best_by=of_checkpoint.get("best_by"),
        seconds=of_checkpoint.get("seconds", 0.0),
    )
    if history.batches and history.batch_size:
        made = facts["steps_done"] - history.first_step
        history.steps_per_epoch = config["images"]["count"] // history.batch_size * made / history.batches
    return history


def _records(path: Path, alike: bool) -> list[dict]:
    """The records of a .jsonl file, up to the first that is broken or, with ``alike``, lacks what the first has."""
    try:
        content = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found: list[dict] = []
    for number, line in enumerate(content, 1):
        try:
            record = json.loads(line)
            if not isinstance(record["step"], int) or (alike and found and record.keys() != found[0].keys()):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            if number < len(content):  # the last one may just be being written
                log.warning(f"Line {number:,} of '{path}' is damaged; what follows is left out.")
            break
        found.append(record)
    return found


def snapshots_of(folder: Path) -> list[tuple[int, Path]]:
    """The step and the file of every snapshot of a run, the oldest first; ValueError if there are none."""
    config_of(folder)
    if found := samples.snapshot_files(folder / "samples"):
        return found
    raise ValueError(
        f"The run in '{folder}' has no snapshots in 'samples'; let it take some while it trains: snapshot_every=... in "
        "a notebook, --snapshot-every on the command line."
    )
