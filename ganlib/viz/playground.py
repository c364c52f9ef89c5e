"""The game in the plane with controls: a live figure for notebooks that show ipywidgets."""

import inspect
import io
import itertools
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from PIL import Image

from ganlib._runtime import notebook
from ganlib._runtime.randomness import rng
from ganlib.data.toys import modes_covered
from ganlib.losses import minimax_g_loss, non_saturating_g_loss
from ganlib.steps import change
from ganlib.viz.controls import slider
from ganlib.viz.display import img
from ganlib.viz.plane import picture
from ganlib.viz.sparks import small_curves

G_LOSSES = {"non-saturating": non_saturating_g_loss, "minimax (saturating)": minimax_g_loss}
BETAS = [(0.0, 0.9), (0.5, 0.9), (0.5, 0.999), (0.9, 0.999)]
TURNS = [1, 2, 3, 4, 5, 7, 10, 15, 20]  # updates of one player in a step
SIZE, CURVES, WIDE = 450, 130, 380  # pixels: the picture's side, the curves' height, and the controls' width
SHOWN, COUNTED = 300, 2500  # points in the picture, and fakes for the modes: as many as in the papers
CLOCK, A_TICK = 30, 4  # milliseconds between two ticks of the browser's clock, which waits for the answer to one before
# it sends the next; and pictures in an answer: one alone would make the way there and back the longer part


def playground(make_gan: Callable, step: Callable, targets: Mapping, *, centers=None, batch_size=128, seed=0):
    """A game in the plane with its controls: an ``ipywidgets.HBox``.

    ``make_gan(seed)`` builds the players, a ``GAN`` of points [B, 2]; ``step(gan, batches)`` is one step. There is a
    control for each of these keywords that they take: ``z_dim`` and ``betas`` (Adam's) of ``make_gan``, and of ``step``
    each player's updates in it, ``n_d`` and ``n_g``, and the generator's loss of the logits [B], ``g_loss_of``.
    ``targets`` are named samplers, ``sampler(n, rng)`` -> points [n, 2]; ``centers`` maps the names of those that have
    modes to ``(centers, std)``, as in ``modes_covered``. A frozen discriminator has the learning rate 0.

    Where nobody can answer (nbconvert, nbval, scripts), it is a plain picture of the untrained players.
    """
    if not targets:
        raise ValueError("There is no target to learn; give at least one, such as {'ring': toys.ring}.")
    game = _Game(make_gan, step, targets, centers or {}, batch_size, seed)
    return _with_controls(game) if notebook.someone_there() else _Still(game)


class _Game:
    """The players, and what is set; no widgets."""

    def __init__(self, make_gan, step, targets, centers, batch_size: int, seed: int):
        self.make_gan, self.step, self.targets, self.centers = make_gan, step, targets, centers
        self.batch_size, self.seed, self.target = batch_size, seed, next(iter(targets))
        self.players = _taken(make_gan, z_dim=2, betas=(0.9, 0.999))
        self.turn = _taken(step, g_loss_of=None, n_d=1, n_g=1)
        if "g_loss_of" in self.turn:
            self.turn["g_loss_of"] = non_saturating_g_loss  # one of the menu's
        self.start_over()
        self.rates = {f"{name}_lr": getattr(self.gan, f"{name}_opt").param_groups[0]["lr"] for name in "gd"}
        self.d_frozen = False

    def start_over(self) -> None:
        self.gan, self.steps, draw = self.make_gan(self.seed, **self.players), 0, rng(self.seed)
        sampler = self.targets[self.target]
        self.batches = (sampler(self.batch_size, draw) for _ in itertools.count())
        self.real = sampler(SHOWN, rng(self.seed + 1))
        self.z = torch.randn(COUNTED, self.gan.z_dim, generator=rng(self.seed + 2))
        self.losses, self.changed = {}, set()

    def train(self, steps: int) -> None:
        change(self.gan, self.step, "g_lr", self.rates["g_lr"])
        change(self.gan, self.step, "d_lr", 0.0 if self.d_frozen else self.rates["d_lr"])
        for _ in range(steps):
            for name, value in self.step(self.gan, self.batches, **self.turn).items():
                self.losses.setdefault(name, []).append(torch.as_tensor(value).item())
        self.steps += steps

    def look(self) -> tuple[np.ndarray, str]:
        """The picture with the curves below it, and a line of numbers; a ValueError says who has diverged."""
        with torch.no_grad():
            fake = self.gan.generator(self.z)
        g_loss, extent = self.turn.get("g_loss_of", non_saturating_g_loss), 1.5 * self.real.abs().max().item()
        above = picture(self.real, fake[:SHOWN], self.gan.discriminator, g_loss, extent=extent, size=SIZE)
        below = small_curves(self.losses, (SIZE, CURVES), marks=self.changed)
        line = [f"step {self.steps:,}", *(f"{name} {values[-1]:.3f}" for name, values in self.losses.items())]
        if self.target in self.centers:
            modes, share = modes_covered(fake, *self.centers[self.target])
            line.append(f"{modes} of {len(self.centers[self.target][0])} modes, {share:.0%} of the points on a mode")
        return np.concatenate([above, below]), " · ".join(line)


def _taken(function: Callable, **otherwise) -> dict:
    """Which of these keywords a function takes, at its own default if it has one."""
    given = inspect.signature(function).parameters
    own = {name: given[name].default for name in otherwise if name in given}
    return {name: otherwise[name] if value is inspect.Parameter.empty else value for name, value in own.items()}


def _jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85, subsampling=0)  # 15 times as fast as a PNG
    return buffer.getvalue()


class _Still:
    """A game's first picture, for pages without controls."""

    def __init__(self, game: _Game):
        pixels, line = game.look()
        self.jpeg, self.text = _jpeg(pixels[:SIZE]), f"The game in the plane, {line}"

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return img("image/jpeg", self.jpeg, SIZE, self.text)


def _with_controls(game: _Game):
    """The widgets, which set, run and show the game."""
    try:
        import ipywidgets as w
    except ImportError as error:
        raise ImportError("The live figure needs ipywidgets: pip install ipywidgets, and try again.") from error
    view, note = w.Image(format="jpeg", width=SIZE, height=SIZE + CURVES), w.HTML(layout=w.Layout(width=f"{SIZE}px"))
    play = w.Play(min=0, max=1_000_000, interval=CLOCK, show_repeat=False)  # a clock that runs in the browser
    one, again = (w.Button(description=text, layout=w.Layout(width="90px")) for text in ("one step", "start over"))
    pace = slider("steps a picture", 5, [1, 2, 5, 10, 20, 50], WIDE)

    def show():
        try:
            pixels, note.value = game.look()
            view.value = _jpeg(pixels)
        except ValueError as error:  # learning rate too high: say so, and wait for "start over"
            setattr(play, "playing" if play.has_trait("playing") else "_playing", False)  # ipywidgets 8, 7
            note.value = f"{error}"

    def then_show(act, *arguments, times=1):
        for _ in range(times):
            with notebook.between_cells() as free:  # the game waits while a cell runs
                if free:
                    act(*arguments)
                    show()

    def tick(clock):  # ■ sets it back to 0, but keeps the game
        if clock["new"]:
            then_show(game.train, pace.value, times=A_TICK)

    notebook.watch_cells()
    play.observe(tick, "value")
    one.on_click(lambda _: then_show(game.train, 1))
    again.on_click(lambda _: then_show(game.start_over))
    show()
    rows = [*_settings(game, partial(then_show, lambda: None)), pace, w.HBox([play, one, again])]
    return w.HBox([w.VBox(rows), w.VBox([view, note])], layout=w.Layout(flex_flow="row wrap"))


def _settings(game: _Game, show: Callable) -> list:
    """The widgets that set what the next step does, and who plays."""
    import ipywidgets as w

    def control(widget, settings: dict, name: str, new_game=False):
        def obey(moved):
            settings[name] = moved["new"]
            game.start_over() if new_game else game.changed.add(game.steps)
            show()

        widget.observe(obey, "value")
        return widget

    how = {"style": {"description_width": "150px"}, "layout": w.Layout(width=f"{WIDE}px")}  # as a slider's
    rows = [w.HTML("<b>Starts a new game, with new players</b>")]
    targets = w.Dropdown(description="target", options=list(game.targets), **how)
    rows.append(control(targets, vars(game), "target", True))
    for name, text, values in (("z_dim", "z_dim", [1, 2, 4, 8, 16, 32]), ("betas", "Adam's betas", BETAS)):
        if name in game.players:
            rows.append(control(slider(text, game.players[name], values, WIDE), game.players, name, True))
    rows.append(w.HTML("<b>Acts at once</b>"))
    if "g_loss_of" in game.turn:
        losses = w.Dropdown(description="generator's loss", options=list(G_LOSSES.items()), **how)
        rows.append(control(losses, game.turn, "g_loss_of"))
    for name, rate in game.rates.items():
        rows.append(control(slider(f"{name[0].upper()}'s learning rate", rate, wide=WIDE), game.rates, name))
    rows.append(control(w.Checkbox(False, description="freeze D", **how), vars(game), "d_frozen"))
    for name in ("n_d", "n_g"):
        if name in game.turn:
            text = f"{name[2].upper()}'s updates a step"
            rows.append(control(slider(text, game.turn[name], TURNS, WIDE), game.turn, name))
    return rows
