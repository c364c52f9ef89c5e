"""A CUDA device that is not there, for machines without one.

Inside ``with virtual_cuda() as gpu:`` tensors stay in the CPU's memory and are computed there, but know a device: a
tag on their storage, which views, parameters and detached tensors share; and it has random numbers of its own. Where a
real card raises an error (tensors on two devices, ``.numpy()`` of its tensors, a CPU generator for a tensor there), so
does this one. Where Python would wait for a real card to finish its work, that is counted with the line that waits:
``gpu.waits``, and torch's sync debug mode works. It has graphs (virtual_graph.py), but no kernels or streams of its
own. With ``kind="mps"`` it refuses float64, as Apple's devices do.

The idea is a ``TorchFunctionMode``: torch hands it every function called with or for a tensor, in this thread, but not
what runs inside such a function; so a result is on the device if any of its arguments is.
"""

from __future__ import annotations

import collections
import contextlib
import sys
import warnings
from functools import partial
from unittest import mock

import torch
import torch._dynamo  # torch's optimisers import it, and it must not meet what is replaced here
from torch import Tensor
from torch.overrides import TorchFunctionMode
from virtual_graph import VirtualGraph, capturing

CPU = torch.device("cpu")


def named(owner, names: str) -> set:
    return {getattr(owner, name) for name in names.split() if hasattr(owner, name)}


# Functions that make a tensor; the second line those that copy what they are given.
FILLED = named(torch, "zeros ones empty full rand randn randint randperm arange linspace logspace eye empty_strided")
FILLED |= named(torch, "tril_indices triu_indices hann_window normal")
COPIED = named(torch, "tensor as_tensor asarray scalar_tensor from_numpy frombuffer")
# What needs a number from the device in Python, or a shape that depends on numbers there.
READS = named(Tensor, "item tolist __float__ __int__ __bool__ __index__ __format__ __repr__ __contains__ is_nonzero")
SIZED = {each for owner in (torch, Tensor) for each in named(owner, "nonzero argwhere masked_select unique bincount")}
SIZED |= named(torch, "allclose equal isin unique_consecutive histc") | named(Tensor, "allclose equal")
# What may be called with tensors of several devices; the result is where the first of them is.
ACROSS = named(Tensor, "copy_ __setitem__ __getitem__ expand_as view_as reshape_as set_ index_put_ index_put")
ACROSS |= named(torch, "_has_compatible_shallow_copy_type _foreach_copy_") | {torch.autograd.backward}
# What draws random numbers, on the device those of the device.
DRAWN = {
    each for owner in (torch, torch.nn.functional) for each in named(owner, "dropout feature_dropout alpha_dropout")
}
DRAWN |= named(torch, "rand randn randint randperm normal rand_like randn_like randint_like bernoulli multinomial")
DRAWN |= named(Tensor, "normal_ uniform_ random_ bernoulli_ bernoulli exponential_ multinomial")
# Where not even a single number may be on another device, as it may in arithmetic.
STRICT = named(torch, "cat stack concat conv2d conv_transpose2d matmul mm bmm addmm")
STRICT |= {torch.nn.functional.linear, Tensor.matmul, Tensor.__matmul__}


def tensors_in(value) -> list[Tensor]:
    """The tensors in an argument or a result, which may be nested."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for each in value for tensor in tensors_in(each)]
    return tensors_in([*value.values()]) if isinstance(value, dict) else []


def is_there(tensor: Tensor) -> bool:
    """Whether a tensor is on the virtual device."""
    try:
        return getattr(tensor.untyped_storage(), "virtual", False)
    except (NotImplementedError, RuntimeError):  # sparse tensors, and those without memory
        return False


def put(tensor: Tensor, there: bool) -> None:
    """Say where a tensor is, and everything that shares its memory."""
    if tensor.layout != torch.strided or is_there(tensor) == there:
        return
    if tensor.untyped_storage().device.type == "cpu":  # not "meta"
        tensor.untyped_storage().virtual = there


def is_pinned(tensor: Tensor) -> bool:
    return getattr(tensor.untyped_storage(), "pinned", False)


class VirtualDevice(TorchFunctionMode):
    """The device; see the module's docstring."""

    def __init__(self, kind: str):
        super().__init__()
        self.device, self.waits = torch.device(kind, 0), collections.Counter()
        self.numbers, self.capturing, self.on_wait = torch.Generator(), False, "default"

    @contextlib.contextmanager
    def own_numbers(self):
        """torch's generator draws the device's numbers in the block."""
        before = torch.default_generator.get_state()
        torch.default_generator.set_state(self.numbers.get_state())
        try:
            yield
        finally:
            self.numbers.set_state(torch.default_generator.get_state())
            torch.default_generator.set_state(before)

    def wait(self, what: str, asked: bool = False) -> None:
        """Count a wait, by what waits and the innermost line outside torch and this file."""
        frame = sys._getframe(1)
        while frame and (frame.f_code.co_filename == __file__ or "site-packages" in frame.f_code.co_filename):
            frame = frame.f_back
        where = frame and f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"
        self.waits[f"{where} {what}"] += 1
        if self.on_wait == "error" and not asked:
            raise RuntimeError(f"called a synchronizing CUDA operation at {where}")
        if self.on_wait == "warn" and not asked:
            warnings.warn("called a synchronizing CUDA operation", stacklevel=2)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name in ("__get__", "__set__"):
            return self._property(func, name, *args)
        inputs = args[:1] if func is Tensor.__deepcopy__ else args  # the second is what has been copied before
        tensors = tensors_in(inputs) + tensors_in(kwargs)
        there = [is_there(tensor) for tensor in tensors]
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.type_as):
            return self._moved(func, *args, **kwargs)
        if func is Tensor.is_pinned:
            return is_pinned(tensors[0])
        target = self._target(func, name, kwargs, any(there))
        pinned = func is Tensor.pin_memory or (func in FILLED | COPIED and kwargs.pop("pin_memory", False))
        if any(there):
            self._check(func, tensors, there, target)
            self._count(func, tensors, there, later=kwargs.get("non_blocking", False))
        with self.own_numbers() if func in DRAWN and (target or any(there)) else contextlib.nullcontext():
            found = tensors[0].clone() if func is Tensor.pin_memory else func(*args, **kwargs)
        if target is not None or any(there):
            place = target if target is not None else there[0] if func in ACROSS else True
            for each in tensors_in(found):
                put(each, place)
                self._check_dtype(each)
        if pinned:
            found.untyped_storage().pinned = True
        return found

    def _property(self, func, name: str, *args):
        """An attribute of a tensor, read or set."""
        (tensor, *value), attribute = args, getattr(getattr(func, "__self__", None), "__name__", "")
        if name == "__set__":
            if attribute == "grad" and isinstance(value[0], Tensor) and is_there(tensor) != is_there(value[0]):
                raise RuntimeError("assigned grad has data located on a different device")
            return func(*args)
        if attribute == "device" and is_there(tensor):
            return self.device
        if attribute in ("is_cuda", "is_mps", "is_cpu"):
            return attribute == f"is_{self.device.type if is_there(tensor) else 'cpu'}"
        found = func(*args)
        if attribute in ("grad", "_grad"):
            for each in tensors_in(found):  # it was made inside of backward, where nothing is seen
                put(each, is_there(tensor))
        return found

    def _target(self, func, name: str, kwargs: dict, some_there: bool) -> bool | None:
        """Where a function that makes tensors puts them; None for all others."""
        makes = func in FILLED or func in COPIED
        if not makes and not name.endswith("_like") and not name.startswith("new_"):
            return None
        given = kwargs.get("device")
        if given is not None:
            if torch.device(given).type == "meta":
                return False
            kwargs["device"] = CPU
            target = torch.device(given).type == self.device.type
        else:
            target = some_there and (not makes or func in (torch.as_tensor, torch.asarray))
        if target and isinstance(kwargs.get("generator"), torch.Generator):
            raise RuntimeError(f"Expected a '{self.device.type}' device type for generator but found 'cpu'")
        if target and (name == "new_tensor" or (func in COPIED and not some_there)):
            self.wait("copies from Python")
        return target

    def _check(self, func, tensors: list[Tensor], there: list[bool], target: bool | None) -> None:
        """Raise what a real device raises."""
        if func in (Tensor.numpy, Tensor.__array__):
            raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first.")
        if func is Tensor.pin_memory:
            raise RuntimeError(f"cannot pin a tensor of {self.device}: only dense CPU tensors can be pinned")
        if func is Tensor.__getitem__ and not there[0]:
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        if not all(there) and func not in ACROSS and target is None:
            odd = [tensor for tensor, is_there in zip(tensors, there, strict=True) if not is_there]
            if func in STRICT or any(tensor.ndim for tensor in odd):
                what = getattr(func, "__qualname__", func)
                found = f"but found at least two devices, {self.device} and cpu! (in {what})"
                raise RuntimeError(f"Expected all tensors to be on the same device, {found}")

    def _count(self, func, tensors: list[Tensor], there: list[bool], later: bool) -> None:
        """Count what would wait."""
        if func is Tensor.__getitem__:
            for index, is_there in zip(tensors[1:], there[1:], strict=True):
                if index.dtype in (torch.bool, torch.uint8) or index.ndim == 0 or not is_there:
                    self.wait("indexes")
        elif func is Tensor.__setitem__ and any(t.ndim and not here for t, here in zip(tensors, there, strict=True)):
            self.wait("copies")
        elif func in READS or func in SIZED or (func is torch.where and len(tensors) == 1):
            self.wait("reads")
        elif func is Tensor.copy_ and there[0] != there[1] and not (later and there[0] and is_pinned(tensors[1])):
            self.wait("copies")

    def _check_dtype(self, tensor: Tensor) -> None:
        if self.device.type == "mps" and tensor.dtype == torch.float64 and is_there(tensor):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype; use float32 instead.")

    def _moved(self, func, tensor: Tensor, *args, copy: bool = False, **kwargs):
        """``.to``, ``.cpu`` and ``.cuda``: another device, dtype or memory format."""
        here, layout, dtype = is_there(tensor), kwargs.get("memory_format"), tensor.dtype
        if func in (Tensor.cpu, Tensor.cuda):
            wanted, later = func is Tensor.cuda, kwargs.get("non_blocking", False)
        elif others := tensors_in([*args[:1], kwargs.get("other")]):
            other = others[0]
            wanted, dtype, later = is_there(other), other.dtype, kwargs.get("non_blocking", False)
        else:
            device, given, later, layout = torch._C._nn._parse_to(*args, **kwargs)
            if device is not None and device.type == "meta":
                return func(tensor, *args, **kwargs)
            dtype = given or dtype
            wanted = here if device is None else device.type == self.device.type
        how = {} if layout is None else {"memory_format": layout}
        moved = Tensor.to(tensor, dtype=dtype, copy=copy or wanted != here, **how)
        if wanted != here and (here or not (later and is_pinned(tensor))):
            self.wait("copies")
        if moved is not tensor:
            put(moved, wanted)
            self._check_dtype(moved)
        return moved


class _Autocast(torch.amp.autocast_mode.autocast):
    def __init__(self, device_type, *args, **kwargs):
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


def _grouped(gpu: VirtualDevice, group):
    """How optimisers group tensors by their device, of which C++ knows nothing here."""

    def by_device(lists, with_indices=False):
        there = any(is_there(tensor) for tensor in lists[0])
        found = group(lists, with_indices)
        return {(gpu.device if there else device, dtype): each for (device, dtype), each in found.items()}

    return staticmethod(by_device)


@contextlib.contextmanager
def virtual_cuda(capability: tuple[int, int] = (8, 0), kind: str = "cuda"):
    """A virtual device of this thread in the block, of the compute ``capability``."""
    gpu = VirtualDevice(kind)
    numbers = gpu.numbers
    backend = torch.cuda if kind == "cuda" else torch.mps
    instead = {
        **dict(is_available=lambda: True, device_count=lambda: 1, manual_seed=numbers.manual_seed),
        **dict(get_rng_state=lambda *_: numbers.get_state(), set_rng_state=lambda state, *_: numbers.set_state(state)),
        "synchronize": lambda *_: gpu.wait("synchronises", asked=True),
    }
    if kind == "cuda":
        instead |= dict(is_initialized=lambda: True, current_device=lambda: 0, manual_seed_all=numbers.manual_seed)
        instead |= dict(get_device_capability=lambda *_: capability, get_device_name=lambda *_: "virtual")
        instead["device"] = lambda *_: contextlib.nullcontext()
        instead |= dict(CUDAGraph=partial(VirtualGraph, gpu), graph=partial(capturing, gpu))
        instead |= dict(get_sync_debug_mode=lambda: gpu.on_wait, is_current_stream_capturing=lambda: gpu.capturing)
        instead["set_sync_debug_mode"] = partial(setattr, gpu, "on_wait")
        instead |= dict(mem_get_info=lambda: (8e9, 16e9), max_memory_allocated=lambda: 1e9)
        instead["reset_peak_memory_stats"] = lambda: None
    with contextlib.ExitStack() as stack:
        for name, function in instead.items():
            stack.enter_context(mock.patch.object(backend, name, function))
        stack.enter_context(mock.patch.object(torch.backends.mps, "is_available", lambda: kind == "mps"))
        stack.enter_context(mock.patch.object(torch.accelerator, "current_accelerator", lambda *_, **__: None))
        optimiser, group = torch.optim.Optimizer, "_group_tensors_by_device_and_dtype"
        stack.enter_context(mock.patch.object(optimiser, group, _grouped(gpu, getattr(optimiser, group))))
        for owner in (torch, torch.amp):
            stack.enter_context(mock.patch.object(owner, "autocast", _Autocast))
        stack.enter_context(gpu)
        yield gpu
