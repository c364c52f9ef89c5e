import io
import tarfile

import pytest
from PIL import Image

from ganlib.data import sources
from ganlib.data.loading import load


@pytest.fixture(autouse=True)
def nothing_but(root, monkeypatch):
    """Whatever this machine has is not seen, and nobody is asked for more."""
    monkeypatch.setattr(sources, "download", lambda *a: pytest.fail("asked the network"))


def picture(level, size=(100, 80), kind="jpeg"):
    buffer = io.BytesIO()
    Image.new("RGB", size, (level, level, level)).save(buffer, kind)
    return buffer.getvalue()


def put(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def levels(images):
    return images.pixels[:, 0, 30, 30].tolist()


# --- LFW -----------------------------------------------------------------------------------------------------

PEOPLE = {
    "Ada_Byron/Ada_Byron_0001.jpg": picture(10),
    "Ada_Byron/Ada_Byron_0002.jpg": picture(20),
    "Max_Noether/Max_Noether_0001.jpg": picture(30),
}


@pytest.mark.parametrize("where", ["lfw-py/lfw_funneled", "lfw-py/lfw-deepfunneled", "lfw_funneled", "lfw"])
def test_lfw_in_a_folder(root, where):
    put(root / where, {**PEOPLE, "pairs_01.txt": b"no picture"})
    images = load("lfw")
    assert images.source == f"LFW · 3 faces · your copy ({where})" and images.pixels.shape == (3, 3, 64, 64)
    assert images.classes == ("Ada_Byron", "Max_Noether") and images.labels.tolist() == [0, 0, 1]
    assert levels(images) == [10, 20, 30]


def test_lfw_as_published(root):
    (root / "lfw-py").mkdir()
    with tarfile.open(root / "lfw-py" / "lfw-funneled.tgz", "w:gz") as archive:
        for name, content in PEOPLE.items():
            member = tarfile.TarInfo(f"lfw_funneled/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    images = load("LFW", image_size=80)
    assert images.source == "LFW · 3 faces · your copy (lfw-py/lfw-funneled.tgz)"
    assert images.classes == ("Ada_Byron", "Max_Noether") and images.pixels.shape == (3, 3, 80, 80)


def test_no_lfw_says_what_to_fetch():
    with pytest.raises(FileNotFoundError, match="LFW is not on this machine.*5976015.*lfw-funneled.tgz, into data/lf"):
        load("lfw")
    with pytest.raises(ValueError, match="'lfw' has no split 'test'; it has: train"):
        load("lfw", split="test")


# --- LSUN ----------------------------------------------------------------------------------------------------


@pytest.fixture
def lsun(root):
    """Three classes as LSUN's own tool exports them: WebP pictures in folders by the letters of their names."""
    put(
        root / "lsun",
        {
            "bedroom_train/0/a/0a1.webp": picture(10, kind="webp"),
            "bedroom_train/f/3/f33.webp": picture(20, kind="webp"),
            "bedroom_val/1/1.webp": picture(30, kind="webp"),
            "tower_train/0/0.webp": picture(40, kind="webp"),
            "church_outdoor_train/0/0.webp": picture(50, kind="webp"),
            "bridge_train_lmdb/data.mdb": b"packed",
            "stray.jpg": picture(60),
        },
    )
    return root / "lsun"


def test_lsun_by_classes(lsun):
    images = load("lsun", classes=("tower", "bedroom"))
    assert images.source == "LSUN · 3 pictures · your copy (lsun, train)"
    assert images.classes == ("bedroom", "tower") and images.labels.tolist() == [0, 0, 1]
    assert all(abs(a - b) < 3 for a, b in zip(levels(images), [10, 20, 40], strict=True))
    every = load("lsun")
    assert every.classes == ("bedroom", "church_outdoor", "tower") and len(every) == 4
    one = load("lsun", classes="bedroom", split="val")
    assert one.classes == ("bedroom",) and one.labels.tolist() == [0] and one.split == "val"
    again = load("lsun", classes=["bedroom", "tower"])  # kept, and the order of the classes does not matter
    assert again.source == images.source


def test_only_the_classes_that_are_wanted_are_looked_into(lsun, monkeypatch):
    (lsun / "bedroom_train" / "bad.webp").write_bytes(b"no picture")
    assert load("lsun", classes=["tower"]).skipped == ()
    assert load("lsun", classes=["bedroom"]).skipped == ("bedroom_train/bad.webp",)


def test_a_class_that_is_not_there_is_named(lsun, capsys):
    with pytest.raises(FileNotFoundError, match="LSUN is not on this machine.*fyu/lsun.*export.*into data/lsun/"):
        load("lsun", classes=["bridge"])
    assert (
        "has no class bridge; it has: bedroom, church_outdoor, tower; *_lmdb folders have to be exported first. Looking"
        in capsys.readouterr().out
    )


def test_lsun_that_is_packed_only(root, capsys):
    put(root / "lsun", {"bedroom_train_lmdb/data.mdb": b"packed"})
    with pytest.raises(FileNotFoundError, match="python3 data.py export bedroom_train_lmdb"):
        load("lsun")
    assert "lsun' has lmdb files, which have to be exported first. Looking further." in capsys.readouterr().out


# --- ImageNet ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["imagenet", "ILSVRC2012"])
def test_imagenet(root, capsys, name):
    put(
        root / name,
        {
            "train/n01440764/n01440764_10026.JPEG": picture(10),
            "train/n01440764/small.JPEG": picture(99, size=(20, 17)),
            "train/n01443537/n01443537_10007.JPEG": picture(20),
            "val/n01440764/ILSVRC2012_val_00000293.JPEG": picture(30),
            "meta.bin": b"",
        },
    )
    images = load("imagenet")
    assert images.source == f"ImageNet · 2 pictures · your copy ({name}/train)"
    assert images.classes == ("n01440764", "n01443537") and levels(images) == [10, 20]
    assert "1 images smaller than 64×64 are left out." in capsys.readouterr().out
    assert levels(load("imagenet", split="val")) == [30]
    goldfish = load("imagenet", classes=["n01443537"])
    assert levels(goldfish) == [20] and goldfish.classes == ("n01443537",)


def test_imagenet_of_small_pictures_only(root, capsys):
    put(root / "imagenet", {"train/n01440764/small.JPEG": picture(99, size=(20, 17))})
    with pytest.raises(FileNotFoundError, match="ImageNet is not on this machine"):
        load("imagenet")
    assert "'n01440764/small.JPEG' in '" in (said := capsys.readouterr().out) and "is 20×17 pixels" in said


def test_no_imagenet_says_what_to_fetch():
    with pytest.raises(FileNotFoundError, match="image-net.org.*ILSVRC2012_devkit_t12.tar.gz into data/imagenet/"):
        load("imagenet")
