"""All that a report tells of one run, read from its folder one round at a time."""

import json
from collections import defaultdict
from dataclasses import dataclass, field

from pydantic import ValidationError

from coordinator.job import Job
from coordinator.journal import Journal
from coordinator.records import EventRecord, RefusalRecord, RoundState, RunRecord
from coordinator.report.contributions import Contributions
from coordinator.report.layers import Shares, read_layout, shares
from coordinator.report.series import RoundPoint, columns, final_figure
from coordinator.run_folder import RunFolder
from shared.compression.plan import Plan
from shared.errors import BundleError, DecodeError, FrameError, MessageError
from shared.layout import Layout

MOST_COLUMNS = 120
"""Of a strip; a longer run is shown in columns of several rounds each."""


@dataclass(frozen=True)
class PlannedRound:
    """How one round's plan divided the layers; None where it planned nothing."""

    server_round: int
    shares: Shares | None


@dataclass(frozen=True)
class History:
    """One run: `summary` holds the finite numbers of summary.json, `points` the rounds in order."""

    run: RunRecord
    job: Job | None
    summary: dict[str, float]
    layout: Layout | None
    points: list[RoundPoint]
    planned: list[PlannedRound]
    contributions: Contributions
    refusals: list[RefusalRecord]
    events: list[EventRecord] = field(default_factory=list)

    @property
    def closed(self) -> list[RoundPoint]:
        """The rounds that have a result."""
        return [point for point in self.points if point.closed]

    @property
    def updates(self) -> int:
        """Accepted updates of closed rounds."""
        return sum(point.updates for point in self.closed)

    @property
    def accuracy(self) -> float | None:
        """Of the final model; None while there is none, or nobody judged it."""
        said = self.summary.get("accuracy")
        return final_figure(self.events, "accuracy") if said is None else said

    @property
    def loss(self) -> float | None:
        """Of the final model on the devices' test data; None likewise."""
        said = self.summary.get("loss")
        return final_figure(self.events, "loss") if said is None else said

    @property
    def uplink_bytes(self) -> float:
        """All that devices sent, whole packets; the summary of a resumed run leaves out what came before."""
        return max(self.summary.get("uplink_bytes", 0.0), sum(point.uplink_bytes for point in self.points))

    @property
    def dense_update_bytes(self) -> float | None:
        """One update without the sieve: as measured, else 4 bytes a value; None when neither is known."""
        measured = self.summary.get("dense_uplink_bytes")
        if measured and self.updates:
            return measured / self.updates
        return 4.0 * self.layout.size if self.layout else None


def every(rounds: int) -> str:
    """How many rounds a column of a strip stands for, as a sentence."""
    step = len(columns(rounds, MOST_COLUMNS)[0])
    return "A column a round." if step == 1 else f"A column every {step} rounds."


def read_history(folder: RunFolder) -> History | None:
    """The newest run of a folder; None when its journal holds none. Raises `RunError` when the journal is damaged."""
    journal = Journal.open(folder.journal)
    try:
        runs = journal.runs()
        return _history(folder, journal, runs[-1]) if runs else None
    finally:
        journal.close()


def _history(folder: RunFolder, journal: Journal, run: RunRecord) -> History:
    layout, refusals = _layout(folder), journal.refusals(run.run)
    refused: defaultdict[int, set[str]] = defaultdict(set)
    for refusal in refusals:
        refused[refusal.server_round].add(refusal.device)
    contributions = Contributions({number: frozenset(names) for number, names in refused.items()})
    rounds = journal.rounds(run.run)
    shown = {column[-1] for column in columns(len(rounds), MOST_COLUMNS)}
    points, planned = [], []
    for place, record in enumerate(rounds):
        updates = journal.updates(run.run, record.server_round)
        contributions.add(record, updates)
        points.append(point := RoundPoint.of(record, updates))
        if layout is not None and place in shown and record.state is RoundState.CLOSED:
            values = (point.key_values or 0.0) + (point.sparse_values or 0.0)
            planned.append(PlannedRound(record.server_round, _shares(record.plan, layout, values)))
    summary, events = _summary(folder), journal.events(run.run)
    return History(run, _job(run), summary, layout, points, planned, contributions, refusals, events)


def _layout(folder: RunFolder) -> Layout | None:
    try:
        return read_layout(folder.bundle.read_bytes())
    except (FileNotFoundError, BundleError, FrameError, MessageError):
        return None


def _job(run: RunRecord) -> Job | None:
    """The run's job; None when another version of this program wrote it."""
    try:
        return Job.model_validate_json(run.job_json)
    except ValidationError:
        return None


def _shares(plan: bytes, layout: Layout, values: float) -> Shares | None:
    try:
        return shares(Plan.from_bytes(plan, layout), layout, max(values, 1.0))
    except DecodeError:
        return None


def _summary(folder: RunFolder) -> dict[str, float]:
    try:
        read = json.loads(folder.summary.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(read, dict):
        return {}
    return {
        key: float(value) for key, value in read.items() if isinstance(value, int | float) and abs(value) < float("inf")
    }
