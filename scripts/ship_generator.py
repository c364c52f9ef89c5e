"""Put the generator of a long run among those that come with ganlib, and how the run went beside it.

    python scripts/ship_generator.py celeba runs/celeba-translation --beside runs/celeba-plain

Takes the running average of the newest checkpoint (or of --step) in half precision, which halves the file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from ganlib.runs import checkpoint

LARGEST = 8_000_000  # bytes: it is in every copy of the repository


def ship(weights: dict[str, torch.Tensor], config: dict, steps_done: int, path: Path) -> None:
    """Write a checkpoint of one generator alone, its weights in half precision; counters stay as they are."""
    halved = {f"ema_generator/{k}": w.half() if w.is_floating_point() else w for k, w in weights.items()}
    facts = {"steps_done": steps_done, "networks": {"ema_generator": config}}
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_checkpoint(path, {name: w.contiguous() for name, w in halved.items()}, facts)
    if (size := path.stat().st_size) > LARGEST:
        path.unlink()
        raise SystemExit(f"The generator has {size:,} bytes, but {LARGEST:,} are the most; train a narrower one.")


def moments(run: Path) -> list[dict]:
    """The scores of a run on its way, rounded to four digits."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    scores = [json.loads(line) for line in lines]
    return [{"step": s.pop("step"), **{name: float(f"{value:.4g}") for name, value in s.items()}} for s in scores]


def main() -> None:
    """Write NAME.safetensors and NAME.json, and say how large the generator is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the generator")
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="runs to compare it with")
    parser.add_argument("--step", type=int, help="of the checkpoint; default: the newest")
    parser.add_argument("--to", type=Path, default=checkpoint.PRETRAINED, help="folder of all of them")
    args = parser.parse_args()
    step = args.step or checkpoint.steps_in(args.run)[-1]
    there, path = checkpoint.path_of(args.run, step), args.to / f"{args.name}.safetensors"
    tensors, facts = checkpoint.read_checkpoint(there)
    ship(checkpoint.part_of(tensors, "ema_generator"), facts["networks"]["ema_generator"], step, path)
    record = {run.name: moments(run) for run in (args.run, *args.beside)}
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    checkpoint.load_generator(path)
    print(f"{path}: step {step:,}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
