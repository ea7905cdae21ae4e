"""How much memory a device's recordings will take, told from names, headers and counts, without reading them.

The resident agent asks this before it keeps a bundle; nothing here needs numpy.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from edge_client.data_settings import IMAGE_SUFFIXES, DataSourceSettings
from edge_client.parquet_footer import row_count

FLOAT_BYTES, WHOLE_BYTES = 4, 8
"""Of a value in memory: floating-point ones are float32, whole ones int64."""
NPY_START_BYTES = 128
"""Of an `.npy` file, the least that its header takes: in it stands the type."""
NPY_TYPE = re.compile(rb"'descr': '[<>|=]?([a-zA-Z])(\d{1,2})'")
SAMPLED_BYTES = 1 << 20
"""Of a CSV file; its other rows are taken to be as long."""


def recorded_bytes(folder: Path, settings: DataSourceSettings) -> int:
    """What the recordings take as float32, tokens as int64; a file that cannot be read counts as large as it is."""
    values = len(settings.columns) + len(settings.targets)
    match settings.kind:
        case "recordings" | "arrays":
            return sum(_array_bytes(path) for path in _files(folder, ".npz", ".npy"))
        case "csv":
            return sum(_csv_rows(path) * values * FLOAT_BYTES for path in _files(folder, ".csv"))
        case "parquet":
            return sum(_parquet_bytes(path, values) for path in _files(folder, ".parquet"))
        case "images":
            height, width = settings.image_size or (0, 0)
            channels = 1 if settings.grey else 3
            count = sum(1 for _ in _files(folder, *IMAGE_SUFFIXES, below="*/*"))
            return count * channels * height * width * FLOAT_BYTES
        case "sensor":  # as many as the ring will have once it is full
            return settings.sensor.samples * values * FLOAT_BYTES if settings.sensor else 0


def _files(folder: Path, *suffixes: str, below: str = "*") -> Iterator[Path]:
    return (path for path in folder.glob(below) if path.suffix.lower() in suffixes and path.is_file())


def _size(path: Path) -> int:
    """Of a file; 0 once it is gone."""
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _array_bytes(path: Path) -> int:
    import zipfile  # noqa: PLC0415 - an agent without arrays does without it, and its compression
    import zlib  # noqa: PLC0415

    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return _held(file.read(NPY_START_BYTES), _size(path))
        total = 0
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as content:
                    total += _held(content.read(NPY_START_BYTES), member.file_size)
        return total
    except (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return _size(path)


def _held(start: bytes, size_bytes: int) -> int:
    """What an array in a file of this size takes in memory."""
    found = NPY_TYPE.search(start)
    if found is None or not int(found[2]):
        return size_bytes
    is_float = found[1] == b"f"
    return max(0, size_bytes - NPY_START_BYTES) // int(found[2]) * (FLOAT_BYTES if is_float else WHOLE_BYTES)


def _csv_rows(path: Path) -> int:
    """About how many rows a table has."""
    try:
        with path.open("rb") as file:
            sample = file.read(SAMPLED_BYTES)
    except OSError:
        return 0
    lines = sample.count(b"\n") + (not sample.endswith(b"\n"))
    return round(_size(path) * lines / len(sample)) if sample else 0


def _parquet_bytes(path: Path, values: int) -> int:
    try:
        rows = row_count(path)
    except OSError:
        return _size(path)
    return _size(path) if rows is None else rows * values * FLOAT_BYTES
