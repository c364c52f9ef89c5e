"""How long to run: minutes on a laptop, longer on a GPU, seconds in a test."""

from __future__ import annotations

import os
from types import SimpleNamespace

from ganlib._runtime import device as runtime
from ganlib._runtime.checks import check_whole

# How each profile scales a full value. Only budgets: never a width, a learning rate or a loss.
PROFILES = {
    "full": {"steps": 1.0, "epochs": 1.0, "seconds": 1.0, "n_train": 1.0, "n_samples": 1.0},
    "cpu": {"steps": 1 / 4, "epochs": 1.0, "seconds": 1.0, "n_train": 1 / 12, "n_samples": 1 / 2},
    "ci": {"steps": 1 / 500, "epochs": 1 / 10, "seconds": 1 / 60, "n_train": 1 / 200, "n_samples": 1 / 50},
}
SMALLEST = {"steps": 4, "epochs": 1, "seconds": 1, "n_train": 256, "n_samples": 128}


def budget(device: str | None = None, /, **full: int) -> SimpleNamespace:
    """Scale a notebook's budgets to this machine, and print the profile.

    The profile is ``GANLIB_PROFILE``. Default: ``full`` with CUDA, ``cpu`` without.

    Args:
        device: what trains, if that is not the best device: ``"cpu"``.
        **full: budgets for a GPU: ``steps`` (and ``anything_every``, counted in steps), ``epochs``, ``seconds``,
            ``n_train`` (training images), ``n_samples`` (images scored); whole numbers from 1 on.

    Returns:
        the same names, each with a whole number up to the full one.
    """
    chosen = os.environ.get("GANLIB_PROFILE") or ("full" if (device or runtime.device().type) == "cuda" else "cpu")
    if chosen not in PROFILES:
        raise ValueError(f"GANLIB_PROFILE is '{chosen}', but must be one of: {', '.join(PROFILES)}.")
    cfg = SimpleNamespace()
    for name, value in full.items():
        kind = "steps" if name.endswith("_every") else name
        if kind not in SMALLEST:
            raise TypeError(f"'{name}' is not a budget; there are {', '.join(SMALLEST)} and names ending in _every.")
        check_whole(**{name: value})
        least = 1 if name.endswith("_every") else SMALLEST[kind]
        setattr(cfg, name, min(value, max(least, round(value * PROFILES[chosen][kind]))))
    others = " or ".join(p for p in PROFILES if p != chosen)
    print(f"profile {chosen}: " + ", ".join(f"{k} {v:,}" for k, v in vars(cfg).items()))
    print(f"(another: set the environment variable GANLIB_PROFILE to {others} before the first cell)")
    return cfg
