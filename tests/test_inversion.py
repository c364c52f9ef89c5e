"""The z of a generated image is found again; what the likelihoods are; what cannot be inverted gets a sentence."""

import json
import math

import pytest
import torch
from torch.nn import functional as F

from ganlib import models
from ganlib.data.loading import ImageSet, to_float, to_uint8
from ganlib.latent import walks as latent
from ganlib.latent.inversion import invert
from ganlib.runs import checkpoint
from ganlib.train import sample

pytestmark = pytest.mark.usefixtures("quickly")
Z_DIM = 6


def small(channels=3, gain=1.0, size=16, categories=0):
    """An untrained generator whose images have contrast: its last layer's weights are ``gain`` times as large."""
    generator = models.dcgan_generator(size, channels, 8, Z_DIM, categories=categories, seed=2).eval()
    with torch.no_grad():
        # Untrained weights of 0.02 make nearly black nothing of z; a trained network's BatchNorm is about this strong.
        for layer in list(generator)[1:-2]:
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_var.fill_(0.02)
        generator[-2].weight *= 24 * gain
    return generator


def quick(generator, images, **changed):
    return invert(generator, images, **{"steps": 120, "progress": False, **changed})


def away(found, z):
    """How far each z found is from the right one, as a share of its length."""
    return (found.z - z).norm(dim=1) / z.norm(dim=1)


@pytest.fixture(scope="module")
def generated():
    generator, z = small(), latent.draw_z(3, Z_DIM, seed=5)
    return generator, z, sample(generator, z)


def test_the_test_generator_has_contrast(generated):
    assert 30 < generated[2].float().std() < 110
    assert generated[2].float().std(0).mean() > 10  # and its images differ


def test_a_generated_image_gives_back_its_own_z(generated):
    generator, z, images = generated
    found = quick(generator, images)
    assert away(found, z).max() < 0.02
    assert found.error.max() < 1 and found.images.shape == images.shape and found.images.dtype == torch.uint8
    assert (found.images.float() - images.float()).abs().mean() < 1
    assert len(found) == 3 and found.restarts_error.shape == (4, 3)


def test_a_generated_image_gives_back_its_own_choice():
    generator, z = small(categories=3), latent.draw_z(6, Z_DIM, seed=5)
    found = quick(generator, sample(generator, z), restarts=8, steps=200)
    assert torch.equal(found.z[:, -3:].argmax(1), z[:, -3:].argmax(1))
    assert found.error.median() < 1


@pytest.mark.slow
def test_so_it_does_of_a_generator_that_was_trained():
    generator = checkpoint.pretrained("cifar10")
    z = latent.draw_z(2, generator.z_dim, seed=11)
    found = invert(generator, sample(generator, z), steps=500, progress=False)
    assert away(found, z).max() < 0.3
    assert found.error.max() < 2


def test_images_in_bytes_floats_and_sets_are_one(generated):
    generator, _, images = generated
    found = [
        quick(generator, some, steps=10) for some in (images, to_float(images), ImageSet(images, None, (), "x", "x"))
    ]
    for other in found[1:]:
        assert torch.equal(found[0].z, other.z)


def test_the_same_seed_finds_the_same_and_the_generator_stays_as_it_was(generated):
    generator = small().train()
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    one, two, other = (quick(generator, generated[2], steps=10, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.z, two.z) and not torch.equal(one.z, other.z)
    assert generator.training and all(p.grad is None and p.requires_grad for p in generator.parameters())
    assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())


def test_no_image_sees_another(generated):
    generator, _, images = generated
    others = torch.cat([images[:1], 255 - images[1:]])
    one, two = (quick(generator, some, steps=30, restarts=1) for some in (images, others))
    torch.testing.assert_close(one.z[0], two.z[0], atol=1e-4, rtol=0)
    assert not torch.allclose(one.z[1], two.z[1], atol=0.1)


def test_the_best_restart_of_each_image_is_kept(generated):
    generator, _, images = generated
    found = quick(generator, images, steps=15, restarts=6, prior=0)
    torch.testing.assert_close(found.error, found.restarts_error.amin(0))
    assert len(set(found.restarts_error.argmin(0).tolist())) > 1  # not one restart for all


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_learned_sigma_is_the_noise_that_was_added(noise):
    generator = small(gain=0.2)  # of so little contrast that nothing is clipped
    clean = to_float(sample(generator, latent.draw_z(4, Z_DIM, seed=7)))
    noisy = clean + noise * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    assert noisy.abs().max() < 1.2
    noisy = noisy.clamp(-1, 1)
    found = quick(generator, noisy, steps=200)
    # The least squares take Z_DIM of the 768 degrees of freedom with them.
    expected = (noisy - clean).square().mean((1, 2, 3)).sqrt() * math.sqrt(1 - Z_DIM / 768)
    torch.testing.assert_close(found.sigma, expected, atol=0, rtol=0.02)
    assert found.sigma.mean().item() == pytest.approx(noise, rel=0.05)
    assert "learned σ" in str(found)


def test_the_likelihoods_are_those_of_torch(generated):
    generator, _, images = generated
    x = to_float(images)
    for sigma in (0.1, "learned"):
        found = quick(generator, images, sigma=sigma, steps=20)
        with torch.no_grad():
            normal = torch.distributions.Normal(generator(found.z), found.sigma.view(-1, 1, 1, 1))
        torch.testing.assert_close(found.nll, -normal.log_prob(x).sum((1, 2, 3)), rtol=1e-4, atol=1e-1)
        assert sigma == "learned" or found.sigma.tolist() == pytest.approx([sigma] * 3)
    found = quick(generator, images, likelihood="bernoulli", steps=20)
    with torch.no_grad():
        p = (generator(found.z) + 1) / 2
    by_hand = F.binary_cross_entropy(p, (x + 1) / 2, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(found.nll, by_hand, rtol=1e-3, atol=1e-1)
    assert found.sigma is None and "bernoulli" in str(found) and "σ" not in str(found)


def test_bernoulli_gives_back_the_z_of_grey_images():
    generator, z = small(1), latent.draw_z(3, Z_DIM, seed=8)
    # Of grey pixels it is a flat likelihood, which a prior of weight 1 outweighs: z came out a fifth too short.
    found = quick(generator, sample(generator, z), likelihood="bernoulli", prior=0)
    assert away(found, z).max() < 0.1 and found.error.max() < 2


def test_bernoulli_finds_the_way_to_black_and_white_images():
    generator, z = small(1), latent.draw_z(3, Z_DIM, seed=8)
    ink = (sample(generator, z) > 127).to(torch.uint8) * 255
    found = quick(generator, ink, likelihood="bernoulli", prior=0)
    # How far out z is they do not tell: the further, the more certain is each pixel, and the likelier the image.
    assert torch.cosine_similarity(found.z, z).min() > 0.95 and (found.z.norm(dim=1) > z.norm(dim=1)).all()
    assert ((found.images > 127) == (ink > 127)).float().mean() > 0.97


def test_the_prior_draws_z_towards_the_middle(generated):
    generator, _, images = generated
    lengths = [
        quick(generator, images, sigma=0.5, prior=prior, steps=60).z.norm(dim=1).mean() for prior in (0, 20, 2000)
    ]
    assert lengths[0] > lengths[1] > lengths[2]


def test_it_prints_as_one_line_goes_to_json_and_shows_a_bar(generated, capsys):
    generator, _, images = generated
    found = invert(generator, images, steps=5)
    assert "5/5" in capsys.readouterr().err
    assert "\n" not in str(found) and "3 images · error" in str(found) and "best of 4 restarts, 5 steps" in str(found)
    record = json.loads(json.dumps(found.to_dict()))
    assert record["error"] == pytest.approx(found.error.tolist()) and record["sigma"] == found.sigma.tolist()
    assert record["likelihood"] == "gaussian" and record["restarts"] == 4 and len(record["z_length"]) == 3


WRONG_IMAGES = [
    (torch.full((2, 3, 16, 16), math.nan), "Image 0 holds NaN or infinite values"),
    (torch.zeros(2, 3, 8, 8), "of 8×8 pixels, but this generator's are of 16×16; load them with image_size=16"),
    (torch.zeros(2, 1, 16, 16), "are grey, but this generator's are in colour; load them with channels=3"),
    (torch.zeros(0, 3, 16, 16), r"shape \[0, 3, 16, 16\], but must be \[N, 3, H, W\]"),
    (torch.zeros(3, 16, 16), r"shape \[3, 16, 16\], but must be"),
    (torch.full((1, 3, 16, 16), 7.0), r"run from 7.00 to 7.00, but floats must lie in \[-1, 1\]"),
    (torch.zeros(1, 3, 16, 16, dtype=torch.int64), "are torch.int64, but must be uint8 or float"),
]


@pytest.mark.parametrize(("images", "sentence"), WRONG_IMAGES)
def test_images_that_it_cannot_have_made_get_a_sentence(generated, images, sentence):
    with pytest.raises(ValueError, match=sentence):
        quick(generated[0], images)
    if images.shape[1:] == (3, 16, 16) and images.isnan().any():
        images = torch.cat([torch.zeros(1, 3, 16, 16), images[:1]])
        with pytest.raises(ValueError, match="Image 1 holds"):
            quick(generated[0], images)


def test_colour_into_grey_gets_a_sentence():
    with pytest.raises(ValueError, match="are in colour, but this generator's are grey; load them with channels=1"):
        quick(small(1), torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"likelihood": "poisson"}, "likelihood is 'poisson', but must be one of: gaussian, bernoulli"),
        ({"sigma": -0.1}, "sigma is -0.1, but must be 'learned' or above 0"),
        ({"sigma": math.nan}, "sigma is nan, but"),
        ({"sigma": "learnt"}, "sigma is learnt, but must be 'learned'"),
        ({"sigma": 0.1, "likelihood": "bernoulli"}, "a Bernoulli likelihood has none"),
        ({"restarts": 0}, "restarts is 0, but must be at least 1"),
        ({"steps": 0}, "steps is 0, but must be at least 1"),
        ({"lr": 0}, "lr is 0, but must be above 0"),
        ({"prior": -1}, "prior is -1, but the weight of the prior is 0 or more"),
    ],
)
def test_arguments_out_of_range_get_a_sentence(generated, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        quick(generated[0], generated[2], **wrong)


def test_to_uint8_is_what_a_reconstruction_is(generated):
    generator, _, images = generated
    found = quick(generator, images, steps=5)
    with torch.no_grad():
        assert (to_uint8(generator(found.z)).int() - found.images.int()).abs().max() <= 1
