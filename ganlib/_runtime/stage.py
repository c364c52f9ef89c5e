"""Preparing for training: players, optimisers and batches, placed for speed."""

from __future__ import annotations

import logging

import torch

log = logging.getLogger("ganlib")


def memory_layout(device: torch.device) -> torch.memory_format:
    """The fastest memory format: channels last, but not on MPS (pytorch#140902)."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def set_the_stage(gan, batches) -> None:
    """Move players and optimisers to the device, and batches to their saved position."""
    device = batches.device
    for model in (gan.generator, gan.ema_generator, gan.discriminator):
        model.to(device, memory_format=memory_layout(device))
    gan.generator.train()
    gan.discriminator.train()
    for optimiser in (gan.g_opt, gan.d_opt):
        fused = isinstance(optimiser, torch.optim.Adam | torch.optim.AdamW | torch.optim.SGD)
        for group in optimiser.param_groups:
            if fused and group.get("fused") is None and not group.get("differentiable"):
                group["fused"] = True  # a single kernel for all weights
            for weight in group["params"]:
                for name, value in optimiser.state.get(weight, {}).items():
                    if torch.is_tensor(value) and value.shape == weight.shape:
                        # The fused kernel pairs numbers by their place in memory: lay out state as its weight.
                        optimiser.state[weight][name] = torch.empty_like(weight).copy_(value)
                    elif torch.is_tensor(value) and group.get("fused"):
                        optimiser.state[weight][name] = value.to(weight.device)
    if gan.data_position:
        try:
            batches.load_state_dict(gan.data_position)
        except ValueError as error:
            log.info(f"The images start from their first epoch. {error}")
