"""A folder of CSV files: one sample a row, columns by the names of the first row."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge_client.data import Recordings
from edge_client.data_file import files_of, steady
from edge_client.data_settings import DataSourceSettings
from edge_client.table import Table
from shared.errors import DataError


@dataclass(frozen=True, slots=True)
class CsvSource:
    """Takes the `columns` of every `.csv` file of a folder in UTF-8; a row's number in errors is its line."""

    folder: Path
    settings: DataSourceSettings

    def load(self) -> Recordings:
        """The recordings in order of file and row; raises `DataError` naming file, row and column at fault."""
        table = Table(self.settings.columns, self.settings.targets)
        for path in files_of(self.folder, ".csv"):
            with steady(path) as file:
                self._read(path.name, file, table)
        return table.recordings()

    def _read(self, name: str, file: BinaryIO, table: Table) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        reader = csv.reader(text)
        try:
            header = [cell.strip() for cell in next(reader, [])]
            places = [place_of(column, header, name) for column in self.settings.wanted_columns]
            for row in reader:
                if row:
                    self._add(name, reader.line_num, row, places, len(header), table)
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{name}, row {reader.line_num + 1}: not CSV in UTF-8 ({error}): write it anew") from error
        finally:
            text.detach()  # the file is its opener's to close

    def _add(self, name: str, line: int, row: Sequence[str], places: Sequence[int], width: int, table: Table) -> None:
        if len(row) != width:
            raise DataError(f"{name}, row {line}: {len(row)} cells, the first row names {width}: complete the row")
        table.add_cells(name, line, [row[place] for place in places], self.settings)


def place_of(column: str, header: Sequence[str], file: str) -> int:
    """Where a column is; raises `DataError` naming those there are."""
    if column not in header:
        raise DataError(f"{file}: no column {column!r}: it has {', '.join(header) or 'none'}")
    return list(header).index(column)
