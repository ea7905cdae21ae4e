"""The report of a run as one HTML file that needs no network and runs no script."""

from pathlib import Path

from coordinator.report.fleet import fleet_section
from coordinator.report.headline import headline
from coordinator.report.history import History, read_history
from coordinator.report.incidents import events_section, refusals_section
from coordinator.report.loss import loss_section
from coordinator.report.markup import Html, tag
from coordinator.report.progress import accuracy_section, bytes_section
from coordinator.report.quantity import moment
from coordinator.report.sieve import sieve_section
from coordinator.run_folder import RunFolder

STYLE = Path(__file__).with_name("report.css")
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
{title}
<style>
{style}</style>
</head>
<body>
{main}
{footer}
</body>
</html>
"""


def write_report(folder: RunFolder) -> Path:
    """Write the report of a folder's newest run and return its path; raises `RunError` when the journal is damaged."""
    folder.report.write_text(page(read_history(folder)), encoding="utf-8")
    return folder.report


def page(history: History | None) -> str:
    """The whole page; of a folder without a run, one that says so."""
    return PAGE.format(
        title=tag("title", f"{history.run.run}: gradsieve report" if history else "gradsieve report"),
        style=STYLE.read_text(encoding="utf-8"),
        main=tag("main", *(_sections(history) if history else _nothing())),
        footer=tag("footer", _colophon(history)),
    )


def _sections(history: History) -> list[Html]:
    if not history.points:
        return [headline(history), tag("p", "The journal holds no round yet.", class_="empty"), events_section(history)]
    return [
        headline(history),
        _score_section(history),
        bytes_section(history),
        sieve_section(history),
        fleet_section(history),
        refusals_section(history),
        events_section(history),
    ]


def _score_section(history: History) -> Html:
    """Accuracy; where nobody told one, as with labels that are numbers, the loss."""
    judged = history.accuracy is not None or any(point.accuracy_before is not None for point in history.points)
    return (None if judged else loss_section(history)) or accuracy_section(history)


def _nothing() -> list[Html]:
    return [tag("h1", "No run"), tag("p", "The journal of this folder holds no run yet.", class_="lead")]


def _colophon(history: History | None) -> str:
    if history is None:
        return "gradsieve report"
    run = history.run
    ended = f", {run.state} {moment(run.ended_seconds)}" if run.ended_seconds is not None else f", {run.state}"
    return f"gradsieve report of {run.run}: begun {moment(run.created_seconds)}{ended}."
