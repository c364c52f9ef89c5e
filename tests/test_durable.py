"""Files that are whole or not there."""

import errno

import pytest

from ganlib._runtime import durable


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    durable.write(tmp_path / "a.json", b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for culprit in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(durable.os, culprit, full)
            with pytest.raises(OSError, match="No space left"):
                durable.write(tmp_path / "a.json", b"new")
        assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
        assert (tmp_path / "a.json").read_bytes() == b"old"
    durable.write(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").read_bytes() == b"new"


def test_a_drive_that_cannot_sync_is_written_to_all_the_same(tmp_path, monkeypatch):
    def cannot(_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(durable.os, "fsync", cannot)
    durable.write(tmp_path / "a", b"1")
    durable.sync_folder(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_folder_replaces_the_one_of_its_name(tmp_path):
    for text in ("old", "new"):
        made = durable.temporary_name(tmp_path / "step-000001")
        made.mkdir()
        (made / text).write_text(text)
        durable.rename_folder(made, tmp_path / "step-000001")
        assert [path.name for path in tmp_path.rglob("*")] == ["step-000001", text]


def test_cleaning_takes_what_is_half_made_and_nothing_else(tmp_path):
    (tmp_path / ".step-000004.tmp-123").mkdir()
    (tmp_path / ".step-000004.tmp-123" / "generator.safetensors").write_bytes(b"half")
    (tmp_path / ".config.json.tmp-9").write_text("{")
    for kept in (".hidden", "notes.tmp-9", ".cache.tmp-x"):
        (tmp_path / kept).write_text("")
    durable.clean(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".hidden", "notes.tmp-9", ".cache.tmp-x"}
    durable.clean(tmp_path / "not there")
