"""A folder of Parquet files, one sample a row; needs pyarrow, which only boards with such data need to install."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge_client.csv_source import place_of
from edge_client.data import Recordings
from edge_client.data_file import files_of, steady
from edge_client.data_settings import DataSourceSettings
from edge_client.table import Table
from shared.errors import DataError

BATCH_ROWS = 4096
"""Held as Python's own objects at a time, which take ten times the room."""


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """Takes the `columns` of every `.parquet` file of a folder; rows are counted from 1."""

    folder: Path
    settings: DataSourceSettings

    def load(self) -> Recordings:
        """The recordings in order of file and row; raises `DataError` naming file, row and column at fault."""
        table = Table(self.settings.columns, self.settings.targets)
        for path in files_of(self.folder, ".parquet"):
            with steady(path) as file:
                self._read(path.name, file, table)
        return table.recordings()

    def _read(self, name: str, file: BinaryIO, table: Table) -> None:
        try:
            import pyarrow  # noqa: PLC0415 - an extra that few boards have
            from pyarrow.parquet import ParquetFile  # noqa: PLC0415
        except ImportError:
            raise DataError(f"{name}: Parquet needs pyarrow: pip install pyarrow, or write the data as CSV") from None
        wanted = list(self.settings.wanted_columns)
        try:
            parquet = ParquetFile(file)
            for column in wanted:
                place_of(column, parquet.schema_arrow.names, name)
            number = 0
            for batch in parquet.iter_batches(BATCH_ROWS, columns=wanted):
                columns = [batch.column(column).to_pylist() for column in wanted]
                for cells in zip(*columns, strict=True):
                    number += 1
                    table.add_cells(name, number, cells, self.settings)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{name}: not a readable Parquet file ({error}): write it anew") from error
