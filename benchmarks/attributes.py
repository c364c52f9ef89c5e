"""Does an attribute's direction in the latent space have the right sign and size? Asked of drawn faces, all known.

    python -m benchmarks.attributes

A small network learns to read eight attributes off drawn faces, and a DCGAN to draw them, neither knowing of the other.
Directions are made of latent vectors whose images the reader calls with and without an attribute, and are tried on
others. What to expect has a closed form where an attribute fills a half of the latent space, cut off by a plane: that
is what a difference of means is right for.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganlib import ImageSet, Run, fit, latent, load, rng
from ganlib._runtime import device as runtime
from ganlib.data.toyfaces import HAIR_COLOURS
from ganlib.latent.walks import BATCH
from ganlib.models import initialise
from ganlib.runs import build
from ganlib.runs.config import changed
from ganlib.runs.presets import TOYFACES
from ganlib.steps import dcgan_step

# Each is a number from 0 to 1: yes or no for the first five, how much for the others, which count as yes above a half.
NAMES = ("smile", "glasses", "hat", "beard", "long_hair", "light_hair", "dark_skin", "red_ground")
STRENGTHS = (1.0, 1.5, 2.0, 3.0)
FOLDER = Path("runs/attributes")
N = 4000  # latent vectors that the directions are made of; half as many they are tried on
UNSEEN = 4000  # faces that the reader is examined with
FAR = 2.0  # the strength at which side effects and controls are measured


def truth(faces: ImageSet) -> Tensor:
    """What is known of drawn faces: float32 [N, A], a column for each of ``NAMES``."""
    grey = torch.tensor([0.299, 0.587, 0.114]) / 255
    hair = sum(faces.attribute(name) * (torch.tensor(rgb) * grey).sum() for name, rgb in HAIR_COLOURS.items())
    red = (1 + (2 * torch.pi * faces.attribute("background")).cos()) / 2  # as ganlib.data.toyfaces paints it
    return torch.stack([*map(faces.attribute, NAMES[:5]), hair, faces.attribute("skin"), red], 1)


def train_reader(faces: ImageSet, epochs: int = 4, seed: int = 0) -> nn.Module:
    """A network uint8 [B, 3, 32, 32] -> [B, A] in [0, 1], trained on what is known of the faces."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise((3, 16, 32, 64)):
        conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(n_out), nn.MaxPool2d(2), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(64 * 4 * 4, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU()]
    net = initialise(nn.Sequential(*layers, nn.Linear(64, len(NAMES))), seed).to(memory_format=torch.channels_last)
    known, draw, size, peak = truth(faces), rng(seed), 100, 4e-3
    optimiser = torch.optim.AdamW(net.parameters(), peak, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=epochs * (len(faces) // size))
    for _ in range(epochs):
        for batch in torch.randperm(len(faces), generator=draw)[: len(faces) // size * size].split(size):
            loss = F.binary_cross_entropy_with_logits(net(faces.pixels[batch] / 255), known[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    net.eval().requires_grad_(False)
    return lambda pixels: net(pixels / 255).sigmoid()


def examine(read: Callable, faces: ImageSet) -> dict:
    """How well the attributes of faces that it has not seen are read: share of right answers, and mean error."""
    found, known = torch.cat([read(part) for part in faces.pixels.split(BATCH)]), truth(faces)
    right, error = ((found > 0.5) == (known > 0.5)).double().mean(0), (found - known).abs().mean(0)
    return {name: {"right": right[k].item(), "error": error[k].item()} for k, name in enumerate(NAMES)}


def half_space(share: float, strength: float) -> float:
    """The share of answers that must flip if an attribute were all z beyond a plane, ``share`` of N(0, I), and the
    direction the difference of the means of both sides, which lie φ(t) / share and φ(t) / (1 - share) from the middle.
    """
    normal = NormalDist()
    edge = normal.inv_cdf(1 - share)
    walk = strength * normal.pdf(edge) / (share * (1 - share))
    return abs(normal.cdf(edge) - normal.cdf(edge - walk)) + abs(normal.cdf(edge + walk) - normal.cdf(edge))


def directions(generator: nn.Module, read: Callable, z: Tensor) -> tuple[Tensor, Tensor]:
    """The direction of each attribute, [A, z_dim], and how far the reading of it lies apart on both sides, [A]."""
    numbers = latent.readings(generator, z, read)
    sides = [(numbers[:, k] > 0.5, numbers[:, k]) for k in range(numbers.shape[1])]
    along = torch.stack([latent.direction(z[has], z[~has]) for has, _ in sides])
    return along, torch.stack([number[has].mean() - number[~has].mean() for has, number in sides])


def walk_all(generator: nn.Module, read: Callable, z: Tensor, along: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Walk along each direction as :func:`ganlib.latent.flips` does, and read everything again.

    Returns:
        changed: [A, A], the share of answers about each attribute (columns) that the walk along each direction (rows)
            changes; moved: [A], how far the reading of a direction's own attribute goes the way it should, on average.
    """
    before, rows, moved = latent.readings(generator, z, read), [], []
    for k, one in enumerate(along):
        way = torch.where(before[:, k] > 0.5, -1.0, 1.0)
        after = latent.readings(generator, z + strength * way[:, None] * one, read)
        rows.append(((after > 0.5) != (before > 0.5)).double().mean(0))
        moved.append((way * (after - before)[:, k]).mean())
    return torch.stack(rows), torch.stack(moved)


def arithmetic(generator: nn.Module, read: Callable, z: Tensor, k: int, tries: int, seed: int) -> dict:
    """How often ``a - neither + b``, each the mean of ``k`` latent vectors, has both a and b; for pairs of attributes.

    ``as_long`` is the same with the result brought to the length of a usual z, the root of z_dim.
    """
    has, draw, found = latent.readings(generator, z, read) > 0.5, rng(seed), {}
    for a, b in ((1, 2), (0, 2), (0, 1)):
        pools = [z[has[:, a] & ~has[:, b]], z[~has[:, a] & ~has[:, b]], z[has[:, b] & ~has[:, a]]]
        means = [pool[torch.randint(len(pool), (tries, k), generator=draw)].mean(1) for pool in pools]
        made = means[0] - means[1] + means[2]
        row = {"by_chance": (has[:, a] & has[:, b]).double().mean().item(), "length": made.norm(dim=1).mean().item()}
        for name, vectors in (("share", made), ("as_long", F.normalize(made) * z.shape[1] ** 0.5)):
            answers = latent.readings(generator, vectors, read)[:, [a, b]] > 0.5
            row[name] = answers.all(1).double().mean().item()
        found[f"{NAMES[a]} + {NAMES[b]}"] = row
    return found


def judge(generator: nn.Module, read: Callable, n: int, seed: int = 0) -> dict:
    """Make the directions of ``n`` latent vectors, and try them on half as many others."""
    z, fresh = latent.draw_z(n, generator.z_dim, seed), latent.draw_z(n // 2, generator.z_dim, seed + 1)
    along, gap = directions(generator, read, z)
    aside = latent.draw_z(len(along), generator.z_dim, seed + 2)
    aside = F.normalize(aside) * along.norm(dim=1, keepdim=True)
    share = (latent.readings(generator, fresh, read) > 0.5).double().mean(0).tolist()
    walks = {strength: walk_all(generator, read, fresh, along, strength) for strength in STRENGTHS}
    wrong, random = (walk_all(generator, read, fresh, way, FAR)[0] for way in (-along, aside))
    found = {}
    for k, name in enumerate(NAMES):
        found[name] = {
            "share": share[k],
            "length": along[k].norm().item(),
            "flips": {s: changed[k, k].item() for s, (changed, _) in walks.items()},
            "half_space": {s: half_space(share[k], s) for s in STRENGTHS},
            "moved": {s: (moved[k] / gap[k]).item() for s, (_, moved) in walks.items()},
            "wrong_way": wrong[k, k].item(),
            "random": random[k, k].item(),
            "changes": dict(zip(NAMES, walks[FAR][0][k].tolist(), strict=True)),
        }
    cosines = F.normalize(along) @ F.normalize(along).T
    return {
        "attributes": found,
        "random_changes": dict(zip(NAMES, random.mean(0).tolist(), strict=True)),
        "cosines": [[round(x, 3) for x in row] for row in cosines.tolist()],
        "arithmetic": {k: arithmetic(generator, read, z, k, n // 4, seed + 3) for k in (1, 3, 100)},
    }


def run(seed: int, read: Callable, faces: ImageSet) -> dict:
    """Train the DCGAN of one seed, or resume it, and judge its running average."""
    recipe = replace(TOYFACES, seed=seed)
    gan, kept = build.players(recipe), Run(FOLDER / f"seed-{seed}", resume=True)
    history = fit(gan, dcgan_step, faces, steps=recipe.steps, batch_size=recipe.batch_size, run=kept)
    made = {"steps": gan.steps_done, "seconds": round(history.seconds), "precision": history.precision}
    return made | judge(gan.ema_generator, read, N)


def show(judged: dict) -> None:
    """Print what was found of one generator."""
    for name, found in judged["attributes"].items():
        flips = " · ".join(
            f"{found['flips'][s]:.0%} at {s:g} (half-space {found['half_space'][s]:.0%})" for s in STRENGTHS
        )
        print(f"  {name:<11}{flips} · wrong way {found['wrong_way']:.0%} · elsewhere {found['random']:.0%}")
    for k, pairs in judged["arithmetic"].items():
        print(f"  {k} z each: " + " · ".join(f"{pair} {found['share']:.0%}" for pair, found in pairs.items()))


def main() -> None:
    """Train, judge, print, write the JSON beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="a DCGAN for each (default 0)")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    faces = load("toyfaces", n=TOYFACES.n, image_size=TOYFACES.image_size)
    unseen = load("toyfaces", n=UNSEEN, image_size=TOYFACES.image_size, split="test")
    read = train_reader(faces)
    results = {"processor": runtime.processor(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    results |= {"recipe": changed(TOYFACES), "reader": examine(read, unseen), "runs": {}}
    for name, found in results["reader"].items():
        print(
            f"{name:<11} right in {found['right']:.1%} of {len(unseen):,} unseen faces, mean error {found['error']:.3f}"
        )
    for seed in args.seeds:
        results["runs"][seed] = run(seed, read, faces)
        show(results["runs"][seed])
        args.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
