"""The journal's tables as numbered steps: `PRAGMA user_version` counts those that a file has been through."""

import sqlite3
from pathlib import Path

from shared.errors import RunError

_FIRST = """
CREATE TABLE run (
    run TEXT PRIMARY KEY,
    job_json TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'finished', 'failed', 'aborted')),
    error TEXT NOT NULL DEFAULT '',
    created_seconds REAL NOT NULL,
    ended_seconds REAL
) STRICT, WITHOUT ROWID;

CREATE TABLE round (
    run TEXT NOT NULL REFERENCES run,
    server_round INTEGER NOT NULL CHECK (server_round >= 0),
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closing', 'closed')),
    base TEXT NOT NULL,
    cohort_json TEXT NOT NULL,
    plan BLOB NOT NULL,
    model TEXT NOT NULL DEFAULT '',
    checkpoint TEXT NOT NULL DEFAULT '',
    figures_json TEXT NOT NULL DEFAULT '{}',
    opened_seconds REAL NOT NULL,
    closed_seconds REAL,
    PRIMARY KEY (run, server_round)
) STRICT;

CREATE UNIQUE INDEX one_unfinished_round ON round (run) WHERE state <> 'closed';

CREATE TABLE accepted (
    run TEXT NOT NULL,
    server_round INTEGER NOT NULL,
    device TEXT NOT NULL,
    digest TEXT NOT NULL,
    facts_json TEXT NOT NULL,
    accepted_seconds REAL NOT NULL,
    PRIMARY KEY (run, server_round, device),
    FOREIGN KEY (run, server_round) REFERENCES round
) STRICT;

CREATE INDEX accepted_by_digest ON accepted (run, device, digest);

CREATE TABLE content (
    run TEXT NOT NULL,
    server_round INTEGER NOT NULL,
    device TEXT NOT NULL,
    object BLOB NOT NULL,
    PRIMARY KEY (run, server_round, device),
    FOREIGN KEY (run, server_round, device) REFERENCES accepted
) STRICT;

CREATE TABLE refused (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL REFERENCES run,
    server_round INTEGER NOT NULL,
    device TEXT NOT NULL,
    verdict INTEGER NOT NULL,
    reason TEXT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    times INTEGER NOT NULL DEFAULT 1,
    refused_seconds REAL NOT NULL,
    UNIQUE (run, server_round, device, digest, verdict)
) STRICT;

CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL REFERENCES run,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    noted_seconds REAL NOT NULL
) STRICT;
"""

STEPS = (_FIRST,)
"""Step n takes a file from version n to n + 1; a published step never changes, the next one is appended."""


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring an open file to the newest version, each step in one transaction.

    Raises `RunError` for a file that a newer gradsieve wrote.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(STEPS):
        raise RunError(
            f"journal {path} has schema version {version}, this gradsieve knows {len(STEPS)}: "
            "use the newer gradsieve that wrote it, or another state directory"
        )
    for number, step in enumerate(STEPS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE;{step}PRAGMA user_version={number};COMMIT;")
