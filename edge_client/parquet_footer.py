"""How many rows a Parquet file has, read from its footer without pyarrow: the resident agent must stay small.

The file ends in its metadata, the metadata's length in 4 bytes, and "PAR1". The metadata is a struct in Thrift's
compact protocol (github.com/apache/parquet-format, `FileMetaData`): version, schema, number of rows, and what is not
read here.
"""

import os
from pathlib import Path

from shared.errors import FrameError
from shared.varint import Reader

MAGIC = b"PAR1"
TAIL_BYTES = 8
MOST_READ_BYTES = 1 << 20
"""Of the metadata: the schema comes first, the row groups, which may be long, after the number of rows."""
NUM_ROWS = 3
DEEPEST = 16
LARGEST = (1 << 64) - 1

BOOLEANS, BYTE, NUMBERS, DOUBLE, BINARY, LISTS, STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 12
"""Types of the compact protocol; a boolean field's value is its type."""


def row_count(path: Path) -> int | None:
    """The number of rows, None where the file is no Parquet; raises `OSError`."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        tail = file.read(TAIL_BYTES)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != MAGIC or length > size - TAIL_BYTES:
            return None
        file.seek(size - TAIL_BYTES - length)
        metadata = file.read(min(length, MOST_READ_BYTES))
    try:
        return _num_rows(Reader(metadata, "metadata"))
    except FrameError:
        return None


def _num_rows(reader: Reader) -> int | None:
    number = 0
    while header := reader.u8():
        number = _field(reader, header, number)
        if number == NUM_ROWS and header & 0xF in NUMBERS:
            return reader.varint(LARGEST) >> 1  # zigzag, and never negative
        _skip(reader, header & 0xF, 0)
    return None


def _field(reader: Reader, header: int, last: int) -> int:
    """The number of a field: a step from the last one, or where that is 0 written out."""
    return last + (header >> 4) if header >> 4 else reader.varint(LARGEST) >> 1


def _skip(reader: Reader, kind: int, depth: int) -> None:
    if depth > DEEPEST:
        raise FrameError("metadata: nested too deeply")
    if kind in NUMBERS:
        reader.varint(LARGEST)
    elif kind in (BYTE, DOUBLE):
        reader.take(1 if kind == BYTE else 8)
    elif kind == BINARY:
        reader.take(reader.varint(LARGEST))
    elif kind in LISTS:
        _skip_list(reader, depth)
    elif kind == STRUCT:
        while header := reader.u8():
            _field(reader, header, 0)
            _skip(reader, header & 0xF, depth + 1)
    elif kind not in BOOLEANS:
        raise FrameError(f"metadata: no type {kind} is known")


def _skip_list(reader: Reader, depth: int) -> None:
    header = reader.u8()
    size, kind = header >> 4, header & 0xF
    for _ in range(reader.varint(MOST_READ_BYTES) if size == 0xF else size):
        if kind in BOOLEANS:
            reader.u8()
        else:
            _skip(reader, kind, depth + 1)
