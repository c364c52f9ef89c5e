"""The rest of the minute: what a learner waits for besides training, beside its target.

    python -m benchmarks --only minute
    python -m benchmarks.minute gif          # one of them, once: its seconds

Every measurement is a process of its own, so that it finds nothing in memory that an earlier one left there.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
N_DIGITS = 5000
FRAMES, PICTURES = 64, 64  # of the film, and of each of its frames


def imports() -> float:
    """Every module of ganlib, torch's own time not counted."""
    import torch  # noqa: F401

    start = time.perf_counter()
    import ganlib

    for module in pkgutil.walk_packages(ganlib.__path__, "ganlib."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return time.perf_counter() - start


def torch_alone() -> float:
    """A process that imports torch and makes an optimiser, with which torch imports its compiler, and nothing else."""
    start = time.perf_counter()
    words = "import torch; torch.optim.Adam(torch.nn.Linear(1, 1).parameters())"
    subprocess.run([sys.executable, "-c", words], check=True)
    return time.perf_counter() - start


def first_step() -> float:
    """From calling ``ganlib train`` on digits that are in the cache until it tells of its first step."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--preset", "demo", "--steps", "1", "--print-every", "1", "--out", str(Path(folder) / "run")]
        start, seconds = time.perf_counter(), None
        command = [sys.executable, "-m", "ganlib", "train", *words]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if line.startswith("step 1 of"):
                    seconds = time.perf_counter() - start
        if seconds is None:
            raise RuntimeError("'ganlib train' made no step.")
        return seconds


def gif() -> float:
    """A film of 64 frames, each a grid of 64 digits."""
    from ganlib import load, viz

    images = load("mnist", n=N_DIGITS)
    frames = [images.take(PICTURES, seed).pixels for seed in range(FRAMES)]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        viz.save_gif(frames, Path(folder) / "film.gif")
        return time.perf_counter() - start


def scoring() -> float:
    """The score of 5,000 samples of the demo's generator against 5,000 digits, its floor included."""
    from ganlib import load
    from ganlib.metrics import score_digits
    from ganlib.runs import build
    from ganlib.runs.presets import DEMO

    images = load("mnist", n=N_DIGITS)
    generator = build.players(build.fitted(DEMO, images)).ema_generator
    with _empty_cache():
        start = time.perf_counter()
        score_digits(generator, images, n=N_DIGITS)
        return time.perf_counter() - start


def cifar() -> float:
    """The training images of CIFAR-10 read from the archive that is here, and kept."""
    from ganlib import load

    with _empty_cache():
        start = time.perf_counter()
        load("cifar10", download=False)
        return time.perf_counter() - start


class Wait(NamedTuple):
    """Something to wait for: what it is, how to measure it, and the target in seconds, or None."""

    title: str
    measure: Callable[[], float]
    target: float | None


WAITS = {
    "imports": Wait("import of all of ganlib, beyond torch", imports, 1.5),
    "first_step": Wait("first step of 'ganlib train'", first_step, 3),
    "torch_alone": Wait("  of which torch and an optimiser alone", torch_alone, None),
    "gif": Wait(f"GIF of {FRAMES} frames", gif, 1),
    "scoring": Wait(f"score of {N_DIGITS:,} digits", scoring, 5),
    "cifar": Wait("CIFAR-10 from its archive", cifar, 15),
}


def measure(runs: int = 5) -> dict:
    """Each wait ``runs`` times, in turns, after once uncounted; prints and returns seconds, medians and targets."""
    names = [name for name in WAITS if name != "cifar" or _has_cifar()]
    _seconds("first_step")  # afterwards the digits are in the cache, and the files in the system's
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(runs):
        for name in names:
            seconds[name].append(_seconds(name))
    print(f"\nThe rest of the minute: seconds, median of {runs} processes")
    results = {}
    for name, found in seconds.items():
        median, target = statistics.median(found), WAITS[name].target
        results[name] = {"seconds": found, "median": median, "target": target}
        judged = f"   target {target:g}: {'met' if median <= target else 'MISSED'}" if target else ""
        print(f"  {WAITS[name].title:<42}{median:>7.2f} ({min(found):.2f} to {max(found):.2f}){judged}")
    for name in WAITS.keys() - seconds:
        print(f"  {WAITS[name].title:<42}not measured: there is no copy here; see data/README.md")
    return results


def _seconds(name: str) -> float:
    words = [sys.executable, "-m", "benchmarks.minute", name]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def _has_cifar() -> bool:
    from ganlib.data.sets import SETS

    return next(SETS["cifar10"].copies("train"), None) is not None


@contextlib.contextmanager
def _empty_cache():
    """A temporary folder in the place of ganlib's cache, in which nothing is prepared yet."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GANLIB_CACHE"] = folder
        yield


if __name__ == "__main__":
    print(WAITS[sys.argv[1]].measure())
