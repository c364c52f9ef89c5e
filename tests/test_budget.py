"""Budgets shrink with the profile, and nothing else does."""

import pytest

from ganlib import budget
from ganlib._runtime import device as runtime


@pytest.mark.parametrize(
    ("profile", "expected"),
    [("full", (6000, 60_000, 250, 20)), ("cpu", (1500, 5000, 62, 20)), ("ci", (12, 300, 1, 2))],
)
def test_values_of_each_profile(monkeypatch, capsys, profile, expected):
    monkeypatch.setenv("GANLIB_PROFILE", profile)
    cfg = budget(steps=6000, n_train=60_000, snapshot_every=250, epochs=20)
    assert (cfg.steps, cfg.n_train, cfg.snapshot_every, cfg.epochs) == expected
    printed = capsys.readouterr().out
    assert f"profile {profile}" in printed and "GANLIB_PROFILE" in printed
    assert vars(budget(n_train=100, steps=2)) == {"n_train": 100, "steps": 2}  # never more than the full value


@pytest.mark.parametrize(("device", "profile"), [("cuda", "full"), ("mps", "cpu"), ("cpu", "cpu")])
def test_only_cuda_is_worth_the_full_budget(monkeypatch, capsys, device, profile):
    monkeypatch.setattr(runtime, "device", lambda: runtime.torch.device(device))
    budget(steps=10)
    assert f"profile {profile}" in capsys.readouterr().out
    budget("cpu", steps=10)  # what trains there is none the faster for a GPU
    assert "profile cpu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("profile", "full", "message"),
    [
        ("ci", {"width": 64}, "'width'.*steps, epochs"),
        ("ci", {"steps": 0}, "steps is 0"),
        ("x", {"steps": 9}, "'x'.*cpu"),
    ],
)
def test_wrong_input_gets_a_sentence(monkeypatch, profile, full, message):
    monkeypatch.setenv("GANLIB_PROFILE", profile)
    with pytest.raises((TypeError, ValueError), match=message):
        budget(**full)
