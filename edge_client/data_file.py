"""A data file that is read whole and must not change meanwhile, and the labels in it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from shared.errors import DataError


@contextmanager
def steady(path: Path) -> Iterator[BinaryIO]:
    """The file, open for reading; raises `DataError` where it cannot be opened, or changed until the block's end."""
    try:
        with path.open("rb") as file:
            before = _state(os.fstat(file.fileno()))
            yield file
        after = _state(path.stat())
    except OSError as error:
        raise DataError(f"{path.name}: cannot be read ({error.strerror}): check the file and its rights") from error
    if before != after:
        raise DataError(f"{path.name}: changed while it was read: write elsewhere, then move it into the folder")


def files_of(folder: Path, *suffixes: str) -> list[Path]:
    """The files of a folder that end so, in order of name; raises `DataError` where there is none."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}): check the data folder") from error
    if not files:
        raise DataError(f"{folder}: no {' or '.join(suffixes)} file in it: put some there, or set another kind")
    return files


def label_number(text: object, classes: Sequence[str], place: str) -> int:
    """The number of a label: its place among `classes`, itself where there are none; raises `DataError`."""
    found = str(text).strip()
    if classes:
        if found not in classes:
            raise DataError(f"{place}: label {found!r} is none of data_source.classes: {', '.join(classes)}")
        return list(classes).index(found)
    try:
        return int(found)
    except ValueError:
        raise DataError(f"{place}: label {found!r} is no whole number: write one, or set data_source.classes") from None


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
