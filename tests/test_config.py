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
from ganlib.runs.config import GROUPS, LOSSES, Config, change, changed, check, settle
from ganlib.runs.presets import DEMO, PRESETS
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


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"epochs": 3, "steps": 4}, "epochs=3 and steps=4"),
        ({"clip_value": 0.1, "loss": "hinge"}, "clip_value.*loss=hinge.*take loss=wgan"),
        ({"n_critic": 2}, "n_critic.*loss=ns.*take loss=wgan or wgan-gp"),
        ({"r1_every": 2, "loss": "rpgan"}, "r1_every.*loss=rpgan.*take loss=ns-r1"),
        ({"r1_every": 0, "loss": "ns-r1"}, "r1_every=0.*at least 1"),
        ({"d_depth": 2, "architecture": "linear"}, "d_depth.*architecture=linear"),
        ({"norm": "batch", "loss": "wgan-gp"}, "norm=batch.*take norm=none"),
        ({"base": 7, "architecture": "residual"}, "base.*architecture=residual.*take architecture=conv"),
        ({"blocks": 2}, "blocks.*architecture=conv.*take architecture=residual"),
        ({"g_width": 8, "architecture": "pooled"}, "g_width.*architecture=pooled"),
        ({"architecture": "pooled", "image_size": 32}, "pooled.*28 grey pixels.*conv"),
        ({"architecture": "pooled", "channels": 3}, "28 grey pixels"),
        ({"architecture": "pooled", "loss": "rpgan"}, "BatchNorm.*loss=rpgan"),
        ({"architecture": "class"}, "architecture='class'.*conv"),
        ({"dataset": "folder"}, "data_root=PATH"),
        ({"steps": 0}, "steps=0.*at least 1"),
        ({"ema_decay": 1.0}, "ema_decay=1.0.*at least 0 and below 1"),
        ({"ema_decay": math.nan}, "ema_decay=nan"),
        ({"g_width": 10**20}, "g_width=10{20}.*below 1,048,576"),
        ({"d_lr": math.inf}, "d_lr=inf"),
        ({"betas": (0.5,)}, "betas=.*tuple.float, float"),
        ({"loss": "lsgan"}, "loss='lsgan'.*'ns', 'ns-r1', 'minimax'"),
        ({"z_dim": True}, "z_dim=True"),
        ({"g_lr": "fast"}, "g_lr='fast'.*float"),
        ({"augment": ("flip", "flop")}, "flop.*'flip'"),
        ({"g_rl": 1.0}, "'g_rl'; did you mean 'g_lr'"),
        ({"zzzzzz": 1.0}, "no setting 'zzzzzz'; there are: allow_changes, "),
    ],
)
def test_what_cannot_work_gets_a_sentence(given, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        change(Config(), given)
    assert "\n" not in str(refused.value)


def test_players_of_a_preset_are_those_of_its_numbers_bit_for_bit():
    gan = build.players(dataclasses.replace(DEMO, seed=3, image_size=28, channels=1))
    networks = (
        models.dcgan_generator(28, 1, 32, 36, categories=20, seed=6),
        models.dcgan_discriminator(28, 1, 16, seed=7),
    )
    for mine, theirs in zip((gan.generator, gan.discriminator), networks, strict=True):
        assert mine.config == theirs.config
        assert all(map(torch.equal, mine.state_dict().values(), theirs.state_dict().values()))
    assert (gan.z_dim, gan.seed, gan.ema_decay, gan.g_opt.param_groups[0]["lr"]) == (36, 3, 0.998, 4e-3)


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
    "wgan": {"n_critic": "n_critic", "clip_value": "clip_value", "g_lr": "rms_lr"},
    "wgan-gp": {"n_critic": "n_critic", "gp_weight": "gp_weight", "g_lr": "gp_lr", "betas": "gp_betas"},
}
OF_NOTEBOOKS = [
    # notebook, preset, settings of the same name there, and others with what they are there
    ("01_dcgan_mnist", "mnist", (*COMMON, *ADAM, "categories", "epochs"), {"z_dim": "z_dim + categories"}),
    ("02_dcgan_cifar10", "cifar10-short", (*COMMON, *ADAM, "z_dim", "r1_gamma", "r1_every"), {}),
    (
        *("04_dcgan_celeba", "celeba-published", (*COMMON, "z_dim", "image_size", "betas")),
        {"g_width": "width", "d_width": "width", "g_lr": "lr", "d_lr": "lr"},
    ),
    *(
        ("03_wgan", f"{game}-mnist", (*COMMON, "z_dim"), {"g_width": "width", "d_width": "width", **more})
        for game, more in OF_03.items()
    ),
]


@pytest.mark.parametrize(("notebook", "preset", "same", "others"), OF_NOTEBOOKS)
def test_presets_are_the_notebooks_own_numbers(notebook, preset, same, others):
    nb, mine = literals(f"{notebook}.ipynb"), settle(PRESETS[preset])
    for name, there in (dict(zip(same, same, strict=True)) | others).items():
        assert getattr(mine, name) == eval(there, nb), name
