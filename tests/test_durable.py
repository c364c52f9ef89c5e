"""Files that are intact or not there."""

import errno

import pytest

from ganlib._runtime import durable


def failing(number):
    def fail(*_):
        raise OSError(number, "no")

    return fail


@pytest.mark.parametrize("culprit", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, culprit):
    durable.write(tmp_path / "a.json", b"old")
    with monkeypatch.context() as patched:
        patched.setattr(durable.os, culprit, failing(errno.ENOSPC))
        with pytest.raises(OSError):
            durable.write(tmp_path / "a.json", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == b"old"
    durable.write(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").read_bytes() == b"new"


def test_a_file_is_on_the_disk_before_it_gets_its_name_and_the_name_after(tmp_path, monkeypatch):
    done, replace = [], durable.os.replace
    monkeypatch.setattr(durable.os, "fsync", lambda file: done.append("sync"))
    monkeypatch.setattr(durable.os, "replace", lambda a, b: (done.append("name"), replace(a, b)))
    durable.write(tmp_path / "a", b"1")
    assert done == ["sync", "name", "sync"]


def test_a_drive_that_cannot_sync_is_written_to_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(durable.os, "fsync", failing(errno.EINVAL))
    durable.write(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"


def test_cleaning_takes_what_is_half_written_and_nothing_else(tmp_path):
    for name in (".config.json.tmp-9", ".a.tmp-123", ".hidden", "notes.tmp-9", ".cache.tmp-x"):
        (tmp_path / name).write_text("{")
    durable.clean(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".hidden", "notes.tmp-9", ".cache.tmp-x"}
    durable.clean(tmp_path / "not there")
