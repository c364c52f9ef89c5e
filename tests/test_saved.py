"""What is read of a run's folder, intact or damaged: settings, history, snapshots."""

import json

import pytest
import torch
from PIL import Image

from ganlib.runs import checkpoint, samples, saved
from helpers import noise


def test_the_history_of_a_run_is_what_fit_returned(run):
    history = saved.history_of(run)
    tensors, facts = checkpoint.read_checkpoint(checkpoint.path_of(run, 6))
    assert history.losses["d_loss"] == tensors["run/loss.d_loss"].tolist()
    assert history.scores == [(3, {"fd": 9.0, "sure": 0.5}), (6, {"fd": 12.5, "sure": 0.5})]
    assert (history.steps, history.first_step, history.best) == (6, 0, 3)
    assert history.seconds == facts["history"]["seconds"] > 0 and history.steps_per_epoch == 300 // 8
    assert (history.batch_size, history.device, history.precision) == (8, "cpu", "fp32")


def test_time_and_epochs_are_those_of_the_newest_checkpoint_that_can_be_read(run):
    checkpoint.path_of(run, 6).write_bytes(b"torn")
    assert saved.newest_facts(run)["steps_done"] == 3 and saved.history_of(run).steps_per_epoch == 300 // 8
    checkpoint.path_of(run, 3).write_bytes(b"torn")
    history = saved.history_of(run)
    assert saved.newest_facts(run) is None
    assert history.steps == 6 and history.seconds == 0 and history.steps_per_epoch == 0 and history.best is None


def test_scores_may_change_their_names(run):
    path = run / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 7, "kid": 0.1}\n{"step": 8}\n')
    assert saved.history_of(run).scores[2:] == [(7, {"kid": 0.1}), (8, {})]


def test_a_line_that_is_just_being_written_is_no_damage(run, capsys):
    path = run / "history.jsonl"
    text = path.read_text()
    path.write_text(text[:-10])
    assert saved.history_of(run).steps == 5 and not capsys.readouterr().out
    lines = text.splitlines()
    path.write_text("\n".join([*lines[:2], '{"step": 3}', *lines[3:]]))
    assert saved.history_of(run).steps == 2 and f"Line 3 of '{path}' is damaged" in capsys.readouterr().out
    path.unlink()
    (run / "metrics.jsonl").write_bytes(b"\xff\xfe")
    assert saved.history_of(run).steps == 0 and saved.history_of(run).scores == []


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"arguments": {}}', "shape", "step"])
def test_a_damaged_description_gets_a_sentence(run, damage):
    path = run / "config.json"
    config = json.loads(path.read_text())
    config["images"]["shape"] = [1, 0, 28] if damage == "shape" else config["images"]["shape"]
    config["step"] = "dcgan" if damage == "step" else config["step"]
    path.write_text(json.dumps(config) if damage in ("shape", "step") else damage)
    with pytest.raises(ValueError, match="config.json' is damaged.*checkpoint"):
        saved.config_of(run)


def test_no_run_gets_a_sentence(tmp_path, run):
    for folder in (tmp_path / "nowhere", tmp_path, run / "config.json"):
        with pytest.raises(FileNotFoundError, match="There is no run in '.*config.json"):
            saved.config_of(folder)


def test_snapshots_in_order(run):
    (run / "samples" / "notes.txt").write_text("mine")
    assert [step for step, _ in saved.snapshots_of(run)] == [0, 3, 6]
    for path in (run / "samples").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="no snapshots.*--snapshot-every"):
        saved.snapshots_of(run)


@pytest.mark.parametrize(("n", "channels"), [(1, 1), (8, 3), (11, 2), (9, 4)])
def test_a_snapshot_comes_back_bit_for_bit(tmp_path, n, channels):
    images = noise(n, channels, 12)[:, :, :, :10]
    frame = samples.write_snapshot(tmp_path, 40, images)
    assert json.loads(json.dumps(frame)) == frame and [p.name for p in tmp_path.iterdir()] == ["step-000040.png"]
    assert torch.equal(samples.read_snapshot(tmp_path, frame), images)


def test_the_picture_is_the_grid_that_a_reader_expects(tmp_path):
    images = noise(10, 3, 12)
    samples.write_snapshot(tmp_path, 0, images)
    path = tmp_path / "step-000000.png"
    with Image.open(path) as picture:
        assert picture.size == (8 * 12, 2 * 12) and picture.mode == "RGB"
        assert picture.getpixel((12 * 1 + 5, 12 + 3)) == tuple(images[9, :, 3, 5].tolist())
    cells = samples.cells_of(path, 12, 12)
    assert torch.equal(cells[:10], images) and cells.shape == (16, 3, 12, 12) and not cells[10:].any()
    with pytest.raises(ValueError, match="9×9"):
        samples.cells_of(path, 9, 9)
    (tmp_path / "page.png").write_text("<html>")
    with pytest.raises(ValueError, match="page.png' is damaged"):
        samples.cells_of(tmp_path / "page.png", 12, 12)


def test_a_lost_snapshot_is_told(tmp_path, capsys):
    frame, path = samples.write_snapshot(tmp_path, 3, noise(4, seed=1)), tmp_path / "step-000003.png"
    path.write_bytes(path.read_bytes()[:-30])
    assert samples.read_snapshot(tmp_path, frame) is None
    for other in (noise(4, seed=2), noise(4, size=9)):
        samples.write_snapshot(tmp_path, 3, other)
        assert samples.read_snapshot(tmp_path, frame) is None
    path.unlink()
    assert samples.read_snapshot(tmp_path, frame) is None
    assert capsys.readouterr().out.count("step-000003.png' is missing or damaged") == 4
