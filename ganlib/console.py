"""Between a run and the person watching it: the progress bar and the stop button."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading


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

    def __init__(self):
        from IPython.display import display

        self.handle = display({"text/plain": ""}, raw=True, display_id=True)

    def write(self, text: str) -> None:
        """Show ``text``, the bar's new state."""
        line = text.strip("\r\n ")
        if line:
            self.handle.update({"text/plain": line}, raw=True)

    def flush(self) -> None:
        """Nothing is held back."""


def bar_file(progress: bool):
    """Where the progress bar goes: a line of its own in a notebook, stderr elsewhere."""
    kernel = sys.modules.get("ipykernel.kernelapp")
    return _NotebookLine() if progress and kernel and kernel.IPKernelApp.initialized() else sys.stderr
