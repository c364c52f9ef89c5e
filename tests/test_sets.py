from ganlib.data import celeba, cifar, photos, sets


def test_the_table_agrees_with_torchvision():
    from torchvision import datasets

    for ours, theirs in (
        (sets.SETS["mnist"], datasets.MNIST),
        (sets.SETS["fashion-mnist"], datasets.FashionMNIST),
    ):
        files = [pair for split in ("train", "test") for pair in ours.files[split]]
        assert files == theirs.resources
        assert ours.url in theirs.mirrors
    assert list(sets.SETS["fashion-mnist"].classes) == datasets.FashionMNIST.classes
    theirs = datasets.CIFAR10
    assert sets.SETS["cifar10"].url == theirs.url.removesuffix(theirs.filename)
    assert theirs.filename in cifar.ARCHIVES and theirs.base_folder in cifar.FOLDERS
    assert [name for name, _ in theirs.train_list] == list(cifar.BATCHES["train"])
    assert [name for name, _ in theirs.test_list] == list(cifar.BATCHES["test"])
    drive = {name: (number, md5) for number, md5, name in datasets.CelebA.file_list}
    assert all(drive[name] == numbers for name, numbers in celeba.DRIVE_FILES.items())
    lfw = datasets.LFWPeople
    folders = {folder for folder, _, _ in lfw.file_dict.values()}
    archives = {name.removesuffix(".tgz") for _, name, _ in lfw.file_dict.values()}
    assert folders | archives == set(photos.LFW_VERSIONS) and sets.SETS["lfw"].names[0] == lfw.base_folder


def test_every_set_says_what_it_is():
    for key, recipe in sets.SETS.items():
        assert recipe.title and recipe.unit and "train" in recipe.splits, key
        assert key in recipe.names or recipe.names[0] == "lfw-py"
        # What nothing can stand in for says where to get it, and where to put it.
        if not recipe.stand_in:
            assert all(part in recipe.missing for part in ("https://", "data/README.md", "data/" + recipe.names[0]))
