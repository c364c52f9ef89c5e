"""Training in several processes of one machine: each takes its share of every batch, and all keep the same players.

The process that was started keeps the run's folder, shows what there is to see and decides when to stop. The others
follow: they make the same steps until it ends them. Gradients are averaged before each update, the running statistics
of BatchNorm after each of the generator's; z and the order of the images are drawn for the whole batch everywhere, so
that one state, that of the first process, is all that a run needs to go on exactly.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.distributed as dist

# Its functions' defaults are the group there is when it is first imported, which torch's compiler does with the first
# optimiser. One that is imported later than its group keeps it and its threads, on which Python may end with SIGABRT.
import torch.distributed.nn.functional
from torch import Tensor
from tqdm import tqdm

from ganlib.runs import build as games
from ganlib.runs import checkpoint, settings, state
from ganlib.runs.config import Config
from ganlib.steps import GAN
from ganlib.train import fit

FOREVER = 2**62  # steps: a follower is ended by the first process


@contextlib.contextmanager
def followers(config: Config, where: torch.device, folder: Path, resume: bool) -> Iterator[None]:
    """``config.processes - 1`` more processes, joined into one group with this one for as long as the block lasts.

    Args:
        config: of the run.
        where: the kind of device to run on; on CUDA each process takes a card of its own.
        folder: of the run; read, and only with ``resume``.
        resume: whether the run goes on from what is there.

    Raises:
        ValueError: if there are fewer cards than processes, or the device is no kind for this.
        ChildProcessError: if one of them ended by itself.
    """
    n = config.processes
    if where.type == "mps":
        raise ValueError(f"processes={n} can share a batch on CPU or CUDA, not on MPS: take one of them as device.")
    if where.type == "cuda" and torch.cuda.device_count() < n:
        raise ValueError(f"processes={n} need a CUDA device each, but there are {torch.cuda.device_count()}.")
    context, threads = multiprocessing.get_context("spawn"), torch.get_num_threads()
    with tempfile.TemporaryDirectory(prefix="ganlib-") as meeting:
        place = f"file://{meeting}/place"
        how = (n, place, config, where.type, folder if resume else None, max(1, threads // n))
        processes = [context.Process(target=_follow, args=(rank, *how), daemon=True) for rank in range(1, n)]
        for process in processes:
            process.start()
        try:
            torch.set_num_threads(max(1, threads // n))
            dist.init_process_group(_backend(where.type), init_method=place, rank=0, world_size=n)
            yield
        except RuntimeError as error:
            if all(process.is_alive() for process in processes):
                raise
            raise ChildProcessError(f"One of {n} processes ended by itself; what was saved stays.") from error
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()
            if dist.is_initialized():
                dist.destroy_process_group()
            torch.set_num_threads(threads)


def together(gan: GAN, step: Callable) -> Callable:
    """``step`` for players that are trained in this process's group, each process on its share of every batch.

    From now on the optimisers of ``gan`` average gradients, and its z are this process's rows of the group's.

    Returns:
        a training step, ``(gan, batches) -> losses``, whose losses are the group's means and whose name is the same.
    """
    rank, n = dist.get_rank(), dist.get_world_size()

    def sample_z(count: int) -> Tensor:
        return GAN.sample_z(gan, count * n)[rank * count : (rank + 1) * count]

    def average_gradients(optimiser, *_) -> None:
        _average([p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None])

    def average_buffers(*_) -> None:
        _average([b for m in (gan.generator, gan.discriminator) for b in m.buffers() if b.is_floating_point()])

    gan.sample_z = sample_z
    for optimiser in (gan.g_opt, gan.d_opt):
        optimiser.register_step_pre_hook(average_gradients)
    gan.g_opt.register_step_post_hook(average_buffers)

    def shared(gan: GAN, batches: Iterator[Tensor]) -> dict[str, Tensor]:
        losses = step(gan, (batch.tensor_split(n)[rank] for batch in batches))
        values = torch.stack([value.detach().float() for value in losses.values()])
        _average([values])
        return dict(zip(losses, values, strict=True))

    shared.__module__, _, shared.__qualname__ = settings.name_of(step).partition(".")
    return shared


@torch.no_grad()
def _average(tensors: list[Tensor]) -> None:
    """Bring each tensor to its mean over the group, in place: all in one message."""
    if tensors:
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))


def _backend(kind: str) -> str:
    return "nccl" if kind == "cuda" else "gloo"


def _follow(rank: int, n: int, place: str, config: Config, kind: str, folder: Path | None, threads: int) -> None:
    """What a process other than the first does, from its start to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process decides
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    torch.set_num_threads(threads)
    tqdm.set_lock(threading.RLock())  # its usual one is for several processes, and would outlive this one
    # In a thread of its own, fit does not listen to Ctrl-C.
    work = threading.Thread(target=_take_part, args=(rank, n, place, config, kind, folder))
    work.start()
    work.join()


def _take_part(rank: int, n: int, place: str, config: Config, kind: str, folder: Path | None) -> None:
    if kind == "cuda":
        torch.cuda.set_device(rank)
    images = games.load_images(config)
    config = games.fitted(config, images)
    gan = games.players(config, fresh=folder is None)
    if folder and checkpoint.steps_in(folder):
        # Learning rates and the like are those of the settings, which may have been given anew.
        state.restore(gan, *checkpoint.newest(folder), keep_settings=state.OPTIMISERS)
    dist.init_process_group(_backend(kind), init_method=place, rank=rank, world_size=n)
    arguments = games.fit_arguments(config, images) | {"steps": FOREVER, "seconds": None, "progress": False}
    arguments |= {"snapshot_at": (), "score_at": (), "device": f"cuda:{rank}" if kind == "cuda" else kind}
    fit(gan, together(gan, games.step(config)), images, **arguments)
