"""``python -m benchmarks``: measure speed and quality, print both, and keep them as JSON in ``runs/bench/``."""

import argparse
import json
from datetime import date

import torch

from benchmarks import quality, speed
from ganlib import runtime


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("speed", "quality"), help="one of the two instead of both")
    parser.add_argument("--seconds", type=float, default=60, help="training time of a quality run (default 60)")
    parser.add_argument("--seeds", type=int, default=3, help="quality runs a recipe (default 3)")
    asked = parser.parse_args()
    results: dict = {
        "date": date.today().isoformat(),
        "processor": runtime.processor(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if asked.only != "quality":
        results["speed"] = speed.measure()
    if asked.only != "speed":
        results["quality"] = quality.measure(asked.seeds, asked.seconds)
    path = runtime.new_run_folder("runs/bench") / "results.json"
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(f"\n{path}")


if __name__ == "__main__":
    main()
