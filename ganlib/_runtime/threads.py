"""How many threads compute the steps of a run, on a CPU that other programs use, too.

An operation ends when its slowest thread does. Where others have the cores, two threads can take ten times as long as
one (benchmarks/README.md, "A machine that is doing something else").
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections import deque
from collections.abc import Generator

import torch

log = logging.getLogger("ganlib")

SHARE = 0.01  # of a run's time, for everything here
SAMPLES = 3  # steps that are timed with each number
PROBE = 0.02  # seconds
Steps = Generator[None, float]  # is sent the seconds of each step


class Threads:
    """A watcher for ``fit``: takes the fastest number of threads, or says what would help.

    A run limited by time tries other numbers for some of its steps: at its start, when steps take twice as long as
    they did, and now and then. One limited by steps keeps its number, so that the same seed gives the same run.
    """

    def __init__(self, device: torch.device):
        self.usual = torch.get_num_threads() if device.type == "cpu" else 1
        self.spent = self.before = 0.0
        self.plan: Steps | None = None

    def __call__(self, history) -> None:
        """Hear how long a step took, and set the threads of the next."""
        if self.usual == 1:
            return
        if not history.running:
            torch.set_num_threads(self.usual)
        elif self.plan is None:  # the first step makes memory and kernels: its time says nothing
            by_time = history.limit is not None and history.total is None
            self.plan = self._choose(history) if by_time else self._advise(history)
            next(self.plan)
        else:
            self.plan.send(history.seconds - self.before)
        self.before = history.seconds

    def _choose(self, history) -> Steps:
        """Take the fastest number; look again when a step takes twice as long, and now and then."""
        n = min(history.threads[-1][1] if history.threads else self.usual, self.usual)
        most = pay = SHARE * history.limit  # seconds that may be lost by trying in vain
        seconds = statistics.median((yield from self._time(n, most))[1:])
        if most < 2 * PROBE:  # too short a run to look around
            seconds = yield from self._until_due(history, math.inf, 0.0)
        while True:
            for next_to in (lambda n: n // 2, lambda n: min(2 * n, self.usual)):
                while (other := next_to(n)) not in (0, n):
                    if (took := (yield from self._try(other, n, seconds, pay))) is None:
                        break
                    n, seconds = other, took
            if not history.threads or history.threads[-1][1] != n:
                history.threads.append((history.first_step + history.steps, n))
            seconds, pay = (yield from self._until_due(history, 2 * seconds, most)), 0.0

    def _advise(self, history) -> Steps:
        """Say once what would be faster, if it would be so at two looks in a row."""
        numbers, slower = [self.usual >> k for k in range(self.usual.bit_length())], 0
        while slower < 2:
            yield from self._until_due(history, math.inf, 0.0)
            rates = {n: self._rate(n) for n in numbers}
            best = max(rates, key=rates.get)
            slower = slower + 1 if rates[best] > 1.5 * rates[self.usual] else 0
        log.info(
            f"This machine is busy, and {self.usual} threads wait for one another. {best} would be faster: before fit, "
            f"torch.set_num_threads({best}); before a command, OMP_NUM_THREADS={best}. The last digits may differ then."
        )
        while True:
            yield

    def _try(self, other: int, n: int, seconds: float, pay: float) -> Generator[None, float, float | None]:
        """The seconds of a step with ``other`` threads if that is faster; else None, and ``n``."""
        gain = self._rate(other) / self._rate(n)
        if gain > 1.1 or self.spent + (SAMPLES + 1) * seconds * (1 / gain - 1) <= pay:
            times = yield from self._time(other, 2 * seconds)
            self.spent += max(0.0, sum(times) - len(times) * seconds)
            if (took := statistics.median(times[1:])) < 0.95 * seconds:
                return took
        torch.set_num_threads(n)
        return None

    def _time(self, n: int, longest: float) -> Generator[None, float, list[float]]:
        """The seconds of a few steps with ``n`` threads; the first makes what they need."""
        torch.set_num_threads(n)
        times = [(yield), (yield)]
        while len(times) <= SAMPLES and times[-1] < longest:
            times.append((yield))
        return times

    def _until_due(self, history, slow: float, most: float) -> Generator[None, float, float]:
        """Wait until it is time to look; the median seconds of the last steps."""
        recent: deque[float] = deque(maxlen=SAMPLES)
        while True:
            recent.append((yield))
            earned = SHARE * (history.seconds - history.seconds_before)
            slower = len(recent) == SAMPLES and min(recent) > slow and self.spent < most
            if slower or self.spent + 4 * PROBE <= earned:
                return statistics.median(recent)

    def _rate(self, n: int) -> float:
        """How often a second ``n`` threads get through a small task."""
        before, numbers = torch.get_num_threads(), torch.ones(self.usual << 16)
        torch.set_num_threads(n)
        begun, done = time.perf_counter(), 0
        while (took := time.perf_counter() - begun) < PROBE:
            torch.tanh(numbers, out=numbers)
            done += 1
        torch.set_num_threads(before)
        self.spent += took
        return done / took
