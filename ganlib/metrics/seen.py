"""What is seen of two players: what passes between them in a step, and what else is known of their run."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from ganlib._runtime.randomness import global_generators_kept, rng, seed_step
from ganlib.data.images import ImageSet
from ganlib.steps import GAN

SMALL = 8  # pixels a side, at which images are compared
MANY = 256  # images compared at a time


@dataclass
class Judged:
    """What the discriminator was given once, its answers, and what came back."""

    given: Tensor
    answers: Tensor
    role: str  # real, fake or penalised
    through: bool  # whether a gradient may flow back to the generator
    gradient: Tensor | None = None  # of the loss by each answer, times their number
    turn: int = -1  # which of the optimisers' steps came next
    kept: bool = False  # whether the gradient can be differentiated itself

    def note(self, gradient: Tensor, turn: int) -> None:
        self.kept, self.turn = torch.is_grad_enabled(), turn  # the engine's mode: that of create_graph
        self.gradient = gradient.detach().float() * gradient.numel()


@dataclass
class Note:
    """What is kept of a look: the values of its checks, and what later looks compare with."""

    step: int
    values: dict[str, float]
    z: Tensor | None
    fixed_z: Tensor
    center: Tensor  # the mean fake
    reals: Tensor | None  # the mean of a batch of reals


@dataclass
class Seen:
    """A step (or a few) of the players, and whatever else is known of the run."""

    generator: nn.Module
    discriminator: nn.Module
    g_opt: torch.optim.Optimizer
    d_opt: torch.optim.Optimizer
    gan: GAN | None = None
    z: list[Tensor] = field(default_factory=list)  # what G was given, call by call
    fakes: list[Tensor] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    pushes: list[float] = field(default_factory=list)  # gradients at fakes: the largest norm of one, times the number
    turns: list[str] = field(default_factory=list)  # the optimisers, in the order of their steps
    moved: dict[str, float] = field(default_factory=dict)
    unzeroed: dict[str, float] = field(default_factory=dict)
    record: dict[str, float] = field(default_factory=dict)  # what the step returned
    losses: Mapping[str, Sequence[float]] = field(default_factory=dict)
    scores: Sequence[tuple[int, dict]] = ()
    best_by: tuple[str, str] | None = None
    images: object = None
    held_out: ImageSet | None = None
    earlier: Sequence[Note] = ()

    @property
    def steps(self) -> int:
        """Steps so far, as far as is known."""
        return self.gan.steps_done if self.gan else max(map(len, self.losses.values()), default=0)

    def of(self, role: str, mover: str | None = None) -> list[Judged]:
        """What was judged in that role, with a gradient that moved ``mover``."""
        those = [j for j in self.judged if j.role == role]
        return [j for j in those if self.turns[j.turn : j.turn + 1] == [mover]] if mover else those

    def small(self, role: str) -> Tensor:
        """Some of the reals or fakes, flat, and small if they are images."""
        images = self.fakes if role == "fake" else [j.given for j in self.of("real")]
        return shrunk(torch.cat(images)[:MANY]) if images else torch.empty(0, 1)

    def note(self, values: dict[str, float]) -> Note:
        """What later looks need of this one."""
        z = self.z[0][:4].clone() if self.z else None
        reals = self.of("real", "d_opt")
        center = shrunk(reals[0].given).mean(0) if reals else None
        return Note(self.steps, values, z, self.gan.fixed_z.clone(), self.small("fake").mean(0), center)


def shrunk(images: Tensor) -> Tensor:
    images = images.float()
    if images.ndim == 4 and images.shape[-1] > SMALL:
        images = adaptive_avg_pool2d(images, SMALL)
    return images.flatten(1)


def weights(player: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten().float() for weight in player.parameters()])


def has_batch_norm(player: nn.Module) -> bool:
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in player.modules())


def tried(gan: GAN, step: Callable, batches: Iterator[Tensor]) -> Seen:
    """What passes between copies of the players in a step; ``batches`` are used up."""
    own, gan, device = gan, copy.deepcopy(gan), next(gan.generator.parameters()).device
    for network in ("generator", "discriminator"):
        pairs = zip(*(getattr(each, network).parameters() for each in (own, gan)), strict=True)
        for k, (old, new) in enumerate(pairs):  # what a step finds there: a step before has left it
            left = torch.randn(new.shape, generator=rng(k)).to(new) if old.grad is None else old.grad.clone()
            new.grad = left if new.requires_grad else None
    seen = Seen(gan.generator, gan.discriminator, gan.g_opt, gan.d_opt, gan)
    with global_generators_kept(device), listening(seen):
        seed_step(gan.seed, gan.steps_done, device)
        record = step(gan, batches)
    seen.record = {name: float(torch.as_tensor(value).detach()) for name, value in record.items()}
    return seen


@contextlib.contextmanager
def listening(seen: Seen):
    """Note in ``seen`` what passes through its players in the block."""
    players = {"generator": seen.generator, "discriminator": seen.discriminator}
    before, handles, raw = {name: weights(player) for name, player in players.items()}, [], []

    def drawn(_player, given, fake):
        seen.z.append(given[0].detach())
        seen.fakes.append(fake.detach())
        if fake.requires_grad:
            fake.register_hook(lambda push: seen.pushes.append(len(push) * push.flatten(1).norm(dim=1).max().item()))

    def judged(_player, _given, answers):
        given = raw.pop()
        role = "fake" if given.requires_grad or given.data_ptr() in {fake.data_ptr() for fake in seen.fakes} else "real"
        if given.requires_grad and given.is_leaf:
            role = "penalised"
        one = Judged(given.detach(), answers.detach().float(), role, given.requires_grad and not given.is_leaf)
        seen.judged.append(one)
        if answers.requires_grad:
            answers.register_hook(lambda gradient: one.note(gradient, len(seen.turns)))

    def stepping(name, weight, incoming):
        def compare(*_):
            """Is the gradient what has come in since somebody stepped, or does it hold more?"""
            now, total, best = [gradient for turn, gradient in incoming if turn == len(seen.turns)], 0.0, 0.0
            for gradient in reversed(now):
                total = total + gradient
                best = max(best, _cosine(total, weight.grad))
            if now and weight.grad.abs().max() > 0:
                seen.unzeroed[name] = max(1 - best, seen.unzeroed.get(name, 0.0))
            incoming.clear()
            seen.turns.append(name)

        return compare

    handles.append(seen.generator.register_forward_hook(drawn))
    handles.append(seen.discriminator.register_forward_pre_hook(lambda _p, x: raw.append(x[0]), prepend=True))
    handles.append(seen.discriminator.register_forward_hook(judged))
    for name, player, optimiser in zip(("g_opt", "d_opt"), players.values(), (seen.g_opt, seen.d_opt), strict=True):
        held = {id(weight) for group in optimiser.param_groups for weight in group["params"]}
        own = [weight for weight in player.parameters() if id(weight) in held and weight.requires_grad]
        *_, weight = [w for w in own if w.ndim > 1] or own or [torch.zeros(1, requires_grad=True)]
        incoming = []
        note = lambda gradient, kept=incoming: kept.append((len(seen.turns), gradient.detach().clone()))  # noqa: E731
        handles.append(weight.register_hook(note))
        handles.append(optimiser.register_step_pre_hook(stepping(name, weight, incoming)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
    seen.moved |= {name: (weights(player) - before[name]).abs().max().item() for name, player in players.items()}
    seen.fakes = [fake.detach() for fake in seen.fakes]


def _cosine(a: Tensor, b: Tensor) -> float:
    a, b = (x.flatten().double() / x.abs().max().double().clamp(min=1e-300) for x in (a, b))
    return torch.cosine_similarity(a, b, dim=0).item()
