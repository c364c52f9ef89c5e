"""Finding a z for a given image. A generator has no inverse, so z is moved downhill until G(z) looks like the image:

    minimise over z   −log p(x | G(z))  −  prior · log N(z; 0, I)

The square of x − G(z) is the objective of Lipton & Tripathi 2017, arXiv:1702.04782; the cross-entropy between x and
G(z), with the log density of the prior added, that of Creswell & Bharath 2018, arXiv:1802.05701. They are the logs of a
Gaussian and of a Bernoulli likelihood. Not every image has a z: what stays is what the generator cannot draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganlib._runtime.device import eval_mode
from ganlib._runtime.progress import bar
from ganlib._runtime.randomness import rng
from ganlib.data.images import ImageSet, as_uint8, to_float, to_uint8

LIKELIHOODS = ("gaussian", "bernoulli")
LEARNED = "learned"
LEAST_SIGMA = 1 / 255  # half a grey level: a likelihood of exact images has no upper bound
LEAST_P = 1e-6  # no probability of a pixel is nearer to 0 or 1: its logarithm must be finite


@dataclass(frozen=True)
class Inversion:
    """The z found for each of N images, on the CPU; prints as one line."""

    z: Tensor  # float32 [N, z_dim]
    images: Tensor  # uint8 [N, C, H, W]: what the generator makes of z
    error: Tensor  # float32 [N]: root mean square difference to the given image in grey levels, 0 to 255
    nll: Tensor  # float32 [N]: −log p(x | G(z)) in nats; a Gaussian's is of a density and may be negative
    sigma: Tensor | None  # float32 [N]: the Gaussian's, in units of the pixels in [-1, 1]; None with a Bernoulli
    restarts_error: Tensor  # float32 [restarts, N]: the error that each restart came to
    about: dict  # likelihood, the sigma asked for, restarts, steps, learning rate, prior and seed

    def __str__(self) -> str:
        a, sigma = self.about, ""
        if self.sigma is not None:
            sigma = f" · {'learned ' if a['given_sigma'] == LEARNED else ''}σ {self.sigma.mean():.3f}"
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
    sigma: float | str = LEARNED,
    restarts: int = 4,
    steps: int = 500,
    lr: float = 0.2,
    prior: float = 1.0,
    seed: int = 0,
    progress: bool = True,
) -> Inversion:
    """Find a z for each image (uint8, or float in [-1, 1]) with Adam; of several random restarts the best is kept.

    All images and restarts are one batch, but none sees another. A Bernoulli likelihood is for pixels that are nearly
    black or white, such as digits. A small ``sigma`` weighs the image against the prior more; ``"learned"`` takes at
    every step the one that makes the image likeliest. With ``prior=0`` z may run off to where nothing was trained.
    """
    _check(likelihood, sigma, restarts, steps, lr, prior)
    where = next(generator.parameters()).device
    target = _target(generator, images).to(where).repeat(restarts, 1, 1, 1)
    z = torch.randn(len(target), generator.z_dim, generator=rng(seed)).to(where).requires_grad_()
    optimiser = torch.optim.Adam([z], lr)

    def judged() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is made of z, its −log likelihood, σ and the objective, one of each for every z."""
        made = generator(z).float()
        nll, found = _nll(made, target, likelihood, sigma)
        return made, nll, found, nll + prior * z.square().sum(1) / 2

    with eval_mode(generator), bar(steps, "inverting", "step", show=progress) as shown:
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
            with torch.enable_grad():
                # Of z alone: the generator's weights get no gradient. No image's objective depends on another's z.
                (z.grad,) = torch.autograd.grad(judged()[-1].sum(), z)
            optimiser.step()
            shown.update()
        made, nll, found, objective = (each.unflatten(0, (restarts, -1)).cpu() for each in judged())
    rows = objective.argmin(0), torch.arange(objective.shape[1])  # of each image the best restart
    error = 127.5 * (made - target.view(made.shape).cpu()).square().mean((2, 3, 4)).sqrt()
    given_sigma, found = (sigma, found[rows]) if likelihood == "gaussian" else (None, None)
    asked = {"likelihood": likelihood, "given_sigma": given_sigma, "restarts": restarts, "steps": steps}
    z = z.detach().cpu().view(restarts, -1, z.shape[1])[rows]
    about = {**asked, "lr": lr, "prior": prior, "seed": seed}
    return Inversion(z, to_uint8(made[rows]), error[rows], nll[rows], found, error, about)


def _nll(made: Tensor, target: Tensor, likelihood: str, sigma: float | str) -> tuple[Tensor, Tensor]:
    """−log p of each image, [B], and σ, [B]."""
    if likelihood == "bernoulli":
        p = LEAST_P + (1 - 2 * LEAST_P) * (made + 1) / 2
        nll = F.binary_cross_entropy(p, (target + 1) / 2, reduction="none").sum((1, 2, 3))
        return nll, torch.full_like(nll, torch.nan)
    squares = (made - target).square().flatten(1)
    if sigma == LEARNED:
        # The maximum over σ is known, and there the objective does not change with σ: no gradient goes through it.
        found = squares.detach().mean(1).sqrt().clamp(min=LEAST_SIGMA)
    else:
        found = torch.full_like(squares[:, 0], sigma)
    constant = squares.shape[1] * (found.log() + math.log(2 * math.pi) / 2)
    return squares.sum(1) / (2 * found.square()) + constant, found


def _target(generator: nn.Module, images: Tensor | ImageSet) -> Tensor:
    """The images as floats in [-1, 1], if they are of the size and the channels that the generator makes."""
    pixels = as_uint8(images)
    with eval_mode(generator):
        made = generator(torch.zeros(2, generator.z_dim, device=next(generator.parameters()).device))
    if pixels.shape[1:] != made.shape[1:]:
        raise ValueError(
            f"The images are {list(pixels.shape[1:])}, but this generator's are {list(made.shape[1:])}; load them with "
            f"channels={made.shape[1]}, image_size={made.shape[2]}."
        )
    return to_float(pixels)


def _check(likelihood: str, sigma: float | str, restarts: int, steps: int, lr: float, prior: float) -> None:
    given = isinstance(sigma, int | float) and 0 < sigma < math.inf
    for wrong, sentence in (
        (likelihood not in LIKELIHOODS, f"likelihood is '{likelihood}', but must be one of: {', '.join(LIKELIHOODS)}."),
        (sigma != LEARNED and not given, f"sigma is {sigma}, but must be '{LEARNED}' or above 0, such as 0.2."),
        (given and likelihood == "bernoulli", f"sigma is {sigma}, but a Bernoulli likelihood has none; leave it out."),
        (restarts < 1, f"restarts is {restarts}, but must be at least 1."),
        (steps < 1, f"steps is {steps}, but must be at least 1."),
        (not 0 < lr < math.inf, f"lr is {lr}, but must be above 0, such as 0.2."),
        (not 0 <= prior < math.inf, f"prior is {prior}, but the weight of the prior is 0 or more."),
    ):
        if wrong:
            raise ValueError(sentence)
