"""``python -m benchmarks.gpu [--minutes 8]``: what only a real CUDA card can show, for the day there is one.

Correctness first (each step on each net against the CPU in float64; eager twice and as a graph, bit for bit; resumed in
a new process; no wait inside a step; 16 bits near 32), then speed and memory, how good digits are after so many
seconds, and every cell of every notebook. Each check is on its own: one that fails is named, and the next goes on.
Everything is in ``runs/bench*/gpu.json`` as soon as it is known; the exit code is the number of failures. It needs no
network. A check that would begin after the given time is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import math
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for deterministic products, before CUDA starts
os.environ.setdefault("GANLIB_DOWNLOAD", "0")

import torch
from torch import nn

from benchmarks import speed
from ganlib import GAN, ImageSet, fit, load, models, rng, steps, train
from ganlib._runtime import device as runtime
from ganlib._runtime import graphs, scaling
from ganlib.data.augment import augmented
from ganlib.data.images import Batches
from ganlib.metrics import score_digits
from ganlib.runs import Run, build, checkpoint
from ganlib.runs.presets import DEMO

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ["tests/virtual_notebook.py", "real"]  # the script that runs a notebook's cells, and its word for this card
RESUMED = 12  # steps of the run that two processes share
# How much there is to do: the steps of a run that is compared; of one in 16 bits; seconds of each measurement of speed;
# the seconds after which digits are scored, and of how many.
FULL = argparse.Namespace(steps=20, half_steps=200, timed=2.0, moments=(10, 30, 60), n_scored=5000, width=32, size=32)
TINY = argparse.Namespace(steps=7, half_steps=4, timed=0.01, moments=(0.05, 0.1), n_scored=100, width=4, size=8)

adam = functools.partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))
rmsprop = functools.partial(torch.optim.RMSprop, lr=5e-5)
few_updates = dict(n_critic=2)
# name -> the step, the discriminators it is played with, and how they are trained
GAMES = {
    "ns": (steps.dcgan_step, ("batch", "layer", "spectral", "augmented"), adam),
    "ns-r1": (functools.partial(steps.dcgan_r1_step, r1_every=2), ("batch", "none"), adam),
    "minimax": (steps.minimax_step, ("batch",), adam),
    "hinge": (steps.hinge_step, ("spectral", "dropout"), adam),
    "rpgan": (steps.rpgan_step, ("none", "instance"), adam),
    "wgan": (functools.partial(steps.wgan_step, **few_updates), ("none",), rmsprop),
    "wgan-gp": (functools.partial(steps.wgan_gp_step, **few_updates), ("none", "layer"), adam),
}
PAIRS = [(game, net) for game, (_, nets, _) in GAMES.items() for net in nets]


def players(net: str, optimiser: Callable, do, width: int | None = None, **how) -> GAN:
    """A DCGAN whose discriminator has this norm, or is augmented, or has dropout."""
    norm = net if net in ("batch", "layer", "spectral", "none", "instance") else "batch"
    generator = models.dcgan_generator(do.size, 3, width or do.width, 32, seed=1)
    discriminator = models.dcgan_discriminator(do.size, 3, width or do.width, norm=norm, seed=2)
    if net == "augmented":
        augmented(discriminator, ("colour", "translation", "cutout"))
    if net == "dropout":
        discriminator.insert(2, nn.Dropout(0.3))
    return GAN(generator, discriminator, *(optimiser(n.parameters()) for n in (generator, discriminator)), 32, **how)


def reals(do, n: int = 256) -> ImageSet:
    """Noise in colour, mirrored at random."""
    pixels = torch.randint(0, 256, (n, 3, do.size, do.size), generator=rng(0)).to(torch.uint8)
    return ImageSet(pixels, None, (), "noise", "noise").with_flips()


def trained(game: str, net: str, do, *, eager: bool = False, n: int | None = None, **how):
    """The history and the state of a short run, as a graph where it can be."""
    step, _, optimiser = GAMES[game]
    gan = players(net, optimiser, do)
    with patch.object(graphs, "WARM_UP", math.inf if eager else graphs.WARM_UP):
        history = fit(gan, step, reals(do), steps=n or do.steps, batch_size=16, **{"watchers": ()} | how)
    return history, checkpoint.capture(gan)[0]


def differing(these: dict, others: dict) -> list[str]:
    """The names of the tensors that differ in any bit."""
    return [name for name, value in these.items() if not torch.equal(value, others[name])]


@contextlib.contextmanager
def exactly(deterministic: bool = True) -> Iterator[None]:
    """Without TF32, and with deterministic kernels."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


# The checks: each returns what it found, or raises an AssertionError.


def facts(do) -> dict:
    """The card and its libraries, and what ganlib makes of them."""
    where = torch.device("cuda")
    free, total = torch.cuda.mem_get_info()
    chosen = {n: str(runtime.choose_precision(where, n)) for n in (100_000, 10_000_000)}
    found = {"capability": torch.cuda.get_device_capability(), "memory_gb": total / 1e9, "free_gb": free / 1e9}
    return found | {"bf16": runtime.has_fast_bf16(where), "precision": chosen}


def against_the_cpu(do) -> dict:
    """The losses and gradients of each step on each net, against the CPU in float64."""
    worst = {}
    for game, net in PAIRS:
        step, found = GAMES[game][0], []
        for device in ("cuda", "cpu"):
            gan = players(net, functools.partial(torch.optim.SGD, lr=1e-3), do)
            dtype = torch.float32 if device == "cuda" else torch.float64
            for network in (gan.generator, gan.discriminator):
                network.to(device, dtype)
            torch.default_generator.manual_seed(0)
            torch.cuda.manual_seed(0)
            batches = (real.to(device, dtype) for real in Batches(reals(do), 16))
            gan.sample_z = lambda n, gan=gan, dtype=dtype: GAN.sample_z(gan, n).to(dtype)
            if net == "dropout":  # which has other random numbers on each device
                gan.discriminator.apply(lambda layer: setattr(layer, "p", 0.0))
            record = step(gan, batches)
            weights = [w for network in (gan.generator, gan.discriminator) for w in network.parameters()]
            found.append(
                [
                    *(torch.as_tensor(v).detach() for v in record.values()),
                    *(w.grad for w in weights if w.grad is not None),
                ]
            )
        mine, exact = ([value.double().cpu() for value in values] for values in found)
        off = [(a - b).norm() / b.norm().clamp_min(1e-6) for a, b in zip(mine, exact, strict=True)]
        worst[f"{game} {net}"] = torch.stack(off).max().item()
    assert max(worst.values()) < 1e-2, f"too far from float64: {max(worst, key=worst.get)}"
    return {"relative_distance": worst}


def eager_twice_and_as_a_graph(do) -> dict:
    """Each step on each net: bit for bit the same."""
    differ, eager = {}, {}
    for game, net in PAIRS:
        first, again, graph = (trained(game, net, do, eager=eager) for eager in (True, True, False))
        if graph[0].eager:
            eager[f"{game} {net}"] = graph[0].eager
        for name, (history, state) in {"twice": again, "graph": graph}.items():
            if history.losses != first[0].losses or differing(state, first[1]):
                differ[f"{game} {net}, {name}"] = differing(state, first[1])[:5]
    assert not differ and not eager, f"{differ or ''} {eager or ''}"
    return {"pairs": len(PAIRS)}


def resumed(folder: str | Path, n: int, do=FULL) -> dict:
    """The state of the run in a folder after ``n`` steps, most of them as a graph."""
    run = Run(folder, resume=True)
    return trained("wgan-gp", "layer", do, n=n, run=run, snapshot_every=4)[1]


def in_another_process(*words: str) -> None:
    """Run this program there."""
    command = [sys.executable, "-m", "benchmarks.gpu", *words]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def saved_and_resumed_in_a_new_process(do) -> dict:
    """A run in two processes ends where one process does."""
    folder = runtime.new_run_folder("runs/gpu-check")
    straight = resumed(folder / "straight", RESUMED, do)
    resumed(folder / "parts", RESUMED // 2, do)
    in_another_process("--resume", str((folder / "parts").resolve()), *["--tiny"] * (do is TINY))
    differ = differing(checkpoint.newest(folder / "parts")[0], checkpoint.newest(folder / "straight")[0])
    assert not differ, differ
    return {"tensors": len(straight)}


def no_step_waits(do) -> dict:
    """Under ``set_sync_debug_mode("error")``, eager and as a graph, between two looks of ``fit``."""
    waits = {}
    for (game, net), eager in itertools.product(PAIRS, (True, False)):
        seen = []

        def watch(history, seen=seen):
            seen.append(1)
            strict = 4 <= len(seen) < do.steps - 1  # by then a graph is captured; the last step is a look
            torch.cuda.set_sync_debug_mode("error" if strict and history.running else "default")

        try:
            trained(game, net, do, eager=eager, watchers=[watch])
        except RuntimeError as error:
            waits[f"{game} {net}, {'eager' if eager else 'graph'}"] = str(error)[:200]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert not waits, waits
    return {"runs": 2 * len(PAIRS)}


def sixteen_bits(do) -> dict:
    """fp16 and bf16 stay finite, and their losses near those of fp32."""
    found = {}
    for game, precision in itertools.product(("ns", "wgan-gp"), ("fp32", *precisions())):
        losses = trained(game, "layer", do, n=do.half_steps, precision=precision)[0].losses
        found[f"{game} {precision}"] = {n: sum(v[-do.half_steps // 2 :]) * 2 / do.half_steps for n, v in losses.items()}
    for name, means in found.items():
        for loss, exact in found[f"{name.split()[0]} fp32"].items():
            assert abs(means[loss] - exact) < 0.5 + 0.3 * abs(exact), (name, loss, means[loss], exact)
    return {"mean_losses": found}


def precisions() -> list[str]:
    """Those of 16 bits that this card has."""
    return ["fp16", "bf16"] if runtime.has_fast_bf16(torch.device("cuda")) else ["fp16"]


def images_a_second(do) -> dict:
    """The tutorial's loop; ``fit`` eager and as a graph, by layout and precision; and the most memory of each."""
    found: dict = {}
    for case in speed.CASES if do is FULL else list(speed.CASES)[2:]:
        *nets, images, batch, z_dim = speed.players(case)
        speed.tutorial_loop(*nets, images, batch, z_dim, 2)
        n = 20 if do is FULL else 2
        rows = {"tutorial loop": n * batch / speed.tutorial_loop(*nets, images, batch, z_dim, n)}
        ways = itertools.product((True, False), (torch.channels_last, torch.contiguous_format), ("fp32", *precisions()))
        for eager, layout, precision in ways:
            generator, discriminator, *_ = speed.players(case)
            gan = GAN(generator, discriminator, adam(generator.parameters()), adam(discriminator.parameters()), z_dim)
            how = dict(batch_size=batch, precision=precision, watchers=())
            torch.cuda.reset_peak_memory_stats()
            with (
                patch.object(train, "memory_layout", lambda *_, layout=layout: layout),
                patch.object(graphs, "WARM_UP", math.inf if eager else graphs.WARM_UP),
            ):
                history = fit(gan, steps.dcgan_step, images, seconds=do.timed, **how)
            name = f"{'eager' if eager else 'graph'}, {str(layout).removeprefix('torch.')}, {precision}"
            gigabytes = torch.cuda.max_memory_allocated() / 1e9
            rows[name] = {"images_a_second": history.steps * batch / history.seconds, "peak_gb": gigabytes}
            rows[name] |= {"eager": history.eager} if history.eager and not eager else {}
        found[case] = rows
    return found


def digits_after_seconds(do) -> dict:
    """FD(digitnet) of the demo's recipe after so many seconds of training."""
    images = load("mnist", n=5000)
    gan, found, before = build.players(build.fitted(DEMO, images)), {}, 0.0
    for moment in do.moments:
        history = fit(gan, build.step(DEMO), images, seconds=moment - before, batch_size=DEMO.batch_size, watchers=())
        scored = score_digits(gan.ema_generator, images, n=do.n_scored)
        found[f"{moment:g} s"] = {"steps": gan.steps_done, "fd": scored.fd, "sure": scored.sure, "eager": history.eager}
        before = moment
    return found


def notebook(path: Path, do) -> dict:
    """Every cell of a notebook, at tiny budgets."""
    script, card = NOTEBOOK
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, str(ROOT / script), str(path), card]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-2000:]
    return {}


CHECKS: list[Callable] = [facts, against_the_cpu, eager_twice_and_as_a_graph, saved_and_resumed_in_a_new_process]
CHECKS += [no_step_waits, sixteen_bits, images_a_second, digits_after_seconds]
EXACT = CHECKS[1:4]


def check(function: Callable, do) -> dict:
    """What one check found, in how many seconds; or how it failed."""
    begun = time.perf_counter()
    try:
        with exactly() if function in EXACT else contextlib.nullcontext():
            found = {"ok": True, **function(do)}
    except Exception as error:
        place = traceback.format_exc(limit=-3)
        found = {"ok": False, "error": f"{type(error).__name__}: {error}"[:2000], "at": place[-2000:]}
    return found | {"seconds": time.perf_counter() - begun}


def main(words: list[str] | None = None) -> int:
    """Run the checks that there is time for; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="no check begins later than this (default 8)")
    parser.add_argument("--only", nargs="+", help="words in the names of the checks to run")
    parser.add_argument("--tiny", action="store_true", help="as little as possible of each, for a test")
    parser.add_argument("--resume", help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    do, end = TINY if asked.tiny else FULL, time.monotonic() + 60 * asked.minutes
    if asked.resume:
        with exactly():
            resumed(asked.resume, RESUMED, do)
        return 0
    if not torch.cuda.is_available():
        parser.error("there is no CUDA card here.")
    about = {"date": date.today().isoformat(), "torch": torch.__version__, **runtime.card(torch.device("cuda"))}
    results: dict = about | {"processor": runtime.processor(), "first_scale": scaling.FIRST_SCALE, "checks": {}}
    out = runtime.new_run_folder("runs/bench") / "gpu.json"
    cells = [functools.partial(notebook, path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    named = {each.__name__: each for each in CHECKS} | {f"notebook {each.args[0].stem}": each for each in cells}
    for name, function in named.items():
        if asked.only and not any(word in name for word in asked.only):
            continue
        found = check(function, do) if time.monotonic() < end else {"ok": None, "error": "no time left"}
        results["checks"][name] = found
        out.write_text(json.dumps(results, indent=2, default=str) + "\n")
        print(f"{name}: {'left out' if found['ok'] is None else 'ok' if found['ok'] else found['error']}", flush=True)
    failed = sum(found["ok"] is False for found in results["checks"].values())
    print(f"{failed} failed · {out}")
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 100))
