import gzip

import numpy as np
import pytest

from ganlib.data.idx import find_idx, read_idx, read_idx_pair


def idx(array, squeeze=True):
    """The bytes of an IDX file, written from its published description and not with the code under test."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(d).to_bytes(4, "big") for d in array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0) if squeeze else header + array.tobytes()


@pytest.mark.parametrize("squeeze", [True, False])
def test_read_idx(tmp_path, squeeze):
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "x").write_bytes(idx(array, squeeze))
    assert np.array_equal(read_idx(tmp_path / "x"), array)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<html>log in</html>", "it is a web page"),
        (idx(np.zeros((4, 28, 28), np.uint8))[:-20], "Compressed file ended"),
        (idx(np.zeros((4, 28, 28), np.uint8), False)[:-20], "3,116 bytes after its header, not the 3,136"),
        (b"", "buffer"),
        (b"\0\0\x0d\1\0\0\0\1\0\0\0\0", "4 bytes after its header, not the 1"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path, data, why):
    (tmp_path / "train-labels").write_bytes(data)
    with pytest.raises(ValueError, match=rf"'train-labels' in .* is damaged \(.*{why}.*\); get it again"):
        read_idx(tmp_path / "train-labels")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"'none' in .* is damaged \(.*No such file"):
        read_idx(tmp_path / "none")


def test_a_damaged_pair_is_found_so_that_reading_can_name_it(tmp_path):
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (tmp_path / name).write_text("<html>log in</html>")
    ((where, files),) = find_idx(tmp_path, "test", below=("", "mnist"), opening={"test": (7, 2)})
    assert where == "t10k-images-idx3-ubyte.gz"
    with pytest.raises(ValueError, match="it is a web page"):
        read_idx_pair(files, "test")
