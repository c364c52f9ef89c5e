"""What is read of a run's folder, whole or damaged."""

import json

import pytest
import torch

from ganlib.runs import checkpoint, saved


def spoil(run, step):
    (checkpoint.step_folder(run, step) / "state.json").write_text("{}")


def test_the_history_of_a_run_is_what_fit_returned(run):
    history, facts = saved.history_of(run), checkpoint.read_facts(checkpoint.step_folder(run, 6))
    tensors, _ = checkpoint.read(checkpoint.step_folder(run, 6))
    assert history.losses["d_loss"] == tensors["run"]["loss.d_loss"].tolist()
    assert history.scores == [(3, {"fd": 9.0, "sure": 0.5}), (6, {"fd": 12.5, "sure": 0.5})]
    assert (history.steps, history.first_step, history.best) == (6, 0, 3)
    assert history.seconds == facts["history"]["seconds"] > 0
    assert history.steps_per_epoch == 300 // 8
    assert (history.batch_size, history.device, history.precision) == (8, "cpu", "fp32")


def test_time_and_epochs_are_those_of_the_newest_checkpoint_that_can_be_read(run):
    spoil(run, 6)
    assert saved.newest_facts(run)["steps_done"] == 3
    assert saved.history_of(run).steps_per_epoch == 300 // 8
    spoil(run, 3)
    assert saved.newest_facts(run) is None
    history = saved.history_of(run)
    assert history.steps == 6 and history.seconds == 0 and history.steps_per_epoch == 0


def test_scores_may_change_their_names(run):
    path = run / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 7, "kid": 0.1}\n{"step": 8}\n')
    assert saved.history_of(run).scores[2:] == [(7, {"kid": 0.1}), (8, {})]


def test_a_line_that_is_just_being_written_is_no_damage(run, capsys):
    path = run / "history.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-10])
    assert saved.history_of(run).steps == 5
    assert not capsys.readouterr().out
    lines = whole.splitlines()
    path.write_text("\n".join([*lines[:2], '{"step": 3}', *lines[3:]]))
    assert saved.history_of(run).steps == 2
    assert f"Line 3 of '{path}' is damaged" in capsys.readouterr().out
    path.unlink()
    (run / "metrics.jsonl").write_bytes(b"\xff\xfe")
    assert saved.history_of(run).steps == 0 and saved.history_of(run).scores == []


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"arguments": {}}', '{"arguments": 1, "players": {}, "images": {}, "ran_on": {}}'],
)
def test_a_damaged_description_gets_a_sentence(run, content):
    (run / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config.json' is damaged; the same settings are in the state.json") as error:
        saved.config_of(run)
    assert "\n" not in str(error.value)


def test_no_run_gets_a_sentence(tmp_path, run):
    for folder in (tmp_path / "nowhere", tmp_path, run / "config.json"):
        with pytest.raises(FileNotFoundError, match=r"There is no run in '.*': 'config.json' is missing; name"):
            saved.config_of(folder)


def test_a_run_with_one_generator_a_class_is_known_from_runs_that_lie_together(by_class, trained, run):
    names = list(saved.class_runs(by_class))
    assert len(names) == 3 and names == sorted(names)
    assert saved.class_runs(trained) == {}
    assert saved.class_runs(trained.parent) == {}  # runs/, with runs on whole sets in it
    with pytest.raises(ValueError, match=f"holds several runs, one a class .{names[0]}, .*; name one: '"):
        saved.config_of(by_class)
    assert saved.config_of(by_class / names[0])["images"]["count"] == 200


def test_generators_by_class(by_class, trained):
    (one,) = saved.generators_of(trained).values()
    assert one.steps_done == 6 and one.averaged and not one.training
    (raw,) = saved.generators_of(trained, name="generator").values()
    assert not raw.averaged and not torch.equal(raw[0].weight, one[0].weight)
    every = saved.generators_of(by_class)
    assert list(every) == list(saved.class_runs(by_class))
    (last,) = list(every)[-1:]
    (alone,) = saved.generators_of(by_class, last).values()
    assert torch.equal(alone[0].weight, every[last][0].weight)
    with pytest.raises(ValueError, match=f"has no class 'owl'; it has: .*{last}"):
        saved.generators_of(by_class, "owl")
    with pytest.raises(ValueError, match="has one generator for all its images, not one a class"):
        saved.generators_of(trained, "owl")


def test_snapshots_in_order(run):
    assert [step for step, _ in saved.snapshots_of(run)] == [0, 3, 6]
    (run / "samples" / "notes.txt").write_text("mine")
    assert len(saved.snapshots_of(run)) == 3
    for path in (run / "samples").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="has no snapshots in 'samples'; .* --snapshot-every"):
        saved.snapshots_of(run)


def test_facts_alone_are_held_against_their_checksum(run):
    folder = checkpoint.step_folder(run, 6)
    about = json.loads((folder / "model.json").read_text())
    spoil(run, 6)
    with pytest.raises(ValueError, match="'state.json' is not the file"):
        checkpoint.read_facts(folder)
    del about["sha256"]["state"]
    (folder / "model.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="has no state: training cannot go on"):
        checkpoint.read_facts(folder)
