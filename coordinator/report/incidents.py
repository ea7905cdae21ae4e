"""What was refused and why, and what happened on the way."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from coordinator.records import EventRecord, RefusalRecord
from coordinator.report.history import History
from coordinator.report.markup import Html, join, shortened, table, tag
from coordinator.report.quantity import bytes_text, count_text, seconds_text

MOST_REASONS = 20
MOST_REFUSALS = 60
MOST_EVENTS = 60
FIGURES = re.compile(r"[0-9a-f]*[0-9][0-9a-f.]*")


def refusals_section(history: History) -> Html:
    """The refused uploads; of many, a table of reasons first."""
    refusals = history.refusals
    if not refusals:
        return tag("section", tag("h2", "Refused"), tag("p", "Nothing was refused.", class_="empty"))
    parts = [_summed(refusals)] if len(refusals) > MOST_REFUSALS else []
    return tag("section", tag("h2", "Refused"), *parts, _newest(refusals))


def events_section(history: History) -> Html:
    """The run's history, newest events last."""
    events = history.events
    if not events:
        return tag("section", tag("h2", "Events"), tag("p", "Nothing was noted.", class_="empty"))
    rows = [_event(event, history.run.created_seconds) for event in events[-MOST_EVENTS:]]
    return tag(
        "section", tag("h2", "Events"), _last(MOST_EVENTS, len(events)), table(("after", "what", "text"), rows, "words")
    )


def _summed(refusals: Sequence[RefusalRecord]) -> Html:
    """Reasons that differ in nothing but figures and digests are counted as one."""
    times: Counter[tuple[str, str]] = Counter()
    devices: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for refusal in refusals:
        kind = (_verdict(refusal), FIGURES.sub("\N{HORIZONTAL ELLIPSIS}", shortened(refusal.reason)))
        times[kind] += refusal.times
        devices[kind].add(refusal.device)
    rows = [
        (count_text(count), count_text(len(devices[verdict, reason])), verdict, reason)
        for (verdict, reason), count in times.most_common(MOST_REASONS)
    ]
    return table(("times", "devices", "verdict", "reason"), rows, "words")


def _newest(refusals: Sequence[RefusalRecord]) -> Html:
    rows = [
        (
            str(refusal.server_round),
            refusal.device,
            bytes_text(refusal.size_bytes),
            count_text(refusal.times),
            _verdict(refusal),
            shortened(refusal.reason),
        )
        for refusal in refusals[-MOST_REFUSALS:]
    ]
    return join(
        [
            _last(MOST_REFUSALS, len(refusals)),
            table(("round", "device", "size", "times", "verdict", "reason"), rows, "words"),
        ]
    )


def _last(shown: int, count: int) -> Html:
    return tag("p", f"The last {shown} of {count_text(count)}.", class_="note") if count > shown else Html("")


def _event(event: EventRecord, began_seconds: float) -> tuple[str, str, str]:
    return seconds_text(max(event.noted_seconds - began_seconds, 0.0)), event.kind, shortened(event.text)


def _verdict(refusal: RefusalRecord) -> str:
    return refusal.verdict.name.lower().replace("_", " ")
