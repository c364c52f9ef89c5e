"""What a run left in its folder, read without changing it: settings, losses, scores, snapshots, generators."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from ganlib.models import Generator
from ganlib.runs import checkpoint
from ganlib.runs.resuming import SAMPLE
from ganlib.train import History


def class_runs(run: Path) -> dict[str, Path]:
    """The runs in the subfolders of ``run`` by class, in the order of their names: none if it has no ``classes.json``.

    That file tells a run with one generator a class from a folder in which runs happen to lie together.
    """
    if not (run / "classes.json").is_file():
        return {}
    return {path.parent.name: path.parent for path in sorted(run.glob("*/config.json"))}


def config_of(run: Path) -> dict:
    """What ``config.json`` says of a run: see :func:`ganlib.runs.settings.describe`.

    Raises:
        ValueError: if it is damaged, or ``run`` holds several runs, one a class.
        FileNotFoundError: if there is no run.
        OSError: if the file cannot be read.
    """
    path = run / "config.json"
    if classes := class_runs(run):
        some = ", ".join(classes)
        raise ValueError(
            f"'{run}' holds several runs, one a class ({some}); name one: '{next(iter(classes.values()))}'."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        whole = all(isinstance(config[name], dict) for name in ("arguments", "players", "images", "ran_on"))
        shape = config["images"]["shape"]
        if whole and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape):
            return config
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(
            f"There is no run in '{run}': 'config.json' is missing; name the folder that a run was trained in."
        ) from error
    except OSError as error:
        raise type(error)(f"'{path}' cannot be read ({error.strerror}); give yourself the right to.") from error
    except (ValueError, KeyError, TypeError):
        pass  # each is a way of being damaged
    raise ValueError(f"'{path}' is damaged; the same settings are in the state.json of every checkpoint, as 'config'.")


def newest_facts(run: Path) -> dict | None:
    """What the newest checkpoint that can be read says besides tensors (see :func:`ganlib.runs.state.capture`), or None."""
    for step in reversed(checkpoint.steps_in(run)):
        with contextlib.suppress(FileNotFoundError, ValueError):
            return checkpoint.read_facts(checkpoint.step_folder(run, step))
    return None


def history_of(run: Path) -> History:
    """The losses and scores of a run, without its snapshots; it may still be going on.

    The time and what one epoch is are those of its newest checkpoint: 0 without one.

    Raises:
        ValueError, OSError: as :func:`config_of`.
    """
    config, facts = config_of(run), newest_facts(run) or {}
    of_checkpoint, arguments = facts.get("history", {}), config["arguments"]
    losses, scores = _lines(run / "history.jsonl", alike=True), _lines(run / "metrics.jsonl", alike=False)
    names = [name for name in (losses[0] if losses else {}) if name != "step"]
    history = History(
        batch_size=arguments.get("batch_size"),
        steps_per_epoch=0.0,
        device=arguments.get("device"),
        precision=arguments.get("precision"),
        first_step=losses[0]["step"] - 1 if losses else 0,
        batches=of_checkpoint.get("batches", 0),
        losses={name: [line[name] for line in losses] for name in names},
        scores=[(line.pop("step"), line) for line in scores],
        seconds=of_checkpoint.get("seconds", 0.0),
    )
    if history.batches and history.batch_size:
        made = facts["steps_done"] - history.first_step
        history.steps_per_epoch = config["images"]["count"] // history.batch_size * made / history.batches
    return history


def _lines(path: Path, alike: bool) -> list[dict]:
    """The records of a .jsonl file, up to the first that is broken: what a run that goes on is just writing.

    With ``alike`` one that lacks what the first has is broken, too.
    """
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
            if number < len(content):
                print(f"Line {number:,} of '{path}' is damaged; what follows is left out.")
            break
        found.append(record)
    return found


def snapshots_of(run: Path) -> list[tuple[int, Path]]:
    """The step and the file of every snapshot of a run, the oldest first; none are opened.

    Raises:
        ValueError: if there are none.
        ValueError, OSError: as :func:`config_of`.
    """
    config_of(run)
    there = (run / "samples").iterdir() if (run / "samples").is_dir() else ()
    found = sorted((int(match[1]), path) for path in there if (match := SAMPLE.match(path.name)))
    if not found:
        raise ValueError(
            f"The run in '{run}' has no snapshots in 'samples'; let it take some while it trains: snapshot_at=... in a "
            "notebook, --snapshot-every on the command line."
        )
    return found


def generators_of(run: Path, klass: str | None = None, name: str = "ema_generator") -> dict[str, Generator]:
    """The generators of a run's newest whole checkpoint, on the CPU, in eval mode.

    Args:
        run: the folder of a run, of a run with one generator a class, or of a single checkpoint.
        klass: the class whose generator is wanted; None for all.
        name: ``"ema_generator"`` (the running average) or ``"generator"``.

    Returns:
        class -> network [B, z_dim] -> images [B, C, H, W] in [-1, 1]; the class is ``""`` where there is one for all.

    Raises:
        ValueError: if there is no such class, or no checkpoint is whole.
        FileNotFoundError: if there is no checkpoint.
    """
    classes = class_runs(run)
    if klass is not None and not classes:
        raise ValueError(f"'{run}' has one generator for all its images, not one a class: ask for no class.")
    if klass is not None and klass not in classes:
        raise ValueError(f"'{run}' has no class '{klass}'; it has: {', '.join(classes)}.")
    wanted = {klass: classes[klass]} if klass is not None else classes or {"": run}
    return {label: checkpoint.load_generator(folder, name) for label, folder in wanted.items()}
