"""Figures of a run, round by round, from what the journal holds. Pure: records in, figures out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self, TypeVar

import numpy as np

from coordinator.records import EventRecord, RoundRecord, RoundState, UpdateRecord

T = TypeVar("T")

MOST_POINTS = 240


@dataclass(frozen=True, slots=True)
class RoundPoint:
    """One round; means are over its accepted updates, and None where there are none.

    `accuracy_before` is that of the model which the round began with. `thresholds` are the 10th, 50th and 90th
    percentile over devices; `values_by_tensor` the mean count that an update sent of each tensor.
    """

    server_round: int
    closed: bool
    asked: int
    updates: int
    accuracy_before: float | None
    train_loss: float | None
    uplink_bytes: float
    published_bytes: float
    frame_bytes: float | None
    key_values: float | None
    sparse_values: float | None
    thresholds: tuple[float, float, float] | None
    values_by_tensor: tuple[float, ...]

    @classmethod
    def of(cls, record: RoundRecord, updates: Sequence[UpdateRecord]) -> Self:
        """The figures of a round and the facts of its updates."""
        facts = [update.facts for update in updates]
        thresholds = [fact.threshold for fact in facts if math.isfinite(fact.threshold)]
        rows = [fact.values_by_tensor for fact in facts]
        even = len({len(row) for row in rows}) == 1
        return cls(
            server_round=record.server_round,
            closed=record.state is RoundState.CLOSED,
            asked=len(record.cohort),
            updates=len(updates),
            accuracy_before=record.figures.get("base_accuracy"),
            train_loss=mean([fact.loss for fact in facts if fact.loss is not None]),
            uplink_bytes=record.figures.get("uplink_bytes", 0.0),
            published_bytes=record.figures.get("published_bytes", 0.0),
            frame_bytes=mean([fact.frame_bytes for fact in facts]),
            key_values=mean([fact.key_values for fact in facts]),
            sparse_values=mean([fact.sparse_values for fact in facts]),
            thresholds=_percentiles(thresholds) if thresholds else None,
            values_by_tensor=tuple(np.mean(rows, axis=0).tolist()) if even else (),
        )


@dataclass(frozen=True, slots=True)
class AccuracyPoint:
    """Accuracy of the model after round `server_round` (0: the initial one), and the uplink bytes spent until then."""

    server_round: int
    uplink_bytes: float
    accuracy: float


def mean(figures: Sequence[float]) -> float | None:
    """The mean of the finite figures; None when there are none."""
    finite = [figure for figure in figures if math.isfinite(figure)]
    return math.fsum(finite) / len(finite) if finite else None


def accuracy_points(points: Sequence[RoundPoint], final: float | None) -> list[AccuracyPoint]:
    """The accuracy after each round: every round but the last is judged by the round that follows it."""
    spent = [0.0, *accumulate(point.uplink_bytes for point in points)]
    found = [
        AccuracyPoint(points[place - 1].server_round if place else 0, spent[place], point.accuracy_before)
        for place, point in enumerate(points)
        if point.accuracy_before is not None
    ]
    if final is not None and points:
        found.append(AccuracyPoint(points[-1].server_round, spent[-1], final))
    return found


def final_figure(events: Sequence[EventRecord], name: str) -> float | None:
    """The `accuracy` or `loss` that the last event of kind `final` names; None without such an event, or the figure."""
    for event in reversed(events):
        if event.kind == "final":
            return _named(event.text, name)
    return None


def thinned(items: Sequence[T], most: int = MOST_POINTS) -> list[T]:
    """At most `most` + 1 of the items, evenly spaced, the last one always among them."""
    step = max(1, math.ceil(len(items) / most))
    kept = list(items[::step])
    return kept if not items or (len(items) - 1) % step == 0 else [*kept, items[-1]]


def columns(count: int, most: int) -> list[range]:
    """The places 0 to `count` cut into at most `most` runs of equal length, the last perhaps shorter."""
    step = max(1, math.ceil(count / most))
    return [range(start, min(start + step, count)) for start in range(0, count, step)]


def _percentiles(figures: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = np.percentile(figures, (10, 50, 90)).tolist()
    return low, middle, high


def _named(text: str, name: str) -> float | None:
    for part in text.split():
        key, _, value = part.partition("=")
        if key == name:
            try:
                return float(value)
            except ValueError:
                return None
    return None
