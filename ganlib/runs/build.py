"""Build what ``fit`` takes from a Config: images, players, step, score and so on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn

from ganlib import models
from ganlib.conditional import auxiliary_step, columns, conditional_discriminator, conditional_generator
from ganlib.data.augment import augmented
from ganlib.data.images import ImageSet
from ganlib.data.loading import known_name, load
from ganlib.data.sets import SETS
from ganlib.data.squares import How
from ganlib.metrics import cifar_net_for, score, score_digits
from ganlib.runs import foreign
from ganlib.runs.config import OF_STEP, Config, settle
from ganlib.steps import GAN, STEPS

UNKNOWN_LENGTH = 5000  # assumed steps of a run that has only a time limit, to space its pictures and scores
EPOCHS = 10  # if no limit is given
OFTEN_ENOUGH = 100  # steps between two scores, each of which takes seconds
N_SCORED = {"digits": 1000, "others": 2000}  # few samples, so that a score takes seconds
FEWEST_REALS = 128  # half of them are the floor, and the nets have 64 features


def load_images(config: Config, split: str = "train", download: bool = True) -> ImageSet:
    """The images that ``config`` names, with flips if it asks for them."""
    size, channels = (28, 1) if config.architecture == "pooled" else (config.image_size, config.channels)
    how = dict(split=split, image_size=size, channels=channels, root=config.data_root, workers=config.workers)
    how |= {name: value for name in vars(How()) if (value := getattr(config, name)) != getattr(How(), name)}
    whole = functools.partial(load, config.dataset, download=download, **how)
    if not config.classes:
        images = whole(n=config.n)
    elif getattr(SETS.get(known_name(config.dataset)), "by_class", False):  # too large to read other classes
        images = whole(n=config.n, classes=config.classes)
    else:
        images = whole()
        images = images.of_class(*(c if c in images.classes or not c.isdecimal() else int(c) for c in config.classes))
        images = images.take(min(config.n, len(images))) if config.n else images
    images = images.with_labels() if config.conditional else images
    return images.with_flips() if "flip" in config.augment else images


def fitted(config: Config, images: ImageSet) -> Config:
    """``config`` with every default filled in, the images' size and channels included."""
    return settle(replace(config, image_size=images.image_size, channels=images.channels))


def players(config: Config, fresh: bool = True, classes: int = 0) -> GAN:
    """The seeded players of a fitted config, with labels of so many ``classes``.

    ``fresh=False``: weights will be loaded.
    """
    config = settle(config)
    size, z_dim, fixed_z = (config.image_size, config.channels), config.z_dim, None
    g_seed, d_seed = 2 * config.seed, 2 * config.seed + 1
    if config.architecture == "pooled":
        networks = models.pooled_generator(z_dim, g_seed), models.pooled_discriminator(d_seed)
    elif config.architecture == "linear":
        generator = models.linear_generator(*size, config.g_width, z_dim, seed=g_seed)
        networks = generator, models.linear_discriminator(*size, config.d_width, seed=d_seed)
    elif config.architecture == "residual":
        generator = models.residual_generator(*size, config.g_width, z_dim, blocks=config.blocks, seed=g_seed)
        networks = generator, models.residual_discriminator(*size, config.d_width, blocks=config.blocks, seed=d_seed)
    elif config.conditional:
        how = dict(classes=classes, base=config.base)
        generator = conditional_generator(*size, config.g_width, z_dim, **how, seed=g_seed)
        how |= dict(label=config.conditional, norm=config.norm, depth=config.d_depth, seed=d_seed)
        networks = generator, conditional_discriminator(*size, config.d_width, **how)
        fixed_z = columns(8, z_dim, classes, config.seed)
    else:
        how = dict(base=config.base, categories=config.categories, seed=g_seed)
        generator = models.dcgan_generator(*size, config.g_width, z_dim, **how)
        how = dict(base=config.base, norm=config.norm, depth=config.d_depth, seed=d_seed)
        networks = generator, models.dcgan_discriminator(*size, config.d_width, **how)
    augmented(networks[1], [kind for kind in config.augment if kind != "flip"])
    for network, player in zip(networks, ("generator", "discriminator"), strict=True):
        if (path := getattr(config, player)) and fresh:
            foreign.load_into(network, path, player)
    adam = functools.partial(torch.optim.Adam, betas=config.betas)
    kind = torch.optim.RMSprop if config.betas is None else adam
    rates = zip(networks, (config.g_lr, config.d_lr), strict=True)
    optimisers = [kind(network.parameters(), lr) for network, lr in rates]
    return GAN(*networks, *optimisers, z_dim, config.seed, config.ema_decay, fixed_z, config.device)


def step(config: Config) -> Callable:
    """The training step of ``config``, with its settings."""
    own = {name: value for name in OF_STEP if (value := getattr(settle(config), name)) is not None}
    game = auxiliary_step if config.conditional == "auxiliary" else STEPS[config.loss]
    return functools.partial(game, **own) if own else game


def steps_of_epochs(config: Config, images: ImageSet, epochs: int) -> int:
    """The generator updates in ``epochs`` passes over the images, rounded up."""
    per_epoch = len(images) // config.batch_size
    return max(1, -(-epochs * per_epoch // (settle(config).n_critic or 1)))


def fit_arguments(config: Config, images: ImageSet) -> dict:
    """The remaining arguments of :func:`ganlib.train.fit`."""
    steps = config.steps
    if steps is None and (config.epochs or config.seconds is None):
        steps = steps_of_epochs(config, images, config.epochs or EPOCHS)
    length = steps or UNKNOWN_LENGTH
    score_every = max(OFTEN_ENOUGH, length // 10) if config.score_every is None else config.score_every
    looks = {"snapshot_every": config.snapshot_every or max(1, length // 50), "score_every": score_every}
    return {"steps": steps, **{k: getattr(config, k) for k in ("seconds", "batch_size", "precision")}, **looks}


def score_for(images: ImageSet) -> Callable[[nn.Module], Mapping[str, float]] | None:
    """A score for the images: digit net for MNIST, else CIFAR-10 net; None for too few."""
    if len(images) < FEWEST_REALS:
        return None
    if (images.name, images.channels, images.image_size) == ("mnist", 1, 28):
        return lambda generator: score_digits(generator, images, n=N_SCORED["digits"]).numbers()
    net, resizer = cifar_net_for(images.channels), "none" if images.image_size == 32 else "bicubic"
    how = dict(n=N_SCORED["others"], metrics=("fd",), resizer=resizer)
    return lambda generator: score(generator, images, net, **how).numbers()
