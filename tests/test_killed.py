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

from ganlib.runs import checkpoint
from helpers import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")]

STEPS = 240
AT_RANDOM = 32  # kills at any time
# And kills inside a save, each at some call of these: when a file is waited for, and when it gets its name.
IN_A_SAVE = ["fsync"] * 10 + ["replace"] * 10


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
    """Every byte of every file of a run, but for the seconds in a checkpoint, which are the clock's."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            found[str(path.relative_to(folder))] = content = path.read_bytes()
            if path.suffix == ".safetensors":
                seconds = checkpoint.read_checkpoint(path)[1]["history"]["seconds"]
                length = int.from_bytes(content[:8], "little")
                header = content[8 : 8 + length].decode().rstrip()  # padded to the length that it has
                header = re.sub("[0-9a-f]{64}", "the digest", header.replace(repr(seconds), ""))
                found[str(path.relative_to(folder))] = header.encode() + content[8 + length :]
    return found


def test_killed_fifty_times_and_the_same_to_the_last_bit(runs, tmp_path):
    straight, torn, chance = tmp_path / "straight", tmp_path / "torn", random.Random(0)
    runs.start(straight)
    begun = time.monotonic()
    assert runs.until_end() == 0
    took = time.monotonic() - begun
    kills, places, kinds = 0, [], [None] * AT_RANDOM + IN_A_SAVE
    for call in chance.sample(kinds, len(kinds)):
        process = runs.start(torn, call and [call, chance.randint(1, 9)])
        if call:
            place = runs.told()
            assert "standing_at" in place, place
            places.append(place["standing_at"])
        else:
            time.sleep(chance.uniform(0, 0.05 * took))
        kills += runs.kill(process)
    reached = len((torn / "history.jsonl").read_text().splitlines())
    runs.start(torn)
    assert runs.until_end() == 0

    print(f"{kills} kills until step {reached} of {STEPS}, {len(places)} of them inside: {'; '.join(places)}")
    assert kills == len(kinds) >= 50
    one, other = content(straight), content(torn)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
    assert {"metrics.jsonl", "training.gif", "losses.json", f"checkpoints/step-{STEPS:06d}.safetensors"} <= one.keys()
    assert len(one["history.jsonl"].splitlines()) == STEPS
