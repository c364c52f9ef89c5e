"""The game with controls: a live figure for notebooks that show ipywidgets."""

import itertools
from collections.abc import Callable, Mapping

import imageio.v3 as iio
import torch

from ganlib._runtime.randomness import rng
from ganlib.losses import minimax_g_loss, non_saturating_g_loss
from ganlib.viz.plane import picture

G_LOSSES = {"non-saturating": non_saturating_g_loss, "minimax (saturating)": minimax_g_loss}
SHOWN = 300  # points of each kind in the picture


def playground(make_gan: Callable, step: Callable, targets: Mapping, *, batch_size=128, steps_a_frame=10, seed=0):
    """A game in the plane with its controls: an ``ipywidgets.HBox``.

    ``make_gan(seed)`` builds the players, a ``GAN`` of points [B, 2]. ``step(gan, batches, g_loss_of=..., n_d=...)`` is
    one generator update with this loss of the logits [B], after ``n_d`` updates of the discriminator. ``targets`` are
    named samplers, ``sampler(n, rng)`` -> points [n, 2]. The rates, ``n_d`` and the loss may change while it runs, with
    ``steps_a_frame`` steps between two pictures; a new target, or "start over", builds new players.
    """
    return _Playground(make_gan, step, targets, batch_size, steps_a_frame, seed).box


class _Playground:
    """The players, and the widgets that show and control them."""

    def __init__(self, make_gan, step, targets, batch_size: int, steps_a_frame: int, seed: int):
        if not targets:
            raise ValueError("There is no target to learn; give at least one, such as {'ring': toys.ring}.")
        try:
            import ipywidgets as w
        except ImportError as error:
            raise ImportError("The live figure needs ipywidgets: pip install ipywidgets, and try again.") from error
        self.make_gan, self.step, self.targets = make_gan, step, targets
        self.batch_size, self.steps_a_frame, self.seed = batch_size, steps_a_frame, seed
        wide = {"style": {"description_width": "130px"}, "layout": w.Layout(width="400px")}
        self.target = w.Dropdown(description="target", options=list(targets), **wide)
        self.loss = w.Dropdown(description="generator's loss", options=list(G_LOSSES), **wide)
        players = make_gan(seed)  # the sliders start at the players' learning rates
        self.rates = [
            w.FloatLogSlider(opt.param_groups[0]["lr"], description=f"{name}'s learning rate", min=-5, max=-1, **wide)
            for name, opt in (("G", players.g_opt), ("D", players.d_opt))
        ]
        self.n_d = w.IntSlider(1, description="D updates per G's", min=1, max=10, **wide)
        self.play = w.Play(min=0, max=1_000_000, interval=50, show_repeat=False)  # a clock that runs in the browser
        again = w.Button(description="start over")
        self.view, self.note = w.Image(format="png", width=450, height=450), w.HTML()

        self.play.observe(lambda tick: self.train() if tick["new"] else self.start_over(), "value")  # ■ goes back to 0
        self.target.observe(self.start_over, "value")
        self.loss.observe(lambda _: self.show(), "value")
        again.on_click(self.start_over)
        self.start_over()
        controls = [self.target, self.loss, *self.rates, self.n_d, w.HBox([self.play, again]), self.note]
        self.box = w.HBox([w.VBox(controls), self.view])

    def start_over(self, *_):
        self.gan, self.steps, draw = self.make_gan(self.seed), 0, rng(self.seed)
        sampler = self.targets[self.target.value]
        self.batches = (sampler(self.batch_size, draw) for _ in itertools.count())
        self.real = sampler(SHOWN, rng(self.seed + 1))
        self.z = torch.randn(SHOWN, self.gan.z_dim, generator=rng(self.seed + 2))
        self.show()

    def train(self):
        for opt, rate in zip((self.gan.g_opt, self.gan.d_opt), self.rates, strict=True):
            for group in opt.param_groups:
                group["lr"] = rate.value
        for _ in range(self.steps_a_frame):
            record = self.step(self.gan, self.batches, g_loss_of=G_LOSSES[self.loss.value], n_d=self.n_d.value)
        self.steps += self.steps_a_frame
        self.show("".join(f" · {name} {torch.as_tensor(value).item():.3f}" for name, value in record.items()))

    def show(self, losses: str = ""):
        with torch.no_grad():
            fake = self.gan.generator(self.z)
        game = self.real, fake, self.gan.discriminator, G_LOSSES[self.loss.value]
        try:
            frame = picture(*game, extent=1.5 * self.real.abs().max().item(), size=450)
        except ValueError as error:  # learning rate too high: say so, and wait for "start over"
            setattr(self.play, "playing" if self.play.has_trait("playing") else "_playing", False)  # ipywidgets 8, 7
            self.note.value = f"{error}"
            return
        self.view.value = iio.imwrite("<bytes>", frame, extension=".png", plugin="pillow")
        self.note.value = f"step {self.steps:,}{losses}"
