"""How a score was taken: what every result carries, prints and puts into its name."""

from __future__ import annotations

from torch import Tensor

from ganlib.data.images import ImageSet
from ganlib.metrics.features import FeatureNet, Images, is_given, name_of


def protocol(
    fakes: Images, real: Tensor | ImageSet, net: FeatureNet, n_fake: int, mode: str, resizer: str, seed: int
) -> dict:
    """What a number depends on, ready for JSON.

    Args:
        fakes: a generator, or images of any shape; its attribute ``averaged`` says whether it is a running average.
        real: all the reals, of any shape; an ImageSet may know its ``split``.
        net: the feature net.
        n_fake: how many fakes are judged.
        mode, resizer, seed: as in :func:`ganlib.metrics.score`.

    Returns:
        ``features``, ``n_fake``, ``n_images`` (reals to choose from), ``split`` (``"given"`` for a bare tensor),
        ``resizer`` (the net's own, if it has one), ``mode`` and ``ema`` (both None for images), ``seed``.
    """
    given = is_given(fakes)
    return {
        "features": name_of(net),
        "n_fake": n_fake,
        "n_images": len(real),
        "split": split_of(real),
        "resizer": resizer if resizer != "none" else getattr(net, "resizer", "none"),
        "mode": None if given else mode,
        "ema": None if given else bool(getattr(fakes, "averaged", False)),
        "seed": seed,
    }


def split_of(images: Tensor | ImageSet) -> str:
    """The split of an ImageSet; ``given`` for a bare tensor of any shape (whose ``split`` is a method)."""
    return images.split if isinstance(images, ImageSet) else "given"


def how(protocol: dict) -> str:
    """The end of a printed line: where the fakes came from, the resizer and the seed."""
    parts = [
        "given images" if protocol["mode"] is None else f"{'EMA' if protocol['ema'] else 'no EMA'}, {protocol['mode']}"
    ]
    if protocol["resizer"] != "none":
        parts.append(protocol["resizer"])
    return " · ".join([*parts, f"seed {protocol['seed']}"])


def short(n: int) -> str:
    """A count in a name: ``10k`` for 10,000, ``1500`` for 1,500."""
    return f"{n // 1000}k" if n and n % 1000 == 0 else str(n)
