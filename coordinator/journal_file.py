"""The SQLite file below the journal: durable settings, one lock, one transaction at a time, errors that name it."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from coordinator.journal_schema import migrate
from shared.errors import RunError

BUSY_TIMEOUT_SECONDS = 10

Execute = Callable[..., sqlite3.Cursor]


class JournalFile:
    """An open journal file in WAL mode: what `transaction` committed survives a power cut. Safe from any thread."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path, *, durable: bool = True) -> Self:
        """Open or create the file, one that is not `durable` without waiting for the disk.

        Raises `RunError` when it is damaged, locked, not writable, or from a newer version.
        """
        try:
            connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise RunError(f"journal {path} cannot be opened: {error}; check the state directory") from error
        try:
            _prepare(connection, path, durable)
        except sqlite3.Error as error:
            connection.close()
            raise RunError(f"journal {path} is not usable: {error}; restore it from a backup") from error
        except RunError:
            connection.close()
            raise
        return cls(connection, path)

    def close(self) -> None:
        """Close the file; nothing may be called afterwards."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[Execute]:
        """Run statements that are committed together at the end, or not at all when the block raises.

        Raises `RunError` when the file cannot be read or written; the next transaction starts afresh.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection.execute
                self._connection.execute("COMMIT")
            except sqlite3.DatabaseError as error:
                raise RunError(f"journal {self.path}: {error}; free disk space or restore a backup") from error
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """The rows of one query, inside the thread's open transaction if there is one."""
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.DatabaseError as error:
                raise RunError(f"journal {self.path}: {error}; restore a backup") from error


def _prepare(connection: sqlite3.Connection, path: Path, durable: bool) -> None:
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    if found != "ok":
        raise RunError(f"journal {path} is damaged: {found}; restore it from a backup")
    migrate(connection, path)
