"""What a process that plays clients of Flower's engines keeps between messages: files, sessions, and examples."""

import hashlib
import os
import shutil
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from edge_client.data import DataSource, MemorySource, Recordings
from edge_client.memory import available_bytes
from edge_client.task import Task, read_archive
from shared.bundle import open_bundle
from shared.errors import DigestMismatch, GradsieveError, TrainerError
from shared.folder_lock import LOCK_FILE, folder_lock
from shared.messages import BlobRef
from shared.signing import VerifyKey

LARGEST_BUNDLE_BYTES = 1 << 28
MOST_TASKS = 64
"""Clients whose examples are kept ready; one process plays many."""

PREFIX = "gradsieve-client-"
YOUNG_SECONDS = 60.0
"""A folder's lock is not tried before this age: its process may be about to take it."""

NO_DATA = MemorySource(Recordings([], []))


class TaskShelf:
    """What one process keeps between messages: files named by their digests, sessions, and the last clients' examples.

    An engine's actor plays many clients, and gets the app anew with every message: so it is the process that keeps it.
    """

    def __init__(self, within: Path | None = None) -> None:
        """Make a folder of this process's own, in the system's for temporary files or `within` another one."""
        place = within or Path(gettempdir())
        sweep(place, time.time())
        self._temporary = TemporaryDirectory(prefix=PREFIX, dir=place, ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name)
        self._held = ExitStack()
        self._held.enter_context(folder_lock(self.folder))
        self._verified = set[tuple[str, str]]()
        self._tasks: OrderedDict[tuple[str, str], Task] = OrderedDict()
        self._loaded: tuple[str, Task] | None = None

    def keep(self, ref: BlobRef, content: bytes, *, last: str = "") -> Path:
        """The file of an object, checked against its digest; with `last`, it takes the place of the last one so called.

        Raises `DigestMismatch`, and `TrainerError` where it cannot be written.
        """
        _check(ref, content)
        path = self.folder / (last or f"{ref.digest}.gsb")
        try:
            partial = path.with_name(f"{path.name}.partial")
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            raise TrainerError(f"{path}: {error.strerror}: make room on the node's disk") from error
        return path

    def bundle(self, ref: BlobRef, content: bytes, key: VerifyKey) -> Path:
        """The file of a bundle that this key signed; raises `SignatureError`, or `BundleError` for one too large.

        What was verified are these very bytes: their digest is compared first, whatever was kept under it before.
        """
        _check(ref, content)
        path = self.folder / f"{ref.digest}.gsb"
        if (ref.digest, key.hex) not in self._verified:
            open_bundle(content, [key], LARGEST_BUNDLE_BYTES, available_bytes())
            self._verified.add((ref.digest, key.hex))
        if path.exists():
            return path
        for other in self.folder.glob("*.gsb"):
            other.unlink(missing_ok=True)
        return self.keep(ref, content)

    def close(self) -> None:
        """Delete the files."""
        self._held.close()
        self._temporary.cleanup()

    def task(self, archive: Path, device: str, source: Callable[[], DataSource]) -> Task:
        """The task of a bundle on a client's data."""
        if self._loaded is None or self._loaded[0] != archive.stem:
            self._tasks.clear()
            self._loaded = archive.stem, Task(read_archive(archive), NO_DATA)
        key = archive.stem, device
        if key not in self._tasks:
            self._tasks[key] = self._loaded[1].with_source(source())
            if len(self._tasks) > MOST_TASKS:
                self._tasks.popitem(last=False)
        self._tasks.move_to_end(key)
        return self._tasks[key]


def sweep(place: Path, now: float) -> None:
    """Delete the folders that processes of this user left there when they were killed; `now` is the clock's time."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError, GradsieveError):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                continue
            if now - (folder / LOCK_FILE).lstat().st_mtime >= YOUNG_SECONDS:
                with folder_lock(folder):
                    shutil.rmtree(folder)


def _check(ref: BlobRef, content: bytes) -> None:
    if hashlib.sha256(content).hexdigest() != ref.digest:
        raise DigestMismatch(f"{len(content)} bytes do not have the digest {ref.digest[:16]}…: send it again")
