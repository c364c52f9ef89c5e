"""A CUDA graph that is not there: it notes the operations of a block, and makes them again in the same memory.

As in a real one, nothing of the block takes effect while it is captured, Python does not run in a replay, and what
needs a number from the device cannot be captured.
"""

import contextlib

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = {"_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero", "is_pinned"}
CHANGE_INPUTS = {"native_batch_norm", "cudnn_batch_norm"}  # though their schemas do not say so


def memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class VirtualGraph:
    """Stands in for ``torch.cuda.CUDAGraph``."""

    def __init__(self, gpu):
        self.gpu, self.operations = gpu, []

    def replay(self) -> None:
        with torch._C.DisableTorchFunction(), torch._C._AutoDispatchBelowAutograd(), self.gpu.own_numbers():
            for function, args, kwargs, made in self.operations:
                found = tree_leaves(function(*args, **kwargs))
                for k, tensor in made:
                    tensor.copy_(found[k])


class _Noting(TorchDispatchMode):
    def __init__(self, graph: VirtualGraph):
        super().__init__()
        self.graph, self.made, self.before = graph, set(), {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, function.overloadpacket.__name__
        if name in WAITS:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({name})\nMore.")
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        there = {memory(each) for each in given}
        changes = function._schema.is_mutable or name in CHANGE_INPUTS
        for each in given if changes else ():
            if memory(each) not in self.made | {*self.before}:
                storage = each.untyped_storage()
                self.before[memory(each)] = storage, storage.clone()
        found = function(*args, **kwargs)
        made = [(k, each) for k, each in enumerate(tree_leaves(found)) if isinstance(each, Tensor)]
        made = [(k, each) for k, each in made if memory(each) not in there and each.numel()]
        self.made |= {memory(each) for _, each in made}
        if made or changes:
            self.graph.operations.append((function, args, kwargs, made))
        return found

    def undo(self) -> None:
        for storage, before in self.before.values():
            storage.copy_(before)


@contextlib.contextmanager
def capturing(gpu, graph: VirtualGraph, capture_error_mode: str = "global"):
    """Stands in for ``torch.cuda.graph``."""
    numbers, noting = gpu.numbers.get_state(), _Noting(graph)
    gpu.capturing = True
    try:
        with noting:
            yield
    finally:
        gpu.capturing = False
        noting.undo()
        gpu.numbers.set_state(numbers)
