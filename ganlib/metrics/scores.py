"""Scores of a generator, each with its protocol and the score of real images."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from ganlib._runtime.randomness import rng
from ganlib.data.images import ImageSet
from ganlib.metrics import distances, features
from ganlib.metrics.features import FeatureNet, Features, Given, Images, Reference
from ganlib.metrics.nets import digit_net, share_sure

METRICS = ("fd", "kid", "is", "precision", "recall", "density", "coverage")
PLACES, MODES = torch.tensor([100, 10, 1]), 1000  # the mode of a stack of digits is 100 red + 10 green + blue
_floors = {}  # cached results


class Numbers(dict):
    """The values of a score; ``best`` says which one decides, as in ("fd", "lowest")."""

    def __init__(self, numbers: Mapping[str, float], best: tuple[str, str]):
        super().__init__(numbers)
        self.best = best


@dataclass(frozen=True)
class Score:
    """One number with everything it depends on; prints as two lines.

    ``floor`` is the score of real images, and of a perfect generator; ``error`` is the deviation of a "kid" over
    subsets; the protocol's ``n_floor`` has the counts of the reals compared for the floor.
    """

    metric: str
    value: float
    floor: float
    error: float | None
    protocol: dict

    @property
    def label(self) -> str:
        fd = "FID" if self.protocol["features"] == "inception" else "FD"
        return {"fd": fd, "kid": "KID", "is": "IS"}.get(self.metric, self.metric)

    @property
    def name(self) -> str:
        """Its name in JSON, with the protocol: ``fd_cifarnet_10k``, ``fid_inception_10k``."""
        return f"{self.label.lower()}_{self.protocol['features']}_{in_short(self.protocol['n_fake'])}"

    @property
    def lines(self) -> tuple[str, str]:
        """The number beside its floor, and beneath it how it was taken."""
        p, (m, others) = self.protocol, self.protocol["n_floor"]
        error = "" if self.error is None else f" ± {self.error:.2g}"
        counts = f"{p['n_fake']:,} samples v {p['n_real']:,} of {p['n_images']:,} {p['split']} images"
        floor = f"floor {self.floor:.3g} ({m:,} v {others:,} real)"
        return f"{self.label}({p['features']}) {self.value:.3g}{error} · {floor}", f"  {counts} · {how_drawn(p)}"

    def __str__(self) -> str:
        return "\n".join(self.lines)


class Report(dict[str, Score]):
    """The scores of a set of fakes by metric: ``report["fd"].value``; prints as lines."""

    def __str__(self) -> str:
        lines = [line for one in self.values() for line in one.lines]
        # How they were taken stands once, beneath the last of those that share it.
        return "\n".join(a for a, next_such in zip(lines, [*lines[2:], None, None], strict=True) if a != next_such)

    def numbers(self) -> Numbers:
        """The values in the requested order; the first decides, a distance by the lowest."""
        first = next(iter(self.values()))
        way = "lowest" if first.metric in ("fd", "kid") else "highest"
        return Numbers({one.name: one.value for one in self.values()}, (first.name, way))

    def to_dict(self) -> dict[str, dict]:
        """All values by name, ready for JSON."""
        return {s.name: {"value": s.value, "floor": s.floor, "error": s.error} | s.protocol for s in self.values()}


def score(
    fakes: Images, real: Given, net: FeatureNet, n=10_000, seed=0, *, mode="eval", resizer="none", metrics=METRICS
) -> Report:
    """Score ``n`` fakes, from a generator or given, by a net's features against reals.

    All images are uint8, as in a PNG. Batches are drawn, scored and dropped, so memory does not grow with ``n``: the
    Fréchet distance uses all ``n``, the other metrics the first 10,000. The reals are 10,000 at random. The floor
    compares them with as many other reals as fakes; if there are too few, it is the mean over 8 random splits.
    """
    if wrong := [metric for metric in metrics if metric not in METRICS]:
        raise ValueError(f"There is no metric '{wrong[0]}'; there are: {', '.join(METRICS)}.")
    found, reference = features.seen(fakes, real, net, n, seed, mode, resizer)
    values, floor = values_of(reference.real, found, metrics, seed), floors(reference, metrics, seed)
    about = protocol(fakes, real, net, mode, resizer, seed) | {"n_real": reference.real.statistics.n}
    (m, others), report = reference.n_floor, Report()
    for metric in metrics:  # the Fréchet distance is of all samples, the rest of those whose features are kept
        n_fake = found.statistics.n if metric == "fd" else len(found.features)
        how = about | {"n_fake": n_fake, "n_floor": [min(m, n_fake), others]}
        report[metric] = Score(metric, values[metric], floor[metric], values.get(f"{metric}_error"), how)
    return report


@dataclass(frozen=True)
class DigitScore:
    """A score of generated digits with its protocol; prints as two lines.

    ``fd`` is the Fréchet distance to the reals, ``fd_floor`` of ``n_floor`` reals; ``sure`` and ``sure_real`` are
    the shares whose likeliest class has p > 0.9; ``histogram`` is the share of the fakes in each of the ten classes,
    ``smallest_share`` the least of them, and ``covered`` how many classes have 1% or more.
    """

    fd: float
    fd_floor: float
    sure: float
    sure_real: float
    smallest_share: float
    covered: int
    histogram: tuple[float, ...]
    n_fake: int
    n_real: int
    n_floor: tuple[int, int]
    features: str = "digitnet"
    seed: int = 0

    @property
    def name(self) -> str:
        """The name of ``fd`` with its protocol: ``fd_digitnet_5k`` for 5,000 samples."""
        return f"fd_{self.features}_{in_short(self.n_fake)}"

    def __str__(self) -> str:
        m, others = self.n_floor
        return (
            f"FD({self.features}) {self.fd:.1f} · floor {self.fd_floor:.2g} ({m:,} v {others:,} real) · "
            f"{self.n_fake:,} samples v {self.n_real:,} real\n"
            f"  sure of {self.sure:.0%} (real {self.sure_real:.0%}) · smallest class {self.smallest_share:.1%} · "
            f"{self.covered} of {len(self.histogram)} classes"
        )

    def numbers(self) -> Numbers:
        """The distance, which decides (the lowest is best), and two shares."""
        found = {self.name: self.fd, "sure": self.sure, "smallest_share": self.smallest_share}
        return Numbers(found, (self.name, "lowest"))

    def to_dict(self) -> dict:
        """Everything, ready for JSON; distance and floor have the protocol in their names."""
        rest = asdict(self)
        return {self.name: rest.pop("fd"), f"{self.name}_floor": rest.pop("fd_floor")} | rest


def score_digits(fakes: Images, real: Given, n: int = 5000, seed: int = 0) -> DigitScore:
    """Score ``n`` digits [N, 1, 28, 28] by the digit net's features and confidence.

    The net was trained on half of the offline sample's 5,000 digits: with these as reals ``sure_real`` is a bit high.
    """
    found, reference = features.seen(fakes, real, digit_net(), n, seed)
    real = reference.real
    fd, floor = distances.frechet_distance(found.statistics, real.statistics), floors(reference, ("fd",), seed)["fd"]
    p, p_real = found.logits.softmax(1), real.logits.softmax(1)
    histogram = tuple((p.argmax(1).bincount(minlength=10).double() / len(p)).tolist())
    classes = (min(histogram), sum(share >= 0.01 for share in histogram), histogram)
    counts = (found.statistics.n, real.statistics.n, reference.n_floor)
    return DigitScore(fd, floor, share_sure(p), share_sure(p_real), *classes, *counts, seed=seed)


def stack(digits: ImageSet, n: int, seed: int = 0) -> ImageSet:
    """``n`` pictures [n, 3, H, W] of digits: hundreds red, tens green, ones blue.

    Their 1,000 modes can be counted: Metz et al. 2016, arXiv:1611.02163, section 3.3.1.
    """
    if digits.channels != 1 or digits.labels is None:
        raise ValueError(f"Stacking takes grey digits with labels, and '{digits.name}' is not that; load('mnist') is.")
    rows, classes = torch.randint(len(digits), (n, 3), generator=rng(seed)), tuple(f"{k:03d}" for k in range(MODES))
    pixels, labels = digits.pixels[rows].squeeze(2), (digits.labels[rows] * PLACES).sum(1)
    source = f"{n:,} stacks of three of {digits.source}"
    return ImageSet(pixels, labels, classes, f"stacked {digits.name}", source, split=digits.split)


@dataclass(frozen=True)
class StackedScore:
    """Modes in ``n`` samples and KL divergence from even shares; both of even draws."""

    modes: int
    kl: float
    modes_floor: int
    kl_floor: float
    n: int
    seed: int

    def __str__(self) -> str:
        return (
            f"{self.modes:,} of {MODES:,} modes (even draws: {self.modes_floor:,}) · KL {self.kl:.2f} "
            f"(even draws: {self.kl_floor:.2f})\n  {self.n:,} samples read by the digit net · seed {self.seed}"
        )

    def numbers(self) -> Numbers:
        """The modes (the most is best) and the divergence."""
        name = f"modes_digitnet_{in_short(self.n)}"
        return Numbers({name: self.modes, "kl": self.kl}, (name, "highest"))


def stacked_modes(fakes: Images, n: int = 10_000, seed: int = 0) -> StackedScore:
    """Count the numbers that the digit net reads in ``n`` fakes [n, 3, 28, 28].

    As in Srivastava et al. 2017, arXiv:1705.07761. The net sees a digit in anything, so the count flatters a
    generator of noise; look at the samples, too.
    """
    read = []
    for batch in features.fake_batches(fakes, n, seed):
        if batch.shape[1] != 3:
            raise ValueError(f"Stacked digits have 3 channels, but these images have {batch.shape[1]}.")
        digits = features.extract_batch(digit_net(), batch.flatten(0, 1)[:, None])[1].argmax(1).view(-1, 3)
        read.append((digits * PLACES).sum(1))
    n, found = sum(map(len, read)), []
    for modes in (torch.cat(read), torch.randint(MODES, (n,), generator=rng(seed))):
        shares = modes.unique(return_counts=True)[1].double() / n
        found += [len(shares), (shares * (shares * MODES).log()).sum().item()]
    return StackedScore(*found, n, seed)


def protocol(fakes: Images, real: Given, net: FeatureNet, mode: str, resizer: str, seed: int) -> dict:
    """What a number depends on; for given images ``mode`` and ``ema`` are None."""
    mode, ema = (None, None) if isinstance(fakes, Given) else (mode, bool(getattr(fakes, "averaged", False)))
    resizer = resizer if resizer != "none" else getattr(net, "resizer", "none")
    split = real.split if isinstance(real, ImageSet) else "given"
    images = {"features": getattr(net, "name", "custom"), "n_images": len(real), "split": split}
    return images | {"resizer": resizer, "mode": mode, "ema": ema, "seed": seed}


def values_of(real: Features, fake: Features, metrics: Sequence[str], seed=0, subsets=distances.SUBSETS) -> dict:
    """The numbers by metric, with "kid_error" next to "kid"."""
    x, y, found = real.features, fake.features, {}
    if "fd" in metrics:
        found["fd"] = distances.frechet_distance(real.statistics, fake.statistics)
    if "kid" in metrics:
        found["kid"], found["kid_error"] = distances.kernel_distance(x, y, subsets, seed)
    if "is" in metrics:
        found["is"] = distances.inception_score(fake.logits)
    if {"precision", "recall"} & set(metrics):
        found["precision"], found["recall"] = distances.precision_recall(x, y)
    if {"density", "coverage"} & set(metrics):
        found["density"], found["coverage"] = distances.density_coverage(x, y)
    return found


def floors(reference: Reference, metrics: Sequence[str], seed: int = 0) -> dict[str, float]:
    """The metrics of real images: the scores of a perfect generator."""
    key = (reference.key, reference.n_floor, reference.is_split, *sorted(metrics), seed)
    if key not in _floors or reference.key is None:
        subsets = distances.SUBSETS // (features.FLOOR_SPLITS if reference.is_split else 1)
        try:
            found = [values_of(*pair, metrics, seed, subsets) for pair in reference.pairs(seed)]
        except ValueError as error:
            m, others = reference.n_floor
            raise ValueError(f"There are too few reals for a floor, {m:,} v {others:,}: {error}") from error
        _floors[key] = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    return _floors[key]


def how_drawn(protocol: dict) -> str:
    """The end of a printed line: where the fakes came from, the resizer and the seed."""
    drawn = f"{'EMA' if protocol['ema'] else 'no EMA'}, {protocol['mode']}"
    resizer = "" if protocol["resizer"] == "none" else f"{protocol['resizer']} · "
    return f"{'given images' if protocol['mode'] is None else drawn} · {resizer}seed {protocol['seed']}"


def in_short(n: int) -> str:
    """A count in a name: ``10k`` for 10,000, ``1500`` for 1,500."""
    return f"{n // 1000}k" if n % 1000 == 0 else str(n)
