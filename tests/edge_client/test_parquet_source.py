from pathlib import Path

import numpy as np
import pytest

from edge_client.data_settings import DataSourceSettings
from edge_client.parquet_source import ParquetSource
from shared.errors import DataError

SETTINGS = DataSourceSettings(kind="parquet", columns=("ay", "ax"), label="activity")


def write(path: Path, **columns: list[object]) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    parquet.write_table(pyarrow.table(columns), path)


def test_named_columns_become_recordings(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ax=[1.0, 2.0, 3.0], ay=[4, 5, 6], activity=[0, 0, 1])
    found = ParquetSource(tmp_path, SETTINGS).load()
    assert [series.tolist() for series in found.series] == [[[4, 1], [5, 2]], [[6, 3]]]
    assert list(found.labels) == [0, 1]


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"ax": [1.0], "activity": [0]}, r"a\.parquet: no column 'ay': it has ax, activity"),
        ({"ax": [1.0, None], "ay": [1.0, 1.0], "activity": [0, 0]}, r"a\.parquet, row 2, column ax: None is no number"),
        ({"ax": [float("nan")], "ay": [1.0], "activity": [0]}, r"a\.parquet, row 1, column ax: nan is no finite"),
        ({"ax": [1.0], "ay": [1.0], "activity": ["walk"]}, r"a\.parquet, row 1: label 'walk' is no whole number"),
    ],
)
def test_fault_is_named_with_file_and_row(tmp_path: Path, columns: dict[str, list[object]], fault: str) -> None:
    write(tmp_path / "a.parquet", **columns)
    with pytest.raises(DataError, match=fault):
        ParquetSource(tmp_path, SETTINGS).load()


def test_file_that_is_no_parquet_is_named_whether_pyarrow_is_there_or_not(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"a\.parquet: (not a readable Parquet file|Parquet needs pyarrow)"):
        ParquetSource(tmp_path, SETTINGS).load()


def test_targets_are_numbers_of_each_row(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ax=[1.0, 2.0], ay=[4, 5], price=[0.5, 1.5])
    settings = DataSourceSettings(kind="parquet", columns=("ax", "ay"), targets=("price",))
    found = ParquetSource(tmp_path, settings).load().row_by_row()
    assert [np.asarray(label).tolist() for label in found.labels] == [[0.5], [1.5]]
    assert list(found.names) == ["a.parquet, row 1", "a.parquet, row 2"]
    write(tmp_path / "b.parquet", ax=[1.0], ay=[4], price=[None])
    with pytest.raises(DataError, match=r"b\.parquet, row 1, column price: None is no number"):
        ParquetSource(tmp_path, settings).load()
