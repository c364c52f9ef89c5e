"""A machine that is doing something else: steps a second of the demo's recipe under a time limit, beside others.

    python -m benchmarks --only threads
    python -m benchmarks.threads 2 30 --by-time        # one process: threads at first, seconds; its steps a second

Each training is a process of its own. A run by time chooses its threads, the others keep the number that they have.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 20


def rate(threads: int, seconds: float, by_time: bool) -> str:
    """Train in this process; steps a second, and the numbers of threads chosen."""
    import torch

    from ganlib import fit, load
    from ganlib.runs import build
    from ganlib.runs.presets import DEMO

    torch.set_num_threads(threads)
    images = load("mnist", n=5000)
    config = build.fitted(DEMO, images)
    how = dict(batch_size=config.batch_size)
    fit(build.players(config), build.step(config), images, steps=5, watchers=(), **how)
    gan, step = build.players(config), build.step(config)
    if by_time:
        history = fit(gan, step, images, seconds=seconds, watchers=(), **how)
    else:
        stop = [lambda history: history.stop() if history.seconds >= seconds else None]
        history = fit(gan, step, images, steps=2**40, watchers=stop, **how)
    return f"{history.steps / history.seconds} {','.join(str(n) for _, n in history.threads)}"


def measure(rounds: int = 3) -> dict:
    """Each case ``rounds`` times, in turns; prints and returns rates, medians and targets."""
    cores = os.cpu_count()
    rates: dict[str, list[float]] = {}

    def note(name, *trainings, beside=()):
        processes = [subprocess.Popen(words, cwd=ROOT) for words in beside]
        command = [sys.executable, "-m", "benchmarks.threads"]
        how = dict(cwd=ROOT, stdout=subprocess.PIPE, text=True)
        started = [subprocess.Popen([*command, str(n), str(SECONDS), *more], **how) for n, *more in trainings]
        for found in [process.communicate()[0].splitlines()[-1].split() for process in started]:
            rates.setdefault(name, []).append(float(found[0]))
            print(f"  {name:<44}{float(found[0]):>7.1f}   threads chosen: {''.join(found[1:]) or 'none'}", flush=True)
        for process in processes:
            process.kill()
            process.wait()

    busy = [sys.executable, "-c", "while True: pass"]
    print(f"\nA machine that is doing something else: steps a second, {SECONDS} s a run")
    for _ in range(rounds):
        note("alone, all cores, threads kept", [cores])
        note("alone, by time", [cores, "--by-time"])
        note("alone, one thread", [1])
        note("two at once, threads kept", [cores], [cores])
        note("two at once, by time", [cores, "--by-time"], [cores, "--by-time"])
        note("beside a busy process, threads kept", [cores], beside=[busy])
        note("beside a busy process, by time", [cores, "--by-time"], beside=[busy])
    middle = {name: statistics.median(found) for name, found in rates.items()}
    results: dict = {"seconds": SECONDS, "steps_a_second": rates}
    for name, base, target in (
        ("alone, by time", "alone, all cores, threads kept", 0.98),
        ("two at once, by time", "alone, one thread", 0.80),
        ("beside a busy process, by time", "alone, all cores, threads kept", 0.75),
    ):
        share = middle[name] / middle[base]
        results[name] = {"share": share, "of": base, "target": target}
        judged = f"target at least {target:.0%}: {'met' if share >= target else 'MISSED'}"
        print(f"  {name}: {share:.0%} of {base}; {judged}")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("threads", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--by-time", action="store_true")
    with contextlib.redirect_stdout(sys.stderr):
        found = rate(**vars(parser.parse_args()))
    print(found)
