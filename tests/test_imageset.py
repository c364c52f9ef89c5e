from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ganlib.data import images as imageset
from ganlib.data.loading import Batches, ImageSet, to_float, to_uint8


def numbered(n, channels=1, size=4, labels=None):
    """Images whose every pixel is the number of the image."""
    pixels = torch.arange(n, dtype=torch.uint8).view(-1, 1, 1, 1).expand(n, channels, size, size).contiguous()
    classes = () if labels is None else tuple("abcdefghij"[: max(labels) + 1])
    labels = None if labels is None else torch.tensor(labels)
    return ImageSet(pixels, labels, classes, "numbers", f"numbers · {n} images · made up")


def numbers(batch):
    return to_uint8(batch)[:, 0, 0, 0].tolist()


def test_to_float_reaches_both_ends_and_comes_back():
    levels = torch.arange(256, dtype=torch.uint8)
    floats = to_float(levels)
    assert floats.dtype == torch.float32 and floats[0] == -1 and floats[255] == 1
    assert torch.equal(to_uint8(floats), levels)
    assert to_uint8(torch.tensor([-3.0, -1.0, -0.998, -0.99, 0.0, 1.0, 7.0])).tolist() == [
        0,
        0,
        0,
        1,
        128,
        255,
        255,
    ]


def test_to_uint8_leaves_its_argument_alone():
    x = torch.zeros(3, requires_grad=True)
    assert to_uint8(x).dtype == torch.uint8 and x.detach().tolist() == [0, 0, 0]


def test_batches_reach_both_ends_of_the_range():
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    batch = next(Batches(pixels, 2))
    assert batch.dtype == torch.float32 and sorted(batch.flatten().tolist()) == [-1, 1]


def test_an_epoch_covers_each_image_once():
    batches = Batches(numbered(12), 3)
    epochs = [[k for _ in range(4) for k in numbers(next(batches))] for _ in range(3)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert batches.per_epoch == 4


def test_the_ragged_end_is_dropped():
    batches = Batches(numbered(11), 4)
    for _ in range(3):
        epoch = numbers(next(batches)) + numbers(next(batches))
        assert len(set(epoch)) == 8
    assert batches.epoch == 2


def test_the_order_depends_on_the_seed_only():
    def first(seed, **kw):
        return [numbers(b) for b, _ in zip(Batches(numbered(50), 5, seed=seed, **kw), range(25), strict=False)]

    torch.manual_seed(1)
    a = first(7)
    torch.manual_seed(2)
    assert first(7) == a and first(8) != a and first(7, flip=True) == a


@pytest.mark.parametrize("drawn", [0, 3, 4, 9])
def test_a_resumed_run_sees_the_same_batches(drawn):
    images = ImageSet(
        torch.randint(256, (18, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8),
        None,
        (),
        "x",
        "x",
    )
    batches = Batches(images, 4, seed=5, flip=True)
    for _ in range(drawn):
        next(batches)
    state = batches.state_dict()
    resumed = Batches(images, 4, seed=5, flip=True)
    next(resumed)  # it may have run already
    resumed.load_state_dict(state)
    for _ in range(10):
        assert torch.equal(next(batches), next(resumed))


def test_a_position_of_another_run_is_refused():
    batches = Batches(numbered(12), 3, seed=1)
    with pytest.raises(ValueError, match="saved with batch_size=4, but this run has batch_size=3; use the saved value"):
        batches.load_state_dict({**batches.state_dict(), "batch_size": 4})
    with pytest.raises(ValueError, match="saved with seed=2, but this run has seed=1"):
        batches.load_state_dict({"epoch": 0, "index": 0, "seed": 2})
    with pytest.raises(ValueError, match="There is no batch 5 in epoch 0; each has 4"):
        batches.load_state_dict({"epoch": 0, "index": 5})


def test_flip_mirrors_about_half_and_only_left_to_right():
    pixels = torch.tensor([[[1, 2], [3, 4]]], dtype=torch.uint8).expand(400, 1, 2, 2)
    batch = to_uint8(next(Batches(pixels, 400, flip=True))).flatten(1).tolist()
    assert {tuple(b) for b in batch} == {(1, 2, 3, 4), (2, 1, 4, 3)}
    assert 150 < batch.count([2, 1, 4, 3]) < 250


def test_memory_format():
    batch = next(Batches(numbered(8, channels=3), 4, memory_format=torch.channels_last))
    assert batch.is_contiguous(memory_format=torch.channels_last) and not batch.is_contiguous()


def test_a_large_set_stays_where_it_is(monkeypatch):
    images = numbered(12)
    here = numbers(next(Batches(images, 4)))
    assert Batches(images, 4, "meta").pixels.device.type == "meta"
    monkeypatch.setattr(imageset, "RESIDENT_BELOW", 10)
    assert Batches(images, 4, "meta").pixels is images.pixels
    assert next(Batches(images, 4, "meta")).device.type == "meta"
    assert numbers(next(Batches(images, 4))) == here


def test_wrong_batches_get_a_sentence():
    with pytest.raises(ValueError, match="There are 3 images, fewer than one batch of 4; use batch_size=3 or less"):
        Batches(numbered(3), 4)
    with pytest.raises(ValueError, match="batch_size is 0, but must be at least 1"):
        Batches(numbered(3), 0)
    with pytest.raises(ValueError, match=r"takes uint8 images \[N, C, H, W\], not torch.float32 \[2, 1, 4, 4\]"):
        Batches(torch.zeros(2, 1, 4, 4), 1)


def test_take_is_balanced_random_and_without_replacement():
    labels = [0] * 50 + [1] * 50 + [2] * 4
    images = numbered(104, labels=labels)
    few = images.take(9)
    assert torch.bincount(few.labels).tolist() == [3, 3, 3]
    more = images.take(60, seed=1)
    assert torch.bincount(more.labels).tolist() == [28, 28, 4]
    chosen = more.pixels[:, 0, 0, 0].tolist()
    assert len(set(chosen)) == 60 and [labels[k] for k in chosen] == more.labels.tolist()
    assert torch.equal(images.take(9).pixels, few.pixels)
    assert not torch.equal(images.take(9, seed=1).pixels, few.pixels)
    assert few.source == "9 of numbers · 104 images · made up"


def test_take_without_labels():
    some = numbered(20).take(20, seed=3).pixels[:, 0, 0, 0].tolist()
    assert sorted(some) == list(range(20)) and some != list(range(20))


@pytest.mark.parametrize("n", [0, 21])
def test_taking_too_few_or_too_many(n):
    with pytest.raises(ValueError, match=f"Cannot take {n} of 20 images; use n from 1 to 20"):
        numbered(20).take(n)


def test_hold_out_parts_the_images_in_two():
    images = numbered(20, labels=list(range(20)))
    rest, held_out = images.hold_out(6)
    assert sorted([*rest.labels.tolist(), *held_out.labels.tolist()]) == list(range(20)) and len(held_out) == 6
    assert rest.pixels[:, 0, 0, 0].tolist() == rest.labels.tolist() == sorted(rest.labels.tolist())
    assert torch.equal(images.hold_out(6)[1].pixels, held_out.pixels)
    assert not torch.equal(images.hold_out(6, seed=1)[1].pixels, held_out.pixels)
    assert rest.source == "14 of numbers · 20 images · made up"
    assert held_out.source == "6 others of numbers · 20 images · made up"


@pytest.mark.parametrize("n", [0, 20])
def test_holding_out_nothing_or_all(n):
    with pytest.raises(ValueError, match=f"Cannot hold out {n} of 20 images; use n from 1 to 19"):
        numbered(20).hold_out(n)


def test_of_class_by_index_and_name():
    images = numbered(6, labels=[0, 1, 2, 0, 1, 2])
    for c in (1, "b"):
        assert images.of_class(c).pixels[:, 0, 0, 0].tolist() == [1, 4]
    assert images.of_class("b").source.startswith("class b of numbers")
    assert images.of_class("c", 0).pixels[:, 0, 0, 0].tolist() == [0, 2, 3, 5]
    assert images.of_class("c", 0).source.startswith("class c, a of numbers")
    with pytest.raises(ValueError, match="'numbers' has no class 'z'; it has: 0 a, 1 b, 2 c"):
        images.of_class("z")
    with pytest.raises(ValueError, match="'numbers' has no labels"):
        numbered(3).of_class(0)


def test_sample_and_repr():
    images = numbered(10)
    x = images.sample(4)
    assert x.shape == (4, 1, 4, 4) and x.dtype == torch.float32 and x.max() < -0.9
    assert str(images) == "numbers · 10 images · made up · uint8 [10, 1, 4, 4]"
    assert (len(images), images.image_size, images.channels) == (10, 4, 1)


def test_a_set_on_the_gpu_is_gathered_there():
    """Without a GPU: fake tensors know only shapes and devices. "cuda" and "cuda:0" are one device."""
    with FakeTensorMode(), mock.patch.object(torch.Tensor, "pin_memory", side_effect=AssertionError("pinned")):
        batch = next(Batches(torch.zeros(8, 1, 4, 4, dtype=torch.uint8), 4, "cuda"))
    assert batch.device == torch.device("cuda:0")
    assert batch.shape == (4, 1, 4, 4)


def test_attributes_go_with_their_images():
    images = numbered(10)
    known = torch.stack([torch.arange(10.0), torch.arange(10) % 2.0], 1)
    images = replace(images, attributes=known, attribute_names=("number", "odd"))
    few = images.take(4, seed=3)
    assert few.attribute("number").tolist() == few.pixels[:, 0, 0, 0].tolist()
    assert few.attribute("odd").tolist() == [k % 2 for k in few.pixels[:, 0, 0, 0].tolist()]
    with pytest.raises(ValueError, match="'numbers' has no attribute 'smile'; it has: number, odd"):
        few.attribute("smile")
    with pytest.raises(ValueError, match="'numbers' has no attribute 'odd'; it has: none"):
        numbered(3).attribute("odd")
