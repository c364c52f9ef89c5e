"""What is made once is made once: in the process, on disk, and never from a damaged file."""

import pytest
import torch
from torch import nn

from ganlib.metrics import featurecache
from ganlib.metrics.featurecache import fingerprint, kept


class Maker:
    """Makes two tensors and counts how often it was asked to."""

    def __init__(self, value=1.0):
        self.value, self.asked = value, 0

    def __call__(self):
        self.asked += 1
        # Neither contiguous nor of one dtype, and one without dimensions.
        return {"x": torch.full((3, 2), self.value).T, "n": torch.tensor(7), "d": torch.tensor([0.1]).double()}


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """An empty cache, in memory and on disk."""
    monkeypatch.setattr(featurecache, "_kept", {})
    monkeypatch.setenv("GANLIB_CACHE", str(tmp_path))
    return tmp_path / "scores"


def forget():
    """As after a restart of the process."""
    featurecache._kept.clear()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_a_key_is_made_once_in_the_process_and_once_on_disk(folder):
    make = Maker()
    first = kept("a", make)
    assert kept("a", make) is first and make.asked == 1
    forget()
    assert same(kept("a", make), first) and make.asked == 1
    assert same(first, Maker()())
    assert len(list(folder.iterdir())) == 1  # nothing half written is left


def test_another_key_or_version_is_made_anew(monkeypatch):
    make = Maker()
    kept("a", make), kept("b", make)
    assert make.asked == 2
    monkeypatch.setattr(featurecache, "VERSION", -1)
    kept("a", make)
    assert make.asked == 3


def test_without_a_key_nothing_is_kept(folder):
    make = Maker()
    kept(None, make), kept(None, make)
    assert make.asked == 2 and not featurecache._kept and not folder.exists()


def test_a_damaged_file_is_made_anew_wherever_the_damage_is(folder):
    good = kept("a", Maker())
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for damaged in (
        b"",
        b"\0",
        b"not safetensors at all",
        b"\xff" * 64,
        whole[: len(whole) // 2],
        whole[:-1],
        whole[:-1] + bytes([whole[-1] ^ 1]),  # one bit of a value
        whole + b"more",
    ):
        path.write_bytes(damaged)
        forget()
        make = Maker()
        assert same(kept("a", make), good) and make.asked == 1, damaged[:20]
        assert path.read_bytes() == whole


def test_a_file_without_its_hash_is_made_anew(folder):
    good = kept("a", Maker())
    (path,) = folder.iterdir()
    featurecache.save_file({name: torch.zeros_like(tensor) for name, tensor in good.items()}, path)
    forget()
    assert same(kept("a", Maker()), good)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("a file where the folder would be")
    monkeypatch.setenv("GANLIB_CACHE", str(in_the_way))
    make = Maker()
    assert kept("a", make) is kept("a", make) and make.asked == 1
    forget()
    kept("a", make)
    assert make.asked == 2 and in_the_way.read_text().startswith("a file")


def test_a_full_disk_is_no_error_and_leaves_nothing_behind(folder, monkeypatch):
    def save(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(featurecache, "save_file", save)
    assert same(kept("a", Maker()), Maker()())
    assert list(folder.iterdir()) == []


def test_the_oldest_leaves_memory_first_and_the_last_always_stays(monkeypatch):
    size = sum(t.nbytes for t in Maker()().values())
    monkeypatch.setattr(featurecache, "MOST_BYTES", 2 * size)
    made = [kept(key, Maker()) for key in "abc"]
    assert list(map(id, featurecache._kept.values())) == list(map(id, made[1:]))
    monkeypatch.setattr(featurecache, "MOST_BYTES", 0)
    kept("d", Maker())
    assert len(featurecache._kept) == 1
    again = Maker()
    kept("a", again)  # from the disk
    assert again.asked == 0


def test_an_error_while_making_keeps_nothing():
    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        kept("a", fail)
    make = Maker()
    kept("a", make)
    assert make.asked == 1


def net(seed=0, width=4, name="net"):
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))
    made.name = name
    return made


def test_a_fingerprint_is_of_name_layers_and_weights():
    with torch.random.fork_rng([]):
        one, copy, reseeded, wider, renamed = net(), net(), net(1), net(width=5), net(name="other")
    assert fingerprint(one) == fingerprint(copy)
    assert len({fingerprint(n) for n in (one, reseeded, wider, renamed)}) == 4
    before = fingerprint(one)
    with torch.no_grad():
        one[0].weight[0, 0] += 1e-6
    assert fingerprint(one) != before
    before = fingerprint(one)
    one[1].running_mean += 1  # a buffer
    assert fingerprint(one) != before


def test_a_function_has_no_fingerprint():
    assert fingerprint(lambda pixels: pixels.flatten(1).float()) is None
