"""What is saved comes back, and what is damaged is refused with a sentence."""

import ast
import collections
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from test_steps import reals, small_gan

from ganlib import models, steps
from ganlib import models as variants
from ganlib.runs import checkpoint
from ganlib.steps import GAN
from helpers import ROOT, load_script


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


def test_training_goes_on_from_a_checkpoint_as_if_nothing_had_been(tmp_path):
    gan, resumed = small_gan(), small_gan(seed=5)
    for _ in range(3):
        steps.dcgan_step(gan, reals(1))
    gan.steps_done = 3
    checkpoint.save(gan, checkpoint.save(gan, tmp_path))  # an older one there is replaced
    checkpoint.resume(resumed, tmp_path)
    assert resumed.steps_done == 3
    for players in (gan, resumed):
        for _ in range(2):
            steps.dcgan_step(players, reals(2))
    for name in ("generator", "discriminator"):
        pairs = zip(getattr(gan, name).parameters(), getattr(resumed, name).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_a_checkpoint_of_networks_alone_is_none_to_train_on_from():
    with pytest.raises(ValueError, match="has no d_opt, discriminator, g_opt, .*training cannot go on from it"):
        checkpoint.resume(small_gan(), checkpoint.PRETRAINED / "cifar10")


@pytest.mark.parametrize(
    "make",
    [
        variants.pooled_generator,
        lambda z_dim: variants.linear_generator(16, 3, 4, z_dim),
        lambda z_dim: models.dcgan_generator(8, 1, 4, z_dim, categories=3),
    ],
)
def test_other_architectures_come_back(tmp_path, make):
    generator, discriminator = make(4), torch.nn.Linear(1, 1)
    optimisers = [torch.optim.SGD(m.parameters(), 0.1) for m in (generator, discriminator)]
    checkpoint.save(GAN(generator, discriminator, *optimisers, z_dim=4), tmp_path)
    z = torch.randn(2, 4)
    assert torch.equal(checkpoint.load_generator(tmp_path)(z), generator.eval()(z))


def test_a_generator_without_categories_is_described_as_before_there_were_any():
    assert "categories" not in models.dcgan_generator(8, 1, 4, 4).config


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


@pytest.mark.parametrize(("name", "size"), [("cifar10", 32), ("celeba", 64)])
def test_the_generators_that_come_with_ganlib_are_small_whole_and_the_running_average(name, size):
    generator = checkpoint.pretrained(name)
    assert generator.averaged and {weight.dtype for weight in generator.parameters()} == {torch.float32}
    assert generator(torch.randn(2, generator.z_dim)).shape == (2, 3, size, size)
    files = list((checkpoint.PRETRAINED / name).iterdir())
    assert sum(file.stat().st_size for file in files) <= 8_000_000
    assert {file.suffix for file in files} == {".safetensors", ".json"}


def test_a_generator_is_shipped_in_half_precision_with_its_record(run, tmp_path, monkeypatch, capsys):
    ship = load_script("ship_generator")
    words = ["ship", "mine", str(run), "--step", "3", "--beside", str(run), "--to", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    ship.main()
    assert "step 3, " in capsys.readouterr().out
    there, here = checkpoint.step_folder(run, 3), tmp_path / "mine"
    before, after = (checkpoint.load_generator(folder).state_dict() for folder in (there, here))
    for name, weights in before.items():
        torch.testing.assert_close(after[name], weights, rtol=1e-3, atol=1e-6)
    sizes = [(folder / "ema_generator.safetensors").stat().st_size for folder in (there, here)]
    assert sizes[1] < 0.8 * sizes[0]
    assert json.loads((here / "record.json").read_text()) == {
        "run": [{"step": 3, "fd": 9, "sure": 0.5}, {"step": 6, "fd": 12.5, "sure": 0.5}]
    }
    monkeypatch.setattr(ship, "LARGEST", 100)
    with pytest.raises(SystemExit, match="but 100 are the most; train a narrower one"):
        ship.main()


def test_an_unknown_pretrained_generator_gets_the_names_there_are():
    with pytest.raises(ValueError, match="No generator 'cifar'.*there are: celeba, cifar10"):
        checkpoint.pretrained("cifar")


class Exploit:
    """What a stranger may put in a checkpoint: unpickled, it calls any function. Here it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def foreign(exploit):
    """The ways to hide it: (how to write it, what is written)."""
    weights = {"0.weight": torch.ones(2, 2)}
    yield "pickled bare", lambda path: path.write_bytes(pickle.dumps(exploit, protocol=2))
    yield "saved bare", lambda path: torch.save(exploit, path)
    yield "among weights", lambda path: torch.save({**weights, "extra": exploit}, path)
    yield "old format", lambda path: torch.save({**weights, "e": exploit}, path, _use_new_zipfile_serialization=False)
    yield "as a whole network", lambda path: torch.save(torch.nn.Linear(2, 2), path)


@pytest.mark.parametrize("kind", range(5))
def test_a_malicious_file_is_refused_and_does_nothing(tmp_path, kind):
    name, write = list(foreign(Exploit(tmp_path / "was here")))[kind]
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(ValueError, match="weights.pth' was refused: .*a stranger's code. Ask for .* safetensors"):
        checkpoint.read_foreign(path)
    assert not (tmp_path / "was here").exists()
    if name != "as a whole network":  # and it would have done something
        if name == "pickled bare":
            pickle.loads(path.read_bytes())
        else:
            torch.load(path, weights_only=False)
        assert (tmp_path / "was here").is_dir()


def test_foreign_weights_are_read(tmp_path):
    weights = torch.nn.BatchNorm1d(3).state_dict()
    for number, some in enumerate((weights, dict(weights), collections.OrderedDict(weights))):
        torch.save(some, tmp_path / f"{number}.pth")
        found = checkpoint.read_foreign(tmp_path / f"{number}.pth")
        assert found.keys() == weights.keys() and all(torch.equal(found[k], weights[k]) for k in weights)


def test_what_is_no_file_of_weights_gets_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file '.*none.pth'"):
        checkpoint.read_foreign(tmp_path / "none.pth")
    (tmp_path / "page.pth").write_text("<html>quota exceeded</html>")
    with pytest.raises(ValueError, match="page.pth' was refused: it is damaged"):
        checkpoint.read_foreign(tmp_path / "page.pth")
    torch.save({"generator": {"0.weight": torch.ones(1)}, "epoch": 3}, tmp_path / "more.pth")
    with pytest.raises(ValueError, match="holds more than tensors in one dict: generator, epoch"):
        checkpoint.read_foreign(tmp_path / "more.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds a list"):
        checkpoint.read_foreign(tmp_path / "list.pth")


# CIFAR-10 is published as pickles: read by an unpickler that builds arrays alone (see test_cifar.py). Inception's
# package takes weights as a file of its kind: of tensors alone, that were read with weights_only=True.
ALLOWED = {"cifar": ["pickle"], "inception": ["torch.save"]}
RISKY = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def opens_the_door(text):
    """What in a module's text writes or reads pickles, or could."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in RISKY]
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in RISKY:
            found.append(node.module)
        if isinstance(node, ast.Call):
            called, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            if called == "torch.save" or (called == "torch.load" and given.get("weights_only") != "True"):
                found.append(called)
            if called.endswith("np.load") and given.get("allow_pickle") != "False":
                found.append(called)
            if "True" in (given.get("allow_pickle"), given.get("trust_remote_code")):
                found.append(called)
            if called.startswith("torch.hub.load"):
                found.append(called)
    return found


@pytest.mark.parametrize("path", sorted(Path(ROOT / "ganlib").rglob("*.py")), ids=lambda path: path.stem)
def test_no_pickle_is_written_or_read_anywhere(path):
    assert opens_the_door(path.read_text(encoding="utf-8")) == ALLOWED.get(path.stem, [])


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "def f():\n    from pickle import loads",
        "torch.save(x, p)",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "np.load(p)",
        "np.load(p, allow_pickle=True)",
        "import joblib.numpy_pickle",
        "torch.hub.load_state_dict_from_url(u)",
    ],
)
def test_a_pickle_is_seen(text):
    assert opens_the_door(text)
