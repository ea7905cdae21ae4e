from pathlib import Path

import numpy as np
import pytest

from edge_client.array_source import ArraySource
from shared.errors import DataError

X, Y = np.arange(24, dtype=np.float32).reshape(3, 2, 4), np.array([2, 0, 1])


def test_examples_come_in_order_of_file_and_row(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", x=X, y=Y)
    np.save(tmp_path / "a.x.npy", X[:1])
    np.save(tmp_path / "a.y.npy", Y[:1])
    found = ArraySource(tmp_path).load()
    assert list(found.labels) == [2, 2, 0, 1]
    assert list(found.names) == ["a.x.npy, row 0", "b.npz, row 0", "b.npz, row 1", "b.npz, row 2"]
    np.testing.assert_array_equal(found.series[3], X[2])


@pytest.mark.parametrize(
    ("x", "y", "fault"),
    [
        (X.astype(np.float64), Y, "x is float64"),
        (X[:, 0, 0], Y, r"x is float32 of shape \(3,\)"),
        (X, Y[:2], r"y is int64 of shape \(2,\) for x of shape \(3, 2, 4\)"),
        (X, Y[0], r"y is int64 of shape \(\)"),
        (X, np.ones((2, 3), np.float32), r"y is float32 of shape \(2, 3\)"),
        (X, Y > 0, "y is bool"),
        (X > 0, Y, "x is bool"),
    ],
)
def test_unfit_arrays_are_named_with_the_remedy(tmp_path: Path, x: object, y: object, fault: str) -> None:
    np.savez(tmp_path / "bad.npz", x=np.asarray(x), y=np.asarray(y))
    with pytest.raises(DataError, match=rf"bad\.npz: {fault}.*: write it as numpy\.savez"):
        ArraySource(tmp_path).load()


def test_what_is_missing_or_no_array_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.x.npy", X)
    with pytest.raises(DataError, match=r"a\.y\.npy: cannot be read"):
        ArraySource(tmp_path).load()
    (tmp_path / "a.y.npy").write_bytes(b"not an array")
    with pytest.raises(DataError, match=r"a\.y\.npy: not a readable \.npy file"):
        ArraySource(tmp_path).load()
    (tmp_path / "a.x.npy").rename(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"a\.npy: neither name\.x\.npy nor name\.y\.npy"):
        ArraySource(tmp_path).load()


def test_whole_numbers_are_tokens_and_floating_point_labels_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([[1, 2], [3, 4]], np.uint8), y=np.array([0.5, 1.5]))
    found = ArraySource(tmp_path).load()
    assert [(str(row.dtype), row.tolist()) for row in found.series] == [("int64", [1, 2]), ("int64", [3, 4])]
    assert [np.asarray(label) for label in found.labels] == [0.5, 1.5]
    np.savez(tmp_path / "a.npz", x=X, y=np.ones((3, 2), np.float32))
    assert [np.asarray(label).tolist() for label in ArraySource(tmp_path).load().labels] == [[1, 1]] * 3
