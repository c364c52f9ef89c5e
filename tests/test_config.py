"""The settings of a run: what they are, which go together, and the presets, which are those of the notebooks."""

import dataclasses
import functools
import json
import math
import re
import subprocess
import sys

import pytest
import torch

from ganlib import models
from ganlib.runs import build as games
from ganlib.runs.config import FREE, LOSSES, Config, changed
from ganlib.runs.presets import CIFAR10, CIFAR10_SHORT, DEMO, PLAIN, PRESETS
from ganlib.runs.rules import change, check, differences, from_json, settle
from helpers import ROOT, read_notebook, source

NAMES = [field.name for field in dataclasses.fields(Config)]


def test_every_setting_has_a_heading_and_one_line_of_help():
    assert sorted(NAMES) == sorted(field.name for group in Config.__bases__ for field in dataclasses.fields(group))
    text = (ROOT / "ganlib" / "config.py").read_text(encoding="utf-8")
    for name in NAMES:
        (told,) = re.findall(rf'^    {name}: [^\n]*\n    """([^\n]+)"""$', text, re.MULTILINE)
        assert 10 < len(told) < 115


def test_settings_and_presets_come_without_torch():
    code = "import sys, ganlib, ganlib.runs.presets, ganlib.runs.rules; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_config_goes_through_json():
    for config in (Config(), *PRESETS.values()):
        assert from_json(json.loads(json.dumps(dataclasses.asdict(config)))) == config
    assert changed(Config(z_dim=3, augment=("flip",))) == {"z_dim": 3, "augment": ("flip",)}
    with pytest.raises(ValueError, match="no table"):
        from_json([1])


def test_what_the_loss_decides():
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
        ({"epochs": 3, "steps": 4}, "epochs=3 and steps=4 both say how long"),
        ({"clip_value": 0.1, "loss": "hinge"}, "clip_value does nothing with loss=hinge: .* take loss=wgan"),
        ({"n_critic": 2}, "n_critic does nothing with loss=ns: .* take loss=wgan or wgan-gp"),
        ({"r1_gamma": 2, "loss": "wgan-gp"}, "take loss=ns-r1 or rpgan"),
        ({"r1_every": 2, "loss": "rpgan"}, "r1_every does nothing with loss=rpgan.*take loss=ns-r1"),
        ({"r1_every": 0, "loss": "ns-r1"}, "r1_every=0, but must be at least 1"),
        ({"d_depth": 0}, "d_depth=0, but must be at least 1"),
        ({"d_depth": 2, "architecture": "linear"}, "d_depth does nothing with architecture=linear"),
        ({"betas": (0.5, 0.9), "loss": "wgan"}, "betas are Adam's"),
        ({"norm": "batch", "loss": "wgan-gp"}, "norm=batch mixes .* take norm=none"),
        ({"norm": "layer", "architecture": "linear"}, "norm does nothing with architecture=linear"),
        ({"categories": 3, "architecture": "linear"}, "categories does nothing with architecture=linear"),
        ({"categories": 1}, "categories=1 are a part of z_dim=64: take 0, or at least 2"),
        ({"categories": 64}, "categories=64 are a part of z_dim=64: take 0, or .* fewer"),
        ({"categories": -1}, "categories=-1, but must be at least 0"),
        ({"g_width": 8, "architecture": "pooled"}, "g_width does nothing with architecture=pooled"),
        ({"architecture": "pooled", "image_size": 32}, "28 grey pixels, not for image_size=32 and channels=1"),
        ({"architecture": "pooled", "channels": 3}, "28 grey pixels"),
        ({"architecture": "pooled", "loss": "rpgan"}, "has BatchNorm, which loss=rpgan cannot have"),
        ({"architecture": "linear", "image_size": 28}, "take a multiple of 8"),
        ({"architecture": "class", "generator": "x.pth"}, "none of which can start from one file"),
        ({"dataset": "folder"}, "data_root=PATH"),
        ({"processes": 3}, "processes=3 cannot share batch_size=64"),
        ({"allow_changes": True}, "resume_path=RUN"),
        ({"steps": 0}, "steps=0, but must be at least 1"),
        ({"keep_epochs": (0, 5)}, r"keep_epochs=\(0, 5\), but the first pass over the images is 1"),
        ({"ema_decay": 1.0}, "ema_decay=1.0, but must be at least 0 and below 1"),
        ({"ema_decay": math.nan}, "ema_decay=nan"),
        ({"seed": 2**30}, "below 1,073,741,824"),
        ({"g_width": 10**20}, "g_width=10{20}, but must be at least 1 and below 1,048,576"),
        ({"g_lr": 0.0}, "g_lr=0.0, but must be above 0"),
        ({"d_lr": math.inf}, "d_lr=inf"),
        ({"seconds": -1.0}, "seconds=-1.0"),
        ({"betas": (0.5, 1.0)}, "betas=.* below 1"),
        ({"betas": (0.5,)}, "must be two numbers"),
        ({"channels": 2}, "channels=2, but must be 1"),
        ({"image_size": 4}, "image_size=4, but must be at least 8"),
        ({"loss": "lsgan"}, "loss='lsgan', but must be one of ns, ns-r1, minimax"),
        ({"z_dim": 3.5}, "z_dim=3.5, but must be a whole number"),
        ({"z_dim": True}, "z_dim=True"),
        ({"g_lr": "fast"}, "g_lr='fast', but must be a number"),
        ({"augment": ("flip", "flop")}, "several, each one of flip"),
        ({"dry_run": 1}, "dry_run=1, but must be True or False"),
        ({"dataset": 3}, "dataset=3, but must be a text"),
        ({"g_rl": 1.0}, "no setting 'g_rl'; did you mean 'g_lr'"),
        ({"zzzzzz": 1.0}, "no setting 'zzzzzz'; there are: allow_changes, "),
    ],
)
def test_what_cannot_work_gets_a_sentence(given, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        change(Config(), given)
    assert "\n" not in str(refused.value)


# --- presets --------------------------------------------------------------------------------------


def as_before(image_size, channels, z_dim, widths, base, g_lr, betas, d_lr, seed, categories=0, depth=1):
    """The players as presets built them before there was a Config, and as the notebooks build them."""
    g_width, d_width = widths
    build = functools.partial(models.dcgan_generator, base=base, categories=categories)
    generator = build(image_size, channels, g_width, z_dim, seed=2 * seed)
    build = functools.partial(models.dcgan_discriminator, base=base, depth=depth)
    discriminator = build(image_size, channels, d_width, seed=2 * seed + 1)
    g_opt = torch.optim.Adam(generator.parameters(), g_lr, betas)
    return generator, discriminator, g_opt, torch.optim.Adam(discriminator.parameters(), d_lr, betas)


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize(
    ("preset", "numbers"),
    [
        (PLAIN, (28, 1, 64, (32, 32), 7, 2e-4, (0.5, 0.999), 2e-4)),
        (DEMO, (28, 1, 36, (32, 16), 4, 4e-3, (0.0, 0.99), 4e-3)),
        (CIFAR10, (32, 3, 100, (32, 24), 4, 1e-3, (0.0, 0.99), 1.4e-3)),
        (CIFAR10_SHORT, (32, 3, 100, (32, 24), 4, 1e-3, (0.0, 0.99), 1.4e-3)),
    ],
)
def test_players_of_a_preset_are_the_ones_they_were_bit_for_bit(preset, numbers, seed):
    size = dict(image_size=numbers[0], channels=numbers[1])
    gan = games.players(dataclasses.replace(preset, seed=seed, **size))
    *networks, g_opt, d_opt = as_before(*numbers, seed, preset.categories, preset.d_depth)
    for mine, theirs in zip((gan.generator, gan.discriminator), networks, strict=True):
        assert mine.config == theirs.config
        assert all(map(torch.equal, mine.state_dict().values(), theirs.state_dict().values()))
    for mine, theirs in ((gan.g_opt, g_opt), (gan.d_opt, d_opt)):
        assert type(mine) is type(theirs)
        assert {k: v for k, v in mine.param_groups[0].items() if k != "params"} == {
            k: v for k, v in theirs.param_groups[0].items() if k != "params"
        }
    assert (gan.z_dim, gan.seed) == (numbers[2], seed)


def test_the_rest_of_the_presets_numbers():
    assert (DEMO.batch_size, DEMO.ema_decay, DEMO.augment, DEMO.snapshot_every, DEMO.score_every) == (
        *(96, 0.998, ()),
        *(40, 200),
    )
    assert (PLAIN.batch_size, PLAIN.ema_decay) == (64, 0.995)
    assert (CIFAR10.batch_size, CIFAR10.ema_decay, CIFAR10.augment) == (32, 0.998, ("flip",))
    assert (CIFAR10_SHORT.batch_size, CIFAR10_SHORT.ema_decay, CIFAR10_SHORT.loss) == (32, 0.99, "ns-r1")
    assert PRESETS["mnist"].epochs == 30 and PRESETS["mnist"].z_dim == 36
    for name, config in PRESETS.items():
        assert check(config) == config, name


def literals(notebook):
    """The numbers that a notebook's configuration cell gives."""
    cell = next(source(c) for c in read_notebook(notebook)["cells"] if source(c).startswith("z_dim ="))
    values: dict = {}
    exec(cell[: cell.index("\ncfg")], values)
    values["seconds"] = int(found[1]) if (found := re.search(r"seconds=(\d+)", cell)) else None
    values["epochs"] = int(found[1]) if (found := re.search(r"epochs=(\d+)", cell)) else None
    return values


def test_presets_are_the_notebooks_own_numbers():
    nb, mine = literals("01_dcgan_mnist.ipynb"), settle(PRESETS["mnist"])
    for name in ("categories", "batch_size", "g_lr", "d_lr", "betas", "ema_decay", "seed", "epochs"):
        assert getattr(mine, name) == nb[name], name
    assert mine.z_dim == nb["z_dim"] + nb["categories"]
    assert (mine.g_width, mine.d_width) == (nb["g_width"], nb["d_width"])

    nb, mine = literals("02_dcgan_cifar10.ipynb"), settle(PRESETS["cifar10-short"])
    for name in ("z_dim", "g_width", "d_width", "batch_size", "g_lr", "d_lr", "betas", "ema_decay", "seed", "seconds"):
        assert getattr(mine, name) == nb[name], name
    assert (mine.r1_gamma, mine.r1_every, mine.d_depth) == (nb["r1_gamma"], nb["r1_every"], 2)
    assert ("flip" in mine.augment) == nb["flip"]

    nb, mine = literals("04_dcgan_celeba.ipynb"), settle(PRESETS["celeba-published"])
    for name in ("z_dim", "image_size", "batch_size", "betas", "ema_decay", "seed", "seconds"):
        assert getattr(mine, name) == nb[name], name
    assert mine.g_width == mine.d_width == nb["width"] and mine.g_lr == mine.d_lr == nb["lr"]

    nb = literals("03_wgan.ipynb")
    for data in ("mnist", "cifar10"):
        for game in ("dcgan", "wgan", "wgan-gp", "hinge", "rpgan"):
            mine = settle(PRESETS[f"{game}-{data}"])
            for name in ("z_dim", "batch_size", "ema_decay", "seed", "seconds"):
                assert getattr(mine, name) == nb[name], (game, name)
            assert mine.g_width == mine.d_width == nb["digit_width" if data == "mnist" else "colour_width"]
        wgan, gp = settle(PRESETS[f"wgan-{data}"]), settle(PRESETS[f"wgan-gp-{data}"])
        assert (wgan.n_critic, wgan.clip_value, wgan.g_lr) == (nb["n_critic"], nb["clip_value"], nb["rms_lr"])
        assert (gp.n_critic, gp.gp_weight, gp.g_lr, gp.betas) == (
            *(nb["n_critic"], nb["gp_weight"]),
            *(nb["gp_lr"], nb["gp_betas"]),
        )
