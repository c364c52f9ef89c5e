"""Where a run happens: device, precision, memory and folders."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import logging
import os
import platform
import re
import tempfile
from pathlib import Path

import torch
from torch import nn

log = logging.getLogger("ganlib")


def device(name: str | None = None) -> torch.device:
    """The device called ``name``, such as "cuda:1". Default: CUDA, else MPS, else CPU."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    have = [*(kind for kind, is_there in there.items() if is_there and _works(kind)), "cpu"]
    with contextlib.suppress(RuntimeError):
        chosen = torch.device(name or have[0])
        if chosen.type in have and (chosen.index or 0) < max(1, torch.cuda.device_count()):
            return chosen
    raise ValueError(f"There is no device '{name}' here; this machine has: {', '.join(have)}.")


@functools.cache
def _works(kind: str) -> bool:
    """Whether ``kind`` can compute at all: a build of PyTorch has kernels for some cards."""
    try:
        torch.ones(1, device=kind).add(1).item()
    except RuntimeError as error:
        why = str(error).partition("\n")[0]
        log.warning(f"This PyTorch cannot compute on '{kind}', so the CPU is used ({why}); install a build for it.")
        return False
    return True


def card(where: torch.device) -> dict[str, str | int]:
    """The name of a graphics card and the versions of its libraries; nothing for others."""
    if where.type != "cuda":
        return {}
    versions = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"card": torch.cuda.get_device_name(where)} | versions


def has_fast_bf16(where: torch.device) -> bool:
    """Whether ``where`` has bfloat16 in hardware; CPUs without AMX emulate it slowly."""
    if where.type == "cuda":
        return torch.cuda.get_device_capability(where)[0] >= 8
    if where.type != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):  # from torch 2.14 on
        return bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return torch.cpu._is_amx_tile_supported()


# Optimisers with a single kernel for all weights. It skips an update with numbers that are not finite, if told so.
FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)

# With fewer parameters a CPU is at most half as fast again, and the few runs compared were no better for it. A GPU is
# through with a small network before Python has told it the next operation, and autocast adds operations.
SMALLEST_HALF_NETWORK = 1_000_000


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(where: torch.device, n_parameters: int, asked: str = "auto", optimisers=()) -> torch.dtype:
    """The type for ``asked``: "auto", "fp32", "bf16", or "fp16" with these optimisers."""
    if asked not in ("auto", *PRECISIONS):
        raise ValueError(f"precision is '{asked}', but must be 'auto', {', '.join(map(repr, PRECISIONS))}.")
    odd = [type(each).__name__ for each in optimisers if not isinstance(each, FUSED) or each.defaults["fused"] is False]
    if asked == "auto":
        tensor_cores = where.type == "cuda" and torch.cuda.get_device_capability(where)[0] >= 7
        fast = "bf16" if has_fast_bf16(where) else "fp16" if tensor_cores and not odd else "fp32"
        asked = fast if n_parameters >= SMALLEST_HALF_NETWORK else "fp32"
    cure = "take 'fp32' (with allow_changes=True, to resume a run that had it)"
    if asked == "bf16" and where.type == "cuda" and not has_fast_bf16(where):
        raise ValueError(f"bf16: this card ({torch.cuda.get_device_name(where)}) has no bfloat16; {cure}.")
    if asked == "fp16" and where.type != "cuda":
        raise ValueError(f"fp16 is for CUDA cards, and this is '{where.type}'; {cure}.")
    if asked == "fp16" and odd:
        raise ValueError(
            f"fp16 skips updates that overflow, which {odd[0]} cannot: take Adam, AdamW or SGD; or {cure}."
        )
    return PRECISIONS[asked]


def autocast(where: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager:
    """Autocast to ``dtype`` on ``where``; no context at all for float32."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    # No cache of cast weights: a step changes weights inside this context, and would continue with the old ones.
    return torch.autocast(where.type, dtype=dtype, cache_enabled=False)


@contextlib.contextmanager
def eval_mode(model: nn.Module):
    """``model`` in eval mode, without gradients; then each layer's mode is restored."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        for module, mode in training.items():
            module.training = mode


@contextlib.contextmanager
def kept_memory():
    """Let glibc keep freed memory for the next step: 5 to 10% less time on a CPU.

    By default it returns large blocks to the system, which hands them out again page by page, filled with zeros.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    glibc = ctypes.CDLL(None)
    # M_MMAP_MAX and so on in malloc.h: the value inside, and the one after, which glibc itself sets for large blocks.
    rules = {-4: (0, 2**16), -3: (2**25, 2**25), -1: (2**31 - 1, 2**26), -2: (2**26, 2**17)}
    for name, (inside, _) in rules.items():
        glibc.mallopt(name, inside)
    try:
        yield
    finally:
        for name, (_, after) in rules.items():
            glibc.mallopt(name, after)
        glibc.malloc_trim(0)


def processor() -> str:
    """This machine's processor and cores, to state with every measured time."""
    linux = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", linux.read_text()) if linux.is_file() else None
    return f"{found[1] if found else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def project_root() -> Path | None:
    """The checkout this package runs from; None if it was installed without one."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else None


def data_roots(root: str | os.PathLike | None = None) -> list[Path]:
    """Where to look for datasets: ``root``, ``GANLIB_DATA``, ``data/``, user cache.

    A relative ``GANLIB_DATA`` starts at the checkout: notebooks run in their own folder and must find the same data.
    """
    home = project_root()
    roots = [Path(root)] if root is not None else []
    if os.environ.get("GANLIB_DATA"):
        roots.append((home or Path.cwd()) / Path(os.environ["GANLIB_DATA"]).expanduser())
    return [*roots, *([home / "data"] if home else []), Path.home() / ".cache" / "ganlib"]


def cache_dir() -> Path:
    """The cache folder: ``GANLIB_CACHE``. Default: the checkout's ``data/prepared``."""
    if os.environ.get("GANLIB_CACHE"):
        return Path(os.environ["GANLIB_CACHE"]).expanduser()
    home = project_root()
    return (home / "data" if home else Path.home() / ".cache" / "ganlib") / "prepared"


def new_run_folder(path: str | os.PathLike) -> Path:
    """Make the folder ``path`` for a run, or ``path-2``, ``path-3``, … if it is taken."""
    for folder in _numbered(Path(path), Path(path).name):
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            check_writable(folder)
            return folder


def new_file(path: str | os.PathLike, *others: str) -> Path:
    """``path``, or ``name-2.png`` and so on if it, or one with another suffix, exists."""
    for file in _numbered(Path(path), Path(path).stem, Path(path).suffix):
        if not any(file.with_suffix(ending).exists() for ending in (file.suffix, *others)):
            check_writable(file.parent)
            return file


def _numbered(path: Path, stem: str, ending: str = ""):
    yield path
    yield from (path.with_name(f"{stem}-{k}{ending}") for k in itertools.count(2))


def check_writable(folder: str | os.PathLike) -> None:
    """Make ``folder``, and raise an error before a run if it is not writable."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # has no name if the system allows it: a kill leaves nothing
    except OSError as error:
        raise type(error)(f"Cannot write in '{folder}' ({error.strerror}); choose another output folder.") from error
