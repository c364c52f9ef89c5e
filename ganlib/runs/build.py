"""From a Config to what ``fit`` takes: images, players, the training step and the rest of the arguments."""

from __future__ import annotations

import ast
import functools
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ganlib import models, steps
from ganlib import models as variants
from ganlib.data import loading as data
from ganlib.data.augment import augmented
from ganlib.data.images import ImageSet
from ganlib.data.sets import SETS
from ganlib.metrics.nets import cifar_net
from ganlib.metrics.scores import score, score_digits
from ganlib.runs import checkpoint
from ganlib.runs.config import LOSSES, Config
from ganlib.runs.rules import settle
from ganlib.steps import GAN

UNTIL_TIME_IS_UP = 10**6  # steps
FIRST_MINUTES = 5000  # steps that a run is taken to have, for its pictures and scores, where only its time is known
EPOCHS = 10  # where nothing says how long
OFTEN_ENOUGH = 100  # steps between two scores, each of which takes seconds
N_SCORED = {"digits": 1000, "colours": 2000}  # samples, so few that it takes seconds
FEWEST_REALS = 128  # half of them are the floor, and the nets have 64 features

STEP_NAME = re.compile(r"ganlib\.steps\.(\w+_step)(?:\((.*)\))?$")


def load_images(config: Config) -> ImageSet:
    """The images that ``config`` names.

    Raises:
        ValueError: if there are none of such a name, class or size.
        FileNotFoundError: if the path does not exist.
    """
    size, channels = config.image_size, config.channels
    if config.architecture == "pooled":
        size, channels = 28, 1
    n = None if config.classes else config.n
    where = dict(root=config.data_root, workers=config.workers)
    by_class = config.classes and getattr(SETS.get(data.known_name(config.dataset)), "by_class", False)
    if by_class:  # so large that the others are not even read
        return data.load(
            config.dataset, image_size=size, channels=channels, n=config.n, classes=config.classes, **where
        )
    images = data.load(config.dataset, image_size=size, channels=channels, n=n, **where)
    if config.classes:
        named = (c if c in images.classes or not c.isdecimal() else int(c) for c in config.classes)
        images = images.of_class(*named)
        images = images.take(config.n) if config.n is not None and config.n < len(images) else images
    return images


def fitted(config: Config, images: ImageSet) -> Config:
    """``config`` with everything decided, the images' size and colours included.

    Raises:
        ValueError: as :func:`ganlib.runs.rules.check`; or if the images have another size than is asked for.
    """
    return settle(replace(config, image_size=images.image_size, channels=images.channels))


def players(config: Config, fresh: bool = True) -> GAN:
    """The players of ``config``, their weights and latent vectors seeded with its seed.

    Args:
        config: with image size and channels: see :func:`fitted`.
        fresh: take the files ``config.generator`` and ``config.discriminator`` into account; False for players whose
            weights come from a checkpoint anyway.

    Raises:
        ValueError: if no such networks can be built, or a file's weights do not fit.
        OSError: if a file cannot be read.
    """
    config = settle(config)
    size, z_dim = (config.image_size, config.channels), config.z_dim
    g_seed, d_seed = 2 * config.seed, 2 * config.seed + 1
    if None in size:
        raise ValueError("These settings leave open how large the images are; take those of games.fitted(...).")
    if config.architecture == "pooled":
        generator, discriminator = variants.pooled_generator(z_dim, g_seed), variants.pooled_discriminator(d_seed)
    elif config.architecture == "linear":
        generator = variants.linear_generator(*size, config.g_width, z_dim, seed=g_seed)
        discriminator = variants.linear_discriminator(*size, config.d_width, seed=d_seed)
    else:
        base, norm, categories = config.base, config.norm, config.categories
        generator = models.dcgan_generator(*size, config.g_width, z_dim, base=base, categories=categories, seed=g_seed)
        discriminator = models.dcgan_discriminator(
            *size, config.d_width, base=base, norm=norm, depth=config.d_depth, seed=d_seed
        )
    augmented(discriminator, [kind for kind in config.augment if kind != "flip"])
    if fresh and config.generator:
        start_from(generator, config.generator, "ema_generator")
    if fresh and config.discriminator:
        start_from(discriminator, config.discriminator, "discriminator")
    g_opt, d_opt = _optimiser(generator, config.g_lr, config), _optimiser(discriminator, config.d_lr, config)
    return GAN(generator, discriminator, g_opt, d_opt, z_dim, config.seed)


def _optimiser(network: nn.Module, lr: float, config: Config) -> torch.optim.Optimizer:
    if config.betas is None:
        return torch.optim.RMSprop(network.parameters(), lr)
    return torch.optim.Adam(network.parameters(), lr, config.betas)


def start_from(network: nn.Module, path: str | os.PathLike, name: str) -> None:
    """Give ``network`` the weights of a file, or of a checkpoint.

    Args:
        network: built like the one that the weights are of.
        path: a ``.safetensors`` file; somebody else's ``.pth`` or ``.pt``; or the folder of a checkpoint or a run.
        name: of the network, as a checkpoint names its files.

    Raises:
        ValueError: if the file is damaged or refused, or its weights do not fit.
        OSError: if it cannot be read.
    """
    weights = _weights(Path(path), name)
    here = {key: list(value.shape) for key, value in network.state_dict().items()}
    there = {key: list(value.shape) for key, value in weights.items()}
    if here != there:
        culprit = next(key for key in [*here, *there] if here.get(key) != there.get(key))
        raise ValueError(
            f"The weights in '{path}' do not fit: '{culprit}' has shape {there.get(culprit, 'nothing')} there and "
            f"{here.get(culprit, 'nothing')} in the network; give the architecture, widths, z_dim and image size they "
            "were made with."
        )
    network.load_state_dict(weights)


def _weights(path: Path, name: str) -> dict[str, Tensor]:
    if path.is_dir():
        return checkpoint.read_network(path, name)
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder '{path}' to take weights from; check the path.")
    if path.suffix != ".safetensors":
        return checkpoint.read_foreign(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"'{path}' is damaged, or no safetensors file; get it again.") from error


def step(config: Config) -> Callable:
    """The training step of ``config``, with its settings."""
    loss = LOSSES[config.loss]
    own = {name: getattr(settle(config), name) for name in loss.own}
    return functools.partial(getattr(steps, loss.step), **own) if own else getattr(steps, loss.step)


def step_named(name: str) -> Callable:
    """The training step that ``config.json`` names, such as ``ganlib.steps.wgan_step(n_critic=5, clip_value=0.01)``.

    Raises:
        ValueError: if it is none of ganlib's, as one that was written in a program or a notebook.
    """
    known = {loss.step for loss in LOSSES.values()}
    try:
        title, arguments = STEP_NAME.match(name).groups()
        if title not in known:
            raise ValueError(title)
        call = ast.parse(f"f({arguments or ''})", mode="eval").body
        own = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        if call.args or None in own:
            raise ValueError(title)
    except (AttributeError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"Its training step, {name}, is none of ganlib.steps: go on with it where it is written, with "
            "fit(..., resume=True)."
        ) from error
    found = getattr(steps, title)
    return functools.partial(found, **own) if own else found


def steps_to_make(config: Config, images: ImageSet) -> int:
    """How many updates of the generator ``config`` asks for, unless its time limit comes first."""
    if config.steps is not None:
        return config.steps
    if config.epochs is None and config.seconds is not None:
        return UNTIL_TIME_IS_UP
    return steps_of_epochs(config, images, config.epochs or EPOCHS)


def steps_of_epochs(config: Config, images: ImageSet, epochs: int) -> int:
    """How many updates of the generator ``epochs`` passes over the images are, rounded up."""
    per_epoch = len(images) // config.batch_size
    return max(1, -(-epochs * per_epoch // (settle(config).n_critic or 1)))


def fit_arguments(config: Config, images: ImageSet) -> dict:
    """What :func:`ganlib.train.fit` takes besides players, step, images, a score and a folder."""
    made = steps_to_make(config, images)
    length = FIRST_MINUTES if made == UNTIL_TIME_IS_UP else made
    snapshot_every = config.snapshot_every or max(1, length // 50)
    score_every = max(OFTEN_ENOUGH, length // 10) if config.score_every is None else config.score_every
    names = ("seconds", "batch_size", "ema_decay", "checkpoint_every", "seed", "device", "precision", "print_every")
    return {
        **{name: getattr(config, name) for name in names},
        "steps": made,
        "flip": "flip" in config.augment,
        "keep_at": [steps_of_epochs(config, images, k) for k in config.keep_epochs],
        "snapshot_at": range(0, made + 1, snapshot_every),
        "score_at": range(0, made + 1, score_every) if score_every else (),
    }


def score_for(images: ImageSet) -> Callable[[nn.Module], dict[str, float]] | None:
    """A score that suits the images: of MNIST's digits by the digit net, of coloured pictures by the CIFAR-10 net.

    Sizes other than 32×32 are resized for the latter. None for other grey images, which no net here can judge, and for
    sets too small to be compared with.
    """
    if len(images) < FEWEST_REALS:
        return None
    if (images.name, images.channels, images.image_size) == ("mnist", 1, 28):
        return lambda generator: score_digits(generator, images, n=N_SCORED["digits"]).numbers()
    if images.channels == 3:
        net, resizer = cifar_net(), "none" if images.image_size == 32 else "bicubic"
        how = dict(n=N_SCORED["colours"], metrics=("fd",), resizer=resizer)
        return lambda generator: score(generator, images, net, **how).numbers()
    return None
