"""Runs on disk and the command line: settings, presets, checkpoints, reports."""

from importlib import import_module

# Imported on first use: the command line shows its help without torch.
_HOMES = {
    "Run": "folder",
    "branch": "going_back",
    "pretrained": "checkpoint",
    "record": "checkpoint",
    "film": "reports",
}


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"ganlib.runs has no '{name}'; it has: {', '.join(_HOMES)}")
    return getattr(import_module(f"ganlib.runs.{_HOMES[name]}"), name)
