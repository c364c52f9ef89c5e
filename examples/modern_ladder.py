"""Climb from DCGAN to a small R3GAN, one change a rung, and pack what each rung scores: notebook 08's record.

python examples/modern_ladder.py run          (every rung, three seeds; stop it and start it again as you like)
python examples/modern_ladder.py run --seeds 1 --rungs DCGAN R1
python examples/modern_ladder.py pack

Equal time is equal processor time on one thread, so that it may share a machine with others.
"""

import argparse
import json
import math
import time
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import relu, softplus

from ganlib import GAN, fit, load, rng, sample
from ganlib._runtime import device as runtime
from ganlib.losses import r1_penalty, r2_penalty
from ganlib.metrics import cifar_net, score
from ganlib.models import initialise
from ganlib.residual import GAIN, Bottleneck
from ganlib.runs.checkpoint import PRETRAINED
from ganlib.steps import frozen

Z_DIM, BATCH, RATE, BETAS, GAMMA = 100, 32, 2e-3, (0.0, 0.99), 0.05
WIDTHS = (32, 64, 128), (24, 48, 96)  # of the generator's and the discriminator's maps at 16, 8 and 4 pixels
SAMPLES = 2000  # that are scored


class Residual(nn.Module):
    """``x + branch(x)`` with two 3x3 convolutions; the second is 0 at first."""

    def __init__(self, width: int, blocks: int, draw: torch.Generator):
        super().__init__()
        first, second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1, bias=False)
        scaled(first, GAIN * blocks**-0.5, draw)
        scaled(second, 0.0, draw)
        self.branch = nn.Sequential(first, nn.LeakyReLU(0.2), second)

    def forward(self, x):
        """[B, C, H, W] -> the same shape."""
        return x + self.branch(x)


def scaled(layer: nn.Module, gain: float, draw: torch.Generator) -> None:
    """Draw weights N(0, gain^2 / inputs); biases are 0."""
    transposed = isinstance(layer, nn.ConvTranspose2d)
    inputs = layer.in_channels * (math.prod(layer.kernel_size) // (math.prod(layer.stride) if transposed else 1))
    inputs = layer.in_channels if transposed and layer.stride[0] == 1 else inputs  # a map of 1x1 has one place
    layer.weight.data.normal_(0.0, 1.0, generator=draw).mul_(gain / inputs**0.5)
    if layer.bias is not None:
        layer.bias.data.zero_()


# What each rung changes; the changes of those above stay.
RUNGS = {
    "DCGAN": {},
    "no BatchNorm": dict(norm=False),
    "relativistic pairs": dict(loss="relativistic"),
    "R1": dict(r1=GAMMA),
    "R2": dict(r2=GAMMA),
    "residual blocks": dict(block=Residual),
    "bilinear": dict(bilinear=True),
    "grouped bottlenecks": dict(block=Bottleneck),
    "schedules": dict(schedules=True),
}
SIDE = {"lazy penalties": dict(every=4), "hinge, spectral norm": dict(loss="hinge", spectral=True)}


def settings(name: str) -> dict:
    """Everything that holds on a rung; hinge stands beside DCGAN, laziness on top of it all."""
    names = list(RUNGS)
    below = names[: names.index(name) + 1] if name in RUNGS else names if name == "lazy penalties" else names[:1]
    plain = dict(norm=True, loss="ns", r1=0.0, r2=0.0, every=1, block=None, bilinear=False, schedules=False)
    plain |= dict(spectral=False)
    for rung in below:
        plain |= RUNGS[rung]
    return plain | SIDE.get(name, {})


def generator(seed, norm, block, bilinear, **_) -> nn.Module:
    """z [B, 100] -> images [B, 3, 32, 32]."""
    draw, maps = rng(2 * seed), WIDTHS[0][::-1]
    layers = [nn.Unflatten(1, (Z_DIM, 1, 1)), nn.ConvTranspose2d(Z_DIM, maps[0], 4)]
    for before, after in pairwise([*maps, 3]):
        if block:
            layers += [block(before, 3, draw)]
        else:
            layers += [nn.BatchNorm2d(before), nn.ReLU()] if norm else [nn.ReLU()]
        if bilinear and after == 3:
            layers += [nn.Upsample(scale_factor=2, mode="bilinear"), nn.LeakyReLU(0.2), nn.Conv2d(before, 3, 3, 1, 1)]
        elif bilinear:
            layers += [nn.Conv2d(before, after, 1), nn.Upsample(scale_factor=2, mode="bilinear")]
        else:
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1)]
    return first_weights(nn.Sequential(*layers, nn.Tanh()), 2 * seed, block, draw)


def discriminator(seed, norm, block, bilinear, spectral, **_) -> nn.Module:
    """Images [B, 3, 32, 32] -> logits [B]."""
    draw, maps, layers = rng(2 * seed + 1), WIDTHS[1], []
    if bilinear:
        layers += [nn.Conv2d(3, maps[0], 3, padding=1), nn.LeakyReLU(0.2), nn.AvgPool2d(2)]
    for before, after in pairwise([3, *maps]):
        if not bilinear:
            layers += [nn.Conv2d(before, after, 4, 2, 1)]
        elif before != 3:
            layers += [nn.AvgPool2d(2), nn.Conv2d(before, after, 1)]
        if block:
            layers += [block(after, 3, draw)]
        else:
            layers += [nn.BatchNorm2d(after)] if norm and not spectral and before != 3 else []
            layers += [nn.LeakyReLU(0.2)]
    network = nn.Sequential(*layers, nn.Conv2d(maps[-1], 1, 4), nn.Flatten(0))
    first_weights(network, 2 * seed + 1, block, draw)
    for layer in network if spectral else ():
        if isinstance(layer, nn.Conv2d):
            nn.utils.parametrizations.spectral_norm(layer)
    return network


def first_weights(network: nn.Sequential, seed: int, block, draw: torch.Generator) -> nn.Module:
    """DCGAN's N(0, 0.02); with residual blocks all scaled to keep the size of signals."""
    if not block:
        return initialise(network, seed)
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            scaled(layer, 1.0, draw)
    return network


def make_step(loss, r1, r2, every, **_):
    """One update of both players."""

    def step(gan, batches):
        D, real = gan.discriminator, next(batches)
        fake = gan.generator(gan.sample_z(len(real)))
        d_loss = d_side(loss, D(real), D(fake.detach()))
        due, penalty = gan.steps_done % every == 0, 0.0
        if r1 and due:
            penalty = penalty + every * r1 * gan.stretch * r1_penalty(D, real)
        if r2 and due:
            penalty = penalty + every * r2 * gan.stretch * r2_penalty(D, fake.detach())
        gan.d_opt.zero_grad()
        (d_loss + penalty).backward()
        gan.d_opt.step()
        with frozen(D):
            real_logits = D(real) if loss == "relativistic" else None
            g_loss = g_side(loss, real_logits, D(fake))
            gan.g_opt.zero_grad()
            g_loss.backward()
        gan.g_opt.step()
        return {"d_loss": d_loss, "g_loss": g_loss}

    return step


def d_side(loss, x, y):
    """The discriminator's loss for the logits of reals and fakes."""
    if loss == "relativistic":
        return softplus(y - x).mean()
    if loss == "hinge":
        return relu(1 - x).mean() + relu(1 + y).mean()
    return softplus(-x).mean() + softplus(y).mean()


def g_side(loss, x, y):
    """The generator's."""
    if loss == "hinge":
        return -y.mean()
    return softplus(x - y).mean() if loss == "relativistic" else softplus(-y).mean()


def climb(name: str, seed: int, seconds: float, images, net) -> dict:
    """Train a rung for so many seconds of processor time, and score it with and without EMA."""
    how = settings(name)
    players = generator(seed, **how), discriminator(seed, **how)
    adam = [torch.optim.Adam(player.parameters(), RATE, BETAS) for player in players]
    gan = GAN(*players, *adam, Z_DIM, seed, ema_decay=0.99, device="cpu")
    gan.stretch, begun = 1.0, time.process_time()

    def watch(history):
        share = (time.process_time() - begun) / seconds
        if how["schedules"]:
            cosine = (1 + math.cos(math.pi * min(share, 1))) / 2  # 1 -> 0
            gan.stretch = 0.5 * 10**cosine  # the penalties' weights: 5 times -> half
            for optimiser in adam:
                optimiser.param_groups[0].update(lr=RATE * (0.25 + 0.75 * cosine), betas=(0.0, 0.99 - 0.09 * cosine))
        if share >= 1:
            history.stop()

    steps = fit(gan, make_step(**how), images, steps=10**6, batch_size=BATCH, watchers=[watch], precision="fp32").steps
    found = {"seed": seed, "steps": steps, "seconds": round(time.process_time() - begun, 1)}
    for which, network in (("raw", gan.generator), ("ema", gan.ema_generator)):
        report = score(network, images, net, n=SAMPLES, metrics=("fd", "precision", "recall"))
        found |= {f"{metric}_{which}": round(one.value, 4) for metric, one in report.items()}
        found |= {f"{metric}_floor": round(one.floor, 4) for metric, one in report.items()}
    pictures = sample(gan.ema_generator, torch.randn(500, Z_DIM, generator=rng(7)))
    return found | {"peak": round(peak(pictures), 3)}


def peak(pictures: torch.Tensor) -> float:
    """How far the spectrum sticks out at periods of 2 and 4 pixels, where a checkerboard has its power: 1 is not."""
    grey = pictures.float().mean(1)
    power = torch.fft.fft2(grey - grey.mean((1, 2), keepdim=True)).abs().square().mean(0)
    rows = power.sum(0) + power.sum(1)  # along x and along y: 32 frequencies
    ratios = [rows[k] / (rows[k - 1] * rows[k + 1]).sqrt() for k in (8, 16)]
    return max(ratios).item()


def main() -> None:
    """Climb, or pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "pack"))
    parser.add_argument("--rungs", nargs="*", default=[*RUNGS, *SIDE], help="names of rungs")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=30, help="processor time of each run")
    parser.add_argument("--runs", type=Path, default=Path("runs/modern-ladder"), help="folder of the results")
    parser.add_argument("--out", type=Path, default=PRETRAINED, help="folder to pack them into")
    args = parser.parse_args()
    if args.what == "pack":
        return pack(args.runs, args.out)
    torch.set_num_threads(1)
    args.runs.mkdir(parents=True, exist_ok=True)
    images, net = load("celeba", image_size=32).with_flips(), cifar_net()
    print(images)
    for seed in args.seeds:
        for name in args.rungs:
            path = args.runs / f"{name}-{seed}.json"
            if not path.exists():
                found = climb(name, seed, args.seconds, images, net)
                path.write_text(json.dumps({"rung": name, "processor": runtime.processor()} | found))
                print(name, found, flush=True)


def pack(runs: Path, out: Path) -> None:
    """Write OUT/modern.json: for each rung what its seeds came to."""
    found = [json.loads(path.read_text()) for path in sorted(runs.glob("*.json"))]
    names = [name for name in (*RUNGS, *SIDE) if any(one["rung"] == name for one in found)]
    record = {name: [one for one in found if one["rung"] == name] for name in names}
    (out / "modern.json").write_text(json.dumps(record, indent=0) + "\n")


if __name__ == "__main__":
    main()
