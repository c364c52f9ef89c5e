"""ganlib: train generative adversarial networks; hides the plumbing, not the idea.

    from ganlib import GAN, fit, load, viz

or everything at once, like the command line:  ganlib.main(dataset="mnist", epochs=10)
"""

import codecs
import logging
import sys
from importlib import import_module

__version__ = "0.1.0"

# Name -> module that defines it. They are imported on first use (PEP 562), so `ganlib --help` needs no torch.
_HOMES = {
    **dict.fromkeys(("GAN", "frozen"), "ganlib.steps"),
    **dict.fromkeys(("Diverged", "History", "fit", "sample"), "ganlib.train"),
    **dict.fromkeys(("ImageSet", "load"), "ganlib.data"),
    "budget": "ganlib._runtime.budget",
    "progress": "ganlib._runtime.progress",
    "rng": "ganlib._runtime.randomness",
    "Run": "ganlib.runs.folder",
}
_ROOMS = ("data", "latent", "losses", "metrics", "models", "runs", "steps", "train", "viz")


class _Print(logging.Handler):
    """Prints messages to stdout: a notebook would show stderr as an error."""

    def emit(self, record):
        from ganlib._runtime.progress import heard

        with heard():
            print(self.format(record), flush=True)


# A console that is not UTF-8 (of Windows, of a Docker image) gets what comes close, instead of an error.
_PLAIN = {"·": "|", "×": "x", "…": "...", "–": "-", "—": "-", "’": "'", "≥": ">=", "≤": "<=", "→": "->", "−": "-"}
codecs.register_error("ganlib", lambda error: (_PLAIN.get(error.object[error.start], "?"), error.start + 1))
for _stream in (sys.stdout, sys.stderr):
    if hasattr(_stream, "reconfigure"):
        _stream.reconfigure(errors="ganlib")

logging.getLogger("ganlib").addHandler(_Print())
logging.getLogger("ganlib").setLevel(logging.INFO)
logging.getLogger("ganlib").propagate = False  # Colab's root logger would print it again


def main(*, preset=None, **settings):
    """Train a GAN or resume a run: see :func:`ganlib.runs.training.train`.

    ``ganlib.main(dataset="mnist", epochs=10, loss="wgan-gp", out="runs/mine")``; after an interruption
    ``ganlib.main(resume_path="runs/mine")``. The settings are those of :class:`ganlib.runs.config.Config`.
    """
    from ganlib.runs.training import train

    return train(preset=preset, **settings)


def __getattr__(name):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return import_module(f"ganlib.{name}")
    raise AttributeError(f"ganlib has no '{name}'; it has: {', '.join(sorted([*_HOMES, *_ROOMS, 'main']))}")


def __dir__():
    return [*_HOMES, *_ROOMS, "main", "__version__"]
