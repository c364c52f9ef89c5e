"""The networks: DCGAN for any image size, how their weights start, and a look inside a network."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ganlib._runtime.device import eval_mode, rng

LEAK = 0.2  # slope of LeakyReLU below zero, Radford et al. 2015, section 4

# Every (Leaky)ReLU here works in place: the numbers are the same, in half the memory. That is safe where nothing else
# looks at what went in, as after a convolution or a normalisation.

SMALLEST_IMAGE = 8  # pixels: one halving to a map of 4
CHOSEN = 3.0  # what stands at the chosen place of a CategoricalCode; 2, 4 and 6 did worse (benchmarks/README.md)


class Generator(nn.Sequential):
    """Layers that turn latent vectors [B, z_dim] into images [B, C, H, W] in [-1, 1]."""

    def __init__(self, layers: list[nn.Module], z_dim: int, config: dict):
        super().__init__(*layers)
        self.z_dim = z_dim
        self.config = config

    def forward(self, z: Tensor) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] from latent vectors ``z`` [B, z_dim].

        Raises:
            ValueError: if ``z`` has another shape.
        """
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(
                f"z has shape {list(z.shape)}, but this generator takes [B, {self.z_dim}] (its z_dim is {self.z_dim})."
            )
        return super().forward(z[:, :, None, None])


class CategoricalCode(nn.Module):
    """Makes the last ``k`` numbers of z a choice of one among ``k``: :data:`CHOSEN` where the largest was, 0 elsewhere.

    A generator is continuous: where all of z is, too, every way from a 3 to a 7 leads over something that is neither,
    and some z lie there. Between two choices lies nothing. As all z_i ~ N(0, 1) alike, each is as likely as another.

    Args:
        k: choices.

    Source: the categorical code of Chen et al. 2016 (InfoGAN), arXiv:1606.03657, section 7.2, here without a loss of
    its own; why a connected z does not do is in Khayatkhoei et al. 2018, arXiv:1806.00880.
    """

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def forward(self, z: Tensor) -> Tensor:
        """[B, z_dim, ...] from ``z`` of that shape; the gradient at the choice is that of a softmax of its numbers, so
        that z can be searched for (the straight-through estimator, Bengio et al. 2013, arXiv:1308.3432)."""
        numbers, rivals = z.split([z.shape[1] - self.k, self.k], 1)
        code = torch.zeros_like(rivals).scatter_(1, rivals.argmax(1, keepdim=True), CHOSEN)
        if rivals.requires_grad:
            soft = CHOSEN * rivals.softmax(1)
            code = code + soft - soft.detach()
        return torch.cat([numbers, code], 1)

    def extra_repr(self) -> str:
        """Its size, in print."""
        return str(self.k)


class Discriminator(nn.Sequential):
    """Layers that turn images [B, C, H, W] in [-1, 1] into one logit each: [B], no sigmoid."""

    def __init__(self, layers: list[nn.Module], image_size: int, channels: int, config: dict):
        super().__init__(*layers)
        self.expects = [channels, image_size, image_size]
        self.config = config

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B] of ``images`` [B, C, H, W] in [-1, 1].

        Raises:
            ValueError: if the images have another shape than the network was built for.
        """
        if list(images.shape[1:]) != self.expects:
            cure = f" Load them with channels={self.expects[0]}." if list(images.shape[2:]) == self.expects[1:] else ""
            raise ValueError(
                f"Images have shape {list(images.shape)}, but this discriminator takes [B, {str(self.expects)[1:]}."
                + cure
            )
        return super().forward(images).flatten()


def dcgan_generator(
    image_size: int = 64,
    channels: int = 3,
    width: int = 64,
    z_dim: int = 100,
    *,
    base: int = 4,
    categories: int = 0,
    seed: int = 0,
) -> Generator:
    """The DCGAN generator: z projected to a small map, then doubled in size by strided transposed convolutions.

    Kernel 4 at stride 2: a kernel divisible by its stride covers every output pixel equally often, so no checkerboard
    (Odena et al. 2016, doi:10.23915/distill.00003). ReLU and BatchNorm everywhere but on the output, which is a tanh.

    Args:
        image_size: side of the square images, pixels, 8 or more.
        channels: colour channels of the images.
        width: channels of the last hidden map; each map before it has twice as many, up to 8 x width.
        z_dim: size of the latent vector.
        base: side that the smallest map has at most, pixels: 28 goes 28-14-7-3 with 4, and 28-14-7 with 7.
        categories: how many of z's numbers, the last ones, are a :class:`CategoricalCode`; 0 for none.
        seed: of the initial weights.

    Returns:
        network [B, z_dim] -> [B, channels, image_size, image_size] in [-1, 1].

    Raises:
        ValueError: if no such network has that image size, or z no room for so many ``categories``.

    Source: Radford et al. 2015, arXiv:1511.06434, section 3 and figure 1 (which is width 128 at 64 pixels).
    """
    config = dict(kind="dcgan", image_size=image_size, channels=channels, width=width, z_dim=z_dim, base=base)
    config |= dict(seed=seed) | (dict(categories=categories) if categories else {})  # as files had it before there were
    if categories and not 2 <= categories < z_dim:
        raise ValueError(f"categories={categories}, but must be 0, or at least 2 and below z_dim={z_dim}.")
    sides = _sides(image_size, base)[::-1]  # for example 4, 8, 16, 32, 64
    maps = [width * min(2**k, 8) for k in reversed(range(len(sides) - 1))]
    # A convolution before BatchNorm needs no bias: BatchNorm subtracts it again and has one of its own.
    layers: list[nn.Module] = [CategoricalCode(categories)] if categories else []
    layers += [nn.ConvTranspose2d(z_dim, maps[0], sides[0], bias=False), nn.BatchNorm2d(maps[0]), nn.ReLU(inplace=True)]
    for side, before, after in zip(sides[1:], maps, [*maps[1:], channels], strict=True):
        last, odd = side == image_size, side % 2
        layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, output_padding=odd, bias=last)]
        layers += [nn.Tanh()] if last else [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return initialise(Generator(layers, z_dim, config), seed)


def dcgan_discriminator(
    image_size: int = 64,
    channels: int = 3,
    width: int = 64,
    *,
    base: int = 4,
    norm: str = "batch",
    depth: int = 1,
    seed: int = 0,
) -> Discriminator:
    """The DCGAN discriminator: strided convolutions down to a small map, then one logit.

    LeakyReLU throughout and BatchNorm everywhere but on the input layer and the output. With another ``norm`` no image
    of a batch sees another, as a Wasserstein critic and every penalty on gradients need it.

    Args:
        image_size: side of the square images, pixels, 8 or more.
        channels: colour channels of the images.
        width: channels of the first hidden map; each map after it has twice as many, up to 8 x width.
        base: side that the smallest map has at most, pixels, as in :func:`dcgan_generator`.
        norm: ``"batch"``; ``"none"``; ``"layer"`` (over the whole map of each image, with a scale and a shift for
            each channel); ``"instance"`` (over each channel of each image); or ``"spectral"``, which divides every
            layer's weights by their largest singular value (Miyato et al. 2018, arXiv:1802.05957).
        depth: convolutions from one size to the next, but for the first halving: those before the last are 3x3 and
            leave the size as it is.
        seed: of the initial weights.

    Returns:
        network [B, channels, image_size, image_size] -> logits [B].

    Raises:
        ValueError: if no such network has that image size, there is no such ``norm``, or ``depth`` is below 1.

    Source: Radford et al. 2015, arXiv:1511.06434, section 3.
    """
    if norm not in NORMS:
        raise ValueError(f"norm is '{norm}', but must be one of: {', '.join(NORMS)}.")
    if depth < 1:
        raise ValueError(f"depth={depth}, but a discriminator has at least 1 convolution from one size to the next.")
    config = dict(kind="dcgan", image_size=image_size, channels=channels, width=width, base=base, norm=norm, seed=seed)
    config |= dict(depth=depth) if depth > 1 else {}  # as files had it before there was one
    sides = _sides(image_size, base)
    maps = [width * min(2**k, 8) for k in range(len(sides) - 1)]
    layers = [nn.Conv2d(channels, maps[0], 4, 2, 1), nn.LeakyReLU(LEAK, inplace=True)]
    for before, after in zip(maps, maps[1:], strict=False):
        for n, shape in [(before, (3, 1, 1))] * (depth - 1) + [(after, (4, 2, 1))]:
            normalised = NORMS[norm](n)
            layers += [nn.Conv2d(before, n, *shape, bias=not normalised), *normalised]
            layers += [nn.LeakyReLU(LEAK, inplace=True)]
    layers += [nn.Conv2d(maps[-1], 1, sides[-1])]
    discriminator = initialise(Discriminator(layers, image_size, channels, config), seed)
    return _spectral(discriminator, seed) if norm == "spectral" else discriminator


# name -> the layers that normalise n channels after a convolution of a discriminator
NORMS = {
    "batch": lambda n: [nn.BatchNorm2d(n)],
    "none": lambda n: [],
    "layer": lambda n: [nn.GroupNorm(1, n)],
    "instance": lambda n: [nn.InstanceNorm2d(n, affine=True)],
    "spectral": lambda n: [],
}


def _spectral(model: nn.Module, seed: int) -> nn.Module:
    """``model`` itself, each convolution and linear layer with spectral norm, whose first vectors come of ``seed``."""
    with torch.random.fork_rng(devices=[]):  # they are drawn from the global generator
        torch.manual_seed(seed)
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.utils.parametrizations.spectral_norm(layer)
    return model


def initialise(model: nn.Module, seed: int) -> nn.Module:
    """Draw the weights of ``model`` as DCGAN does, in place: N(0, 0.02) for convolutions and linear layers,
    N(1, 0.02) for the scale of BatchNorm and its kin (around 1, not 0: a scale near 0 switches the layer off), 0 for
    every bias.

    Returns:
        ``model`` itself.

    Source: Radford et al. 2015, arXiv:1511.06434, section 4; the BatchNorm scale from the authors' code.
    """
    draw = rng(seed)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02, generator=draw)
        elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm | nn.InstanceNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02, generator=draw)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return model


def count_parameters(model: nn.Module) -> int:
    """The number of trainable and frozen parameters of ``model``; buffers such as running means not counted."""
    return sum(p.numel() for p in model.parameters())


def load_strict(network: nn.Module, weights: Mapping[str, Tensor], where: object) -> None:
    """Load ``weights`` into ``network``, or change nothing.

    Raises:
        ValueError: if names or shapes differ; it names the first tensor that does and ``where`` the weights are from.
    """
    here, there = (
        {name: list(value.shape) for name, value in some.items()} for some in (network.state_dict(), weights)
    )
    if here != there:
        culprit = next(name for name in [*here, *there] if here.get(name) != there.get(name))
        raise ValueError(
            f"The weights in '{where}' do not fit: '{culprit}' has shape {there.get(culprit, 'nothing')} there and "
            f"{here.get(culprit, 'nothing')} in the network; build it with the architecture, widths, z_dim and image "
            "size that they were made with."
        )
    network.load_state_dict(weights)


def outputs(model: nn.Module, input_shape: tuple[int, ...]) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """The layers of ``model`` in the order in which they run, each with the shape of what it gives for one example.

    The model runs once, in eval mode, on zeros: nothing of it changes.

    Args:
        model: any network.
        input_shape: shape of one example, without the batch.
    """
    found: list[tuple[nn.Module, tuple[int, ...]]] = []
    leaves = [layer for layer in model.modules() if not list(layer.children())]
    hooks = [
        layer.register_forward_hook(lambda layer, _, output: found.append((layer, tuple(output.shape[1:]))))
        for layer in leaves
    ]
    try:
        with eval_mode(model):
            model(torch.zeros(1, *input_shape, device=next(model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def describe(model: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Print the output shape and the parameter count of each layer of ``model``.

    Args:
        model: any network.
        input_shape: shape of one example, without the batch: ``(100,)`` for a generator, ``(3, 64, 64)`` for a
            discriminator.
    """
    rows = [
        (_title(layer), " x ".join(map(str, shape)) or "1", count_parameters(layer))
        for layer, shape in outputs(model, input_shape)
    ]
    print(f"{'input':<36}{' x '.join(map(str, input_shape)):>18}")
    for title, shape, n in rows:
        print(f"{title:<36}{shape:>18}{n or '':>14{',' if n else ''}}")
    print(f"{'parameters':<36}{'':>18}{count_parameters(model):>14,}")


def _title(layer: nn.Module) -> str:
    """A layer's name as a reader wants it: ``ConvTranspose2d 4x4, stride 2``."""
    name = type(layer).__name__
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return name
    (height, width), (stride, _) = layer.kernel_size, layer.stride
    return f"{name} {height}x{width}" + (f", stride {stride}" if stride > 1 else "")


def _sides(image_size: int, base: int) -> list[int]:
    """Sides of the maps from the image down: halved, rounding down, until one is at most ``base``."""
    if image_size < SMALLEST_IMAGE:
        raise ValueError(
            f"No DCGAN has image_size={image_size}; every size from {SMALLEST_IMAGE} pixels up can be built."
        )
    if not 2 <= base < image_size:
        raise ValueError(f"base={base}, but the smallest map must have at least 2 pixels and fewer than {image_size}.")
    sides = [image_size]
    while sides[-1] > base:
        sides.append(sides[-1] // 2)
    return sides


def linear_generator(
    image_size: int = 32, channels: int = 3, width: int = 64, z_dim: int = 100, *, seed: int = 0
) -> Generator:
    """A generator that begins with a linear projection and ends with an ordinary convolution.

    z_dim -> Linear -> 4w maps at an eighth of the size, three transposed convolutions that double it (2w, w, w/2
    maps), one 3x3 convolution to the image. The ends of SNGAN's plain network.

    Args:
        image_size: side of the square images, pixels, a multiple of 8.
        channels: colour channels of the images.
        width: channels of the map at half the image's size; even.
        z_dim: size of the latent vector.
        seed: of the initial weights.

    Returns:
        network [B, z_dim] -> [B, channels, image_size, image_size] in [-1, 1].

    Raises:
        ValueError: if ``image_size`` is no multiple of 8 or ``width`` is odd.

    Source: after Miyato et al. 2018, arXiv:1802.05957, table 3; narrower there than here by the first map's 512.
    """
    side = _eighth(image_size, width)
    config = dict(kind="linear", image_size=image_size, channels=channels, width=width, z_dim=z_dim, seed=seed)
    maps = (4 * width, 2 * width, width, width // 2)
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(z_dim, maps[0] * side * side, bias=False)]
    layers += [nn.Unflatten(1, (maps[0], side, side)), nn.BatchNorm2d(maps[0]), nn.ReLU(inplace=True)]
    for before, after in zip(maps, maps[1:], strict=False):
        layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    layers += [nn.Conv2d(maps[-1], channels, 3, 1, 1), nn.Tanh()]
    return initialise(Generator(layers, z_dim, config), seed)


def linear_discriminator(image_size: int = 32, channels: int = 3, width: int = 64, *, seed: int = 0) -> Discriminator:
    """The mirror image of :func:`linear_generator`: a 3x3 convolution, three strided ones, a linear layer to one logit.

    Args:
        image_size: side of the square images, pixels, a multiple of 8.
        channels: colour channels of the images.
        width: channels of the map at half the image's size; even.
        seed: of the initial weights.

    Returns:
        network [B, channels, image_size, image_size] -> logits [B].

    Raises:
        ValueError: if ``image_size`` is no multiple of 8 or ``width`` is odd.
    """
    side = _eighth(image_size, width)
    config = dict(kind="linear", image_size=image_size, channels=channels, width=width, seed=seed)
    maps = (width // 2, width, 2 * width, 4 * width)
    layers: list[nn.Module] = [nn.Conv2d(channels, maps[0], 3, 1, 1), nn.LeakyReLU(LEAK, inplace=True)]
    for before, after in zip(maps, maps[1:], strict=False):
        layers += [
            nn.Conv2d(before, after, 4, 2, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(LEAK, inplace=True),
        ]
    layers += [nn.Flatten(), nn.Linear(maps[-1] * side * side, 1)]
    return initialise(Discriminator(layers, image_size, channels, config), seed)


def _eighth(image_size: int, width: int) -> int:
    if image_size < 8 or image_size % 8:
        raise ValueError(f"image_size={image_size}, but the linear networks halve it three times: use a multiple of 8.")
    if width < 2 or width % 2:
        raise ValueError(f"width={width}, but the linear networks need an even one: their outermost maps have half.")
    return image_size // 8


class PerClass(nn.Module):
    """Generators of one class each, taken for one generator: image i of a batch is of class i modulo their number.

    Attributes:
        generators: one a class, in the order of the labels.
        z_dim: size of the latent vector.
        averaged: True if every generator is a running average.
    """

    def __init__(self, generators: Sequence[Generator]):
        """Take several generators for one.

        Raises:
            ValueError: if there are none, or they differ in ``z_dim``.
        """
        super().__init__()
        sizes = {generator.z_dim for generator in generators}
        if len(sizes) != 1:
            raise ValueError(
                f"PerClass needs generators of one z_dim, one for each class, but was given {sorted(sizes)}."
            )
        self.generators = nn.ModuleList(generators)
        (self.z_dim,) = sizes
        self.averaged = all(getattr(generator, "averaged", False) for generator in generators)

    def forward(self, z: Tensor) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] of latent vectors ``z`` [B, z_dim]; the classes take turns."""
        k = len(self.generators)
        parts = {c: generator(z[c::k]) for c, generator in enumerate(self.generators) if c < len(z)}
        images = torch.empty(len(z), *parts[0].shape[1:], dtype=parts[0].dtype, device=z.device)
        for c, part in parts.items():
            images[c::k] = part
        return images


def pooled_generator(z_dim: int = 100, seed: int = 0) -> Generator:
    """The generator that many MNIST tutorials pair with a max-pooling discriminator; 1,929,921 parameters.

    z_dim -> 256@7 -> 128@14 -> 64@28 -> 32@28 -> 1@28, kernels 7, 4, 4, 3, 3, a bias in every layer.

    Args:
        z_dim: size of the latent vector.
        seed: of the initial weights.

    Returns:
        network [B, z_dim] -> [B, 1, 28, 28] in [-1, 1].
    """
    layers: list[nn.Module] = []
    for before, after, kernel, stride, pad in (
        (z_dim, 256, 7, 1, 0),
        (256, 128, 4, 2, 1),
        (128, 64, 4, 2, 1),
        (64, 32, 3, 1, 1),
    ):
        layers += [nn.ConvTranspose2d(before, after, kernel, stride, pad), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    layers += [nn.ConvTranspose2d(32, 1, 3, 1, 1), nn.Tanh()]
    return initialise(Generator(layers, z_dim, dict(kind="pooled", z_dim=z_dim, seed=seed)), seed)


def pooled_discriminator(seed: int = 0) -> Discriminator:
    """A classifier's layout used as a discriminator: max-pooling, dropout and two linear layers; 9,942,401 parameters.

    Four 3x3 convolutions 64-128-256-512 with BatchNorm and LeakyReLU, max-pooling and dropout 0.3 between them
    (28 -> 14 -> 7 -> 4), then Linear 8192 -> 1024 -> 1: 84% of the parameters sit in the first linear layer.

    Args:
        seed: of the initial weights.

    Returns:
        network [B, 1, 28, 28] -> logits [B].
    """
    layers: list[nn.Module] = []
    maps = (1, 64, 128, 256, 512)
    for before, after in zip(maps, maps[1:], strict=False):
        if before > 1:
            layers += [nn.MaxPool2d(2, ceil_mode=True), nn.Dropout(0.3)]
        layers += [nn.Conv2d(before, after, 3, 1, 1), nn.BatchNorm2d(after), nn.LeakyReLU(LEAK, inplace=True)]
    layers += [nn.Flatten(), nn.Linear(8192, 1024), nn.LeakyReLU(LEAK, inplace=True), nn.Linear(1024, 1)]
    return initialise(Discriminator(layers, 28, 1, dict(kind="pooled", seed=seed)), seed)


def mlp_generator(z_dim: int = 2, width: int = 64, seed: int = 0, *, depth: int = 2) -> nn.Sequential:
    """A network from latent vectors [B, z_dim] to points [B, 2], with ``depth`` hidden layers of ``width`` ReLUs."""
    sizes = [z_dim, *[width] * depth]
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return he_normal(nn.Sequential(*layers, nn.Linear(width, 2)), seed)


def mlp_discriminator(width: int = 64, seed: int = 0, *, depth: int = 2) -> nn.Sequential:
    """A network from points [B, 2] to one logit each, [B], with ``depth`` hidden layers of ``width`` LeakyReLUs."""
    sizes = [2, *[width] * depth]
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
    return he_normal(nn.Sequential(*layers, nn.Linear(width, 1), nn.Flatten(0)), seed)


def he_normal(model: nn.Module, seed: int) -> nn.Module:
    """Draw the weights of the linear layers N(0, 2 / inputs), in place, so that signals keep their size; biases are 0.

    Returns:
        ``model`` itself.

    Source: He et al. 2015, arXiv:1502.01852, eq. (10).
    """
    draw = rng(seed)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, (2 / layer.in_features) ** 0.5, generator=draw)
            nn.init.zeros_(layer.bias)
    return model


# kind, as a network's config names it -> (generator, discriminator)
BUILDERS = {
    "dcgan": (dcgan_generator, dcgan_discriminator),
    "linear": (linear_generator, linear_discriminator),
    "pooled": (pooled_generator, pooled_discriminator),
}
