"""A run's folder: what is in it, how it is resumed exactly, and what happens when the disk does not play along."""

import errno
import json
import os
import shutil
import subprocess
import sys

import filelock
import pytest
import torch
from test_train import Found, players, quick, same, state

from ganlib import models
from ganlib._runtime import durable
from ganlib.data.images import ImageSet
from ganlib.runs import Run, checkpoint, folder, samples
from ganlib.steps import GAN, dcgan_step, minimax_step
from ganlib.train import fit
from helpers import ROOT, noise

pytestmark = pytest.mark.usefixtures("quickly")

STEPS = 9
LOOKS = {"snapshot_every": 3, "score": lambda g: {"fd": 1.0}, "score_every": 4}
OF_RUN = ("allow_changes", "checkpoint_every", "keep_at")


@pytest.fixture(scope="module")
def images():
    return ImageSet(noise(40, size=28), None, (), "noise", "noise")


def go(images, out, gan=None, resume=True, **changed):
    """Begin or resume the run of these tests: what a script does that is started again."""
    gan = gan or players()
    run = Run(out, resume=resume, **{"checkpoint_every": 2} | {k: changed.pop(k) for k in OF_RUN if k in changed})
    return gan, quick(gan, images, run=run, **{"steps": STEPS, **LOOKS, **changed})


def content(path):
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def alike(one, other):
    """Whether two (players, history) are equal, but for the time they took."""
    (gan, history), (other_gan, other_history) = one, other
    optimisers = [[*o.state_dict()["state"].values()] for g in (gan, other_gan) for o in (g.g_opt, g.d_opt)]
    tensors = [[values[name] for values in some for name in sorted(values)] for some in optimisers]
    snapshots = [[image for _, image in h.snapshots] for h in (history, other_history)]
    facts = [
        (h.losses, h.scores, h.steps_per_epoch, h.batches, h.first_step, [step for step, _ in h.snapshots])
        for h in (history, other_history)
    ]
    return (
        same(state(gan), state(other_gan))
        and same(tensors[0] + tensors[1], tensors[2] + tensors[3])
        and same(*snapshots)
        and facts[0] == facts[1]
        and torch.equal(gan.z_rng.get_state(), other_gan.z_rng.get_state())
    )


@pytest.fixture
def straight(images, tmp_path):
    return go(images, tmp_path / "straight")


def test_a_run_leaves_what_it_promises(images, tmp_path):
    scores = iter([Found(modes=3.0), Found(modes=2.0), Found(modes=torch.tensor(1.5))])
    gan, history = go(images, tmp_path, steps=5, snapshot_every={0, 2, 5}, score=lambda g: next(scores), score_every=2)
    assert {p.name for p in tmp_path.iterdir() if p.name[0] != "."} == {
        *("config.json", "history.jsonl", "metrics.jsonl", "samples", "checkpoints")
    }
    assert lines(tmp_path / "history.jsonl") == [
        {"step": k + 1, **{name: values[k] for name, values in history.losses.items()}} for k in range(5)
    ]
    found = [(line["step"], line["modes"]) for line in lines(tmp_path / "metrics.jsonl")]
    assert found == [(0, 3.0), (2, 2.0), (4, 1.5)]
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == [f"step-00000{k}.png" for k in (0, 2, 5)]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["arguments"]["steps"] == 5 and config["images"]["count"] == 40 and config["step"] == {"step": "ns"}
    tensors, facts = checkpoint.read_checkpoint(checkpoint.path_of(tmp_path, 5))
    assert tensors["run/loss.g_loss"].tolist() == history.losses["g_loss"]
    assert torch.equal(tensors["run/fixed_z"], gan.fixed_z) and facts["config"] == config


@pytest.mark.parametrize(("way", "best"), [("lowest", 3), ("highest", 9)])
def test_the_last_ones_the_best_and_those_asked_for_are_kept(images, tmp_path, way, best):
    values = iter((90.0, 5.0, 7.0, 9.0, float("nan"), 6.0))
    one = type("One", (dict,), {"best": ("x", way)})
    steps = {0, 3, 5, 9, 10, 11}
    go(images, tmp_path, steps=14, score=lambda g: one(count=1, x=next(values)), score_every=steps, keep_at={1})
    assert checkpoint.steps_in(tmp_path) == [1, best, 10, 12, 14]  # the best is no multiple of 2
    assert go(images, tmp_path, steps=14, score_every=steps, keep_at={1})[1].best == best


def test_a_resumed_run_is_the_uninterrupted_one(images, tmp_path, straight):
    go(images, tmp_path / "run", steps=5)
    assert alike(go(images, tmp_path / "run"), straight)
    for name in ("history.jsonl", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


@pytest.mark.parametrize("how", [{"precision": "bf16"}, {"flip": True}, {"z": torch.ones(3, 8)}, {"ema_decay": 0}])
def test_it_is_however_it_was_run(images, tmp_path, how):
    how = dict(how)
    reals = images.with_flips() if how.pop("flip", False) else images
    of_gan = {"fixed_z": how.pop("z")} if "z" in how else {}
    of_gan |= {"ema_decay": how.pop("ema_decay")} if "ema_decay" in how else {}
    go(reals, tmp_path / "run", players(**of_gan), steps=5, **how)
    found = [go(reals, tmp_path / name, players(**of_gan), **how) for name in ("run", "straight")]
    assert alike(*found)


def test_a_run_that_is_finished_stays_and_can_be_made_longer(images, tmp_path, straight):
    before = content(tmp_path / "straight")
    assert alike(go(images, tmp_path / "straight"), straight)
    assert content(tmp_path / "straight") == before
    assert alike(go(images, tmp_path / "straight", steps=STEPS + 4), go(images, tmp_path / "long", steps=STEPS + 4))
    assert json.loads((tmp_path / "straight" / "config.json").read_text())["arguments"]["steps"] == STEPS + 4


def test_the_same_run_in_memory_continues_in_its_folder(images, tmp_path, straight):
    gan, run = players(), Run(tmp_path / "run", checkpoint_every=2)
    quick(gan, images, steps=5, run=run, **LOOKS)
    history = quick(gan, images, steps=STEPS - 5, run=run, **LOOKS)
    assert alike((gan, history), straight)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["arguments"]["steps"] == STEPS
    assert alike(go(images, tmp_path / "run"), straight)  # and a new process can resume all of it
    quick(gan, images)  # somewhere else in between
    before = content(tmp_path / "run")
    with pytest.raises(FileExistsError, match="after 9 steps.*13.*resume=True"):
        quick(gan, images, run=run)
    with pytest.raises(FileExistsError, match="resume=True"):
        quick(gan, images, run=Run(tmp_path / "run"))
    assert content(tmp_path / "run") == before


def test_another_run_into_the_same_folder_is_refused(images, tmp_path):
    go(images, tmp_path)
    before = content(tmp_path)
    with pytest.raises(FileExistsError, match="holds a run.*another folder.*resume=True"):
        go(images, tmp_path, resume=False)
    assert content(tmp_path) == before
    with pytest.raises(ValueError, match="checkpoint_every=0"):
        Run(tmp_path, checkpoint_every=0)


def test_a_second_process_in_the_same_folder_is_refused(images, tmp_path):
    seen = []

    def step(gan, batches):
        with pytest.raises(FileExistsError, match="in use by another process.*another folder") as refused:
            go(images, tmp_path)
        seen.append(refused)
        return dcgan_step(gan, batches)

    go(images, tmp_path, step=step, steps=1)
    assert seen
    go(images, tmp_path, step=step, steps=1)  # nobody is in it any more


def test_time_counts_from_the_beginning(images, tmp_path):
    _, history = go(images, tmp_path, steps=None, seconds=0.2, checkpoint_every=10**6)
    steps, seconds = history.steps, history.seconds
    _, history = go(images, tmp_path, steps=None, seconds=0.2)
    assert (history.steps, history.seconds) == (steps, seconds) and "time limit of 0.2 s" in history.stopped
    _, history = go(images, tmp_path, steps=None, seconds=seconds + 0.1)
    assert history.steps > steps and seconds + 0.1 <= history.seconds


def test_the_bar_begins_where_the_run_is(images, tmp_path, capsys):
    go(images, tmp_path, steps=5)
    go(images, tmp_path, watchers=None)
    assert "9/9" in capsys.readouterr().err


def spoil(path):
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 1
    path.write_bytes(damaged)


def test_a_damaged_checkpoint_is_told_put_aside_and_the_one_before_taken(images, tmp_path, straight, capsys):
    run = tmp_path / "run"
    go(images, run, steps=6)
    spoil(checkpoint.path_of(run, 6))
    resumed = go(images, run)
    told = capsys.readouterr().out
    assert "step-000006.safetensors' is damaged" in told and "before it is taken" in told
    assert alike(resumed, straight) and (run / "checkpoints" / "damaged-step-000006.safetensors").is_file()


def test_if_no_checkpoint_is_intact_nothing_is_begun_anew(images, tmp_path):
    go(images, tmp_path)
    for step in checkpoint.steps_in(tmp_path):
        spoil(checkpoint.path_of(tmp_path, step))
    before = content(tmp_path)
    for _ in range(2):
        with pytest.raises(ValueError, match="No checkpoint.*intact.*another folder"):
            go(images, tmp_path)
    assert content(tmp_path) == before


def test_what_is_half_written_is_never_picked_up(images, tmp_path, straight):
    run = tmp_path / "run"
    go(images, run, steps=5)
    (run / "checkpoints" / ".step-000006.safetensors.tmp-99").write_bytes(b"half")
    (run / "samples" / ".step-000006.png.tmp-99").write_bytes(b"half")
    with (run / "history.jsonl").open("a") as file:
        file.write('{"step": 6, "d_loss": 1.0, "g_loss": 2.0}\n{"step": 7, "d_lo')
    (run / "samples" / "step-000006.png").write_bytes(b"of a step that is yet to come")
    assert go(images, run, steps=5)[1].steps == len(lines(run / "history.jsonl")) == 5
    assert not [path for path in run.rglob("*") if "tmp-99" in path.name or path.name == "step-000006.png"]
    assert alike(go(images, run), straight)


def test_a_run_that_never_came_to_a_checkpoint_begins(images, tmp_path, straight):
    go(images, tmp_path / "run", steps=3)
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.unlink()
    assert alike(go(images, tmp_path / "run"), straight)


def slower():
    return players(lr=1e-3)


def wider():
    gan, discriminator = players(), models.dcgan_discriminator(28, 1, 5)
    return GAN(gan.generator, discriminator, gan.g_opt, torch.optim.Adam(discriminator.parameters(), 2e-3), z_dim=8)


@pytest.mark.parametrize(
    ("changed", "sentences"),
    [
        ({"batch_size": 9}, ["batch_size was 8 and is 9"]),
        ({"gan": lambda: players(seed=5), "flip": True}, ["flip was False and is True", "config.seed was 0 and is 5"]),
        ({"precision": "bf16"}, ["precision was 'fp32' and is 'bf16'"]),
        ({"gan": lambda: players(ema_decay=0.9)}, ["ema_decay was 0.995 and is 0.9"]),
        ({"gan": slower}, ["g_opt.groups.0.lr was 0.002 and is 0.001"]),
        ({"step": minimax_step}, ["step was 'ns' and is 'minimax'"]),
        ({"gan": lambda: players(fixed_z=torch.zeros(5, 8))}, ["fixed_z was another"]),
        ({"snapshot_every": {0, 2}}, ["snapshot_every", "was not a snapshot after step 2"]),
        ({"score_every": {4}}, ["score_every", "was a score after step 0"]),
        ({"images": ImageSet(noise(40, size=28, seed=9), None, (), "noise", "")}, ["images.fingerprint was"]),
    ],
)
def test_what_changed_is_named_and_needs_leave(images, tmp_path, changed, sentences):
    go(images, tmp_path, steps=5)
    before, changed = content(tmp_path), dict(changed)
    reals, make = changed.pop("images", images), changed.pop("gan", players)
    reals = reals.with_flips() if changed.pop("flip", False) else reals
    with pytest.raises(ValueError, match="other settings: .*allow_changes=True") as refused:
        go(reals, tmp_path, make(), **changed)
    assert all(sentence in str(refused.value) for sentence in sentences), refused.value
    assert content(tmp_path) == before
    gan, history = go(reals, tmp_path, make(), allow_changes=True, **changed)
    assert gan.steps_done == STEPS and history.steps == STEPS
    assert gan.g_opt.param_groups[0]["lr"] == make().g_opt.param_groups[0]["lr"]
    (told,) = json.loads((tmp_path / "config.json").read_text())["changes"]
    assert told["after_step"] == 5 and all(any(s in one for one in told["what"]) for s in sentences[:1])
    go(reals, tmp_path, make(), steps=STEPS + 1, **changed)  # from now on these are the settings


def test_another_device_is_a_change(images, tmp_path):
    go(images, tmp_path, steps=3)
    path = checkpoint.path_of(tmp_path, 3)
    tensors, facts = checkpoint.read_checkpoint(path)
    facts["config"]["arguments"]["device"] = "cuda"  # as if it had been made on a GPU
    checkpoint.write_checkpoint(path, tensors, facts)
    with pytest.raises(ValueError, match="device was 'cuda' and is 'cpu'"):
        go(images, tmp_path)


def test_a_change_that_was_allowed_needs_leave_again_after_a_crash(images, tmp_path):
    go(images, tmp_path, steps=4)

    def crashes(gan, batches):
        raise RuntimeError("power cut")

    crashes.__module__ = "__main__"
    with pytest.raises(RuntimeError, match="power cut"):
        go(images, tmp_path, slower(), step=crashes, allow_changes=True)
    with pytest.raises(ValueError, match="lr was 0.002 and is 0.001"):
        go(images, tmp_path, slower())  # the checkpoint is of before
    gan, _ = go(images, tmp_path, slower(), allow_changes=True)
    assert gan.g_opt.param_groups[0]["lr"] == 1e-3


def test_players_that_cannot_take_the_weights_are_refused(images, tmp_path):
    go(images, tmp_path, steps=3)
    with pytest.raises(ValueError, match="discriminator.config.width was 4 and is 5"):
        go(images, tmp_path, wider())
    with pytest.raises(ValueError, match=r"discriminator.*'0.weight' has shape \[4, 1, 4, 4\]"):
        go(images, tmp_path, wider(), allow_changes=True)


def test_a_learning_rate_on_a_schedule_continues(images, tmp_path):
    def cooling(gan, batches):
        gan.g_opt.param_groups[0]["lr"] *= 0.9
        return dcgan_step(gan, batches)

    straight = go(images, tmp_path / "straight", step=cooling)
    go(images, tmp_path / "run", step=cooling, steps=5)
    resumed = go(images, tmp_path / "run", step=cooling)
    assert alike(resumed, straight)
    assert resumed[0].g_opt.param_groups[0]["lr"] == pytest.approx(2e-3 * 0.9**STEPS)


def test_a_lost_snapshot_is_told_and_no_change(images, tmp_path, capsys):
    go(images, tmp_path, steps=5)
    (tmp_path / "samples" / "step-000003.png").unlink()
    for steps in (7, STEPS):
        _, history = go(images, tmp_path, steps=steps)
        assert "step-000003.png' is missing" in capsys.readouterr().out
    assert [step for step, _ in history.snapshots] == [0, 6, 9]


def test_a_step_that_was_broken_off_inside_is_not_saved(images, tmp_path, capsys):
    def broken(gan, batches):
        record = dcgan_step(gan, batches)
        if gan.steps_done == 4:
            raise KeyboardInterrupt
        return record

    gan, run = players(), Run(tmp_path, checkpoint_every=2)
    quick(gan, images, broken, steps=9, run=run)
    assert checkpoint.steps_in(tmp_path) == [2, 4]
    assert "inside a step" in (told := capsys.readouterr().out) and "checkpoint of step 4" in told
    with pytest.raises(FileExistsError, match="resume=True"):
        quick(gan, images, steps=9, run=run)
    resumed, straight = players(), players()
    quick(resumed, images, steps=9, run=Run(tmp_path, resume=True, allow_changes=True, checkpoint_every=2))
    quick(straight, images, steps=9)
    assert same(state(resumed), state(straight))


def test_a_score_that_was_broken_off_is_taken_anew(images, tmp_path):
    seen = []

    def impatient(generator):
        seen.append(generator)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return {"fd": 9.0 - len(seen)}

    at = {"steps": 6, "score": impatient, "score_every": {1, 4}}
    go(images, tmp_path, **at)
    assert checkpoint.steps_in(tmp_path) == [2]
    assert [step for step, _ in go(images, tmp_path, **at)[1].scores] == [1, 4]


def test_lines_that_were_removed_or_half_written_come_back(images, tmp_path):
    def score(generator):
        if len(lines(tmp_path / "history.jsonl")) == 3:
            os.remove(tmp_path / "history.jsonl")
        elif (tmp_path / "history.jsonl").exists():
            with (tmp_path / "history.jsonl").open("ab") as file:
                file.write(b'{"step": 9, "d_lo')
        return {"fd": 1.0}

    go(images, tmp_path, steps=12, checkpoint_every=3, score=score, score_every={5, 10})
    assert [line["step"] for line in lines(tmp_path / "history.jsonl")] == list(range(1, 13))


def test_a_long_wait_between_checkpoints_is_filled(images, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "RECORD_EVERY", -1.0)
    seen = []

    def score(generator):
        seen.append((len(lines(tmp_path / "history.jsonl")), len(list((tmp_path / "samples").iterdir()))))
        return {}

    go(images, tmp_path, steps=4, checkpoint_every=99, snapshot_every={1}, score=score, score_every={4})
    assert seen == [(3, 1)]


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_once_and_what_was_saved_stays(images, tmp_path, monkeypatch, capsys):
    def score(generator):
        monkeypatch.setattr(durable, "write", full)
        return {"fd": 1.0}

    gan, history = go(images, tmp_path, steps=11, snapshot_every=None, score=score, score_every={3})
    told = capsys.readouterr().out
    assert history.steps == 11 and checkpoint.steps_in(tmp_path) == [2]
    assert told.count("No space left on device") == 1 and "the checkpoint of step 2 stays" in told
    assert "Step 11 is not saved" in told and "ganlib.runs.checkpoint.save" in told
    assert len(lines(tmp_path / "history.jsonl")) == 11  # small files went on


def test_a_mistake_of_the_library_is_not_taken_for_a_full_disk(images, tmp_path, monkeypatch):
    def mistaken(*_):
        raise RuntimeError("a mistake")

    monkeypatch.setattr(samples, "write_snapshot", mistaken)
    with pytest.raises(RuntimeError, match="a mistake"):
        go(images, tmp_path)


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
    run = small_disk / "run"

    def score(generator):
        try:
            with (small_disk / "more").open("wb", buffering=0) as file:
                while True:
                    file.write(b"0" * 4096)
        except OSError:
            return {"fd": 1.0}

    at = {"steps": 8, "score": score, "score_every": {3}, "snapshot_every": None}
    go(images, run, **at)
    told = capsys.readouterr().out
    assert told.count("No space left on device") == 1 and "Step 8 is not saved" in told
    assert checkpoint.read_checkpoint(checkpoint.path_of(run, 2))
    assert not list((run / "checkpoints").glob(".*"))  # nothing half-written takes up the little room there is
    with pytest.raises(OSError, match="No space left on device"):
        go(images, run, **at)
    (small_disk / "more").unlink()
    assert go(images, run, allow_changes=True, steps=8)[1].steps == 8


def test_a_disk_that_is_really_read_only(images, small_disk, tmp_path, monkeypatch, capsys):
    run, lock = small_disk / "run", filelock.FileLock
    # The system remounts no disk on which a file is open, as the lock is.
    monkeypatch.setattr(filelock, "FileLock", lambda path, **how: lock(tmp_path / "lock", **how))

    def remount(how):
        subprocess.run(["mount", "-o", f"remount,{how}", small_disk], check=True)

    def score(generator):
        remount("ro")
        return {"fd": 1.0}

    try:
        at = {"steps": 8, "score": score, "score_every": {3}, "snapshot_every": None}
        assert go(images, run, **at)[1].steps == 8
        told = capsys.readouterr().out
        assert told.count("Read-only file system") == 1 and "Step 8 is not saved" in told
        for out in (run, small_disk / "new"):
            with pytest.raises(OSError, match="Read-only file system.*choose another"):
                go(images, out)
        assert checkpoint.load_generator(run).z_dim == 8
    finally:
        remount("rw")


def test_a_folder_that_cannot_be_written_is_told_before_the_first_step(images, tmp_path):
    (tmp_path / "file").write_text("")
    gan = players()
    with pytest.raises(OSError, match="Cannot write in .*choose another"):
        go(images, tmp_path / "file" / "run", gan)
    assert gan.steps_done == 0


ELSEWHERE = """
import sys
import torch
torch.set_num_threads(1)
from test_folder import ImageSet, go, noise

go(ImageSet(noise(40, size=28), None, (), "noise", "noise"), sys.argv[1], steps=7)
"""


def test_a_run_goes_to_another_process_and_back(images, tmp_path, straight):
    run, gan = tmp_path / "run", players()
    go(images, run, gan, steps=4)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    there = subprocess.run([sys.executable, "-c", ELSEWHERE, run], env=environment, capture_output=True, text=True)
    assert there.returncode == 0, there.stderr
    assert "Resumed with" not in there.stdout and checkpoint.steps_in(run)[-1] == 7
    assert alike(go(images, run, gan), straight)


def test_fit_knows_nothing_of_a_folder_without_a_run(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(players(), dcgan_step, images, steps=1, batch_size=8, watchers=())
    assert not list(tmp_path.iterdir())
