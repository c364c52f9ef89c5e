"""A run that is killed again and again ends, bit for bit, where the uninterrupted one does."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from helpers import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")]

STEPS = 150
AT_RANDOM = 14  # kills at any time
# And kills inside a save, each at some call of these: when a file or a folder is waited for, when a file gets its name,
# and when a finished checkpoint does or an old one loses it.
IN_A_SAVE = ["fsync"] * 4 + ["replace"] * 3 + ["rename"] * 4


class Runs:
    """The warm process that forks the runs, and what they tell."""

    def __init__(self, log):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log, "text": True}
        command = [sys.executable, ROOT / "tests" / "killed_run.py"]
        self.server = subprocess.Popen(command, env=environment, **pipes)

    def start(self, folder, pause_at=None):
        """Start or resume a run, and give back its process once it is under way."""
        self.server.stdin.write(json.dumps({"folder": str(folder), "steps": STEPS, "pause_at": pause_at}) + "\n")
        self.server.stdin.flush()
        told = [self.told(), self.told()]  # in either order
        assert {"training": True} in told, told
        return next(message["process"] for message in told if "process" in message)

    def told(self):
        """The next message; None once the process has ended."""
        line = self.server.stdout.readline()
        assert line, "the process that forks the runs died"
        return json.loads(line)

    def kill(self, process):
        """End a run as a power cut would; False if it had ended by itself."""
        with contextlib.suppress(ProcessLookupError):  # it has ended, and its parent has seen it
            os.kill(process, signal.SIGKILL)
        return self.until_end() == -signal.SIGKILL

    def until_end(self):
        """The exit code of the run that is under way."""
        while "ended" not in (message := self.told()):
            assert "failed" not in message, message
        return message["ended"]


@pytest.fixture
def runs(tmp_path):
    with (tmp_path / "log.txt").open("w") as log:
        runs = Runs(log)
        yield runs
        runs.server.stdin.close()
        runs.server.wait(timeout=30)
        runs.server.stdout.close()


def content(folder):
    """Every file of a run, without what is of the clock: the seconds in state.json, and its checksum."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
            if path.name == "state.json":
                found[str(path.relative_to(folder))] = re.sub(rb'"seconds": [\d.e-]+', b"", path.read_bytes())
            if path.name == "model.json":
                found[str(path.relative_to(folder))] = re.sub(rb'"state": "\w+"', b"", path.read_bytes())
    return found


def test_killed_twenty_five_times_and_the_same_to_the_last_bit(runs, tmp_path):
    whole, torn, chance = tmp_path / "whole", tmp_path / "torn", random.Random(0)
    runs.start(whole)
    begun = time.monotonic()
    assert runs.until_end() == 0
    took = time.monotonic() - begun

    kills, places = 0, []
    kinds = [None] * AT_RANDOM + IN_A_SAVE
    for call in chance.sample(kinds, len(kinds)):
        pause_at = call and [call, chance.randint(1, 7 if call == "rename" else 40)]
        process = runs.start(torn, pause_at)
        if pause_at:
            place = runs.told()
            assert "standing_at" in place, place
            places.append(place["standing_at"])
        else:
            time.sleep(chance.uniform(0, 0.08 * took))
        kills += runs.kill(process)
    reached = len((torn / "history.jsonl").read_text().splitlines())
    runs.start(torn)
    assert runs.until_end() == 0

    assert kills == len(kinds) >= 20
    print(f"{kills} kills until step {reached} of {STEPS}, {len(places)} of them inside: {'; '.join(places)}")
    one, other = content(whole), content(torn)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
    names = {name.split("/")[0] for name in one} | {name.split("/")[-1] for name in one}
    assert {"history.jsonl", "metrics.jsonl", "samples", "training.gif", "losses.json", "g_opt.safetensors"} <= names
    assert len(one["history.jsonl"].splitlines()) == STEPS
