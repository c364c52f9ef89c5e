"""A run's folder: what is in it, how it is resumed exactly, and what happens when the disk does not play along."""

import contextlib
import errno
import functools
import json
import os
import shutil
import subprocess

import filelock
import pytest
import torch
from PIL import Image
from test_train import Found, players, quick, same, state

from ganlib._runtime import durable
from ganlib.data.images import ImageSet
from ganlib.runs import Run, checkpoint, folder
from ganlib.steps import change, dcgan_r1_step, dcgan_step, minimax_step, repeat
from helpers import noise

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
    tensors, facts = [], []
    for gan, history in (one, other):
        kept, about = checkpoint.capture(gan)
        tensors.append([kept[name] for name in sorted(kept)] + [image for _, image in history.snapshots])
        steps = [step for step, _ in history.snapshots]
        names = ("losses", "scores", "steps_per_epoch", "batches", "first_step")
        facts.append((about, steps, [getattr(history, name) for name in names]))
    return same(*tensors) and facts[0] == facts[1]


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


def changed(by, at=2):
    """A watcher that changes a rate and what the step takes, as a person would: in the middle of a run."""

    def watch(history):
        if history.running and by["gan"].steps_done == at:
            for name, value in (("g_lr", 0.005), ("r1_every", 2)):
                change(by["gan"], by["step"], name, value)
                history.changes.append((at, name, value))

    return watch


@pytest.mark.parametrize("way", ["anew", "in memory", "resumed with what it has by now"])
def test_a_run_changed_by_hand_is_resumed_and_repeated_from_its_record(images, tmp_path, way):
    def game():
        return {"gan": players(), "step": functools.partial(dcgan_r1_step, r1_gamma=0.1, r1_every=3)}

    one = game()
    run, how = Run(tmp_path / "run", checkpoint_every=2), {"step": one["step"], **LOOKS}
    quick(one["gan"], images, steps=5, run=run, watchers=[changed(one)], **how)
    if way == "anew":
        one = game()
    if way != "in memory":
        run = Run(tmp_path / "run", checkpoint_every=2, resume=True)
    steps = STEPS - 5 if way == "in memory" else STEPS
    history = quick(one["gan"], images, steps=steps, run=run, **{**how, "step": one["step"]})
    assert history.changes == [(2, "g_lr", 0.005), (2, "r1_every", 2)] and one["step"].keywords["r1_every"] == 2
    again = game()
    repeated = quick(
        again["gan"], images, again["step"], steps=STEPS, watchers=[repeat(history.changes, **again)], **LOOKS
    )
    assert alike((one["gan"], history), (again["gan"], repeated)) and repeated.changes == history.changes
    other = game()
    assert not same(
        state(one["gan"]), state((quick(other["gan"], images, other["step"], steps=STEPS), other["gan"])[1])
    )
    last = game()  # what it began with is still the run's
    assert go(images, tmp_path / "run", last["gan"], step=last["step"], steps=STEPS + 1)[1].steps == STEPS + 1
    with pytest.raises(ValueError, match="r1_gamma was 0.1 and is 0.2"):
        go(images, tmp_path / "run", step=functools.partial(dcgan_r1_step, r1_gamma=0.2, r1_every=3))


def test_a_function_changed_by_hand_must_be_given_when_the_run_is_resumed(images, tmp_path):
    def own(gan, batches, g_loss_of):
        return {"loss": g_loss_of(next(batches))}

    gan, step = players(), functools.partial(own, g_loss_of=torch.mean)

    def watch(history):
        if gan.steps_done == 2 and history.running:
            change(gan, step, "g_loss_of", torch.sum)
            history.changes.append((2, "g_loss_of", torch.sum))

    quick(gan, images, step, run=Run(tmp_path), watchers=[watch])
    with pytest.raises(ValueError, match="'g_loss_of' was changed to '.*sum' during the run; give a step that has it"):
        quick(players(), images, functools.partial(own, g_loss_of=torch.mean), run=Run(tmp_path, resume=True), steps=6)
    resumed = quick(
        players(), images, functools.partial(own, g_loss_of=torch.sum), run=Run(tmp_path, resume=True), steps=6
    )
    assert resumed.steps == 6 and abs(resumed.losses["loss"][0]) < 2 < abs(resumed.losses["loss"][-1])


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
    assert alike(go(images, tmp_path / "run"), straight)  # and a new process can resume all of it
    quick(gan, images)  # somewhere else in between
    before = content(tmp_path / "run")
    with pytest.raises(FileExistsError, match="after 9 steps.*13.*resume=True"):
        quick(gan, images, run=run)
    with pytest.raises(FileExistsError, match="holds a run.*another folder.*resume=True"):
        quick(gan, images, run=Run(tmp_path / "run"))
    assert content(tmp_path / "run") == before
    with pytest.raises(ValueError, match="checkpoint_every is 0"):
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
    assert "step-000006.safetensors' is damaged" in told and "before is taken" in told
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


def slower():
    return players(lr=1e-3)


@pytest.mark.parametrize(
    ("changed", "sentences"),
    [
        ({"batch_size": 9}, ["batch_size was 8 and is 9"]),
        ({"gan": lambda: players(seed=5), "flip": True}, ["flip was False and is True", "seed was 0 and is 5"]),
        ({"precision": "bf16"}, ["precision was 'float32' and is 'bfloat16'"]),
        ({"gan": lambda: players(ema_decay=0.9)}, ["ema_decay was 0.995 and is 0.9"]),
        ({"gan": slower}, ["g_opt.groups.0.lr was 0.002 and is 0.001"]),
        ({"step": minimax_step}, ["step was 'ns' and is 'minimax'"]),
        ({"gan": lambda: players(fixed_z=torch.zeros(5, 8))}, ["fixed_z was"]),
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


def test_a_damaged_snapshot_is_told_and_no_change(images, tmp_path, capsys):
    go(images, tmp_path, steps=7)
    (tmp_path / "samples" / "step-000003.png").write_bytes(b"torn")
    (tmp_path / "samples" / "step-000006.png").unlink()
    _, history = go(images, tmp_path)
    assert "step-000003.png' is damaged" in capsys.readouterr().out
    assert [step for step, _ in history.snapshots] == [0, 9]


def test_a_step_that_was_broken_off_inside_is_not_saved(images, tmp_path, capsys):
    def broken(gan, batches):
        record = dcgan_step(gan, batches)
        if gan.steps_done == 4:
            raise KeyboardInterrupt
        return record

    gan, run = players(), Run(tmp_path, checkpoint_every=2)
    quick(gan, images, broken, steps=9, run=run)
    assert checkpoint.steps_in(tmp_path) == [2, 4]
    assert "inside a step" in (told := capsys.readouterr().out) and "has the checkpoint of step 4" in told
    with pytest.raises(FileExistsError, match="resume=True"):
        quick(gan, images, steps=9, run=run)
    resumed, _ = go(images, tmp_path, allow_changes=True)
    quick(straight := players(), images, steps=9)
    assert same(state(resumed), state(straight))


def test_lines_that_were_removed_or_half_written_come_back(images, tmp_path, monkeypatch):
    def score(generator):
        if len(lines(tmp_path / "history.jsonl")) == 3:
            os.remove(tmp_path / "history.jsonl")
        elif (tmp_path / "history.jsonl").exists():
            with (tmp_path / "history.jsonl").open("ab") as file:
                file.write(b'{"step": 9, "d_lo')
        return {"fd": 1.0}

    monkeypatch.setattr(folder, "RECORD_EVERY", -1.0)  # between checkpoints, too
    go(images, tmp_path, steps=12, checkpoint_every=99, score=score, score_every={4, 10})
    assert [line["step"] for line in lines(tmp_path / "history.jsonl")] == list(range(1, 13))


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_once_and_what_was_saved_stays(images, tmp_path, monkeypatch, capsys):
    def score(generator):
        monkeypatch.setattr(durable, "write", full)
        return {"fd": 1.0}

    monkeypatch.chdir(tmp_path)
    gan, history = go(images, tmp_path, steps=11, snapshot_every=None, score=score, score_every={3})
    told = capsys.readouterr().out
    assert history.steps == 11 and checkpoint.steps_in(tmp_path) == [2]
    assert told.count("No space left on device") == 1 and "has the checkpoint of step 2" in told
    assert "Step 11 is not saved" in told and "the players are in memory only" in history.stopped
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


@pytest.mark.parametrize(("how", "why"), [("full", "No space left on device"), ("read-only", "Read-only file system")])
def test_a_disk_that_really_fails(images, small_disk, tmp_path, monkeypatch, capsys, how, why):
    run, more, lock = small_disk / "run", small_disk / "more", filelock.FileLock
    # The system remounts no disk on which a file is open, as the lock is.
    monkeypatch.setattr(filelock, "FileLock", lambda path, **how: lock(tmp_path / "lock", **how))

    def remount(how):
        subprocess.run(["mount", "-o", f"remount,{how}", small_disk], check=True)

    def score(generator):
        if how == "read-only":
            remount("ro")
        else:
            with contextlib.suppress(OSError), more.open("wb", buffering=0) as file:
                while True:
                    file.write(b"0" * 4096)
        return {"fd": 1.0}

    at = {"steps": 8, "score": score, "score_every": {3}, "snapshot_every": None}
    monkeypatch.chdir(tmp_path)
    try:
        assert go(images, run, **at)[1].steps == 8
        told = capsys.readouterr().out
        assert told.count(why) == 1 and "Step 8 is not saved" in told
        kept = tmp_path / "run-step-000008.safetensors"  # outside of the disk that failed
        assert str(kept) in told and checkpoint.load_generator(kept).steps_done == 8
        assert checkpoint.load_generator(run).steps_done == 2 and not list((run / "checkpoints").glob(".*"))
        with pytest.raises(OSError, match=f"{run}.*{why}"):
            go(images, run, **at)
    finally:
        remount("rw")
    more.unlink(missing_ok=True)
    assert go(images, run, steps=8)[1].steps == 8


def test_the_history_of_a_run_is_that_of_its_newest_intact_checkpoint(run):
    history = folder.history_of(run)
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [{"step": k + 1, **{n: v[k] for n, v in history.losses.items()}} for k in range(6)] == lines
    assert history.scores == [(3, {"fd": 9.0, "sure": 0.5}), (6, {"fd": 12.5, "sure": 0.5})]
    assert (history.steps, history.first_step, history.best) == (6, 0, 3) and history.seconds > 0
    assert (history.batch_size, history.device, history.precision) == (8, "cpu", "float32")
    assert [step for step, _ in folder.snapshots_in(run)] == [0, 3, 6] and folder.snapshots_in(run / "none") == []
    for step, steps in ((6, 3), (3, 0)):
        checkpoint.path_of(run, step).write_bytes(b"torn")
        assert folder.history_of(run).steps == steps


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"arguments": {}}', "shape"])
def test_a_damaged_description_gets_a_sentence(run, damage):
    path = run / "config.json"
    config = json.loads(path.read_text())
    config["images"]["shape"] = [28, 28]
    path.write_text(json.dumps(config) if damage == "shape" else damage)
    with pytest.raises(ValueError, match="config.json' is damaged.*checkpoint"):
        folder.config_of(run)


def test_no_run_gets_a_sentence(tmp_path, run):
    for path in (tmp_path / "nowhere", tmp_path, run / "config.json"):
        with pytest.raises(FileNotFoundError, match="There is no run in '.*config.json"):
            folder.config_of(path)


@pytest.mark.parametrize(("n", "channels"), [(1, 1), (8, 3), (9, 1), (9, 4)])
def test_a_snapshot_comes_back_bit_for_bit(tmp_path, n, channels):
    images, path = noise(n, channels, 12)[:, :, :, :10], tmp_path / "step-000040.png"
    folder.write_snapshot(path, images)
    assert list(tmp_path.iterdir()) == [path] and torch.equal(folder.read_snapshot(path), images)
    with Image.open(path) as picture:  # the grid that a reader expects
        assert picture.size == (8 * 10, 12 * (2 if n > 8 else 1)) if channels != 4 else picture.size == (80, 60)
        assert picture.mode == ("RGB" if channels == 3 else "L")


def test_a_damaged_snapshot_gets_a_sentence(tmp_path):
    path = tmp_path / "a.png"
    folder.write_snapshot(path, noise(4))
    content = path.read_bytes()
    Image.new("L", (64, 8)).save(path)  # somebody else's picture
    for damaged in (path.read_bytes(), content[:-30], content.replace(b"4 1 8 8", b"4 1 9 9"), b"<html>", b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="a.png' is damaged"):
            folder.read_snapshot(path)
    with pytest.raises(ValueError, match="none.png' is damaged"):
        folder.read_snapshot(tmp_path / "none.png")


def test_pictures_that_lay_there_before_a_run_stay(images, tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "step-000077.png").write_bytes(b"mine")
    go(images, tmp_path, resume=False, steps=1)
    assert (tmp_path / "samples" / "step-000077.png").read_bytes() == b"mine"
