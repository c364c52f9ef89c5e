"""Augmentation: what it does to an image, that gradients come back through it, and that a run goes on with it."""

import copy
import functools
import json
import warnings

import pytest
import torch
from test_resuming import alike, go
from test_steps import reals, small_gan, weights

from ganlib import models, steps
from ganlib.data import augment
from ganlib.data.augment import KINDS, augmented
from ganlib.data.loading import ImageSet
from ganlib.runs import resuming, settings
from ganlib.steps import GAN
from helpers import noise

ALL = tuple(KINDS)
PER_IMAGE = 64


def apply(images, *kinds, seed=0):
    torch.manual_seed(seed)
    return augment.augment(images, kinds)


def pictures(n=6, channels=3, size=16, seed=0, dtype=torch.float32):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_changes_every_image_in_its_own_way_and_the_same_for_the_same_seed(kind, channels):
    images = pictures(1, channels).expand(PER_IMAGE, -1, -1, -1)
    one, two, other = apply(images, kind), apply(images, kind), apply(images, kind, seed=1)
    assert one.shape == images.shape and one.dtype == images.dtype
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert len({tuple(image.flatten().tolist()) for image in one}) > PER_IMAGE / 4


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_come_back_through_it(kind, channels):
    images = pictures(2, channels, 8, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: apply(x, kind), images)
    gradient, *_ = torch.autograd.grad(apply(images, *ALL).square().sum(), images)
    assert gradient.isfinite().all() and gradient.abs().max() > 0


@pytest.mark.parametrize("size", [8, 28, 64])
def test_a_translation_is_one_by_whole_pixels_of_at_most_an_eighth(size):
    images, reach = pictures(PER_IMAGE * 4, 1, size), size // 8
    found = set()
    for before, after in zip(images, apply(images, "translation"), strict=True):
        moves = []
        for down in range(-reach - 1, reach + 2):
            for right in range(-reach - 1, reach + 2):
                moved = torch.zeros_like(before)
                into = [slice(max(0, by), size + min(0, by)) for by in (down, right)]
                come = [slice(max(0, -by), size + min(0, -by)) for by in (down, right)]
                moved[:, *into] = before[:, *come]
                if torch.equal(moved, after):
                    moves.append((down, right))
        assert len(moves) == 1
        found |= set(moves)
    assert {abs(by) for move in found for by in move} == set(range(reach + 1))
    assert any(down * right < 0 for down, right in found) and any(down * right > 0 for down, right in found)


def test_what_is_cut_out_is_a_square_of_half_the_side():
    holes = apply(torch.ones(400, 3, 16, 16), "cutout") == 0
    assert torch.equal(holes.all(1), holes.any(1))  # the same in every channel
    sides = []
    for hole in holes[:, 0]:
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        sides.append((len(rows), len(columns)))
        assert hole.sum() == len(rows) * len(columns)  # a rectangle
        assert rows[-1] - rows[0] == len(rows) - 1 and columns[-1] - columns[0] == len(columns) - 1
        for place in (rows, columns):
            assert len(place) == 8 or place[0] == 0 or place[-1] == 15  # shorter only at an edge
    assert max(sides) == (8, 8) and min(min(pair) for pair in sides) == 4
    left = 1 - holes[:, 0].float().mean(0)
    assert left.max() < 1  # every pixel is hit now and then


def test_colours_change_by_what_is_said():
    flat = torch.full((400, 3, 4, 4), 0.25)
    shift = apply(flat, "colour") - flat  # saturation and contrast leave one even grey
    assert torch.allclose(shift, shift[:, :1, :1, :1].expand_as(shift), atol=1e-6)
    assert -0.5 <= shift.min() < -0.45 and 0.45 < shift.max() <= 0.5

    grey = pictures(1, 1, 8).expand(400, -1, -1, -1)
    contrast = apply(grey, "colour").std((1, 2, 3)) / grey.std((1, 2, 3))
    assert 0.5 <= contrast.min() < 0.55 and 1.45 < contrast.max() <= 1.5

    red = torch.tensor([0.4, -0.2, -0.2]).view(1, 3, 1, 1).expand(400, 3, 4, 4)
    change = apply(red, "colour")
    both = (change[:, 0] - change[:, 1]).mean((1, 2)) / 0.6  # saturation times contrast
    saturation = both / contrast
    assert 0 <= saturation.min() < 0.1 and 1.9 < saturation.max() <= 2.001


def test_the_order_of_the_kinds_does_not_matter():
    assert augment.check_kinds(["cutout", "colour", "cutout"]) == ("colour", "cutout")
    assert torch.equal(apply(pictures(), "cutout", "colour"), apply(pictures(), "colour", "cutout"))
    assert apply(torch.ones(50, 1, 8, 8), *ALL).eq(0).float().mean() > 0.1  # the colours do not fill the holes


def test_in_eval_mode_the_discriminator_sees_the_images_as_they_are():
    bare = models.dcgan_discriminator(16, 3, 4, norm="none")
    twin = augmented(copy.deepcopy(bare), ALL)
    images = pictures()
    assert torch.equal(bare.eval()(images), twin.eval()(images))
    assert not torch.equal(bare.train()(images), twin.train()(images))


def test_weights_fit_with_and_without():
    bare, other = models.dcgan_discriminator(16, 3, 4), augmented(models.dcgan_discriminator(16, 3, 4, seed=9), ALL)
    assert bare.state_dict().keys() == other.state_dict().keys()
    other.load_state_dict(bare.state_dict())
    assert torch.equal(other.eval()(pictures()), bare.eval()(pictures()))


def test_a_copy_is_augmented_too_and_nothing_is_done_to_the_class():
    twin = copy.deepcopy(augmented(models.dcgan_discriminator(16, 3, 4, norm="none"), ["cutout"]))
    torch.manual_seed(0)
    seen = twin(pictures())
    torch.manual_seed(1)
    assert not torch.equal(seen, twin(pictures()))
    assert not hasattr(models.dcgan_discriminator(16, 3, 4), "augment")


STEPS = [
    (steps.dcgan_step, "batch"),
    (steps.dcgan_r1_step, "batch"),
    (steps.minimax_step, "batch"),
    (steps.hinge_step, "spectral"),
    (functools.partial(steps.wgan_step, n_critic=1), "layer"),
    (functools.partial(steps.wgan_gp_step, n_critic=1), "layer"),
    (steps.rpgan_step, "none"),
]


@pytest.mark.parametrize(("step", "norm"), STEPS)
def test_every_step_works_unchanged(step, norm):
    def after(kinds):
        generator = models.dcgan_generator(16, 1, 4, 8)
        discriminator = augmented(models.dcgan_discriminator(16, 1, 4, norm=norm), kinds)
        gan = GAN(
            generator, discriminator, *(torch.optim.SGD(m.parameters(), 0.1) for m in (generator, discriminator)), 8
        )
        begin = [p.clone() for p in generator.parameters()]
        torch.manual_seed(0)
        record = step(gan, iter([pictures(6, 1)]))
        assert all(value.isfinite() for value in record.values())
        assert any(not torch.equal(a, b) for a, b in zip(begin, generator.parameters(), strict=True))
        return weights(gan)

    assert torch.equal(after(ALL), after(ALL))
    assert not torch.equal(after(ALL), after(()))


def test_a_network_of_ones_own_can_be_augmented():
    own = augmented(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 1)), "translation")
    torch.manual_seed(0)
    one = own(pictures())
    assert not torch.equal(one, own(pictures()))


def test_what_is_wrong_gets_a_sentence():
    d = models.dcgan_discriminator(16, 3, 4)
    with pytest.raises(ValueError, match="no augmentation 'rotation'; there are: colour, translation, cutout"):
        augmented(d, ["cutout", "rotation"])
    with pytest.raises(ValueError, match="no augmentation 'cut'"):
        augment.augment(pictures(), "cut")
    assert augmented(d, ()) is d and not d._forward_pre_hooks
    augmented(d, ["cutout"])
    with pytest.raises(ValueError, match=r"is augmented already \(cutout\); build a new one"):
        augmented(d, ["colour"])


# --- runs


def augmented_gan(kinds=ALL):
    gan = small_gan()
    augmented(gan.discriminator, kinds)
    return gan


@pytest.fixture(scope="module")
def images():
    return ImageSet(noise(40, size=28), None, (), "noise", "noise")


@pytest.mark.usefixtures("quickly")
def test_an_augmented_run_goes_on_exactly_and_can_be_built_from_its_folder(images, tmp_path):
    straight = go(images, tmp_path / "straight", augmented_gan())
    go(images, tmp_path / "run", augmented_gan(), steps=5)
    gan, arguments = resuming.rebuild(tmp_path / "run")
    assert gan.discriminator.augment == ALL
    assert alike(go(images, tmp_path / "run", gan), straight)
    bare = go(images, tmp_path / "bare")
    assert bare[1].losses["d_loss"][0] != straight[1].losses["d_loss"][0]


@pytest.mark.usefixtures("quickly")
def test_a_run_notes_its_augmentation_and_another_is_another_run(images, tmp_path):
    go(images, tmp_path, augmented_gan(("cutout",)), steps=2)
    there = json.loads((tmp_path / "config.json").read_text())
    assert there["players"]["discriminator"]["augment"] == ["cutout"]
    with pytest.raises(ValueError, match="discriminator.augment.0 was 'cutout' and is not there now"):
        go(images, tmp_path, small_gan())
    bare = settings.describe(small_gan(), steps.dcgan_step, images, {})
    assert "augment" not in bare["players"]["discriminator"]  # as in runs from before there was any


def test_penalties_are_taken_through_it():
    critic = augmented(models.dcgan_discriminator(16, 1, 4, norm="layer"), ALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps.r1_penalty(critic, next(reals())[:, :, :16, :16]).backward()
    assert critic[0].weight.grad.abs().max() > 0
