"""What is saved comes back, and what is damaged is refused with a sentence."""

import json

import pytest
import torch
from test_steps import reals, small_gan

from ganlib import checkpoint, models, steps
from ganlib.steps import GAN


def test_both_generators_come_back(tmp_path):
    gan = small_gan()
    steps.dcgan_step(gan, reals())
    checkpoint.save(gan, tmp_path)
    z = torch.randn(3, 8)
    for name in ("generator", "ema_generator"):
        back = checkpoint.load_generator(tmp_path, name)
        assert not back.training
        assert torch.equal(back(z), getattr(gan, name).eval()(z))
    assert not torch.equal(back(z), gan.generator(z))
    assert {p.suffix for p in tmp_path.iterdir()} == {".safetensors", ".json"}


def test_pooled_comes_back(tmp_path):
    generator, discriminator = models.pooled_generator(4), torch.nn.Linear(1, 1)
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
    (tmp_path / "ema_generator.safetensors").write_bytes(whole)
    about = json.loads((tmp_path / "model.json").read_text())
    about["ema_generator"]["width"] = 8
    (tmp_path / "model.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="do not fit the dcgan network"):
        checkpoint.load_generator(tmp_path)
    about["ema_generator"]["kind"] = "stylegan"
    (tmp_path / "model.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="kind 'stylegan'; known are dcgan, pooled"):
        checkpoint.load_generator(tmp_path)
