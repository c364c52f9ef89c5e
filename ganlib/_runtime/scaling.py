"""Training in float16, whose small gradients are 0 and whose large ones infinite, unless the loss is scaled."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

FIRST_SCALE, MOST_OF_OWN = 2.0**16, 2.0**8  # at most 65,504 fits, and a sum of scores has the gradient 1
GROWS_AFTER = 2000  # steps without an overflow; then the scale doubles, and with each overflow it halves


class LossScaling(TorchFunctionMode):
    """In the block, one step in float16; the step itself need not know.

    ``loss.backward()`` multiplies the loss with ``gan.scaling["scale"]`` and divides the new gradients by it, so that
    ``.grad`` is what it is without. Once a gradient is not finite, the rest of the step's updates are skipped, by the
    optimisers' own kernels: Python never asks whether. ``torch.autograd.grad`` of a step's own, as in a penalty, has a
    scale that a sum of scores can take, too. (ganlib's penalties are in float32 and need none.)
    """

    def __init__(self, gan, where: torch.device):
        super().__init__()
        self.gan, self.overflow, self.one = gan, torch.zeros((), device=where), torch.ones((), device=where)

    def __enter__(self):
        gan, where = self.gan, self.overflow.device
        if not gan.scaling:
            gan.scaling = {"scale": torch.tensor(FIRST_SCALE), "steps": torch.tensor(0, dtype=torch.int32)}
        gan.scaling = {name: value.to(where) for name, value in gan.scaling.items()}  # a checkpoint is on the CPU
        self.overflow.zero_()
        gan.g_opt.found_inf = gan.d_opt.found_inf = self.overflow
        self.hooks = [each.register_step_pre_hook(self._look) for each in (gan.g_opt, gan.d_opt)]
        return super().__enter__()

    def __exit__(self, *error):
        for hook in self.hooks:
            hook.remove()
        del self.gan.g_opt.found_inf, self.gan.d_opt.found_inf
        super().__exit__(*error)
        scale, steps = self.gan.scaling["scale"], self.gan.scaling["steps"]
        torch._amp_update_scale_(scale, steps, self.overflow, 2.0, 0.5, GROWS_AFTER)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, scale = kwargs or {}, self.gan.scaling["scale"]
        if func is torch.autograd.grad:
            first, scale = kwargs.pop("outputs") if "outputs" in kwargs else args[0], scale.clamp(max=MOST_OF_OWN)
            outputs = [each.float() * scale for each in ([first] if isinstance(first, Tensor) else first)]
            return tuple(g if g is None else g / scale for g in func(outputs, *args[1:], **kwargs))
        if func is not Tensor.backward:
            return func(*args, **kwargs)
        weights = [w for o in (self.gan.g_opt, self.gan.d_opt) for group in o.param_groups for w in group["params"]]
        before = [weight.grad for weight in weights]
        for weight in weights:
            weight.grad = None
        (args[0].float() * scale).backward(*args[1:], **kwargs)
        if new := [weight.grad for weight in weights if weight.grad is not None]:
            torch._foreach_mul_(new, scale.reciprocal())
        for weight, earlier in zip(weights, before, strict=True):
            if earlier is not None:
                weight.grad = earlier if weight.grad is None else earlier.add_(weight.grad)
        return None

    def _look(self, optimiser, *_) -> None:
        """Note whether a gradient is not finite, before the update."""
        if found := [w.grad for group in optimiser.param_groups for w in group["params"] if w.grad is not None]:
            torch._amp_foreach_non_finite_check_and_unscale_(found, self.overflow, self.one)
