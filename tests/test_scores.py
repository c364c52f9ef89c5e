"""Scores move the right way and say their protocol, their floor and what is best; memory does not grow with them."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from ganlib._runtime.randomness import rng
from ganlib.data import ImageSet, load
from ganlib.metrics import DigitScore, extract, frechet_distance, kernel_distance, reference, score, score_digits
from ganlib.metrics.distances import density_coverage, precision_recall
from helpers import noise

PROTOCOL = {"split", "resizer", "mode", "ema", "seed", "features", "n_fake", "n_real", "n_floor", "n_images"}


class Colours(nn.Module):
    """A feature net of one layer: means of the quarters of each channel, and three logits."""

    name = "colours"

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(1 / 64))

    def forward(self, pixels):
        x = nn.functional.avg_pool2d(pixels.float() * self.scale, 4).flatten(1)
        return x, x[:, :3] * 3


def pictures(n, seed=0, spread=60):
    """Images of random colours, uint8 [n, 3, 8, 8]."""
    base = 128 + spread * torch.randn(n, 3, 2, 2, generator=rng(seed))
    return nn.functional.interpolate(base, 8).clamp(0, 255).to(torch.uint8)


def small_generator():
    generator = nn.Sequential(nn.Linear(3, 192), nn.BatchNorm1d(192), nn.Tanh(), nn.Unflatten(1, (3, 8, 8)))
    generator.z_dim = 3
    return generator


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GANLIB_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def halves():
    """Two disjoint sets of 1,000 digits: (pixels, labels) of each, in random order."""
    digits = load("mnist", download=False)
    rows = torch.randperm(len(digits), generator=rng(0))[:2000].split(1000)
    return [(digits.pixels[some], digits.labels[some]) for some in rows]


def test_values_are_those_of_the_distances():
    real, fake = pictures(400), pictures(300, 1, 50)
    report = score(fake, real, Colours())
    x, y = extract(Colours(), real).features, extract(Colours(), fake).features
    assert report["fd"].value == pytest.approx(frechet_distance(x, y), rel=1e-4)
    assert (report["precision"].value, report["recall"].value) == pytest.approx(precision_recall(x, y), abs=1e-6)
    assert (report["density"].value, report["coverage"].value) == pytest.approx(density_coverage(x, y), abs=1e-6)
    mean, deviation = kernel_distance(x, y, seed=0)
    assert report["kid"].value == pytest.approx(mean, abs=3 * deviation + 1e-6)
    assert report["kid"].error > 0 and report["fd"].error is None


def test_every_line_says_its_protocol_and_json_keeps_it():
    real = ImageSet(pictures(400), None, (), "noise", "noise", split="test")
    report = score(pictures(200, 1), real, Colours())
    lines = str(report).splitlines()
    assert len(lines) == 7 and all("200 samples v 400 of 400 test images · given images · seed 0" in s for s in lines)
    fd = report["fd"]
    assert lines[0].startswith(
        f"FD(colours) {fd.value:.3g} · floor {fd.floor:.3g} (200 v 200 real) · 200 samples v 400"
    )
    assert lines[1].startswith(f"KID(colours) {report['kid'].value:.3g} ± {report['kid'].error:.2g} · floor ")
    assert [line.partition("(")[0] for line in lines[2:]] == ["IS", "precision", "recall", "density", "coverage"]
    kept = json.loads(json.dumps(report.to_dict()))
    assert list(kept) == [f"{m}_colours_200" for m in reference.METRICS]
    assert all({"value", "floor", "error"} | PROTOCOL == set(entry) for entry in kept.values())
    assert report.numbers() == {name: entry["value"] for name, entry in kept.items()}


def test_a_score_says_which_number_is_best_and_which_way():
    for metric, way in {"fd": "lowest", "kid": "lowest", **dict.fromkeys(reference.METRICS[2:], "highest")}.items():
        others = tuple(name for name in ("fd", "recall") if name != metric)
        numbers = score(pictures(60), pictures(90, 1), Colours(), metrics=(metric, *others)).numbers()
        assert numbers.best == (next(iter(numbers)), way) == (f"{metric}_colours_60", way)
    for n, short in ((999, "999"), (1000, "1k"), (1500, "1500"), (20_000, "20k")):
        digits = DigitScore(1.0, 0.5, 0.9, 0.9, 0.1, 10, (0.1,) * 10, n, 5000, (2500, 2500)).numbers()
        assert digits.best == (f"fd_digitnet_{short}", "lowest") and digits[f"fd_digitnet_{short}"] == 1.0


def test_equal_distributions_score_the_floor_and_others_far_above():
    real, metrics = pictures(2000), ("fd", "precision", "recall")
    alike, other = (score(pictures(1000, 5, spread), real, Colours(), metrics=metrics) for spread in (60, 20))
    assert alike["fd"].value < 3 * alike["fd"].floor
    assert other["fd"].value > 20 * other["fd"].floor
    assert other["recall"].value < 0.5 * other["recall"].floor and other["precision"].value > 0.9


def test_the_protocol_knows_the_average_the_mode_and_the_resizer():
    generator, real, how = small_generator(), pictures(300), {"n": 100, "metrics": ("fd",)}
    net = Colours()
    net.image_shape = (3, 8, 8)
    plain = score(generator, real, net, **how)["fd"]
    generator.averaged = True
    averaged = score(generator, real, net, resizer="bicubic", **how)["fd"]
    in_train_mode = score(generator, real, net, mode="train", **how)["fd"]
    given = score(pictures(100), real, net, **how)["fd"]
    assert [one.protocol["ema"] for one in (plain, averaged, given)] == [False, True, None]
    assert plain.value == averaged.value != in_train_mode.value and given.protocol["mode"] is None
    ends = (
        "· no EMA, eval · seed 0",
        "· EMA, eval · bicubic · seed 0",
        "· EMA, train · seed 0",
        "· given images · seed 0",
    )
    assert all(str(one).endswith(end) for one, end in zip((plain, averaged, in_train_mode, given), ends, strict=True))


def test_the_reals_are_seen_once():
    seen = []

    class Counting(Colours):
        def forward(self, pixels):
            seen.append(len(pixels))
            return super().forward(pixels)

    def cost(real):
        seen.clear()
        found.append(score(fake, real, net, metrics=("fd",)))
        return sum(seen) - 2  # two of the reals are looked at again, to know the net

    found, net, real, fake = [], Counting(), pictures(300), pictures(100, 1)
    assert (cost(real), cost(real.clone())) == (400, 100) and found[0] == found[1]
    real[0] = 255 - real[0]
    assert cost(real) == 400


@pytest.mark.parametrize(
    ("fakes", "n_real", "how", "message"),
    [
        (small_generator(), 50, {"metrics": ("fid",)}, "no metric 'fid'; there are: fd, kid, is"),
        (small_generator(), 50, {"n": 1}, "2 samples and 4 reals or more, not 1 and 50"),
        (pictures(1), 50, {}, "2 samples and 4 reals or more, not 1 and 50"),
        (pictures(50), 3, {}, "2 samples and 4 reals or more, not 50 and 3"),
        (pictures(8), 50, {"metrics": ("fd",)}, "of 12 features .* not 8"),
        (pictures(60), 50, {"metrics": ("is",), "net": lambda pixels: Colours()(pixels)[0]}, "logits"),
    ],
)
def test_what_cannot_be_scored_gets_a_sentence(fakes, n_real, how, message):
    with pytest.raises(ValueError, match=message):
        score(fakes, pictures(n_real), **{"net": Colours(), "n": 50} | how)


def test_other_reals_score_the_floor(halves):
    found = score_digits(halves[0][0], halves[1][0])
    assert (found.n_fake, found.n_real, found.n_floor) == (1000, 1000, (500, 500))
    assert 0 < found.fd < found.fd_floor < 5  # 1,000 v 1,000 lies below the floor of 500 v 500
    assert 0.95 < found.sure < 1 and 0.95 < found.sure_real < 1 and sum(found.histogram) == pytest.approx(1)
    assert found.covered == 10 and found.smallest_share == min(found.histogram) == pytest.approx(0.08, abs=0.02)


def test_noise_scores_far_above_the_floor_and_a_single_class_covers_one(halves):
    (pixels, labels), (real, _) = halves
    found = score_digits(noise(500, 1, 28), real)
    assert found.fd > 50 * found.fd_floor
    found = score_digits(pixels[labels == 3][:1].expand(300, -1, -1, -1), real)
    assert (found.covered, found.smallest_share, found.histogram[3]) == (1, 0, 1) and found.fd > 20 * found.fd_floor
    mixed = torch.cat([pixels[labels == 3][:1].expand(99, -1, -1, -1), pixels[labels == 7][:1]])
    assert score_digits(mixed, real).covered == 2  # 1% is enough


def test_the_distance_grows_with_noise_blur_and_missing_classes(halves):
    (pixels, labels), (real, _) = halves
    random = torch.randn(pixels.shape, generator=rng(0))
    grown = {
        "noise": [(pixels + s * random).clamp(0, 255).to(torch.uint8) for s in (0, 20, 40, 80)],
        "blur": [nn.functional.avg_pool2d(pixels.float(), k, 1, k // 2).to(torch.uint8) for k in (1, 3, 5)],
        "missing": [pixels[labels >= c] for c in (0, 1, 4, 8)],
    }
    for name, sets in grown.items():
        distances = [score_digits(images, real).fd for images in sets]
        assert all(a * 1.3 < b for a, b in zip(distances, distances[1:], strict=False)), (name, distances)


def test_a_digit_score_prints_its_protocol_in_one_line_and_goes_to_json(halves):
    found = score_digits(halves[0][0], ImageSet(halves[1][0], None, (), "mnist", "MNIST"), n=200, seed=3)
    assert str(found) == (
        f"FD(digitnet) {found.fd:.1f} · floor {found.fd_floor:.2g} (200 v 800 real) · 200 samples v 1,000 real · sure "
        f"of {found.sure:.0%} (real {found.sure_real:.0%}) · smallest class {found.smallest_share:.1%} · "
        f"{found.covered} of 10 classes"
    )
    kept = json.loads(json.dumps(found.to_dict()))
    assert (kept["fd_digitnet_200"], kept["fd_digitnet_200_floor"]) == (found.fd, found.fd_floor)
    assert (
        kept["n_floor"] == [200, 800] and len(kept["histogram"]) == 10 and kept["covered"] == 10 and kept["seed"] == 3
    )
    assert list(found.numbers()) == ["fd_digitnet_200", "sure", "smallest_share"]


@pytest.mark.parametrize("shape", [(5, 1, 32, 32), (5, 3, 28, 28)])
def test_images_that_are_no_digits_are_refused_on_either_side(shape, halves):
    for sides in ((torch.zeros(shape), halves[1][0]), (halves[1][0], torch.zeros(shape).byte())):
        with pytest.raises(ValueError, match=rf"digitnet .*\[\d+, {shape[1]}, {shape[2]}, {shape[3]}\]"):
            score_digits(*sides)


GROWTH = """
import resource, sys
sys.path.insert(0, "tests")
from test_scores import Colours, pictures, small_generator
from ganlib import metrics
real, generator, peaks = pictures(500), small_generator(), []
for n in (3_000, 12_000, 60_000):
    metrics.score(generator, real, Colours(), n=n, metrics=("fd", "is"))
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(*peaks)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource module")
def test_memory_does_not_grow_with_the_number_of_samples(request):
    out = subprocess.run([sys.executable, "-c", GROWTH], cwd=request.config.rootpath, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    _, at_12k, at_60k = map(int, out.stdout.split())
    unit = 1024 if sys.platform == "darwin" else 1
    # 48,000 more images of 192 bytes are 9 MB as uint8 and 37 MB as float32; their features 2 MB.
    assert at_60k - at_12k < 6_000 * unit
