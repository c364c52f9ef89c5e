"""``python -m benchmarks``: measure speed, choices, waiting and quality, print them beside their targets, and keep
them as JSON in ``runs/bench/``."""

import argparse
import functools
import json
from datetime import date

import torch

from benchmarks import choices, minute, quality, speed, threads
from ganlib._runtime import device as runtime


def main() -> None:
    """Run the benchmarks, or those that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("speed", "choices", "minute", "threads", "quality", "quality-cifar10")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="some of the parts instead of all")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of each measurement of time (default 5)")
    parser.add_argument("--seeds", type=int, default=5, help="quality runs a recipe (default 5)")
    parser.add_argument("--seconds", type=float, help="training time of a quality run (default 60, of CIFAR-10 600)")
    asked = parser.parse_args()
    seconds = {} if asked.seconds is None else {"seconds": asked.seconds}
    measure = {
        "speed": functools.partial(speed.measure, asked.rounds),
        "choices": functools.partial(choices.measure, asked.rounds),
        "minute": functools.partial(minute.measure, asked.rounds),
        "threads": functools.partial(threads.measure, asked.rounds),
        "quality": functools.partial(quality.measure, asked.seeds, **seconds),
        "quality-cifar10": functools.partial(quality.measure_cifar10, asked.seeds, **seconds),
    }
    results: dict = {
        "date": date.today().isoformat(),
        "processor": runtime.processor(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    print(f"{results['processor']} · torch {results['torch']} · {results['threads']} threads")
    path = runtime.new_run_folder("runs/bench") / "results.json"
    for part in asked.only:
        results[part] = measure[part]()
        path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")  # so far, should the rest not come
    print(f"\n{path}")


if __name__ == "__main__":
    main()
