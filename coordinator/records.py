"""What the journal remembers, as frozen rows; every time is in unix seconds."""

import json
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from shared.verdicts import Verdict


class RunState(StrEnum):
    """Where a run stands; only a running one accepts updates."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    ABORTED = "aborted"


class RoundState(StrEnum):
    """Where a round stands: open takes updates, closing has its updates fixed, closed has its model."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of a job; `error` says why a failed one failed, `ended_seconds` is None while it runs."""

    run: str
    job_json: str
    state: RunState
    error: str
    created_seconds: float
    ended_seconds: float | None

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Self:
        """The record of a row of table `run`."""
        fields = dict(row)
        return cls(state=RunState(fields.pop("state")), **fields)


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One round: who was asked, from which model digest, by which plan, and once closed what came of it.

    `model` (digest in hex), `checkpoint` (name) and `figures` are empty until the round is closed.
    """

    run: str
    server_round: int
    state: RoundState
    base: str
    cohort: tuple[str, ...]
    plan: bytes
    model: str
    checkpoint: str
    figures: dict[str, float]
    opened_seconds: float
    closed_seconds: float | None

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Self:
        """The record of a row of table `round`."""
        fields = dict(row)
        return cls(
            state=RoundState(fields.pop("state")),
            cohort=tuple(json.loads(fields.pop("cohort_json"))),
            figures=json.loads(fields.pop("figures_json")),
            **fields,
        )


@dataclass(frozen=True, slots=True)
class UpdateFacts:
    """What admission learned from one update; kept after its content is dropped.

    `loss` is None where the device does not tell it. `correct` of `tested` windows is the received model's accuracy on
    the device; `key_values` and `sparse_values` count the values sent from each region; `threshold` and `norm`
    (Euclidean) are in units of the model's weights.
    """

    examples: int
    steps: int
    loss: float | None
    correct: int
    tested: int
    frame_bytes: int
    object_bytes: int
    key_values: int
    sparse_values: int
    threshold: float
    values_by_tensor: tuple[int, ...]
    norm: float

    def to_json(self) -> str:
        """As they are kept: an object with a key for each."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class UpdateRecord:
    """One accepted update: `digest` is the SHA-256 of its object in hex."""

    run: str
    server_round: int
    device: str
    digest: str
    facts: UpdateFacts
    accepted_seconds: float

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Self:
        """The record of a row of table `accepted`."""
        fields = dict(row)
        facts = json.loads(fields.pop("facts_json"))
        facts["values_by_tensor"] = tuple(facts["values_by_tensor"])
        return cls(facts=UpdateFacts(**facts), **fields)


@dataclass(frozen=True, slots=True)
class RefusalRecord:
    """One upload that was not accepted, with the verdict and reason its device was given; `times` counts repeats."""

    sequence: int
    run: str
    server_round: int
    device: str
    verdict: Verdict
    reason: str
    digest: str
    size_bytes: int
    times: int
    refused_seconds: float

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Self:
        """The record of a row of table `refused`."""
        fields = dict(row)
        return cls(verdict=Verdict(fields.pop("verdict")), **fields)


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One line of a run's history; `sequence` rises and is never used twice."""

    sequence: int
    run: str
    kind: str
    text: str
    noted_seconds: float
