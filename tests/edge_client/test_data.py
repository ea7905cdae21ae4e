import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pytest

from edge_client.data import FolderSource, MemorySource, Recordings
from shared.errors import DataError
from shared.preprocessing import Preprocessing, cut

X = np.ones((20, 2), np.float32)


def test_folder_gives_recordings_in_order_of_name(tmp_path: Path) -> None:
    for name, label in (("b", 1), ("a", 0), ("c", 2)):
        np.savez(tmp_path / f"{name}.npz", x=X * label, y=np.uint8(label))
    (tmp_path / "notes.txt").write_text("not a recording")
    recordings = FolderSource(tmp_path).load()
    assert list(recordings.labels) == [0, 1, 2]
    assert list(recordings.names) == ["a.npz", "b.npz", "c.npz"]
    np.testing.assert_array_equal(recordings.series[2], X * 2)


def test_floating_point_labels_are_numbers_of_a_recording_or_of_its_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=np.float64(0.5))
    np.savez(tmp_path / "b.npz", x=X, y=X[:, 0].astype(np.float16))
    whole, each = (np.asarray(label) for label in FolderSource(tmp_path).load().labels)
    assert (float(whole), str(whole.dtype), each.shape, str(each.dtype)) == (0.5, "float32", (20,), "float32")


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent: cannot be read .*check the data folder"):
        FolderSource(tmp_path / "absent").load()


def test_empty_folder_says_what_to_put_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.npz file"):
        FolderSource(tmp_path).load()


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"x": X}, "y is not a file"),
        ({"y": np.int64(1)}, "x is not a file"),
        ({"x": X.astype(np.float64), "y": np.int64(1)}, "x is float64"),
        ({"x": X[0], "y": np.int64(1)}, r"shape \(2,\)"),
        ({"x": X, "y": np.complex64(1)}, "y is complex64"),
        ({"x": X, "y": np.array([1, 2])}, r"y is int64 of shape \(2,\)"),
        ({"x": np.array([{}], dtype=object), "y": np.int64(1)}, "allow_pickle"),
    ],
)
def test_unfit_arrays_are_refused_with_file_and_remedy(
    tmp_path: Path, arrays: dict[str, npt.ArrayLike], fault: str
) -> None:
    np.savez(tmp_path / "bad.npz", allow_pickle=True, **arrays)
    with pytest.raises(DataError, match=rf"bad\.npz: .*{fault}.*: write it as numpy\.savez"):
        FolderSource(tmp_path).load()


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 truncated"])
def test_unreadable_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "torn.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"torn\.npz: not a readable \.npz file"):
        FolderSource(tmp_path).load()


def test_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "live.npz"
    np.savez(path, x=X, y=np.int64(1))
    load = np.load

    def load_while_written(file: BinaryIO, allow_pickle: bool) -> object:
        os.utime(path, ns=(1, 1))
        return load(file, allow_pickle=allow_pickle)

    monkeypatch.setattr(np, "load", load_while_written)
    with pytest.raises(DataError, match=r"live\.npz: changed while it was read"):
        FolderSource(tmp_path).load()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_value_that_is_not_finite_is_found_by_file_and_row(tmp_path: Path, value: float) -> None:
    broken = X.copy()
    broken[3, 1] = value
    np.savez(tmp_path / "broken.npz", x=broken, y=np.int64(1))
    recordings = FolderSource(tmp_path).load()
    with pytest.raises(DataError, match=r"broken\.npz: .* row 3, channel 1"):
        cut(
            recordings.series,
            recordings.labels,
            Preprocessing(channels=2, window=4, stride=2, num_classes=2),
            recordings.names,
        )


def test_memory_source_gives_what_it_was_given() -> None:
    recordings = Recordings([X], [1])
    assert MemorySource(recordings).load() is recordings


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_file_with_any_bytes_changed_is_read_or_refused(save: Callable[..., None], tmp_path: Path) -> None:
    file, draw = tmp_path / "a.npz", random.Random(5)
    save(file, x=np.ones((50, 3), np.float32), y=np.int64(1))
    good = file.read_bytes()
    for _ in range(300):
        damaged = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            damaged[draw.choice((draw.randrange(200), -draw.randrange(1, 300)))] = draw.randrange(256)
        file.write_bytes(damaged[: draw.choice((None, draw.randrange(len(good))))])
        with suppress(DataError):
            FolderSource(tmp_path).load()
