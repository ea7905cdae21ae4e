"""Rows of samples become recordings: a new one begins where label or recording change."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_client.data import Recordings, Stretch
from edge_client.data_file import label_number
from edge_client.data_settings import DataSourceSettings
from shared.errors import DataError
from shared.labels import Label
from shared.layout import F32

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass
class Table:
    """Takes rows in order; `columns` are the names of the values, for errors, and `targets` those of the numbers.

    Where there are targets, they are the label, float32 `[rows, targets]` of each recording.
    """

    columns: Sequence[str]
    targets: Sequence[str] = ()
    _values: "array[float]" = field(default_factory=lambda: array("f"))
    _numbers: "array[float]" = field(default_factory=lambda: array("f"))
    _rows: "array[int]" = field(default_factory=lambda: array("q"))
    _open: tuple[str, int, str] | None = None
    _series: list[F32] = field(default_factory=list)
    _labels: list[Label] = field(default_factory=list)
    _stretches: list[Stretch] = field(default_factory=list)

    def add_cells(self, file: str, row: int, cells: Sequence[object], settings: DataSourceSettings) -> None:
        """One row's cells, in order of `settings.wanted_columns`; raises `DataError` naming file, row and column."""
        values, rest = cells[: len(self.columns)], cells[len(self.columns) :]
        label = 0 if self.targets else label_number(rest[0], settings.classes, f"{file}, row {row}")
        numbers = rest[: len(self.targets)]
        self.add(file, row, values, label, str(rest[-1]) if settings.recording else "", numbers)

    def add(
        self,
        file: str,
        row: int,
        values: Sequence[object],
        label: int,
        recording: str = "",
        numbers: Sequence[object] = (),
    ) -> None:
        """One sample of a file; raises `DataError` naming file, row and column where a value is no finite number."""
        if self._open != (file, label, recording):
            self._close()
            self._open = file, label, recording
        self._rows.append(row)
        self._values.extend(_finite_row(self.columns, values, file, row))
        self._numbers.extend(_finite_row(self.targets, numbers, file, row))

    def recordings(self) -> Recordings:
        """All that was added; raises `DataError` where it is nothing."""
        self._close()
        if not self._series:
            raise DataError("the data has no rows: put some there")
        return Recordings(self._series, self._labels, [str(rows) for rows in self._stretches], self._stretches)

    def _close(self) -> None:
        if self._open is None:
            return
        file, label, _ = self._open
        rows, first = self._rows, self._rows[0]
        follow = range(first, first + len(rows))
        self._series.append(np.frombuffer(self._values, np.float32).reshape(-1, len(self.columns)).copy())
        numbers = np.frombuffer(self._numbers, np.float32).reshape(len(rows), -1)
        self._labels.append(numbers.copy() if self.targets else label)
        self._stretches.append(Stretch(file, follow if rows[-1] == follow[-1] else rows))
        self._values, self._numbers, self._rows, self._open = array("f"), array("f"), array("q"), None


def _finite_row(columns: Sequence[str], values: Sequence[object], file: str, row: int) -> list[float]:
    named = zip(columns, values, strict=True)
    return [_finite(value, file, row, name) for name, value in named]


def _finite(value: object, file: str, row: int, column: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever has no float raises
    except (TypeError, ValueError):
        raise DataError(
            f"{file}, row {row}, column {column}: {value!r} is no number: write one, or leave the row out"
        ) from None
    if not math.isfinite(number) or abs(number) > LARGEST_FLOAT32:
        raise DataError(
            f"{file}, row {row}, column {column}: {value} is no finite number: leave the row out, or fill the gap"
        )
    return number
