"""The command line: ``ganlib COMMAND ...``, and ``python -m ganlib`` the same.

tyro makes flags and help from each command's function. Its module is imported only when called, so help is instant.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import tyro

from ganlib.runs.config import GROUPS, LENGTH, MEANT, Config, Game, Images, Keeping, Networks, Training, suggest
from ganlib.runs.presets import PRESETS

WRONG, FAILED, INTERRUPTED = 2, 1, 130  # exit codes: invalid input, a failed run, Ctrl-C
HOW = (tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone)

# Command -> where its function is, and what it does.
COMMANDS = {
    "train": ("ganlib.runs.training:train", "train a GAN, or resume a run"),
    "generate": ("ganlib.runs.pictures:generate", "draw images with a run's generator"),
    "gif": ("ganlib.runs.pictures:gif", "make a film of a run's training"),
    "interpolate": ("ganlib.runs.pictures:interpolate", "make a film of a walk through the latent space"),
    "reconstruct": ("ganlib.runs.pictures:reconstruct", "reconstruct given images with each checkpoint"),
    "evaluate": ("ganlib.runs.evaluation:evaluate", "score a run's generator"),
    "info": ("ganlib.runs.reports:info", "show what a run is and how far it got"),
    "diagnose": ("ganlib.runs.evaluation:diagnose", "say what is wrong with a run"),
    "compare": ("ganlib.runs.reports:compare", "compare runs: a table, and their curves"),
    "data": ("ganlib.runs.inventory:data", "list the datasets here, and how to get others"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code; errors go to stderr."""
    name, *words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print("usage: ganlib COMMAND ...; 'ganlib COMMAND --help' lists what a command takes.\n")
        print("\n".join(f"  {name:<12} {summary}" for name, (_, summary) in COMMANDS.items()))
        return 0
    if name not in COMMANDS:
        return _complain(f"There is no command {suggest(name, COMMANDS)}", WRONG)
    try:
        if name == "train":
            return _train(words)
        tyro.cli(_function(name), args=words, prog=f"ganlib {name}", config=HOW)
        return 0
    except SystemExit as stopped:  # tyro has printed its help, or an error
        return stopped.code
    except KeyboardInterrupt:
        return _complain("Interrupted.", INTERRUPTED)
    except (FloatingPointError, ConnectionError) as error:  # a run that diverged, or lost a process
        return _complain(error, FAILED)
    except (ValueError, OSError, ImportError) as error:
        return _complain(error, WRONG)
    except (MemoryError, RuntimeError) as error:
        if "memory" not in str(error) and not isinstance(error, MemoryError):
            raise
        return _complain("There is not enough memory for this: take smaller batches, widths or images.", FAILED)


def _function(name: str):
    module, _, function = COMMANDS[name][0].partition(":")
    return getattr(importlib.import_module(module), function)


@dataclass(frozen=True, kw_only=True)
class _Train:
    """Train a GAN (--dataset photos/ --epochs 20) or resume it (--resume-path runs/x)."""

    preset: Literal[tuple(PRESETS)] | None = None  # settings to start from: those of a run in the course
    images: Images
    networks: Networks
    game: Game
    training: Training
    keeping: Keeping


def _train(words: Sequence[str]) -> int:
    """Parse the settings on top of a preset, or of the resumed run's, and train."""
    base, preset = Config(), None
    for name in (word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")):
        if name in MEANT:
            raise ValueError(f"There is no --{name.replace('_', '-')}; did you mean {MEANT[name]}=VALUE?")
    for _ in range(2):  # first parse: which settings to start from
        default = replace(base, **dict.fromkeys(LENGTH))  # whichever is given replaces all three
        groups = {g.__name__.lower(): g(**{f.name: getattr(default, f.name) for f in fields(g)}) for g in GROUPS}
        how = dict(default=_Train(preset=preset, **groups), config=HOW)
        parsed = tyro.cli(_Train, args=words, prog="ganlib train", **how)
        now = {name: value for group in groups for name, value in vars(getattr(parsed, group)).items()}
        given = {name: value for name, value in now.items() if value != getattr(default, name)}
        if (run := now["resume_path"] or now["from_run"]) is not None:
            base = importlib.import_module("ganlib.runs.training").stored(run)
        elif parsed.preset:
            preset, base = parsed.preset, PRESETS[parsed.preset]
    history = _function("train")(preset=parsed.preset, **given)
    ended = (getattr(history, "stopped", None) or "").partition(" ")[0]
    return {"interrupted": INTERRUPTED, "unsaved": FAILED}.get(ended, 0)


def _complain(error: object, code: int) -> int:
    """Print one line on stderr, with settings spelt as flags; return ``code``."""

    def flag(match: re.Match) -> str:
        name, equals = match.groups()
        return f"--{name.replace('_', '-')}{' ' * (equals == '=')}" if equals or "_" in name else name

    names = "|".join(field.name for field in fields(Config))
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(rf"(?<![\w/'.-])({names})(=True\b|=|\b(?![\w/'.-]))", flag, text)
    print(f"ganlib: {text}", file=sys.stderr)
    return code
