"""A run's folder while it trains: what is in it, what is kept, and what happens when the disk does not play along."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
import threading
import time

import pytest
import torch
from test_steps import small_gan
from test_train import quick

from ganlib._runtime import durable
from ganlib.data.loading import ImageSet
from ganlib.runs import checkpoint, frames, resuming
from ganlib.runs import folder as runfolder
from ganlib.steps import dcgan_step
from helpers import noise

pytestmark = pytest.mark.usefixtures("quickly")


@pytest.fixture(scope="module")
def images():
    return ImageSet(noise(40, size=28), None, (), "noise", "noise")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def falling(*values):
    """A score that takes these values one after the other."""
    given = iter(values)
    return lambda generator: {"fd": next(given), "other": torch.tensor(0.5)}


def test_a_run_leaves_what_it_promises(images, tmp_path):
    gan = small_gan()
    history = quick(gan, images, steps=5, out=tmp_path, snapshot_at=[0, 2, 5], score=falling(3.0, 2.0), score_at=[2, 4])
    assert {path.name for path in tmp_path.iterdir()} == {
        *("config.json", "history.jsonl", "metrics.jsonl", "samples", "checkpoints")
    }
    record = lines(tmp_path / "history.jsonl")
    assert [line["step"] for line in record] == [1, 2, 3, 4, 5]
    assert [line["d_loss"] for line in record] == history.losses["d_loss"]
    assert lines(tmp_path / "metrics.jsonl") == [
        {"step": 2, "fd": 3.0, "other": 0.5},
        {"step": 4, "fd": 2.0, "other": 0.5},
    ]
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == [f"step-00000{k}.png" for k in (0, 2, 5)]
    assert {path.suffix for path in (tmp_path / "checkpoints").rglob("*.*")} == {".safetensors", ".json"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["arguments"]["steps"] == 5 and config["images"]["count"] == 40
    assert torch.equal(checkpoint.load_generator(tmp_path, "generator")[0].weight, gan.generator[0].weight)
    tensors, facts = checkpoint.read(checkpoint.step_folder(tmp_path, 5))
    assert tensors["run"]["loss.g_loss"].tolist() == history.losses["g_loss"]
    assert tensors["run"]["fixed_z"].shape == (64, 8)
    assert facts["config"] == config


def test_the_last_ones_and_the_best_are_kept(images, tmp_path):
    score = falling(9.0, 5.0, 7.0, float("nan"), 6.0, 5.0)
    quick(small_gan(), images, steps=12, out=tmp_path, checkpoint_every=2, score=score, score_at=[0, 3, 5, 7, 9, 11])
    assert checkpoint.steps_in(tmp_path) == [3, 8, 10, 12]  # 3 was the best, and no multiple of 2


def test_those_that_are_asked_for_are_kept_and_stay_when_the_run_goes_on(images, tmp_path):
    at = {"out": tmp_path, "checkpoint_every": 4, "keep_at": [1, 4, 5]}
    quick(small_gan(), images, steps=12, **at)
    assert checkpoint.steps_in(tmp_path) == [1, 4, 5, 8, 12]
    quick(small_gan(), images, steps=20, resume=True, **at)
    assert checkpoint.steps_in(tmp_path) == [1, 4, 5, 12, 16, 20]
    assert resuming.rebuild(tmp_path)[1]["keep_at"] == [1, 4, 5]


def test_a_full_disk_is_told_once_and_what_was_saved_stays(images, tmp_path, monkeypatch, capsys):
    gan, write, full = small_gan(), durable.write, threading.Event()

    def fills_up(path, content):
        if full.is_set() and path.name == "g_opt.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    def score(generator):
        if gan.steps_done == 4:
            full.set()
        return {"fd": 1.0}

    monkeypatch.setattr(durable, "write", fills_up)
    at = {"steps": 11, "out": tmp_path, "checkpoint_every": 2, "score": score, "score_at": range(3, 20)}
    assert quick(gan, images, **at).steps == 11
    told = capsys.readouterr().out
    saved = checkpoint.steps_in(tmp_path)[-1]
    assert saved in (2, 3, 4)  # the save of step 3 or 4 may be under way when the disk fills
    assert told.count("No space left on device") == 1
    assert f"Training goes on, and the checkpoint of step {saved} stays." in told
    assert f"Step 11 is not saved: '{tmp_path}' has the checkpoint of step {saved}." in told
    assert checkpoint.read(checkpoint.step_folder(tmp_path, saved))
    assert not list((tmp_path / "checkpoints").glob(".*"))  # nothing half-written takes up the little room there is
    assert len(lines(tmp_path / "history.jsonl")) == 11  # small files went on


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system takes an administrator")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_really_full(images, small_disk, capsys):
    gan, run = small_gan(), small_disk / "run"

    def score(generator):
        while not checkpoint.steps_in(run):
            time.sleep(0.01)
        with contextlib.suppress(OSError), (small_disk / "more").open("wb", buffering=0) as file:
            while True:
                file.write(b"0" * 4096)
        return {"fd": 1.0}

    quick(gan, images, steps=8, out=run, checkpoint_every=2, score=score, score_at=[3])
    told = capsys.readouterr().out
    assert told.count("(No space left on device). Training goes on, and the checkpoint of step 2 stays.") == 1
    assert "Step 8 is not saved" in told and "has the checkpoint of step 2." in told
    assert checkpoint.read(checkpoint.step_folder(run, 2))
    with pytest.raises(OSError, match="Cannot write in .*No space left on device"):
        quick(small_gan(), images, steps=8, out=run, resume=True)
    (small_disk / "more").unlink()
    assert quick(small_gan(), images, steps=8, out=run, resume=True, allow_changes=True).steps == 8
    assert checkpoint.steps_in(run) == [2, 8]


def test_a_disk_that_is_really_read_only(images, small_disk, capsys):
    gan, run = small_gan(), small_disk / "run"

    def remount(how):
        subprocess.run(["mount", "-o", f"remount,{how}", small_disk], check=True)

    def score(generator):
        while not checkpoint.steps_in(run):
            time.sleep(0.01)
        remount("ro")
        return {"fd": 1.0}

    at = {"steps": 8, "out": run, "checkpoint_every": 2, "score": score, "score_at": [3]}
    try:
        assert quick(gan, images, **at).steps == 8
        told = capsys.readouterr().out
        assert told.count("(Read-only file system). Training goes on, and the checkpoint of step 2 stays.") == 1
        assert "Step 8 is not saved" in told
        for out in (run, small_disk / "new"):
            with pytest.raises(OSError, match="Cannot write in .*Read-only file system.*choose another"):
                quick(small_gan(), images, **at | {"out": out}, resume=True)
        assert checkpoint.load_generator(run).z_dim == 8
    finally:
        remount("rw")
    assert checkpoint.read(checkpoint.step_folder(run, 2))[1]["steps_done"] == 2


def test_a_folder_that_becomes_read_only_is_told_and_training_goes_on(images, tmp_path, monkeypatch, capsys):
    quick(gan := small_gan(), images, steps=2, out=tmp_path)

    def read_only(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    entered = runfolder.Run.__enter__

    def lock(run):
        monkeypatch.setattr(durable, "write", read_only)
        monkeypatch.setattr(runfolder.Run, "_write_lines", read_only)
        return entered(run)

    monkeypatch.setattr(runfolder.Run, "__enter__", lock)
    assert quick(gan, images, steps=4, out=tmp_path, checkpoint_every=1).steps == 6
    told = capsys.readouterr().out
    assert told.count("(Permission denied). Training goes on, and the checkpoint of step 2 stays.") == 1
    assert "Step 6 is not saved" in told and "ganlib.runs.checkpoint.save" in told
    assert checkpoint.steps_in(tmp_path) == [2]


def test_a_drive_that_stalls_does_not_stop_training(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runfolder, "STALL", 0.2)
    released, gan, write = threading.Event(), small_gan(), durable.write

    def stalls(path, content):
        if path.parent.name.startswith(".step-000002"):
            released.wait(60)
        write(path, content)

    def score(generator):  # by step 8 the drive has stalled all the while
        if gan.steps_done == 5:
            time.sleep(0.3)
        if gan.steps_done == 8:
            released.set()
            time.sleep(0.5)
        return {"fd": 1.0}

    monkeypatch.setattr(durable, "write", stalls)
    monkeypatch.setattr(runfolder, "EVERY", 1e9)
    at = {"steps": 10, "out": tmp_path, "checkpoint_every": 2, "score": score, "score_at": [5, 8]}
    assert quick(gan, images, **at).steps == 10
    told = capsys.readouterr().out
    assert "has taken 0 s so far; training goes on meanwhile." in told
    assert "Step 4 is not saved: the save before it is still being written." in told
    assert checkpoint.steps_in(tmp_path)[-1] == 10  # the drive came back
    assert 4 not in checkpoint.steps_in(tmp_path)
    assert len(lines(tmp_path / "history.jsonl")) == 10


def test_waiting_for_a_stalled_drive_at_the_end_can_be_interrupted(images, tmp_path, monkeypatch, capsys):
    released, write, asked = threading.Event(), durable.write, []
    monkeypatch.setattr(runfolder, "STALL", 0.1)

    def stalls(path, content):
        if path.parent.name.startswith(".step"):
            released.wait(60)
        write(path, content)

    def join(thread, timeout=None, real=threading.Thread.join):
        real(thread, min(timeout or 60, 0.1))
        if thread.is_alive() and thread.daemon:
            asked.append(thread)
            if len(asked) == 4:  # once is enough
                raise KeyboardInterrupt

    monkeypatch.setattr(durable, "write", stalls)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "join", join)
        assert quick(small_gan(), images, steps=2, out=tmp_path).steps == 2
    told = capsys.readouterr().out
    assert "interrupt to wait no longer" in told
    assert f"No longer waiting for '{tmp_path}'." in told
    assert f"Step 2 is not saved: '{tmp_path}' has no checkpoint." in told
    released.set()
    asked[0].join(30)


def test_lines_that_were_removed_or_half_written_come_back(images, tmp_path, monkeypatch):
    gan = small_gan()

    def score(generator):
        if gan.steps_done == 5:
            os.remove(tmp_path / "history.jsonl")
        if gan.steps_done == 9:
            with (tmp_path / "history.jsonl").open("ab") as file:
                file.write(b'{"step": 9, "d_lo')
        return {"fd": 1.0}

    quick(gan, images, steps=12, out=tmp_path, checkpoint_every=3, score=score, score_at=[5, 9])
    assert [line["step"] for line in lines(tmp_path / "history.jsonl")] == list(range(1, 13))


def test_a_long_wait_between_checkpoints_is_filled(images, tmp_path, monkeypatch):
    monkeypatch.setattr(runfolder, "EVERY", 0.0)
    seen = []

    def score(generator):
        time.sleep(0.2)
        seen.append((len(lines(tmp_path / "history.jsonl")), len(list((tmp_path / "samples").iterdir()))))
        return {}

    quick(small_gan(), images, steps=4, out=tmp_path, snapshot_at=[1], score=score, score_at=[4])
    assert seen[0][0] in (2, 3) and seen[0][1] == 1


def test_a_mistake_of_the_library_is_not_taken_for_a_full_disk(images, tmp_path, monkeypatch):
    def mistaken(*_):
        raise RuntimeError("a mistake")

    monkeypatch.setattr(frames, "write", mistaken)
    with pytest.raises(RuntimeError, match="a mistake"):
        quick(small_gan(), images, out=tmp_path, snapshot_at=[1])


def test_a_score_that_was_broken_off_is_taken_anew(images, tmp_path):
    seen = []

    def impatient(generator):
        seen.append(generator)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return {"fd": 9.0 - len(seen)}

    at = {"steps": 6, "out": tmp_path, "checkpoint_every": 2, "score": impatient, "score_at": [1, 4], "resume": True}
    quick(small_gan(), images, **at)
    assert checkpoint.steps_in(tmp_path) == [1, 2]
    assert [step for step, _ in quick(small_gan(), images, **at).scores] == [1, 4]


def test_a_step_that_was_broken_off_inside_is_not_saved(images, tmp_path, capsys):
    def broken(gan, batches):
        record = dcgan_step(gan, batches)
        if gan.steps_done == 4:
            raise KeyboardInterrupt
        return record

    gan = small_gan()
    quick(gan, images, broken, steps=9, out=tmp_path, checkpoint_every=2)
    assert checkpoint.steps_in(tmp_path) == [2, 4]
    told = capsys.readouterr().out
    assert "It was broken off inside a step, so the players are not saved" in told
    assert f"'{tmp_path}' has the checkpoint of step 4, and resume=True goes on from there." in told
    with pytest.raises(FileExistsError, match="resume=True"):
        quick(gan, images, steps=9, out=tmp_path)
    resumed, straight = small_gan(), small_gan()
    quick(resumed, images, steps=9, out=tmp_path, resume=True, allow_changes=True)  # another step function
    quick(straight, images, steps=9)
    assert torch.equal(resumed.generator[0].weight, straight.generator[0].weight)
