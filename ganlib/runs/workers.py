"""One run in several processes of torchrun, on one machine or more (docs/command-line.md).

Each process takes its share of every batch, and all have the same players. Rank 0 writes the run's folder and decides
when to stop; the others start from what it sends them and make the same steps until then. What enters a step by
``randomness.fresh`` is drawn for the whole batch in every process, so a run is resumed by as many as there are then.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.distributed as dist

# Its functions take the group that exists at the first import as their default, and torch's compiler imports it with
# the first optimiser. Imported after the group, it keeps its threads alive, and Python may exit with SIGABRT.
import torch.distributed.nn.functional
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from ganlib._runtime import device as runtime
from ganlib._runtime.randomness import door, onto, seed_step
from ganlib.runs import checkpoint, provenance
from ganlib.steps import GAN
from ganlib.train import fit

NAMES = {dtype: name for name, dtype in runtime.PRECISIONS.items()}


def place() -> tuple[int, int]:
    """The rank of this process and their number; (0, 1) without torchrun."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def restartable() -> bool:
    """Whether torchrun starts this command again if a process ends (--max-restarts)."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


@contextlib.contextmanager
def joined(gan: GAN, step: Callable, images, device: torch.device) -> Iterator[Callable]:
    """``step`` shared by all processes; the optimisers of ``gan`` average from now on.

    Raises:
        ConnectionError: in a step, once another process has ended, or torchrun has ended this one.
        ValueError: if this process has other images than rank 0.
    """
    (rank, n), cuda, both = place(), device.type == "cuda", (gan.generator, gan.discriminator)
    gan.device = f"cuda:{os.environ['LOCAL_RANK']}" if cuda else device.type
    if cuda:
        torch.cuda.set_device(gan.device)  # nccl's
    for optimiser in (gan.g_opt, gan.d_opt):
        optimiser.register_step_pre_hook(lambda o, *_: _average([p.grad for g in o.param_groups for p in g["params"]]))
    gan.g_opt.register_step_post_hook(lambda *_: _average([b for network in both for b in network.buffers()]))
    with _all_there():
        store = _new_part(next(dist.rendezvous("env://"))[0], rank, n)
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank, world_size=n)
    on_end = signal.signal(signal.SIGTERM, _leave) if rank == 0 else None
    try:
        own = provenance.fingerprint(images.pixels)
        if _from_first(own.encode()) != own.encode():
            raise ValueError(f"{images.source}: process {rank} has other images than process 0; give all the same.")
        yield _Shared(step)
        if rank == 0:
            _word_of_first(0)
    finally:
        if rank == 0:
            signal.signal(signal.SIGTERM, on_end)
        dist.destroy_process_group()


def _new_part(store: dist.Store, rank: int, n: int) -> dist.Store:
    """A part of torchrun's store that is new to all: the whole has what processes before a restart left in it.

    Rank 0 answers whatever it finds, of old processes too, until each of the new ones has shown that it has the name.
    """
    name = uuid.uuid4().hex
    if rank:
        store.set(f"asks/{rank}", name)
        name = store.get(f"answer/{name}").decode()  # waits for it
        store.set(f"{name}/{rank}", "here")
        return dist.PrefixStore(name, store)
    while not store.check([f"{name}/{k}" for k in range(1, n)]):
        for asks in (f"asks/{k}" for k in range(1, n)):
            if store.check([asks]):
                store.set(f"answer/{store.get(asks).decode()}", name)
        time.sleep(0.05)
    return dist.PrefixStore(name, store)


def _leave(*_) -> None:
    raise ConnectionError("torchrun has ended this process")


def follow(gan: GAN, step: Callable, images, device: torch.device, batch_size: int) -> None:
    """The loop of the processes other than rank 0: ``fit`` until rank 0 stops or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; rank 0 decides
    # In a thread of its own, fit does not listen to Ctrl-C either.
    try:
        with joined(gan, step, images, device) as shared, ThreadPoolExecutor(1) as pool:
            if _word_of_first(1):
                facts, precision = json.loads(_from_first())
                checkpoint.restore(gan, from_bytes(_from_first()), facts)
                how = dict(batch_size=batch_size, precision=precision, watchers=())
                pool.submit(fit, gan, shared, images, steps=2**62, **how).result()
    except (ConnectionError, FloatingPointError):  # the run diverged
        raise SystemExit(1) from None  # rank 0 tells about it


class _Shared(functools.partial):
    """A step on this process's share of every batch; as a partial it keeps its name."""

    def __call__(self, gan: GAN, batches: Iterator[Tensor]) -> dict[str, Tensor]:
        if place()[0] == 0 and not hasattr(self, "sent"):
            self.sent = _word_of_first(1)
            where = gan.device.partition(":")[0]
            kind = torch.get_autocast_dtype(where) if torch.is_autocast_enabled(where) else torch.float32
            tensors, facts = checkpoint.capture(gan)
            _from_first(json.dumps([facts, NAMES[kind]]).encode())
            _from_first(to_bytes(tensors))
        if not _word_of_first(1):
            raise KeyboardInterrupt  # ends fit
        self.numbers = torch.get_rng_state()  # fit's, for this step: the same in every process
        seed_step(gan.seed + 65_537 * (1 + place()[0]), gan.steps_done, torch.device(gan.device))  # for dropout
        before = door.set(self._draw)
        try:
            losses = super().__call__(gan, batches)
        finally:
            door.reset(before)
        values = torch.stack([value.detach().float() for value in losses.values()])
        _average([values])
        return dict(zip(losses, values, strict=True))

    def _draw(self, draw: functools.partial, where: torch.device) -> Tensor:
        """This process's share of reals, or of what is drawn for so many of them."""
        (rank, n), many = place(), draw.args[:1]
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.numbers)
            whole = draw.func(*(each * n for each in many), *draw.args[1:], **draw.keywords)
            self.numbers = torch.get_rng_state()
        return onto(whole.tensor_split(n)[rank], where)


def _word_of_first(word: int) -> int:
    """The number that rank 0 passes, in every process."""
    told = torch.tensor(word)  # on the CPU: a GPU's work goes on meanwhile
    with _all_there():
        dist.broadcast(told, 0)
    return int(told)


def _from_first(content: bytes = b"") -> bytes:
    """What rank 0 passes, in every process."""
    size = _word_of_first(len(content))
    told = torch.frombuffer(bytearray(content) or bytearray(size), dtype=torch.uint8)
    with _all_there():
        dist.broadcast(told, 0)
    return told.numpy().tobytes()


@torch.no_grad()
def _average(tensors: list[Tensor | None]) -> None:
    """Average float tensors over the processes in place, in one message."""
    if tensors := [tensor for tensor in tensors if tensor is not None and tensor.is_floating_point()]:
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        with _all_there():
            dist.all_reduce(flat)
        parts = (flat / place()[1]).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))


@contextlib.contextmanager
def _all_there():
    """Turn an error of the connection into one that can be told from others."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError("Another process of this run has ended") from error
