"""A run that is gone on with: exactly, from the newest whole checkpoint, and with the settings it had."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from test_steps import small_gan
from test_train import quick, same, state

from ganlib import models
from ganlib.data.loading import ImageSet
from ganlib.runs import checkpoint, resuming
from ganlib.steps import GAN, dcgan_step, minimax_step
from helpers import ROOT, noise

AT = {"snapshot_at": range(0, 100, 3), "score": lambda g: {"fd": 1.0}, "score_at": range(0, 100, 4)}
STEPS = 9


pytestmark = pytest.mark.usefixtures("quickly")


@pytest.fixture(scope="module")
def images():
    return ImageSet(noise(40, size=28), None, (), "noise", "noise")


def go(images, out, gan=None, **changed):
    """Run or resume the run of these tests: what a script does that is started again."""
    gan = gan or small_gan()
    arguments = {"steps": STEPS, "checkpoint_every": 2, "out": out, "resume": True, **AT, **changed}
    return gan, quick(gan, images, **arguments)


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def alike(one, other):
    """Whether two (players, history) are equal, but for the time they took."""
    (gan, history), (other_gan, other_history) = one, other
    optimisers = [[*o.state_dict()["state"].values()] for g in (gan, other_gan) for o in (g.g_opt, g.d_opt)]
    tensors = [[values[name] for values in some for name in sorted(values)] for some in optimisers]
    snapshots = [[image for _, image in h.snapshots] for h in (history, other_history)]
    facts = [(h.losses, h.scores, h.steps_per_epoch, h.batches, h.first_step) for h in (history, other_history)]
    steps = [[step for step, _ in h.snapshots] for h in (history, other_history)]
    return (
        same(state(gan), state(other_gan))
        and same(tensors[0] + tensors[1], tensors[2] + tensors[3])
        and same(*snapshots)
        and steps[0] == steps[1]
        and facts[0] == facts[1]
        and torch.equal(gan.z_rng.get_state(), other_gan.z_rng.get_state())
    )


@pytest.fixture
def straight(images, tmp_path):
    return go(images, tmp_path / "straight")


def test_a_resumed_run_is_the_uninterrupted_one(images, tmp_path, straight):
    go(images, tmp_path / "run", steps=5)
    assert alike(go(images, tmp_path / "run"), straight)
    for name in ("history.jsonl", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


@pytest.mark.parametrize(
    "how", [{"precision": "bf16"}, {"flip": True}, {"fixed_z": torch.ones(3, 8)}, {"ema_decay": 0}]
)
def test_it_is_however_it_was_run(images, tmp_path, how):
    go(images, tmp_path / "run", steps=5, **how)
    assert alike(go(images, tmp_path / "run", **how), go(images, tmp_path / "straight", **how))


def test_a_run_that_is_finished_stays_and_can_be_made_longer(images, tmp_path, straight):
    before = content(tmp_path / "straight")
    assert alike(go(images, tmp_path / "straight"), straight)
    after = content(tmp_path / "straight")
    assert before == after
    longer = go(images, tmp_path / "straight", steps=STEPS + 4)
    assert alike(longer, go(images, tmp_path / "whole", steps=STEPS + 4))
    assert json.loads((tmp_path / "straight" / "config.json").read_text())["arguments"]["steps"] == STEPS + 4


def test_players_in_memory_go_on_in_their_folder(images, tmp_path, straight):
    gan, _ = go(images, tmp_path / "run", steps=5, resume=False)
    history = quick(gan, images, steps=STEPS - 5, checkpoint_every=2, out=tmp_path / "run", **AT)
    assert alike((gan, history), straight)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["arguments"]["steps"] == STEPS
    back = go(images, tmp_path / "run")  # and a new process can go on with all of it
    assert alike(back, straight)


def test_time_counts_from_the_beginning(images, tmp_path):
    _, history = go(images, tmp_path, steps=10**6, seconds=0.2, checkpoint_every=10**6)
    steps, seconds = history.steps, history.seconds
    _, history = go(images, tmp_path, steps=10**6, seconds=0.2)
    assert (history.steps, history.seconds) == (steps, seconds) and "time limit of 0.2 s" in history.stopped
    _, history = go(images, tmp_path, steps=10**6, seconds=seconds + 0.1)
    assert history.steps > steps and seconds + 0.1 <= history.seconds


def test_the_bar_begins_where_the_run_is(images, tmp_path, capsys):
    go(images, tmp_path, steps=5)
    go(images, tmp_path, progress=True)
    bar = capsys.readouterr().err
    assert "5/9" in bar and "9/9" in bar


def spoil(path):
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "damage", "sentence"),
    [
        ("g_opt.safetensors", spoil, "'g_opt.safetensors' is not the file that model.json describes .sha256 differs"),
        ("state.json", spoil, "'state.json' is not the file"),
        ("random.safetensors", lambda path: path.write_bytes(path.read_bytes()[:50]), "random.safetensors"),
        ("generator.safetensors", lambda path: path.unlink(), "'generator.safetensors' cannot be read"),
        ("model.json", lambda path: path.write_bytes(path.read_bytes()[:50]), "model.json cannot be read"),
        ("model.json", lambda path: path.unlink(), "'model.json' is missing"),
    ],
)
def test_a_damaged_checkpoint_is_told_and_the_one_before_taken(
    images, tmp_path, straight, capsys, name, damage, sentence
):
    run = tmp_path / "run"
    go(images, run, steps=6)
    damage(checkpoint.step_folder(run, 6) / name)
    assert checkpoint.load_generator(run).z_dim == 8  # from the one before, too
    capsys.readouterr()
    resumed = go(images, run)
    told = capsys.readouterr().out
    assert f"The checkpoint in '{checkpoint.step_folder(run, 6)}'" in told or "No checkpoint in" in told
    assert re.search(sentence, told)
    assert "The one before is taken, of step 4." in told
    assert alike(resumed, straight)
    assert (run / "checkpoints" / "damaged-step-000006").is_dir()


def test_if_no_checkpoint_is_whole_nothing_is_begun_anew(images, tmp_path):
    go(images, tmp_path)
    for step in checkpoint.steps_in(tmp_path):
        spoil(checkpoint.step_folder(tmp_path, step) / "d_opt.safetensors")
    before = content(tmp_path)
    for _ in range(2):
        with pytest.raises(ValueError, match="No checkpoint in .* is whole; begin anew in another folder"):
            go(images, tmp_path)
    assert content(tmp_path) == before


def test_what_is_half_written_is_never_picked_up(images, tmp_path, straight):
    run = tmp_path / "run"
    go(images, run, steps=5)
    half = run / "checkpoints" / ".step-000006.tmp-99"
    half.mkdir()
    (half / "generator.safetensors").write_bytes(b"half")
    (run / "samples" / ".step-000006.png.tmp-99").write_bytes(b"half")
    with (run / "history.jsonl").open("a") as file:
        file.write('{"step": 6, "d_loss": 1.0, "g_loss": 2.0}\n{"step": 7, "d_lo')
    (run / "samples" / "step-000006.png").write_bytes(b"half, of a step that is yet to come")
    assert checkpoint.steps_in(run)[-1] == 5
    resumed = go(images, run, steps=5)
    assert len((run / "history.jsonl").read_text().splitlines()) == 5 and resumed[1].steps == 5
    assert not [path for path in run.rglob("*") if "tmp-99" in path.name or path.name == "step-000006.png"]
    assert alike(go(images, run), straight)


def test_a_run_that_never_came_to_a_checkpoint_begins(images, tmp_path, straight):
    run = tmp_path / "run"
    go(images, run, steps=3)
    for step in checkpoint.steps_in(run):
        checkpoint.step_folder(run, step).rename(tmp_path / f"gone-{step}")
    assert alike(go(images, run), straight)


def slower():
    gan = small_gan()
    gan.g_opt.param_groups[0]["lr"] = 1e-3
    return gan


def otherwise_wide():
    gan = small_gan()
    discriminator = models.dcgan_discriminator(28, 1, 5)
    return GAN(gan.generator, discriminator, gan.g_opt, torch.optim.Adam(discriminator.parameters(), 2e-3), z_dim=8)


@pytest.mark.parametrize(
    ("changed", "sentences"),
    [
        ({"batch_size": 9}, ["batch_size was 8 and is 9 now."]),
        ({"seed": 5, "flip": True}, ["flip was False and is True now.", "seed was 0 and is 5 now.", "fixed_z was"]),
        ({"precision": "bf16"}, ["precision was 'fp32' and is 'bf16' now."]),
        ({"ema_decay": 0.9}, ["ema_decay was 0.995 and is 0.9 now."]),
        ({"gan": slower}, ["g_opt.groups.0.lr was 0.002 and is 0.001 now."]),
        ({"step": minimax_step}, ["step was 'ganlib.steps.dcgan_step' and is 'ganlib.steps.minimax_step' now."]),
        ({"fixed_z": torch.zeros(5, 8)}, ["fixed_z was another one."]),
        ({"snapshot_at": [0, 2]}, ["snapshot_at: there was not a snapshot after step 2."]),
        ({"score_at": [4]}, ["score_at: there was a score after step 0."]),
        ({"images": ImageSet(noise(40, size=28, seed=9), None, (), "noise", "")}, ["images.fingerprint was"]),
    ],
)
def test_what_changed_is_named_and_needs_leave(images, tmp_path, changed, sentences):
    go(images, tmp_path, steps=5)
    before = content(tmp_path)
    changed = dict(changed)
    reals, make = changed.pop("images", images), changed.pop("gan", small_gan)
    with pytest.raises(ValueError, match="had other settings: .*allow_changes=True to go on with the new") as refused:
        go(reals, tmp_path, make(), **changed)
    assert all(sentence in str(refused.value) for sentence in sentences), refused.value
    assert content(tmp_path) == before
    gan, history = go(reals, tmp_path, make(), allow_changes=True, **changed)
    assert gan.steps_done == STEPS and history.steps == STEPS
    assert gan.g_opt.param_groups[0]["lr"] == make().g_opt.param_groups[0]["lr"]
    (told,) = json.loads((tmp_path / "config.json").read_text())["changes"]
    assert told["after_step"] == 5 and all(any(s in one for one in told["what"]) for s in sentences)
    go(reals, tmp_path, make(), steps=STEPS + 1, **changed)  # from now on these are the settings


def test_another_device_is_a_change(images, tmp_path, monkeypatch):
    go(images, tmp_path, steps=3)
    for step in checkpoint.steps_in(tmp_path):  # as if it had been made on a GPU
        folder = checkpoint.step_folder(tmp_path, step)
        tensors, facts = checkpoint.read(folder)
        facts["config"]["arguments"]["device"] = "cuda"
        checkpoint.write(folder, tensors, facts)
    with pytest.raises(ValueError, match="device was 'cuda' and is 'cpu' now."):
        go(images, tmp_path)


def test_a_change_that_was_allowed_outlives_a_crash_before_the_next_checkpoint(images, tmp_path):
    go(images, tmp_path, steps=4)
    gan = slower()

    def crashes(gan, batches):
        raise RuntimeError("power cut")

    crashes.__module__, crashes.__qualname__ = dcgan_step.__module__, dcgan_step.__qualname__
    with pytest.raises(RuntimeError, match="power cut"):
        go(images, tmp_path, gan, step=crashes, allow_changes=True)
    with pytest.raises(ValueError, match="g_opt.groups.0.lr was 0.002 and is 0.001 now"):
        go(images, tmp_path, slower())  # the checkpoint is of before: leave is needed again
    gan, _ = go(images, tmp_path, slower(), allow_changes=True)
    assert gan.g_opt.param_groups[0]["lr"] == 1e-3


def test_players_that_cannot_take_the_weights_are_refused(images, tmp_path):
    go(images, tmp_path, steps=3)
    with pytest.raises(ValueError, match="discriminator.config.width was 4 and is 5 now"):
        go(images, tmp_path, otherwise_wide())
    with pytest.raises(ValueError, match=r"The discriminator does not fit: '0.weight' has shape \[4, 1, 4, 4\]"):
        go(images, tmp_path, otherwise_wide(), allow_changes=True)


def test_a_learning_rate_on_a_schedule_goes_on(images, tmp_path):
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
        assert "step-000003.png' is missing or damaged" in capsys.readouterr().out
    assert [step for step, _ in history.snapshots] == [0, 6, 9]


def test_a_folder_with_anything_else_is_refused(images, tmp_path):
    checkpoint.save(small_gan(), tmp_path)
    with pytest.raises(FileExistsError, match="holds a single checkpoint, not a run"):
        go(images, tmp_path)
    with pytest.raises(ValueError, match="name it: out="):
        go(images, None)


def test_the_same_can_be_built_from_the_folder_alone(images, tmp_path, straight):
    go(images, tmp_path / "run", steps=5)
    gan, arguments = resuming.rebuild(tmp_path / "run")
    assert arguments["steps"] == 5 and arguments["snapshot_at"] == AT["snapshot_at"]
    arguments["steps"] = STEPS
    resumed = quick(gan, images, **arguments, score=AT["score"], out=tmp_path / "run", resume=True)
    assert alike((gan, resumed), straight)
    again, arguments = resuming.rebuild(tmp_path / "run")  # or run again from the beginning
    history = quick(again, images, **arguments, score=AT["score"], out=tmp_path / "again")
    assert alike((again, history), straight)


ELSEWHERE = """
import sys
import torch
torch.set_num_threads(1)
from ganlib import resuming
from ganlib.data import ImageSet
from ganlib.steps import dcgan_step
from ganlib.train import fit
from helpers import noise

gan, arguments = resuming.rebuild(sys.argv[1])
images = ImageSet(noise(40, size=28), None, (), "noise", "noise")
fit(gan, dcgan_step, images, **arguments | {"steps": 7}, score=lambda g: {"fd": 1.0}, out=sys.argv[1], resume=True)
"""


def test_a_run_goes_to_another_process_and_back(images, tmp_path, straight):
    run = tmp_path / "run"
    gan = small_gan()
    go(images, run, gan, steps=4)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", ELSEWHERE, run]
    there = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert there.returncode == 0, there.stderr
    assert "Going on with" not in there.stdout and checkpoint.steps_in(run)[-1] == 7
    with pytest.raises(FileExistsError, match="after 7 steps, but by now they have made 4"):
        quick(gan, images, steps=5, out=run, **AT)  # the players in memory know nothing of it
    assert alike(go(images, run, gan), straight)


def test_what_cannot_be_built_from_the_folder_gets_a_sentence(images, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no run in .*config.json"):
        resuming.rebuild(tmp_path)
    gan = small_gan()
    plain = torch.nn.Sequential(*gan.discriminator, torch.nn.Flatten(0))
    go(images, tmp_path / "a", GAN(gan.generator, plain, gan.g_opt, gan.d_opt, z_dim=8), steps=1)
    with pytest.raises(ValueError, match="are not ganlib's own; build them as they were"):
        resuming.rebuild(tmp_path / "a")
    gan.g_opt = torch.optim.NAdam(gan.generator.parameters())
    go(images, tmp_path / "b", gan, steps=1)
    with pytest.raises(ValueError, match="NAdam is not one of Adam, AdamW, SGD, RMSprop with one group"):
        resuming.rebuild(tmp_path / "b")
    (tmp_path / "b" / "config.json").write_text('{"players": {')
    with pytest.raises(ValueError, match="config.json' is damaged"):
        resuming.rebuild(tmp_path / "b")
