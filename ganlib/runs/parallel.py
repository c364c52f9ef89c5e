"""Training in the processes that torchrun started: each takes its share of every batch, all keep the same players.

Rank 0 keeps the run's folder and decides when to stop; the others make the same steps until it says so. z and the
order of the images are drawn for the whole batch everywhere, so the state of rank 0 is all that resuming needs.

    torchrun --nproc-per-node 2 -m ganlib -- train --n 5000 ...     (without the "--", torchrun takes --n for its own)
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.distributed as dist

# Its functions' defaults are the group there is when it is first imported, which torch's compiler does with the first
# optimiser. Imported later than its group it keeps that and its threads, on which Python may end with SIGABRT.
import torch.distributed.nn.functional
from torch import Tensor

from ganlib.steps import GAN
from ganlib.train import fit


def place() -> tuple[int, int]:
    """The rank of this process and how many there are: (0, 1) unless torchrun started it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


@contextlib.contextmanager
def joined(gan: GAN, step: Callable, device: torch.device) -> Iterator[Callable]:
    """``step`` for all processes together, on CUDA on a card each: the optimisers of ``gan`` average from now on."""
    (rank, n), cuda, both = place(), device.type == "cuda", (gan.generator, gan.discriminator)
    gan.device = f"cuda:{os.environ['LOCAL_RANK']}" if cuda else device.type
    gan.sample_z = lambda count: GAN.sample_z(gan, count * n)[rank * count : (rank + 1) * count]
    for optimiser in (gan.g_opt, gan.d_opt):
        optimiser.register_step_pre_hook(lambda o, *_: _average([p.grad for g in o.param_groups for p in g["params"]]))
    gan.g_opt.register_step_post_hook(lambda *_: _average([b for network in both for b in network.buffers()]))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        dist.barrier()  # the others have read what rank 0 is about to add to
        yield _Shared(step)
        if rank == 0:
            _word_of_first(gan, 0)
    finally:
        dist.destroy_process_group()


def follow(gan: GAN, step: Callable, images, device: torch.device, **how) -> None:
    """What the processes other than rank 0 do: ``fit`` until that stops."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; rank 0 decides
    # In a thread of its own, fit does not listen to Ctrl-C either.
    with joined(gan, step, device) as shared, ThreadPoolExecutor(1) as pool:
        pool.submit(fit, gan, shared, images, steps=2**62, watchers=(), **how).result()


class _Shared(functools.partial):
    """A step on this process's share of every batch; its losses are the mean. As a partial it has the step's name."""

    def __call__(self, gan: GAN, batches: Iterator[Tensor]) -> dict[str, Tensor]:
        if not _word_of_first(gan, 1):
            raise KeyboardInterrupt  # which ends fit
        rank, n = place()
        losses = super().__call__(gan, (batch.tensor_split(n)[rank] for batch in batches))
        values = torch.stack([value.detach().float() for value in losses.values()])
        _average([values])
        return dict(zip(losses, values, strict=True))


def _word_of_first(gan: GAN, word: int) -> int:
    """The number with which rank 0 calls this."""
    told = torch.tensor(word, device=next(gan.generator.parameters()).device)
    dist.broadcast(told, 0)
    return int(told)


@torch.no_grad()
def _average(tensors: list[Tensor | None]) -> None:
    """Bring each tensor of floats to its mean over the processes, in place: all in one message."""
    if tensors := [tensor for tensor in tensors if tensor is not None and tensor.is_floating_point()]:
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat)
        parts = (flat / place()[1]).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))
