"""A clock that stands still while the process is stopped (Ctrl-Z, SIGSTOP)."""

import time

_lost = _last = 0.0


def seconds() -> float:
    """Seconds, of which only differences mean something."""
    global _last
    _last = time.perf_counter()
    return _last - _lost


def continued(*_) -> None:
    """To be called at SIGCONT: the time since the last look does not count."""
    global _last, _lost
    now = time.perf_counter()
    _lost, _last = _lost + now - _last, now
