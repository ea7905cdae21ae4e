"""Finished rows on disk, a file for each, so that a benchmark that was cut off goes on where it was."""

import json
from dataclasses import asdict
from pathlib import Path

from coordinator.bench.cell import Cell
from shared.durable_file import write_durably

RowFields = dict[str, object]


class CellShelf:
    """Rows by the key of their cell, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, cell: Cell) -> RowFields | None:
        """The row of an earlier run of this cell; None where there is none, or the file was cut short."""
        try:
            row: RowFields = json.loads(self._path(cell).read_text(encoding="utf-8"))["row"]
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return row | {"study": cell.recipe.study, "variant": cell.recipe.variant}

    def put(self, cell: Cell, row: RowFields) -> None:
        """Keep the row of a cell."""
        write_durably(self._path(cell), json.dumps({"cell": asdict(cell), "row": row}).encode())

    def _path(self, cell: Cell) -> Path:
        return self._folder / f"{cell.key}.json"
