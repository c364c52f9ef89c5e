"""What a run was is written down, and what has changed is named."""

import copy
import functools
import json

import pytest
import torch
from test_train import players

from ganlib import models, steps
from ganlib.data.images import ImageSet
from ganlib.runs import provenance
from helpers import noise


def images(seed=0, n=20, name="noise"):
    return ImageSet(noise(n, seed=seed), None, (), name, f"{name} · {n} images")


def describe(gan=None, step=steps.dcgan_step, reals=None, **arguments):
    given = {"batch_size": 8, "steps": 10, "snapshot_every": range(0, 11, 5), "score_every": {3, 1}}
    return provenance.describe(gan or players(), step, reals or images(), given | arguments)


def test_a_description_is_plain_json_and_has_everything():
    config = describe()
    assert json.loads(json.dumps(config)) == config
    assert config["arguments"]["snapshot_every"] == [0, 5, 10] and config["arguments"]["score_every"] == [1, 3]
    assert config["players"]["generator"]["config"] == players().generator.config
    assert config["players"]["g_opt"]["groups"][0]["betas"] == [0.5, 0.999]
    expected = {"name": "noise", "split": "train", "source": "noise · 20 images", "flip": False, "count": 20}
    assert expected.items() <= config["images"].items() and config["images"]["shape"] == [1, 8, 8]
    assert config["players"]["generator"]["parameters"] == models.count_parameters(players().generator)
    assert config["ran_on"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"numpy", "safetensors", "python", "processor", "threads"} <= config["ran_on"].keys()


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
        (functools.partial(own_step, g_loss=own_step), None),
    ],
)
def test_a_step_is_named_explicitly(step, name):
    found = provenance.name_of(step)
    assert found == name if name else "own_step" in found["g_loss"]
    assert json.loads(json.dumps(found)) == found


def test_the_same_run_has_no_differences_however_long_it_is():
    gan = players()
    gan.generator[2].inplace = gan.discriminator[1].inplace = False  # how a layer computes, not what
    longer = describe(gan, steps=99, snapshot_every=[1], seconds=3.0, checkpoint_every=7, reals=images(name="a copy"))
    assert provenance.differences(describe(), longer) == []


def with_changed(change):
    gan = players()
    change(gan)
    return gan


def use_sgd(gan):
    gan.d_opt = torch.optim.SGD(gan.discriminator.parameters(), 2e-3)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"gan": with_changed(lambda gan: setattr(gan, "seed", 7))}, "seed was 0 and is 7 now."),
        ({"batch_size": 9}, "batch_size was 8 and is 9 now."),
        ({"gan": players(lr=1e-3)}, "d_opt.groups.0.lr was 0.002 and is 0.001 now."),
        ({"gan": with_changed(use_sgd)}, "d_opt.kind was 'Adam' and is 'SGD' now."),
        ({"gan": with_changed(lambda gan: gan.discriminator.append(torch.nn.ReLU()))}, "discriminator.layers was"),
        ({"gan": players(seed=4)}, "generator.config.seed was 0 and is 4 now."),
        ({"step": steps.minimax_step}, "step was 'ns' and is 'minimax' now."),
        ({"step": functools.partial(steps.dcgan_step, k=2)}, "k was 'not there' and is 2 now."),
        ({"reals": images(n=19)}, "images.count was 20 and is 19 now."),
        ({"reals": images(seed=1)}, "images.fingerprint was "),
    ],
)
def test_each_difference_is_named(changed, sentence):
    found = provenance.differences(describe(), describe(**changed))
    assert any(sentence in one for one in found), found


def test_a_step_from_a_notebook_cannot_be_told_from_another():
    def step(gan, batches):
        pass

    step.__module__, step.__qualname__ = "__main__", "step"
    assert provenance.differences(describe(), describe(step=step)) == []
    assert provenance.differences(describe(step=step), describe()) == []


def test_one_pixel_changes_the_fingerprint_and_the_file_does_not(monkeypatch):
    pixels = noise(40)
    changed = pixels.clone()
    changed[38, 0, 7, 7] ^= 1
    assert provenance.fingerprint(pixels) == provenance.fingerprint(pixels.clone())
    assert provenance.fingerprint(pixels) != provenance.fingerprint(changed)
    assert provenance.fingerprint(pixels) != provenance.fingerprint(pixels.view(40, 1, 4, 16))
    monkeypatch.setattr(provenance, "HASH_BYTES", pixels.nbytes // 2)  # every second image
    assert provenance.fingerprint(pixels) != provenance.fingerprint(changed)
    changed = pixels.clone()
    changed[39, 0, 7, 7] ^= 1
    assert provenance.fingerprint(pixels) == provenance.fingerprint(changed)


def test_another_machine_is_told_and_no_difference():
    before, now = describe(), copy.deepcopy(describe())
    assert provenance.new_surroundings(before, now) == []
    now["ran_on"] |= {"torch": "9.0", "threads": 64, "git": "other"}
    assert provenance.differences(before, now) == []
    was = before["ran_on"]
    expected = [f"torch 9.0 instead of {was['torch']}", f"threads 64 instead of {was['threads']}"]
    assert provenance.new_surroundings(before, now) == expected


def test_the_git_revision_is_that_of_the_checkout(monkeypatch, tmp_path):
    revision = describe()["ran_on"]["git"]
    assert revision is None or (len(revision.rstrip("+")) == 40 and int(revision.rstrip("+"), 16))
    monkeypatch.setattr(provenance.runtime, "project_root", lambda: tmp_path)  # no checkout
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert describe()["ran_on"]["git"] is None
