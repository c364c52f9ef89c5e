"""Honest scores of a generator: every number with its protocol, beside that of reals in the fakes' place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ganlib.data.images import ImageSet
from ganlib.metrics.digits import DigitScore, score_digits
from ganlib.metrics.distances import (
    Statistics,
    density_coverage,
    feature_statistics,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from ganlib.metrics.features import FeatureNet, Features, Images, draw, extract, generate, is_given
from ganlib.metrics.memorisation import Memorisation, memorisation
from ganlib.metrics.protocol import how, protocol, short
from ganlib.metrics.reference import METRICS, floors, look_at_reals, measure

__all__ = [
    "DigitScore",
    "Features",
    "Memorisation",
    "Report",
    "Score",
    "Statistics",
    "density_coverage",
    "draw",
    "extract",
    "feature_statistics",
    "frechet_distance",
    "generate",
    "inception_score",
    "kernel_distance",
    "memorisation",
    "precision_recall",
    "score",
    "score_digits",
]


@dataclass(frozen=True)
class Score:
    """One number with all that it depends on; prints as one line.

    Attributes:
        metric: ``"fd"``, ``"kid"``, ``"is"``, ``"precision"``, ``"recall"``, ``"density"`` or ``"coverage"``.
        value: of the fakes.
        floor: of reals in the fakes' place: what a perfect generator would get.
        error: standard deviation over subsets, for ``"kid"``; else None.
        protocol: ``features``, ``n_fake``, ``n_real``, ``n_floor`` (in the fakes' place, in the reals'), ``n_images``
            (reals to choose from), ``split``, ``resizer``, ``mode``, ``ema``, ``seed``.
    """

    metric: str
    value: float
    floor: float
    error: float | None
    protocol: dict

    @property
    def label(self) -> str:
        """Its name in print: ``FID`` with Inception features, ``FD`` with any others."""
        if self.metric == "fd":
            return "FID" if self.protocol["features"] == "inception" else "FD"
        return self.metric.upper() if self.metric in ("kid", "is") else self.metric

    @property
    def name(self) -> str:
        """Its name in JSON, which says the protocol: ``fd_cifarnet_10k``, ``fid_inception_10k``."""
        return f"{self.label.lower()}_{self.protocol['features']}_{short(self.protocol['n_fake'])}"

    def __str__(self) -> str:
        p, (m, others) = self.protocol, self.protocol["n_floor"]
        error = "" if self.error is None else f" ± {self.error:.2g}"
        of_reals = f"{p['n_real']:,} of {p['n_images']:,} {p['split']} images"
        return (
            f"{self.label}({p['features']}) {self.value:.3g}{error} · floor {self.floor:.3g} ({m:,} v {others:,} real)"
            f" · {p['n_fake']:,} samples v {of_reals} · {how(p)}"
        )

    def to_dict(self) -> dict:
        """Everything, ready for JSON."""
        return {"value": self.value, "floor": self.floor, "error": self.error, **self.protocol}


@dataclass(frozen=True)
class Report:
    """The scores of one set of fakes, by metric: ``report["fd"].value``; prints one line a metric."""

    scores: dict[str, Score]

    def __getitem__(self, metric: str) -> Score:
        return self.scores[metric]

    def __str__(self) -> str:
        return "\n".join(str(score) for score in self.scores.values())

    def numbers(self) -> dict[str, float]:
        """The values by name, in the order asked for: what a history keeps."""
        return {score.name: score.value for score in self.scores.values()}

    def to_dict(self) -> dict[str, dict]:
        """Everything by name, ready for JSON."""
        return {score.name: score.to_dict() for score in self.scores.values()}


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
    """Judge fakes by what ``net`` sees in them and in reals.

    All that is judged is uint8, as in a PNG. Batches are drawn, looked at and dropped, so that the memory does not
    grow with ``n``: the Fréchet distance is of all ``n``, the other metrics of the first 10,000. The reals are
    10,000 at random (all, of fewer). The floor compares them with as many other reals as there are fakes; where
    there are not as many, it is the mean over 8 random splits of the reals there are. What comes of the reals is
    kept in memory and in :func:`ganlib._runtime.device.cache_dir`.

    Args:
        fakes: a generator with the attribute ``z_dim``, or images: see :func:`ganlib.metrics.features.draw`.
        real: uint8 ``[N, C, H, W]``.
        net: a feature net: see :mod:`ganlib.metrics.features`.
        n: how many fakes to judge; at most as many as there are.
        seed: of z, of the choice of reals and of the subsets of ``"kid"``.
        mode: ``"eval"``, or ``"train"`` to draw with BatchNorm in train mode, which is a mistake worth seeing.
        resizer: ``"none"``, or ``"bicubic"`` to the size that ``net`` takes.
        metrics: which, in the order of the report.

    Raises:
        ValueError: if there is no such metric, mode or resizer, there are too few images for a metric, ``net``
            cannot judge them or gives no logits for ``"is"``, or images are not finite or outside [-1, 1].
        ImportError: if a metric but "fd", "density" and "coverage" is asked for and torch-fidelity is missing.
    """
    pixels = getattr(real, "pixels", real)
    n = min(n, len(fakes)) if is_given(fakes) else n
    if wrong := [metric for metric in metrics if metric not in METRICS]:
        raise ValueError(f"There is no metric '{wrong[0]}'; there are: {', '.join(METRICS)}.")
    if n < 2 or len(pixels) < 4:
        raise ValueError(f"A score needs 2 samples and 4 reals or more, not {n} and {len(pixels)}.")
    seen = extract(net, draw(fakes, n, seed, mode), resizer)
    reference = look_at_reals(net, pixels, n, seed, resizer)
    values, floor = measure(reference.real, seen, metrics, seed), floors(reference, metrics, seed)
    about = protocol(fakes, real, net, n, mode, resizer, seed) | {"n_real": reference.real.n}

    n_seen = len(seen.features)

    def with_protocol(metric: str) -> Score:
        # Only the Fréchet distance is of all fakes: the others would have to keep the features of each.
        m, others = reference.n_floor
        counts = (n, [m, others]) if metric == "fd" else (n_seen, [min(m, n_seen), others])
        every = about | {"n_fake": counts[0], "n_floor": counts[1]}
        return Score(metric, values[metric], floor[metric], values.get(f"{metric}_error"), every)

    return Report({metric: with_protocol(metric) for metric in metrics})
