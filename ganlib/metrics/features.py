"""From images to features: samples and reals in batches, seen by a network."""

import contextlib
import copy
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganlib._runtime import device as runtime
from ganlib._runtime import durable
from ganlib._runtime.checks import check_whole
from ganlib._runtime.randomness import GIVEN_STREAM, rng, seeded
from ganlib.data.images import ImageSet, as_uint8
from ganlib.metrics.distances import Statistics, check_features, feature_statistics

# From uint8 images [B, C, H, W] to features [B, D], or to these and logits [B, K]. It may have a name, an image_shape
# (C, H, W), and a resizer of its own.
FeatureNet = Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]
Given = Tensor | ImageSet
Images = Callable | Given  # a generator stands for the images it draws

BATCH = 100  # the fastest on a CPU, as it fits into the caches
KEEP = 10_000  # features kept per set, and reals that a score compares with
FLOOR_SPLITS = 8  # with one split of the reals, the floor is off by up to half
_unwritten = {}  # features by key that could not be written to the cache folder


class Features(NamedTuple):
    """Features [N, D], logits [N, K] or None of 10,000 images, and statistics of all."""

    features: Tensor
    logits: Tensor | None
    statistics: Statistics


@torch.no_grad()
def extract_batch(net: FeatureNet, images: Tensor, resizer: str = "none") -> tuple[Tensor, Tensor | None]:
    """Features [B, D] and logits [B, K] or None of one batch, float32 on the CPU.

    ``resizer="bicubic"`` first resizes the images to the net's size, antialiased and rounded to uint8.
    """
    name, shape = getattr(net, "name", "custom"), getattr(net, "image_shape", None)
    if resizer not in ("none", "bicubic"):
        raise ValueError(f"resizer is '{resizer}', but must be one of: none, bicubic.")
    if resizer == "bicubic" and shape is None:
        raise ValueError(f"{name} does not say what size it takes; set its 'image_shape' to (C, H, W).")
    if resizer == "bicubic" and images.shape[2:] != shape[1:]:
        # Without antialiasing, shrunk pictures are speckled: Parmar et al. 2022, arXiv:2104.11222.
        images = interpolate(images.float(), shape[1:], mode="bicubic", antialias=True)
        images = images.round_().clamp_(0, 255).to(torch.uint8)
    found = net(images)
    features, logits = found if isinstance(found, tuple) else (found, None)
    features, logits = features.float().cpu(), None if logits is None else logits.float().cpu()
    check_features(features)
    if len(features) != len(images):
        raise ValueError(f"{name} gave {len(features)} rows of features for {len(images)} images.")
    return features, logits


def extract(net: FeatureNet, images: Tensor | Iterable[Tensor], resizer: str = "none") -> Features:
    """The features of uint8 images [N, C, H, W], or of batches, in constant memory."""
    features, logits, n, mean, scatter = [], [], 0, 0, 0
    for batch in images.split(BATCH) if isinstance(images, Tensor) else images:
        some, some_logits = extract_batch(net, batch, resizer)
        if n < KEEP:
            features.append(some[: KEEP - n])
            logits += [] if some_logits is None else [some_logits[: KEEP - n]]
        # Running sums around the current mean, which lose no digits: Chan, Golub & LeVeque 1983, eq. (2.1).
        x = some.double()
        middle, n = x.mean(0), n + len(x)
        x, off = x - middle, middle - mean
        scatter = scatter + x.T @ x + off[:, None] * off * ((n - len(x)) * len(x) / n)
        mean = mean + off * (len(x) / n)
    if n == 0:
        raise ValueError("There are no images to look at.")
    statistics = Statistics(mean, scatter / max(n - 1, 1), n)
    return Features(torch.cat(features), torch.cat(logits) if logits else None, statistics)


def fake_batches(fakes: Images, n: int, seed: int = 0, mode: str = "eval") -> Iterator[Tensor]:
    """``n`` fakes in batches, uint8 [B, C, H, W] on the CPU, B at most 100.

    ``fakes`` is a generator with a ``z_dim``, or images, of which ``n`` are taken at random. With ``mode="train"``
    BatchNorm takes its statistics from each batch: a mistake worth seeing. The generator stays unchanged.
    """
    if mode not in ("eval", "train"):
        raise ValueError(f"mode is '{mode}', but must be one of: eval, train.")
    if isinstance(fakes, Given):
        pixels = getattr(fakes, "pixels", fakes)
        order = torch.randperm(len(pixels), generator=rng(seed + GIVEN_STREAM))
        for rows in (order[:n] if n < len(order) else torch.arange(len(order))).split(BATCH):
            yield as_uint8(pixels[rows.to(pixels.device)])
        return
    if not isinstance(getattr(fakes, "z_dim", None), int):
        raise ValueError("The generator has no whole number 'z_dim', so no z can be drawn; set it.")
    g, where = rng(seed), torch.device("cpu")
    if isinstance(fakes, nn.Module):
        where = next((p.device for p in fakes.parameters()), where)
        if mode == "train":  # a copy, as this moves BatchNorm's running statistics
            fakes = copy.deepcopy(fakes).train()
    for start in range(0, n, BATCH):
        # Full batches: BatchNorm in train mode always sees a hundred, and the first m images do not depend on n.
        z = torch.randn(BATCH, fakes.z_dim, generator=g)
        how = runtime.eval_mode(fakes) if isinstance(fakes, nn.Module) and mode == "eval" else torch.no_grad()
        with seeded(seed + start, where), how:
            images = fakes(z.to(where))
        yield as_uint8(images[: n - start], drawn=True)


def generate(generator: Images, n: int, seed: int = 0, mode: str = "eval") -> Tensor:
    """``n`` images of a generator in one tensor: uint8 [n, C, H, W] on the CPU."""
    return torch.cat(list(fake_batches(generator, n, seed, mode)))


def seen(fakes: Images, real: Given, net: FeatureNet, n: int, seed: int, mode="eval", resizer="none"):
    """The Features of the fakes, and the Reference they are compared with."""
    check_whole(n=n)
    found, reals = extract(net, fake_batches(fakes, n, seed, mode), resizer), as_uint8(real)
    if (n := found.statistics.n) < 2 or len(reals) < 4:
        raise ValueError(f"A score needs 2 samples and 4 reals or more, not {n} and {len(reals)}.")
    return found, reference_for(net, reals, n, seed, resizer)


class Reference(NamedTuple):
    """The features of at most 10,000 reals and, if any, of others for the floor."""

    real: Features
    others: Sequence[Features]  # one or none
    key: str | None  # hash of the images and the net; None if the net cannot be hashed
    is_split: bool  # fewer others than fakes: the floor splits all reals
    n_floor: tuple[int, int]  # reals that the floor compares: instead of fakes, and as reals

    def pairs(self, seed: int) -> Iterator[Sequence[Features]]:
        """Pairs of sets of reals for the floor: one pair, or 8 random splits."""
        if not self.is_split:
            yield self.real, *self.others
            return
        m, g, sides = self.n_floor[0], rng(seed), (self.real, *self.others)
        features = torch.cat([side.features for side in sides])
        logits = None if self.real.logits is None else torch.cat([side.logits for side in sides])
        for _ in range(FLOOR_SPLITS):
            order = torch.randperm(len(features), generator=g)
            yield [
                Features(features[rows], logits if logits is None else logits[rows], feature_statistics(features[rows]))
                for rows in (order[m:], order[:m])
            ]


def reference_for(net: FeatureNet, reals: Tensor, n: int, seed: int = 0, resizer: str = "none") -> Reference:
    """The Reference for ``n`` fakes, drawn at random from uint8 reals [N, C, H, W]."""
    order = torch.randperm(len(reals), generator=rng(seed))
    is_split = len(order) < KEEP + n
    total = min(len(order), 2 * KEEP if is_split else KEEP + n)
    rows = [some for some in (order[:KEEP], order[KEEP:total]) if len(some)]
    (real, *others), keys = zip(*(cached_features(net, reals, some, resizer) for some in rows), strict=True)
    m = min(n, total // 2) if is_split else n
    return Reference(real, others, None if None in keys else "-".join(keys), is_split, (m, total - m))


def cached_features(net: FeatureNet, pixels: Tensor, rows: Tensor, resizer: str) -> tuple[Features, str | None]:
    """The features of some of the images, and their key in the cache folder.

    A damaged file is computed again; if the folder is not writable, the features stay in this process's memory.
    """

    def batches() -> Iterator[Tensor]:
        return (pixels[some] for some in rows.split(BATCH))

    if not isinstance(net, nn.Module):  # a function may change unnoticed
        return extract(net, batches(), resizer), None
    # By content, not by object: neither a copy nor a tensor written to in place can fool it. Nor can a net whose
    # code or settings changed while its weights did not: what it sees in the first images is a part of the key.
    glimpse = [tensor for tensor in extract_batch(net, pixels[rows[:2]], resizer) if tensor is not None]
    named = f"{getattr(net, 'name', 'custom')} {net} {resizer} {list(pixels.shape[1:])} {len(rows)}"
    seen = hashlib.sha256(named.encode())
    for tensor in itertools.chain(net.state_dict().values(), glimpse, batches()):
        seen.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    if (key := seen.hexdigest()) in _unwritten:
        return _unwritten[key], key
    path = runtime.cache_dir() / "scores" / key
    with contextlib.suppress(OSError):  # not cached
        content = path.read_bytes()
        if content[:32] == hashlib.sha256(content[32:]).digest():
            kept = load(content[32:])
            return Features(kept["x"], kept.get("logits"), Statistics(kept["mean"], kept["cov"], len(rows))), key
    x, logits, (mean, cov, _) = found = extract(net, batches(), resizer)
    content = save({"x": x, "mean": mean, "cov": cov} | ({} if logits is None else {"logits": logits}))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, hashlib.sha256(content).digest() + content)
    except OSError:  # disk full, or no permission to write
        _unwritten[key] = found
    return found, key
