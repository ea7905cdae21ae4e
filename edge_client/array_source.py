"""A folder of arrays that hold many examples each: `x` `[n, ...]` and `y` `[n]`, in one `.npz` or as two `.npy`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_client.data import LARGEST_FLOAT_BYTES, UNREADABLE, Recordings
from edge_client.data_file import files_of, steady
from edge_client.row_view import RowView
from shared.errors import DataError
from shared.labels import Label
from shared.layout import F32, I64

REMEDY = (
    "write it as numpy.savez(file, x=<float32 or integer [n, ...]>, y=<integer [n], or float [n, ...]>), "
    "or as name.x.npy and name.y.npy"
)


@dataclass(frozen=True, slots=True)
class ArraySource:
    """Gives every example of every file; a row's number in errors is its place along the first axis.

    Floating-point `x` are measurements, whole numbers tokens; whole-numbered `y` are classes, others numbers.
    """

    folder: Path

    def load(self) -> Recordings:
        """The examples in order of file and row; raises `DataError` naming file and row at fault."""
        files: list[str] = []
        blocks: list[F32 | I64] = []
        labels: list[I64 | F32] = []
        for path in files_of(self.folder, ".npz", ".npy"):
            if path.name.endswith(".y.npy"):
                continue
            x, y = _npz(path) if path.suffix == ".npz" else _npy(path)
            _check(path.name, x, y)
            files.append(path.name)
            blocks.append(_held(x))
            labels.append(_held(y))
        counts = [len(block) for block in blocks]
        if not sum(counts):
            raise DataError(f"{self.folder}: no example in it: {REMEDY}")
        return Recordings(
            RowView(counts, lambda block, row: blocks[block][row]),
            RowView(counts, lambda block, row: _label(labels[block], row)),
            RowView(counts, lambda block, row: f"{files[block]}, row {row}"),
        )


def _held(values: npt.NDArray[np.generic]) -> F32 | I64:
    """Floating-point values as float32, whole numbers as int64."""
    return values.astype(np.float32, copy=False) if values.dtype.kind == "f" else values.astype(np.int64, copy=False)


def _label(labels: I64 | F32, row: int) -> Label:
    return int(labels[row]) if labels.dtype == np.int64 else np.asarray(labels[row], np.float32)


def _npz(path: Path) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
    with steady(path) as file:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return np.asarray(arrays["x"]), np.asarray(arrays["y"])
        except KeyError as error:
            raise DataError(f"{path.name}: {error.args[0]}: {REMEDY}") from error
        except UNREADABLE as error:
            raise DataError(f"{path.name}: not a readable .npz file ({error}): {REMEDY}") from error


def _npy(path: Path) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
    if not path.name.endswith(".x.npy"):
        raise DataError(f"{path.name}: neither name.x.npy nor name.y.npy: {REMEDY}")
    return _array(path), _array(path.with_name(path.name.removesuffix(".x.npy") + ".y.npy"))


def _array(path: Path) -> npt.NDArray[np.generic]:
    with steady(path) as file:
        try:
            return np.asarray(np.load(file, allow_pickle=False))
        except UNREADABLE as error:
            raise DataError(f"{path.name}: not a readable .npy file ({error}): {REMEDY}") from error


def _check(name: str, x: npt.NDArray[np.generic], y: npt.NDArray[np.generic]) -> None:
    if (x.dtype != np.float32 and x.dtype.kind not in "iu") or x.ndim < 2:
        raise DataError(f"{name}: x is {x.dtype} of shape {x.shape}: {REMEDY}")
    numbers = y.dtype.kind == "f" and y.dtype.itemsize <= LARGEST_FLOAT_BYTES and y.ndim > 0
    classes = y.dtype.kind in "iu" and y.ndim == 1
    if not (numbers or classes) or y.shape[:1] != x.shape[:1]:
        raise DataError(f"{name}: y is {y.dtype} of shape {y.shape} for x of shape {x.shape}: {REMEDY}")
