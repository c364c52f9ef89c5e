"""Images a second: the tutorial's loop against ``fit``, same model, batch and loss, in turns in one process; and, of
the first demo's small networks, ``fit`` as it was against ``fit`` as it is, in turns in processes of their own."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import conv2d
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from benchmarks.quality import FIRST_DEMO
from ganlib import GAN, ImageSet, fit, load, models, rng
from ganlib._runtime import device as runtime
from ganlib.runs import build
from ganlib.runs.config import changed
from ganlib.steps import dcgan_step

BETAS = (0.5, 0.999)
LR = 2e-4


class PILDataset(Dataset):
    """Images as a tutorial reads them: one PIL image at a time through torchvision's transforms."""

    def __init__(self, images: ImageSet):
        self.files = [to_pil_image(pixels) for pixels in images.pixels]
        size, channels = images.image_size, images.channels
        self.transform = transforms.Compose(
            [
                transforms.Resize(size),
                transforms.CenterCrop(size),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * channels, (0.5,) * channels),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int):
        return self.transform(self.files[index])


def tutorial_loop(generator, discriminator, images: ImageSet, batch_size: int, z_dim: int, steps: int) -> float:
    """Seconds for ``steps`` steps of the loop of PyTorch's DCGAN example, written anew from its description:
    DataLoader over PIL images, float32, a sigmoid and BCELoss against labels, Adam, gradients for all weights in
    every backward, losses read each step."""
    where = runtime.device()
    generator.to(where).train()
    discriminator = nn.Sequential(discriminator, nn.Sigmoid()).to(where).train()
    criterion = nn.BCELoss()
    g_opt = torch.optim.Adam(generator.parameters(), LR, BETAS)
    d_opt = torch.optim.Adam(discriminator.parameters(), LR, BETAS)
    loader = DataLoader(PILDataset(images), batch_size, shuffle=True, drop_last=True, num_workers=0)
    done, start = 0, time.perf_counter()
    while True:
        for batch in loader:
            real = batch.to(where)
            label = torch.full((batch_size,), 1.0, device=where)
            discriminator.zero_grad()
            d_real = criterion(discriminator(real), label)
            d_real.backward()
            fake = generator(torch.randn(batch_size, z_dim, device=where))
            label.fill_(0.0)
            d_fake = criterion(discriminator(fake.detach()), label)
            d_fake.backward()
            d_opt.step()
            generator.zero_grad()
            label.fill_(1.0)
            g_loss = criterion(discriminator(fake), label)
            g_loss.backward()
            g_opt.step()
            _ = d_real.item() + d_fake.item(), g_loss.item()
            done += 1
            if done == steps:
                return time.perf_counter() - start


def ours(generator, discriminator, images: ImageSet, batch_size: int, z_dim: int, steps: int) -> float:
    """Seconds for ``steps`` steps of the same through ``fit``."""
    g_opt = torch.optim.Adam(generator.parameters(), LR, BETAS)
    d_opt = torch.optim.Adam(discriminator.parameters(), LR, BETAS)
    gan = GAN(generator, discriminator, g_opt, d_opt, z_dim)
    return fit(gan, dcgan_step, images, steps=steps, batch_size=batch_size, watchers=()).seconds


class Case(NamedTuple):
    """What is timed: so many steps, and how often the tutorial's rate ``fit`` is to reach with AMX and without.

    Those of the large networks are some ten seconds of ``fit``: each call of it asks the system for memory anew, for
    0.14 s.
    """

    steps: int
    with_amx: float | None
    without: float | None


CASES = {
    "64x64x3 width 64 batch 128": Case(24, 4, 1.25),
    "pooled 28x28 batch 200": Case(24, 4, None),
    "first demo 28x28 batch 64": Case(60, None, None),
}
LOOPS = {"tutorial loop": tutorial_loop, "fit": ours}


def players(case: str):
    """Generator, discriminator, images, batch size and z_dim of one of the cases."""
    if case.startswith("64x64x3"):
        images = load("fake", image_size=64, channels=3, n=1024)
        return models.dcgan_generator(64, 3, 64), models.dcgan_discriminator(64, 3, 64), images, 128, 100
    if case.startswith("pooled"):
        return models.pooled_generator(), models.pooled_discriminator(), load("mnist", n=1000), 200, 100
    images = load("mnist", n=5000)
    gan = build.players(FIRST_DEMO)
    return gan.generator, gan.discriminator, images, FIRST_DEMO.batch_size, FIRST_DEMO.z_dim


def gflop_a_step(loop, case: str) -> float:
    """Floating-point operations, in billions, of one step of ``loop``, counted by torch."""
    with FlopCounterMode(display=False) as counter:
        loop(*players(case), steps=1)
    return counter.get_total_flops() / 1e9


def precision_of_fit(case: str) -> torch.dtype:
    """What ``fit`` computes this case in on this machine."""
    generator, discriminator, *_ = players(case)
    n = models.count_parameters(generator) + models.count_parameters(discriminator)
    return runtime.choose_precision(runtime.device(), n)


def peak(dtype: torch.dtype, repeats: int = 5) -> float:
    """The best GFLOP/s of this machine in ``dtype``: of a large matrix product, or of a large convolution, which is
    another library's and on AMD's processors the faster of the two."""
    a, b = (torch.randn(2048, 2048, generator=rng(s)).to(runtime.device(), dtype) for s in (0, 1))
    maps = a.view(32, 128, 32, 32).to(memory_format=torch.channels_last)
    kernels = b.flatten()[: 128 * 128 * 9].view(128, 128, 3, 3).to(memory_format=torch.channels_last)
    work = {2 * 2048**3: lambda: a @ b, 2 * maps.numel() * 128 * 9: lambda: conv2d(maps, kernels, padding=1)}
    best = 0.0
    for flop, compute in work.items():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            compute()[0, 0].sum().item()  # reading a number off a GPU waits for it
            best = max(best, flop / (time.perf_counter() - start) / 1e9)
    return best


def measure(rounds: int = 5) -> dict:
    """Both loops in turns, ``rounds`` times so many steps each, after one to warm up; then ``fit`` against what it was.

    Prints and returns rates, medians and targets.
    """
    peaks = {"fp32": peak(torch.float32)}
    amx = runtime.has_fast_bf16(runtime.device())
    if amx:
        peaks["bf16"] = peak(torch.bfloat16)
    print("\npeak: " + ", ".join(f"{k} {v:,.0f} GFLOP/s" for k, v in peaks.items()))
    results: dict = {"peak_gflops": peaks}
    for case, (steps, with_amx, without) in CASES.items():
        rates: dict[str, list[float]] = {"tutorial loop": [], "fit": []}
        for _ in range(rounds):
            for name, loop in LOOPS.items():
                *nets, images, batch_size, z_dim = players(case)
                loop(*nets, images, batch_size, z_dim, 1)
                rates[name].append(steps * batch_size / loop(*nets, images, batch_size, z_dim, steps))
        pairs = zip(rates["fit"], rates["tutorial loop"], strict=True)
        ratio = statistics.median(f / t for f, t in pairs)
        target = with_amx if amx else without
        print(f"\n{case}")
        row: dict = {"ratio": ratio, "target": target}
        for name, values in rates.items():
            median = statistics.median(values)
            gflop = gflop_a_step(LOOPS[name], case)
            gflops = median / batch_size * gflop
            bf16 = name == "fit" and precision_of_fit(case) == torch.bfloat16
            share = gflops / peaks["bf16" if bf16 else "fp32"]
            row[name] = {
                "images_a_second": values,
                "median": median,
                "gflop_a_step": gflop,
                "gflops": gflops,
                "share_of_peak": share,
            }
            low, high = min(values), max(values)
            print(
                f"  {name:<14}{median:>8.1f} images/s ({low:.1f} to {high:.1f}){gflop:>8,.3g} GFLOP a step"
                f"{gflops:>8.1f} GFLOP/s{share:>6.0%} of the {'bf16' if bf16 else 'fp32'} peak"
            )
        print(f"  fit / tutorial loop: {ratio:.2f} (median of {rounds} pairs){_judged(ratio, target)}")
        results[case] = row
    if found := against_before(rounds):
        results["first demo, against before"] = found
    return results


def _judged(ratio: float, target: float | None) -> str:
    return f", target at least {target:g}: {'met' if ratio >= target else 'MISSED'}" if target else ""


BEFORE = "a5e4dec"  # ganlib as it was before anybody looked into what a step of small networks takes
TARGET_OVER_BEFORE = 1.5

# Run with a ganlib of any revision, in which the same things have had other names and places: steps a second of the
# first demo's recipe.
DEMO_RATE = f"""
import sys
import torch
try:
    from ganlib.runs import build
    from ganlib.runs.config import Config
except ImportError:
    from ganlib import games as build
    from ganlib.config import Config
from ganlib.steps import dcgan_step
from ganlib.train import fit
images = torch.load(sys.argv[1])
recipe = Config(**{changed(FIRST_DEMO)})
gan = build.players(recipe)
how = dict(batch_size=recipe.batch_size)
if "progress" in fit.__kwdefaults__:
    how |= dict(ema_decay=recipe.ema_decay, progress=False)
else:
    how |= dict(watchers=())
fit(gan, dcgan_step, images, steps=20, **how)
print(200 / fit(gan, dcgan_step, images, steps=200, **how).seconds)
"""


def against_before(rounds: int) -> dict | None:
    """Steps a second of the first demo's recipe with ``fit`` of the revision ``BEFORE`` and of now, in turns, and of
    now with one thread; None where that revision is not in the checkout."""
    here = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as there:
        archive = subprocess.run(["git", "archive", BEFORE, "ganlib"], cwd=here, capture_output=True)
        if archive.returncode != 0:
            print(f"\nfit before and now: not measured, as this checkout does not have the revision {BEFORE}")
            return None
        subprocess.run(["tar", "-x", "-C", there], input=archive.stdout, check=True)
        digits = Path(there) / "digits.pt"
        torch.save(load("mnist", n=5000).pixels, digits)
        kinds = {"before": (there, {}), "now": (here, {}), "now, 1 thread": (here, {"OMP_NUM_THREADS": "1"})}
        rates: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, (place, threads) in kinds.items():
                environment = os.environ | threads | {"PYTHONPATH": str(place)}
                command = [sys.executable, "-c", DEMO_RATE, str(digits)]
                done = subprocess.run(
                    command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True, check=True
                )
                rates[name].append(float(done.stdout.splitlines()[-1]))
    ratio = statistics.median(n / b for n, b in zip(rates["now"], rates["before"], strict=True))
    print(f"\nfirst demo 28x28 batch 64: fit at {BEFORE} and now")
    for name, values in rates.items():
        print(f"  {name:<14}{statistics.median(values):>8.1f} steps/s ({min(values):.1f} to {max(values):.1f})")
    print(f"  now / before: {ratio:.2f} (median of {rounds} pairs){_judged(ratio, TARGET_OVER_BEFORE)}")
    return {"steps_a_second": rates, "revision": BEFORE, "ratio": ratio, "target": TARGET_OVER_BEFORE}
