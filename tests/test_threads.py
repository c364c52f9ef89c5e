"""The number of threads of a run: chosen by measuring if time is limited, else kept."""

import math
from types import SimpleNamespace

import pytest
import torch
from test_train import players

from ganlib._runtime import threads
from ganlib._runtime.threads import PROBE, SHARE, Threads
from ganlib.data.images import ImageSet
from ganlib.runs import Run
from ganlib.runs.folder import history_of
from ganlib.steps import dcgan_step
from ganlib.train import Diverged, History, fit
from helpers import noise


class Machine:
    """A machine of four cores on which a step, and the small task, take what ``seconds(n)`` says."""

    def __init__(self, monkeypatch, seconds, usual=4):
        self.n, self.seconds, self.log = usual, seconds, []
        monkeypatch.setattr(torch, "get_num_threads", lambda: self.n)
        monkeypatch.setattr(torch, "set_num_threads", lambda n: setattr(self, "n", n))
        monkeypatch.setattr(Threads, "_rate", lambda watcher, n: self.rate(watcher, n))

    def rate(self, watcher, n):
        watcher.spent += PROBE
        return 1 / self.seconds(n)

    def train(self, steps, seconds=60.0, history=None, watcher=None, until=None):
        """``steps`` steps with a time limit of ``seconds``, or without; the numbers of threads that they had."""
        history = history or History(8, 1.0, "cpu", "float32", limit=seconds, running=True)
        watcher, had = watcher or Threads(torch.device("cpu")), []
        for _ in range(steps):
            had.append(self.n)
            history.seconds += self.seconds(self.n)
            history.losses.setdefault("loss", []).append(0.0)
            watcher(history)
        return history, watcher, had


def alone(n):
    return 0.04 / n + 0.01


def in_company(n):
    return 0.05 * n**2  # each barrier waits for a thread that waits for a core


def test_alone_it_stays_with_all_cores_and_loses_no_more_than_its_share(monkeypatch):
    machine = Machine(monkeypatch, alone)
    history, watcher, had = machine.train(2000)
    assert set(had[:20]) > {4} and set(had[-1500:]) == {4} and {n for _, n in history.threads} == {4}
    assert history.seconds < (1 + SHARE) * 2000 * alone(4) and watcher.spent < SHARE * 60


def test_in_company_from_the_first_step_it_takes_one_thread(monkeypatch):
    history, _, had = Machine(monkeypatch, in_company).train(200)
    assert set(had[20:]) == {1} and history.threads[-1][1] == 1 and "threads 1" in repr(history)


def test_company_that_comes_and_goes_is_noticed(monkeypatch):
    machine = Machine(monkeypatch, alone)
    history, watcher, _ = machine.train(500)
    machine.seconds = in_company
    machine.train(20, history=history, watcher=watcher)
    assert machine.n == 1 and [n for _, n in history.threads] == [4, 1]
    machine.seconds = alone
    machine.train(2000, history=history, watcher=watcher)
    assert machine.n == 4 and [n for _, n in history.threads] == [4, 1, 4]


def test_networks_too_small_for_threads_take_one_on_an_idle_machine(monkeypatch):
    machine = Machine(monkeypatch, lambda n: 0.001 * n)
    machine.rate = lambda watcher, n: float(n)  # the small task is larger than they are
    history, _, _ = machine.train(5000)
    assert machine.n == 1 and history.threads[-1][1] == 1


def test_steps_too_long_to_try_keep_the_number(monkeypatch):
    _, _, had = Machine(monkeypatch, lambda n: 4.0 / n).train(40)
    assert set(had) == {4}


def test_an_end_gives_back_the_usual_number_and_a_resumed_run_starts_with_its_own(monkeypatch):
    machine = Machine(monkeypatch, in_company)
    history, watcher, _ = machine.train(50)
    history.running = False
    watcher(history)
    assert machine.n == 4
    history.running = True
    _, _, had = machine.train(3, history=history)
    assert had == [4, 1, 1]  # the first step goes before the watcher


def test_a_run_limited_by_steps_keeps_its_number_and_tells_once(monkeypatch):
    told = []
    monkeypatch.setattr(threads.log, "info", told.append)
    machine = Machine(monkeypatch, alone)
    _, watcher, had = machine.train(2000, seconds=None)
    machine.seconds = in_company
    assert set(had) == {4} and not told
    history, _, had = machine.train(200, seconds=None)
    assert set(had) == {4} and not history.threads
    assert len(told) == 1 and "torch.set_num_threads(1)" in told[0] and "OMP_NUM_THREADS=1" in told[0]


def test_the_numbers_of_a_run_are_saved_with_it(tmp_path):
    numbers = [(3, 4), (9, 1)]

    def chosen(history):  # as Threads does
        history.threads = history.threads or list(numbers)

    images = ImageSet(noise(40, size=28), None, (), "noise", "noise")
    for seconds in (1e-9, 2e-9):  # a step each
        run = Run(tmp_path / "run", resume=True)
        history = fit(players(), dcgan_step, images, seconds=seconds, batch_size=8, run=run, watchers=[chosen])
        assert history.threads == numbers == history_of(tmp_path / "run").threads


def test_fit_sets_the_number_and_gives_the_usual_one_back_even_after_an_error(monkeypatch):
    machine, now, had = Machine(monkeypatch, in_company), [0.0], []
    # The machine's own clock: on the real one, a busy test machine would say which number is faster.
    monkeypatch.setattr("ganlib._runtime.clock.time", SimpleNamespace(perf_counter=lambda: now[0]))

    def step(gan, batches):
        had.append(machine.n)
        now[0] += machine.seconds(machine.n)
        return {"loss": math.nan if len(had) == 30 else 0.0}

    images = ImageSet(noise(40, size=28), None, (), "noise", "noise")
    with pytest.raises(Diverged):
        fit(players(), step, images, seconds=600, batch_size=8, watchers=())
    assert set(had[:20]) > {4, 1} and set(had[20:]) == {1} and machine.n == 4


@pytest.mark.parametrize("usual, device", [(1, "cpu"), (4, "meta")])
def test_one_thread_or_no_cpu_leaves_nothing_to_choose(monkeypatch, usual, device):
    machine = Machine(monkeypatch, in_company, usual)
    history, _, had = machine.train(50, watcher=Threads(torch.device(device)))
    assert set(had) == {usual} and not history.threads


def test_the_small_task_is_timed_with_the_number_asked_for_and_the_usual_one_comes_back(monkeypatch):
    asked, before = [], torch.get_num_threads()
    monkeypatch.setattr(threads.torch, "set_num_threads", asked.append)
    watcher = Threads(torch.device("cpu"))
    assert 0 < watcher._rate(2) < math.inf and asked == [2, before] and watcher.spent >= PROBE
