"""Scores with their protocol: values, floors, lines, JSON; what is kept; and memory that does not grow."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from ganlib._runtime import device as runtime
from ganlib.data.images import ImageSet
from ganlib.metrics import features, reference
from ganlib.metrics import scores as metrics
from ganlib.metrics.distances import density_coverage, frechet_distance, kernel_distance, precision_recall

HOW = {"split", "resizer", "mode", "ema", "seed", "features", "n_fake", "n_real", "n_floor"}


class Colours(nn.Module):
    """A feature net of one layer: means of the quarters of each channel, and three logits."""

    name = "colours"

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(1 / 64))

    def forward(self, pixels):
        x = torch.nn.functional.avg_pool2d(pixels.float() * self.scale, 4).flatten(1)
        return x, x[:, :3] * 3


def pictures(n, seed=0, spread=60):
    """Images of random colours, uint8 [n, 3, 8, 8]."""
    g = torch.Generator().manual_seed(seed)
    base = 128 + spread * torch.randn(n, 3, 2, 2, generator=g)
    return nn.functional.interpolate(base, 8).clamp(0, 255).to(torch.uint8)


def small_generator():
    generator = nn.Sequential(nn.Linear(3, 192), nn.BatchNorm1d(192), nn.Tanh(), nn.Unflatten(1, (3, 8, 8)))
    generator.z_dim = 3
    return generator


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(reference, "_kept", {}, raising=False)
    monkeypatch.setattr(runtime, "cache_dir", lambda: tmp_path)


def test_values_are_those_of_the_distances():
    real, fake = pictures(400), pictures(300, 1, 50)
    report = metrics.score(fake, real, Colours())
    x, y = features.extract(Colours(), real).features, features.extract(Colours(), fake).features
    assert report["fd"].value == pytest.approx(frechet_distance(x, y), rel=1e-4)
    assert report["recall"].value == pytest.approx(precision_recall(x, y)[1], abs=1e-6)
    assert report["coverage"].value == pytest.approx(density_coverage(x, y)[1], abs=1e-6)
    mean, deviation = kernel_distance(x, y, seed=0)
    assert report["kid"].value == pytest.approx(mean, abs=3 * deviation + 1e-6)
    assert report["kid"].error > 0 and report["fd"].error is None


def test_every_line_says_its_protocol_and_json_keeps_it():
    real = ImageSet(pictures(400), None, (), "noise", "noise", split="test")
    report = metrics.score(pictures(200, 1), real, Colours())
    lines = str(report).splitlines()
    assert len(lines) == 7 and lines[0].startswith("FD(colours) ") and " · floor " in lines[0]
    assert all("200 samples v 400 of 400 test images" in line and "seed 0" in line for line in lines)
    kept = json.loads(json.dumps(report.to_dict()))
    assert list(kept) == [f"{m}_colours_200" for m in ("fd", "kid", "is", "precision", "recall", "density", "coverage")]
    assert all({"value", "floor"} | HOW <= set(entry) for entry in kept.values())
    assert report.numbers() == {name: entry["value"] for name, entry in kept.items()}


@pytest.mark.parametrize(("n", "name"), [(300, "fd_colours_300"), (1000, "fd_colours_1k")])
def test_a_name_says_the_count(n, name):
    assert list(metrics.score(pictures(n), pictures(500, 1), Colours(), metrics=("fd",)).numbers()) == [name]


def test_the_floor_is_of_other_reals_at_the_same_counts_where_there_are_enough(monkeypatch):
    monkeypatch.setattr(reference, "KEEP", 500)
    report = metrics.score(pictures(200, 1), pictures(900, 2), Colours(), metrics=("fd",))
    assert report["fd"].protocol["n_real"] == 500
    assert list(report["fd"].protocol["n_floor"]) == [200, 500]
    few = metrics.score(pictures(200, 1), pictures(300, 2), Colours(), metrics=("fd",))
    assert list(few["fd"].protocol["n_floor"]) == [150, 150]


def test_equal_distributions_score_the_floor_and_others_far_above():
    real = pictures(2000)
    alike = metrics.score(pictures(1000, 5), real, Colours())
    other = metrics.score(pictures(1000, 5, 20), real, Colours())
    assert alike["fd"].value < 3 * alike["fd"].floor
    assert other["fd"].value > 20 * other["fd"].floor
    assert other["kid"].value > 10 * abs(other["kid"].floor) + 5 * other["kid"].error
    assert other["recall"].value < 0.5 * other["recall"].floor
    assert other["precision"].value > 0.9


def test_the_protocol_knows_the_average_and_the_mode():
    generator, real = small_generator(), pictures(300)
    plain = metrics.score(generator, real, Colours(), n=100, metrics=("fd",))["fd"]
    generator.averaged = True
    averaged = metrics.score(generator, real, Colours(), n=100, metrics=("fd",))["fd"]
    in_train_mode = metrics.score(generator, real, Colours(), n=100, mode="train", metrics=("fd",))["fd"]
    given = metrics.score(pictures(100), real, Colours(), metrics=("fd",))["fd"]
    assert (plain.protocol["ema"], averaged.protocol["ema"], given.protocol["ema"]) == (False, True, None)
    assert plain.value == averaged.value != in_train_mode.value
    assert in_train_mode.protocol["mode"] == "train" and "train" in str(in_train_mode)


def test_the_reals_are_seen_once_in_the_process_and_once_on_disk(monkeypatch, tmp_path):
    seen = []

    class Counting(Colours):
        def forward(self, pixels):
            seen.append(len(pixels))
            return super().forward(pixels)

    net, real, fake = Counting(), pictures(300), pictures(100, 1)
    first = metrics.score(fake, real, net, metrics=("fd",))
    assert 400 <= sum(seen) <= 402  # two of them are looked at again to know the net
    seen.clear()
    assert metrics.score(fake, real, net, metrics=("fd",)) == first
    assert 100 <= sum(seen) <= 102  # the fakes alone
    seen.clear()
    changed = real.clone()
    changed[0] = 255 - changed[0]
    metrics.score(fake, changed, net, metrics=("fd",))
    assert 400 <= sum(seen) <= 402
    assert any(path.suffix == ".safetensors" for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": ("fid",)}, "There is no metric 'fid'; there are: fd, kid, is"),
        ({"mode": "test"}, "mode is 'test'"),
        ({"resizer": "nearest"}, "resizer is 'nearest'"),
    ],
)
def test_wrong_arguments_get_a_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        metrics.score(small_generator(), pictures(50), Colours(), n=50, **arguments)


def test_too_few_samples_and_nets_without_logits_get_a_sentence():
    with pytest.raises(ValueError, match="2 samples and 4 reals or more, not 1 and 50"):
        metrics.score(pictures(1), pictures(50), Colours())
    with pytest.raises(ValueError, match="of 12 features needs at least 12 samples .* not 8"):
        metrics.score(pictures(8), pictures(50), Colours(), metrics=("fd",))
    with pytest.raises(ValueError, match="logits"):
        metrics.score(pictures(60), pictures(50), lambda pixels: Colours()(pixels)[0], metrics=("is",))


GROWTH = """
import resource, sys, tempfile, pathlib, torch
sys.path.insert(0, "tests")
from test_metrics import Colours, pictures, small_generator
from ganlib import metrics, runtime
runtime.cache_dir = lambda: pathlib.Path(tempfile.mkdtemp())
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
