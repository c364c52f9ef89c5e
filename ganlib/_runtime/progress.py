"""Progress bars, and the stop button."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from tqdm import tqdm

from ganlib._runtime import clock
from ganlib._runtime.notebook import kernel, stop_queue

log = logging.getLogger("ganlib")


_stops: list[Callable[[], None]] = []  # of the loops that are running, one within the other


@contextlib.contextmanager
def interrupts(stop: Callable[[], None]):
    """Call ``stop`` at Ctrl-C or a press of ■; a second one raises KeyboardInterrupt.

    So the current step is finished, and the state saved after it is one that an uninterrupted run also reaches. Within
    another such block, it is told, too: a press ends a run and the loop over runs.
    """
    pressed: list[bool] = []

    def note(*_):
        if pressed:
            raise KeyboardInterrupt
        pressed.append(True)
        for each in _stops:
            each()

    mine = {signal.SIGINT: note}
    if hasattr(signal, "SIGCONT"):
        mine[signal.SIGCONT] = clock.continued
    in_main = threading.current_thread() is threading.main_thread()  # signals reach no other thread
    before = {number: signal.signal(number, handler) for number, handler in mine.items() if in_main}
    _stops.append(stop)
    try:
        yield
    finally:
        _stops.remove(stop)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def heard():
    """Where the output is closed (``| head``, a killed ``tee``), end what runs as Ctrl-C does: saved."""
    try:
        yield
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        for stop in _stops:
            stop()


def progress(items: Iterable, what: str = "", unit: str = "step", show: bool = True) -> Iterator:
    """Go through ``items`` with a progress bar; Ctrl-C or ■ ends it early, without an error.

    For a loop of your own. Whatever follows it runs; in a notebook, cells that wait behind the present one do not.
    """
    stopped: list[bool] = []
    total = len(items) if hasattr(items, "__len__") else None
    with interrupts(lambda: stopped.append(True)), bar(total, what, unit, show=show) as shown:
        for item in items:
            yield item
            shown.update()
            if stopped:
                log.info(f"stopped after {shown.n:,} {unit}s")
                stop_queue()
                return


class Bar:
    """A watcher for ``fit``: a bar in a terminal, one changing line in a notebook."""

    _bar: tqdm | None = None

    def __call__(self, history) -> None:
        """Show the progress of ``history``; the bar closes at the end of the run."""
        with heard():
            self._show(history)

    def _show(self, history) -> None:
        if self._bar is None:
            if not history.running:
                return
            how = dict(total=expected_steps(history), unit="step", file=_output(), mininterval=0.5)
            self._bar = tqdm(initial=history.steps, **how)
        self._bar.total = expected_steps(history)
        self._bar.set_postfix(shown_numbers(history), refresh=False)
        self._bar.update(history.steps - self._bar.n)
        if not history.running:
            self._bar.close()
            self._bar = None


class Lines(Bar):
    """A watcher for ``fit``: plain lines, for instance for a batch job's log.

    There is one line every ``every`` steps and one at the end, with the rate and the time left.
    """

    def __init__(self, every: int = 100):
        self.every = every
        self._start: tuple[int, float] | None = None  # steps before the first call, and the time of that call
        self._told = 0

    def _show(self, history) -> None:
        """Print a line if one is due."""
        if kernel() or sys.stderr.isatty():
            super()._show(history)
            return
        now, steps = time.perf_counter(), history.steps
        if self._start is None:
            if not history.running:
                return
            self._start = self._told, _ = max(0, steps - 1), now - history.seconds / max(1, steps)
        if steps > self._told and (not history.running or steps // self.every > self._told // self.every):
            rate = (steps - self._start[0]) / max(1e-9, now - self._start[1])
            total, numbers = expected_steps(history), [f"{k} {v}" for k, v in shown_numbers(history).items()]
            left = tqdm.format_interval(max(0, total - steps) / rate)
            line = [f"step {steps:,} of {total:,}", f"{rate:.3g} a second", f"{left} left", *numbers]
            print(" · ".join(line), flush=True)
            self._told = steps
        if not history.running:
            self._start = None


def expected_steps(history) -> int | None:
    """The expected last step of a run, from its rate if time is limited; may be None."""
    if history.limit is None or not history.steps:
        return history.total
    left = max(0.0, history.limit - (history.seconds - history.seconds_before))
    end = history.steps + round(left * history.steps / max(1e-9, history.seconds))
    return end if history.total is None else min(end, history.total)


def shown_numbers(history) -> dict[str, str]:
    """The last losses and the first number of the last score, as text."""
    numbers = {name: values[-1] for name, values in history.losses.items() if values}
    if history.scores:
        numbers |= dict(list(history.scores[-1][1].items())[:1])
    return {name: f"{value:.3g}" for name, value in numbers.items()}


def bar(total: int | None, what: str, unit: str, start: int = 0, scaled: bool = False, show: bool = True) -> tqdm:
    """A bar that appears after a second and goes when done; ``scaled`` writes 1.4G."""
    how = dict(file=_output(), delay=1, mininterval=0.5, leave=False, disable=not show)
    return tqdm(total=total, initial=start, desc=what, unit=unit, unit_scale=scaled, **how)


class _NotebookLine:
    """A file for tqdm that rewrites one line of a cell, without leaving residue."""

    encoding = "utf-8"  # tells tqdm that it may draw a smooth bar
    handle = None  # a bar that never shows leaves no output

    def write(self, text: str) -> None:
        from IPython.display import display

        line = text.strip("\r\n ")
        if self.handle and (line or " " in text):  # blanks: a bar that is removed when done
            self.handle.update({"text/plain": line}, raw=True)
        elif line:
            self.handle = display({"text/plain": line}, raw=True, display_id=True)

    def flush(self) -> None:
        pass


def _output():
    return _NotebookLine() if kernel() else sys.stderr
