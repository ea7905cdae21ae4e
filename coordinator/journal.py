"""The coordinator's durable memory: runs, rounds, accepted updates, refusals and events in one SQLite file.

Accepting is idempotent and commits before it answers, so a device may offer an update as often as it likes, and every
update whose device was told "done" counts in exactly one round.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from coordinator.journal_file import Execute, JournalFile
from coordinator.records import (
    EventRecord,
    RefusalRecord,
    RoundRecord,
    RoundState,
    RunRecord,
    RunState,
    UpdateFacts,
    UpdateRecord,
)
from shared.errors import RunError
from shared.verdicts import Ruling, Verdict

MOST_EVENTS = 10_000
MOST_REFUSALS = 10_000

LAST_ROUND = (1 << 63) - 1


class Journal:
    """One SQLite file in WAL mode with full fsync; every method is one transaction and safe from any thread.

    Methods raise `RunError` when a run or round is unknown or in the wrong state, and when the file cannot be written;
    after the latter the journal stays usable and goes on once there is room. Times come from `clock`, in unix seconds.
    """

    def __init__(self, file: JournalFile, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock

    @classmethod
    def open(cls, path: Path, clock: Callable[[], float] = time.time, *, durable: bool = True) -> Self:
        """Open or create the journal at `path`; `RunError` when it is damaged, locked, or from a newer version.

        One that is not `durable` survives the end of the process but no power cut: for runs that can be had again.
        """
        return cls(JournalFile.open(path, durable=durable), clock)

    def close(self) -> None:
        """Close the file; no method may be called afterwards."""
        self._file.close()

    def create_run(self, run: str, job_json: str) -> RunRecord:
        """Enter a running run; one that exists with the same job is returned as it is."""
        with self._file.transaction() as sql:
            values = (run, job_json, self._clock())
            sql("INSERT OR IGNORE INTO run (run, job_json, created_seconds) VALUES (?, ?, ?)", values)
            record = self.run(run)
            if record.job_json != job_json:
                raise RunError(f"run {run} exists with another job: choose another run id")
            return record

    def runs(self) -> list[RunRecord]:
        """Every run, oldest first."""
        return [RunRecord.from_row(row) for row in self._file.rows("SELECT * FROM run ORDER BY created_seconds, run")]

    def run(self, run: str) -> RunRecord:
        """One run; `RunError` when there is none of that id."""
        rows = self._file.rows("SELECT * FROM run WHERE run = ?", run)
        if not rows:
            raise RunError(f"there is no run {run} in journal {self._file.path}")
        return RunRecord.from_row(rows[0])

    def finish_run(self, run: str, state: Literal["finished", "failed", "aborted"], error: str = "") -> None:
        """End a run; from then on its updates are stale. A finished run's update contents are dropped."""
        with self._file.transaction() as sql:
            self.run(run)
            ended = (RunState(state), error, self._clock(), run)
            sql("UPDATE run SET state = ?, error = ?, ended_seconds = ? WHERE run = ?", ended)
            if state == "finished":
                sql("DELETE FROM content WHERE run = ?", (run,))

    def resume_run(self, run: str) -> None:
        """Let a failed or aborted run go on where it stopped, in its unfinished round if it has one."""
        with self._file.transaction() as sql:
            if self.run(run).state == RunState.FINISHED:
                raise RunError(f"run {run} is finished: there is nothing to resume")
            sql("UPDATE run SET state = 'running', error = '', ended_seconds = NULL WHERE run = ?", (run,))

    def open_round(self, run: str, server_round: int, base: str, cohort: Sequence[str], plan: bytes) -> RoundRecord:
        """Open a round, or return it unchanged if it is unfinished: a restart sees the same base, cohort and plan.

        Raises `RunError` when the round is already closed, or an earlier one is not.
        """
        with self._file.transaction() as sql:
            self.run(run)
            last = self.last_round(run)
            if last is not None and last.state != RoundState.CLOSED:
                if last.server_round == server_round:
                    return last
                raise RunError(f"run {run}: round {last.server_round} is unfinished: close it first")
            if last is not None and last.server_round >= server_round:
                raise RunError(f"run {run}: round {server_round} is already closed: open a later one")
            sql(
                "INSERT INTO round (run, server_round, base, cohort_json, plan, opened_seconds)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (run, server_round, base, json.dumps(list(cohort)), plan, self._clock()),
            )
            return self.round(run, server_round)

    def rounds(self, run: str) -> list[RoundRecord]:
        """The rounds of a run in order; the last one may be unfinished."""
        return [
            RoundRecord.from_row(row)
            for row in self._file.rows("SELECT * FROM round WHERE run = ? ORDER BY server_round", run)
        ]

    def last_round(self, run: str) -> RoundRecord | None:
        """The newest round of a run, the one to go on with after a restart; None before the first."""
        rows = self._file.rows("SELECT * FROM round WHERE run = ? ORDER BY server_round DESC LIMIT 1", run)
        return RoundRecord.from_row(rows[0]) if rows else None

    def round(self, run: str, server_round: int) -> RoundRecord:
        """One round; `RunError` when it was never opened."""
        rows = self._file.rows("SELECT * FROM round WHERE run = ? AND server_round = ?", run, server_round)
        if not rows:
            raise RunError(f"run {run} has no round {server_round}")
        return RoundRecord.from_row(rows[0])

    def accept(self, run: str, server_round: int, device: str, content: bytes, facts: UpdateFacts) -> Ruling:
        """Commit an admitted update and answer DONE; the same bytes again are DONE again.

        Another update of the device is DUPLICATE, a round that is not open STALE_ROUND, a full disk RETRY_AFTER.
        """
        digest = hashlib.sha256(content).hexdigest()
        try:
            with self._file.transaction() as sql:
                key = (run, server_round, device)
                known = sql("SELECT digest FROM accepted WHERE (run, server_round, device) = (?, ?, ?)", key).fetchone()
                if known is not None:
                    same = known["digest"] == digest
                    return Ruling(Verdict.DONE) if same else Ruling(Verdict.DUPLICATE, "another update counts already")
                if not self._takes_updates(run, server_round):
                    return Ruling(Verdict.STALE_ROUND, f"round {server_round} of run {run} is not open")
                row = (*key, digest, facts.to_json(), self._clock())
                sql("INSERT INTO accepted VALUES (?, ?, ?, ?, ?, ?)", row)
                sql("INSERT INTO content VALUES (?, ?, ?, ?)", (*key, content))
        except RunError:
            return Ruling(Verdict.RETRY_AFTER, "the coordinator cannot store updates now")
        return Ruling(Verdict.DONE)

    def accepted(self, run: str, server_round: int) -> Iterator[tuple[str, bytes]]:
        """Device and update object of a round, sorted by device, one in memory at a time.

        Raises `RunError` where a stored object no longer has its digest, or was dropped with its round.
        """
        for row in self._file.rows(
            "SELECT device, digest FROM accepted WHERE run = ? AND server_round = ? ORDER BY device", run, server_round
        ):
            yield row["device"], self._content(run, server_round, row["device"], row["digest"])

    def accepted_devices(self, run: str, server_round: int) -> set[str]:
        """The devices whose update counts for a round."""
        rows = self._file.rows("SELECT device FROM accepted WHERE run = ? AND server_round = ?", run, server_round)
        return {row["device"] for row in rows}

    def holds(self, run: str, device: str, digest: str) -> bool:
        """True when this very update object of a device counts for some round of a run."""
        key = (run, device, digest)
        return bool(self._file.rows("SELECT 1 FROM accepted WHERE run = ? AND device = ? AND digest = ?", *key))

    def updates(self, run: str, server_round: int | None = None) -> list[UpdateRecord]:
        """The facts of every update that a run accepted, or one of its rounds, by round and device."""
        first, last = (0, LAST_ROUND) if server_round is None else (server_round, server_round)
        query = "SELECT * FROM accepted WHERE run = ? AND server_round BETWEEN ? AND ? ORDER BY server_round, device"
        return [UpdateRecord.from_row(row) for row in self._file.rows(query, run, first, last)]

    def refuse(self, run: str, server_round: int, device: str, ruling: Ruling, digest: str, size_bytes: int) -> None:
        """Remember a refusal; a repeat of one only counts up, and of a run's refusals the last 10,000 are kept."""
        with self._file.transaction() as sql:
            self.run(run)
            sql(
                "INSERT INTO refused (run, server_round, device, verdict, reason, digest, size_bytes, refused_seconds)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET times = times + 1",
                (run, server_round, device, ruling.verdict, ruling.reason, digest, size_bytes, self._clock()),
            )
            _keep_last(sql, "refused", run, MOST_REFUSALS)

    def refusals(self, run: str) -> list[RefusalRecord]:
        """The refusals of a run, oldest first."""
        return [
            RefusalRecord.from_row(row)
            for row in self._file.rows("SELECT * FROM refused WHERE run = ? ORDER BY sequence", run)
        ]

    def freeze_round(self, run: str, server_round: int) -> None:
        """Fix the updates that a round counts: later ones are STALE_ROUND. Freezing a frozen round changes nothing."""
        with self._file.transaction() as sql:
            self.round(run, server_round)
            sql(
                "UPDATE round SET state = 'closing' WHERE run = ? AND server_round = ? AND state = 'open'",
                (run, server_round),
            )

    def close_round(
        self, run: str, server_round: int, model: str, checkpoint: str, figures: Mapping[str, float]
    ) -> None:
        """Enter a frozen round's result and drop the update contents of earlier rounds, not their facts.

        Closing again with the same model changes nothing; with another one, or before the freeze, is a `RunError`.
        """
        with self._file.transaction() as sql:
            record = self.round(run, server_round)
            if record.state == RoundState.CLOSED and record.model == model:
                return
            if record.state != RoundState.CLOSING:
                raise RunError(f"run {run}: round {server_round} is {record.state} and cannot be closed with {model}")
            sql(
                "UPDATE round SET state = 'closed', model = ?, checkpoint = ?, figures_json = ?, closed_seconds = ?"
                " WHERE run = ? AND server_round = ?",
                (model, checkpoint, json.dumps(dict(figures)), self._clock(), run, server_round),
            )
            sql("DELETE FROM content WHERE run = ? AND server_round < ?", (run, server_round))

    def note(self, run: str, kind: str, text: str) -> None:
        """Add a line to a run's history, of which the last 10,000 are kept."""
        with self._file.transaction() as sql:
            self.run(run)
            values = (run, kind, text, self._clock())
            sql("INSERT INTO event (run, kind, text, noted_seconds) VALUES (?, ?, ?, ?)", values)
            _keep_last(sql, "event", run, MOST_EVENTS)

    def events(self, run: str, after: int = 0) -> list[EventRecord]:
        """The history of a run, oldest first, from the event that follows sequence number `after`."""
        rows = self._file.rows("SELECT * FROM event WHERE run = ? AND sequence > ? ORDER BY sequence", run, after)
        return [EventRecord(**dict(row)) for row in rows]

    def _takes_updates(self, run: str, server_round: int) -> bool:
        return bool(
            self._file.rows(
                "SELECT 1 FROM round JOIN run USING (run) WHERE run = ? AND server_round = ?"
                " AND round.state = 'open' AND run.state = 'running'",
                run,
                server_round,
            )
        )

    def _content(self, run: str, server_round: int, device: str, digest: str) -> bytes:
        rows = self._file.rows(
            "SELECT object FROM content WHERE run = ? AND server_round = ? AND device = ?", run, server_round, device
        )
        if not rows:
            raise RunError(f"run {run}: the updates of round {server_round} were dropped after a later round closed")
        content: bytes = rows[0]["object"]
        if hashlib.sha256(content).hexdigest() != digest:
            raise RunError(
                f"run {run}: the stored update of {device} in round {server_round} is damaged: restore a backup"
            )
        return content


def _keep_last(sql: Execute, table: Literal["event", "refused"], run: str, most: int) -> None:
    oldest_kept = f"SELECT sequence FROM {table} WHERE run = ? ORDER BY sequence DESC LIMIT 1 OFFSET ?"  # noqa: S608 - table is one of two literals
    sql(f"DELETE FROM {table} WHERE run = ? AND sequence <= ({oldest_kept})", (run, run, most))  # noqa: S608
