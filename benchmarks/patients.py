"""Planted bugs, and healthy runs, for the doctor: players, a step, batches and images each."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, softplus

from ganlib import GAN, ImageSet, frozen, load, losses, models, rng, steps
from ganlib.data import toys
from ganlib.data.images import Batches
from ganlib.runs import build
from ganlib.runs.presets import PRESETS
from ganlib.steps import update_ema


class NotThere(ValueError):
    """A bug that this kind of data cannot have."""


SHORT, LONG = 8, 260  # steps in which a wrong line shows, and a wrong run


@dataclass
class Run:
    """Everything that a run is made of."""

    gan: GAN
    step: Callable
    batches: Iterator[Tensor]
    images: ImageSet | None = None
    held_out: ImageSet | None = None
    steps: int = LONG
    average: Callable = update_ema


def slow_average(average, model, decay, step):
    """A running average over 10,000 steps, from the first weights on."""
    with torch.no_grad():
        for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
            ours.lerp_(theirs, 1e-4)


@functools.cache
def images_of(data: str) -> ImageSet:
    """Digits, or drawn faces."""
    return load("mnist", n=5000) if data == "digits" else load("toyfaces", n=3000, image_size=32, channels=3)


RING = functools.partial(toys.ring, std=0.1)


def points(seed: int, batch_size: int = 128, target=RING) -> Iterator[Tensor]:
    """Endless batches of points."""
    draw = rng(seed + 77)
    while True:
        yield target(batch_size, draw)


def reals(data: str, seed: int, images: ImageSet | None = None, batch_size: int = 16) -> Iterator[Tensor]:
    """Endless batches of a kind of data."""
    return points(seed) if data == "points" else Batches(images or images_of(data), batch_size, seed=seed)


def networks(data: str, seed: int, norm: str = "batch", g_norm: bool = True) -> tuple[nn.Module, nn.Module]:
    """A generator and a discriminator, small: some hundred steps take seconds."""
    if data == "points":
        layer = {"batch": nn.BatchNorm1d, "none": nn.Identity}
        sizes, hidden = [2, 64, 64], lambda n_in, n_out, kind, act: [nn.Linear(n_in, n_out), kind(n_out), act]
        g, d = [], []
        for n_in, n_out in itertools.pairwise(sizes):
            g += hidden(n_in, n_out, layer["batch" if g_norm and norm == "batch" else "none"], nn.ReLU())
            d += hidden(n_in, n_out, layer[norm], nn.LeakyReLU(0.2))
        g, d = nn.Sequential(*g, nn.Linear(64, 2)), nn.Sequential(*d, nn.Linear(64, 1), nn.Flatten(0))
        return models.he_normal(g, 2 * seed), models.he_normal(d, 2 * seed + 1)
    size, channels = (28, 1) if data == "digits" else (32, 3)
    g = models.dcgan_generator(size, channels, 8, 16, seed=2 * seed)
    d = models.dcgan_discriminator(size, channels, 8, norm=norm, seed=2 * seed + 1)
    if not g_norm:
        for k, layer in enumerate(g):
            if isinstance(layer, nn.BatchNorm2d):
                g[k] = nn.Identity()
            if isinstance(layer, nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, generator=rng(seed))
    return g, d


def game(data: str, seed: int, nets=None, rates=(1e-3, 1e-3), betas=(0.5, 0.99), kind=torch.optim.Adam, **more) -> GAN:
    """The two networks with their optimisers."""
    g, d = nets or networks(data, seed)
    how = {"betas": betas} if kind is torch.optim.Adam else {}
    opts = [kind(net.parameters(), rate, **how) for net, rate in zip((g, d), rates, strict=True)]
    return GAN(g, d, *opts, z_dim=2 if data == "points" else 16, seed=seed, **({"ema_decay": 0.98} | more))


def bce_step(gan, batches, *, z_of=None, cut=False, zero="before", mixed=False, detach=True, g_sign=1, swapped=False):
    """The textbook step, with a bug: which, the arguments say."""
    real = next(batches)
    draw = z_of or (lambda: gan.sample_z(len(real)))
    fake = gan.generator(draw())
    given = fake.detach() if detach else fake
    if mixed:
        real_logits, fake_logits = gan.discriminator(torch.cat([real, given])).split(len(real))
    else:
        real_logits, fake_logits = gan.discriminator(real), gan.discriminator(given)
    if swapped:
        real_logits, fake_logits = fake_logits, real_logits
    d_loss = losses.non_saturating_d_loss(real_logits, fake_logits)
    if zero == "before":
        gan.d_opt.zero_grad()
    d_loss.backward(retain_graph=not detach)
    gan.d_opt.step()
    if zero == "after":
        gan.d_opt.zero_grad()
    fake = gan.generator(gan.sample_z(len(real)))
    g_loss = g_sign * softplus(-gan.discriminator(fake.detach() if cut else fake)).mean()
    gan.g_opt.zero_grad()
    g_loss.backward()
    gan.g_opt.step()
    return {"d_loss": d_loss, "g_loss": g_loss}


def wgan(gan, batches, *, clip=None, at=None, graph=True, weight=10.0, same=False):
    """The Wasserstein step, with a bug."""
    critic, real = gan.discriminator, next(batches)
    for k in range(5):
        real = real if same or k == 0 else next(batches)
        with torch.no_grad():
            fake = gan.generator(gan.sample_z(len(real)))
        critic_loss = critic(fake).mean() - critic(real).mean()
        total = critic_loss
        if at:
            eps = torch.rand(len(real), *[1] * (real.ndim - 1), generator=gan.z_rng)
            x = (real if at == "reals" else eps * real + (1 - eps) * fake).detach().clone().requires_grad_()
            (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=graph)
            total = critic_loss + weight * (slope.flatten(1).norm(dim=1) - 1).square().mean()
        gan.d_opt.zero_grad()
        total.backward()
        gan.d_opt.step()
        if clip:
            losses.clip_weights(critic, clip)
    with frozen(critic):
        g_loss = -critic(gan.generator(gan.sample_z(len(real)))).mean()
        gan.g_opt.zero_grad()
        g_loss.backward()
    gan.g_opt.step()
    return {"critic_loss": critic_loss, "g_loss": g_loss}


def clamped_step(gan, batches):
    """Sigmoid and BCELoss, saturating."""
    real = next(batches)
    fake = gan.generator(gan.sample_z(len(real)))
    one, none = torch.ones(len(real)), torch.zeros(len(real))
    p = [torch.sigmoid(gan.discriminator(x)) for x in (real, fake.detach())]
    d_loss = binary_cross_entropy(p[0], one) + binary_cross_entropy(p[1], none)
    gan.d_opt.zero_grad()
    d_loss.backward()
    gan.d_opt.step()
    g_loss = binary_cross_entropy(torch.sigmoid(gan.discriminator(fake)), one)
    gan.g_opt.zero_grad()
    g_loss.backward()
    gan.g_opt.step()
    return {"d_loss": d_loss, "g_loss": g_loss}


def saturated(gan, batches):
    """The saturating game, in which D has had a start."""
    for _ in range(150 if gan.steps_done == 0 else 0):
        real, fake = next(batches), gan.generator(gan.sample_z(16)).detach()
        gan.d_opt.zero_grad()
        losses.minimax_d_loss(gan.discriminator(real), gan.discriminator(fake)).backward()
        gan.d_opt.step()
    return steps.minimax_step(gan, batches)


def without(player: str) -> Callable:
    """The textbook step in which one player's optimiser never steps."""

    def step(gan, batches):
        held = getattr(gan, player).step
        getattr(gan, player).step = lambda *_: None
        try:
            return bce_step(gan, batches)
        finally:
            getattr(gan, player).step = held

    return step


def new_fixed_z(gan, batches):
    """Draws the fixed z anew."""
    gan.fixed_z = gan.sample_z(len(gan.fixed_z))
    return bce_step(gan, batches)


def raised_later(gan, batches, at=LONG // 2):
    """Rates twenty times too high from the middle on."""
    if gan.steps_done == at:
        for group in gan.g_opt.param_groups + gan.d_opt.param_groups:
            group["lr"] = 20 * group["lr"]
    return bce_step(gan, batches)


def ended(data: str, seed: int, g_end=None, d_end=None, norm="batch"):
    """Networks with another last layer."""
    g, d = networks(data, seed, norm)
    if g_end and data == "points":
        g.append(g_end)
    elif g_end:
        g[-1] = g_end
    return g, nn.Sequential(d, d_end) if d_end else d


def with_norms(data: str, seed: int, change: Callable):
    """Networks whose BatchNorm layers are changed."""
    g, d = networks(data, seed)
    for layer in [*g.modules(), *d.modules()]:
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            change(layer)
    return g, d


def small_scale(layer):
    nn.init.normal_(layer.weight, 0, 0.02)


def large_eps(layer):
    layer.eps = 0.8


def hardly_averaging(layer):
    layer.momentum = 1e-4


def of_both(data, seed):
    """One optimiser for both players."""
    gan = game(data, seed)
    gan.g_opt = torch.optim.Adam([*gan.generator.parameters(), *gan.discriminator.parameters()], 1e-3)
    return gan


def mapped(batches: Iterator[Tensor], function: Callable) -> Iterator[Tensor]:
    """Batches that have been tampered with."""
    return (function(batch) for batch in batches)


def in_order(data: str, seed: int) -> Iterator[Tensor]:
    """Reals sorted by class, or by where they are."""
    if data == "points":
        all_of_it = toys.ring(4096, rng(seed), std=0.1)
        order = torch.atan2(all_of_it[:, 1], all_of_it[:, 0]).argsort()
        return itertools.cycle(all_of_it[order].split(128))
    images = images_of(data)
    key = images.labels if images.labels is not None else images.pixels.float().mean((1, 2, 3))
    pixels = images.pixels[key.argsort()][:: len(images) // 960]
    return itertools.cycle([batch.float() / 127.5 - 1 for batch in pixels.split(16) if len(batch) == 16])


def few(data: str, seed: int, step) -> Run:
    """A run on 64 images, with others held out."""
    images = images_of(data)
    seen, rest = images.take(64, seed), images.take(400, seed + 999)
    gan = game(data, seed, networks(data, seed, "none"), (5e-4, 2e-3))
    return Run(gan, step, Batches(seen, 16, seed=seed), seen, rest, LONG)


def doubled(data: str, seed: int) -> Run:
    """A folder in which a third of the images are copies."""
    images = images_of(data)
    some = images.take(900, seed)
    again = replace(some, pixels=torch.cat([some.pixels, some.pixels[:300]]), labels=None)
    return Run(game(data, seed), bce_step, Batches(again, 16, seed=seed), again, steps=SHORT)


def plain(data, seed, step=bce_step, n=SHORT, batches=None, **more) -> Run:
    """A run on all images."""
    images = None if data == "points" else images_of(data)
    return Run(game(data, seed, **more), step, batches or reals(data, seed), images, steps=n)


def critics(data, seed, step, n=SHORT, norm="none", **more) -> Run:
    """A run of a Wasserstein game."""
    more = {"rates": (1e-3, 1e-3), "betas": (0.0, 0.9)} | more
    return plain(data, seed, step, n, nets=networks(data, seed, norm), **more)


def bugs() -> dict[str, tuple[set[str], Callable]]:
    """Name -> the checks that name it, and ``(data, seed) -> Run``; NotThere is raised where there is no such thing."""
    part, z_of = (
        functools.partial,
        lambda d: lambda: torch.rand(16 if d != "points" else 128, 16 if d != "points" else 2),
    )
    return {
        "G's loss is cut off": ({"generator_does_not_move"}, part(plain, step=part(bce_step, cut=True))),
        "D's optimiser never steps": ({"discriminator_does_not_move"}, part(plain, step=without("d_opt"))),
        "one optimiser for both": ({"foreign_weights"}, lambda d, s: replace(plain(d, s), gan=of_both(d, s))),
        "no zero_grad for D": ({"gradients_not_zeroed"}, part(plain, step=part(bce_step, zero=None))),
        "zero_grad after D's step": ({"gradients_not_zeroed"}, part(plain, step=part(bce_step, zero="after"))),
        "G's loss with the wrong sign": ({"same_direction"}, part(plain, step=part(bce_step, g_sign=-1))),
        "labels exchanged in D's loss": ({"same_direction"}, part(plain, step=part(bce_step, swapped=True))),
        "fakes not detached": ({"not_detached"}, part(plain, step=part(bce_step, detach=False))),
        "uniform z in D's turn": ({"different_z"}, lambda d, s: plain(d, s, part(bce_step, z_of=z_of(d)))),
        "the same z in every step": (
            {"same_z_again"},
            lambda d, s: plain(d, s, part(bce_step, z_of=again(lambda: torch.randn_like(z_of(d)())))),
        ),
        "a fixed z drawn anew": ({"fixed_z_moves"}, part(plain, step=new_fixed_z)),
        "one mixed batch": ({"one_mixed_batch", "impossible_sum"}, part(plain, step=part(bce_step, mixed=True))),
        "a sigmoid at G's end": ({"ranges"}, lambda d, s: plain(d, s, nets=ended(d, s, g_end=nn.Sigmoid()))),
        "reals from -0.42 to 2.82": ({"ranges"}, only_images(scaled_otherwise)),
        "a sigmoid at D's end": ({"probabilities"}, lambda d, s: plain(d, s, nets=ended(d, s, d_end=nn.Sigmoid()))),
        "the same reals five times": ({"same_reals_again"}, part(critics, step=part(wgan, clip=0.03, same=True))),
        "no bound on the critic": ({"unbounded_critic"}, part(critics, step=wgan)),
        "clipped to 0.0005": ({"flat_critic"}, part(critics, step=part(wgan, clip=5e-4))),
        "BatchNorm in a critic": ({"batch_norm_in_critic"}, part(critics, step=part(wgan, at="line"), norm="batch")),
        "a penalty without a graph": (
            {"penalty_without_gradient"},
            part(critics, step=part(wgan, at="line", graph=False)),
        ),
        "a penalty at the reals only": ({"penalty_at_reals_only"}, part(critics, step=part(wgan, at="reals"))),
        "a penalty weighted 0.0001": (
            {"steep_critic"},
            part(critics, step=part(wgan, at="line", weight=1e-4), n=LONG // 2),
        ),
        "BatchNorm's scale around 0": (
            {"batch_norm_scale"},
            lambda d, s: plain(d, s, nets=with_norms(d, s, small_scale)),
        ),
        "BatchNorm2d(n, 0.8)": ({"batch_norm_eps"}, lambda d, s: plain(d, s, nets=with_norms(d, s, large_eps))),
        "reals in order": ({"unshuffled"}, lambda d, s: plain(d, s, n=60, batches=in_order(d, s))),
        "reals scaled twice": (
            {"constant_images"},
            lambda d, s: plain(d, s, batches=mapped(reals(d, s), lambda x: (x + 1) / 255 - 1)),
        ),
        "a folder of copies": ({"repeated_images"}, only_images(doubled)),
        "BatchNorm's momentum 1e-4": (
            {"train_differs_from_eval"},
            lambda d, s: plain(d, s, n=LONG, nets=with_norms(d, s, hardly_averaging)),
        ),
        "an average over 10,000 steps": (
            {"ema_lags"},
            only_images(lambda d, s: replace(plain(d, s, n=LONG), average=slow_average)),
        ),
        "saturation": (
            {"vanishing"},
            only_images(
                lambda d, s: plain(d, s, saturated, LONG // 2, nets=networks(d, s, "none"), rates=(1e-5, 1e-2))
            ),
        ),
        "BCELoss at its clamp": (
            {"clamped", "vanishing"},
            lambda d, s: plain(d, s, clamped_step, LONG // 2, nets=networks(d, s, "none"), rates=(1e-6, 0.3)),
        ),
        "D a hundred times faster": ({"far_ahead"}, only_images(part(plain, n=LONG, rates=(2e-5, 4e-3)))),
        "G a hundred times faster": ({"far_behind"}, part(plain, n=LONG, rates=(4e-3, 1e-5))),
        "G without BatchNorm, fast": (
            {"collapse", "twins", "narrowing", "oscillation"},
            lambda d, s: plain(d, s, n=LONG, nets=networks(d, s, "none", False), rates=(1e-2, 2e-3), betas=(0.9, 0.99)),
        ),
        "no bound, high rates": ({"explodes"}, part(critics, step=wgan, n=LONG // 2, rates=(5e-3, 5e-3))),
        "64 images": ({"by_heart"}, only_images(part(few, step=bce_step))),
        "rates up twentyfold": ({"score_worsens"}, part(plain, step=raised_later, n=LONG)),
    }


def again(draw: Callable) -> Callable:
    """The same draw each time."""
    kept = draw()
    return lambda: kept


def only_images(make: Callable) -> Callable:
    """There is no such bug with points, or it does no harm to them: they have no pixels, and lie close together."""

    def run(data, seed):
        if data == "points":
            raise NotThere("points have no pixels")
        return make(data, seed)

    return run


def scaled_otherwise(data: str, seed: int) -> Run:
    """Reals normalised with MNIST's mean and deviation."""
    return plain(data, seed, batches=mapped(reals(data, seed), lambda x: ((x + 1) / 2 - 0.1307) / 0.3081))


def healthy() -> dict[str, Callable]:
    """Name -> ``seed -> Run``: the presets at their own widths, and the games in the plane."""
    twice = (
        "mnist",
        "cifar10-short",
        "celeba-published",
    )  # "demo" and "cifar10" for longer; and one too slow for a CPU
    made = {name: functools.partial(preset, name) for name in PRESETS if name not in twice}
    for name in ("ring", "grid25", "spiral", "two_moons"):
        target = functools.partial(getattr(toys, name), **({"std": 0.1} if name in ("ring", "grid25") else {}))
        made[f"00 {name}"] = functools.partial(in_the_plane, target)
    for data in ("digits", "faces"):
        made[f"small {data}"] = functools.partial(plain, data, n=LONG)
        made[f"small {data}, R1"] = functools.partial(plain, data, step=steps.dcgan_r1_step, n=LONG)
    made["03 points, clipped"] = lambda seed: critics("points", seed, steps.wgan_step, LONG)
    made["03 points, penalty"] = lambda seed: critics("points", seed, steps.wgan_gp_step, LONG)
    return made


def preset(name: str, seed: int) -> Run:
    """A preset of ``ganlib train``, on what data there is."""
    config = replace(PRESETS[name], n=5000, seed=seed)
    images = _loaded(config.dataset, config.image_size, config.channels, config.architecture)
    config = build.fitted(config, images)
    gan = build.players(config)
    reals = images.with_flips() if "flip" in config.augment else images
    seen, rest = reals.hold_out(300, seed)
    return Run(gan, build.step(config), Batches(seen, config.batch_size, seed=seed), seen, rest, LONG)


@functools.cache
def _loaded(name, size, channels, architecture) -> ImageSet:
    how = dict(image_size=28, channels=1) if architecture == "pooled" else dict(image_size=size, channels=channels)
    return load(name, n=5000, **{key: value for key, value in how.items() if value is not None})


def in_the_plane(target: Callable, seed: int) -> Run:
    """Notebook 00's game."""
    g, d = models.mlp_generator(2, 96, seed), models.mlp_discriminator(96, seed + 1)
    opts = [torch.optim.Adam(net.parameters(), lr, (0.5, 0.9)) for net, lr in ((g, 2e-3), (d, 5e-3))]
    return Run(GAN(g, d, *opts, 2, seed), steps.dcgan_step, points(seed, 256, target), steps=900)


def copied(batches):
    """What comes next, without using it up."""
    return copy.copy(batches) if isinstance(batches, Batches) else batches
