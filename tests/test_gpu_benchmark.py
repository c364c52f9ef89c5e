"""``python -m benchmarks.gpu`` on a virtual card: every check runs, fails alone, and is kept; no figures."""

import json
import shutil
from functools import partial

import pytest
from test_cuda import gpu  # noqa: F401 - a fixture
from virtual_graph import VirtualGraph

from benchmarks import gpu as bench
from ganlib import steps


@pytest.fixture
def check(gpu, monkeypatch, tmp_path, quickly):  # noqa: F811
    """Runs the checks with these words in their names; returns how many failed, and all that was found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "PAIRS", [("ns", "batch"), ("wgan-gp", "layer")])
    monkeypatch.setattr(bench, "in_another_process", lambda *words: bench.main([*words]))
    monkeypatch.setattr(bench, "notebook", lambda path, do: {"name": path.stem})

    def run(*words, minutes=5):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        failed = bench.main(["--tiny", "--minutes", str(minutes), *words])
        return failed, json.loads((tmp_path / "runs" / "bench" / "gpu.json").read_text())

    return run


def test_every_check_passes_on_the_virtual_card(check):
    failed, found = check()
    assert failed == 0, {name: each for name, each in found["checks"].items() if not each["ok"]}
    names = {each.__name__ for each in bench.CHECKS}
    assert names <= {*found["checks"]} and found["card"] == "virtual" and "notebook 01_dcgan_mnist" in found["checks"]
    assert found["checks"]["eager_twice_and_as_a_graph"]["pairs"] == 2


def test_a_failure_is_counted_and_the_rest_goes_on(check, monkeypatch, capsys):
    own = VirtualGraph.replay

    def wrong(graph):
        own(graph)
        graph.operations = graph.operations[: len(graph.operations) // 2]  # only the check of a graph at once is right

    monkeypatch.setattr(VirtualGraph, "replay", wrong)
    failed, found = check("--only", "eager", "facts")
    assert failed == 1 and found["checks"]["facts"]["ok"] and not found["checks"]["eager_twice_and_as_a_graph"]["ok"]
    assert "ns batch, graph" in found["checks"]["eager_twice_and_as_a_graph"]["error"]
    failed, found = check(minutes=0)
    assert failed == 0 and {each["ok"] for each in found["checks"].values()} == {None}


def test_a_wait_and_a_wrong_gradient_are_found(check, monkeypatch):
    def waits(gan, batches):
        record = steps.dcgan_step(gan, batches)
        return {name: value.item() for name, value in record.items()}

    monkeypatch.setitem(bench.GAMES, "ns", (waits, ("batch",), bench.adam))
    failed, found = check("--only", "waits", "eager")
    assert failed == 2 and "waits for the GPU" in found["checks"]["eager_twice_and_as_a_graph"]["error"]
    own = steps.losses._full
    monkeypatch.setattr(steps.losses, "_full", lambda x: own(x) * (1.1 if x.device.type == "cuda" else 1))
    failed, found = check("--only", "cpu")
    assert failed == 1 and "too far from float64" in found["checks"]["against_the_cpu"]["error"]


def test_every_step_and_norm_has_its_game():
    played = {game[0].func if isinstance(game[0], partial) else game[0] for game in bench.GAMES.values()}
    assert played == {*steps.STEPS.values()}
