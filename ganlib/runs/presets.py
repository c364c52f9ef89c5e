"""Presets: settings tried together, so that a run of the course can be repeated."""

from __future__ import annotations

from dataclasses import replace

from ganlib.runs.config import Config

# DCGAN's published settings (arXiv:1511.06434, section 4) at MNIST's size, with the usual two doublings 7-14-28.
PLAIN = Config(base=7, seconds=60)

# The best found for a minute on a laptop without a GPU; benchmarks/README.md has the effect of each setting.
DEMO = Config(
    **dict(z_dim=36, categories=20),  # 16 continuous numbers, as a digit needs few; and a choice of 20
    **dict(g_width=32, d_width=16),  # a step runs G once but D three times: G may be the larger one
    **dict(g_lr=4e-3, d_lr=4e-3),  # twenty times the published rates: narrow networks in a short run
    betas=(0.0, 0.99),  # no momentum: the other player has moved since
    batch_size=96,  # about five of each choice: FD 0.62, with batches of 64 0.70 (medians of 5 seeds)
    ema_decay=0.998,  # an average over about 500 steps
    **dict(steps=20_000, seconds=90, snapshot_every=40, score_every=200),
)

_COLOURS = dict(dataset="cifar10", image_size=32, channels=3, augment=("flip",))

# The best found for a few CPU minutes on CIFAR-10 at its own size (benchmarks/README.md). Notebook 02's
# settings, for 200 seconds.
CIFAR10_SHORT = Config(
    **_COLOURS,
    **dict(z_dim=100, g_width=32, d_width=24),  # narrow networks: many more steps in the same time
    d_depth=2,  # D looks twice at each size: FD 5.4 after 12,000 steps, with one look 5.8
    loss="ns-r1",  # a penalty on D's steepness: without it D wins after 10,000 steps, and G stops learning
    **dict(g_lr=1e-3, d_lr=1.4e-3),  # five times the published rates; G a little slower than D
    **dict(betas=(0.0, 0.99), batch_size=32),
    ema_decay=0.99,  # an average over about 100 steps
    **dict(seconds=200, snapshot_every=200, score_every=1000),
)

# The same for longer, with an average over about 500 steps.
CIFAR10 = replace(CIFAR10_SHORT, ema_decay=0.998, seconds=1320, snapshot_every=None, score_every=None)

# Faces at 64×64, for an hour or more: small steps and a fast generator; a discriminator of half the width, as it takes
# half of the time. After 25 epochs of 9,000 faces it begins to memorise them: resume with augment flip translation
# and g_lr 2e-4 (examples/gallery/README.md): a fast generator diverges when the discriminator's task is harder.
CELEBA = Config(
    **dict(dataset="celeba", image_size=64, channels=3, augment=("flip",)),
    **dict(z_dim=100, g_width=48, d_width=32, batch_size=32, g_lr=5e-4, ema_decay=0.999),
    **dict(seconds=5400, keep_epochs=(1, 5, 25, 50, 75, 100)),
)

# DCGAN's published settings for faces, but with Gaussian z. Notebook 04, "As published".
_PUBLISHED = dict(g_width=128, d_width=128, batch_size=128, g_lr=None, augment=(), ema_decay=0.99, keep_epochs=())
CELEBA_PUBLISHED = replace(CELEBA, seconds=100, **_PUBLISHED)

# Drawn faces whose attributes are known, in about a minute: benchmarks/attributes.py.
TOYFACES = Config(
    **dict(dataset="toyfaces", n=20_000, image_size=32, channels=3, z_dim=32, g_width=24, d_width=24),
    **dict(g_lr=1e-3, d_lr=5e-4, betas=(0.5, 0.99), batch_size=16, ema_decay=0.99, steps=5_000),
)

# 3,781 drawings with transparency. So few are soon known by heart: D sees none of them twice in the same place.
EMOJI = replace(
    CIFAR10,
    **dict(dataset="emoji", channels=4, augment=("translation", "cutout")),
    **dict(seconds=600, snapshot_every=250, score_every=2000),
)

# Notebook 01: its run with a choice, and the pair of many tutorials beside it.
MNIST = replace(DEMO, epochs=30, steps=None, seconds=None, snapshot_every=None, score_every=None)
MNIST_POOLED = Config(architecture="pooled", z_dim=100, batch_size=200, epochs=30)

# Five games at equal time, each with the settings of its paper, on narrow networks. Two are those of notebook 03.
_ALIKE = dict(z_dim=100, ema_decay=0.99, seconds=120, snapshot_every=20, score_every=250)
_GAMES = {
    "dcgan": Config(**_ALIKE),
    **{loss: Config(loss=loss, **_ALIKE) for loss in ("wgan", "wgan-gp", "hinge")},
    "rpgan": Config(loss="rpgan", r1_gamma=0.1, r2_gamma=0.1, **_ALIKE),
}

# A small R3GAN for a GPU, by image size; its loss and rates are those of the paper (arXiv:2501.05441, its appendix),
# whose weights of the penalties fall to a tenth during the run. None has been trained to its end for this course.
_R3GAN = dict(architecture="residual", blocks=2, loss="rpgan", betas=(0.0, 0.99), ema_decay=0.999, augment=("flip",))
_MODERN = {
    32: dict(dataset="cifar10", batch_size=256, g_width=192, d_width=192, r1_gamma=0.05, r2_gamma=0.05),
    64: dict(dataset="celeba", batch_size=128, g_width=96, d_width=96, r1_gamma=1.0, r2_gamma=1.0),
    128: dict(dataset="celeba", batch_size=64, g_width=64, d_width=64, r1_gamma=10.0, r2_gamma=10.0),
}

PRESETS = {
    **{"plain": PLAIN, "demo": DEMO, "mnist": MNIST, "mnist-pooled": MNIST_POOLED, "cifar10": CIFAR10},
    **{"cifar10-short": CIFAR10_SHORT, "celeba": CELEBA, "celeba-published": CELEBA_PUBLISHED, "toyfaces": TOYFACES},
    "emoji": EMOJI,
    **{f"{name}-mnist": replace(game, n=5000, g_width=16, d_width=16) for name, game in _GAMES.items()},
    **{f"{name}-cifar10": replace(game, **_COLOURS) for name, game in _GAMES.items()},
    **{f"modern-{n}": Config(image_size=n, channels=3, steps=200_000, **_R3GAN, **its) for n, its in _MODERN.items()},
}
