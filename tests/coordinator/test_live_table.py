import io
from dataclasses import replace

from rich.console import Console

from coordinator.live_table import LiveTable, sparkline
from coordinator.records import RoundRecord, RoundState
from coordinator.run import Progress

RECORD = RoundRecord(
    run="watch-1",
    server_round=3,
    state=RoundState.CLOSED,
    base="00",
    cohort=("a", "b"),
    plan=b"",
    model="11",
    checkpoint="c",
    figures={"updates": 2.0, "train_loss": 0.5, "base_accuracy": 0.75, "uplink_bytes": 800.0},
    opened_seconds=0.0,
    closed_seconds=1.0,
)


def shown(terminal: bool, record: RoundRecord = RECORD) -> str:
    out = io.StringIO()
    table = LiveTable("demo", 5, 40_000, Console(file=out, force_terminal=terminal, width=100))
    with table.shown():
        table.progress(Progress(3, "aggregating"))
        table.closed(record)
    return out.getvalue()


def test_piped_output_is_one_plain_line_a_round() -> None:
    (line,) = shown(terminal=False).splitlines()
    assert "round 3/5  updates 2/2  loss 0.500  accuracy 0.750" in line
    assert "400 B an update  100x less than dense" in line
    assert "\x1b" not in line


def test_terminal_shows_a_table_with_the_phase() -> None:
    text = shown(terminal=True)
    assert "per update" in text
    assert "round 3/5: aggregating" in text


def test_rounds_without_an_accuracy_are_shown_by_their_loss() -> None:
    figures = {"updates": 2.0, "train_loss": 12345.6, "uplink_bytes": 800.0}
    numbers = replace(RECORD, figures=figures)
    (line,) = shown(terminal=False, record=numbers).splitlines()
    assert "loss 1.23e+04  up 0.8 kB" in line
    text = shown(terminal=True, record=numbers)
    assert "train loss ▁" in text
    assert "accuracy ▁" not in text


def test_sparkline_rises_from_the_lowest_to_the_highest_bar() -> None:
    assert sparkline([0.1, 0.5, 0.9]) == "▁▄█"
    assert sparkline([]) == ""
    assert sparkline([0.5, 0.5]) == "▁▁"
