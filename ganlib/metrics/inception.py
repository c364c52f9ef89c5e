"""The Inception network of the FID, as torch-fidelity has it, from weights that cannot run code."""

from __future__ import annotations

import io
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from ganlib._runtime import device as runtime
from ganlib.data.download import fetch, looks_like_html
from ganlib.metrics.distances import fidelity

CHUNK = 20  # images that are enlarged to 299×299 at a time


class Inception(nn.Module):
    """Inception-v3 of December 2015 with TensorFlow's weights, the one that every published FID means.

    Szegedy et al. 2015, arXiv:1512.00567; Heusel et al. 2017, arXiv:1706.08500. Its numbers depend on the enlarging,
    too: bilinear, as in TensorFlow 1.

    Attributes:
        name: ``inception``, which makes a Fréchet distance an FID.
        resizer: what it enlarges with.
    """

    name, resizer = "inception", "tf1-bilinear-299"

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of images of any size.

        Args:
            pixels: uint8 ``[N, 3, H, W]`` on any device.

        Returns:
            features: float32 ``[N, 2048]``, the last pooling layer; logits: float32 ``[N, 1008]``, without the bias,
            as in the first Inception score.

        Raises:
            ValueError: if ``pixels`` has another dtype or is not in colour.
        """
        if pixels.dtype != torch.uint8:
            raise ValueError(f"Inception takes uint8, not {pixels.dtype}; convert with ganlib.data.to_uint8.")
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ValueError(
                f"Inception judges colour images [N, 3, H, W], but these are {list(pixels.shape)}; load or make them "
                "with channels=3."
            )
        where = next(self.net.parameters()).device
        features, logits = zip(*(self.net(some.to(where)) for some in pixels.split(CHUNK)), strict=True)
        return torch.cat(features), torch.cat(logits)


def inception_net(weights: str | os.PathLike | None = None) -> Inception:
    """Inception on the CPU, frozen and in eval mode; about 10 images a second and core.

    Args:
        weights: a copy of torch-fidelity's weights. None looks for the file in the data roots (the environment
            variable ``GANLIB_DATA``, the checkout's ``data/``, ``~/.cache/ganlib``) and where torch-fidelity keeps
            it, and downloads it there (95 MB).

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if it cannot be downloaded.
        ValueError: if it is no such weights: a web page, damaged, of another network, or a pickle that runs code.
        ImportError: if torch-fidelity is not installed.
    """
    module = fidelity("feature_extractor_inceptionv3")
    url = module.URL_INCEPTION_V3
    path = Path(weights) if weights is not None else _find_or_download(url)
    if not path.is_file():
        raise FileNotFoundError(f"There are no Inception weights at '{path}'. {_by_hand(url)}")
    state = _load(path, url)
    # torch-fidelity itself would unpickle anything, so it gets what has been read safely, as bytes.
    checked = io.BytesIO()
    torch.save(state, checked)
    checked.seek(0)
    layers = ["2048", "logits_unbiased"]
    try:
        net = module.FeatureExtractorInceptionV3("inception", layers, feature_extractor_weights_path=checked)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"'{path}' holds the weights of another network. {_by_hand(url)}") from error
    return Inception(net).eval()


def _find_or_download(url: str) -> Path:
    name = url.rpartition("/")[2]
    kept = Path(torch.hub.get_dir()) / "checkpoints" / name
    places = [*(root / name for root in runtime.data_roots()), kept]
    if found := next((path for path in places if path.is_file()), None):
        return found
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        fetch(url, kept, None)
    except OSError as error:
        why = str(error).partition(" Try again")[0]
        raise OSError(f"Inception's weights are not here, and {why} {_by_hand(url)}") from error
    return kept


def _load(path: Path, url: str) -> dict:
    with path.open("rb") as file:
        if looks_like_html(file.read(512)):
            raise ValueError(f"'{path}' is a web page, not weights. {_by_hand(url)}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a damaged archive leads it to
        why = "it is damaged, or a pickle that would run code when opened, so it stays shut"
        raise ValueError(f"'{path}' cannot be read as weights alone: {why}. {_by_hand(url)}") from error
    if not isinstance(state, dict):
        raise ValueError(f"'{path}' holds no weights. {_by_hand(url)}")
    return state


def _by_hand(url: str) -> str:
    name, root = url.rpartition("/")[2], runtime.data_roots()[0]
    return f"Download {url} and put it into '{root}', or give its path: inception_net('path/to/{name}')."
