import os
import pickle
import shutil
import struct

import numpy as np
import pytest
import torch
from makers import PAGE, encoded, idx, idx_files, pack, put
from PIL import Image
from torchvision import datasets as torchvision_datasets

from ganlib.data import published
from ganlib.data.loading import load
from helpers import ROOT

SHARED = ROOT / os.environ.get("GANLIB_DATA", "no such folder")


@pytest.fixture(autouse=True)
def nothing_but(root, monkeypatch):
    """Whatever this machine has is not seen, and the batches of CIFAR-10 are small."""
    monkeypatch.setattr(published, "PER_BATCH", N)


def here(name, **options):
    return load(name, download=False, **options)


def test_resize_pads_shrinks_enlarges_and_repeats():
    x = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 1, 28, 28)
    padded = published.resize(x, 32, 3, pad_to=32)
    assert padded.shape == (2, 3, 32, 32) and padded.sum() == 3 * x.sum(dtype=int)
    assert all(np.array_equal(padded[:, c, 2:30, 2:30], x[:, 0]) for c in range(3))
    assert np.array_equal(published.resize(x, None, None), x)
    assert np.array_equal(published.resize(x, 31, 1, pad_to=32)[:, :, 1:29, 1:29], x)
    flat = np.full((1, 1, 28, 28), 255, np.uint8)
    for size in (14, 64):
        resized = published.resize(flat, size, 1, 32)
        assert resized.shape == (1, 1, size, size) and (resized == 255).all()
    lines = np.zeros((1, 1, 28, 28), np.uint8)
    lines[..., ::4] = 255  # every output pixel covers one white line and three black: picking pixels gives 0 or 255
    assert np.abs(published.resize(lines, 7, 1)[..., 1:-1].astype(int) - 64).max() < 20
    red = np.zeros((1, 3, 28, 28), np.uint8)
    red[:, 0] = 255
    assert (published.resize(red, 28, 1) == 76).all()


# --- MNIST's format ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unpack", [False, True])
@pytest.mark.parametrize("below", ["MNIST/raw", "mnist"])
def test_a_copy_in_each_layout_is_found(root, below, unpack):
    put(root / below, idx_files(), unpack)
    put(root / below, idx_files(split="test", n=20, value=9), unpack)
    train, test = here("mnist"), here("mnist", split="test")
    assert train.pixels.shape == (30, 1, 28, 28) and train.pixels[3, 0, 9, 9] == 7
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4] and train.classes == tuple("0123456789")
    assert test.pixels.shape == (20, 1, 28, 28) and test.pixels[3, 0, 9, 9] == 9
    assert train.source.startswith("MNIST · 30 digits · your copy (")
    assert test.source.startswith("MNIST · 20 test digits · your copy (")
    assert str(root) not in train.source
    assert train.split == "train" and test.split == "test" == test.take(3).split == test.of_class(7).split


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_torchvision_reads_the_same(root, name):
    theirs = {"mnist": torchvision_datasets.MNIST, "fashion-mnist": torchvision_datasets.FashionMNIST}[name]
    files = idx_files(name, "train") | idx_files(name, "test", 20)
    put(root / theirs.__name__ / "raw", files, unpack=True)
    for split in ("train", "test"):
        expected, ours = theirs(root, split == "train", download=False), here(name, split=split)
        assert torch.equal(ours.pixels[:, 0], expected.data) and torch.equal(ours.labels, expected.targets)


def test_damaged_files_are_named_and_passed_over(root, capsys):
    put(root / "MNIST/raw", {name: content[:-9] for name, content in idx_files().items()})
    put(root / "mnist", dict([list(idx_files(n=30).items())[0], list(idx_files(n=31).items())[1]]))
    assert "offline sample" in here("mnist").source
    said = capsys.readouterr().out
    assert "train-images-idx3-ubyte.gz' cannot be read" in said and "ubyte.gz' do not belong together" in said
    put(root / "mnist", idx_files())
    assert here("mnist").source == "MNIST · 30 digits · your copy (mnist)"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (PAGE.encode(), "web page"),
        (idx(np.zeros((4, 28, 28), np.uint8))[:-20], "ended"),
        (idx(np.zeros((4, 28, 28), np.uint8), False)[:-20], r"3116 into shape \(4,28,28\)|4, ?28, ?28"),
        (b"", "values"),
        (b"\0\0\x09\1\0\0\0\1\0", "bytes"),  # signed ones
        (None, "No such file"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path, data, why):
    if data is not None:
        (tmp_path / "labels").write_bytes(data)
    with pytest.raises(ValueError, match=rf"labels' cannot be read .*({why}).*get it again"):
        published.read_idx(tmp_path / "labels")


# --- CIFAR-10 ------------------------------------------------------------------------------------------------

N = 20  # pictures a batch, where the real ones have 10,000
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCHES = {"train": [f"data_batch_{k}" for k in range(1, 6)], "test": ["test_batch"]}
ARCHIVE = {"py": "cifar-10-python.tar.gz", "bin": "cifar-10-binary.tar.gz"}


def batch(name):
    """(pixels uint8 [N, 3072], labels) of a batch: noise, in which every class occurs twice."""
    rng = np.random.default_rng(sum(name.encode()))
    return rng.integers(0, 256, (N, 3072), np.uint8), rng.permutation(np.arange(N) % 10).tolist()


def text(value):
    """A string as Python 2 pickled it."""
    return b"U" + bytes([len(value)]) + value.encode()


def python2_pickle(pixels, labels):
    """What Python 2 and its numpy wrote: opcode for opcode the structure of the published batches."""
    number = b"M" + struct.pack("<H", len(pixels)) + b"M" + struct.pack("<H", pixels.shape[1])
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text("b") + b"\x87R"
    kind = (
        b"cnumpy\ndtype\n" + text("u1") + b"K\0K\1\x87R(K\3" + text("|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\0tb"
    )
    order = b"\x88" if pixels.flags.f_contiguous and not pixels.flags.c_contiguous else b"\x89"
    contents = pixels.tobytes(order="A")
    state = b"(K\1" + number + b"\x86" + kind + order + b"T" + struct.pack("<i", len(contents)) + contents + b"tb"
    items = text("batch_label") + text("training batch 1 of 5") + text("labels") + b"]"
    for k in range(0, len(labels), 7):  # it wrote a thousand at a time
        items += b"(" + b"".join(b"K" + bytes([label]) for label in labels[k : k + 7]) + b"e"
    return b"\x80\x02}(" + items + text("data") + array + state + b"u."


def binary(pixels, labels):
    return b"".join(bytes([k]) + x.tobytes() for x, k in zip(pixels, labels, strict=True))


def batches(kind, splits=("train", "test")):
    """{name: bytes} of the files of some splits, as they lie in the folder."""
    write, ending = {"py": (python2_pickle, ""), "bin": (binary, ".bin")}[kind]
    return {name + ending: write(*batch(name)) for split in splits for name in BATCHES[split]}


def put_cifar(folder, kind, packed=False, files=None):
    """The batches in a folder, or in an archive as published; gives its path."""
    files, top = batches(kind) if files is None else files, f"cifar-10-batches-{kind}"
    if packed:
        return pack(folder / ARCHIVE[kind], {f"{top}/{name}": content for name, content in files.items()})
    return put(folder / top, files)


def check(split, where):
    """The split is found there, with the pictures and labels of its batches."""
    images = here("cifar10", split=split)
    pixels, labels = zip(*(batch(name) for name in BATCHES[split]), strict=True)
    assert np.array_equal(images.pixels, np.concatenate(pixels).reshape(-1, 3, 32, 32))
    assert images.labels.tolist() == sum(labels, []) and list(images.classes) == NAMES
    count = f"{len(BATCHES[split]) * N} {'' if split == 'train' else 'test '}pictures"
    assert images.source == f"CIFAR-10 · {count} · your copy ({where})"


@pytest.mark.parametrize("below", ["", "cifar10", "CIFAR10"])
@pytest.mark.parametrize("kind", ["py", "bin"])
@pytest.mark.parametrize("packed", [False, True])
def test_batches_and_archives_as_published(root, tmp_path, below, kind, packed):
    path = put_cifar(root / below, kind, packed)
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    for split in ("train", "test"):
        check(split, path.relative_to(root).as_posix())
    made = {p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock"} - before
    assert {p.parent.name for p in made} == {"cifar10-train-32-3", "cifar10-test-32-3"}  # nothing is unpacked


def test_the_order_of_the_rungs(root):
    put(root / "cifar10", {f"{name}/0.png": encoded((32, 32), mode="RGB") for name in ("car", "plane")})
    for kind, packed in (("bin", True), ("py", True), ("bin", False)):
        put_cifar(root, kind, packed)
    put_cifar(root / "CIFAR10", "py")
    for where in ("CIFAR10/cifar-10-batches-py", "cifar-10-batches-bin", ARCHIVE["py"], ARCHIVE["bin"]):
        check("train", where)
        path = root / where
        path.unlink() if path.is_file() else shutil.rmtree(path)
    images = here("cifar10")
    assert images.source == "CIFAR-10 · 2 pictures · your copy (cifar10)" and images.classes == ("car", "plane")
    assert images.labels.tolist() == [0, 1]
    shutil.rmtree(root / "cifar10")
    assert here("cifar10").source == images.source  # prepared earlier


def test_sizes_and_channels(root):
    put_cifar(root, "bin")
    small = here("cifar10", image_size=16, channels=1)
    assert small.pixels.shape == (100, 1, 16, 16) and small.source.endswith("made of 32×32")
    assert here("cifar10", image_size=64).image_size == 64


def passed_over(capsys, *words, split="train"):
    images = here("cifar10", split=split)
    said = capsys.readouterr().out
    assert "NOT CIFAR-10" in images.source and "Looking further" in said and "cifar-10-binary.tar.gz" in said
    assert all(word in said for word in words), said


@pytest.mark.parametrize("damage", [lambda raw: PAGE.encode(), lambda raw: raw[:-99], lambda raw: b"", None])
@pytest.mark.parametrize("kind", ["py", "bin"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_or_missing_batch_is_passed_over(root, capsys, kind, packed, damage):
    files, name = batches(kind), "data_batch_2" + ".bin" * (kind == "bin")
    content = files.pop(name)
    path = put_cifar(root, kind, packed, files | ({name: damage(content)} if damage else {}))
    passed_over(capsys, f"'{path}'", "get it again")
    check("test", path.name)  # the other split is intact


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("test_batch.bin", lambda x, y: binary(x, y)[:-100]),
        ("test_batch.bin", lambda x, y: binary(x[1:], y[1:])),
        ("test_batch.bin", lambda x, y: binary(x, [10, *y[1:]])),
        ("test_batch", lambda x, y: python2_pickle(x, y)[:-100]),
        ("test_batch", lambda x, y: python2_pickle(x[1:], y[1:])),
        ("test_batch", lambda x, y: python2_pickle(x, y[1:])),
        ("test_batch", lambda x, y: python2_pickle(x, [10, *y[1:]])),
        ("test_batch", lambda x, y: python2_pickle(x[:, 1:], y)),
        ("test_batch", lambda x, y: pickle.dumps({"data": x.astype(np.int16), "labels": y}, 3)),
        ("test_batch", lambda x, y: pickle.dumps({"data": x}, 3)),
        ("test_batch", lambda x, y: pickle.dumps({"labels": y})),
        ("test_batch", lambda x, y: b"no pickle"),
        ("test_batch", lambda x, y: b"."),
    ],
)
def test_a_batch_of_the_wrong_kind(tmp_path, name, content):
    put(tmp_path, {name: content(*batch("test_batch"))})
    with pytest.raises(ValueError, match=f"'{tmp_path}' cannot be read.*get it again"):
        published.read_cifar(tmp_path, [name])


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda content: content[:-3000], "end ("),
        (lambda content: content[:-8] + b"\0\0\0\0" + content[-4:], "CRC"),
        (lambda content: PAGE.encode(), "web page"),
    ],
)
def test_a_damaged_archive_is_named_and_passed_over(root, capsys, damage, why):
    path = put_cifar(root, "bin", packed=True)
    path.write_bytes(damage(path.read_bytes()))
    passed_over(capsys, str(path), why)


def test_links_in_an_archive_are_not_followed(root, capsys):
    pack(root / ARCHIVE["bin"], {}, ["cifar-10-batches-bin/test_batch.bin"])
    passed_over(capsys, "test_batch", split="test")


@pytest.mark.parametrize("by_columns", [False, True])
def test_the_pickles_of_these_tests_are_what_torchvision_reads(tmp_path, by_columns):
    pixels, labels = batch("test_batch")
    theirs = python2_pickle(np.asfortranarray(pixels) if by_columns else pixels, labels)
    found = pickle.loads(theirs, encoding="latin1")  # as torchvision does
    assert np.array_equal(found["data"], pixels) and found["labels"] == labels
    for raw in (theirs, pickle.dumps({"data": pixels, "labels": labels}, 3)):  # this Python's
        ours = published.read_cifar(put(tmp_path, {"test_batch": raw}), ["test_batch"])
        assert np.array_equal(ours[0].reshape(N, -1), pixels) and ours[1].tolist() == labels


class Exploit:
    """Unpickled, it makes a folder; in a batch, next to pictures that look right."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("packed", [False, True])
def test_a_pickle_is_never_run(root, tmp_path, protocol, packed):
    pixels, labels = batch("test_batch")
    attack = pickle.dumps({"x": Exploit(tmp_path / "mark"), "data": pixels, "labels": labels}, protocol)
    pickle.loads(attack)
    (tmp_path / "mark").rmdir()  # it works
    put_cifar(root, "py", packed, {"test_batch": attack})
    here("cifar10", split="test")
    assert not (tmp_path / "mark").exists()


# --- CelebA --------------------------------------------------------------------------------------------------

FACES = [f"{k + 1:06d}.jpg" for k in range(12)]
ATTRIBUTES = ("5_o_Clock_Shadow", "Smiling", "Young")
PARTS = [0] * 7 + [1] * 2 + [2] * 3


def face(k, size=(178, 218)):
    """A picture of one grey level, with a band of white above and below the square that is to be left."""
    image = Image.new("RGB", size, "white")
    edge = (size[1] - size[0]) // 2
    image.paste((10 * k,) * 3, (0, edge, size[0], edge + size[0]))
    return encoded(image, kind="jpeg", quality=95)


def value(k, a):
    return 1 if (k + a) % 3 == 0 else -1


def lists():
    """The lists as published: the number of pictures, the names, padded numbers."""
    rows = (f"{name} " + " ".join(f"{value(k, a):2d}" for a in range(3)) + "\n" for k, name in enumerate(FACES))
    parts = "".join(f"{name} {part}\n" for name, part in zip(FACES, PARTS, strict=True))
    table = f"{len(FACES)}\n{' '.join(ATTRIBUTES)} \n" + "".join(rows)
    return {"list_attr_celeba.txt": table, "list_eval_partition.txt": parts}


def put_faces(folder, size=(178, 218), **texts):
    """CelebA in ``folder`` as torchvision has it."""
    return put(folder, {f"img_align_celeba/{name}": face(k, size) for k, name in enumerate(FACES)} | texts)


def levels(images, at=30):
    """Which pictures they are, by their grey."""
    return [round(float(x) / 10) for x in images.pixels[:, 0, at, at]]


def smiles(rows):
    return [(value(k, 1) + 1) / 2 for k in rows]


def test_torchvisions_layout(root):
    put_faces(root / "celeba", **lists())
    images = here("celeba")
    assert images.source == "CelebA · 7 faces · your copy (celeba/img_align_celeba)"
    assert images.pixels.shape == (7, 3, 64, 64) and levels(images) == list(range(7)) and images.labels is None
    assert images.attribute_names == ATTRIBUTES and images.attributes.dtype == torch.float32
    assert images.attribute("Smiling").tolist() == smiles(range(7))
    assert levels(here("celeba", split="val")) == [7, 8]
    test, few = here("celeba", split="test"), images.take(3, seed=1)
    assert levels(test) == [9, 10, 11] and test.source.startswith("CelebA · 3 test faces")
    assert test.attribute("Smiling").tolist() == smiles([9, 10, 11])
    assert few.attribute("Smiling").tolist() == smiles(levels(few))


@pytest.mark.parametrize("image_size", [64, 128])
def test_the_crop_is_the_central_square_of_the_full_width(root, image_size):
    put_faces(root / "celeba")
    images = here("celeba", image_size=image_size)
    spread = (images.pixels.amax((1, 2, 3)) - images.pixels.amin((1, 2, 3))).tolist()
    assert max(spread) < 40  # no white band is left, and what JPEG makes of its edge is faint


@pytest.mark.parametrize(
    "where", ["celeba/img_align_celeba.zip", "img_align_celeba.zip", "celeba.tar.xz", "CelebA.zip"]
)
def test_archives_of_faces_as_they_are(root, where):
    pack(root / where, {f"celebA/{name}": face(k) for k, name in enumerate(FACES)})
    images = here("celeba")
    assert images.source == f"CelebA · 12 faces · your copy ({where})" and levels(images) == list(range(12))
    assert images.attributes is None and images.attribute_names == ()
    put((root / where).parent, lists())  # they come later
    assert levels(here("celeba", split="val")) == [7, 8] and here("celeba").attribute_names == ATTRIBUTES


def test_kaggles_lists(root):
    table, parts = lists().values()
    rows = "\n".join(["image_id," + ",".join(ATTRIBUTES), *(",".join(row.split()) for row in table.splitlines()[2:])])
    parts = "image_id,partition\n" + parts.replace(" ", ",")
    put_faces(root / "celeba", **{"list_attr_celeba.csv": rows + "\n", "list_eval_partition.csv": parts})
    images = here("celeba", split="test")
    assert images.attribute_names == ATTRIBUTES and levels(images) == [9, 10, 11]
    assert images.attribute("Smiling").tolist() == smiles([9, 10, 11])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: PAGE, ["list_attr_celeba.txt' cannot be read", "web page"]),
        (lambda text: text[:-6], ["line 14 is", "list_attr_celeba.txt"]),
        (lambda text: text.replace("000003.jpg ", "000003.jpg x"), ["list_attr_celeba.txt"]),
        (lambda text: text.replace("000003", "000033"), ["000003.jpg' in '", "list_attr_celeba.txt"]),
    ],
)
def test_a_damaged_list_is_named(root, capsys, damage, words):
    table, parts = lists().items()
    put_faces(root / "celeba", **{table[0]: damage(table[1]), parts[0]: parts[1]})
    assert "NOT CelebA" in here("celeba").source
    said = capsys.readouterr().out
    assert all(word in said for word in [*words, "again"]), said


def test_a_split_that_is_not_there_and_faces_too_small(root, capsys):
    put_faces(root / "celeba", (89, 109))
    assert here("celeba").pixels.shape == (12, 3, 64, 64)
    for wanted, why in (({"split": "test"}, "no split 'test'"), ({"image_size": 128}, "89×109")):
        assert "NOT CelebA" in here("celeba", **wanted).source and why in capsys.readouterr().out
    put(root / "celeba", {"list_eval_partition.txt": "".join(f"{name} 0\n" for name in FACES)})
    assert "NOT CelebA" in here("celeba", split="test").source and "'test'" in capsys.readouterr().out


# --- LFW, LSUN and ImageNet ----------------------------------------------------------------------------------

PEOPLE = {f"{who}/{who}_{k}.jpg": encoded((100, 80), (c,) * 3, "RGB", "jpeg") for who, k, c in
          (("Ada_Byron", 1, 10), ("Ada_Byron", 2, 20), ("Max_Noether", 1, 30))}  # fmt: skip
GREY = {c: encoded((100, 80), (c,) * 3, "RGB", "webp", lossless=True) for c in (10, 20, 30, 40, 50, 60)}
LSUN = {"bedroom_train/0/a/0a1.webp": GREY[10], "bedroom_train/f/3/f33.webp": GREY[20], "stray.jpg": GREY[60]}
LSUN |= {"tower_train/0/0.webp": GREY[40], "church_outdoor_train/0/0.webp": GREY[50], "bedroom_val/1/1.webp": GREY[30]}
LSUN |= {"bridge_train_lmdb/data.mdb": b"packed", "bedroom_train/bad.webp": b"no picture"}


@pytest.mark.parametrize("where", ["lfw-py/lfw_funneled", "lfw_funneled", "lfw", "lfw-py/lfw-funneled.tgz"])
def test_lfw(root, where):
    if where.endswith("tgz"):
        pack(root / where, {f"lfw_funneled/{name}": content for name, content in PEOPLE.items()})
    else:
        put(root / where, {**PEOPLE, "pairs_01.txt": b"no picture"})
    images = load("LFW")
    assert images.source == f"LFW · 3 faces · your copy ({where})" and images.pixels.shape == (3, 3, 64, 64)
    assert images.classes == ("Ada_Byron", "Max_Noether") and images.labels.tolist() == [0, 0, 1]
    assert levels(images) == [1, 2, 3] and load("lfw", image_size=80).pixels.shape == (3, 3, 80, 80)


def test_lsun_by_classes(root, capsys):
    put(root / "lsun", {"bedroom_train_lmdb/data.mdb": b"packed"})
    with pytest.raises(FileNotFoundError, match="LSUN .*fyu/lsun.*export"):
        load("lsun")
    put(root / "lsun", LSUN)
    images = load("lsun", classes=("tower", "bedroom"))
    assert (
        images.source.startswith("LSUN · 3 pictures · 1 left out: bedroom_train/bad.webp · ")
        and "your copy (lsun)" in images.source
    )
    assert images.classes == ("bedroom", "tower") and images.labels.tolist() == [0, 0, 1]
    assert levels(images) == [1, 2, 4] and images.skipped == ("bedroom_train/bad.webp",)
    assert load("lsun", classes=["bedroom", "tower"]).source == images.source  # the order does not matter
    assert load("lsun", classes=["tower"]).skipped == ()  # only what is wanted is looked into
    assert load("lsun").classes == ("bedroom", "church_outdoor", "tower") and len(load("lsun")) == 4
    one = load("lsun", classes="bedroom", split="val")
    assert one.classes == ("bedroom",) and levels(one) == [3] and one.split == "val"
    with pytest.raises(FileNotFoundError, match="LSUN"):
        load("lsun", classes=["tower", "bridge"])
    assert "bridge" in capsys.readouterr().out


def test_imagenet(root, capsys):
    put(root / "imagenet", {"train/n01440764/small.JPEG": encoded((20, 17), (99,) * 3, "RGB", "jpeg")})
    with pytest.raises(FileNotFoundError, match="image-net.org"):
        load("imagenet")
    assert "20×17" in capsys.readouterr().out
    files = {"train/n01440764/1.JPEG": GREY[10], "train/n01443537/2.JPEG": GREY[20], "val/n01440764/3.JPEG": GREY[30]}
    put(root / "imagenet", files)
    images = load("imagenet")
    assert images.source == "ImageNet · 2 pictures · your copy (imagenet/train)"
    assert images.classes == ("n01440764", "n01443537") and levels(images) == [1, 2]
    assert "n01440764/small.JPEG (smaller than image_size)" in capsys.readouterr().out and levels(
        load("imagenet", split="val")
    ) == [3]
    goldfish = load("imagenet", classes=["n01443537"])
    assert levels(goldfish) == [2] and goldfish.classes == ("n01443537",)


# --- The real ones -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "celeba.tar.xz").is_file(), reason="needs the archives in GANLIB_DATA")
def test_real_pictures():
    images = here("cifar10", root=SHARED, split="test")
    assert images.source == "CIFAR-10 · 10,000 test pictures · your copy (cifar10.tar.xz)"
    assert images.pixels.shape == (10_000, 3, 32, 32) and list(images.classes) == NAMES and not images.skipped
    # Ships and airplanes have a blue ground, deer and frogs a green or brown one.
    blue = [images.of_class(c).pixels.float().mean((0, 2, 3)) for c in ("airplane", "ship", "deer", "frog")]
    assert [bool(mean[2] > mean[0]) for mean in blue] == [True, True, False, False]
    faces = here("celeba", root=SHARED)
    assert faces.source == "CelebA · 10,000 faces · your copy (celeba.tar.xz)" and not faces.skipped
    mean = faces.pixels.float().mean(0)  # skin is redder than blue, and the two halves mirror each other
    assert mean[0, 40, 32] > mean[2, 40, 32] + 20 and (mean - mean.flip(-1)).abs().mean() < 6
