"""What is saved comes back, and what is damaged is refused with a sentence."""

import json

import pytest
import torch
from test_steps import reals, small_gan

from ganlib import checkpoint, steps, variants
from ganlib.steps import GAN


def test_both_generators_come_back(tmp_path):
    gan = small_gan()
    steps.dcgan_step(gan, reals())
    checkpoint.save(gan, tmp_path)
    z = torch.randn(3, 8)
    for name in ("generator", "ema_generator"):
        back = checkpoint.load_generator(tmp_path, name)
        assert not back.training
        assert back.averaged == (name == "ema_generator")
        assert torch.equal(back(z), getattr(gan, name).eval()(z))
    assert not torch.equal(back(z), gan.generator(z))
    assert {p.suffix for p in tmp_path.iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize("make", [variants.pooled_generator, lambda z_dim: variants.linear_generator(16, 3, 4, z_dim)])
def test_other_architectures_come_back(tmp_path, make):
    generator, discriminator = make(4), torch.nn.Linear(1, 1)
    optimisers = [torch.optim.SGD(m.parameters(), 0.1) for m in (generator, discriminator)]
    checkpoint.save(GAN(generator, discriminator, *optimisers, z_dim=4), tmp_path)
    z = torch.randn(2, 4)
    assert torch.equal(checkpoint.load_generator(tmp_path)(z), generator.eval()(z))


def test_missing_damaged_and_foreign_checkpoints_get_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="No checkpoint in .*model.json"):
        checkpoint.load_generator(tmp_path)
    checkpoint.save(small_gan(), tmp_path)
    whole = (tmp_path / "ema_generator.safetensors").read_bytes()
    (tmp_path / "ema_generator.safetensors").write_bytes(whole[:100])
    with pytest.raises(ValueError, match="is damaged"):
        checkpoint.load_generator(tmp_path)
    changed = bytearray(whole)
    changed[-1] ^= 1
    (tmp_path / "ema_generator.safetensors").write_bytes(changed)
    with pytest.raises(ValueError, match="ema_generator.safetensors.*sha256 differs"):
        checkpoint.load_generator(tmp_path)
    (tmp_path / "ema_generator.safetensors").write_bytes(whole)
    about = json.loads((tmp_path / "model.json").read_text())
    about["ema_generator"]["width"] = 8
    (tmp_path / "model.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="do not fit the dcgan network"):
        checkpoint.load_generator(tmp_path)
    about["ema_generator"]["kind"] = "stylegan"
    (tmp_path / "model.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="kind 'stylegan'; known are dcgan, linear, pooled"):
        checkpoint.load_generator(tmp_path)


def test_the_generator_that_comes_with_ganlib_is_small_whole_and_the_running_average():
    generator = checkpoint.pretrained("cifar10")
    assert generator.averaged
    assert generator(torch.randn(2, generator.z_dim)).shape == (2, 3, 32, 32)
    files = list((checkpoint.PRETRAINED / "cifar10").iterdir())
    assert sum(file.stat().st_size for file in files) <= 8_000_000
    assert {file.suffix for file in files} == {".safetensors", ".json"}


def test_an_unknown_pretrained_generator_gets_the_names_there_are():
    with pytest.raises(ValueError, match="No generator 'cifar'.*there are: cifar10"):
        checkpoint.pretrained("cifar")
