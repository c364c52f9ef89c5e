"""One converter for all images, subsets that are what they say, and batches that can be computed by hand."""

import math
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ganlib.data import images as module
from ganlib.data.images import Batches, ImageSet, as_uint8, to_float, to_uint8
from helpers import noise

SOURCE = "numbers · made up"


def numbered(n, channels=1, size=4, labels=None):
    """Images whose every pixel is the number of the image."""
    pixels = torch.arange(n, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, channels, size, size)
    classes = () if labels is None else tuple("abcdefghijklmnopqrstuvwxyz"[: max(labels) + 1])
    return ImageSet(pixels, None if labels is None else torch.tensor(labels), classes, "numbers", SOURCE)


def numbers(images):
    return (images if isinstance(images, torch.Tensor) else images.pixels)[:, 0, 0, 0].tolist()


def order(n, seed):
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()


def test_to_float_reaches_both_ends_and_comes_back():
    levels = torch.arange(256, dtype=torch.uint8)
    floats = to_float(levels)
    assert floats.dtype == torch.float32 and torch.equal(floats, levels.float() / 127.5 - 1)
    assert floats[0] == -1 and floats[255] == 1 and torch.equal(to_uint8(floats), levels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_to_uint8_rounds_to_nearest_clamps_and_leaves_its_argument_alone(dtype):
    x = torch.tensor([-3.0, -1.0, -0.998, -0.99, 0.0, 1.0, 7.0], dtype=dtype, requires_grad=True)
    before = x.detach().clone()
    assert to_uint8(x).dtype == torch.uint8 and to_uint8(x).tolist() == [0, 0, 0, 1, 128, 255, 255]
    assert torch.equal(x, before) and not to_uint8(x).requires_grad


PIXELS = torch.tensor([0, 128, 255, 255, 128, 128], dtype=torch.uint8).view(2, 1, 1, 3)
FLOATS = torch.tensor([-1.0, 0, 1, 1, 0, 0]).view(2, 1, 1, 3)
FROZEN = PIXELS.numpy().copy()
FROZEN.flags.writeable = False
IMAGES = {
    "uint8": PIXELS,
    "float32": FLOATS,
    "float64": FLOATS.double(),
    "float16": FLOATS.half(),
    "bfloat16": FLOATS.bfloat16(),
    "with a gradient": FLOATS.clone().requires_grad_(),
    "overshooting by a hair": FLOATS * 1.0009,
    "an array of uint8": PIXELS.numpy(),
    "an array of floats": FLOATS.numpy(),
    "a mirrored array": PIXELS.numpy()[..., ::-1].copy()[..., ::-1],
    "a read-only array": FROZEN,
    "an ImageSet": ImageSet(PIXELS, None, (), "x", "x"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", IMAGES)
def test_all_that_are_images_become_uint8(name):
    found = as_uint8(IMAGES[name])
    assert torch.equal(found, PIXELS) and found.dtype == torch.uint8 and not found.requires_grad
    assert name != "uint8" or found.data_ptr() == PIXELS.data_ptr()  # no copy


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 4, 4), r"\[3, 4, 4\].*\[N, C, H, W\]"),
        (torch.zeros(1, 2, 3, 4, 5), r"\[1, 2, 3, 4, 5\].*\[N, C, H, W\]"),
        (torch.zeros(0, 1, 4, 4), r"\[0, 1, 4, 4\].*none of them 0"),
        (torch.zeros(2, 1, 0, 4, dtype=torch.uint8), r"\[2, 1, 0, 4\]"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.int64), "int64.*uint8 or float"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.bool), "bool.*uint8 or float"),
        (np.zeros((2, 1, 4, 4), np.int32), "int32.*uint8 or float"),
        (np.full((1, 1, 1, 1), None), "object.*uint8 or float"),
        (torch.stack([FLOATS[0], FLOATS[0] * math.nan]), "Image 1 .*NaN.*diverged"),
        (torch.stack([FLOATS[0], FLOATS[0] - math.inf]).bfloat16(), "Image 1 .*infinite"),
        (torch.full((2, 1, 4, 4), math.inf), "Image 0 .*infinite"),
        (FLOATS.clamp(min=0) * 1.0011, r"from 0.00 to 1.00.*\[-1, 1\].*tanh"),
        (FLOATS.clamp(max=0) * 1.0011, r"from -1.00 to 0.00.*\[-1, 1\]"),
        (PIXELS.float(), r"from 0.00 to 255.00.*x / 127.5 - 1"),
    ],
)
def test_what_are_no_images_gets_a_sentence(images, message):
    with pytest.raises(ValueError, match=message):
        as_uint8(images)


def test_an_image_set_says_what_it_is():
    images = ImageSet(noise(10, 3, 8)[..., :5], None, (), "numbers", SOURCE)
    assert repr(images) == f"{SOURCE} · uint8 [10, 3, 8, 5]" and images.split == "train" and images.skipped == ()
    assert (len(images), images.image_size, images.channels) == (10, 5, 3)


@pytest.mark.parametrize("n", [1, 7, 20])
def test_a_subset_is_random_and_without_replacement(n):
    images = numbered(20)
    assert numbers(images.take(n, seed=3)) == order(20, 3)[:n] and numbers(images.take(n)) == order(20, 0)[:n]
    assert images.take(n).source == f"{n} of {SOURCE}"
    assert torch.equal(images.sample(n, seed=3), to_float(images.take(n, seed=3).pixels))
    assert torch.equal(images.sample(n), to_float(images.take(n).pixels))


def test_any_beginning_of_a_subset_is_balanced():
    labels = [0] * 50 + [1] * 50 + [2] * 4
    found = numbered(104, labels=labels).take(60, seed=1)
    assert [labels[k] for k in numbers(found)] == found.labels.tolist() and len(set(numbers(found))) == 60
    for n in range(1, 61):
        each = found.labels[:n].bincount(minlength=3)
        assert abs(each[0] - each[1]) <= 1 and each.max() - each[2] <= (1 if n <= 12 else 99) and each[2] <= 4


def test_held_out_images_are_the_others_in_their_order():
    images = numbered(20, labels=list(range(20)))
    for seed, (rest, held_out) in {0: images.hold_out(6), 3: images.hold_out(6, 3)}.items():
        assert numbers(held_out) == sorted(order(20, seed)[:6])
        assert numbers(rest) == sorted(order(20, seed)[6:]) == rest.labels.tolist()
    assert (rest.source, held_out.source) == (f"14 of {SOURCE}", f"6 others of {SOURCE}")
    assert [len(part) for part in images.hold_out(1)] == [19, 1] and len(images.hold_out(19)[1]) == 19


def test_classes_are_picked_by_index_and_name():
    images = numbered(6, labels=[0, 1, 2, 0, 1, 2])
    assert numbers(images.of_class(1)) == numbers(images.of_class("b")) == [1, 4]
    assert numbers(images.of_class("c", 0)) == [0, 2, 3, 5] and numbers(images.of_class(2)) == [2, 5]
    assert images.of_class("c", 0).source == f"class c, a of {SOURCE}"
    assert images.of_class("c").labels.tolist() == [2, 2] and images.of_class("c").classes == ("a", "b", "c")


def test_attributes_and_flips_go_with_their_images():
    known = torch.stack([torch.arange(10.0), torch.arange(10) % 2.0], 1)
    images = replace(numbered(10), attributes=known, attribute_names=("number", "odd"))
    few = images.with_flips().take(4, seed=3)
    assert few.flip and not images.flip and all(part.flip for part in images.with_flips().hold_out(4))
    assert few.attribute("number").tolist() == numbers(few)
    assert few.attribute("odd").tolist() == [k % 2 for k in numbers(few)]


LABELLED = numbered(3, labels=[0, 1, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: numbered(20).take(0), "take 0 of 20 .*1 to 20"),
        (lambda: numbered(20).take(21), "take 21 of 20 .*1 to 20"),
        (lambda: numbered(20).hold_out(0), "hold out 0 of 20 .*1 to 19"),
        (lambda: numbered(20).hold_out(20), "hold out 20 of 20 .*1 to 19"),
        (lambda: numbered(3).of_class(0), "'numbers' has no labels.*class 0.*folder"),
        (lambda: LABELLED.of_class("a", "z"), "'numbers' has no class 'z'.*0 a, 1 b, 2 c"),
        (lambda: LABELLED.of_class(3), "no class 3"),
        (lambda: LABELLED.of_class(-1), "no class -1"),
        (lambda: numbered(3).attribute("odd"), "'numbers' has no attribute 'odd'.*none"),
        (lambda: replace(LABELLED, attribute_names=("p", "q")).attribute("r"), "'r'.*p, q"),
    ],
)
def test_what_is_not_in_the_set_gets_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("seed", [0, 7, -3, 2**62])
def test_batches_are_those_that_the_seed_and_the_epoch_give(seed):
    pixels = noise(11, 3, 6)[..., :5]
    plain, mirrored = ImageSet(pixels, None, (), "x", "x"), ImageSet(pixels, None, (), "x", "x").with_flips()
    batches = [Batches(images, 4, seed=seed) for images in (pixels, plain, mirrored)]
    assert batches[0].per_epoch == 2  # the ragged end is dropped
    torch.manual_seed(1)  # another source of chance would be seen
    for epoch in range(3):
        chance = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        rows, turned = torch.randperm(11, generator=chance), torch.rand(11, generator=chance) < 0.5
        for k in range(2):
            part = slice(4 * k, 4 * k + 4)
            bare, straight, turning = (next(iter(some)) for some in batches)
            expected = pixels[rows[part]].float() / 127.5 - 1
            assert bare.dtype == torch.float32 and torch.equal(bare, expected) and torch.equal(straight, expected)
            expected[turned[part]] = expected[turned[part]].flip(3)
            assert torch.equal(turning, expected)
            assert (batches[0].epoch, batches[0].index) == (epoch, k + 1)
    assert torch.equal(next(Batches(plain, 4)), next(Batches(plain, 4, seed=0)))
    with mock.patch.object(module, "rng", wraps=module.rng) as shuffled:
        assert all(len(next(batches[0])) == 4 for _ in range(4)) and shuffled.call_count == 2  # once an epoch


@pytest.mark.parametrize("n", [0, 2, 3, 9])
def test_a_resumed_run_sees_the_same_batches(n):
    images = ImageSet(noise(11, 3, 4), None, (), "x", "x").with_flips()
    batches, resumed = Batches(images, 4, seed=5), Batches(images, 4, seed=5)
    for _ in range(n):
        next(batches)
    epoch, units = max(n - 1, 0) // 2, {"seed": 5, "batch_size": 4, "n_images": 11}
    assert batches.state_dict() == {"epoch": epoch, "index": n - 2 * epoch, **units}
    next(resumed)  # it may have run already
    resumed.load_state_dict(batches.state_dict())
    for _ in range(5):
        assert torch.equal(next(batches), next(resumed))


def test_a_position_of_another_run_is_refused():
    batches = Batches(numbered(12), 3, seed=1)
    state = batches.state_dict()
    for changed, message in (
        ({"batch_size": 4}, "saved with batch_size=4, not 3.*resume"),
        ({"seed": 2}, "saved with seed=2, not 1"),
        ({"n_images": 13}, "saved with n_images=13, not 12"),
        ({"index": 5}, "no batch 5 in epoch 0.*4"),
        ({"index": -1}, "no batch -1"),
        ({"epoch": -1}, "epoch -1"),
    ):
        with pytest.raises(ValueError, match=message):
            batches.load_state_dict({**state, **changed})
    assert batches.state_dict() == state  # nothing was changed
    batches.load_state_dict({"epoch": 0, "index": 4})
    next(batches)
    assert (batches.epoch, batches.index) == (1, 1)


def test_batches_may_be_of_one_image_or_of_all_and_have_the_memory_format_asked_for():
    for n in (1, 3):
        assert len(next(Batches(numbered(3), n))) == n and Batches(numbered(3), n).per_epoch == 3 // n
    batch = next(Batches(noise(8, 3), 4, memory_format=torch.channels_last))
    assert batch.is_contiguous(memory_format=torch.channels_last) and not batch.is_contiguous()
    assert next(Batches(noise(8, 3), 4)).is_contiguous()


@pytest.mark.parametrize(
    ("images", "batch_size", "message"),
    [
        (numbered(3), 4, "batch_size is 4.*1 to 3"),
        (numbered(3), 0, "batch_size is 0.*1 to 3"),
        (torch.zeros(2, 1, 4, 4), 1, r"uint8 .*not torch.float32 \[2, 1, 4, 4\].*as_uint8"),
        (noise(2)[0], 1, r"not torch.uint8 \[1, 8, 8\]"),
    ],
)
def test_what_gives_no_batches_gets_a_sentence(images, batch_size, message):
    with pytest.raises(ValueError, match=message):
        Batches(images, batch_size)


def test_pixels_move_to_the_device_unless_they_are_too_many(monkeypatch):
    assert module.RESIDENT_BELOW == 2 * 2**30
    images = numbered(12).with_flips()
    monkeypatch.setattr(module, "RESIDENT_BELOW", 12 * 16)
    assert Batches(images, 4, "meta").pixels.device.type == "meta"
    monkeypatch.setattr(module, "RESIDENT_BELOW", 12 * 16 - 1)
    assert Batches(images, 4, "meta").pixels is images.pixels
    with mock.patch.object(torch.Tensor, "pin_memory", side_effect=AssertionError("pinned")):
        assert next(Batches(images, 4, "meta")).device.type == "meta"


@pytest.mark.parametrize("resident", [True, False])
def test_on_a_gpu_pixels_are_gathered_there_or_pinned(monkeypatch, resident):
    """Without a GPU: fake tensors know only shapes and devices. "cuda" and "cuda:0" are one device."""
    monkeypatch.setattr(module, "RESIDENT_BELOW", 128 if resident else 0)
    with (
        FakeTensorMode(),
        mock.patch.object(torch.Tensor, "pin_memory", lambda self: pinned.append(self.dtype) or self),
    ):
        pinned = []
        assert as_uint8(torch.zeros(8, 1, 4, 4, dtype=torch.uint8, device="cuda")).device.type == "cpu"
        batch = next(Batches(torch.zeros(8, 1, 4, 4, dtype=torch.uint8), 4, "cuda"))
    assert batch.device == torch.device("cuda:0") and batch.shape == (4, 1, 4, 4)
    # The order and the mirrored flags once an epoch, and what is gathered on the CPU.
    assert pinned == ([torch.int64, torch.bool] if resident else [torch.bool, torch.uint8])
