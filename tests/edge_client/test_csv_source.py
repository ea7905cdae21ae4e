import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.csv_source import CsvSource
from edge_client.data_settings import DataSourceSettings
from edge_client.table import Table
from shared.errors import DataError
from shared.labels import Label

PLAIN = DataSourceSettings(kind="csv", columns=("ay", "ax"), label="activity")
NAMED = PLAIN.model_copy(update={"classes": ("rest", "walk"), "recording": "session"})
HEADER = "time,ax,ay,activity\n"


def load(folder: Path, text: str, settings: DataSourceSettings = PLAIN) -> list[tuple[list[list[float]], Label, str]]:
    (folder / "a.csv").write_text(text)
    found = CsvSource(folder, settings).load()
    return [(s.tolist(), label, name) for s, label, name in zip(found.series, found.labels, found.names, strict=True)]


def test_named_columns_come_in_the_named_order(tmp_path: Path) -> None:
    assert load(tmp_path, HEADER + "0,1,2,3\n1,4,5.5,3\n") == [([[2, 1], [5.5, 4]], 3, "a.csv, rows 2 to 3")]


def test_recording_ends_where_the_label_changes(tmp_path: Path) -> None:
    found = load(tmp_path, HEADER + "0,1,1,0\n0,2,2,0\n0,3,3,1\n0,4,4,0\n")
    assert [(len(rows), label) for rows, label, _ in found] == [(2, 0), (1, 1), (1, 0)]


def test_recording_ends_where_its_column_or_the_file_changes(tmp_path: Path) -> None:
    text = "session,ax,ay,activity\nx,1,1,rest\ny,2,2,rest\ny,3,3,rest\n"
    (tmp_path / "b.csv").write_text(text)
    found = load(tmp_path, text, NAMED)
    assert [len(rows) for rows, _, _ in found] == [1, 2, 1, 2]
    assert {label for _, label, _ in found} == {0}


def test_quotes_blank_lines_and_a_byte_order_mark_are_no_trouble(tmp_path: Path) -> None:
    text = '\ufeffsession,"ax", ay ,activity\n"x, y",1,1,walk\n\n"x, y",2,2, walk \n'
    assert [(len(rows), label) for rows, label, _ in load(tmp_path, text, NAMED)] == [(2, 1)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", r"a\.csv: no column 'ay': it has none"),
        ("ax,activity\n1,1\n", r"a\.csv: no column 'ay': it has ax, activity"),
        (HEADER + "0,1,2,3\n0,1,x,3\n", r"a\.csv, row 3, column ay: 'x' is no number"),
        (HEADER + "0,1,,3\n", r"a\.csv, row 2, column ay: '' is no number"),
        (HEADER + "0,1,nan,3\n", r"a\.csv, row 2, column ay: nan is no finite number"),
        (HEADER + "0,inf,2,3\n", r"a\.csv, row 2, column ax: inf is no finite number"),
        (HEADER + "0,1e39,2,3\n", r"a\.csv, row 2, column ax: 1e39 is no finite number"),
        (HEADER + "0,1,2\n", r"a\.csv, row 2: 3 cells, the first row names 4"),
        (HEADER + "0,1,2,3,4\n", r"a\.csv, row 2: 5 cells"),
        (HEADER + "0,1,2,walking\n", r"a\.csv, row 2: label 'walking' is no whole number"),
        (HEADER + "0,1,2,1.5\n", r"a\.csv, row 2: label '1\.5' is no whole number"),
        (HEADER, "the data has no rows"),
        (HEADER + '0,"1,2,3\n', r"a\.csv, row 2: "),
    ],
)
def test_fault_is_named_with_file_row_and_column(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        load(tmp_path, text)


def test_label_of_no_class_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv, row 2: label 'run' is none of data_source\.classes: rest, walk"):
        load(tmp_path, "session,ax,ay,activity\nx,1,1,run\n", NAMED)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"ax,ay,activity\n1,\xff,3\n"])
def test_file_that_is_no_text_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.csv, row .*not CSV in UTF-8"):
        CsvSource(tmp_path, PLAIN).load()


def test_folder_without_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.csv file in it"):
        CsvSource(tmp_path, PLAIN).load()
    with pytest.raises(DataError, match="cannot be read"):
        CsvSource(tmp_path / "gone", PLAIN).load()


def test_file_that_changes_while_it_is_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Table.add_cells

    def touch(table: Table, file: str, row: int, cells: list[object], settings: DataSourceSettings) -> None:
        os.utime(tmp_path / file, ns=(row, row))
        add(table, file, row, cells, settings)

    monkeypatch.setattr(Table, "add_cells", touch)
    with pytest.raises(DataError, match=r"a\.csv: changed while it was read"):
        load(tmp_path, HEADER + "0,1,2,3\n")


@given(st.lists(st.tuples(st.floats(-(2.0**100), 2.0**100, width=32), st.integers(0, 2)), min_size=1, max_size=40))
def test_no_sample_is_lost_or_moved(rows: list[tuple[float, int]]) -> None:
    table = Table(("v",))
    for number, (value, label) in enumerate(rows):
        table.add("f", number, [value], label)
    found = table.recordings()
    assert np.concatenate(found.series)[:, 0].tolist() == [value for value, _ in rows]
    labels = [label for series, label in zip(found.series, found.labels, strict=True) for _ in series]
    assert labels == [label for _, label in rows]
    assert all(a != b for a, b in zip(found.labels, found.labels[1:], strict=False))


PRICES = DataSourceSettings(kind="csv", columns=("ax",), targets=("ay", "z"), recording="session")
PRICED = "session,z,ay,ax\nm,1,2,3\nm,4,5,6\n\nm,7,8,9\nn,0,0,0\n"


def test_targets_are_numbers_of_each_row_in_the_named_order(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(PRICED)
    found = CsvSource(tmp_path, PRICES).load()
    assert [np.asarray(label).tolist() for label in found.labels] == [[[2, 1], [5, 4], [8, 7]], [[0, 0]]]
    assert [series.tolist() for series in found.series] == [[[3], [6], [9]], [[0]]]


def test_row_by_row_every_row_has_its_own_number_and_label(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(PRICED)
    found = CsvSource(tmp_path, PRICES).load().row_by_row()
    assert list(found.names) == ["a.csv, row 2", "a.csv, row 3", "a.csv, row 5", "a.csv, row 6"]
    assert [np.asarray(label).tolist() for label in found.labels] == [[2, 1], [5, 4], [8, 7], [0, 0]]
    assert [row.tolist() for row in found.series] == [[3], [6], [9], [0]]
    (tmp_path / "a.csv").write_text(HEADER + "0,1,2,3\n0,1,2,3\n0,1,2,4\n")
    assert list(CsvSource(tmp_path, PLAIN).load().row_by_row().labels) == [3, 3, 4]


@pytest.mark.parametrize("cell", ["", "dear", "nan", "1e39"])
def test_target_that_is_no_finite_number_is_named(tmp_path: Path, cell: str) -> None:
    (tmp_path / "a.csv").write_text(f"session,z,ay,ax\nm,1,2,3\nm,{cell},5,6\n")
    with pytest.raises(DataError, match=rf"a\.csv, row 3, column z: '?{cell}'? is no "):
        CsvSource(tmp_path, PRICES).load()
