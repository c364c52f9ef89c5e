"""The doctor, measured like a test in medicine: planted bugs that it finds, and healthy runs in which it is silent.

    python -m benchmarks.doctor run        # hours on one core; goes on where it was stopped
    python -m benchmarks.doctor report

Every look's raw values are kept in ``runs/bench/doctor.jsonl``, so that limits can be changed without running anew.
Limits are set on runs with even seeds and reported on those with odd ones.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import time
from pathlib import Path
from types import SimpleNamespace

import torch

from benchmarks import patients
from ganlib._runtime import device as runtime
from ganlib._runtime.randomness import seed_step
from ganlib.metrics.doctor import Doctor, texts

PATH = Path("runs/bench/doctor.jsonl")
LOOKS = {1, 4, 8, 20, 35, 50, 100, *range(200, 1000, 15)}
SECONDS = 5.0  # of processor time for a run, at most
DATA = ("digits", "faces", "points")


def quality(gan, reals) -> float:
    """The mean distance from a sample to the nearest real, the smaller the better."""
    with torch.no_grad():
        gan.ema_generator.eval()
        fakes = gan.ema_generator(gan.fixed_z).flatten(1)
    return torch.cdist(fakes, reals.flatten(1)).amin(1).mean().item()


def follow(run: patients.Run) -> dict:
    """Train, with looks of the doctor; its raw values and the time of both."""
    gan, doctor = run.gan, Doctor(run.held_out)
    told = SimpleNamespace(losses={}, scores=[], best_by=("distance", "lowest"))
    reals = torch.cat([next(run.batches) for _ in range(4)])
    begun, stopped = time.process_time(), None
    gan.generator.train(), gan.discriminator.train()
    for done in range(1, run.steps + 1):
        seed_step(gan.seed, gan.steps_done, torch.device("cpu"))
        for name, value in run.step(gan, run.batches).items():
            told.losses.setdefault(name, []).append(float(torch.as_tensor(value).detach()))
        if not all(math.isfinite(values[-1]) for values in told.losses.values()):
            stopped = "not finite"
            break
        run.average(gan.ema_generator, gan.generator, gan.ema_decay, gan.steps_done)
        gan.steps_done = done
        if done % 25 == 0:
            told.scores.append((done, {"distance": quality(gan, reals)}))
        if done in LOOKS:
            doctor.look(gan, run.step, patients.copied(run.batches), told, run.images)
            gone = time.process_time() - begun
            if gone > SECONDS or (gone > SECONDS / 2 and gone / done * 230 > 2 * SECONDS):  # too slow to see it grow up
                break
    looks = [
        {"step": note.step, "values": {k: float(f"{v:.4g}") for k, v in note.values.items()}} for note in doctor.notes
    ]
    seconds = time.process_time() - begun
    return {"steps": gan.steps_done, "seconds": round(seconds, 2), "doctor": round(doctor.spent, 2)} | {
        "stopped": stopped,
        "looks": looks,
    }


def runs(seeds: int):
    """All runs, seed by seed: (kind, name, data, seed, what makes it)."""
    ill, well = patients.bugs(), patients.healthy()
    for seed in range(seeds):
        for name, (_, make) in ill.items():
            for data in DATA:
                yield "bug", name, data, seed, make
        for name, make in well.items():
            yield "healthy", name, "", seed, make


def measure(seeds: int, only: str | None, part: tuple[int, int]) -> None:
    """Make the runs that are not in the file yet; of ``part`` (k, n) every n-th, from the k-th on."""
    PATH.parent.mkdir(parents=True, exist_ok=True)
    there = {tuple(line[k] for k in ("kind", "name", "data", "seed")) for line in read()}
    for *key, make in itertools.islice(runs(seeds), part[0], None, part[1]):
        kind, name, data, seed = key
        if tuple(key) in there or (only and only not in (kind, name)):
            continue
        with contextlib.suppress(patients.NotThere):
            made = follow(make(data, seed) if data else make(seed))
            line = dict(zip(("kind", "name", "data", "seed"), key, strict=True)) | made
            with PATH.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            found = ", ".join(f"{check} {step}" for check, step in spoken(line).items())
            print(f"{name} · {data} · {seed}: {made['steps']} steps in {made['seconds']} s: {found}", flush=True)


def read() -> list[dict]:
    """The runs so far."""
    return [json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines()] if PATH.exists() else []


def spoken(line: dict, silent: bool = False) -> dict[str, int]:
    """What the doctor says of a run, by today's limits: check -> step."""
    found = {}
    for check, said in texts().items():
        if said.get("silent") and not silent:
            continue
        above = [look["values"].get(check, -math.inf) > said["limit"] for look in line["looks"]]
        for k in range(due := said.get("looks", 1), len(above) + 1):
            if all(above[k - due : k]):
                found[check] = line["looks"][k - 1]["step"]
                break
    return found


def report(parity: int | None = 1) -> list[str]:
    """A table of the runs with odd seeds: detection, the step at which it spoke, false alarms."""
    lines = [line for line in read() if parity is None or line["seed"] % 2 == parity]
    ill = patients.bugs()
    rows, caught, among = [], 0, 0
    for name, group in itertools.groupby(sorted((x for x in lines if x["kind"] == "bug"), key=_name), _name):
        group = list(group)
        at = [min((step for check, step in spoken(x).items() if check in ill[name][0]), default=None) for x in group]
        steps = sorted(step for step in at if step is not None)
        caught, among = caught + len(steps), among + len(group)
        when = f"{steps[len(steps) // 2]:,}" if steps else "–"
        others = sorted({check for x in group for check in spoken(x)} - ill[name][0])
        rows.append(f"| {name} | {len(steps)} of {len(group)} | {when} | {', '.join(others)} |")
    well = [line for line in lines if line["kind"] == "healthy"]
    alarms = [(x["name"], x["seed"], spoken(x)) for x in well if spoken(x)]
    rows.append(f"\n{caught} of {among} found; {len(alarms)} false alarms in {len(well)} healthy runs: {alarms}")
    return rows


def _name(line: dict) -> str:
    return line["name"]


def extremes() -> list[str]:
    """For each check: the highest value in healthy runs, and the lowest of the highest in its patients."""
    ill, rows = patients.bugs(), []
    for check in texts():
        best = {}
        for line in (x for x in read() if x["seed"] % 2 == 0):
            if line["kind"] == "bug" and check not in ill[line["name"]][0]:
                continue
            values = [look["values"][check] for look in line["looks"] if check in look["values"]]
            due = texts()[check].get("looks", 1)
            tops = [min(values[k - due : k]) for k in range(due, len(values) + 1)]
            if tops:
                best.setdefault(line["kind"], []).append((max(tops), line["name"], line["data"], line["seed"]))
        well, sick = sorted(best.get("healthy", []))[-3:], sorted(best.get("bug", []))[:3]
        rows.append(f"{check} limit {texts()[check]['limit']}\n   healthy {well}\n   ill {sick}")
    return rows


def main() -> None:
    """Run, or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report", "limits"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", help="healthy, bug, or the name of one")
    parser.add_argument(
        "--part", type=int, nargs=2, default=(0, 1), help="k n: every n-th run, for n processes at once"
    )
    parser.add_argument("--all", action="store_true", help="report even seeds, too")
    asked = parser.parse_args()
    print(f"{runtime.processor()} · torch {torch.__version__} · {torch.get_num_threads()} threads")
    if asked.what == "run":
        measure(asked.seeds, asked.only, asked.part)
    else:
        print(*(extremes() if asked.what == "limits" else report(None if asked.all else 1)), sep="\n")


if __name__ == "__main__":
    main()
