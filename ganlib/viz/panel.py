"""The live panel: samples, curves and controls that answer while ``fit`` trains."""

from __future__ import annotations

import functools
import html
import io
import itertools
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from ganlib._runtime import notebook
from ganlib._runtime.device import eval_mode
from ganlib._runtime.progress import Bar
from ganlib.data.images import quantised
from ganlib.steps import GAN, change
from ganlib.viz.controls import score_name, slider, told
from ganlib.viz.display import img
from ganlib.viz.images import grid
from ganlib.viz.sparks import small_curves

SAMPLES_WIDE, SAMPLES_TALL, CURVES_WIDE = 544, 290, 420  # pixels of the picture's parts, about
REDRAWN = 0.5  # seconds between two pictures, at least
SHARE = 0.012  # of the time is spent on pictures, at most
LISTENS = 0.02  # seconds between two looks at the controls


def panel(gan: GAN, step: Callable | None = None, *, run=None, controls: bool = True, **values):
    """A watcher for ``fit`` that shows a run while it trains, and lets it be changed.

        step = functools.partial(wgan_step, n_critic=5)
        history = fit(gan, step, images, steps=2000, watchers=[viz.panel(gan, step)])

    It shows samples of the averaged generator and the curves twice a second (less often where that would take more than
    1.2% of the time), and has sliders for both learning rates and for each keyword of ``step``, if that is a
    ``functools.partial``. ``values`` are what a keyword may become, by its name: ``n_critic=[1, 2, 5]``, or functions,
    ``g_loss_of=[one, other]``. With ``run`` there is a button that saves a checkpoint.

    Each change is noted in ``history.changes``, from which ``ganlib.steps.repeat`` makes the run again, bit for bit; a
    run that nobody touches is the run without a panel. Where nobody can be looking, it is a progress bar; where a
    notebook's kernel is of an unknown kind, the picture alone.
    """
    taken = step.keywords if isinstance(step, functools.partial) else {}
    if unknown := [name for name in values if name not in taken]:
        raise ValueError(f"The step has no '{unknown[0]}' to change; write functools.partial(step, {unknown[0]}=...).")
    return _Panel(gan, step, run, controls, {name: values.get(name) for name in taken})


class _Panel:
    """What is on the page, and what the buttons asked for."""

    def __init__(self, gan, step, run, controls: bool, values: dict):
        self.gan, self.step, self.run, self.with_controls, self.values = gan, step, run, controls, values
        self.bar, self.shown = Bar(), False

    def __call__(self, history) -> None:
        self.bar(history)
        if not history.running:
            self._close(history)
            return
        if not self.shown:
            if not notebook.someone_there():
                return
            self._open()
        if (now := time.monotonic()) > self.heard + LISTENS:
            self.heard = now
            self._obey(history)
        if now > self.due or self.paused:
            self._draw(history)
        while self.paused and not self.one_step and not history.stopping:
            time.sleep(LISTENS)
            self._obey(history)
        self.one_step = False

    def _open(self) -> None:
        self.shown, self.view, self.words, self.heard, self.due = True, None, None, 0.0, 0.0
        self.paused = self.one_step = self.stopped = self.save = False
        self.sliders, self.at, self.listen = {}, {}, lambda: None
        if not self.with_controls:
            return
        import ipywidgets as w
        from IPython.display import display

        now = {f"{name}_lr": getattr(self.gan, f"{name}_opt").param_groups[0]["lr"] for name in "gd"}
        now |= {name: self.step.keywords[name] for name in self.values}
        now = {name: float(value) if hasattr(value, "item") else value for name, value in now.items()}
        self.sliders = {name: slider(name, at, self.values.get(name)) for name, at in now.items()}
        self.at = now
        self.pause = w.Button(description="pause", icon="pause")
        buttons = {"one step": "one_step", "stop": "stopped"} | ({"checkpoint": "save"} if self.run else {})
        pressed = [w.Button(description=text) for text in buttons]
        self.listen = notebook.ears([*self.sliders.values(), self.pause, *pressed])
        if self.listen is None:  # the picture alone
            self.sliders, self.listen = {}, lambda: None
            return
        self.pause.on_click(self._pause)
        for button, name in zip(pressed, buttons.values(), strict=True):
            button.on_click(functools.partial(self._press, name))
        rows = [*self.sliders.values(), w.HBox([self.pause, *pressed])]
        self.box = w.VBox(rows)
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}  # ipywidgets 7 drops display_id
        self.words = display({"application/vnd.jupyter.widget-view+json": view}, raw=True, display_id=True)

    def _pause(self, _button) -> None:
        self.paused = not self.paused
        self.pause.description, self.pause.icon = ("go on", "play") if self.paused else ("pause", "pause")

    def _press(self, name: str, _button) -> None:
        setattr(self, name, True)
        if name == "one_step" and not self.paused:
            self._pause(_button)

    def _obey(self, history) -> None:
        """Do what the controls say by now, between two steps."""
        self.listen()
        for name, control in self.sliders.items():
            if (value := control.value) != self.at[name]:
                change(self.gan, self.step, name, value)
                history.changes.append((self.gan.steps_done, name, value))
                self.at[name] = value
        if self.save:
            self.save = False
            self.run.save_now(self.gan)
        if self.stopped:
            history.stop()

    def _draw(self, history) -> None:
        begun = time.monotonic()
        picture, text = self._picture(history)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=88)
        found = "".join(f"<div>step {at:,} · {html.escape(what)}</div>" for at, _, what in history.findings)
        page = img("image/jpeg", buffer.getvalue(), picture.shape[1], text) + found
        bundle = {"text/html": page, "text/plain": text}
        if self.view:
            self.view.update(bundle, raw=True)
        else:
            from IPython.display import display

            self.view = display(bundle, raw=True, display_id=True)
        now = time.monotonic()
        self.due = now + max(REDRAWN, (now - begun) / SHARE)

    def _picture(self, history):
        """Samples, and at their right the curves: uint8 [H, W, 3], and what they show in words."""
        marks, first = [at for at, *_ in history.changes], history.first_step
        parts = [dict(history.losses)]
        if history.scores and history.steps:
            name, values = next(iter(history.scores[-1][1])), np.full(history.steps, np.nan)
            for at, found in history.scores:
                values[max(0, at - first - 1)] = found.get(name, np.nan)
            parts.append({score_name(name): values})
        samples = self._samples()
        shown = "The curves" if samples is None else "Samples and curves"
        samples = np.zeros((0, 0, 3), np.uint8) if samples is None else samples
        tall = max(220, samples.shape[0])
        size = CURVES_WIDE, tall // len(parts)
        curves = np.concatenate([small_curves(each, size, marks=marks, first=first) for each in parts])
        page = np.full((tall, samples.shape[1] + 12 + CURVES_WIDE, 3), 255, np.uint8)
        page[: samples.shape[0], : samples.shape[1]] = samples
        page[: len(curves), -CURVES_WIDE:] = curves
        last = ", ".join(f"{name} {values[-1]:.3g}" for name, values in history.losses.items())
        return page, f"{shown} after step {self.gan.steps_done:,}: {last}"

    def _samples(self) -> np.ndarray | None:
        """What the averaged generator makes of the fixed z: uint8 [H, W, 1 or 3]; None if those are no images."""
        generator, z = self.gan.ema_generator, self.gan.fixed_z
        with eval_mode(generator):
            z = z.to(next(generator.parameters()).device)
            if (one := generator(z[:1])).ndim != 4 or one.shape[1] not in (1, 3):
                return None
            tall, wide = one.shape[-2:]
            scale = max(1, round(60 / wide))
            # With labels, a column is a class.
            columns = getattr(generator, "classes", None) or min(8, max(1, SAMPLES_WIDE // (scale * wide)))
            images = quantised(generator(z[: columns * max(1, SAMPLES_TALL // (scale * tall))])).cpu()
        return grid(images, columns, scale=scale)

    def _close(self, history) -> None:
        """Leave the last picture and what was changed by hand; no widget stays in the file."""
        if not self.shown:
            return
        self.shown = False
        self._draw(history)
        if self.words:
            self.box.close()
            changes = []
            for _, group in itertools.groupby(history.changes, lambda change: change[1]):
                (first, *_), *_, (last, name, value) = [*group] * 2
                when = f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
                changes.append(f"{when}: {told(name, value)}")
            self.words.update({"text/plain": "changed by hand: " + (" · ".join(changes) or "nothing")}, raw=True)
