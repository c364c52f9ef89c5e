"""Saving the players and rebuilding a generator: safetensors for the numbers, JSON for the rest, never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import nn

from ganlib import models, runtime, variants
from ganlib.steps import GAN

PRETRAINED = Path(__file__).parent / "weights" / "pretrained"

BUILDERS = {
    "dcgan": (models.dcgan_generator, models.dcgan_discriminator),
    "linear": (variants.linear_generator, variants.linear_discriminator),
    "pooled": (variants.pooled_generator, variants.pooled_discriminator),
}


def save(gan: GAN, folder: str | os.PathLike) -> Path:
    """Save generator, its running average and discriminator to ``folder``: one safetensors file each, and how to
    rebuild them, with each file's sha256, in ``model.json``.

    Each file is written under a temporary name and then renamed, so that a crash leaves no half-written file.

    Returns:
        the folder.

    Raises:
        OSError: if the folder cannot be written.
    """
    folder = Path(folder)
    players = {"generator": gan.generator, "ema_generator": gan.ema_generator, "discriminator": gan.discriminator}
    about = {name: getattr(model, "config", None) for name, model in players.items()}
    hashes: dict[str, str] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, model in players.items():
            part = folder / f"{name}.safetensors.part"
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, part)
            hashes[name] = hashlib.sha256(part.read_bytes()).hexdigest()
            part.replace(folder / f"{name}.safetensors")
        part = folder / "model.json.part"
        part.write_text(json.dumps({"steps_done": gan.steps_done, "sha256": hashes, **about}, indent=2) + "\n")
        part.replace(folder / "model.json")
    except (OSError, SafetensorError) as error:
        raise OSError(f"The checkpoint could not be written to '{folder}' ({error}).") from error
    gan.saved_in = folder.resolve()
    return folder


def claim(gan: GAN, folder: str | os.PathLike) -> None:
    """Make ``folder`` ready for checkpoints of ``gan``.

    Raises:
        FileExistsError: if it holds the checkpoint of another run: nothing is overwritten.
        OSError: if it cannot be written.
    """
    runtime.check_writable(folder)
    if (Path(folder) / "model.json").exists() and gan.saved_in != Path(folder).resolve():
        raise FileExistsError(
            f"'{folder}' holds the checkpoint of another run, which would be overwritten; choose another folder, "
            "or number them with ganlib.runtime.new_run_folder."
        )


def load_generator(folder: str | os.PathLike, name: str = "ema_generator") -> models.Generator:
    """The generator saved in ``folder``, on the CPU, in eval mode.

    Args:
        folder: what :func:`save` wrote.
        name: ``"ema_generator"`` (the running average, usually the better one) or ``"generator"``.

    Returns:
        network [B, z_dim] -> images [B, C, H, W] in [-1, 1].

    Raises:
        FileNotFoundError: if there is no checkpoint in ``folder``.
        ValueError: if it cannot be rebuilt or its weights do not fit.
    """
    folder = Path(folder)
    try:
        about = json.loads((folder / "model.json").read_text())
        config, wanted = dict(about[name]), about["sha256"][name]
        found = (folder / f"{name}.safetensors").read_bytes()
        weights = load(found)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"No checkpoint in '{folder}': '{Path(error.filename or f'{name}.safetensors').name}' is missing; "
            "give the folder that holds model.json."
        ) from error
    except (KeyError, TypeError, json.JSONDecodeError, SafetensorError) as error:
        raise ValueError(f"The checkpoint in '{folder}' is damaged or holds no {name} that can be rebuilt.") from error
    if hashlib.sha256(found).hexdigest() != wanted:
        raise ValueError(
            f"'{name}.safetensors' in '{folder}' is not the file that model.json describes (sha256 differs): it is "
            "damaged, or a crash came between the two; take an older checkpoint."
        )
    kind = config.pop("kind", None)
    if kind not in BUILDERS:
        raise ValueError(f"The checkpoint in '{folder}' is of kind '{kind}'; known are {', '.join(BUILDERS)}.")
    try:
        generator: nn.Module = BUILDERS[kind][0](**config)
        generator.load_state_dict(weights)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"The weights in '{folder}' do not fit the {kind} network that model.json describes."
        ) from error
    generator.averaged = name == "ema_generator"
    return generator.eval()


def pretrained(name: str) -> models.Generator:
    """A generator that comes with ganlib, from one of the gallery's runs (``examples/gallery/<name>``), on the CPU.

    Args:
        name: ``"cifar10"``.

    Returns:
        network [B, z_dim] -> images [B, C, H, W] in [-1, 1], in eval mode: the running average of its run.

    Raises:
        ValueError: if there is no such generator, or its file is damaged.
    """
    there = sorted(folder.name for folder in PRETRAINED.iterdir() if folder.is_dir())
    if name not in there:
        raise ValueError(f"No generator '{name}' comes with ganlib; there are: {', '.join(there)}.")
    return load_generator(PRETRAINED / name)
