"""The game with controls: a live figure for JupyterLab, Colab and every other notebook that shows ipywidgets."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Mapping

import torch
from PIL import Image

from ganlib._runtime.device import rng
from ganlib.losses import minimax_g_loss, non_saturating_g_loss
from ganlib.viz.plane import picture

LOSSES = {"non-saturating": non_saturating_g_loss, "minimax (saturating)": minimax_g_loss}
SHOWN = 300  # points of each kind in the picture


def playground(
    make_gan: Callable,
    step: Callable,
    targets: Mapping[str, Callable],
    *,
    batch_size: int = 128,
    steps_a_frame: int = 10,
    seed: int = 0,
):
    """A game in the plane with its controls, to end a notebook's cell with.

    The learning rates, the discriminator's updates and the loss may change while it runs; another target, or "start
    over", builds the players anew.

    Args:
        make_gan: ``make_gan(seed)`` builds the players, a ``steps.GAN`` of points [B, 2].
        step: one generator update, ``step(gan, batches, g_loss_of=..., n_d=...)``: with this loss of the generator's
            on the logits [B], after so many updates of the discriminator.
        targets: name -> sampler, ``sampler(n, rng)`` -> points [n, 2].
        batch_size: points of each kind in a batch.
        steps_a_frame: steps between two pictures.
        seed: of the players and of all that is drawn.

    Returns:
        an ``ipywidgets.HBox``: the controls and the picture.

    Raises:
        ImportError: if ipywidgets is not installed.
        ValueError: if there is no target.
    """
    if not targets:
        raise ValueError("There is no target to learn; give at least one, such as {'ring': toys.ring}.")
    try:
        import ipywidgets as w
    except ImportError as error:
        raise ImportError("The live figure needs ipywidgets: pip install ipywidgets, then run this again.") from error

    def named(kind, description, **settings):
        wide = {"style": {"description_width": "130px"}, "layout": w.Layout(width="400px")}
        return kind(description=description, **wide, **settings)

    target = named(w.Dropdown, "target", options=list(targets))
    loss = named(w.Dropdown, "generator's loss", options=list(LOSSES))
    # The players come with learning rates of their own: the sliders start there.
    start = make_gan(seed)
    rates = [
        named(w.FloatLogSlider, f"{name}'s learning rate", value=opt.param_groups[0]["lr"], min=-5, max=-1, step=0.1)
        for name, opt in (("G", start.g_opt), ("D", start.d_opt))
    ]
    n_d = named(w.IntSlider, "D updates per G's", value=1, min=1, max=10)
    play = w.Play(min=0, max=1_000_000, interval=50, show_repeat=False)  # a clock that lives in the browser
    again = w.Button(description="start over")
    view, note = w.Image(format="png", width=450, height=450), w.HTML()
    game = {}

    def start_over(*_):
        gan, draw = make_gan(seed), rng(seed)
        sampler = targets[target.value]
        game.update(gan=gan, steps=0, batches=(sampler(batch_size, draw) for _ in itertools.count()))
        game["real"] = sampler(SHOWN, rng(seed + 1))
        game["z"] = torch.randn(SHOWN, gan.z_dim, generator=rng(seed + 2))
        game["extent"] = 1.5 * game["real"].abs().max().item()
        show()

    def go_on(*_):
        for opt, rate in zip((game["gan"].g_opt, game["gan"].d_opt), rates, strict=True):
            for group in opt.param_groups:
                group["lr"] = rate.value
        for _ in range(steps_a_frame):
            record = step(game["gan"], game["batches"], g_loss_of=LOSSES[loss.value], n_d=n_d.value)
        game["steps"] += steps_a_frame
        show("".join(f" · {name} {torch.as_tensor(value).item():.3f}" for name, value in record.items()))

    def show(losses=""):
        with torch.no_grad():
            fake = game["gan"].generator(game["z"])
        try:
            frame = picture(
                game["real"], fake, game["gan"].discriminator, LOSSES[loss.value], extent=game["extent"], size=450
            )
        except ValueError as error:  # a learning rate too far: say so, and wait for "start over"
            setattr(play, "playing" if play.has_trait("playing") else "_playing", False)  # ipywidgets 8, 7
            note.value = f"{error}"
            return
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "PNG")
        view.value, note.value = buffer.getvalue(), f"step {game['steps']:,}{losses}"

    play.observe(lambda change: go_on() if change["new"] else start_over(), "value")  # its stop button goes back to 0
    target.observe(start_over, "value")
    loss.observe(lambda _: show(), "value")
    again.on_click(start_over)
    start_over()
    return w.HBox([w.VBox([target, loss, *rates, n_d, w.HBox([play, again]), note]), view])
