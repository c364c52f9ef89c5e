"""Checkpoints: one safetensors file each, so that opening one runs no code.

Its tensors are named ``generator/…``, ``ema_generator/…``, ``discriminator/…``, ``g_opt/…``, ``d_opt/…`` (what the
optimisers keep), ``scaling/…`` (of float16), ``random/z`` and ``run/…`` (losses and the fixed z). Everything else that
training continues from is JSON in the file's metadata, with a digest of it all. Dropout needs nothing: ``fit`` seeds it
at each step.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from ganlib._runtime import device as runtime
from ganlib._runtime import durable
from ganlib._runtime.weights import load_strict
from ganlib.models import Generator
from ganlib.steps import GAN

PRETRAINED = Path(__file__).parent / "pretrained"
NETWORKS, OPTIMISERS = ("generator", "ema_generator", "discriminator"), ("g_opt", "d_opt")
NAME = re.compile(r"step-(\d+)\.safetensors$")
METADATA = "ganlib"  # one key: safetensors writes several in any order, but equal checkpoints must be equal files

log = logging.getLogger("ganlib")


def save(gan: GAN, path: str | os.PathLike) -> Path:
    """Save all of ``gan`` to a file: networks, optimisers, random state, counters."""
    path = Path(path)
    runtime.check_writable(path.parent)
    write_checkpoint(path, *capture(gan))
    return path


def resume(gan: GAN, path: str | os.PathLike) -> None:
    """Restore what :func:`save` saved, so that training continues exactly."""
    restore(gan, *newest(path))


def newest(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict]:
    """Tensors and facts of a checkpoint or a run's newest intact one; warns of damage."""
    path = Path(path)
    if not path.is_dir():
        return read_checkpoint(path)
    steps = steps_in(path)
    for step in reversed(steps):
        try:
            return read_checkpoint(path_of(path, step))
        except ValueError as error:
            log.warning(f"{error} {'The one before is taken.' if step != steps[0] else ''}")
    if steps:
        raise ValueError(f"No checkpoint in '{path}' is intact; train anew, in another folder.")
    raise FileNotFoundError(f"There is no checkpoint in '{path}'; give a checkpoint's file or a run's folder.")


def steps_in(folder: str | os.PathLike) -> list[int]:
    """The steps of a run's checkpoints, intact or damaged, the oldest first."""
    there = Path(folder) / "checkpoints"
    return sorted(int(m[1]) for p in (there.iterdir() if there.is_dir() else ()) if (m := NAME.match(p.name)))


def path_of(folder: str | os.PathLike, step: int) -> Path:
    """The path of the checkpoint of ``step`` in a run's folder."""
    return Path(folder) / "checkpoints" / f"step-{step:06d}.safetensors"


def path_at(path: str | os.PathLike, step: int | None) -> Path:
    """The checkpoint of ``step`` in a run's folder; for None ``path`` itself, which means its newest."""
    path = Path(path)
    if step is None:
        return path
    if step not in (there := steps_in(path)):
        listed = ", ".join(f"{at:,}" for at in there) or "none"
        raise FileNotFoundError(f"The run in '{path}' has no checkpoint of step {step:,}; it has: {listed}.")
    return path_of(path, step)


def write_checkpoint(path: Path, tensors: dict[str, Tensor], facts: dict) -> None:
    """Write one file, durably and under its final name only when it is complete."""
    text = json.dumps(facts)
    durable.write(path, to_bytes(tensors, {METADATA: f"{_digest(tensors, text)} {text}"}))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and facts of one file; ValueError if its digest does not match."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint '{path}'; give a checkpoint's file or a run's folder.")
    try:
        with safe_open(path, "pt") as file:
            digest, _, text = file.metadata()[METADATA].partition(" ")
        tensors, facts = from_bytes(path.read_bytes()), json.loads(text)
        if _digest(tensors, text) != digest:
            raise ValueError("its sha256 differs from the one in it")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"'{path}' is damaged, or not a checkpoint of ganlib's ({error}).") from error
    return tensors, facts


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        found.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def load_generator(path: str | os.PathLike, name: str = "ema_generator") -> Generator:
    """The averaged generator of a checkpoint or run, or its ``"generator"``, to sample.

    It is in eval mode, on the best device.
    """
    tensors, facts = newest(path)
    if (config := facts["networks"].get(name)) is None:
        raise ValueError(f"'{path}' does not say how its {name} is built; build it yourself and load the weights.")
    generator = Generator.build(config)
    load_strict(generator, part_of(tensors, name), path)
    generator.averaged, generator.steps_done = name == "ema_generator", facts["steps_done"]
    return generator.eval().to(runtime.device())


def part_of(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weights of one network among the tensors of a checkpoint."""
    return {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}


def pretrained(name: str) -> Generator:
    """A generator that comes with ganlib, such as "celeba" or "cifar10", in eval mode."""
    return load_generator(shipped(name, ".safetensors"))


def record(name: str) -> dict[str, list[dict]]:
    """Measurements made during runs that come with ganlib: run -> moments."""
    return json.loads(shipped(name, ".json").read_text(encoding="utf-8"))


def shipped(name: str, ending: str) -> Path:
    """A file that comes with ganlib."""
    there = {path.stem: path for path in sorted(PRETRAINED.glob(f"*{ending}"))}
    if name not in there:
        raise ValueError(f"No '{name}{ending}' comes with ganlib; there are: {', '.join(there)}.")
    return there[name]


def capture(gan: GAN) -> tuple[dict[str, Tensor], dict]:
    """A copy of the training state of ``gan``: tensors, and facts in JSON's types."""
    tensors = {f"{n}/{k}": _copy(v) for n in NETWORKS for k, v in getattr(gan, n).state_dict().items()}
    tensors |= {f"scaling/{name}": _copy(value) for name, value in gan.scaling.items()}
    tensors["random/z"] = gan.z_rng.get_state()
    facts = {"steps_done": gan.steps_done, "data_position": gan.data_position, "optimisers": {}}
    facts["networks"] = {name: getattr(getattr(gan, name), "config", None) for name in NETWORKS}
    for name in OPTIMISERS:
        optimiser = getattr(gan, name)
        state, groups = optimiser.state_dict().values()
        for key, v in ((key, v) for kept in state.values() for key, v in kept.items()):
            if not isinstance(v, Tensor | bool | int | float):
                raise TypeError(
                    f"{name} keeps a {type(v).__name__} in '{key}', which no checkpoint can hold; use an optimiser "
                    "whose state is tensors and numbers, such as Adam."
                )
        tensors |= {
            f"{name}/{k}/{key}": _copy(torch.as_tensor(v)) for k, kept in state.items() for key, v in kept.items()
        }
        groups = [{k: v.tolist() if isinstance(v, Tensor) else v for k, v in group.items()} for group in groups]
        facts["optimisers"][name] = {"kind": type(optimiser).__name__, "groups": groups}
    return tensors, facts


def restore(gan: GAN, tensors: dict[str, Tensor], facts: dict, keep_settings: Collection[str] = ()) -> None:
    """Restore what :func:`capture` copied; nothing changes if a network does not fit.

    An optimiser in ``keep_settings`` keeps its learning rate and the like; one of another kind keeps everything.
    """
    if "optimisers" not in facts:
        raise ValueError("The checkpoint holds networks alone: training cannot continue from it.")
    networks = nn.ModuleDict({name: getattr(gan, name) for name in NETWORKS})
    weights = {f"{name}.{key}": value for name in NETWORKS for key, value in part_of(tensors, name).items()}
    load_strict(networks, weights, "the checkpoint")
    for name in OPTIMISERS:
        optimiser, saved, state = getattr(gan, name), facts["optimisers"][name], {}
        if saved["kind"] == type(optimiser).__name__:
            for path, value in part_of(tensors, name).items():
                number, _, key = path.partition("/")
                state.setdefault(int(number), {})[key] = value
            groups = optimiser.state_dict()["param_groups"]
            if name not in keep_settings:
                pairs = zip(groups, saved["groups"], strict=True)
                groups = [{key: _like(own.get(key), value) for key, value in group.items()} for own, group in pairs]
            optimiser.load_state_dict({"state": state, "param_groups": groups})
    gan.steps_done, gan.data_position = facts["steps_done"], facts["data_position"]
    gan.z_rng.set_state(tensors["random/z"])
    gan.scaling = part_of(tensors, "scaling")


def _like(own, value):
    """``value`` converted to the type of ``own``: JSON has neither tensors nor tuples."""
    return own.new_tensor(value) if isinstance(own, Tensor) else tuple(value) if isinstance(own, tuple) else value


def _copy(value: Tensor) -> Tensor:
    return value.detach().to("cpu").clone(memory_format=torch.contiguous_format)
