"""The demo and the benchmarks, run with tiny budgets: what they leave, and that they never overwrite it."""

import importlib.util
import json

import imageio.v3 as iio
import pytest

from benchmarks import quality, speed
from ganlib import models
from ganlib.checkpoint import load_generator
from ganlib.data import load
from ganlib.presets import DEMO
from ganlib.train import fit
from helpers import ROOT


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.setenv("GANLIB_PROFILE", "ci")
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def steps_instead_of_seconds(*args, **kwargs):  # a busy machine must not decide how many frames there are
        return fit(*args, **{**kwargs, "steps": 45, "seconds": None})

    monkeypatch.setattr(module, "fit", steps_instead_of_seconds)
    return module


def test_the_demo_leaves_what_it_promises_twice(demo, tmp_path, capsys):
    demo.main(tmp_path / "demo")
    first = {path: path.read_bytes() for path in (tmp_path / "demo").rglob("*") if path.is_file()}
    demo.main(tmp_path / "demo")
    assert all(path.read_bytes() == content for path, content in first.items())
    printed = capsys.readouterr().out
    for run in ("demo", "demo-2"):
        folder = tmp_path / run
        for name in ("samples.png", "training.gif", "curves.png", "metrics.json", "checkpoints"):
            assert (folder / name).exists()
            assert str(folder / name) in printed
    assert iio.improps(folder / "training.gif", index=None).n_images == 2  # before the first step and after 40
    record = json.loads((folder / "metrics.json").read_text())
    assert record["steps"] == 45 and "FD(digitnet)" in printed
    assert record["fd_digitnet_200"] > record["fd_digitnet_200_floor"] > 0
    assert load_generator(folder).z_dim == DEMO.z_dim


def test_the_speed_benchmark_times_both_loops(monkeypatch):
    def tiny(case):
        images = load("fake", image_size=28, channels=1, n=32)
        return models.dcgan_generator(28, 1, 4), models.dcgan_discriminator(28, 1, 4), images, 8, 100

    monkeypatch.setattr(speed, "players", tiny)
    monkeypatch.setattr(speed, "matmul_peak", lambda dtype: 50.0)
    results = speed.measure(rounds=1, steps=1)
    for case in speed.CASES:
        found = results[case]
        assert found["ratio"] == pytest.approx(found["fit"]["median"] / found["tutorial loop"]["median"])
        # The generator's update needs no gradients of the discriminator's weights; only fit knows.
        assert 0.5 < found["fit"]["gflop_a_step"] / found["tutorial loop"]["gflop_a_step"] < 1


def test_the_quality_benchmark_compares_medians(monkeypatch, capsys):
    monkeypatch.setattr(quality, "N_IMAGES", 128)
    monkeypatch.setattr(quality, "N_SAMPLES", 64)
    results = quality.measure(seeds=2, seconds=0.01)
    assert [len(rows) for rows in results["runs"].values()] == [2, 2]
    plain, demo = (sum(row["fd_digitnet_64"] for row in rows) / 2 for rows in results["runs"].values())
    assert results["ratio"] == pytest.approx(demo / plain)
    assert "median of 2 seeds" in capsys.readouterr().out
