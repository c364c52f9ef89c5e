"""The z of a generated image is found again; what the likelihoods are; what cannot be inverted gets a sentence."""

import json
import math
import signal

import pytest
import torch
from torch.nn import functional as F

from ganlib import latent, models
from ganlib.data.images import to_float, to_uint8
from ganlib.latent import inversion

Z_DIM = 6


pytestmark = pytest.mark.usefixtures("quickly")


def small(channels=3, gain=1.0, categories=0):
    """An untrained generator whose images have contrast: its last layer's weights are ``gain`` times as large."""
    generator = models.dcgan_generator(16, channels, 8, Z_DIM, categories=categories, seed=2).eval()
    with torch.no_grad():
        # Untrained weights of 0.02 make nearly black nothing of z; a trained network's BatchNorm is about this strong.
        for layer in list(generator)[1:-2]:
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_var.fill_(0.02)
        generator[-2].weight *= 24 * gain
    return generator


def made_of(generator, z):
    with torch.no_grad():
        return to_uint8(generator(z))


def quick(generator, images, **changed):
    return latent.invert(generator, images, **{"steps": 120, "progress": False, **changed})


def away(found, z):
    """How far each z found is from the right one, as a share of its length."""
    return (found.z - z).norm(dim=1) / z.norm(dim=1)


@pytest.fixture(scope="module")
def generated():
    generator, z = small(), latent.draw_z(3, Z_DIM, seed=5)
    images = made_of(generator, z)
    assert 30 < images.float().std() < 110 and images.float().std(0).mean() > 10  # of contrast, and not all alike
    return generator, z, images


def test_a_generated_image_gives_back_its_own_z(generated):
    generator, z, images = generated
    found = quick(generator, images)
    assert away(found, z).max() < 0.02 and found.error.max() < 1
    assert torch.equal(found.images, made_of(generator, found.z))
    error = (generator(found.z) - to_float(images)).square().mean((1, 2, 3)).sqrt() * 127.5
    torch.testing.assert_close(found.error, error.detach(), atol=1e-3, rtol=1e-3)


def test_a_generated_image_gives_back_its_own_category():
    generator, z = small(categories=3), latent.draw_z(6, Z_DIM, seed=5)
    found = quick(generator, made_of(generator, z), restarts=8, steps=200)
    assert torch.equal(found.z[:, -3:].argmax(1), z[:, -3:].argmax(1)) and found.error.median() < 1


def test_the_same_seed_finds_the_same_and_the_generator_stays_as_it_was(generated):
    generator = small().train()  # whose BatchNorm would let one image see another
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    one, other = (quick(generator, generated[2], steps=10, seed=seed) for seed in (0, 1))
    assert torch.equal(one.z, quick(generated[0], generated[2], steps=10).z) and not torch.equal(one.z, other.z)
    assert generator.training and all(p.grad is None and p.requires_grad for p in generator.parameters())
    assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())


def test_the_best_restart_of_each_image_is_kept(generated, monkeypatch):
    generator, _, images = generated
    starts, first = latent.draw_z(18, Z_DIM, seed=1), [0]
    monkeypatch.setattr(torch, "randn", lambda n, *size, **how: starts[first[0] : first[0] + n].clone())
    best, alone = quick(generator, images, steps=15, restarts=6, prior=0), []
    for first[0] in range(0, 18, 3):
        alone.append(quick(generator, images, steps=15, restarts=1, prior=0).error)
    assert len(set(torch.stack(alone).argmin(0).tolist())) > 1
    torch.testing.assert_close(best.error, torch.stack(alone).amin(0), atol=0.01, rtol=0)


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_learned_sigma_is_the_noise_that_was_added(noise):
    generator = small(gain=0.2)  # of so little contrast that nothing is clipped
    clean = generator(latent.draw_z(4, Z_DIM, seed=7)).detach()
    noisy = (clean + noise * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    found = quick(generator, noisy, steps=200)
    # The least squares take Z_DIM of the 768 degrees of freedom with them.
    expected = (noisy - clean).square().mean((1, 2, 3)).sqrt() * math.sqrt(1 - Z_DIM / 768)
    torch.testing.assert_close(found.sigma, expected, atol=0, rtol=0.02)
    assert found.sigma.mean().item() == pytest.approx(noise, rel=0.05) and "learned σ" in str(found)


def test_the_likelihoods_are_those_of_torch(generated):
    generator, _, images = generated
    x = to_float(images)
    found = quick(generator, images, steps=20)
    normal = torch.distributions.Normal(generator(found.z).detach(), found.sigma.view(-1, 1, 1, 1))
    torch.testing.assert_close(found.nll, -normal.log_prob(x).sum((1, 2, 3)), rtol=1e-4, atol=1e-1)
    found = quick(generator, images, likelihood="bernoulli", steps=20)
    p = (generator(found.z).detach() + 1) / 2
    by_hand = F.binary_cross_entropy(p, (x + 1) / 2, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(found.nll, by_hand, rtol=1e-3, atol=1e-1)
    assert found.sigma is None and "bernoulli" in str(found) and "σ" not in str(found)


def test_bernoulli_finds_the_z_of_grey_and_of_black_and_white_images():
    generator, z = small(1), latent.draw_z(3, Z_DIM, seed=8)
    grey = made_of(generator, z)
    # Of grey pixels it is a flat likelihood, which a prior of weight 1 outweighs: z came out a fifth too short.
    found = quick(generator, grey, likelihood="bernoulli", prior=0)
    assert away(found, z).max() < 0.1 and found.error.max() < 2
    found = quick(generator, (grey > 127).to(torch.uint8) * 255, likelihood="bernoulli", prior=0)
    # How far out z is they do not tell: the further, the more certain is each pixel, and the likelier the image.
    assert torch.cosine_similarity(found.z, z).min() > 0.95 and (found.z.norm(dim=1) > z.norm(dim=1)).all()


def test_the_prior_draws_z_towards_the_middle(generated):
    generator, _, images = generated
    found = [quick(generator, images, prior=prior, steps=60) for prior in (0, 100, 10_000)]
    lengths = [each.z.norm(dim=1).mean() for each in found]
    assert lengths[0] > lengths[1] > lengths[2]


def test_it_prints_as_one_line_goes_to_json_and_shows_a_bar(generated, monkeypatch):
    bars, loop = [], inversion.loop
    monkeypatch.setattr(inversion, "loop", lambda *a, show: bars.append((len(a[0]), show)) or loop(*a, show=show))
    generator, _, images = generated
    found = latent.invert(generator, images, steps=5)
    quick(generator, images, steps=6)
    assert bars == [(5, True), (6, False)]
    assert "\n" not in str(found) and "3 images · error" in str(found) and "best of 4 restarts, 5 steps" in str(found)
    record = json.loads(json.dumps(found.to_dict()))
    assert record["error"] == pytest.approx(found.error.tolist()) and record["sigma"] == found.sigma.tolist()
    asked = {"likelihood": "gaussian", "restarts": 4, "steps": 5, "lr": 0.2, "prior": 1.0, "seed": 0}
    assert found.about == asked and record.items() >= asked.items()


def test_a_press_of_stop_ends_the_search_with_what_it_has(generated, monkeypatch):
    generator, _, images = generated

    def pressed(items, *how, loop=inversion.loop, **named):
        for step in loop(items, *how, **named):
            if step == 7:
                signal.raise_signal(signal.SIGINT)
            yield step

    monkeypatch.setattr(inversion, "loop", pressed)
    found = quick(generator, images)
    assert found.about["steps"] == 8 and torch.equal(found.images, made_of(generator, found.z))
    assert found.error.mean() < quick(generator, images, steps=1).error.mean()


@pytest.mark.parametrize(
    ("channels", "images", "message"),
    [
        (3, torch.zeros(2, 3, 8, 8), r"\[3, 8, 8\].*\[3, 16, 16\].*image_size=16"),
        (3, torch.zeros(2, 1, 16, 16), r"\[1, 16, 16\].*channels=3"),
        (1, torch.zeros(2, 3, 16, 16), r"\[3, 16, 16\].*channels=1"),
        (3, torch.full((2, 3, 16, 16), math.nan), "Image 0 .*NaN"),  # the rest is said by as_uint8
    ],
)
def test_images_that_it_cannot_have_made_get_a_sentence(channels, images, message):
    with pytest.raises(ValueError, match=message):
        quick(small(channels), images)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"likelihood": "poisson"}, "'poisson'.*gaussian, bernoulli"),
        ({"restarts": 0}, "restarts is 0.*above 0"),
        ({"steps": 0}, "steps is 0.*above 0"),
        ({"lr": math.nan}, "lr is nan.*above 0"),
        ({"prior": -1}, "prior is -1.*0 or more"),
    ],
)
def test_arguments_out_of_range_get_a_sentence(generated, wrong, message):
    with pytest.raises(ValueError, match=message):
        quick(generated[0], generated[2], **wrong)
