"""Honest scores of a generator: every number with its protocol, beside that of reals in the fakes' place."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from torch import Tensor

from ganlib.data.images import ImageSet, as_uint8
from ganlib.metrics.distances import frechet_distance
from ganlib.metrics.features import FeatureNet, Given, Images, available, extract, fake_batches
from ganlib.metrics.nets import digit_net, share_sure
from ganlib.metrics.reference import METRICS, floors, reference_for, values_of

COVERED = 0.01  # a class is covered if at least this share of the samples falls in it


class Numbers(dict):
    """The numbers of a score by name; ``best`` says which of them decides, and which way: ("fd", "lowest")."""

    def __init__(self, numbers: Mapping[str, float], best: tuple[str, str]):
        super().__init__(numbers)
        self.best = best


@dataclass(frozen=True)
class Score:
    """One number with all that it depends on; prints as one line.

    ``floor`` is what reals in the fakes' place get, and so would a perfect generator; ``error`` is the deviation of a
    "kid" over subsets; the protocol's ``n_floor`` has the counts in the fakes' place and in the reals'.
    """

    metric: str
    value: float
    floor: float
    error: float | None
    protocol: dict

    @property
    def label(self) -> str:
        """Its name in print: ``FID`` with Inception features, ``FD`` with any others."""
        fd = "FID" if self.protocol["features"] == "inception" else "FD"
        return {"fd": fd, "kid": "KID", "is": "IS"}.get(self.metric, self.metric)

    @property
    def name(self) -> str:
        """Its name in JSON, which says the protocol: ``fd_cifarnet_10k``, ``fid_inception_10k``."""
        return f"{self.label.lower()}_{self.protocol['features']}_{in_short(self.protocol['n_fake'])}"

    def __str__(self) -> str:
        p, (m, others) = self.protocol, self.protocol["n_floor"]
        error = "" if self.error is None else f" ± {self.error:.2g}"
        return (
            f"{self.label}({p['features']}) {self.value:.3g}{error} · floor {self.floor:.3g} ({m:,} v {others:,} real)"
            f" · {p['n_fake']:,} samples v {p['n_real']:,} of {p['n_images']:,} {p['split']} images · {how_drawn(p)}"
        )


@dataclass(frozen=True)
class Report:
    """The scores of one set of fakes, by metric: ``report["fd"].value``; prints one line a metric."""

    scores: dict[str, Score]

    def __getitem__(self, metric: str) -> Score:
        return self.scores[metric]

    def __str__(self) -> str:
        return "\n".join(str(score) for score in self.scores.values())

    def numbers(self) -> Numbers:
        """The values by name, in the order asked for; the first decides, a distance by the lowest."""
        first = next(iter(self.scores.values()))
        way = "lowest" if first.metric in ("fd", "kid") else "highest"
        return Numbers({score.name: score.value for score in self.scores.values()}, (first.name, way))

    def to_dict(self) -> dict[str, dict]:
        """Everything by name, ready for JSON."""
        every = self.scores.values()
        return {one.name: {"value": one.value, "floor": one.floor, "error": one.error} | one.protocol for one in every}


def score(
    fakes: Images,
    real: Tensor | ImageSet,
    net: FeatureNet,
    n: int = 10_000,
    seed: int = 0,
    *,
    mode: str = "eval",
    resizer: str = "none",
    metrics: Sequence[str] = METRICS,
) -> Report:
    """Judge ``n`` fakes, a generator's or given images, by what a net sees in them and in reals [N, C, H, W].

    All is uint8, as in a PNG. Batches are drawn, judged and dropped, so memory does not grow with ``n``: the Fréchet
    distance is of all ``n``, the other metrics of the first 10,000. The reals are 10,000 at random. The floor compares
    them with as many other reals as there are fakes, or, of too few, is the mean over 8 random splits.
    """
    if wrong := [metric for metric in metrics if metric not in METRICS]:
        raise ValueError(f"There is no metric '{wrong[0]}'; there are: {', '.join(METRICS)}.")
    found, reference = _seen(fakes, real, net, n, seed, mode, resizer)
    values, floor = values_of(reference.real, found, metrics, seed), floors(reference, metrics, seed)
    about = protocol(fakes, real, net, mode, resizer, seed) | {"n_real": reference.real.statistics.n}
    (m, others), kept = reference.n_floor, len(found.features)
    of_all = about | {"n_fake": found.statistics.n, "n_floor": [m, others]}
    of_kept = about | {"n_fake": kept, "n_floor": [min(m, kept), others]}  # all but the Fréchet distance need features

    def one(metric: str) -> Score:
        error = values.get(f"{metric}_error")
        return Score(metric, values[metric], floor[metric], error, of_all if metric == "fd" else of_kept)

    return Report({metric: one(metric) for metric in metrics})


@dataclass(frozen=True)
class DigitScore:
    """A score of generated digits with its protocol; prints as one line.

    ``fd`` is the Fréchet distance to the reals, ``fd_floor`` that of ``n_floor`` reals; ``sure`` and ``sure_real`` are
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
            f"{self.n_fake:,} samples v {self.n_real:,} real · sure of {self.sure:.0%} (real {self.sure_real:.0%}) · "
            f"smallest class {self.smallest_share:.1%} · {self.covered} of {len(self.histogram)} classes"
        )

    def numbers(self) -> Numbers:
        """The distance, which decides by the lowest, and two shares."""
        found = {self.name: self.fd, "sure": self.sure, "smallest_share": self.smallest_share}
        return Numbers(found, (self.name, "lowest"))

    def to_dict(self) -> dict:
        """Everything, ready for JSON; the distance and its floor carry the protocol in their names."""
        rest = asdict(self)
        return {self.name: rest.pop("fd"), f"{self.name}_floor": rest.pop("fd_floor")} | rest


def score_digits(fakes: Images, real: Tensor | ImageSet, n: int = 5000, seed: int = 0) -> DigitScore:
    """Judge ``n`` generated digits [N, 1, 28, 28] by the features and the confidence of the digit net, on the CPU.

    The net learned on half of the 5,000 digits of the offline sample: with these as reals ``sure_real`` is a bit high.
    """
    found, reference = _seen(fakes, real, digit_net(), n, seed)
    real = reference.real
    fd, floor = frechet_distance(found.statistics, real.statistics), floors(reference, ("fd",), seed)["fd"]
    p, p_real = found.logits.softmax(1), real.logits.softmax(1)
    histogram = tuple((p.argmax(1).bincount(minlength=10).double() / len(p)).tolist())
    classes = (min(histogram), sum(share >= COVERED for share in histogram), histogram)
    counts = (found.statistics.n, real.statistics.n, reference.n_floor)
    return DigitScore(fd, floor, share_sure(p), share_sure(p_real), *classes, *counts, seed=seed)


def _seen(fakes, real, net, n, seed, mode="eval", resizer="none"):
    """What a net sees in the fakes, and what that is compared with."""
    n, reals = available(fakes, n), as_uint8(real)
    if n < 2 or len(reals) < 4:
        raise ValueError(f"A score needs 2 samples and 4 reals or more, not {n} and {len(reals)}.")
    found = extract(net, fake_batches(fakes, n, seed, mode), resizer)
    return found, reference_for(net, reals, n, seed, resizer)


def protocol(fakes: Images, real: Tensor | ImageSet, net: FeatureNet, mode: str, resizer: str, seed: int) -> dict:
    """What a number depends on, ready for JSON; of given images ``mode`` and ``ema`` are None."""
    mode, ema = (None, None) if isinstance(fakes, Given) else (mode, bool(getattr(fakes, "averaged", False)))
    resizer = resizer if resizer != "none" else getattr(net, "resizer", "none")
    images = {"features": getattr(net, "name", "custom"), "n_images": len(real), "split": split_of(real)}
    return images | {"resizer": resizer, "mode": mode, "ema": ema, "seed": seed}


def split_of(images: Tensor | ImageSet) -> str:
    """The split of an ImageSet; ``given`` for a bare tensor (whose ``split`` is a method)."""
    return images.split if isinstance(images, ImageSet) else "given"


def how_drawn(protocol: dict) -> str:
    """The end of a printed line: where the fakes came from, the resizer and the seed."""
    drawn = f"{'EMA' if protocol['ema'] else 'no EMA'}, {protocol['mode']}"
    resizer = "" if protocol["resizer"] == "none" else f"{protocol['resizer']} · "
    return f"{'given images' if protocol['mode'] is None else drawn} · {resizer}seed {protocol['seed']}"


def in_short(n: int) -> str:
    """A count in a name: ``10k`` for 10,000, ``1500`` for 1,500."""
    return f"{n // 1000}k" if n and n % 1000 == 0 else str(n)
