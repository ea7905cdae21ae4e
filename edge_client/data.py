"""Where the recordings to train on come from; they never leave the device."""

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Protocol, runtime_checkable

import numpy as np

from shared.errors import DataError
from shared.layout import F32

REMEDY = "write it as numpy.savez(file, x=<float32 [samples, channels]>, y=<integer label>)"
UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, RuntimeError, MemoryError, OverflowError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, TokenError),
)
"""What numpy and zipfile raise on a file that is not an array, is damaged, encrypted, or claims more than fits."""


@dataclass(frozen=True, slots=True)
class Recordings:
    """Series float32 `[samples, channels]` with a class label each; `names` say in errors which one is meant."""

    series: Sequence[F32]
    labels: Sequence[int]
    names: Sequence[str] = ()


class DataSource(Protocol):
    """Gives the local recordings; what they must look like is checked by `preprocessing.cut`."""

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
    """A folder of `.npz` files, one recording each: `x` float32 `[samples, channels]` and a scalar integer `y`."""

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


def _read(path: Path) -> tuple[F32, int]:
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
    if y.ndim != 0 or y.dtype.kind not in "iu":
        raise DataError(f"{path.name}: y is {y.dtype} of shape {y.shape}: {REMEDY}")
    return x, int(y)


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
