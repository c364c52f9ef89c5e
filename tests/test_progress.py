"""What a run shows while it trains, and how it is stopped."""

import os
import re
import signal
import sys
from types import SimpleNamespace

import pytest

from ganlib._runtime import progress
from ganlib._runtime.progress import Bar, Lines, interrupts


def a_run(watcher, first=1, last=250, total=250, limit=None, seconds=0.01):
    """Shows ``watcher`` a run that makes the steps from ``first`` to ``last``, each in so many seconds."""
    before = (first - 1) * seconds
    history = SimpleNamespace(total=total, limit=limit, seconds_before=before, scores=[], losses={}, running=True)
    for step in range(first, last + 1):
        history.steps, history.seconds = step, step * seconds
        history.losses.setdefault("d_loss", []).append(1 / step)
        if step == 150:
            history.scores.append((150, {"fd": 12.25, "sure": 0.5}))
        watcher(history)
    history.running = False
    watcher(history)


@pytest.mark.parametrize(
    ("how", "steps"),
    [
        ({}, ["100 of 250", "200 of 250", "250 of 250"]),
        ({"last": 230}, ["100 of 250", "200 of 250", "230 of 250"]),  # stopped early
        ({"first": 131, "last": 200}, ["200 of 250"]),  # resumed; the last line stands there already
        ({"last": 100, "total": None, "limit": 2}, ["100 of 200"]),
        ({"last": 100, "total": 120, "limit": 2}, ["100 of 120"]),
        ({"first": 51, "last": 100, "total": None, "limit": 2}, ["100 of 250"]),  # two seconds from step 50 on
        ({"last": 1, "total": 1}, ["1 of 1"]),
    ],
)
def test_lines_in_a_log(capsys, how, steps):
    watcher = Lines(100)
    for _ in range(2):  # it can be used again
        a_run(watcher, **how)
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(" · ")[0] for line in lines] == [f"step {text}" for text in steps]
        assert all(re.search(r"· [\d.e+]+ a second · \d\d:\d\d left · d_loss [\d.]+", line) for line in lines)
        assert [("fd 12.2" in line) for line in lines] == [int(line.split()[1]) >= 150 for line in lines]
        assert "sure" not in str(lines)


def test_the_rate_is_this_calls_and_no_line_comes_twice(capsys, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))  # a second a call
    a_run(Lines(10), first=101, last=120, total=180)
    assert re.findall(r"(\S+) a second · (\S+) left", capsys.readouterr().out)[-1] == ("1.05", "00:57")
    watcher, history = Lines(10), SimpleNamespace(total=40, limit=None, seconds=1, scores=[], losses={}, running=True)
    for history.steps in (0, 0, 25, 25, 25, 30):  # losses are read off a GPU many at a time
        watcher(history)
    assert re.findall(r"step (\d+)", capsys.readouterr().out) == ["25", "30"]


@pytest.mark.parametrize("watcher", [Bar(), Lines(100)], ids=["bar", "lines"])
def test_a_bar_in_a_terminal_closes_with_the_run(capsys, monkeypatch, watcher):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for _ in range(2):
        a_run(watcher)
        out, err = capsys.readouterr()
        assert out == "" and "250/250" in err and err.endswith("\n")
        assert "d_loss=0.004" in err and "fd=12.2" in err
    a_run(watcher, last=100, total=None, limit=2)
    assert "100/200" in capsys.readouterr().err  # as many as there is time for


def test_in_a_notebook_one_line_is_rewritten_and_stderr_stays_empty(capsys, monkeypatch):
    display = pytest.importorskip("IPython.display")
    app = SimpleNamespace(initialized=lambda: True, instance=lambda: SimpleNamespace(kernel="a kernel"))
    shown, kernel = [], SimpleNamespace(IPKernelApp=app)
    handle = SimpleNamespace(update=lambda data, raw: shown.append(data))
    monkeypatch.setattr(display, "display", lambda data, raw, display_id: (shown.append(data), handle)[1])
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", kernel)
    a_run(Lines(100))
    assert capsys.readouterr() == ("", "") and {*shown[0], *shown[-1]} == {"text/plain"}
    assert "250/250" in shown[-1]["text/plain"] and "fd=12.2" in shown[-1]["text/plain"]
    shown.clear()
    with progress.bar(3, "preparing", "image") as bar:
        bar.update(3)
    assert shown == []  # over within its first second


def test_a_run_that_makes_no_step_shows_nothing(capsys):
    for watcher in (Bar(), Lines(1)):
        watcher(SimpleNamespace(running=False, steps=100, seconds=1.0, losses={}, scores=[]))
    assert capsys.readouterr() == ("", "")


def test_the_first_ctrl_c_is_noted_and_the_second_raises():
    before, pressed = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), interrupts(lambda: pressed.append(True)):
        assert not pressed
        os.kill(os.getpid(), signal.SIGINT)
        assert pressed
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before and len(pressed) == 1


def test_a_press_within_two_loops_ends_both():
    done = []
    for k in progress.progress(range(5)):
        for n in progress.progress(range(5)):
            done.append((k, n))
            if done == [(0, 0), (0, 1)]:
                os.kill(os.getpid(), signal.SIGINT)
    assert done == [(0, 0), (0, 1)]
    assert list(progress.progress(range(2))) == [0, 1]  # and it is over


def test_a_loop_of_ones_own_ends_early_and_whatever_follows_it_runs(capsys):
    before, done = signal.getsignal(signal.SIGINT), []
    for k in progress.progress(range(10), "walking"):
        if k == 3:
            os.kill(os.getpid(), signal.SIGINT)
        done.append(k)
    assert done == [0, 1, 2, 3] and "stopped after 4 steps" in capsys.readouterr().out
    assert list(progress.progress(iter("abc"))) == ["a", "b", "c"] and signal.getsignal(signal.SIGINT) is before
