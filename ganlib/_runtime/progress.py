"""Between a run and the person watching it: the progress bar and the stop button."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time

from tqdm import tqdm


@contextlib.contextmanager
def interrupts():
    """A list that is empty until Ctrl-C (or a notebook's stop button) is pressed; a second press raises.

    So a step is always finished, and what is saved after it is a state that an uninterrupted run has, too.
    """
    pressed: list[bool] = []
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield pressed
        return

    def note(*_):
        if pressed:
            raise KeyboardInterrupt
        pressed.append(True)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


class _NotebookLine:
    """A file for tqdm that rewrites one line of a notebook cell's output.

    Written to stderr a bar would be kept in the notebook as an error stream; as a widget, frozen at 0%.
    """

    encoding = "utf-8"  # tells tqdm that it may draw a smooth bar

    handle = None  # a bar that never shows leaves no output

    def write(self, text: str) -> None:
        """Show ``text``, the bar's new state."""
        from IPython.display import display

        line = text.strip("\r\n ")
        if self.handle and (line or " " in text):  # blanks: a bar that goes when it is done
            self.handle.update({"text/plain": line}, raw=True)
        elif line:
            self.handle = display({"text/plain": line}, raw=True, display_id=True)

    def flush(self) -> None:
        """Nothing is held back."""


class Lines:
    """Plain lines in a bar's place: one every so many steps, and one at the last, with the rate and the time left.

    Attributes:
        total: steps that there will be.
        n: steps made.
    """

    def __init__(self, total: int, initial: int, every: int):
        self.total, self.n, self.every = total, initial, every
        self._values: dict[str, str] = {}
        self._begun, self._first, self._told = time.perf_counter(), initial, initial

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_) -> None:
        if self._told < self.n:
            self._tell()

    def set_postfix(self, values: dict[str, str], refresh: bool = False) -> None:
        """Note what the next line is to show besides."""
        self._values = values

    def update(self) -> None:
        """A step was made."""
        self.n += 1
        if self.n % self.every == 0:
            self._tell()

    def _tell(self) -> None:
        self._told = self.n
        rate = (self.n - self._first) / max(1e-9, time.perf_counter() - self._begun)
        left = tqdm.format_interval(max(0, self.total - self.n) / rate)
        told = [f"step {self.n:,} of {self.total:,}", f"{rate:.3g} a second", f"{left} left"]
        print(" · ".join([*told, *(f"{name} {value}" for name, value in self._values.items())]), flush=True)


def bar_file(progress: bool):
    """Where a progress bar goes: a line of its own in a notebook, stderr elsewhere."""
    return _NotebookLine() if progress and _in_notebook() else sys.stderr


def steps_bar(progress: bool, total: int, initial: int, print_every: int | None) -> tqdm | Lines:
    """What shows how far a run is: a line that is rewritten in a notebook, a bar on stderr elsewhere.

    Args:
        progress: whether to show anything.
        total, initial: steps that there will be, and that were made before.
        print_every: steps between two plain lines, where neither a notebook nor a terminal is there to show a bar; None
            for a bar all the same.
    """
    if progress and print_every and not _in_notebook() and not sys.stderr.isatty():
        return Lines(total, initial, print_every)
    shown = dict(file=bar_file(progress), disable=not progress, mininterval=0.5)
    return tqdm(total=total, initial=initial, unit="step", **shown)


def _in_notebook() -> bool:
    kernel = sys.modules.get("ipykernel.kernelapp")
    return bool(kernel and kernel.IPKernelApp.initialized())


def bar(total: int | None, what: str, unit: str, start: int = 0, scaled: bool = False) -> tqdm:
    """A bar for work that may take long: it appears after a second, and goes when the work is done.

    Args:
        total: how much there is to do; None if nobody knows.
        what: a word or two in front of it.
        unit: of ``total``.
        start: how much of it was done earlier.
        scaled: write 1.4G for 1,400,000,000.
    """
    shown = dict(file=bar_file(True), delay=1, mininterval=0.5, leave=False)
    return tqdm(total=total, initial=start, desc=what, unit=unit, unit_scale=scaled, **shown)
