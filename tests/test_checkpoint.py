"""What is saved comes back, what is damaged is refused with a sentence, and no file runs code."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save
from test_train import players, same, state
from torch import nn

from ganlib import models, steps
from ganlib.data.images import Batches
from ganlib.runs import checkpoint, foreign
from ganlib.steps import GAN
from helpers import load_script, noise


def train(gan, k, seed=0):
    batches = Batches(noise(40, size=28, seed=seed), 8)
    for _ in range(k):
        steps.dcgan_step(gan, batches)
    gan.steps_done += k
    return gan


def test_both_generators_come_back(tmp_path):
    gan = train(players(), 1)
    path = checkpoint.save(gan, tmp_path / "new" / "gan.safetensors")
    assert list(path.parent.iterdir()) == [path]
    z = torch.randn(3, 8)
    for name in ("generator", "ema_generator"):
        back = checkpoint.load_generator(path, name)
        assert not back.training and back.averaged == (name == "ema_generator") and back.steps_done == 1
        assert torch.equal(back(z), getattr(gan, name).eval()(z))
    assert not torch.equal(back(z), gan.generator(z))


def test_training_continues_from_a_checkpoint_as_if_nothing_had_been(tmp_path):
    gan, resumed = train(players(), 3), players(seed=5)
    gan.data_position = {"epoch": 1, "index": 2}
    path = checkpoint.save(gan, tmp_path / "a")
    before = path.read_bytes()
    assert checkpoint.save(gan, path).read_bytes() == before  # an older one is replaced, by the same bytes
    checkpoint.resume(resumed, path)
    assert (resumed.steps_done, resumed.data_position) == (3, {"epoch": 1, "index": 2})
    for either in (gan, resumed):
        train(either, 2, seed=1)
    assert same(state(gan), state(resumed))


OPTIMISERS = {
    "adam": lambda p: torch.optim.Adam(p, 1e-2, betas=(0.5, 0.9), amsgrad=True),
    "lr in a tensor": lambda p: torch.optim.Adam(p, torch.tensor(1e-2), capturable=False, foreach=False),
    "momentum": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-2, momentum=0.5, centered=True),
    "two groups": lambda p: torch.optim.Adam([{"params": p[:1]}, {"params": p[1:], "lr": 1e-3}], 1e-2),
}


def step_both(gan, k):
    for j in range(k):
        for model, optimiser in ((gan.generator, gan.g_opt), (gan.discriminator, gan.d_opt)):
            optimiser.zero_grad()
            (model(torch.full((2, 3), 0.5 + j)) ** 2).sum().backward()
            optimiser.step()


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)
def test_an_optimiser_continues_where_it_was(tmp_path, make):
    def pair(seed):
        networks = [models.initialise(nn.Linear(3, 4), seed + k) for k in (0, 1)]
        return GAN(*networks, *(make(list(network.parameters())) for network in networks), z_dim=3)

    gan, resumed = pair(0), pair(5)
    step_both(gan, 3)
    gan.g_opt.param_groups[0]["lr"] *= 0.5  # as a schedule would
    checkpoint.resume(resumed, checkpoint.save(gan, tmp_path / "a"))
    assert gan.g_opt.state_dict()["param_groups"] == resumed.g_opt.state_dict()["param_groups"]
    for either in (gan, resumed):
        step_both(either, 3)
    assert torch.equal(gan.generator.weight, resumed.generator.weight)
    assert torch.equal(gan.discriminator.weight, resumed.discriminator.weight)


def test_an_optimiser_may_keep_its_settings_and_another_kind_keeps_all():
    gan, slower, other = train(players(), 2), players(lr=1e-3), players()
    other.g_opt = torch.optim.SGD(other.generator.parameters(), 1e-3, momentum=0.9)
    captured = checkpoint.capture(gan)
    checkpoint.restore(slower, *captured, keep_settings=["g_opt"])
    assert [o.param_groups[0]["lr"] for o in (slower.g_opt, slower.d_opt)] == [1e-3, 2e-3]
    averages = [o.state[n[0].weight]["exp_avg"] for o, n in ((g.g_opt, g.generator) for g in (gan, slower))]
    assert torch.equal(*averages)
    checkpoint.restore(other, *captured)
    assert other.g_opt.param_groups[0]["momentum"] == 0.9 and not other.g_opt.state


def test_players_that_do_not_fit_are_refused_untouched():
    tensors, facts = checkpoint.capture(train(players(), 1))
    other = players(seed=5)
    other.discriminator = models.dcgan_discriminator(28, 1, 5)
    before = state(other)
    with pytest.raises(ValueError, match=r"'discriminator.0.weight' has shape \[4, 1, 4, 4\].*\[5, 1, 4, 4\]"):
        checkpoint.restore(other, tensors, facts)
    assert same(before, state(other)) and other.steps_done == 0


@pytest.mark.parametrize(
    "make",
    [
        models.pooled_generator,
        lambda z_dim: models.linear_generator(16, 3, 4, z_dim),
        lambda z_dim: models.dcgan_generator(8, 1, 4, z_dim, categories=3),
    ],
)
def test_other_architectures_come_back(tmp_path, make):
    generator, discriminator = make(4), nn.Linear(1, 1)
    sgd = [torch.optim.SGD(m.parameters(), 0.1) for m in (generator, discriminator)]
    path = checkpoint.save(GAN(generator, discriminator, *sgd, z_dim=4), tmp_path / "a")
    z = torch.randn(2, 4)
    assert torch.equal(checkpoint.load_generator(path)(z), generator.eval()(z))


def test_missing_torn_and_foreign_files_and_a_single_changed_bit_get_a_sentence(tmp_path):
    path = checkpoint.save(players(), tmp_path / "a")
    content = path.read_bytes()
    changed = [bytearray(content) for _ in range(4)]
    for where, one in zip((3, 100, len(content) // 2, -1), changed, strict=True):
        one[where] ^= 1
    for torn in (*changed, b"", content[:50], content[:-9], b"<html>quota</html>", save({"a": torch.ones(1)})):
        path.write_bytes(torn)
        for opened in (checkpoint.load_generator, checkpoint.newest):
            with pytest.raises(ValueError, match=r"'.*a'.*(damaged|not a checkpoint)"):
                opened(path)
    for nothing in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match="no checkpoint.*file or a run's folder"):
            checkpoint.load_generator(nothing)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Cannot write in .*file"):
        checkpoint.save(players(), tmp_path / "file" / "a")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (None, "ema_generator.*build it"),
        ({"kind": "stylegan"}, "stylegan.*dcgan, linear, pooled"),
        ({"width": 8}, "shape"),
    ],
)
def test_a_network_of_ones_own_or_of_another_kind_gets_a_sentence(tmp_path, config, sentence):
    tensors, facts = checkpoint.capture(players())
    facts["networks"]["ema_generator"] = config and facts["networks"]["generator"] | config
    checkpoint.write_checkpoint(tmp_path / "a", tensors, facts)
    with pytest.raises(ValueError, match=sentence):
        checkpoint.load_generator(tmp_path / "a")


def test_of_a_run_the_newest_intact_one_is_taken(tmp_path, capsys):
    for step, gan in ((3, players()), (12, players(seed=4)), (7, players(seed=9))):
        gan.steps_done = step
        checkpoint.save(gan, checkpoint.path_of(tmp_path, step))
    (tmp_path / "checkpoints" / "notes.txt").write_text("mine")
    assert checkpoint.steps_in(tmp_path) == [3, 7, 12]
    assert checkpoint.load_generator(tmp_path).steps_done == 12
    checkpoint.path_of(tmp_path, 12).write_bytes(b"torn")
    assert checkpoint.load_generator(tmp_path).steps_done == 7
    assert "step-000012" in (told := capsys.readouterr().out) and "before is taken" in told
    for step in (3, 7):
        checkpoint.path_of(tmp_path, step).write_bytes(b"torn")
    with pytest.raises(ValueError, match="No checkpoint in .* is intact; train anew"):
        checkpoint.newest(tmp_path)


@pytest.mark.parametrize(("name", "size"), [("cifar10", 32), ("cifar10-conditional", 32), ("celeba", 64)])
def test_the_generators_that_come_with_ganlib_are_small_and_the_running_average(name, size):
    generator = checkpoint.pretrained(name)
    assert generator.averaged and {weight.dtype for weight in generator.parameters()} == {torch.float32}
    assert generator(torch.randn(2, generator.z_dim)).shape == (2, 3, size, size)
    assert (checkpoint.PRETRAINED / f"{name}.safetensors").stat().st_size <= 8_000_000
    with pytest.raises(ValueError, match="networks alone"):
        checkpoint.resume(players(), checkpoint.PRETRAINED / f"{name}.safetensors")
    with pytest.raises(ValueError, match=f"'{name}s.safetensors'.*celeba, cifar10"):
        checkpoint.pretrained(f"{name}s")


def test_a_generator_is_shipped_in_half_precision_with_its_record(run, tmp_path, monkeypatch, capsys):
    ship = load_script("ship_generator")
    words = ["ship", "mine", str(run), "--step", "3", "--beside", str(run), "--to", str(tmp_path / "to")]
    monkeypatch.setattr("sys.argv", words)
    ship.main()
    assert "step 3, " in capsys.readouterr().out
    path = tmp_path / "to" / "mine.safetensors"
    before, after = (checkpoint.load_generator(p).state_dict() for p in (checkpoint.path_of(run, 3), path))
    for name, weights in before.items():
        torch.testing.assert_close(after[name], weights, rtol=1e-3, atol=1e-6)
    moments = [{"step": 3, "fd": 9, "sure": 0.5}, {"step": 6, "fd": 12.5, "sure": 0.5}]
    assert json.loads(path.with_suffix(".json").read_text()) == {"run": moments}


class Exploit:
    """What a stranger may put in a file of weights: unpickled, it calls any function. Here it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


HIDDEN = {
    "pickled bare": lambda bad, path: path.write_bytes(pickle.dumps(bad, protocol=2)),
    "among weights": lambda bad, path: torch.save({"0.weight": torch.ones(2), "extra": bad}, path),
    "old format": lambda bad, path: torch.save({"e": bad}, path, _use_new_zipfile_serialization=False),
    "a network": lambda bad, path: torch.save(nn.Linear(2, 2), path),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_a_malicious_file_is_refused_and_does_nothing(tmp_path, kind):
    path, trace = tmp_path / "weights.pth", tmp_path / "was here"
    HIDDEN[kind](Exploit(trace), path)
    for opened in (foreign.read, checkpoint.load_generator, checkpoint.newest):
        with pytest.raises(ValueError, match="weights.pth'.*(refused|not a checkpoint)"):
            opened(path)
    assert not trace.exists()
    if kind != "a network":  # and it would have done something
        pickle.loads(path.read_bytes()) if kind == "pickled bare" else torch.load(path, weights_only=False)
        assert trace.is_dir()


def test_an_optimiser_that_keeps_more_than_numbers_is_refused():
    gan = players()
    gan.g_opt.state[gan.generator[0].weight]["trace"] = {"a": 1}
    with pytest.raises(TypeError, match="g_opt keeps a dict in 'trace'.*Adam"):
        checkpoint.capture(gan)
