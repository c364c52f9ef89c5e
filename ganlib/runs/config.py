"""The settings of a run, and which of them go together, without importing torch."""

from __future__ import annotations

import difflib
import math
import os
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Literal

import tyro

# The comment beside a setting is its text in `ganlib train --help`.


@dataclass(frozen=True, kw_only=True)
class Images:
    """The training images."""

    # mnist, fashion-mnist, cifar10, celeba, emoji, lfw, lsun, imagenet, toyfaces, fake; or the path of your own images
    dataset: str = "mnist"
    data_root: str | None = None  # folder to look for the dataset in first; with dataset=folder, the images themselves
    classes: tuple[str, ...] = ()  # only the images of these classes, by name or number
    workers: int = 1  # threads that decode a folder's images while they are prepared, once
    n: int | None = None  # at most this many images, the classes balanced
    image_size: int | None = None  # height and width in pixels; default: the dataset's own
    channels: int | None = None  # 1 (grey), 3 (colour) or 4 (transparency, too); default: the dataset's own
    fit: Literal["crop", "pad", "squash"] = "crop"  # how your pictures that are not square become it
    small: Literal["enlarge", "skip"] = "enlarge"  # what happens to your pictures that are smaller than image_size
    background: str = "white"  # colour behind your transparent pictures, and around padded ones
    range: str | None = None  # low,high: which numbers in your pictures become black and white; default: by a rule
    # flip mirrors reals at random; the others change all images the discriminator sees, for small datasets
    augment: tuple[Literal["flip", "translation", "cutout", "colour"], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The two players."""

    # conv: DCGAN; linear: with linear ends; pooled: the layout of a classifier; residual: a small R3GAN
    architecture: Literal["conv", "linear", "pooled", "residual"] = "conv"
    z_dim: int = 64  # size of the latent vector
    categories: int = 0  # conv: how many of z's numbers are a one-of-n choice; 0: none
    # conv: the images' labels as the last of z's numbers, and how the discriminator takes them
    conditional: Literal["concat", "auxiliary", "projection"] | None = None
    g_width: int = 32  # channels of the generator's last feature map
    d_width: int = 32  # channels of the discriminator's first feature map
    base: int = 4  # conv: largest side of the smallest feature map, in pixels
    blocks: int = 1  # residual: blocks at each size; its paper has 2
    d_depth: int = 1  # conv: the discriminator's convolutions at each size before it is halved; DCGAN has 1
    norm: Literal["batch", "none", "layer", "instance", "spectral"] | None = None  # of the discriminator (by the loss)
    generator: str | None = None  # weights to start from: a .safetensors or .pth file, a checkpoint or a run
    discriminator: str | None = None  # the same for the discriminator


@dataclass(frozen=True, kw_only=True)
class Game:
    """The loss; the defaults of its settings are those of its paper."""

    # ns: non-saturating; ns-r1: the same with R1; rpgan: relativistic pairing with R1 and R2
    loss: Literal["ns", "ns-r1", "minimax", "wgan", "wgan-gp", "hinge", "rpgan"] = "ns"
    n_critic: int | None = None  # wgan, wgan-gp: critic updates for each generator update (5)
    clip_value: float | None = None  # wgan: bound on the critic's weights (0.01)
    gp_weight: float | None = None  # wgan-gp: weight of the gradient penalty (10)
    r1_gamma: float | None = None  # rpgan, ns-r1: weight of the penalty on reals (1; ns-r1 0.02)
    r1_every: int | None = None  # ns-r1: steps between two penalties, each weighted by their number (8)
    r2_gamma: float | None = None  # rpgan: weight of the penalty on fakes (1)
    lr: float | None = None  # both learning rates at once
    g_lr: float | None = None  # the generator's learning rate (2e-4; wgan-gp 1e-4; wgan, with RMSprop, 5e-5)
    d_lr: float | None = None  # the discriminator's learning rate, likewise
    betas: tuple[float, float] | None = None  # Adam's decay rates (0.5 0.999; wgan-gp, hinge and rpgan 0 0.9)


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long and on which device to train. A run ends at the first limit it reaches."""

    epochs: int | None = None  # passes over the images; default: 10 if no other limit is given
    steps: int | None = None  # generator updates, instead of epochs
    seconds: float | None = None  # time limit; scores, snapshots and checkpoints are not counted
    batch_size: int = 64  # images per batch
    ema_decay: float = 0.995  # decay of the generator's running average per step; 0 for none
    seed: int = 0  # seed of the first weights, z and the order of the images
    device: str | None = None  # cuda, mps or cpu; default: the best available
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: 16 bits for large networks, if fast


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """The run's folder, and what is shown."""

    out: str | None = None  # the run's folder; default: runs/<dataset>, numbered if it is taken
    resume_path: str | None = None  # resume the run in this folder, with its settings
    # start a new run, in out, from a checkpoint of the run in this folder, with its settings and any that you change
    from_run: Annotated[str | None, tyro.conf.arg(aliases=["--from"])] = None
    step: int | None = None  # with from_run: of which step; default: the newest
    allow_changes: bool = False  # with resume_path: accept settings that differ from the run's
    print_every: int = 100  # steps between two lines where the output is not a terminal
    snapshot_every: int | None = None  # steps between two snapshots of fixed z, the film's frames (a 50th of the run)
    score_every: int | None = None  # steps between two scores (a tenth of the run, at least 100); 0 for none
    checkpoint_every: int = 1000  # steps between two checkpoints
    keep_every: int | None = None  # steps between two checkpoints that are kept for good
    keep_epochs: tuple[int, ...] = ()  # epochs whose checkpoints are kept besides the last three and the best
    dry_run: bool = False  # only print what would be done


GROUPS = (Images, Networks, Game, Training, Keeping)  # the headings of the help


@dataclass(frozen=True, kw_only=True)
class Config(Keeping, Training, Game, Networks, Images):
    """Everything that defines a run; the loss or the images decide what is None."""


# The defaults of each loss. Without betas it is trained with RMSprop.
_DCGAN = dict(g_lr=2e-4, d_lr=2e-4, betas=(0.5, 0.999), norm="batch")
LOSSES = {
    "ns": _DCGAN,
    "ns-r1": _DCGAN | dict(r1_gamma=0.02, r1_every=8),
    "minimax": _DCGAN,
    "wgan": dict(g_lr=5e-5, d_lr=5e-5, norm="none", n_critic=5, clip_value=0.01),
    "wgan-gp": dict(g_lr=1e-4, d_lr=1e-4, betas=(0.0, 0.9), norm="none", n_critic=5, gp_weight=10.0),
    "hinge": dict(g_lr=2e-4, d_lr=2e-4, betas=(0.0, 0.9), norm="spectral"),
    "rpgan": dict(g_lr=2e-4, d_lr=2e-4, betas=(0.0, 0.9), norm="none", r1_gamma=1.0, r2_gamma=1.0),
}
OF_STEP = ("n_critic", "clip_value", "gp_weight", "r1_gamma", "r1_every", "r2_gamma")  # only some losses have them
LENGTH = ("epochs", "steps", "seconds")
PER_IMAGE = ("wgan-gp", "rpgan")  # their penalties are per image, but BatchNorm mixes images
OF_CONV = ("base", "norm", "categories", "conditional", "d_depth")
USELESS = {  # by architecture
    **{"conv": ("blocks",), "linear": (*OF_CONV, "blocks"), "residual": OF_CONV},
    "pooled": (*OF_CONV, "blocks", "g_width", "d_width"),
}

# Setting -> its minimum, and the value it must stay below.
RANGES = {
    **dict.fromkeys(("n", "d_depth", "blocks", "n_critic", "r1_every", "epochs", "steps", "batch_size"), (1, math.inf)),
    **dict.fromkeys(("workers", "print_every", "snapshot_every", "checkpoint_every", "keep_every"), (1, math.inf)),
    **dict.fromkeys(("score_every", "gp_weight", "r1_gamma", "r2_gamma", "g_lr", "d_lr"), (0, math.inf)),
    **dict.fromkeys(("z_dim", "g_width", "d_width"), (1, 2**20)),
    **{"ema_decay": (0, 1), "seed": (0, 2**30), "image_size": (8, 2**15), "base": (2, math.inf)},
}


def changed(config: Config) -> dict:
    """The settings of ``config`` that differ from the default."""
    return {name: value for name, value in asdict(config).items() if value != getattr(Config(), name)}


def change(config: Config, given: dict) -> Config:
    """``config`` with other settings, checked; a new limit replaces all old ones."""
    if "processes" in given:
        raise ValueError("processes are started by torchrun: torchrun --nproc-per-node 2 -m ganlib train ...")
    if unknown := given.keys() - asdict(config).keys():
        raise ValueError(f"There is no setting {suggest(unknown.pop(), asdict(config))}")
    plain = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in given.items()}
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
    if (lr := plain.pop("lr", None)) is not None:
        plain = {"g_lr": lr, "d_lr": lr} | plain
    return check(replace(config, **(dict.fromkeys(LENGTH) if set(LENGTH) & given.keys() else {}) | plain))


# What a setting is called elsewhere.
MEANT = dict.fromkeys(("data", "data_dir", "dataroot", "folder", "images", "input", "path", "train_dir"), "dataset")
MEANT |= dict.fromkeys(("size", "img_size", "imsize", "resolution"), "image_size") | {"batch": "batch_size"}
MEANT |= dict.fromkeys(("output", "outdir", "out_dir", "save_dir"), "out") | dict.fromkeys(
    ("nz", "latent_dim"), "z_dim"
)
MEANT |= {"learning_rate": "lr", "resume": "resume_path", "nz": "z_dim", "latent_dim": "z_dim"}


def suggest(name: str, names: Iterable[str]) -> str:
    """The end of a sentence that begins with "There is no"."""
    if MEANT.get(name) in [*names]:
        return f"'{name}'; did you mean '{MEANT[name]}'?"
    near = difflib.get_close_matches(name, names, 1)
    return f"'{name}'; " + (f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(sorted(names))}.")


def settle(config: Config) -> Config:
    """``config``, checked, with the loss's defaults filled in."""
    decided = LOSSES[check(config).loss] | ({} if config.architecture == "conv" else {"norm": None})
    return replace(config, **{name: value for name, value in decided.items() if getattr(config, name) is None})


def check(config: Config) -> Config:
    """``config`` itself, checked: a ValueError names the culprit and the cure."""
    for name, hint in typing.get_type_hints(Config).items():
        value, (least, below) = getattr(config, name), RANGES.get(name, (-math.inf, math.inf))
        if not _fits(value, hint):
            wanted = Config.__dataclass_fields__[name].type.removesuffix(" | None")
            raise ValueError(f"{name}={value!r}, but must be of type {wanted}.")
        if name in RANGES and value is not None and not least <= value < below:
            end = "" if below == math.inf else f" and below {below:,}"
            raise ValueError(f"{name}={value}, but must be at least {least}{end}.")
    for wrong, sentence in _rules(config):
        if wrong:
            raise ValueError(sentence)
    return config


def _rules(c: Config) -> Iterator[tuple[bool, str]]:
    """For each rule about related settings: whether it is broken, and the message.

    What a network or an optimiser rejects with a clear message is not repeated here.
    """
    yield bool(c.epochs and c.steps), f"epochs={c.epochs} and steps={c.steps} both say how long; give one of them."
    for name, value in vars(c).items():
        yield (
            isinstance(value, str) and not value.strip(),
            f"{name}={value!r} is empty: give it a value, or leave it out.",
        )
    yield bool(c.from_run and c.resume_path), "from_run begins a new run and resume_path resumes one: give one of them."
    yield c.step is not None and not c.from_run, f"step={c.step} goes with from_run; how long to train is steps."
    nowhere = c.dataset == "folder" and c.data_root is None
    yield nowhere, "dataset=folder needs the folder or archive of images: data_root=PATH."
    for name in OF_STEP:
        whose = " or ".join(loss for loss, defaults in LOSSES.items() if name in defaults)
        sentence = f"{name} does nothing with loss={c.loss}: leave it out, or take loss={whose}."
        yield getattr(c, name) is not None and name not in LOSSES[c.loss], sentence
    mixes = f"norm=batch mixes the images of a batch, but loss={c.loss} penalises each one: take norm=none or layer."
    yield c.loss in PER_IMAGE and c.norm == "batch", mixes
    for name in USELESS[c.architecture]:
        whose = "residual" if name == "blocks" else "conv"
        sentence = f"{name} does nothing with architecture={c.architecture}: leave it out, or take "
        sentence += f"architecture={whose}."
        yield getattr(c, name) != getattr(Config(), name), sentence
    if c.conditional:
        games = ("ns",) if c.conditional == "auxiliary" else ("ns", "ns-r1", "minimax")
        sentence = f"conditional={c.conditional} does not go with loss={c.loss}: take loss={' or '.join(games)}."
        yield c.loss not in games, sentence
        yield c.categories > 0, "conditional makes z hold the label, so there are no other categories: leave them out."
    if c.architecture == "pooled":
        other = c.image_size not in (None, 28) or c.channels not in (None, 1)
        yield other, "architecture=pooled is made for 28 grey pixels: take architecture=conv for any others."
        normed = f"architecture=pooled has BatchNorm, which loss={c.loss} does not allow: take architecture=conv."
        yield c.loss in (*PER_IMAGE, "wgan"), normed


def _fits(value, hint) -> bool:
    """Whether a value has a setting's type; an ``int`` passes for a ``float``."""
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):
        return any(_fits(value, part) for part in parts)
    if kind is Literal:
        return value in parts
    if kind is tuple and isinstance(value, tuple):
        parts = parts[:1] * len(value) if parts[-1] is ... else parts
        return len(value) == len(parts) and all(map(_fits, value, parts))
    return type(value) is hint or (hint is float and type(value) is int)
