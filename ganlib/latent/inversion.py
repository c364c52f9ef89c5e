"""Finding a z for a given image, by gradient descent until G(z) looks like it:

    minimise over z   −log p(x | G(z))  −  prior · log N(z; 0, I)

The square of x − G(z) is the objective of Lipton & Tripathi 2017, arXiv:1702.04782; the cross-entropy between x and
G(z), with the log density of the prior added, that of Creswell & Bharath 2018, arXiv:1802.05701. They are the logs of a
Gaussian and of a Bernoulli likelihood. Not every image has a z: the remaining error shows what G cannot draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganlib._runtime.device import eval_mode
from ganlib._runtime.progress import progress as loop
from ganlib._runtime.randomness import rng
from ganlib.data.images import ImageSet, as_uint8, quantised, to_float

LIKELIHOODS = ("gaussian", "bernoulli")
LEAST_SIGMA = 1 / 255  # half a grey level: without it the likelihood of an exact image is unbounded
LEAST_P = 1e-6  # pixel probabilities stay this far from 0 and 1: their logarithms must be finite


@dataclass(frozen=True)
class Inversion:
    """The z found for each of N images, on the CPU; prints as one line."""

    z: Tensor  # float32 [N, z_dim]
    images: Tensor  # uint8 [N, C, H, W]: what the generator makes of z
    error: Tensor  # float32 [N]: root mean square difference from the given image in grey levels, 0 to 255
    nll: Tensor  # float32 [N]: −log p(x | G(z)) in nats; a Gaussian's is a density's and may be negative
    sigma: Tensor | None  # float32 [N]: the Gaussian's, in units of the pixels in [-1, 1]; None with a Bernoulli
    about: dict  # likelihood, restarts, steps, learning rate, prior and seed

    def __str__(self) -> str:
        a, sigma = self.about, "" if self.sigma is None else f" · learned σ {self.sigma.mean():.3f}"
        return (
            f"{len(self.z)} images · error {self.error.mean():.1f} grey levels (best {self.error.min():.1f}, worst "
            f"{self.error.max():.1f}) · {a['likelihood']}{sigma} · best of {a['restarts']} restarts, {a['steps']} steps"
        )

    def to_dict(self) -> dict:
        """The numbers for each image and how they were found, ready for JSON."""
        numbers = {"error": self.error, "nll": self.nll, "sigma": self.sigma, "z_length": self.z.norm(dim=1)}
        return {k: None if v is None else v.tolist() for k, v in numbers.items()} | self.about


def invert(
    generator: nn.Module,
    images: Tensor | ImageSet,
    *,
    likelihood: str = "gaussian",
    restarts: int = 4,
    steps: int = 500,
    lr: float = 0.2,
    prior: float = 1.0,
    seed: int = 0,
    progress: bool = True,
) -> Inversion:
    """Find a z for each image with Adam, keeping the best of several random restarts.

    All images and restarts are one batch, but independent. A Bernoulli likelihood is for pixels that are nearly black
    or white, such as digits. A Gaussian's σ is, at every step, the one that makes the image likeliest. With
    ``prior=0`` z may leave the region seen in training. Ctrl-C or ■ ends the search early, with what it has.
    """
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"likelihood is '{likelihood}', but must be one of: {', '.join(LIKELIHOODS)}.")
    for name, value in (("restarts", restarts), ("steps", steps), ("lr", lr), ("prior", prior)):
        if not (0 < value < math.inf or (name == "prior" and value == 0)):
            raise ValueError(f"{name} is {value}, but must be {'0 or more' if name == 'prior' else 'above 0'}.")
    where = next(generator.parameters()).device
    target = _target(generator, images).to(where).repeat(restarts, 1, 1, 1)
    z = torch.randn(len(target), generator.z_dim, generator=rng(seed)).to(where).requires_grad_()
    optimiser = torch.optim.Adam([z], lr)

    def judged() -> tuple[Tensor, Tensor, Tensor, Tensor]:  # of every z
        made = generator(z).float()
        nll, found = _nll(made, target, likelihood)
        return made, nll, found, nll + prior * z.square().sum(1) / 2

    with eval_mode(generator):
        for step in loop(range(steps), "inverting", show=progress):
            optimiser.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
            with torch.enable_grad():
                # Of z alone: the generator's weights get no gradient. No image's objective depends on another's z.
                (z.grad,) = torch.autograd.grad(judged()[-1].sum(), z)
            optimiser.step()
        made, nll, found, objective = (each.unflatten(0, (restarts, -1)).cpu() for each in judged())
    rows = objective.argmin(0), torch.arange(objective.shape[1])  # the best restart of each image
    z, made = z.detach().cpu().unflatten(0, (restarts, -1))[rows], made[rows]
    error = 127.5 * (made - target[: len(made)].cpu()).square().mean((1, 2, 3)).sqrt()
    about = {"likelihood": likelihood, "restarts": restarts, "steps": step + 1, "lr": lr, "prior": prior, "seed": seed}
    sigma = found[rows] if likelihood == "gaussian" else None
    return Inversion(z, quantised(made), error, nll[rows], sigma, about)


def _nll(made: Tensor, target: Tensor, likelihood: str) -> tuple[Tensor, Tensor]:
    """−log p of each image, [B], and σ, [B]."""
    if likelihood == "bernoulli":
        p = LEAST_P + (1 - 2 * LEAST_P) * (made + 1) / 2
        nll = F.binary_cross_entropy(p, (target + 1) / 2, reduction="none").sum((1, 2, 3))
        return nll, torch.full_like(nll, torch.nan)
    squares = (made - target).square().flatten(1)
    # The likeliest σ is known, and the objective is stationary there: σ needs no gradient.
    sigma = squares.detach().mean(1).sqrt().clamp(min=LEAST_SIGMA)
    constant = squares.shape[1] * (sigma.log() + math.log(2 * math.pi) / 2)
    return squares.sum(1) / (2 * sigma.square()) + constant, sigma


def _target(generator: nn.Module, images: Tensor | ImageSet) -> Tensor:
    """The images as floats in [-1, 1], if their size and channels are the generator's."""
    pixels = as_uint8(images)
    with eval_mode(generator):
        made = generator(torch.zeros(2, generator.z_dim, device=next(generator.parameters()).device))
    if pixels.shape[1:] != made.shape[1:]:
        shapes = f"The images are {list(pixels.shape[1:])}, but this generator's are {list(made.shape[1:])}"
        raise ValueError(f"{shapes}; load them with channels={made.shape[1]}, image_size={made.shape[2]}.")
    return to_float(pixels)
