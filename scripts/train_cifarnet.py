"""Train the CIFAR-10 net on the 50,000 training images and judge it on the 10,000 test images.

    python scripts/train_cifarnet.py --out ganlib/metrics/weights/cifarnet.safetensors

Writes the weights and, beside them, a .json with the test accuracy, the counts and the weights' sha256. Takes about
half an hour on one core. The same seed gives the same weights on the same processor and PyTorch; elsewhere they
differ by rounding.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from train_digitnet import initialise, judge, refuse_to_overwrite, save_weights

from ganlib import load
from ganlib._runtime import device as runtime
from ganlib.metrics.nets import WEIGHTS, Classifier, new_cifar_net

PAD = 3  # pixels that a training image is moved by at most


def move_and_mirror(pixels: Tensor, g: torch.Generator) -> Tensor:
    """Images uint8 [N, 3, S, S], each moved by up to ``PAD`` pixels (its border repeated) and half of them mirrored."""
    n, _, size, _ = pixels.shape
    padded = F.pad(pixels.float(), (PAD,) * 4, mode="reflect").to(torch.uint8)
    x, y = torch.randint(0, 2 * PAD + 1, (2, n, 1), generator=g)
    columns = torch.arange(size) + x
    columns = torch.where(torch.rand(n, 1, generator=g) < 0.5, columns.flip(1), columns)
    rows = torch.arange(size) + y
    return padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def train(
    pixels: Tensor, labels: Tensor, epochs: int, batch_size: int, lr: float, seed: int, bf16: bool = False
) -> Classifier:
    """A net trained with AdamW on a one-cycle schedule and cross-entropy."""
    g = torch.Generator().manual_seed(seed)
    net = new_cifar_net()
    initialise(net, g)
    net = net.to(memory_format=torch.channels_last)
    opt = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.05, fused=True)
    steps = len(pixels) // batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, lr, total_steps=epochs * steps, pct_start=0.2)
    net.train()
    for epoch in range(epochs):
        total, began = 0.0, time.perf_counter()
        for batch in torch.randperm(len(pixels), generator=g)[: steps * batch_size].split(batch_size):
            images = move_and_mirror(pixels[batch], g).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = net(images)[1]
            loss = F.cross_entropy(logits.float(), labels[batch])
            opt.zero_grad()
            loss.backward()
            opt.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1:3d}  loss {total / steps:.4f}  {time.perf_counter() - began:.0f} s", flush=True)
    return net


def main(argv: list[str] | None = None) -> None:
    """Train, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS / "cifarnet.safetensors", help="where the weights go")
    parser.add_argument("--force", action="store_true", help="write over what is there")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch-size", type=int, default=200)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16 where the processor is faster so")
    args = parser.parse_args(argv)
    refuse_to_overwrite(args.out, args.force)
    torch.use_deterministic_algorithms(True)
    sets = [load("cifar10", split=split) for split in ("train", "test")]
    for images in sets:
        print(images)
    (train_on, test_on), began = sets, time.perf_counter()
    net = train(train_on.pixels, train_on.labels, args.epochs, args.batch_size, args.lr, args.seed, args.bf16)
    print(f"{time.perf_counter() - began:.0f} s")
    facts = {
        "network": "ganlib.metrics.nets.new_cifar_net",
        "data": f"{train_on.source}; judged on {test_on.source}",
        "n_train": len(train_on),
        **judge(net, test_on.pixels, test_on.labels),
        "seed": args.seed,
        "command": "python scripts/train_cifarnet.py --out ganlib/metrics/weights/cifarnet.safetensors "
        f"--epochs {args.epochs} --batch-size {args.batch_size} --lr {args.lr:g} --seed {args.seed}"
        f"{' --bf16' * args.bf16}",
        "processor": runtime.processor(),
    }
    save_weights(net, args.out, facts)


if __name__ == "__main__":
    main()
