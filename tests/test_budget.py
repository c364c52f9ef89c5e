"""Budgets shrink with the profile, and nothing else does."""

import pytest

from ganlib._runtime import budget as module
from ganlib._runtime.budget import budget


@pytest.mark.parametrize(
    ("profile", "expected"),
    [("full", (6000, 60_000, 250, 20)), ("cpu", (1500, 5000, 62, 20)), ("ci", (12, 300, 1, 2))],
)
def test_values_of_each_profile(monkeypatch, capsys, profile, expected):
    monkeypatch.setenv("GANLIB_PROFILE", profile)
    cfg = budget(steps=6000, n_train=60_000, snapshot_every=250, epochs=20)
    assert (cfg.steps, cfg.n_train, cfg.snapshot_every, cfg.epochs) == expected
    printed = capsys.readouterr().out
    assert f"profile {profile}" in printed
    assert all(other in printed for other in module.PROFILES)
    assert "GANLIB_PROFILE" in printed


def test_never_more_than_the_full_value(monkeypatch):
    monkeypatch.setenv("GANLIB_PROFILE", "ci")
    assert budget(n_train=100, steps=2).__dict__ == {"n_train": 100, "steps": 2}


@pytest.mark.parametrize(("device", "profile"), [("cuda", "full"), ("mps", "cpu"), ("cpu", "cpu")])
def test_only_cuda_is_worth_the_full_budget(monkeypatch, device, profile):
    monkeypatch.setattr(module.runtime, "device", lambda: module.runtime.torch.device(device))
    assert module.profile() == profile


def test_wrong_input_gets_a_sentence(monkeypatch):
    monkeypatch.setenv("GANLIB_PROFILE", "ci")
    with pytest.raises(TypeError, match="'width' is not a budget; there are steps, epochs"):
        budget(width=64)
    with pytest.raises(ValueError, match="steps=0"):
        budget(steps=0)
    monkeypatch.setenv("GANLIB_PROFILE", "laptop")
    with pytest.raises(ValueError, match="'laptop', but must be one of: full, cpu, ci"):
        budget(steps=10)
