"""What a source is said to take, beside what it takes."""

from pathlib import Path

import numpy as np
import pytest

from edge_client.data_settings import DataSourceSettings, SensorSettings
from edge_client.data_size import recorded_bytes
from edge_client.data_sources import source_for
from edge_client.parquet_footer import row_count
from shared.varint import write_varint

TABLE = DataSourceSettings(kind="csv", columns=("a", "b"), targets=("c",))


def held_bytes(folder: Path, settings: DataSourceSettings) -> int:
    """Of the series and the labels that the source gives, but for the one class of a recording or example."""
    found = source_for(folder, settings).load()
    labels = [label.nbytes for label in found.labels if isinstance(label, np.ndarray)]
    return sum(series.nbytes for series in found.series) + sum(labels)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_recordings_count_as_unpacked(tmp_path: Path, save: object) -> None:
    assert callable(save)
    save(tmp_path / "a.npz", x=np.zeros((5000, 3), np.float32), y=np.int64(1))
    save(tmp_path / "b.npz", x=np.zeros((700, 3), np.float32), y=np.zeros(700))
    (tmp_path / "notes.txt").write_bytes(bytes(10_000))
    found = recorded_bytes(tmp_path, DataSourceSettings())
    assert held_bytes(tmp_path, DataSourceSettings()) + 8 == found


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64])
def test_tokens_count_as_int64_whatever_they_are_stored_as(tmp_path: Path, kind: type[np.integer]) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((100, 12), kind), y=np.zeros(100, np.float64))
    np.save(tmp_path / "b.x.npy", np.ones((50, 12), kind))
    np.save(tmp_path / "b.y.npy", np.zeros(50, np.float32))
    settings = DataSourceSettings(kind="arrays")
    assert recorded_bytes(tmp_path, settings) == held_bytes(tmp_path, settings) == 150 * 12 * 8 + 150 * 4


def test_table_counts_by_its_columns_and_rows(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    for name, rows in (("a.csv", 200), ("b.csv", 150_000)):
        text = "".join(f"{a:.6f},{b:.6f},12,not read at all\n" for a, b in draw.random((rows, 2)))
        (tmp_path / name).write_text("a,b,c,d\n" + text)
    (tmp_path / "c.csv").touch()
    assert recorded_bytes(tmp_path, TABLE) == pytest.approx(150_200 * 3 * 4, rel=0.01)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) > 1.5 * 150_200 * 3 * 4


def test_images_count_as_they_are_brought_to_size(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        image.new("RGB", (30, 20)).save(tmp_path / name / "1.PNG")
    (tmp_path / "dog" / "notes.txt").write_bytes(bytes(1000))
    for grey in (False, True):
        settings = DataSourceSettings(kind="images", classes=("cat", "dog"), image_size=(64, 48), grey=grey)
        assert recorded_bytes(tmp_path, settings) == held_bytes(tmp_path, settings)


def test_sensor_counts_as_when_its_ring_is_full(tmp_path: Path) -> None:
    sensor = SensorSettings(topic="imu", label_topic="activity", samples=1000)
    settings = DataSourceSettings(kind="sensor", columns=("x", "y"), sensor=sensor)
    assert recorded_bytes(tmp_path / "absent", settings) == 1000 * 2 * 4


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 truncated"])
@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.parquet"])
def test_file_that_is_not_what_its_name_says_counts_as_large_as_it_is(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    settings = DataSourceSettings(kind="arrays")
    if name.endswith("parquet"):
        settings = DataSourceSettings(kind="parquet", columns=("a",), label="b")
    assert recorded_bytes(tmp_path, settings) == len(content)


def test_missing_folder_holds_nothing(tmp_path: Path) -> None:
    for settings in (DataSourceSettings(), DataSourceSettings(kind="arrays"), TABLE):
        assert recorded_bytes(tmp_path / "absent", settings) == 0


def test_rows_of_a_real_parquet_file_are_counted_without_pyarrow(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    columns = {"a": np.arange(70_001.0), "b": np.arange(70_001), "c": ["word", None, "x"] * 23_333 + ["y", "z"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet", row_group_size=1000)
    assert row_count(tmp_path / "a.parquet") == 70_001
    settings = DataSourceSettings(kind="parquet", columns=("a",), targets=("b",))
    assert recorded_bytes(tmp_path, settings) == held_bytes(tmp_path, settings) == 70_001 * 2 * 4


def footer(rows: int, schema: bytes) -> bytes:
    """Metadata with version, schema and number of rows, as the last of a file."""
    metadata = b"\x15\x02" + b"\x19" + schema + b"\x16" + write_varint(2 * rows) + b"\x00"
    return metadata + len(metadata).to_bytes(4, "little") + b"PAR1"


def test_number_of_rows_stands_behind_the_schema_whatever_is_in_it(tmp_path: Path) -> None:
    one = b"\x48\x06schema\x15\x04\x00"  # a name, a number of children
    other = b"\x15\x0a\x25\x02\x18\x01a\x11\x2c\x1c\x12\x00\x00\x29\x18\x01b\x13\x07\x17" + bytes(8) + b"\x00"
    (tmp_path / "a").write_bytes(b"PAR1" + footer(300, b"\x2c" + one + other))
    assert row_count(tmp_path / "a") == 300


@pytest.mark.parametrize("schema", [b"\x1c" + b"\x1c" * 40, b"\xfc\xff\xff\xff\x7f", b"\x1d", b"\x18\xff\x7f"])
def test_footer_that_leads_nowhere_has_no_rows(tmp_path: Path, schema: bytes) -> None:
    (tmp_path / "a").write_bytes(b"PAR1" + footer(300, schema))
    assert row_count(tmp_path / "a") is None
