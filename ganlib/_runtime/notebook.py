"""A notebook's kernel: who is there, what controls say while a cell runs, and the queue."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Collection


def kernel():
    """The kernel this runs in, or None outside a notebook."""
    app = sys.modules.get("ipykernel.kernelapp")
    return app.IPKernelApp.instance().kernel if app and app.IPKernelApp.initialized() else None


def someone_there() -> bool:
    """Whether a person may be looking: not so in nbconvert, nbval and scripts.

    Front ends for people offer an answer to ``input()``; tools that execute notebooks do not.
    """
    found = kernel()
    return found is not None and ("google.colab" in sys.modules or bool(getattr(found, "_allow_stdin", False)))


def stop_queue() -> None:
    """Let the running cell end as an interrupted one does: no cell behind it is run.

    Its own remaining lines are run, and it shows no error.
    """
    if (found := kernel()) is None:
        return

    def end(result):
        found.shell.events.unregister("post_run_cell", end)
        if result.success:
            result.error_in_exec = KeyboardInterrupt("stopped")

    found.shell.events.register("post_run_cell", end)


_cell = {"runs": False, "watched": False}
_drawing = threading.Lock()


def watch_cells() -> None:
    """Know from now on when a cell runs (called from one)."""
    if (found := kernel()) is None or _cell["watched"]:
        return

    def begin(*_):
        with _drawing:
            _cell["runs"] = True

    _cell.update(runs=True, watched=True)
    found.shell.events.register("pre_run_cell", begin)
    found.shell.events.register("post_run_cell", lambda *_: _cell.update(runs=False))


@contextlib.contextmanager
def between_cells():
    """Whether no cell runs; the next one waits until the block has ended.

    For widgets, whose answers ipykernel 7 computes in another thread: matplotlib cannot draw in two at once.
    """
    with _drawing:
        yield not _cell["runs"]


def ears(widgets: Collection) -> Callable[[], None] | None:
    """A function that lets in what these widgets have to say while a cell runs.

    None if the kernel is of an unknown kind. Cells that were asked for meanwhile keep their turn.
    """
    found = kernel()
    if getattr(found, "shell_channel_thread", None):  # ipykernel 7: JupyterLab has messages read in another thread,

        def listen():  # which 7.4 undoes for a widget that the busy thread has last written to
            for widget in widgets:
                vars(widget.comm).pop("_reply_subshell_id", None)

        return listen
    if not all(hasattr(found, name) for name in ("msg_queue", "shell_stream", "_parent_ident")):
        return None

    def listen_in_turn():  # ipykernel 6, as in Colab: messages wait until the cell has ended, unless they are fetched
        ours, later = {widget.comm.comm_id for widget in widgets}, []
        ident, parent = found._parent_ident["shell"], found.get_parent("shell")
        found.shell_stream.flush()
        while not found.msg_queue.empty():
            item = found.msg_queue.get_nowait()
            if _comm_of(found.session, item[2]) in ours:
                with contextlib.suppress(StopIteration):
                    item[1](*item[2]).send(None)  # a coroutine that waits for nothing
                found.set_parent(ident, parent)
            else:
                later.append(item)
        for item in later:
            found.msg_queue.put_nowait(item)

    return listen_in_turn


def _comm_of(session, arguments: tuple) -> str | None:
    """The comm that a waiting message is for, if it is for one."""
    if not arguments:
        return None
    frames = session.feed_identities(arguments[0], copy=False)[1]
    if not session.unpack(frames[1].bytes)["msg_type"].startswith("comm_"):
        return None
    return session.unpack(frames[4].bytes).get("comm_id")
