"""A folder belongs to one process at a time: the kernel keeps the lock, and drops it however its holder ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import FolderInUse, SettingsError

LOCK_FILE = "lock"


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold `folder`, which is made if absent, until the block ends.

    Raises `FolderInUse`, naming the process that holds it, and `SettingsError` when the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK_FILE, "a+", encoding="ascii")  # noqa: SIM115 - closed below
    except OSError as error:
        raise SettingsError(f"folder {folder}: {error.strerror}: choose one that this user can write") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(20).strip() or "unknown"
            raise FolderInUse(f"{folder}: process {holder} works in it: end that one, or name another folder") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
