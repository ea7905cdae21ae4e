"""The data of emulated devices: folders of recordings as on a board, or rows of arrays that all of them share.

A folder of arrays holds `x.npy` `[n, ...]` and `y.npy` `[n]`; `rows.npy` int64, the rows of one device after another;
and `ends.npy` int64 `[devices, 2]`: where in `rows` each device's training rows end, and where its test rows do.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from edge_client.data import FolderSource
from edge_client.task import Task
from shared.preprocessing import Split

MOST_BYTES = 48 << 20
"""What a worker keeps of examples that were made ready; a device's are made again when its turn comes."""


class FleetExamples:
    """Gives a task the examples of one device or another."""

    def __init__(self, folder: Path, kind: Literal["folders", "arrays"], names: Sequence[str]) -> None:
        self._folder, self._names = folder, names
        self._arrays = _Arrays(folder) if kind == "arrays" else None
        self._ready: OrderedDict[tuple[str, int], Task] = OrderedDict()
        self._ready_bytes = 0

    def of(self, task: Task, bundle: str, slot: int) -> Task:
        """The task of the bundle with this digest, on the data of the device in this slot; raises `DataError`."""
        if self._arrays is not None:
            return task.with_split(self._arrays.split(slot))
        key = bundle, slot
        if key not in self._ready:
            self._keep(key, task.with_source(FolderSource(self._folder / self._names[slot])))
        self._ready.move_to_end(key)
        return self._ready[key]

    def _keep(self, key: tuple[str, int], task: Task) -> None:
        self._ready[key] = task
        self._ready_bytes += _bytes_of(task.split)
        while self._ready_bytes > MOST_BYTES and len(self._ready) > 1:
            self._ready_bytes -= _bytes_of(self._ready.popitem(last=False)[1].split)


class _Arrays:
    def __init__(self, folder: Path) -> None:
        self._x, self._y, self._rows = (_mapped(folder / f"{name}.npy") for name in ("x", "y", "rows"))
        self._ends = np.load(folder / "ends.npy")

    def split(self, slot: int) -> Split:
        """The examples of the device in this slot, copied but for training examples that lie together."""
        begin = int(self._ends[slot - 1, 1]) if slot else 0
        train, test = self._cut(begin, *self._ends[slot].tolist())
        return Split(_taken(self._x, train), _taken(self._y, train), self._x[test], self._y[test])

    def _cut(self, begin: int, middle: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        return self._rows[begin:middle], self._rows[middle:end]


def _taken(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """These rows of an array; where they follow each other, as they are, for batches of them are copied anyway."""
    first, last = (int(rows[0]), int(rows[-1])) if len(rows) else (0, -1)
    together = last - first == len(rows) - 1 and bool((rows[1:] > rows[:-1]).all())
    return array[first : last + 1] if together else array[rows]


def _mapped(path: Path) -> np.ndarray:
    """The array in a file, as a plain one: to index numpy's own kind of mapped array takes several times as long."""
    mapped: np.ndarray = np.load(path, mmap_mode="r")
    return mapped.view(np.ndarray)


def _bytes_of(split: Split) -> int:
    return split.train_x.nbytes + split.train_y.nbytes + split.test_x.nbytes + split.test_y.nbytes
