"""The networks behind the scores: two small classifiers, and Inception."""

import functools
import io
import itertools
import json
import os
import pickle
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ganlib._runtime import device as runtime
from ganlib.models import load_strict

WEIGHTS = Path(__file__).parent / "weights"
N_FEATURES = 64
CONFIDENT = 0.9  # a net is sure of a picture if its likeliest class is more probable than this
ENLARGED = 20  # images enlarged to 299×299 at a time


class Classifier(nn.Module):
    """Convolutions, a layer of 64 features and ten logits, for images of one shape."""

    def __init__(self, name: str, image_shape: tuple[int, int, int], body: list[nn.Module]):
        super().__init__()
        self.name, self.image_shape = name, image_shape
        self.body = nn.Sequential(*body, nn.BatchNorm1d(N_FEATURES), nn.ReLU(inplace=True))
        self.head = nn.Linear(N_FEATURES, 10)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Features float32 [N, 64], ≥ 0, and logits [N, 10] of uint8 images [N, C, H, W].

        It is computed where the net is; what is returned is where the images are.
        """
        if pixels.dtype != torch.uint8 or tuple(pixels.shape[1:]) != self.image_shape:
            channels, size, _ = self.image_shape
            what = f"{'grey' if channels == 1 else 'colour'} {size}×{size} uint8, not {pixels.dtype}"
            how = f"load or make them with image_size={size} and channels={channels}"
            raise ValueError(f"The {self.name} judges images in {what} {list(pixels.shape)}; {how}.")
        # The net's own range, [0, 1]: black is 0, the same as the convolutions' padding.
        features = self.body(pixels.to(self.head.weight.device).float() / 255)
        return features.to(pixels.device), self.head(features).to(pixels.device)


def _block(n_in: int, n_out: int, pool: bool = True) -> list[nn.Module]:
    conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
    # Pooling before the ReLU gives the same result as after it, on a quarter of the pixels.
    return [conv, nn.BatchNorm2d(n_out), *([nn.MaxPool2d(2)] if pool else []), nn.ReLU(inplace=True)]


def new_digit_net() -> Classifier:
    """An untrained digit net: 61,050 parameters, about 2 million multiply-adds."""
    blocks = [*_block(1, 16), *_block(16, 32), *_block(32, 64)]  # [N, 64, 3, 3]
    body = [*blocks, nn.Flatten(), nn.Linear(64 * 3 * 3, N_FEATURES, bias=False)]
    return Classifier("digitnet", (1, 28, 28), body)


def new_cifar_net() -> Classifier:
    """An untrained CIFAR-10 net: seven convolutions, about 32 million multiply-adds."""
    sizes = itertools.pairwise((3, 16, 32, 32, 96, 96, 160, 160))
    blocks = [layer for k, size in enumerate(sizes) for layer in _block(*size, pool=k % 2 == 1)]  # [N, 160, 4, 4]
    body = [*blocks, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(160, N_FEATURES, bias=False)]
    return Classifier("cifarnet", (3, 32, 32), body)


@functools.cache
def digit_net() -> Classifier:
    """ganlib's digit net, frozen, in eval mode, on the best device: loaded once."""
    return load_weights(new_digit_net()).to(runtime.device())


@functools.cache
def cifar_net() -> Classifier:
    """ganlib's CIFAR-10 net, frozen, in eval mode, on the best device: loaded once."""
    return load_weights(new_cifar_net()).to(runtime.device())


class _InColour(nn.Module):
    """A colour net for other pictures: grey ones in three equal channels, transparent ones on white."""

    def __init__(self, net: Classifier, suffix: str):
        super().__init__()
        self.net, self.name, self.image_shape = net, f"{net.name}_{suffix}", net.image_shape

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        if pixels.shape[1] == 4:
            colour, opaque = pixels.float().split([3, 1], 1)
            pixels = (255 + (colour - 255) * opaque / 255).round().to(torch.uint8)
        return self.net(pixels.expand(-1, 3, -1, -1))


def cifar_net_for(channels: int) -> nn.Module:
    """The CIFAR-10 net for pictures with 1, 3 or 4 channels, named so: ``cifarnet_grey``, ``cifarnet_on_white``."""
    suffix = {1: "grey", 4: "on_white"}.get(channels)
    return _InColour(cifar_net(), suffix) if suffix else cifar_net()


def load_weights(net: Classifier, path: str | os.PathLike | None = None) -> Classifier:
    """Freeze ``net`` with the weights in a safetensors file. Default: ganlib's."""
    path = path or WEIGHTS / f"{net.name}.safetensors"
    load_strict(net, load_file(path), path)
    return net.to(memory_format=torch.channels_last).eval().requires_grad_(False)  # pooling is faster this way


def card(name: str) -> dict:
    """Facts about the weights of "digitnet" or "cifarnet": accuracy, counts, command."""
    return json.loads((WEIGHTS / f"{name}.json").read_text(encoding="utf-8"))


def share_sure(p: Tensor) -> float:
    """The share of rows of probabilities [N, K] with one above 0.9."""
    return (p.amax(1) > CONFIDENT).double().mean().item()


class Inception(nn.Module):
    """Inception-v3 with TensorFlow's 2015 weights and resizing, as in published FIDs.

    Szegedy et al. 2015, arXiv:1512.00567; Heusel et al. 2017, arXiv:1706.08500.
    """

    name, resizer = "inception", "tf1-bilinear-299"

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, 2048] and logits [N, 1008] (no bias) of uint8 images [N, 3, H, W]."""
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
            what = f"{pixels.dtype} {list(pixels.shape)}"
            raise ValueError(f"Inception judges uint8 [N, 3, H, W], not {what}; load or make them with channels=3.")
        where = next(self.net.parameters()).device
        features, logits = zip(*(self.net(some.to(where)) for some in pixels.split(ENLARGED)), strict=True)
        return torch.cat(features).to(pixels.device), torch.cat(logits).to(pixels.device)


def inception_net(weights: str | os.PathLike | None = None) -> Inception:
    """Inception on the best device, in eval mode; on a CPU 10 images a second per core.

    ``weights`` is a copy of torch-fidelity's; None looks for it in the data roots and in torch.hub's folder, and
    downloads it there (95 MB), checked against the hash in its name. No pickle in it is run.
    """
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    url, roots, checked = fidelity.URL_INCEPTION_V3, runtime.data_roots(), io.BytesIO()
    name, hub = url.rpartition("/")[2], Path(torch.hub.get_dir()) / "checkpoints"
    path = Path(weights or next((root / name for root in roots if (root / name).is_file()), hub / name))
    try:
        if weights is None:
            how = {"map_location": "cpu", "progress": False, "check_hash": True, "weights_only": True}
            state = torch.hub.load_state_dict_from_url(url, str(path.parent), **how)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        # torch-fidelity would unpickle anything, so it gets the safely read weights, as bytes.
        torch.save(state, checked)
        checked.seek(0)
        layers = ["2048", "logits_unbiased"]
        net = fidelity.FeatureExtractorInceptionV3("inception", layers, feature_extractor_weights_path=checked)
    except Exception as error:  # torch raises almost anything for a damaged or unrelated file
        why = str(error).partition("\n")[0].rstrip(":.")
        if isinstance(error, pickle.UnpicklingError):
            why = "it is damaged, or a pickle that would run code"
        cure = f"Download {url} and put it into '{roots[0]}', or give its path: inception_net('path/to/{name}')"
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"'{path}' cannot be used as Inception's weights: {why}. {cure}.") from error
    return Inception(net).eval().to(runtime.device())
