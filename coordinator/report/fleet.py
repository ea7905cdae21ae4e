"""The devices: a grid of rounds, and what each of them gave."""

from coordinator.report.contributions import Device, Presence
from coordinator.report.history import MOST_COLUMNS, History, every
from coordinator.report.markup import Html, details, join, table, tag
from coordinator.report.quantity import bytes_text, count_text, known, number, percent
from coordinator.report.series import columns
from coordinator.report.strip import Row, board, legend, stacked

MOST_GRID_ROWS = 40
MOST_TABLE_ROWS = 200
SHOWN = (Presence.ACCEPTED, Presence.REFUSED, Presence.MISSED, Presence.PENDING)
TONES = ("accepted", "refused", "missed", "pending")
WORDS = ("accepted", "refused", "asked, but silent", "round not closed yet")
HEAD = ("device", "rounds", "missed", "refused", "last round", "examples", "values", "update bytes", "mean loss",
        "accuracy, first", "accuracy, last")  # fmt: skip


def fleet_section(history: History) -> Html:
    """Who took part when, and who contributed what."""
    contributions = history.contributions
    if not contributions.devices:
        return tag("section", tag("h2", "Devices"), tag("p", "No device has been asked to train yet.", class_="empty"))
    shown = contributions.most_irregular(MOST_GRID_ROWS)
    more = len(contributions.devices) - len(shown)
    note = f"These {len(shown)} have the most refused and missed rounds; {count_text(more)} more are not shown."
    seen = {place for device in shown for place in device.presence}
    tones = [(tone, words) for tone, words, state in zip(TONES, WORDS, SHOWN, strict=True) if state in seen]
    return tag(
        "section",
        tag("h2", "Devices"),
        tag("p", f"{every(len(contributions.rounds))} {note if more else ''}", class_="note"),
        legend(tones),
        board([_row(device) for device in shown], ("device", "", "rounds"), contributions.rounds),
        _table(history),
    )


def _row(device: Device) -> Row:
    stacks = []
    for column in columns(len(device.presence), MOST_COLUMNS):
        states = device.presence[column.start : column.stop]
        stacks.append([states.count(state) / len(states) for state in SHOWN])
    words = f"{device.name}: {device.rounds} accepted, {device.refused} refused, {device.missed} missed"
    return Row(device.name, stacked(stacks, TONES, words), f"{device.rounds} of {device.asked}")


def _table(history: History) -> Html:
    devices = history.contributions.by_name()
    more = len(devices) - MOST_TABLE_ROWS
    note = tag("p", f"{count_text(more)} more devices are in the journal.", class_="note") if more > 0 else Html("")
    content = join([table(HEAD, [_cells(device) for device in devices[:MOST_TABLE_ROWS]]), note])
    return content if len(devices) <= MOST_GRID_ROWS else details("What each device gave", content)


def _cells(device: Device) -> tuple[str, ...]:
    return (
        device.name,
        str(device.rounds),
        str(device.missed),
        str(device.refused),
        known(device.last_round, count_text),
        count_text(device.examples),
        count_text(device.values),
        bytes_text(device.object_bytes),
        known(device.loss, number),
        known(device.first_accuracy, percent),
        known(device.last_accuracy, percent),
    )
