"""Where the recordings to train on come from; they never leave the device."""

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from edge_client.row_view import RowView
from shared.errors import DataError
from shared.labels import Label
from shared.layout import F32, I64

REMEDY = "write it as numpy.savez(file, x=<float32 [samples, channels]>, y=<integer label, or float numbers>)"
LARGEST_FLOAT_BYTES = 8
UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, RuntimeError, MemoryError, OverflowError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, TokenError),
)
"""What numpy and zipfile raise on a file that is not an array, is damaged, encrypted, or claims more than fits."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows of a table file that follow each other; their `numbers` are those that errors give."""

    file: str
    numbers: Sequence[int]

    def __str__(self) -> str:
        return f"{self.file}, rows {self.numbers[0]} to {self.numbers[-1]}"


@dataclass(frozen=True, slots=True)
class Recordings:
    """Series float32 `[samples, channels]`, or whole examples, with a label each; `names` say in errors which is meant.

    Of a table `stretches` say which rows a series is. `channel_order` is known of images alone.
    """

    series: Sequence[F32 | I64]
    labels: Sequence[Label]
    names: Sequence[str] = ()
    stretches: Sequence[Stretch] = ()
    channel_order: Literal["rgb"] | None = None

    def row_by_row(self) -> "Recordings":
        """Of a table every row as an example of its own; of all else the same."""
        if not self.stretches:
            return self
        counts = [len(stretch.numbers) for stretch in self.stretches]
        return Recordings(
            RowView(counts, lambda block, row: self.series[block][row]),
            RowView(counts, self._label_of_row),
            RowView(
                counts, lambda block, row: f"{self.stretches[block].file}, row {self.stretches[block].numbers[row]}"
            ),
        )

    def _label_of_row(self, block: int, row: int) -> Label:
        label = self.labels[block]
        return label if isinstance(label, int) else np.asarray(label[row])


class DataSource(Protocol):
    """Gives the local recordings; what they must look like is checked by `preprocessing.split`."""

    def load(self) -> Recordings:
        """All recordings, in the same order every time; raises `DataError` naming the file at fault."""


@runtime_checkable
class LiveSource(DataSource, Protocol):
    """A source whose recordings change while the program runs."""

    def revision(self) -> int:
        """Another number once `load` gives other recordings."""


@dataclass(frozen=True, slots=True)
class MemorySource:
    """Recordings that are in memory already: emulated fleets and tests."""

    recordings: Recordings

    def load(self) -> Recordings:
        """The recordings as they were given."""
        return self.recordings


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder of `.npz` files, one recording each: `x` float32 `[samples, channels]` and `y`.

    That is a class, a scalar integer, or floating-point numbers: for the whole recording, or a row a sample.
    """

    folder: Path

    def load(self) -> Recordings:
        """The recordings in order of file name; raises `DataError` where there is none or one is unusable."""
        try:
            files = sorted(path for path in self.folder.iterdir() if path.suffix == ".npz")
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be read ({error.strerror}): check the data folder") from error
        if not files:
            raise DataError(f"{self.folder}: no .npz file in it: put one recording a file there")
        pairs = [_read(path) for path in files]
        return Recordings([x for x, _ in pairs], [y for _, y in pairs], [path.name for path in files])


def _read(path: Path) -> tuple[F32, Label]:
    try:
        with path.open("rb") as file:
            before = _state(os.fstat(file.fileno()))
            with np.load(file, allow_pickle=False) as arrays:
                x, y = np.asarray(arrays["x"]), np.asarray(arrays["y"])
        after = _state(path.stat())
    except KeyError as error:
        raise DataError(f"{path.name}: {error.args[0]}: {REMEDY}") from error
    except UNREADABLE as error:
        raise DataError(f"{path.name}: not a readable .npz file ({error}): {REMEDY}") from error
    if before != after:
        raise DataError(f"{path.name}: changed while it was read: write elsewhere, then move it into the folder")
    if x.dtype != np.float32 or x.ndim != 2:
        raise DataError(f"{path.name}: x is {x.dtype} of shape {x.shape}: {REMEDY}")
    if y.dtype.kind == "f" and y.dtype.itemsize <= LARGEST_FLOAT_BYTES:
        return x, y.astype(np.float32)
    if y.ndim != 0 or y.dtype.kind not in "iu":
        raise DataError(f"{path.name}: y is {y.dtype} of shape {y.shape}: {REMEDY}")
    return x, int(y)


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
