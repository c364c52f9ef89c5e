"""Weights from elsewhere: other wrappings, other names, other endings, and what must not be loaded."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ganlib.models import dcgan_discriminator, dcgan_generator
from ganlib.runs import foreign
from ganlib.runs.foreign import load_into

WIDTH, Z_DIM = 2, 6


class TheirG(nn.Module):
    """The generator of pytorch/examples, dcgan/main.py: no layer has a bias."""

    def __init__(self, n=WIDTH):
        super().__init__()
        layers, maps = [nn.ConvTranspose2d(Z_DIM, 8 * n, 4, 1, 0, bias=False)], (8 * n, 4 * n, 2 * n, n)
        for before, after in zip(maps, (*maps[1:], 3), strict=True):
            layers += [nn.BatchNorm2d(before), nn.ReLU(True), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
        self.main = nn.Sequential(*layers, nn.Tanh())

    def forward(self, z):
        return self.main(z[:, :, None, None])


class TheirD(nn.Module):
    def __init__(self, n=WIDTH):
        super().__init__()
        layers, maps = [nn.Conv2d(3, n, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)], (n, 2 * n, 4 * n, 8 * n)
        for before, after in zip(maps, maps[1:], strict=False):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2, True)]
        self.main = nn.Sequential(*layers, nn.Conv2d(8 * n, 1, 4, 1, 0, bias=False), nn.Sigmoid())

    def forward(self, x):
        return self.main(x).flatten()


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(3)
    nets = TheirG(), TheirD()
    for net in nets:
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.1, 0.5)
        net.eval()
    return nets


def ours():
    return dcgan_generator(64, 3, WIDTH, Z_DIM, seed=1).eval(), dcgan_discriminator(64, 3, WIDTH, seed=2).eval()


def prefixed(weights, prefix):
    return {prefix + name: value for name, value in weights.items()}


def ckpt(g, d):
    """As PyTorch Lightning's."""
    weights = prefixed(g, "generator.") | prefixed(d, "discriminator.")
    return {"epoch": 3, "global_step": 9, "state_dict": weights, "hyper_parameters": {"lr": 2e-4}}


def renamed(weights):
    return {f"block{k}.{name.rpartition('.')[2]}": value for k, (name, value) in enumerate(weights.items())}


# What may be in a file: of the generator's and the discriminator's weights, and which ending it has.
FORMS = {
    "netG.pth": lambda g, d: g,
    "netG_epoch_24.PTH": lambda g, d: prefixed(g, "module."),
    "compiled.pt": lambda g, d: prefixed(g, "_orig_mod."),
    "both.pth": lambda g, d: {"netG": g, "netD": d, "epoch": 24},
    "nested.tar": lambda g, d: {"models": 1, "state_dict": {"G": g, "D": d}},
    "g_ema.bin": lambda g, d: {"g_ema": g, "g": {k: v + 1 for k, v in g.items()}, "d": d},
    "last.ckpt": ckpt,
    "other-names.pth": lambda g, d: renamed(g),
    "old.pth": lambda g, d: {k: v for k, v in g.items() if not k.endswith("tracked")},
    "half.pth": lambda g, d: {k: v.half() if v.is_floating_point() else v for k, v in g.items()},
    "netG.SAFETENSORS": lambda g, d: g,
    "without-an-ending": lambda g, d: prefixed(g, "module."),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_generator_from_elsewhere_draws_what_it_drew_there(tmp_path, theirs, name):
    content = FORMS[name](*(net.state_dict() for net in theirs))
    save = save_file if name.lower().endswith("safetensors") else torch.save
    save({k: v.clone() for k, v in content.items()} if save is save_file else content, tmp_path / name)
    generator, z = ours()[0], torch.randn(3, Z_DIM)
    load_into(generator, tmp_path / name, "generator")
    with torch.no_grad():
        assert torch.allclose(generator(z), theirs[0](z), atol=1e-2 if "half" in name else 1e-6)


@pytest.mark.parametrize("name", ["netD.pth", "both.pth", "last.ckpt"])
def test_a_discriminator_from_elsewhere(tmp_path, theirs, name):
    g, d = (net.state_dict() for net in theirs)
    torch.save(FORMS[name](g, d) if name in FORMS else d, tmp_path / name)
    mine, x = ours()[1], torch.randn(3, 3, 64, 64) / 4
    load_into(mine, tmp_path / name, "discriminator")
    with torch.no_grad():
        assert torch.allclose(torch.sigmoid(mine(x)), theirs[1](x), atol=1e-5)


BAD = {
    "NaN": (lambda g: g | {"main.0.weight": g["main.0.weight"] * float("nan")}, "main.0.weight.*NaN.*diverged"),
    "integers": (
        lambda g: {k: (9 * v).to(torch.int8) for k, v in g.items()},
        "torch.int8: weights must be floats",
    ),
    "another width": (lambda g: TheirG(3).state_dict(), "'0.weight' has shape .*24.* there and .*16.* in the network"),
    "one missing": (
        lambda g: {k: v for k, v in g.items() if k != "main.4.running_mean"},
        "'4.running_mean' has shape n",
    ),
    "one too many": (lambda g: g | {"main.99.weight": torch.ones(2)}, "'99.weight' has shape .*nothing in the network"),
    "a discriminator": (lambda g: TheirD().state_dict(), "do not fit: '"),
    "a list": (lambda g: [1, 2], "more than weights by name .list"),
    "no weights": (lambda g: {"epoch": 3, "loss": 0.5}, "more than weights by name .epoch, loss.*state_dict"),
    "nothing": (lambda g: {}, "more than weights by name|do not fit"),
    "a web page": (lambda g: b"<html>quota exceeded</html>", "damaged, or no file of weights"),
    "half a file": (lambda g: b"PK\3\4 and no more", "was refused: it is damaged"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_does_not_fit_is_named_and_changes_nothing(tmp_path, theirs, kind):
    make, sentence = BAD[kind]
    content, path = make({k: v.clone() for k, v in theirs[0].state_dict().items()}), tmp_path / "x.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    generator = ours()[0]
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    with pytest.raises(ValueError, match=sentence) as error:
        load_into(generator, path, "generator")
    assert "x.pth'" in str(error.value)
    assert all(torch.equal(before[k], v) for k, v in generator.state_dict().items())
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*gone.pth"):
        load_into(generator, tmp_path / "gone.pth", "generator")


def test_other_names_are_told(tmp_path, theirs, capsys):
    torch.save(renamed(theirs[0].state_dict()), tmp_path / "x.pth")
    load_into(ours()[0], tmp_path / "x.pth", "generator")
    assert "fitted by their order and shapes" in capsys.readouterr().out
    assert foreign.read(tmp_path / "x.pth").keys() == renamed(theirs[0].state_dict()).keys()
