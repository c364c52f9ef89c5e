"""Every layer of every network, their first weights, and the sentences for networks that cannot be built."""

import inspect

import pytest
import torch
from torch import nn

from ganlib import conditional, models
from ganlib._runtime.randomness import rng
from ganlib.models import dcgan_discriminator, dcgan_generator, linear_discriminator, linear_generator

SHORT = {nn.BatchNorm2d: "BN", nn.ReLU: "relu", nn.Tanh: "tanh", nn.Flatten: "flat"}
SIZES = {"kernel_size": "k", "stride": "s", "padding": "p", "output_padding": "o"}


def short(layer):
    """``T7-16k4s2p1`` for a transposed convolution (C: another, L: linear), with ``+`` for a bias, ``o1`` if padded."""
    kind, plus = type(layer), "+" if getattr(layer, "bias", None) is not None else ""
    if kind is nn.Linear:
        return f"L{layer.in_features}-{layer.out_features}{plus}"
    if kind in (nn.Conv2d, nn.ConvTranspose2d):
        sides = {letter: getattr(layer, name)[0] for name, letter in SIZES.items()}
        sizes = "".join(f"{letter}{n}" for letter, n in sides.items() if n != (letter == "s"))
        return f"{'T' if layer.transposed else 'C'}{layer.in_channels}-{layer.out_channels}{plus}{sizes}"
    names = "negative_slope", "p", "unflattened_size", "kernel_size", "num_groups"
    number = next((getattr(layer, name) for name in names if hasattr(layer, name)), "")
    return SHORT.get(kind, f"{kind.__name__}{number}".replace(" ", ""))


LAYERS = """
dcgan_generator(250, 3, 2, 7): T7-16k3 BN relu T16-16k4s2p1o1 BN relu T16-16k4s2p1o1 BN relu T16-8k4s2p1o1 BN relu
    T8-4k4s2p1 BN relu T4-2k4s2p1o1 BN relu T2-3+k4s2p1 tanh
dcgan_generator(29, 1, 4, 7): T7-16k3 BN relu T16-8k4s2p1o1 BN relu T8-4k4s2p1 BN relu T4-1+k4s2p1o1 tanh
dcgan_generator(28, 1, 4, 7, base=7): T7-8k7 BN relu T8-4k4s2p1 BN relu T4-1+k4s2p1 tanh
dcgan_generator(28, 1, 4, base=27): T100-4k14 BN relu T4-1+k4s2p1 tanh
dcgan_generator(8, 1, 1, 3, base=2, categories=2): CategoricalCode T3-2k2 BN relu T2-1k4s2p1 BN relu T1-1+k4s2p1 tanh
dcgan_discriminator(250, 3, 2): C3-2+k4s2p1 leaky C2-4k4s2p1 BN leaky C4-8k4s2p1 BN leaky C8-16k4s2p1 BN leaky
    C16-16k4s2p1 BN leaky C16-16k4s2p1 BN leaky C16-1+k3
dcgan_discriminator(29, 3, 4, depth=2): C3-4+k4s2p1 leaky C4-4k3p1 BN leaky C4-8k4s2p1 BN leaky C8-8k3p1 BN leaky
    C8-16k4s2p1 BN leaky C16-1+k3
dcgan_discriminator(16, 1, 4, norm="layer"): C1-4+k4s2p1 leaky C4-8k4s2p1 GroupNorm1 leaky C8-1+k4
dcgan_discriminator(16, 1, 4, norm="instance"): C1-4+k4s2p1 leaky C4-8k4s2p1 InstanceNorm2d leaky C8-1+k4
dcgan_discriminator(16, 1, 4, norm="none"): C1-4+k4s2p1 leaky C4-8+k4s2p1 leaky C8-1+k4
linear_generator(16, 3, 4, 7): flat L7-64 Unflatten(16,2,2) BN relu T16-8k4s2p1 BN relu T8-4k4s2p1 BN relu
    T4-2k4s2p1 BN relu C2-3+k3p1 tanh
linear_discriminator(16, 3, 4): C3-2+k3p1 leaky C2-4k4s2p1 BN leaky C4-8k4s2p1 BN leaky C8-16k4s2p1 BN leaky flat L64-1+
linear_discriminator(8, 1, 2): C1-1+k3p1 leaky C1-2k4s2p1 BN leaky C2-4k4s2p1 BN leaky C4-8k4s2p1 BN leaky flat L8-1+
pooled_generator(9): T9-256+k7 BN relu T256-128+k4s2p1 BN relu T128-64+k4s2p1 BN relu T64-32+k3p1 BN relu
    T32-1+k3p1 tanh
pooled_discriminator(): C1-64+k3p1 BN leaky MaxPool2d2 Dropout0.3 C64-128+k3p1 BN leaky MaxPool2d2 Dropout0.3
    C128-256+k3p1 BN leaky MaxPool2d2 Dropout0.3 C256-512+k3p1 BN leaky flat L8192-1024+ leaky L1024-1+
mlp_generator(5, 8, depth=3): L5-8+ relu L8-8+ relu L8-8+ relu L8-2+
mlp_generator(): L2-64+ relu L64-64+ relu L64-2+
mlp_discriminator(8): L2-8+ leaky L8-8+ leaky L8-1+ flat
""".replace("leaky", "LeakyReLU0.2").replace("\n    ", " ")


@pytest.mark.parametrize("line", LAYERS.strip().splitlines())
def test_layers(line):
    built, layers = line.split("): ")
    network = eval(f"models.{built})")
    assert [short(layer) for layer in network] == layers.split()
    if "mlp" not in built:
        assert all(layer.inplace for layer in network if isinstance(layer, nn.ReLU | nn.LeakyReLU))


def test_parameter_counts_are_the_published_ones_frozen_or_not():
    networks = [dcgan_generator(width=128), dcgan_discriminator(), *(build() for build in models.BUILDERS["pooled"])]
    assert [models.count_parameters(n) for n in networks] == [12_658_435, 2_765_633, 1_929_921, 9_942_401]
    assert models.count_parameters(networks[1].requires_grad_(False)) == 2_765_633
    assert networks[3](networks[2](torch.randn(2, 100))).shape == (2,)
    # A scale and a shift for each of the 8 maps: 16 * 4 + 4, 4 * 8 * 16, 2 * 8, 8 * 16 + 1.
    assert [models.count_parameters(dcgan_discriminator(16, 1, 4, norm=n)) for n in ("layer", "instance")] == [725, 725]


DEFAULTS = {
    dcgan_generator: dict(image_size=64, channels=3, width=64, z_dim=100, base=4, categories=0, seed=0),
    dcgan_discriminator: dict(image_size=64, channels=3, width=64, base=4, norm="batch", depth=1, seed=0),
    linear_generator: dict(image_size=32, channels=3, width=64, z_dim=100, seed=0),
    linear_discriminator: dict(image_size=32, channels=3, width=64, seed=0),
    models.pooled_generator: dict(z_dim=100, seed=0),
    models.pooled_discriminator: dict(seed=0),
}


@pytest.mark.parametrize(("build", "defaults"), DEFAULTS.items())
def test_defaults_and_a_config_that_builds_the_same_network(build, defaults):
    assert {name: p.default for name, p in inspect.signature(build).parameters.items()} == defaults
    given = defaults | {"seed": 3} | ({"width": 4} if "width" in defaults else {})
    network = build(**given)
    assert network.config == {"kind": build.__name__.split("_")[0], **given}
    again = type(network).build(network.config)
    assert type(again) is type(network) and again.config == network.config
    for one, two in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(("kind", "size"), [*[("dcgan", n) for n in (8, 9, 28, 29, 53, 128)], ("linear", 24)])
def test_networks_play_together_at_every_size_and_reach_every_pixel(kind, size):
    make_g, make_d = models.BUILDERS[kind]
    generator, discriminator = make_g(size, 1, 4, 7).double(), make_d(size, 1, 4).double()
    images = generator(torch.randn(2, 7, generator=rng(0), dtype=torch.float64))
    assert images.shape == (2, 1, size, size) and images.abs().max() <= 1 and (images[0] != images[1]).all()
    logits = discriminator(pixels := images.detach().requires_grad_())
    logits.sum().backward()
    assert logits.shape == (2,) and (pixels.grad[0] != 0).all()


def test_initial_weights_are_dcgans_and_come_of_the_seed_alone():
    for build in (dcgan_generator, dcgan_discriminator, linear_discriminator):
        torch.manual_seed(1)
        one = build(seed=3)
        torch.manual_seed(2)
        two, other = build(seed=3), build(seed=4)
        for layer, same, different in zip(one, two, other, strict=True):
            if isinstance(layer, nn.BatchNorm2d) or getattr(layer, "weight", None) is not None:
                assert torch.equal(layer.weight, same.weight) and not torch.equal(layer.weight, different.weight)
                middle = 1.0 if isinstance(layer, nn.BatchNorm2d) else 0.0
                assert layer.weight.mean().item() == pytest.approx(middle, abs=0.02)
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.3)
            assert getattr(layer, "bias", None) is None or layer.bias.abs().max() == 0
    for norm in ("layer", "instance"):
        scale = dcgan_discriminator(norm=norm)[3].weight
        assert scale.mean().item() == pytest.approx(1, abs=0.02) and scale.std().item() == pytest.approx(0.02, rel=0.3)


def test_he_normal_keeps_the_size_of_signals():
    wide = models.he_normal(nn.Sequential(nn.Linear(500, 2000), nn.ReLU()), seed=0)
    assert wide(torch.randn(200, 500, generator=rng(1))).square().mean().item() == pytest.approx(1.0, abs=0.05)
    assert wide[0].weight.mean().item() == pytest.approx(0, abs=1e-3) and wide[0].bias.abs().max() == 0
    assert not torch.equal(wide[0].weight, models.he_normal(nn.Sequential(nn.Linear(500, 2000)), seed=1)[0].weight)
    assert models.mlp_discriminator()(models.mlp_generator(5, seed=3)(torch.randn(1, 5))).shape == (1,)
    first, second = (inspect.signature(make).parameters for make in (models.mlp_generator, models.mlp_discriminator))
    assert [first[name].default for name in ("z_dim", "width", "seed")] == [2, 64, 0]
    assert [second[name].default for name in ("width", "seed")] == [64, 0]


@pytest.mark.parametrize("norm", models.NORMS)
def test_only_with_batchnorm_one_example_sees_another(norm):
    # In train mode each forward pass of spectral norm also sharpens its singular vectors.
    critic = dcgan_discriminator(16, 3, 8, norm=norm, seed=1).train(norm != "spectral")
    images = torch.randn(6, 3, 16, 16, generator=rng(0)).requires_grad_()
    (sees,) = torch.autograd.grad(critic(images)[0], images)
    assert sees[0].abs().max() > 0 and (sees[1:].abs().max() > 0) == (norm == "batch")


def test_spectral_norm_bounds_every_layer_by_one_and_comes_of_the_seed_alone():
    critics, states = [], []
    for seed, norm in ((2, "spectral"), (2, "spectral"), (3, "spectral"), (2, "none")):
        torch.manual_seed(len(critics[:1]))
        critics.append(dcgan_discriminator(16, 3, 8, norm=norm, seed=seed))
        states.append(torch.random.get_rng_state())
    assert torch.equal(states[1], states[3])  # the global generator is where it would be without spectral norm
    one, same, other = ([v for k, v in critic.state_dict().items() if k.endswith("_u")] for critic in critics[:3])
    assert len(one) == 3 and all(map(torch.equal, one, same)) and not torch.equal(one[0], other[0])
    assert torch.equal(critics[0][0].parametrizations.weight.original, critics[3][0].weight)
    for _ in range(30):
        critics[0](torch.randn(2, 3, 16, 16))
    for layer in (critics[0][k] for k in (0, 2, 4)):
        assert torch.linalg.svdvals(layer.weight.flatten(1))[0].item() == pytest.approx(1.0, abs=2e-2)


def test_a_categorical_code_is_a_choice_with_the_gradient_of_a_softmax():
    z = torch.randn(6000, 9, 1, 1, generator=rng(0))
    code = models.CategoricalCode(6)(z)
    assert torch.equal(code[:, :3], z[:, :3]) and torch.equal(code[:, 3:].argmax(1), z[:, 3:].argmax(1))
    assert code[:, 3:].unique().tolist() == [0, 3] and (code[:, 3:].sum(1) == 3).all()
    z = torch.randn(2, 5, generator=rng(0), requires_grad=True)
    code, soft = models.CategoricalCode(3)(z), torch.cat([z[:, :2], 3.0 * z[:, 2:].softmax(1)], 1)
    torch.testing.assert_close(code, models.CategoricalCode(3)(z.detach()))
    weight = torch.arange(10.0).view(2, 5)
    torch.testing.assert_close(*(torch.autograd.grad((weight * out).sum(), z)[0] for out in (code, soft)))
    generator = dcgan_generator(8, 1, 4, z_dim=4, categories=3).eval()
    z = torch.tensor([[0.0, 1.0, 0.999, 0.0], [0.0, 1.0, 1.001, 0.0]])
    one, other = generator(z)
    assert (one - other).abs().max() > 1e-6  # between two choices there is nothing
    assert torch.equal(generator(z[:1]), generator(z[:1] + torch.tensor([0, 0.5, 0.5, 0.5])))


def test_per_class_gives_each_generator_its_turn():
    generators = [dcgan_generator(8, 1, 4, 6, seed=seed).eval() for seed in range(3)]
    together, z = conditional.PerClass(generators), torch.randn(8, 6)
    images = together(z)
    assert images.shape == (8, 1, 8, 8) and together.z_dim == 6
    for row in range(8):
        torch.testing.assert_close(images[row], generators[row % 3](z[row : row + 1])[0])
    torch.testing.assert_close(together(z[:2]), images[:2])  # fewer images than classes
    for generator in generators:
        assert not conditional.PerClass(generators).averaged  # only if all of them are
        generator.averaged = True
    assert conditional.PerClass(generators).averaged


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: dcgan_generator(7), "image_size=7.* 8 pixels"),
        (lambda: dcgan_discriminator(7), "image_size=7.* 8 pixels"),
        (lambda: dcgan_generator(28, base=28), "base=28.*fewer than 28"),
        (lambda: dcgan_discriminator(28, base=1), "base=1.*at least 2"),
        (lambda: dcgan_discriminator(norm="bach"), "'bach'.*batch, none, layer, instance, spectral"),
        (lambda: dcgan_discriminator(32, depth=0), "depth=0.*at least 1"),
        (lambda: dcgan_generator(8, 1, 4, 4, categories=1), "categories=1.*at least 2 and below z_dim=4"),
        (lambda: dcgan_generator(8, 1, 4, 4, categories=-1), "categories=-1"),
        (lambda: dcgan_generator(8, 1, 4, 4, categories=4), "categories=4.*below z_dim=4"),
        (lambda: linear_generator(28), "image_size=28.*multiple of 8"),
        (lambda: linear_discriminator(0), "image_size=0.*multiple of 8"),
        (lambda: linear_discriminator(32, 3, 7), "width=7.*even"),
        (lambda: linear_generator(32, 3, 0), "width=0.*even"),
        (lambda: conditional.PerClass([dcgan_generator(8, 1, 4, z_dim) for z_dim in (6, 5)]), r"one z_dim.*\[5, 6\]"),
        (lambda: conditional.PerClass([]), r"one z_dim.*\[\]"),
        (lambda: dcgan_generator(8, 1, 4, 9)(torch.randn(2, 8)), r"generator .*\[B, 9\].*\[2, 8\].*z_dim"),
        (lambda: dcgan_generator(8, 1, 4, 9)(torch.randn(9)), r"\[B, 9\].*\[9\]"),
        (lambda: dcgan_generator(8, 1, 4, 9)(torch.randn(2, 9, 1, 1)), r"\[B, 9\].*\[2, 9, 1, 1\]"),
        (lambda: dcgan_discriminator(9, 1, 4)(torch.zeros(2, 3, 9, 9)), r"discriminator .*\[B, 1, 9, 9\].*channels"),
        (lambda: dcgan_discriminator(9, 1, 4)(torch.zeros(2, 1, 8, 8)), r"\[B, 1, 9, 9\].*\[2, 1, 8, 8\]"),
    ],
)
def test_what_cannot_be_gets_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_describe_prints_shapes_and_counts_and_changes_nothing(capsys):
    generator = dcgan_generator(28, 1, 4, z_dim=16)
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    models.describe(generator, (16,))
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{'input':<36}{'16':>18}"
    assert printed[1] == f"{'ConvTranspose2d 3x3':<36}{'16 x 3 x 3':>18}{'2,304':>14}"
    assert printed[3] == f"{'ReLU':<36}{'16 x 3 x 3':>18}{'':>14}"
    assert printed[4] == f"{'ConvTranspose2d 4x4, stride 2':<36}{'8 x 7 x 7':>18}{'2,048':>14}"
    assert printed[-1] == f"{'parameters':<36}{'':>18}{models.count_parameters(generator):>14,}"
    models.describe(models.mlp_discriminator(4), (2,))
    assert capsys.readouterr().out.splitlines()[-2] == f"{'Flatten':<36}{'1':>18}{'':>14}"
    assert generator.training and all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())
    with pytest.raises(ValueError):
        models.outputs(generator, (3,))
    assert not any(m._forward_hooks for m in generator.modules())  # removed after an error, too
