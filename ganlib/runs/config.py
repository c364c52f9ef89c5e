"""What a run is: one dataclass that presets, notebooks and the command line fill in alike. It imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Images:
    """What is learned from."""

    dataset: str = "mnist"
    """mnist, fashion-mnist, cifar10, celeba, lfw, lsun, imagenet, toyfaces, fake; or the path of images of your own"""

    data_root: str | None = None
    """folder to look for the set in first; with dataset=folder, the images themselves"""

    classes: tuple[str, ...] = ()
    """only the images of these classes, by name or number"""

    workers: int = 1
    """threads that decode a folder's images while they are prepared, once"""

    n: int | None = None
    """at most so many images, the classes balanced"""

    image_size: int | None = None
    """height and width in pixels; by itself as the set has it"""

    channels: int | None = None
    """1 (grey) or 3 (colour); by itself as the set has it"""

    augment: tuple[Literal["flip", "translation", "cutout", "colour"], ...] = ()
    """flip mirrors reals at random; the others change all that the discriminator sees, for small sets"""


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The two players."""

    architecture: Literal["conv", "linear", "pooled", "class"] = "conv"
    """conv: DCGAN; linear: linear ends; pooled: a classifier's layout; class: a conv pair for each class"""

    z_dim: int = 64
    """size of the latent vector"""

    categories: int = 0
    """conv, class: of z's numbers, the last so many are a choice of one among them; 0 for none"""

    g_width: int = 32
    """channels of the generator's map next to the image"""

    d_width: int = 32
    """the same of the discriminator"""

    base: int = 4
    """conv: side that the smallest map has at most, pixels"""

    d_depth: int = 1
    """conv, class: the discriminator's convolutions at each size before it is halved; 1 is DCGAN's"""

    norm: Literal["batch", "none", "layer", "instance", "spectral"] | None = None
    """conv: what normalises the discriminator; by itself as the loss needs it"""

    generator: str | None = None
    """weights to start from: a .safetensors or .pth file, a checkpoint or a run"""

    discriminator: str | None = None
    """the same for the discriminator"""


@dataclass(frozen=True, kw_only=True)
class Game:
    """The loss; the settings below it are by themselves those of its paper."""

    loss: Literal["ns", "ns-r1", "minimax", "wgan", "wgan-gp", "hinge", "rpgan"] = "ns"
    """ns: non-saturating; ns-r1: the same with R1; rpgan: relativistic pairing with R1 and R2"""

    n_critic: int | None = None
    """wgan, wgan-gp: updates of the critic for each of the generator (5)"""

    clip_value: float | None = None
    """wgan: bound of the critic's weights (0.01)"""

    gp_weight: float | None = None
    """wgan-gp: weight of the gradient penalty (10)"""

    r1_gamma: float | None = None
    """rpgan, ns-r1: weight of the penalty at reals (1; ns-r1 0.02)"""

    r1_every: int | None = None
    """ns-r1: steps from one penalty to the next, which counts for all of them (8)"""

    r2_gamma: float | None = None
    """rpgan: the same at fakes (1)"""

    g_lr: float | None = None
    """the generator's learning rate (2e-4; wgan-gp 1e-4; wgan, whose optimiser is RMSprop, 5e-5)"""

    d_lr: float | None = None
    """the discriminator's, likewise"""

    betas: tuple[float, float] | None = None
    """Adam's decay rates (0.5 0.999; wgan-gp, hinge and rpgan 0 0.9)"""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long, and on what. The first limit that is reached ends a run; a longer run is given anew in full."""

    epochs: int | None = None
    """passes over the images (10, where nothing else is given)"""

    steps: int | None = None
    """updates of the generator, in place of epochs"""

    seconds: float | None = None
    """time limit; scores, snapshots and checkpoints are not counted"""

    batch_size: int = 64
    """images a batch"""

    ema_decay: float = 0.995
    """what the generator's running average keeps of itself each step; 0 for none"""

    seed: int = 0
    """of the first weights, z and the order of the images"""

    device: str | None = None
    """cuda, mps or cpu; by itself the best there is"""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the hardware has it in silicon; on a CPU only for networks of a million parameters or more"""

    processes: int = 1
    """processes on this machine that share each batch; on CUDA with a device each"""


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """The run's folder, and what is shown."""

    out: str | None = None
    """the run's folder; by itself runs/<dataset>, with a number if it is taken"""

    resume_path: str | None = None
    """go on with the run in this folder, with its own settings"""

    allow_changes: bool = False
    """with resume_path: go on with the other settings given, too"""

    print_every: int = 100
    """steps between two lines, where the output is no terminal"""

    snapshot_every: int | None = None
    """steps between two pictures of the same z, the film's frames (a fiftieth of the run)"""

    score_every: int | None = None
    """steps between two scores (a tenth of the run, at least 100); 0 for none"""

    checkpoint_every: int = 1000
    """steps between two checkpoints"""

    keep_epochs: tuple[int, ...] = ()
    """the checkpoints after these passes over the images stay, besides the last three and the best"""

    tensorboard: bool = False
    """write for TensorBoard, too"""

    dry_run: bool = False
    """print what would be done, and do nothing"""


@dataclass(frozen=True, kw_only=True)
class Config(Keeping, Training, Game, Networks, Images):
    """Everything that defines a run, under the headings of its help. What is None the loss or the images decide."""


@dataclass(frozen=True)
class Loss:
    """What a loss brings along.

    Attributes:
        step: name of its training step in :mod:`ganlib.steps`.
        lr: learning rate of both players.
        betas: Adam's decay rates; None where the optimiser is RMSprop.
        norm: what normalises a conv discriminator.
        own: the settings that only it has, with their values.
    """

    step: str
    lr: float
    betas: tuple[float, float] | None
    norm: str
    own: dict[str, float]


LOSSES = {
    "ns": Loss("dcgan_step", 2e-4, (0.5, 0.999), "batch", {}),
    "ns-r1": Loss("dcgan_r1_step", 2e-4, (0.5, 0.999), "batch", {"r1_gamma": 0.02, "r1_every": 8}),
    "minimax": Loss("minimax_step", 2e-4, (0.5, 0.999), "batch", {}),
    "wgan": Loss("wgan_step", 5e-5, None, "none", {"n_critic": 5, "clip_value": 0.01}),
    "wgan-gp": Loss("wgan_gp_step", 1e-4, (0.0, 0.9), "none", {"n_critic": 5, "gp_weight": 10.0}),
    "hinge": Loss("hinge_step", 2e-4, (0.0, 0.9), "spectral", {}),
    "rpgan": Loss("rpgan_step", 2e-4, (0.0, 0.9), "none", {"r1_gamma": 1.0, "r2_gamma": 1.0}),
}
LENGTH = ("epochs", "steps", "seconds")

# What may be given anew when a run goes on, without being another run. (Whether the images are still the same is seen
# in their pixels.)
FREE = {
    *LENGTH,
    *("dataset", "data_root", "workers", "out", "resume_path", "allow_changes", "tensorboard", "dry_run"),
    *("print_every", "snapshot_every", "score_every", "checkpoint_every", "keep_epochs"),
}


def changed(config: Config) -> dict:
    """The settings of ``config`` that are not the default, in JSON's types."""
    plain = Config()
    return {
        f.name: getattr(config, f.name) for f in fields(Config) if getattr(config, f.name) != getattr(plain, f.name)
    }
