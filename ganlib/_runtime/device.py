"""Where a run happens: the device, the precision its hardware is fast in, its seeds and its folders."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import platform
import re
import tempfile
from pathlib import Path

import torch
from torch import nn


def device(name: str | None = None) -> torch.device:
    """The device to run on: ``name`` if given, else CUDA, else Apple's MPS, else the CPU.

    Args:
        name: ``"cuda"``, ``"cuda:1"``, ``"mps"``, ``"cpu"`` or None for the best one there is.

    Raises:
        ValueError: if the named device is unknown or not on this machine.
    """
    have = ["cpu"]
    if torch.backends.mps.is_available():
        have.insert(0, "mps")
    if torch.cuda.is_available():
        have.insert(0, "cuda")
    if name is None:
        return torch.device(have[0])
    try:
        chosen = torch.device(name)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in have or (chosen.index or 0) >= max(1, torch.cuda.device_count()):
        raise ValueError(f"There is no device '{name}' here; this machine has: {', '.join(have)}.")
    return chosen


# Added to a seed for numbers that must not be those drawn from the seed itself: z in training is not what the first
# weights were drawn from, the fixed z are not the first ones in training, and images made of a score's reals, such as
# resized ones, do not meet just their own originals. Below 2**32: torch's CPU generator ignores the bits above.
Z_STREAM, FIXED_Z_STREAM, GIVEN_STREAM = 1 << 30, 2 << 30, 3 << 30


def rng(seed: int, where: str | torch.device = "cpu") -> torch.Generator:
    """A random generator of its own, seeded with ``seed``: the only source of randomness ganlib draws from.

    Raises:
        ValueError: if ``seed`` has more than 64 bits.
    """
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"The seed {seed} is no number of 64 bits; take a smaller one.")
    return torch.Generator(where).manual_seed(seed)


def seed_all(seed: int, where: torch.device) -> None:
    """Seed the global generators that a step on ``where`` may draw from, as dropout does: the CPU's and its own.

    Unlike ``torch.manual_seed`` it leaves those of other devices alone. Where there is no such device that call writes
    down its own stack, for the day there is one, and keeps it: at every step of a run, time and memory for nothing.
    """
    torch.default_generator.manual_seed(seed)
    if where.type == "cuda":
        torch.cuda.manual_seed_all(seed)
    elif where.type == "mps":
        torch.mps.manual_seed(seed)


# glibc's names for what mallopt changes, from malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4


@contextlib.contextmanager
def kept_memory():
    """Inside the block the process keeps memory that it frees, so that the next step finds it; then it is given back.

    By default glibc returns large blocks to the system at once. A training step frees and asks for the same hundreds of
    megabytes over and over, and the system hands them out page by page, each filled with zeros. Only with glibc; does
    nothing elsewhere.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    for name, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26)):
        libc.mallopt(name, value)
    try:
        yield
    finally:
        # What glibc's own rule has arrived at in a process that handles large blocks, and its defaults.
        before = ((M_MMAP_MAX, 2**16), (M_MMAP_THRESHOLD, 2**25), (M_TRIM_THRESHOLD, 2**26), (M_TOP_PAD, 2**17))
        for name, value in before:
            libc.mallopt(name, value)
        libc.malloc_trim(0)


def has_fast_bf16(where: torch.device) -> bool:
    """Whether ``where`` multiplies bfloat16 matrices in silicon, so that autocast saves time.

    CPUs without AMX emulate bfloat16 and run slower than in float32, although oneDNN reports that it works.
    """
    if where.type == "cuda":
        return torch.cuda.get_device_capability(where)[0] >= 8
    if where.type != "cpu":
        return False
    try:
        return bool(torch.cpu.get_capabilities()["amx_bf16"])
    except (AttributeError, KeyError):  # torch < 2.14
        return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


# Below this many parameters a CPU gains half in speed at most, and the few runs compared were no better for it.
SMALLEST_BF16_NETWORK = 1_000_000


def choose_precision(where: torch.device, n_parameters: int, asked: str = "auto") -> torch.dtype:
    """float32 or bfloat16 for a network of ``n_parameters`` on ``where``.

    Args:
        where: the device the network runs on.
        n_parameters: parameters of generator and discriminator together.
        asked: ``"auto"``, ``"fp32"`` or ``"bf16"``.

    Raises:
        ValueError: if ``asked`` is none of the three.
    """
    if asked not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision is '{asked}', but must be 'auto', 'fp32' or 'bf16'.")
    if asked == "auto":
        big = where.type != "cpu" or n_parameters >= SMALLEST_BF16_NETWORK
        asked = "bf16" if big and has_fast_bf16(where) else "fp32"
    return torch.bfloat16 if asked == "bf16" else torch.float32


def autocast(where: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager:
    """Autocast to ``dtype`` on ``where``; no context at all for float32."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    # No cache of cast weights: a step changes them inside this context, and would go on with the old ones.
    return torch.autocast(where.type, dtype=dtype, cache_enabled=False)


@contextlib.contextmanager
def eval_mode(model: nn.Module):
    """``model`` in eval mode and without gradients inside the block, in its former mode after it.

    In eval mode BatchNorm uses its running statistics, so one sample does not depend on the others of its batch.
    """
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        for module, mode in training.items():
            module.training = mode


def processor() -> str:
    """The name of this machine's processor, cores included: what a measured time is worth nothing without."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        name = found[1] if found else name
    return f"{name}, {os.cpu_count()} cores"


def project_root() -> Path | None:
    """The checkout this package runs from, or None where it was installed without one."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else None


def data_roots(root: str | os.PathLike | None = None) -> list[Path]:
    """The folders in which to look for image sets, in order.

    ``root`` if given, then the environment variable ``GANLIB_DATA``, then the checkout's ``data/``, then the user's
    own ``~/.cache/ganlib``. A relative ``GANLIB_DATA`` counts from the checkout, or from the working folder where
    there is no checkout: notebooks run in their own folder and must find the same data.
    """
    home = project_root()
    roots = [Path(root)] if root is not None else []
    if os.environ.get("GANLIB_DATA"):
        roots.append((home or Path.cwd()) / Path(os.environ["GANLIB_DATA"]).expanduser())
    if home:
        roots.append(home / "data")
    return [*roots, Path.home() / ".cache" / "ganlib"]


def cache_dir() -> Path:
    """The folder for what ganlib prepared or downloaded itself: ``GANLIB_CACHE``, the checkout's ``data/prepared/``,
    or ``~/.cache/ganlib/prepared``. It may not exist yet."""
    if os.environ.get("GANLIB_CACHE"):
        return Path(os.environ["GANLIB_CACHE"]).expanduser()
    home = project_root()
    return home / "data" / "prepared" if home else Path.home() / ".cache" / "ganlib" / "prepared"


def new_run_folder(path: str | os.PathLike) -> Path:
    """Make the folder ``path`` for a run, or ``path-2``, ``path-3``, … where a run is there already.

    Returns:
        the folder made; what an earlier run left is never touched.

    Raises:
        OSError: if the folder cannot be made, with what to do.
    """
    path = Path(path)
    for k in itertools.count(1):
        folder = path if k == 1 else path.with_name(f"{path.name}-{k}")
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            check_writable(folder)
            return folder


def new_file(path: str | os.PathLike, *others: str) -> Path:
    """``path``, or ``name-2.png``, ``name-3.png``, … in the place of ``name.png`` where there is a file already.

    Args:
        path: the file to be written; its folder is made.
        others: endings such as ``".gif"`` of files that will lie beside it under the same name.

    Raises:
        OSError: if its folder cannot be written, with what to do.
    """
    path = Path(path)
    for k in itertools.count(1):
        free = path if k == 1 else path.with_name(f"{path.stem}-{k}{path.suffix}")
        if not any(free.with_suffix(ending).exists() for ending in (path.suffix, *others)):
            check_writable(free.parent)
            return free


def check_writable(folder: str | os.PathLike) -> None:
    """Make ``folder`` if it is not there, and see that a file can be written in it: before a run, not after it.

    Raises:
        OSError: if it cannot, with what to do.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # has no name where the system can do that: a kill leaves nothing
    except OSError as error:
        raise type(error)(f"Cannot write in '{folder}' ({error.strerror}); choose another output folder.") from error
