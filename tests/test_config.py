"""The settings of a run: what they are, which go together, and the presets, which are those of the notebooks."""

import dataclasses
import json
import math
import re
import subprocess
import sys

import pytest
import torch

from ganlib import models
from ganlib.runs import build
from ganlib.runs.config import FREE, GROUPS, LOSSES, Config, change, changed, check, differences, settle
from ganlib.runs.presets import CIFAR10, CIFAR10_SHORT, DEMO, PLAIN, PRESETS
from ganlib.steps import STEPS
from helpers import read_notebook, source

NAMES = [field.name for field in dataclasses.fields(Config)]


def test_settings_and_presets_come_without_torch():
    code = "import sys, ganlib, ganlib.runs.presets; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_config_goes_through_json():
    for config in (Config(), *PRESETS.values()):
        assert change(Config(), json.loads(json.dumps(dataclasses.asdict(config)))) == config == check(config)
    assert changed(Config(z_dim=3, augment=("flip",))) == {"z_dim": 3, "augment": ("flip",)}
    assert sorted(NAMES) == sorted(field.name for group in GROUPS for field in dataclasses.fields(group))


def test_what_the_loss_decides():
    assert LOSSES.keys() == STEPS.keys()
    assert settle(Config(loss="wgan")) == Config(
        loss="wgan", n_critic=5, clip_value=0.01, g_lr=5e-5, d_lr=5e-5, norm="none"
    )
    assert settle(Config(loss="hinge", g_lr=1.0)).g_lr == 1.0
    assert settle(Config(loss="hinge")).norm == "spectral" and settle(Config()).norm == "batch"
    assert settle(Config(architecture="linear")).norm is None
    for name in LOSSES:
        assert settle(settle(Config(loss=name))) == settle(Config(loss=name))


def test_one_length_takes_the_place_of_another():
    assert (DEMO.steps, DEMO.seconds) == (20_000, 90)
    shorter = change(DEMO, {"epochs": 2})
    assert (shorter.epochs, shorter.steps, shorter.seconds) == (2, None, None)
    assert change(DEMO, {"z_dim": 70}).seconds == 90


def test_differences_are_those_that_make_another_run():
    now = change(DEMO, {"g_lr": 1e-3, "steps": 3, "out": "x", "snapshot_every": 1})
    assert differences(DEMO, now) == ["g_lr was 0.004 and is 0.001 now."]
    assert not differences(DEMO, dataclasses.replace(DEMO, norm="batch"))  # what it is anyway
    assert set(NAMES) > FREE


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"epochs": 3, "steps": 4}, "epochs=3 and steps=4"),
        ({"clip_value": 0.1, "loss": "hinge"}, "clip_value.*loss=hinge.*take loss=wgan"),
        ({"n_critic": 2}, "n_critic.*loss=ns.*take loss=wgan or wgan-gp"),
        ({"r1_gamma": 2, "loss": "wgan-gp"}, "take loss=ns-r1 or rpgan"),
        ({"r1_every": 2, "loss": "rpgan"}, "r1_every.*loss=rpgan.*take loss=ns-r1"),
        ({"r1_every": 0, "loss": "ns-r1"}, "r1_every=0.*at least 1"),
        ({"d_depth": 0}, "d_depth=0.*at least 1"),
        ({"d_depth": 2, "architecture": "linear"}, "d_depth.*architecture=linear"),
        ({"betas": (0.5, 0.9), "loss": "wgan"}, "betas.*RMSprop"),
        ({"norm": "batch", "loss": "wgan-gp"}, "norm=batch.*take norm=none"),
        ({"norm": "layer", "architecture": "linear"}, "norm.*architecture=linear"),
        ({"categories": 3, "architecture": "linear"}, "categories.*architecture=linear"),
        ({"categories": 1}, "categories=1.*z_dim=64.*0, or at least 2"),
        ({"categories": 64}, "categories=64.*fewer"),
        ({"categories": -1}, "categories=-1.*at least 0"),
        ({"g_width": 8, "architecture": "pooled"}, "g_width.*architecture=pooled"),
        ({"architecture": "pooled", "image_size": 32}, "28 grey pixels.*image_size=32 and channels=1"),
        ({"architecture": "pooled", "channels": 3}, "28 grey pixels"),
        ({"architecture": "pooled", "loss": "rpgan"}, "BatchNorm.*loss=rpgan"),
        ({"architecture": "linear", "image_size": 28}, "image_size=28.*multiple of 8"),
        ({"architecture": "class"}, "architecture='class'.*conv"),
        ({"dataset": "folder"}, "data_root=PATH"),
        ({"allow_changes": True}, "resume_path=RUN"),
        ({"steps": 0}, "steps=0.*at least 1"),
        ({"keep_epochs": (0, 5)}, r"keep_epochs=\(0, 5\)"),
        ({"ema_decay": 1.0}, "ema_decay=1.0.*at least 0 and below 1"),
        ({"ema_decay": math.nan}, "ema_decay=nan"),
        ({"seed": 2**30}, "below 1,073,741,824"),
        ({"g_width": 10**20}, "g_width=10{20}.*below 1,048,576"),
        ({"g_lr": 0.0}, "g_lr=0.0.*above 0"),
        ({"d_lr": math.inf}, "d_lr=inf"),
        ({"seconds": -1.0}, "seconds=-1.0"),
        ({"betas": (0.5, 1.0)}, "betas=.*1\\)"),
        ({"betas": (0.5,)}, "betas=.*tuple.float, float"),
        ({"channels": 2}, "channels=2.*1 .grey"),
        ({"image_size": 4}, "image_size=4.*at least 8"),
        ({"loss": "lsgan"}, "loss='lsgan'.*'ns', 'ns-r1', 'minimax'"),
        ({"z_dim": 3.5}, "z_dim=3.5.*int"),
        ({"z_dim": True}, "z_dim=True"),
        ({"g_lr": "fast"}, "g_lr='fast'.*float"),
        ({"augment": ("flip", "flop")}, "flop.*'flip'"),
        ({"dry_run": 1}, "dry_run=1.*bool"),
        ({"dataset": 3}, "dataset=3.*str"),
        ({"g_rl": 1.0}, "'g_rl'; did you mean 'g_lr'"),
        ({"processes": 2}, "no setting 'processes'"),
        ({"zzzzzz": 1.0}, "no setting 'zzzzzz'; there are: allow_changes, "),
    ],
)
def test_what_cannot_work_gets_a_sentence(given, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        change(Config(), given)
    assert "\n" not in str(refused.value)


# What the notebooks build: size, channels, z_dim, widths, learning rates, betas, and what is particular.
NUMBERS = [
    (PLAIN, (28, 1, 64), (32, 32), (2e-4, 2e-4), (0.5, 0.999), {"base": 7}, {"base": 7}),
    (DEMO, (28, 1, 36), (32, 16), (4e-3, 4e-3), (0.0, 0.99), {"categories": 20}, {}),
    (CIFAR10, (32, 3, 100), (32, 24), (1e-3, 1.4e-3), (0.0, 0.99), {}, {"depth": 2}),
    (CIFAR10_SHORT, (32, 3, 100), (32, 24), (1e-3, 1.4e-3), (0.0, 0.99), {}, {"depth": 2}),
]


@pytest.mark.parametrize(("preset", "size", "widths", "rates", "betas", "g_more", "d_more"), NUMBERS)
def test_players_of_a_preset_are_those_of_its_numbers_bit_for_bit(preset, size, widths, rates, betas, g_more, d_more):
    gan = build.players(dataclasses.replace(preset, seed=3, image_size=size[0], channels=size[1]))
    generator = models.dcgan_generator(*size[:2], widths[0], size[2], **g_more, seed=6)
    discriminator = models.dcgan_discriminator(*size[:2], widths[1], **d_more, seed=7)
    for mine, theirs in ((gan.generator, generator), (gan.discriminator, discriminator)):
        assert mine.config == theirs.config
        assert all(map(torch.equal, mine.state_dict().values(), theirs.state_dict().values()))
    for optimiser, rate in zip((gan.g_opt, gan.d_opt), rates, strict=True):
        assert type(optimiser) is torch.optim.Adam
        assert (optimiser.param_groups[0]["lr"], optimiser.param_groups[0]["betas"]) == (rate, betas)
    assert (gan.z_dim, gan.seed, gan.ema_decay) == (size[2], 3, preset.ema_decay)


def literals(notebook):
    """The numbers that a notebook's configuration cell gives."""
    cell = next(source(c) for c in read_notebook(notebook)["cells"] if source(c).startswith("z_dim ="))
    values: dict = {}
    exec(cell[: cell.index("\ncfg")], values)
    for name in ("seconds", "epochs"):
        values[name] = int(found[1]) if (found := re.search(rf"{name}=(\d+)", cell)) else None
    return values


COMMON = ("batch_size", "ema_decay", "seed")
ADAM = ("g_width", "d_width", "g_lr", "d_lr", "betas")
OF_03 = {
    "dcgan": {},
    "hinge": {},
    "rpgan": {},
    "wgan": {"n_critic": "n_critic", "clip_value": "clip_value", "g_lr": "rms_lr"},
    "wgan-gp": {"n_critic": "n_critic", "gp_weight": "gp_weight", "g_lr": "gp_lr", "betas": "gp_betas"},
}
OF_NOTEBOOKS = [
    # notebook, preset, settings of the same name there, and others with what they are there
    ("01_dcgan_mnist", "mnist", (*COMMON, *ADAM, "categories", "epochs"), {"z_dim": "z_dim + categories"}),
    ("02_dcgan_cifar10", "cifar10-short", (*COMMON, *ADAM, "z_dim", "seconds", "r1_gamma", "r1_every"), {}),
    (
        *("04_dcgan_celeba", "celeba-published", (*COMMON, "z_dim", "image_size", "betas", "seconds")),
        {"g_width": "width", "d_width": "width", "g_lr": "lr", "d_lr": "lr"},
    ),
    *(
        ("03_wgan", f"{game}-{data}", (*COMMON, "z_dim", "seconds"), {"g_width": width, "d_width": width, **more})
        for data, width in (("mnist", "digit_width"), ("cifar10", "colour_width"))
        for game, more in OF_03.items()
    ),
]


@pytest.mark.parametrize(("notebook", "preset", "same", "others"), OF_NOTEBOOKS)
def test_presets_are_the_notebooks_own_numbers(notebook, preset, same, others):
    nb, mine = literals(f"{notebook}.ipynb"), settle(PRESETS[preset])
    for name, there in (dict(zip(same, same, strict=True)) | others).items():
        assert getattr(mine, name) == eval(there, nb), name
