import gzip
from pathlib import Path

import numpy as np
import pytest

from coordinator.tasks.idx import read_idx
from shared.errors import DataError

CONTENT = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "some-idx2-ubyte.gz"
    path.write_bytes(content)
    return path


def test_file_is_read_as_the_array_it_is(tmp_path: Path) -> None:
    read = read_idx(_file(tmp_path, gzip.compress(CONTENT)), (2, 3))
    assert read.dtype == np.uint8
    assert read.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"\0", b"\1" + CONTENT[1:], b""])
def test_content_of_another_shape_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"some-idx2-ubyte\.gz does not hold 2 x 3 unsigned bytes"):
        read_idx(_file(tmp_path, gzip.compress(content)), (2, 3))


PACKED = gzip.compress(CONTENT, mtime=0)


@pytest.mark.parametrize("content", [CONTENT, PACKED[:-9], PACKED[:10] + b"\xff" * 20], ids=["bare", "cut", "spoilt"])
def test_broken_gzip_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="not a whole gzip file"):
        read_idx(_file(tmp_path, content), (2, 3))
