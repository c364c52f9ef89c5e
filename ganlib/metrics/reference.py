"""The reals of a score: what a net sees in them, kept in a cache, and how reals score against reals."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ganlib._runtime import device as runtime
from ganlib._runtime import durable
from ganlib._runtime.randomness import rng
from ganlib.metrics import distances
from ganlib.metrics.distances import SUBSETS, Statistics, feature_statistics
from ganlib.metrics.features import BATCH, KEEP, FeatureNet, Features, extract, extract_batch

FLOOR_SPLITS = 8  # one split of the reals gives a floor that is off by up to half
METRICS = ("fd", "kid", "is", "precision", "recall", "density", "coverage")
GROUPS = {  # what is computed together: of the reals' features, the fakes', how many subsets, and a seed
    ("fd",): lambda real, fake, *_: [distances.frechet_distance(real.statistics, fake.statistics)],
    ("kid", "kid_error"): lambda real, fake, *how: distances.kernel_distance(real.features, fake.features, *how),
    ("is",): lambda real, fake, *_: [distances.inception_score(fake.logits)],
    ("precision", "recall"): lambda real, fake, *_: distances.precision_recall(real.features, fake.features),
    ("density", "coverage"): lambda real, fake, *_: distances.density_coverage(real.features, fake.features),
}

_unwritten: dict[Path, Mapping[str, Tensor]] = {}


class Reference(NamedTuple):
    """What a net saw in 10,000 reals at most and, if there are more, in others for the floor."""

    real: Features
    others: Sequence[Features]  # one or none
    key: str | None  # a hash of the images and the net; None if the net cannot be hashed
    is_split: bool  # fewer others than fakes: the floor splits all the reals there are
    n_floor: tuple[int, int]  # how many reals the floor compares, in the fakes' place and in the reals'

    def pairs(self, seed: int) -> Iterator[Sequence[Features]]:
        """Real against real, in the reals' place and in the fakes': one pair, or 8 random splits."""
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
    """The reference for ``n`` fakes, drawn at random from uint8 reals [N, C, H, W]."""
    order = torch.randperm(len(reals), generator=rng(seed))
    is_split = len(order) < KEEP + n
    total = min(len(order), 2 * KEEP if is_split else KEEP + n)
    rows = [some for some in (order[:KEEP], order[KEEP:total]) if len(some)]
    (real, *others), keys = zip(*(_features_of(net, reals, some, resizer) for some in rows), strict=True)
    m = min(n, total // 2) if is_split else n
    return Reference(real, others, None if None in keys else "-".join(keys), is_split, (m, total - m))


def values_of(real: Features, fake: Features, metrics: Sequence[str], seed: int = 0, subsets: int = SUBSETS) -> dict:
    """The numbers by metric; "kid" brings "kid_error", its deviation over ``subsets``."""
    found = {}
    for names, compute in GROUPS.items():
        if set(names) & set(metrics):
            found |= zip(names, compute(real, fake, subsets, seed), strict=True)
    return found


def floors(reference: Reference, metrics: Sequence[str], seed: int = 0) -> dict[str, float]:
    """The metrics of reals in the fakes' place: what a perfect generator would get."""
    subsets = SUBSETS // (FLOOR_SPLITS if reference.is_split else 1)

    def compute() -> dict[str, Tensor]:
        try:
            found = [values_of(*pair, metrics, seed, subsets) for pair in reference.pairs(seed)]
        except ValueError as error:
            m, others = reference.n_floor
            raise ValueError(f"There are too few reals for a floor, {m:,} v {others:,}: {error}") from error
        return {name: torch.tensor([one[name] for one in found], dtype=torch.float64).mean() for name in found[0]}

    key = reference.key and f"{reference.key} {reference.n_floor} {reference.is_split} {sorted(metrics)} {seed}"
    return {name: number.item() for name, number in cached(key, compute).items()}


def _features_of(net: FeatureNet, pixels: Tensor, rows: Tensor, resizer: str) -> tuple[Features, str | None]:
    """What ``net`` sees in some of the images, and the key it is kept under."""

    def batches() -> Iterator[Tensor]:
        return (pixels[some] for some in rows.split(BATCH))

    def compute() -> dict[str, Tensor]:
        features, logits, (mean, cov, _) = extract(net, batches(), resizer)
        return {"features": features, "mean": mean, "cov": cov} | ({} if logits is None else {"logits": logits})

    key = None
    if isinstance(net, nn.Module):  # a function may change without a sign
        # By content, not by object: neither a copy nor a tensor written to in place can fool it. Nor can a net whose
        # code or settings changed while its weights did not: what it sees in the first images is a part of the key.
        glimpse = extract_batch(net, next(batches())[:2], resizer)
        glimpse = digest({str(k): tensor for k, tensor in enumerate(glimpse) if tensor is not None})
        content = hashlib.sha256(
            f"{getattr(net, 'name', 'custom')} {net} {digest(net.state_dict())} {glimpse} {resizer}".encode()
        )
        content.update(f"{list(pixels.shape[1:])} {len(rows)}".encode())
        for batch in batches():
            content.update(batch.contiguous().numpy())
        key = content.hexdigest()
    found = cached(key, compute)
    return Features(found["features"], found.get("logits"), Statistics(found["mean"], found["cov"], len(rows))), key


def cached(key: str | None, compute: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """The named tensors of ``compute``, computed once for each key (None: each time) and kept in the cache folder.

    A damaged file is computed again; where the folder cannot be written, this process keeps them in memory.
    """
    if key is None:
        return compute()
    path = runtime.cache_dir() / "scores" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    if path in _unwritten:
        return _unwritten[path]
    with contextlib.suppress(OSError, SafetensorError), safe_open(path, "pt") as file:  # missing or damaged
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        if (file.metadata() or {}).get("sha256") == digest(found):
            return found
    found = {name: tensor.contiguous() for name, tensor in compute().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, save(found, metadata={"sha256": digest(found)}))
    except OSError:  # no room, or no right to write
        _unwritten[path] = found
    return found


def digest(tensors: Mapping[str, Tensor]) -> str:
    """A hash of tensors of any shape with their names."""
    content = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        content.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        content.update(tensor.flatten().view(torch.uint8).numpy())
    return content.hexdigest()
