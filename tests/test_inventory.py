"""What is on this machine is found, what is not is named with where to get it, and nothing is touched."""

import pytest
import tyro
from makers import encoded, idx_files, noisy, pack, pictures, put

from ganlib._runtime import device as runtime
from ganlib.data import folders, sets
from ganlib.data.loading import load
from ganlib.runs.inventory import data

ABSENT = ["not on this machine"]


@pytest.fixture(autouse=True)
def nothing_but(root):
    """Whatever this machine has is not seen."""


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_all_datasets_are_told_and_nothing_is_touched(root, tmp_path, capsys):
    before = everything(tmp_path)
    found = data()
    assert everything(tmp_path) == before and list(found) == list(sets.SETS)
    told = capsys.readouterr().out
    for name, dataset in sets.SETS.items():
        assert all(found[name][split] == ABSENT for split in dataset.splits) and dataset.missing in told
        for file, url, md5 in dataset.files("train") if dataset.files else ():
            assert file in told and url in told and md5 in told and str(root / dataset.names[0]) in told


def test_files_put_where_it_says_are_found(root, tmp_path):
    put(root / "mnist", idx_files())
    found = data("mnist")["mnist"]
    assert found["train"] == [f"your copy (mnist) · '{root / 'mnist' / 'train-images-idx3-ubyte.gz'}'"]
    assert found["test"] == ABSENT
    assert "train-images" not in (how := "\n".join(found["to get it"])) and "t10k-images" in how
    put(root / "mnist", idx_files(split="test"))
    assert "to get it" not in data("MNIST")["mnist"]
    put(tmp_path / "mine" / "mnist", idx_files())  # data_root comes first
    first, second = data("mnist", data_root=tmp_path / "mine")["mnist"]["train"]
    assert str(tmp_path / "mine") in first and str(root) in second


def test_what_was_prepared_earlier_is_told(root):
    put(root / "mnist", idx_files())
    load("mnist")
    for path in (root / "mnist").iterdir():
        path.unlink()
    (line,) = data("mnist")["mnist"]["train"]
    assert line.startswith("prepared earlier, 30×1×28×28") and str(runtime.cache_dir()) in line
    load("fashion-mnist", download=False)  # a stand-in is kept, too, and is no such thing
    assert data("fashion-mnist")["fashion-mnist"]["train"] == ABSENT


def test_other_pictures_in_the_data_roots_are_told(root):
    put(root / "mnist", idx_files())
    pictures(root / "cats")
    (root / "empty").mkdir()
    for name in ("photos.zip", "cifar10.zip"):
        pack(root / name, {})
    assert list(data()["other pictures"]) == ["cats", "photos.zip"]


def test_a_folder_of_pictures(tmp_path, capsys):
    folder = pictures(tmp_path / "photos" / "train", n=5, size=(40, 30)).parent
    pictures(folder / "test", n=2, size=(50, 60), mode="RGB")
    put(folder / "train", {"a/page.png": b"<html>", "b/1.png": noisy(40)[:-200]})
    before = everything(tmp_path)
    (found,) = data(str(folder)).values()
    assert everything(tmp_path) == before
    assert found["what"] == [f"8 pictures · '{folder}'"]
    assert found["train"] == ["5 pictures · 2 classes a 3, b 2"] and found["test"] == [
        "2 pictures · 2 classes a 1, b 1"
    ]
    assert found["sizes"] == ["most often 40×30 (4), 50×60 (2), 40×40 (1); at most image_size=30 fits all; 5 are grey"]
    assert found["unreadable"][1:] == ["train/a/page.png (a web page)", "train/b/1.png (damaged)"]
    assert "train/b/1.png" in capsys.readouterr().out


def test_of_many_pictures_only_the_first_bytes_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "SILENT_UP_TO", 3)
    monkeypatch.setattr(folders, "open_pictures", None)
    (found,) = data(str(pictures(tmp_path / "photos"))).values()
    assert found["train"][0].startswith("4 pictures") and "first bytes" in found["unreadable"][0]


def test_an_archive_by_its_name_in_a_data_root(root):
    pack(root / "few.zip", {f"{k}.png": encoded() for k in range(3)})
    assert data("few.zip")["few.zip"]["train"] == ["3 pictures · 0 classes"]
    assert data("folder", data_root=root / "few.zip")["folder"]["what"][0].startswith("3 pictures")


def test_the_name_comes_without_a_flag_on_the_command_line(root):
    assert list(tyro.cli(data, args=[])) == list(sets.SETS)
    assert list(tyro.cli(data, args=["mnist", "--data-root", str(root)])) == ["mnist"]
    assert all("drawn" in data(name)[name]["to get it"][0] for name in ("fake", "toyfaces"))


def test_what_is_not_there_gets_a_sentence(tmp_path):
    put(tmp_path, {"a.zip": b"PK half", "bad/a.png": b"no", "empty/x.txt": b""})
    assert data(str(tmp_path / "bad"))[str(tmp_path / "bad")]["unreadable"][1] == "a.png (damaged)"
    for name, sentence in {
        "mnits": "'mnits'.*mnist",
        "no/where": "'no/where'",
        "folder": "root",
        str(tmp_path / "empty"): "no images in .*empty",
        str(tmp_path / "a.zip"): "a.zip' cannot be read",
    }.items():
        with pytest.raises((ValueError, OSError), match=sentence) as error:
            data(name)
        assert "\n" not in str(error.value)
