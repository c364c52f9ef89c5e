"""What a run was is written down, and what has changed is named."""

import copy
import functools
import json

import pytest
import torch
from test_train import players

from ganlib import steps
from ganlib.data.images import ImageSet
from ganlib.runs import settings
from helpers import noise


def images(seed=0, n=20, name="noise"):
    return ImageSet(noise(n, seed=seed), None, (), name, f"{name} · {n} images")


def describe(gan=None, step=steps.dcgan_step, reals=None, **arguments):
    given = {"batch_size": 8, "seed": 0, "steps": 10, "snapshot_every": range(0, 11, 5), "score_every": {3, 1}}
    return settings.describe(gan or players(), step, reals or images(), given | arguments)


def test_a_description_is_plain_json_and_has_everything():
    config = describe()
    assert json.loads(json.dumps(config)) == config
    assert config["arguments"]["snapshot_every"] == [0, 5, 10] and config["arguments"]["score_every"] == [1, 3]
    assert config["players"]["generator"]["config"] == players().generator.config
    assert config["players"]["g_opt"]["groups"][0]["betas"] == [0.5, 0.999]
    expected = {"name": "noise", "split": "train", "source": "noise · 20 images", "count": 20, "shape": [1, 8, 8]}
    assert {k: v for k, v in config["images"].items() if k != "fingerprint"} == expected
    assert config["ran_on"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"ganlib", "numpy", "safetensors", "python", "git", "processor", "threads"} <= config["ran_on"].keys()


def own_step(gan, batches):
    """A step that is none of ganlib's."""


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (steps.dcgan_step, {"step": "ns"}),
        (functools.partial(steps.wgan_step, n_critic=3), {"step": "wgan", "n_critic": 3}),
        (
            functools.partial(functools.partial(steps.wgan_step, n_critic=3), n_critic=4),
            {"step": "wgan", "n_critic": 4},
        ),
        (own_step, {"step": f"{__name__}.own_step"}),
        (functools.partial(own_step, 7, g_loss=own_step), None),
    ],
)
def test_a_step_is_named_explicitly(step, name):
    found = settings.name_of(step)
    assert found == name if name else found["argument 0"] == 7 and "own_step" in found["g_loss"]
    assert json.loads(json.dumps(found)) == found


def test_the_git_revision_is_that_of_the_checkout(monkeypatch, tmp_path):
    revision = settings._git_revision()
    assert revision is None or (len(revision.rstrip("+")) == 40 and int(revision.rstrip("+"), 16))
    monkeypatch.setattr(settings.runtime, "project_root", lambda: tmp_path)  # no checkout
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert settings._git_revision() is None


def test_the_same_run_has_no_differences_however_long_it_is():
    longer = describe(steps=99, snapshot_every=[1], seconds=3.0, checkpoint_every=7, reals=images(name="a copy"))
    assert settings.differences(describe(), longer) == []


def test_what_varies_is_told_in_short():
    one, two, three = describe(), describe(), describe(seed=7, reals=images(n=30))
    assert settings.varied([one, two]) == {}
    found = settings.varied([one, two, three])
    prints = found.pop("images.fingerprint")
    assert prints[0] == prints[1] != prints[2]
    assert found == {"seed": [0, 0, 7], "images.count": [20, 20, 30]}
    wide = describe()
    wide["players"]["generator"]["config"]["width"] = 9
    assert settings.varied([one, wide]) == {"generator.config.width": [4, 9]}


def changed_players(**changes):
    gan = players()
    if "d_opt" in changes:
        gan.d_opt = torch.optim.SGD(gan.discriminator.parameters(), 2e-3)
    if "lr" in changes:
        gan.d_opt.param_groups[0]["lr"] = 1e-3
    if "seed" in changes:
        gan.seed = 7
    if "leak" in changes:
        gan.discriminator[1].negative_slope = 0.1
    return gan


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"seed": 1}, "seed was 0 and is 1 now."),
        ({"gan": changed_players(seed=7)}, "z_seed was 0 and is 7 now."),
        ({"batch_size": 9}, "batch_size was 8 and is 9 now."),
        ({"gan": changed_players(lr=1)}, "d_opt.groups.0.lr was 0.002 and is 0.001 now."),
        ({"gan": changed_players(d_opt=1)}, "d_opt.kind was 'Adam' and is 'SGD' now."),
        ({"gan": changed_players(leak=1)}, "discriminator.layers was"),
        ({"gan": players(seed=4)}, "generator.config.seed was 0 and is 4 now."),
        ({"step": steps.minimax_step}, "step was 'ns' and is 'minimax' now."),
        ({"step": functools.partial(steps.dcgan_step, k=2)}, "k was not there and is 2 now."),
        ({"reals": images(n=19)}, "images.count was 20 and is 19 now."),
        ({"reals": images(seed=1)}, "images.fingerprint was "),
    ],
)
def test_each_difference_is_named(changed, sentence):
    found = settings.differences(describe(), describe(**changed))
    assert any(sentence in one for one in found), found


def test_a_layer_that_works_in_place_is_no_other_layer():
    gan = players()
    gan.generator[2].inplace = gan.discriminator[1].inplace = False
    assert settings.differences(describe(gan=gan), describe()) == []


def test_a_step_from_a_notebook_cannot_be_told_from_another():
    def step(gan, batches):
        pass

    step.__module__, step.__qualname__ = "__main__", "step"
    assert settings.differences(describe(), describe(step=step)) == []
    assert settings.differences(describe(step=step), describe()) == []


def test_one_pixel_changes_the_fingerprint_and_the_file_does_not(monkeypatch):
    pixels = noise(40)
    changed = pixels.clone()
    changed[38, 0, 7, 7] ^= 1
    assert settings.fingerprint(pixels) == settings.fingerprint(pixels.clone())
    assert settings.fingerprint(pixels) != settings.fingerprint(changed)
    assert settings.fingerprint(pixels) != settings.fingerprint(pixels.view(40, 1, 4, 16))
    monkeypatch.setattr(settings, "HASH_BYTES", pixels.nbytes // 2)  # every second image
    assert settings.fingerprint(pixels) != settings.fingerprint(changed)
    changed = pixels.clone()
    changed[39, 0, 7, 7] ^= 1
    assert settings.fingerprint(pixels) == settings.fingerprint(changed)


def test_another_machine_is_told_and_no_difference():
    before, now = describe(), copy.deepcopy(describe())
    now["ran_on"] |= {"torch": "9.0", "threads": 64, "git": "other"}
    assert settings.differences(before, now) == []
    was = before["ran_on"]
    expected = [f"torch 9.0 instead of {was['torch']}", f"threads 64 instead of {was['threads']}"]
    assert settings.new_surroundings(before, now) == expected
