"""The examples and the benchmarks, run with tiny budgets: what they leave, and that they never overwrite it."""

import json
from dataclasses import replace

import imageio.v3 as iio
import pytest

from benchmarks import choices, minute, quality, speed
from benchmarks import cifar10 as race
from ganlib import fit, load, models
from ganlib.metrics import score
from ganlib.runs import build, checkpoint, film, record
from ganlib.runs.checkpoint import load_generator, path_of
from ganlib.runs.config import Config
from ganlib.runs.presets import CELEBA, DEMO
from helpers import load_script


def started(monkeypatch, name, *words):
    """The module of an example whose command line has these words."""
    monkeypatch.setattr("sys.argv", [f"{name}.py", *words])
    return load_script(name, "examples")


def promised(folder, printed, names=("samples.png", "training.gif", "curves.png", "metrics.json", "checkpoints")):
    """What its metrics.json says, if it and the rest are there and were named."""
    assert all((folder / name).exists() and str(folder / name) in printed for name in names)
    return json.loads((folder / "metrics.json").read_text())


def test_the_demo_leaves_what_it_promises_twice(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GANLIB_PROFILE", "ci")
    demo = load_script("demo", "examples")
    # A busy machine must not decide how many frames there are.
    monkeypatch.setattr(demo, "fit", lambda *args, **how: fit(*args, **how | {"steps": 45, "seconds": None}))
    demo.main(tmp_path / "demo")
    first = {path: path.read_bytes() for path in (tmp_path / "demo").rglob("*") if path.is_file()}
    demo.main(tmp_path / "demo")
    assert all(path.read_bytes() == content for path, content in first.items())
    printed = capsys.readouterr().out
    for folder in (tmp_path / "demo", tmp_path / "demo-2"):
        record = promised(folder, printed)
    assert iio.improps(folder / "training.gif", index=None).n_images == 2  # before the first step and after 40
    assert record["steps"] == 45 and "FD(digitnet)" in printed
    assert record["fd_digitnet_200"] > record["fd_digitnet_200_floor"] > 0
    assert load_generator(folder).z_dim == DEMO.z_dim


def test_the_ring_leaves_what_it_promises(tmp_path, capsys):
    load_script("ring", "examples").main(tmp_path / "ring", steps=6, every=3)
    record = promised(tmp_path / "ring", capsys.readouterr().out, ("training.gif", "last.png", "metrics.json"))
    assert iio.improps(tmp_path / "ring" / "training.gif", index=None).n_images == 3
    assert record["steps"] == 6 and record["real"]["modes"] == 8 and record["real"]["share_on_a_mode"] > 0.98
    assert record["share_on_a_mode"] < 0.5


def test_the_ladder_is_climbed_once_and_packed_into_what_the_library_reads(monkeypatch, tmp_path, capsys):
    faces, runs = load("fake", n=256, image_size=32, channels=3), str(tmp_path / "runs")
    words = ["run", "--seconds", "0.01", "--seeds", "4", "--runs", runs]
    ladder = started(monkeypatch, "modern_ladder", *words, "--rungs", "DCGAN", "lazy penalties", "schedules")
    monkeypatch.setattr(ladder, "load", lambda *_, **__: faces)
    monkeypatch.setattr(ladder, "SAMPLES", 100)
    ladder.main()
    assert capsys.readouterr().out.count("fd_ema") == 3
    ladder.main()  # all is there
    assert "fd_ema" not in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["modern_ladder.py", "pack", "--runs", runs, "--out", str(tmp_path)])
    ladder.main()
    packed = json.loads((tmp_path / "modern.json").read_text())
    assert [*packed] == ["DCGAN", "schedules", "lazy penalties"]
    for (one,) in packed.values():
        assert one["seed"] == 4 and one["steps"] >= 1 and one["fd_raw"] > one["fd_floor"] > 0
    shipped = {name: len(seeds) for name, seeds in record("modern").items()}
    assert shipped == dict.fromkeys([*ladder.RUNGS, *ladder.SIDE], 3)


def test_the_runs_on_record_are_trained_and_packed_into_what_the_library_reads(monkeypatch, tmp_path, capsys):
    runs, out, gif = tmp_path / "runs", tmp_path / "out", tmp_path / "training.gif"
    monkeypatch.setattr(build, "score_for", lambda images: lambda generator: {"fd_digitnet_1k": 2.0})
    monkeypatch.setattr(checkpoint, "PRETRAINED", out)
    out.mkdir()
    for words in (["wgan-gp", "--steps", "21"], ["spoilt"], ["pack", "--out", str(out), "--film", str(gif)]):
        script = started(monkeypatch, "wgan_record", *words, "--runs", str(runs))
        monkeypatch.setattr(script, "SPOILT", ((30, 5), (1, 5)))
        script.main()
    moments = record("wgan")
    assert [moment["step"] for moment in moments["wgan-gp"]] == [20]
    assert [moment["step"] for moment in moments["spoilt"]] == [20, 26, 31]
    assert moments["spoilt"][0]["fd_digitnet_1k"] == 2.0 and moments["spoilt"][0]["estimate"] > 0
    assert [(step, list(images.shape)) for step, images in film("wgan", "spoilt")] == [
        (step, [16, 1, 28, 28]) for step in (20, 26, 31)
    ]
    assert iio.improps(gif, index=None).n_images == 3


def test_the_grid_draws_both_games_and_says_what_they_cover(monkeypatch, tmp_path, capsys):
    grid25 = started(monkeypatch, "grid25", "--steps", "40", "--out", str(tmp_path / "grid25"))
    grid25.main()
    printed = capsys.readouterr().out
    record = promised(tmp_path / "grid25", printed, ("training.gif", "metrics.json"))
    assert record["games"].keys() == grid25.GAMES.keys()
    assert all(found["steps"] == 40 and f"{name} {found}" in printed for name, found in record["games"].items())
    film = iio.imread(tmp_path / "grid25" / "training.gif", index=None)
    assert len(film) > 10 and (film[0] != film[-1]).any()


def test_a_long_run_leaves_what_it_promises_and_is_resumed(monkeypatch, tmp_path, capsys):
    folder, printed = tmp_path / "faces", ""
    for steps in ("6", "7"):
        words = ["--samples", "150", "--score-every", "2", "--g-lr", "1e-3", "--augment", "flip", "translation"]
        module = started(monkeypatch, "long_run", "celeba", *words, "--out", str(folder), "--steps", steps)
        monkeypatch.setattr(module, "HELD_OUT", 140)
        monkeypatch.setattr(module, "GLANCE", 100)
        small = replace(CELEBA, dataset="toyfaces", n=320, image_size=32, g_width=4, d_width=4, keep_epochs=(1,))
        monkeypatch.setitem(module.PRESETS, "celeba", small)
        module.main()
        printed += capsys.readouterr().out
    record = promised(folder, printed)
    assert record["steps"] == 7 and record["images_seen"] == 7 * 32 and record["data"].startswith("180 of ")
    during = record["during_training"]
    assert [moment["step"] for moment in during] == [0, 2, 4, 6]
    assert {"seen", "held_out", "fake", "r_v", "fd_cifarnet_100"} <= during[-1].keys()
    assert record["recipe"]["augment"] == ["flip", "translation"] and record["recipe"]["g_lr"] == 1e-3
    best = min(during[1:], key=lambda moment: moment["fd_cifarnet_100"])["step"]
    assert all(path_of(folder, step).is_file() for step in (5, 7, best))  # 5: after the first epoch


def test_the_speed_benchmark_times_both_loops(monkeypatch):
    def tiny(case):
        images = load("fake", image_size=28, channels=1, n=32)
        return models.dcgan_generator(28, 1, 4), models.dcgan_discriminator(28, 1, 4), images, 8, 100

    monkeypatch.setattr(speed, "players", tiny)
    monkeypatch.setattr(speed, "peak", lambda dtype: 50.0)
    monkeypatch.setattr(speed, "CASES", {case: about._replace(steps=1) for case, about in speed.CASES.items()})
    monkeypatch.setattr(speed, "against_before", lambda rounds: None)
    results = speed.measure(rounds=1)
    for case in speed.CASES:
        found = results[case]
        assert found["ratio"] == pytest.approx(found["fit"]["median"] / found["tutorial loop"]["median"])
        # The generator's update needs no gradients of the discriminator's weights; only fit knows.
        assert 0.5 < found["fit"]["gflop_a_step"] / found["tutorial loop"]["gflop_a_step"] < 1


def test_fit_is_measured_against_what_it_was(monkeypatch, capsys):
    program = "import os, ganlib; print(2.0 if os.path.exists('pyproject.toml') else 1.0)"
    monkeypatch.setattr(speed, "DEMO_RATE", program)
    monkeypatch.setattr(speed, "BEFORE", "HEAD")
    found = speed.against_before(rounds=2)
    if found is not None:  # None outside of a checkout
        rates = found["steps_a_second"]
        assert rates == {"before": [1.0] * 2, "now": [2.0] * 2, "now, 1 thread": [2.0] * 2} and found["ratio"] == 2
    monkeypatch.setattr(speed, "BEFORE", "no-such-revision")
    assert speed.against_before(rounds=1) is None and "not measured" in capsys.readouterr().out


def test_the_quality_benchmark_compares_medians(monkeypatch, capsys):
    monkeypatch.setattr(quality, "N_IMAGES", 128)
    monkeypatch.setattr(quality, "N_SAMPLES", 64)
    results = quality.measure(seeds=2, seconds=0.01)
    assert [len(rows) for rows in results["runs"].values()] == [2, 2]
    plain, demo = (sum(row["fd_digitnet_64"] for row in rows) / 2 for rows in results["runs"].values())
    assert results["ratio"] == pytest.approx(demo / plain)
    printed = capsys.readouterr().out
    assert "median of 2 seeds" in printed and "target: at most 0.33" in printed
    low, high = results["spreads"]["demo"]["fd_digitnet_64"]
    assert low <= results["medians"]["demo"]["fd_digitnet_64"] <= high


def test_the_cifar_clock_scores_what_it_trained(monkeypatch):
    monkeypatch.setattr(quality, "load", lambda name: load("fake", image_size=32, channels=3, n=256))
    monkeypatch.setattr(quality, "N_SAMPLES", 64)
    tiny = Config(dataset="cifar10", image_size=32, channels=3, z_dim=4, g_width=2, d_width=2, batch_size=16)
    row = quality.pictures(tiny, seed=3, seconds=0.01)
    assert row["seed"] == 3 and row["steps"] >= 1 and row["fd_cifarnet_64"] > row["fd_cifarnet_64_floor"] > 0


def test_the_minute_is_measured_in_processes_of_their_own(monkeypatch, capsys):
    quick = {name: wait for name, wait in minute.WAITS.items() if name in ("gif", "scoring")}
    monkeypatch.setattr(minute, "WAITS", quick)
    monkeypatch.setattr(minute, "_seconds", lambda name: {"gif": 0.5, "scoring": 7.0, "first_step": 1.0}[name])
    found = minute.measure(runs=3)
    assert found["gif"] == {"seconds": [0.5] * 3, "median": 0.5, "target": 1}
    met, missed = capsys.readouterr().out.splitlines()[-2:]
    assert met.endswith("target 1: met") and missed.endswith("target 5: MISSED")
    monkeypatch.undo()
    assert minute._seconds("gif") > 0 and minute.imports() > 0 and minute._has_cifar() in (True, False)


def test_the_choices_of_fit_are_measured_against_the_others(monkeypatch, capsys):
    tiny = Config(image_size=16, channels=1, z_dim=4, g_width=2, d_width=2, batch_size=8)
    monkeypatch.setattr(choices, "NETWORKS", {"tiny": tiny})
    monkeypatch.setattr(choices, "costs", lambda rounds: {})
    found = choices.measure(rounds=1)["tiny"]
    assert found["chosen"] == "channels last, fp32" and set(found["medians"]) >= {found["chosen"], "contiguous, fp32"}
    assert 0 < found["share_of_best"] <= 1 and "channels last, fp32* " in capsys.readouterr().out


def test_a_cost_that_is_a_straight_line_is_found_to_be_one(monkeypatch):
    def rate(recipe, layout, precision, images):  # 3 ms, and 0.5 ms for each image of a batch
        return recipe.batch_size / (0.003 + 0.0005 * recipe.batch_size)

    monkeypatch.setattr(choices, "rate", rate)
    found = choices.costs(rounds=1)
    assert found["batch size"]["line"] == pytest.approx([3, 0.5]) and found["batch size"]["furthest_off"] < 1e-9
    assert found["width"]["line"] == pytest.approx([35, 0])


def test_the_race_judges_each_entrant_after_the_same_images_and_is_resumed(monkeypatch, tmp_path):
    small = Config(image_size=32, channels=3, z_dim=4, g_width=2, d_width=2, batch_size=16, g_lr=0.1)
    monkeypatch.setattr(race, "FOLDER", tmp_path)
    monkeypatch.setattr(
        race, "load", lambda name, image_size=32: load("fake", image_size=image_size, channels=3, n=256)
    )
    monkeypatch.setattr(race, "score", lambda *args, **how: score(*args, **how | {"n": 100, "metrics": ("fd",)}))
    rows = race.race("small", small, [32, 96], "fp32")
    assert [row["images"] for row in rows] == [32, 96] and [row["steps"] for row in rows] == [2, 6]
    assert all(row["ema"]["fd_cifarnet_100"]["value"] > row["ema"]["fd_cifarnet_100"]["floor"] for row in rows)
    assert rows[0]["ema"] != rows[1]["ema"] and rows[1]["no_ema"] != rows[1]["ema"]
    (tmp_path / "small-96.json").unlink()  # interrupted before the last judgement
    again = race.race("small", small, [32, 96], "fp32")
    assert again[0] == rows[0] and again[1]["steps"] == 6 and again[1]["ema"] == rows[1]["ema"]
    monkeypatch.setattr(race, "fit", None)  # a second call judges nothing again
    assert race.race("small", small, [32, 96], "fp32") == again
