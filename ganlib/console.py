"""Between a run and the person watching it: the progress bar and the stop button."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading

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
    """A file for tqdm that rewrites one line of a notebook cell's output, and leaves the last state standing.

    Written to stderr a bar would be kept in the notebook as an error stream; as a widget, frozen at 0%.
    """

    encoding = "utf-8"  # tells tqdm that it may draw a smooth bar

    handle = None  # a bar that never shows leaves no output

    def write(self, text: str) -> None:
        """Show ``text``, the bar's new state."""
        from IPython.display import display

        line = text.strip("\r\n ")
        if line and self.handle:
            self.handle.update({"text/plain": line}, raw=True)
        elif line:
            self.handle = display({"text/plain": line}, raw=True, display_id=True)

    def flush(self) -> None:
        """Nothing is held back."""


def bar_file(progress: bool):
    """Where the progress bar goes: a line of its own in a notebook, stderr elsewhere."""
    kernel = sys.modules.get("ipykernel.kernelapp")
    return _NotebookLine() if progress and kernel and kernel.IPKernelApp.initialized() else sys.stderr


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
