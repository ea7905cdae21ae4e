"""Rows of samples become recordings: a new one begins where label or recording change."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_client.data import Recordings
from shared.errors import DataError
from shared.layout import F32

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass
class Table:
    """Takes rows in order; `columns` are the names of the values, for errors."""

    columns: Sequence[str]
    _values: "array[float]" = field(default_factory=lambda: array("f"))
    _open: tuple[str, int, str] | None = None
    _first: int = 0
    _last: int = 0
    _series: list[F32] = field(default_factory=list)
    _labels: list[int] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)

    def add(self, file: str, row: int, values: Sequence[object], label: int, recording: str = "") -> None:
        """One sample of a file; raises `DataError` naming file, row and column where a value is no finite number."""
        if self._open != (file, label, recording):
            self._close()
            self._open, self._first = (file, label, recording), row
        self._last = row
        for name, value in zip(self.columns, values, strict=True):
            self._values.append(_finite(value, f"{file}, row {row}, column {name}"))

    def recordings(self) -> Recordings:
        """All that was added; raises `DataError` where it is nothing."""
        self._close()
        if not self._series:
            raise DataError("the data has no rows: put some there")
        return Recordings(self._series, self._labels, self._names)

    def _close(self) -> None:
        if self._open is None:
            return
        file, label, _ = self._open
        self._series.append(np.frombuffer(self._values, np.float32).reshape(-1, len(self.columns)).copy())
        self._labels.append(label)
        self._names.append(f"{file}, rows {self._first} to {self._last}")
        self._values, self._open = array("f"), None


def _finite(value: object, place: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever has no float raises
    except (TypeError, ValueError):
        raise DataError(f"{place}: {value!r} is no number: write one, or leave the row out") from None
    if not math.isfinite(number) or abs(number) > LARGEST_FLOAT32:
        raise DataError(f"{place}: {value} is no finite number: leave the row out, or fill the gap")
    return number
