"""A training step as one CUDA graph, with the same numbers.

Python starts a step's hundreds of short kernels more slowly than a GPU ends them; captured, they start with one call.
What a step draws enters by ``randomness.fresh``: a capture gets buffers there, which each replay fills by the same
calls in the same order. Python does not run in a replay: what is more than arithmetic on tensors is not captured.
"""

import contextlib
import dis
import inspect
import time
import warnings
from contextvars import copy_context
from functools import partial
from types import CellType, CodeType, FunctionType, ModuleType, SimpleNamespace

import torch
from torch import Tensor, nn

from ganlib._runtime.randomness import door, onto

WARM_UP = 3  # steps of a kind, the last of which is captured: libraries choose kernels, optimisers make their state
KINDS, PATIENCE = 4, 50  # of steps: as many have a graph, each with memory of its own; after so many, no more are tried
# What a step may use: these attributes, values of these types, functions of Python's and of these modules; but nothing
# that changes what is outside of it, or draws on the CPU without ``fresh`` (rand_like and dropout draw on the GPU).
ATTRIBUTES = {name for owner in (Tensor, nn.Module, torch.optim.Optimizer) for name in dir(owner)} | {"items", "values"}
ATTRIBUTES |= {"generator", "discriminator", "g_opt", "d_opt", "sample_z", "z_dim", "z_rng"}
VALUES = (int, float, str, tuple, type(None), Tensor, torch.dtype, torch.device, SimpleNamespace)
PYTHON = (abs, all, any, dict, enumerate, float, int, isinstance, len, list, max, min, next, range, sum, tuple, zip)
MODULES = (
    "torch",
    "math",
    "ganlib.losses",
    "ganlib.models",
    "ganlib.conditional",
    "ganlib.data.augment",
    "ganlib._runtime",
)
DRAWS = ("rand", "randn", "randint", "randperm", "normal", "manual_seed", "seed")
CHANGES = ("STORE_GLOBAL", "STORE_ATTR", "DELETE_GLOBAL", "DELETE_ATTR", "IMPORT_NAME")


class Captured:
    """A step for ``fit``: from its fourth call on a graph, or ``history.eager`` says why not."""

    def __init__(self, step, gan, history, where: torch.device, known=(), form=lambda step, steps_done: None):
        self.step, self.gan, self.history, self.where, self.form = step, gan, history, where, form
        self.groups = [group for each in (gan.g_opt, gan.d_opt) for group in each.param_groups]
        self.graphs, self.met, history.eager = {}, {}, reason_against(step, gan, known)

    def __call__(self, gan, batches) -> dict[str, Tensor]:
        built_in = [value for group in self.groups for name, value in group.items() if name != "params"]
        built_in += [gan.generator.training, gan.discriminator.training, *getattr(self.step, "keywords", {}).values()]
        key = self.form(self.step, gan.steps_done), *(id(v) if isinstance(v, Tensor) else repr(v) for v in built_in)
        if key in self.graphs:
            graph, tape, record = self.graphs[key]
            for draw, buffer in tape:
                buffer.copy_(onto(draw(), self.where))
            graph.replay()
            return {name: value.clone() for name, value in record.items()}
        self.met[key] = self.met.get(key, 0) + 1
        self.history.eager = self.history.eager or ("its settings never stay" if len(self.met) > PATIENCE else None)
        return self.step(gan, batches) if self.history.eager or self.met[key] < WARM_UP else self._capture(key, batches)

    def _capture(self, key, batches) -> dict[str, Tensor]:
        """Make a step as always, watched; capture it; and see whether a replay does the same."""
        tape, graph, numbers = [], torch.cuda.CUDAGraph(), torch.cuda.get_rng_state(self.where)
        before, able = [value.clone() for value in self._changing()], [g for g in self.groups if "capturable" in g]
        with warnings.catch_warnings(record=True) as told, contextlib.ExitStack() as stack:
            warnings.filterwarnings("always", message=".*synchroniz")
            stack.callback(torch.cuda.set_sync_debug_mode, torch.cuda.get_sync_debug_mode())
            torch.cuda.set_sync_debug_mode("warn")
            record = self._through(lambda draw, where: tape.append((draw, onto(draw(), where))) or tape[-1][1], batches)
        torch.cuda.synchronize()
        begun, buffers, changed = time.perf_counter(), iter(tape), self._changing()
        after = [value.clone() for value in changed]
        try:
            if any("synchroniz" in str(each.message) for each in told):
                raise ValueError("it waits for the GPU")
            for group in able:
                group["capturable"] = True
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                losses = self._through(lambda draw, where: next(buffers)[1], batches)
            torch._foreach_copy_(changed, before)
            torch.cuda.set_rng_state(numbers, self.where)
            graph.replay()
            if not _far(self._changing(), after) <= 0.1 * _far(before, after):
                raise ValueError("its graph does something else")
            self.graphs = dict([*self.graphs.items(), (key, (graph, tape, losses))][-KINDS:])
        except Exception as error:  # whatever it is: eager, the step works
            self.history.eager = str(error).partition("\n")[0]
        for group in able:
            group["capturable"] = False
        torch._foreach_copy_(changed, after)
        self.history.seconds -= time.perf_counter() - begun  # an equal time is for training
        return record

    def _through(self, way, batches) -> dict[str, Tensor]:
        record = copy_context().run(lambda: (door.set(way), self.step(self.gan, batches))[1])
        return {name: v.detach() if isinstance(v, Tensor) else torch.tensor(v) for name, v in record.items()}

    def _changing(self) -> list[Tensor]:
        states = [state for each in (self.gan.g_opt, self.gan.d_opt) for state in each.state.values()]
        for state in states:  # RMSprop counts on the CPU
            state.update({name: value.to(self.where) for name, value in state.items() if name == "step"})
        networks = [*self.gan.generator.state_dict().values(), *self.gan.discriminator.state_dict().values()]
        networks += [w.grad for group in self.groups for w in group["params"] if w.grad is not None]
        return networks + [value for state in states for value in state.values() if isinstance(value, Tensor)]


def _far(values: list[Tensor], others: list[Tensor]) -> Tensor:
    return torch.stack(
        [(a - b).norm() for a, b in zip(values, others, strict=True) if a.ndim and a.is_floating_point()]
    ).norm()


def reason_against(step, gan, known) -> str | None:
    """What in a step or its networks is more than arithmetic on tensors; None if nothing is."""
    for each in (gan.g_opt, gan.d_opt):
        if type(each) is not torch.optim.RMSprop and not each.param_groups[0].get("fused"):
            return f"its optimiser is a {type(each).__name__}"
    parts = [] if (step.func if type(step) is partial else step) in known else [(step, ())]
    for layer in [*gan.generator.modules(), *gan.discriminator.modules()]:
        parts += [(hook, ()) for hook in [*layer._forward_hooks.values(), *layer._forward_pre_hooks.values()]]
        parts += [(type(layer).forward, {*vars(layer), *layer._modules, *layer._parameters, *layer._buffers})]
    return next((found for part, own in parts if (found := _more(part, "it", own, []))), None)


def _more(part, name: str, own, seen: list) -> str | None:
    """What in a value called ``name`` is more than arithmetic; it may use the attributes ``own``."""
    given = list(part.keywords.items()) if type(part) is partial else []
    part = inspect.unwrap(part.func if type(part) is partial else part)
    origin, code = getattr(part, "__module__", None) or getattr(part, "__name__", ""), getattr(part, "__code__", None)
    ours = origin.startswith(("ganlib", *MODULES) if isinstance(part, ModuleType) else MODULES)
    if ours or isinstance(part, VALUES) or id(part) in seen or part in PYTHON:
        return f"it uses {name}" if name in DRAWS else None
    if not isinstance(part, FunctionType):
        return f"it uses {name}, a {type(part).__name__}"
    seen.append(id(part))
    cells = {
        n: c.cell_contents for n, c in zip(code.co_freevars, part.__closure__ or (), strict=True) if c != CellType()
    }
    known = {"LOAD_GLOBAL": part.__builtins__ | part.__globals__, "LOAD_DEREF": cells}
    given += zip(code.co_varnames, (*(part.__defaults__ or ()), *(part.__kwdefaults__ or {}).values()), strict=False)
    codes, found, name = [code], [], part.__name__
    for block in codes:
        codes += [const for const in block.co_consts if isinstance(const, CodeType)]
        done = [(i.opname, i.argval) for i in dis.get_instructions(block)]
        used = [(n, known[op][n]) for op, n in done if op in known and n in known[op]]
        owners = [value for _, value in used if isinstance(value, ModuleType | SimpleNamespace)]
        for attribute in (n for op, n in done if op in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR")):
            if owner := next((each for each in owners if hasattr(each, attribute)), None):
                used.append((attribute, getattr(owner, attribute)))
            elif attribute not in ATTRIBUTES and attribute not in own:
                found.append(f"{name} uses {attribute}")
        found += [f"{name} changes {n}" for op, n in done if op in CHANGES or (op == "STORE_DEREF" and n in cells)]
        found += [told for n, value in used + given if (told := _more(value, n, (), seen))]
    return next(iter(found), None)
