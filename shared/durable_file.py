"""Files that a power cut leaves whole: with the old content or with the new."""

import os
from contextlib import suppress
from pathlib import Path


def write_durably(path: Path, *parts: bytes | memoryview) -> None:
    """Make the joined `parts` the content of `path`, on disk once this returns.

    Where it raises `OSError` the file has its old content or the new, and no temporary file takes up space.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk: until then a power cut may undo a rename."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
