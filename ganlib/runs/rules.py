"""Which settings of a run can work together: told before anything is loaded. It imports no torch."""

from __future__ import annotations

import difflib
import math
import os
import types
import typing
from dataclasses import asdict, fields, replace

from ganlib.runs.config import FREE, LENGTH, LOSSES, Config

ONE_IMAGE = ("wgan-gp", "rpgan")  # their penalties are of each image for itself, which BatchNorm mixes
AT_LEAST = {
    **dict.fromkeys(("n", "z_dim", "g_width", "d_width", "d_depth", "n_critic", "r1_every"), 1),
    **dict.fromkeys(("epochs", "steps", "batch_size", "processes", "workers"), 1),
    **dict.fromkeys(("print_every", "snapshot_every", "checkpoint_every"), 1),
    **dict.fromkeys(("score_every", "gp_weight", "r1_gamma", "r2_gamma", "ema_decay", "seed", "categories"), 0),
    **{"image_size": 8, "base": 2},
}
BELOW = {"ema_decay": 1, "seed": 2**30, "image_size": 2**15} | dict.fromkeys(("z_dim", "g_width", "d_width"), 2**20)
ABOVE_0 = ("g_lr", "d_lr", "clip_value", "seconds")


def change(config: Config, given: dict) -> Config:
    """``config`` with other settings; one of epochs, steps and seconds takes the place of all three.

    Raises:
        ValueError: if there is no setting of a name (the nearest is told), or a value is none it can have.
    """
    names = [f.name for f in fields(Config)]
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; there are: {', '.join(sorted(names))}."
            raise ValueError(f"There is no setting '{name}'{hint}")
    anew = dict.fromkeys(LENGTH) if set(LENGTH) & given.keys() else {}
    return check(replace(config, **anew | {name: _as_written(value) for name, value in given.items()}))


def from_json(plain: dict) -> Config:
    """The Config of which ``plain`` is ``dataclasses.asdict``, after JSON.

    Raises:
        ValueError: if it is not one.
    """
    if not isinstance(plain, dict):
        raise ValueError("The settings are no table of names and values.")
    return change(Config(), plain)


def settle(config: Config) -> Config:
    """``config`` with everything decided that the loss decides.

    Raises:
        ValueError: as :func:`check`.
    """
    check(config)
    loss = LOSSES[config.loss]
    decided = {**loss.own, "g_lr": loss.lr, "d_lr": loss.lr, "betas": loss.betas}
    if config.architecture in ("conv", "class"):
        decided["norm"] = loss.norm
    return replace(config, **{name: value for name, value in decided.items() if getattr(config, name) is None})


def differences(before: Config, now: Config) -> list[str]:
    """One sentence for each setting that makes ``now`` another run than ``before``."""
    was, has = asdict(settle(before)), asdict(settle(now))
    return [
        f"{name} was {was[name]!r} and is {has[name]!r} now."
        for name in was
        if name not in FREE and was[name] != has[name]
    ]


def check(config: Config) -> Config:
    """``config`` itself, if it can work as far as can be told before anything is loaded.

    Raises:
        ValueError: if a value is out of range or two do not go together, with the culprit and the cure.
    """
    for name, hint in typing.get_type_hints(Config).items():
        if not _fits(getattr(config, name), hint):
            raise ValueError(f"{name}={getattr(config, name)!r}, but must be {_in_words(hint)}.")
    for name, least in AT_LEAST.items():
        value = getattr(config, name)
        if value is not None and not least <= value < BELOW.get(name, math.inf):
            below = f" and below {BELOW[name]:,}" if name in BELOW else ""
            raise ValueError(f"{name}={value}, but must be at least {least}{below}.")
    for name in ABOVE_0:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}={value}, but must be above 0.")
    if config.betas and not all(0 <= beta < 1 for beta in config.betas):
        raise ValueError(f"betas={config.betas}, but each must be at least 0 and below 1.")
    if any(k < 1 for k in config.keep_epochs):
        raise ValueError(f"keep_epochs={config.keep_epochs}, but the first pass over the images is 1.")
    if config.channels not in (None, 1, 3):
        raise ValueError(f"channels={config.channels}, but must be 1 (grey) or 3 (colour).")
    if config.epochs and config.steps:
        raise ValueError(f"epochs={config.epochs} and steps={config.steps} both say how long; give one of them.")
    if config.dataset == "folder" and config.data_root is None:
        raise ValueError("dataset=folder needs the folder or archive of images: data_root=PATH.")
    if config.allow_changes and config.resume_path is None:
        raise ValueError("allow_changes is for a run that is gone on with: give resume_path=RUN as well.")
    if config.batch_size % config.processes:
        raise ValueError(
            f"processes={config.processes} cannot share batch_size={config.batch_size} equally: take a multiple of it."
        )
    _check_loss(config)
    _check_architecture(config)
    return config


def _check_loss(config: Config) -> None:
    for name in dict.fromkeys(name for loss in LOSSES.values() for name in loss.own):
        if getattr(config, name) is not None and name not in LOSSES[config.loss].own:
            whose = " or ".join(key for key, loss in LOSSES.items() if name in loss.own)
            raise ValueError(f"{name} does nothing with loss={config.loss}: leave it out, or take loss={whose}.")
    if config.betas and LOSSES[config.loss].betas is None:
        raise ValueError(f"betas are Adam's, but loss={config.loss} is trained with RMSprop: leave them out.")
    if config.loss in ONE_IMAGE and config.norm == "batch":
        raise ValueError(
            f"norm=batch mixes the images of a batch, and loss={config.loss} penalises each for itself: take norm=none "
            "or norm=layer."
        )


def _check_architecture(config: Config) -> None:
    kind, plain = config.architecture, Config()
    fixed = {"linear": ("base", "norm", "categories", "d_depth")}
    fixed["pooled"] = (*fixed["linear"], "g_width", "d_width")
    fixed = fixed.get(kind, ())
    if given := [name for name in fixed if getattr(config, name) != getattr(plain, name)]:
        raise ValueError(f"{given[0]} does nothing with architecture={kind}: leave it out, or take architecture=conv.")
    if config.categories == 1 or config.categories >= config.z_dim:
        raise ValueError(
            f"categories={config.categories} are a part of z_dim={config.z_dim}: take 0, or at least 2 and fewer than "
            "that."
        )
    if kind == "pooled":
        if config.image_size not in (None, 28) or config.channels not in (None, 1):
            have = f"image_size={config.image_size or 28} and channels={config.channels or 1}"
            raise ValueError(f"architecture=pooled is made for 28 grey pixels, not for {have}: take architecture=conv.")
        if config.loss in (*ONE_IMAGE, "wgan"):
            raise ValueError(
                f"The discriminator of architecture=pooled has BatchNorm, which loss={config.loss} cannot have: take "
                "architecture=conv or linear."
            )
    if kind == "linear" and config.image_size and config.image_size % 8:
        raise ValueError(
            f"architecture=linear halves image_size={config.image_size} three times: take a multiple of 8, or conv."
        )
    if kind == "class" and (config.generator or config.discriminator):
        raise ValueError("architecture=class trains a pair for each class, none of which can start from one file.")


def _as_written(value):
    """Paths as text and lists as tuples, so that a notebook, JSON and the command line write the same."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return tuple(value) if isinstance(value, list) else value


def _fits(value, hint) -> bool:
    parts = typing.get_args(hint)
    match typing.get_origin(hint) or hint:
        case types.UnionType | typing.Union:
            return any(_fits(value, part) for part in parts)
        case typing.Literal:
            return value in parts
        case builtin if builtin is tuple:
            each = parts[:1] * len(value) if isinstance(value, tuple) and parts[-1] is ... else parts
            return isinstance(value, tuple) and len(value) == len(each) and all(map(_fits, value, each))
        case builtin if builtin is float:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case builtin:
            return isinstance(value, builtin) and (builtin is bool or not isinstance(value, bool))


def _in_words(hint) -> str:
    parts = typing.get_args(hint)
    match typing.get_origin(hint) or hint:
        case types.UnionType | typing.Union:
            return " or ".join(_in_words(part) for part in parts if part is not type(None))
        case typing.Literal:
            return "one of " + ", ".join(parts)
        case builtin if builtin is tuple:
            return f"several, each {_in_words(parts[0])}" if parts[-1] is ... else "two numbers"
        case builtin:
            return {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}[builtin]
