"""Networks built from a config, kept in a folder as on the Hugging Face hub, and weights that have to fit."""

import json

import huggingface_hub
import pytest
import torch

from ganlib import models
from ganlib.models import Discriminator, Generator, dcgan_discriminator, dcgan_generator, load_strict


@pytest.mark.parametrize(
    "make",
    [
        lambda: dcgan_generator(28, 1, 4, 8, base=7, categories=3, seed=2),
        lambda: dcgan_discriminator(16, 3, 4, norm="spectral", depth=2, seed=3).to(memory_format=torch.channels_last),
        lambda: models.pooled_generator(5),
    ],
)
def test_what_is_saved_is_loaded(make, tmp_path):
    network = make()
    for parameter in network.parameters():
        parameter.data.add_(0.1)
    network.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == network.config
    loaded = type(network).from_pretrained(tmp_path)
    assert type(loaded) is type(network) and loaded.config == network.config and not loaded.training
    for one, two in zip(network.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_networks_travel_over_the_hub(tmp_path, monkeypatch):
    hub = tmp_path / "user" / "mine"  # in place of huggingface.co
    monkeypatch.setattr(
        huggingface_hub.HfApi, "create_repo", lambda self, repo_id, **_: huggingface_hub.RepoUrl(repo_id)
    )
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", lambda self, folder_path, **_: folder_path.rename(hub))
    asked = []

    def download(repo_id, filename, **how):
        asked.append((repo_id, filename))
        return str(hub / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    hub.parent.mkdir()
    network = dcgan_generator(8, 1, 4, 6, seed=7)
    network.push_to_hub("user/mine")
    assert "ganlib" in (hub / "README.md").read_text()
    assert torch.equal(Generator.from_pretrained("user/mine")[0].weight, network[0].weight)
    assert ("user/mine", "model.safetensors") in asked


def misfit(tmp_path, **other):
    (network := dcgan_generator(8, 1, 4, 6)).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(network.config | other))
    return Generator.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda _: Generator.build({}), "no generator of kind 'None'.*dcgan, linear, pooled"),
        (lambda _: Discriminator.build({"kind": ["dcgan"]}), "no discriminator of kind .*dcgan, linear, pooled"),
        (lambda _: models.Generator.build({"kind": "dcgan", "depth": 2}), "generator of kind 'dcgan'.*depth"),
        (lambda _: models.Discriminator.build({"kind": "linear", "width": "a"}), "discriminator of kind 'linear'.*'a'"),
        (lambda _: models.Discriminator.build({"kind": "dcgan", "width": -3}), "width is -3.*at least 1"),
        (lambda _: models.Generator.build({"kind": "dcgan", "image_size": 3}), "image_size=3"),
        (lambda folder: Generator.from_pretrained(folder), "no generator of kind 'None'"),  # it is empty
        (lambda folder: misfit(folder, width=5), r"model.safetensors'.*'0.weight'.*\[6, 4, 4, 4\].*\[6, 5, 4, 4\]"),
        (lambda folder: misfit(folder, kind="pooled"), "generator of kind 'pooled'.*image_size"),
    ],
)
def test_what_cannot_be_built_or_loaded_gets_a_sentence(call, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        call(tmp_path)


def test_weights_that_do_not_fit_change_nothing():
    network, other = dcgan_generator(8, 1, 4, 6), dcgan_generator(8, 1, 4, 6, seed=1)
    before, fitting = network[0].weight.clone(), other.state_dict()
    for weights, sentence in (
        (fitting | {"4.weight": torch.zeros(4)}, r"'there'.*'4.weight'.*\[4\]"),
        ({k: v for k, v in fitting.items() if k != "3.bias"}, "'3.bias'.*nothing"),
        (fitting | {"9.weight": torch.zeros(4)}, r"'9.weight'.*\[4\].*nothing"),
    ):
        with pytest.raises(ValueError, match=sentence):
            load_strict(network, weights, "there")
        assert torch.equal(network[0].weight, before)
    load_strict(network, dict(reversed(fitting.items())), "there")  # in any order
    assert torch.equal(network[0].weight, other[0].weight)
