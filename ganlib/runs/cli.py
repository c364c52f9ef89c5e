"""The command line: ``ganlib COMMAND ...``, and ``python -m ganlib`` the same.

Each command is a function; tyro makes its flags from the function's parameters and its help from the docstrings. A
function's module is imported only when its command is called, so that help comes at once.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import inspect
import io
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Literal, NamedTuple

import tyro

from ganlib.runs.config import Config, Game, Images, Keeping, Networks, Training
from ganlib.runs.presets import PRESETS

WRONG, FAILED, INTERRUPTED = 2, 1, 130  # exit codes: of wrong input, of a run that failed, and after Ctrl-C
SETTINGS = [field.name for field in fields(Config)]


class Command(NamedTuple):
    """A command: where its function is, and what it is for."""

    function: str
    summary: str


COMMANDS = {
    "train": Command("ganlib.runs.cli:train", "train a GAN, or go on training one"),
    "generate": Command("ganlib.runs.pictures:generate", "draw images with a run's generator"),
    "gif": Command("ganlib.runs.pictures:gif", "make a film of a run's training"),
    "interpolate": Command("ganlib.runs.pictures:interpolate", "make a film of a walk through the latent space"),
    "reconstruct": Command("ganlib.runs.reconstructing:reconstruct", "find what each checkpoint makes of given images"),
    "evaluate": Command("ganlib.runs.evaluation:evaluate", "score a run's generator"),
    "info": Command("ganlib.runs.reports:info", "tell what a run is and how it stands"),
    "compare": Command("ganlib.runs.reports:compare", "compare runs: a table, and their curves"),
    "data": Command("ganlib.runs.inventory:data", "tell which image sets are here, and how to get others"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and say in a line or two what is wrong if something is.

    Args:
        argv: the words after ``ganlib``; None for those of this process.

    Returns:
        the exit code: 0; 2 for wrong input, 1 for a run that failed, 130 after Ctrl-C.
    """
    name, *words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        _overview()
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(COMMANDS)}."
        return _complain(f"There is no command '{name}'; {hint}", WRONG)
    try:
        call = _parse(name, words)
        code = call() if call else 0
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return _complain("Interrupted.", INTERRUPTED)
    except FloatingPointError as error:  # a run that diverged
        return _complain(error, FAILED)
    except (ValueError, OSError, ImportError) as error:
        return _complain(error, WRONG)
    except (MemoryError, RuntimeError) as error:
        if "memory" not in str(error) and not isinstance(error, MemoryError):
            raise
        return _complain("There is not enough memory for this: take smaller batches, widths or images.", FAILED)


def train(
    *,
    preset: Literal[tuple(PRESETS)] | None = None,
    images: Images,
    networks: Networks,
    game: Game,
    training: Training,
    keeping: Keeping,
    words: tyro.conf.Suppress[tuple[str, ...]] = (),
) -> int:
    """Train a GAN, or go on training one: ganlib train --dataset photos/ --epochs 20, and after an interruption
    ganlib train --resume-path runs/photos.

    Args:
        preset: settings to start from, those of a run of the course; other flags come on top.
        images, networks, game, training, keeping: the settings, by heading.
        words: what was typed, to tell which settings were given.
    """
    from ganlib.runs import running

    parsed = {
        name: value for group in (images, networks, game, training, keeping) for name, value in vars(group).items()
    }
    history = running.run(preset=preset, **{name: parsed[name] for name in _given(words)})
    histories = history.values() if isinstance(history, dict) else [history] if history else []
    return INTERRUPTED if any(map(running.interrupted, histories)) else 0


def _given(words: Sequence[str]) -> list[str]:
    """The settings that a command line names. (That of a preset or a run may be other than the default.)"""
    flags = [word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")]
    named = [flag if flag in SETTINGS else flag.removeprefix("no_") for flag in flags]
    return [name for name in dict.fromkeys(named) if name in SETTINGS]


def _parse(name: str, words: list[str]) -> Callable[[], object] | None:
    """The call that a command line means; None if it asked for help, which is then printed.

    Raises:
        ValueError: if it cannot be understood, in one sentence.
    """
    command = COMMANDS[name]
    module, _, title = command.function.partition(":")
    function = getattr(importlib.import_module(module), title)

    @functools.wraps(function)
    def later(*args, **kwargs):
        return functools.partial(function, *args, **kwargs)

    how = (tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone)
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            call = tyro.cli(later, args=words, prog=f"ganlib {name}", config=how)
    except SystemExit as stopped:
        if stopped.code:
            raise ValueError(f"{_in_short(told.getvalue())} ('ganlib {name} --help' lists what there is.)") from None
        return None
    return functools.partial(call, words=tuple(words)) if "words" in inspect.signature(function).parameters else call


def _in_short(box: str) -> str:
    """tyro's message about wrong words, many lines in a box, as a sentence."""
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()]
    parts: list[list[str]] = [[]]
    for line in filter(None, lines):
        if set(line) <= {"─", "-"}:
            parts.append([])
        elif not line.startswith("─"):  # that is the title, in the upper border; without borders it is a part
            parts[-1].append(line)
    message, *more = parts if "╭" in box else parts[1:]
    text = re.sub(r"\[/?\w*\]", "", " ".join(message).partition(" Got errors:")[0])
    text = re.sub(r"no type matching (\S.*?) could be instantiated from \[(.*)\]", r"it takes \1, not \2", text)
    near = [line.split()[0].rstrip(",") for part in more for line in part if re.match(r"--\w", line)]
    return text.rstrip(".") + "." + (f" Did you mean {near[0]}?" if near and "Perhaps" in box else "")


def _complain(error: object, code: int) -> int:
    """One line on stderr, its settings spelt as flags; ``code``."""
    text = " ".join(str(error).split()) or type(error).__name__
    for name in SETTINGS:
        flag = "--" + name.replace("_", "-")
        text = re.sub(rf"(?<![\w/'.-]){name}=(True\b)?", lambda m, flag=flag: flag if m[1] else f"{flag} ", text)
        text = re.sub(rf"(?<![\w/'.-]){name}\b(?![\w/'.-])", flag, text) if "_" in name else text
    print(f"ganlib: {text}", file=sys.stderr)
    return code


def _overview() -> None:
    print("usage: ganlib COMMAND ...\n\nGenerative adversarial networks: train, look, judge.\n")
    for name, command in COMMANDS.items():
        print(f"  {name:<12} {command.summary}")
    print("\n'ganlib COMMAND --help' lists what a command takes.")
