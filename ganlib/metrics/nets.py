"""The networks that see for the scores: two small classifiers that come with ganlib, and Inception."""

import functools
import hashlib
import io
import json
import logging
import os
import pickle
import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ganlib._runtime import device as runtime
from ganlib.models import load_strict

WEIGHTS = Path(__file__).parent / "weights"
N_FEATURES = 64
CONFIDENT = 0.9  # a net is sure of a picture whose likeliest class has a probability above this
ENLARGED = 20  # images that are enlarged to 299×299 at a time

log = logging.getLogger("ganlib")


class Classifier(nn.Module):
    """Convolutions, a layer of 64 features, a linear layer to ten logits, for images of one shape (C, H, W)."""

    def __init__(self, name: str, judges: str, image_shape: tuple[int, int, int], body: list[nn.Module]):
        super().__init__()
        self.name, self.judges, self.image_shape = name, judges, image_shape
        self.body = nn.Sequential(*body, nn.BatchNorm1d(N_FEATURES), nn.ReLU(inplace=True))
        self.head = nn.Linear(N_FEATURES, 10)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Features float32 [N, 64], ≥ 0, and logits [N, 10] of uint8 images [N, C, H, W] on any device."""
        channels, size, _ = self.image_shape
        if pixels.dtype != torch.uint8 or tuple(pixels.shape[1:]) != self.image_shape:
            raise ValueError(
                f"The {self.name} judges {self.judges}, uint8 [N, {channels}, {size}, {size}], not {pixels.dtype} "
                f"{list(pixels.shape)}; load or make them with image_size={size} and channels={channels}."
            )
        # The net's own range, [0, 1]: black is 0, the same as the convolutions' padding.
        features = self.body(pixels.to(self.head.weight.device).float() / 255)
        return features, self.head(features)


def _block(n_in: int, n_out: int, pool: bool = True) -> list[nn.Module]:
    conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
    # Pooling before the ReLU gives the same result as after it, on a quarter of the pixels.
    return [conv, nn.BatchNorm2d(n_out), *([nn.MaxPool2d(2)] if pool else []), nn.ReLU(inplace=True)]


def new_digit_net() -> Classifier:
    """An untrained digit net: 61,050 parameters, about 2 million multiply-adds an image (pooling comes early)."""
    blocks = [*_block(1, 16), *_block(16, 32), *_block(32, 64)]  # [N, 64, 3, 3]
    body = [*blocks, nn.Flatten(), nn.Linear(64 * 3 * 3, N_FEATURES, bias=False)]
    return Classifier("digitnet", "grey 28×28 digits", (1, 28, 28), body)


def new_cifar_net() -> Classifier:
    """An untrained CIFAR-10 net: seven 3×3 convolutions, about 32 million multiply-adds an image."""
    blocks = [
        *(*_block(3, 16, pool=False), *_block(16, 32)),  # [N, 32, 16, 16]
        *(*_block(32, 32, pool=False), *_block(32, 96)),  # [N, 96, 8, 8]
        *(*_block(96, 96, pool=False), *_block(96, 160)),  # [N, 160, 4, 4]
        *_block(160, 160, pool=False),
    ]
    body = [*blocks, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(160, N_FEATURES, bias=False)]
    return Classifier("cifarnet", "colour 32×32 pictures", (3, 32, 32), body)


@functools.cache
def digit_net() -> Classifier:
    """The digit net that comes with ganlib, frozen and in eval mode, on the CPU: loaded once, then shared."""
    return load_weights(new_digit_net())


@functools.cache
def cifar_net() -> Classifier:
    """The CIFAR-10 net that comes with ganlib, frozen and in eval mode, on the CPU: loaded once, then shared."""
    return load_weights(new_cifar_net())


def load_weights(net: Classifier, path: str | os.PathLike | None = None) -> Classifier:
    """``net`` itself, frozen, with the weights in a safetensors file; None: those that come with ganlib."""
    path = Path(path or WEIGHTS / f"{net.name}.safetensors")
    load_strict(net, load_file(path), path)
    return net.to(memory_format=torch.channels_last).eval().requires_grad_(False)  # pooling is faster so


def card(name: str) -> dict:
    """What is known of the weights of "digitnet" or "cifarnet": accuracy, counts, the command that made them."""
    return json.loads((WEIGHTS / f"{name}.json").read_text(encoding="utf-8"))


def share_sure(p: Tensor) -> float:
    """The share of rows of probabilities [N, K] with one above 0.9."""
    return (p.amax(1) > CONFIDENT).double().mean().item()


class Inception(nn.Module):
    """Inception-v3 with TensorFlow's weights of 2015 and its bilinear enlarging: what every published FID means.

    Szegedy et al. 2015, arXiv:1512.00567; Heusel et al. 2017, arXiv:1706.08500.
    """

    name, resizer = "inception", "tf1-bilinear-299"

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Features float32 [N, 2048] and logits [N, 1008], without the bias, of uint8 images [N, 3, H, W]."""
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
            what = f"{pixels.dtype} {list(pixels.shape)}"
            raise ValueError(f"Inception judges uint8 [N, 3, H, W], not {what}; load or make them with channels=3.")
        where = next(self.net.parameters()).device
        features, logits = zip(*(self.net(some.to(where)) for some in pixels.split(ENLARGED)), strict=True)
        return torch.cat(features), torch.cat(logits)


def inception_net(weights: str | os.PathLike | None = None) -> Inception:
    """Inception on the CPU, frozen and in eval mode; about 10 images a second and core.

    ``weights`` is a copy of torch-fidelity's; None looks for it in the data roots and in torch.hub's folder, and
    downloads it there (95 MB). It is opened only if its sha256 begins as its name says, and no pickle in it is run.
    """
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    url, roots = fidelity.URL_INCEPTION_V3, runtime.data_roots()
    name = url.rpartition("/")[2]
    kept = Path(torch.hub.get_dir()) / "checkpoints" / name
    path = Path(weights) if weights else next((r / name for r in roots if (r / name).is_file()), kept)
    promised, checked = re.search(r"-([0-9a-f]{8,})\.", path.name), io.BytesIO()
    sha256 = promised[1] if promised else ""
    try:
        if weights is None and not path.is_file():
            log.info(f"Downloading Inception's weights (95 MB) from {url}.")
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), sha256, progress=False)
        content = path.read_bytes()
        if not hashlib.sha256(content).hexdigest().startswith(sha256):
            raise ValueError("its sha256 is not the one in its name")
        # torch-fidelity itself would unpickle anything, so it gets what has been read safely, as bytes.
        torch.save(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True), checked)
        checked.seek(0)
        layers = ["2048", "logits_unbiased"]
        net = fidelity.FeatureExtractorInceptionV3("inception", layers, feature_extractor_weights_path=checked)
    except Exception as error:  # torch raises whatever a damaged or foreign file leads it to
        pickled, kind = isinstance(error, pickle.UnpicklingError), OSError if isinstance(error, OSError) else ValueError
        why = (
            "it is damaged, or a pickle that would run code" if pickled else str(error).partition("\n")[0].rstrip(":.")
        )
        raise kind(
            f"'{path}' cannot be used as Inception's weights: {why}. Download {url} and put it into '{roots[0]}', or "
            f"give its path: inception_net('path/to/{name}')."
        ) from error
    return Inception(net).eval()
