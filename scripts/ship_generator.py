"""Put the generator of a long run among those that come with ganlib, and how the run went beside it.

    python scripts/ship_generator.py celeba runs/celeba-translation --beside runs/celeba-plain

Takes the running average of the newest checkpoint (or of --step) in half precision, which halves the file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save

from ganlib.runs import checkpoint

LARGEST = 8_000_000  # bytes: it is in every copy of the repository


def halved(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights in half precision; counters stay."""
    return {name: w.half().contiguous() if w.is_floating_point() else w for name, w in weights.items()}


def moments(run: Path) -> list[dict]:
    """The scores of a run on its way, rounded to four digits."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    scores = [json.loads(line) for line in lines]
    return [{"step": s.pop("step"), **{name: float(f"{value:.4g}") for name, value in s.items()}} for s in scores]


def main() -> None:
    """Write model.json, ema_generator.safetensors and record.json, and say how large they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the generator")
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="runs to compare it with")
    parser.add_argument("--step", type=int, help="of the checkpoint; by itself the newest")
    parser.add_argument("--to", type=Path, default=checkpoint.PRETRAINED, help="folder of all of them")
    args = parser.parse_args()
    step = args.step or checkpoint.steps_in(args.run)[-1]
    there, out = checkpoint.step_folder(args.run, step), args.to / args.name
    about = json.loads((there / "model.json").read_text(encoding="utf-8"))
    content = save(halved(checkpoint.read_network(there, "ema_generator")))
    if len(content) > LARGEST:
        raise SystemExit(
            f"The generator has {len(content):,} bytes, but {LARGEST:,} are the most; train a narrower one."
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "ema_generator.safetensors").write_bytes(content)
    hashes = {"ema_generator": hashlib.sha256(content).hexdigest()}
    model = {"steps_done": about["steps_done"], "sha256": hashes, "ema_generator": about["ema_generator"]}
    (out / "model.json").write_text(json.dumps(model, indent=2) + "\n", encoding="utf-8")
    record = {run.name: moments(run) for run in (args.run, *args.beside)}
    (out / "record.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    checkpoint.pretrained(args.name) if args.to == checkpoint.PRETRAINED else checkpoint.load_generator(out)
    print(f"{out}: step {step:,}, {len(content):,} bytes")


if __name__ == "__main__":
    main()
