"""Data sets of many small files, packed into one archive and read without unpacking it."""

import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from shared.errors import DataError


def members(path: Path, suffix: str) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Name and content of each file in a tar archive whose name ends so; raises `DataError` where it is damaged."""
    try:
        with tarfile.open(path) as archive:
            for entry in archive:
                if entry.isfile() and entry.name.endswith(suffix) and (file := archive.extractfile(entry)):
                    yield PurePosixPath(entry.name), file.read()
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise DataError(f"{path} is not a whole archive ({error}): get it anew") from error
