"""Augmentation: what it does to an image, that gradients come back through it, and that it does not get in the way."""

import copy
import json
from functools import partial

import pytest
import torch

from ganlib import GAN, fit, models, steps
from ganlib.data.augment import KINDS, augment, augmented, check_kinds
from ganlib.data.images import ImageSet
from ganlib.runs import Run
from helpers import noise

ALL = tuple(KINDS)


def apply(images, *kinds, seed=0):
    torch.manual_seed(seed)
    return augment(images, kinds)


def pictures(n=6, channels=3, size=16, dtype=torch.float32):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(0), dtype=dtype) * 2 - 1


def small_gan(kinds, norm="batch"):
    networks = models.dcgan_generator(16, 1, 4, 8), augmented(models.dcgan_discriminator(16, 1, 4, norm=norm), kinds)
    return GAN(*networks, *(torch.optim.SGD(network.parameters(), 0.1) for network in networks), 8, device="cpu")


def weights(gan):
    return torch.cat([p.detach().flatten() for p in (*gan.generator.parameters(), *gan.discriminator.parameters())])


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_changes_every_image_in_its_own_way_and_lets_gradients_through(kind, channels):
    images = pictures(1, channels).expand(64, -1, -1, -1)
    one, two, other = apply(images, kind), apply(images, kind), apply(images, kind, seed=1)
    assert one.shape == images.shape and one.dtype == images.dtype
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert len({tuple(image.flatten().tolist()) for image in one}) > 16
    images = pictures(2, channels, 8, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: apply(x, kind), images)


@pytest.mark.parametrize("size", [8, 28, 64])
def test_a_translation_is_one_by_whole_pixels_of_at_most_an_eighth(size):
    images, reach = pictures(256, 1, size), size // 8
    surrounded = torch.nn.functional.pad(images, [reach + 1] * 4)
    offsets, found = range(2 * reach + 3), set()
    moved = {(i, j): surrounded[:, :, i : i + size, j : j + size] for i in offsets for j in offsets}
    after = apply(images, "translation")
    fits = {move: (image == after).flatten(1).all(1) for move, image in moved.items()}
    assert (sum(fit.int() for fit in fits.values()) == 1).all()
    found = {(i - reach - 1, j - reach - 1) for (i, j), fit in fits.items() if fit.any()}
    assert {by for move in found for by in move} == set(range(-reach, reach + 1))
    assert {i * j < 0 for i, j in found if i and j} == {True, False}  # up or down does not tell left or right


def test_what_is_cut_out_is_a_square_of_half_the_side():
    holes = apply(torch.ones(400, 3, 16, 16), "cutout") == 0
    assert torch.equal(holes.all(1), holes.any(1))  # the same in every channel
    sides = set()
    for hole in holes[:, 0]:
        places = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        assert hole.sum() == len(places[0]) * len(places[1])  # a rectangle
        for place in places:
            assert place[-1] - place[0] == len(place) - 1
            assert len(place) == 8 or place[0] == 0 or place[-1] == 15  # shorter only at an edge
            sides.add(len(place))
    assert sides == {4, 5, 6, 7, 8} and holes[:, 0].any(0).all()  # every pixel is hit now and then


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
    saturation = (change[:, 0] - change[:, 1]).mean((1, 2)) / 0.6 / contrast
    assert 0 <= saturation.min() < 0.1 and 1.9 < saturation.max() <= 2.001


def test_the_order_of_the_kinds_does_not_matter():
    assert check_kinds(["cutout", "colour", "cutout"]) == ("colour", "cutout") and check_kinds("cutout") == ("cutout",)
    assert torch.equal(apply(pictures(), "cutout", "colour"), apply(pictures(), "colour", "cutout"))
    assert apply(torch.ones(50, 1, 8, 8), *ALL).eq(0).float().mean() > 0.1  # the colours do not fill the holes


def test_an_augmented_discriminator_is_another_in_training_mode_only():
    bare = models.dcgan_discriminator(16, 3, 4, norm="none")
    twin = augmented(copy.deepcopy(bare), ALL)
    again, images = copy.deepcopy(twin), pictures()  # a copy is augmented, too
    assert twin.augment == again.augment == ALL and not hasattr(bare, "augment")
    twin.load_state_dict(bare.state_dict())  # the weights keep their names
    for network in (twin, again):
        assert torch.equal(bare.eval()(images), network.eval()(images))
        torch.manual_seed(0)
        assert torch.equal(network.train()(images), bare.train()(apply(images, *ALL)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("step", [steps.dcgan_r1_step, partial(steps.wgan_gp_step, n_critic=1), steps.rpgan_step])
def test_steps_and_penalties_work_unchanged(step):
    def after(kinds):
        gan = small_gan(kinds, "layer")
        torch.manual_seed(0)
        assert all(value.isfinite() for value in step(gan, iter([pictures(6, 1)])).values())
        return weights(gan)

    assert torch.equal(after(ALL), after(ALL)) and not torch.equal(after(ALL), after(()))


@pytest.mark.usefixtures("quickly")
def test_an_augmented_run_is_resumed_exactly_and_notes_it(tmp_path):
    def after(n, folder, kinds=ALL):
        gan = small_gan(kinds)
        images = ImageSet(noise(40, size=16), None, (), "noise", "noise")
        fit(gan, steps.dcgan_step, images, steps=n, batch_size=8, run=Run(tmp_path / folder, resume=True), watchers=())
        return weights(gan)

    straight, _ = after(6, "straight"), after(3, "stopped")
    assert torch.equal(after(6, "stopped"), straight) and not torch.equal(after(6, "bare", ()), straight)
    about = json.loads((tmp_path / "stopped" / "config.json").read_text())
    assert about["players"]["discriminator"]["augment"] == list(ALL)
    with pytest.raises(ValueError, match="augment"):
        after(8, "stopped", ())


def test_what_is_wrong_gets_a_sentence():
    own = torch.nn.Linear(3, 1)
    assert augmented(own, ()) is own and not own._forward_pre_hooks
    with pytest.raises(ValueError, match="'rotation'.*colour, translation, cutout"):
        augmented(own, ["cutout", "rotation"])
    with pytest.raises(ValueError, match="'cut'"):
        augment(pictures(), "cut")
    with pytest.raises(ValueError, match=r"augmented already \(cutout\).*new one"):
        augmented(augmented(own, "cutout"), ["colour"])
