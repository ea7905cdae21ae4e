"""`gradsieve status`."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coordinator.journal import Journal
from coordinator.records import RoundState, RunRecord
from coordinator.run_folder import RunFolder
from shared.errors import RunError

MOST_TROUBLES = 5
TROUBLES = ("trouble", "warning", "error")
"""The kinds of events that an operator should see."""


def status(
    folder: Annotated[Path, typer.Argument(metavar="RUN_FOLDER", help="a run folder, such as runs/demo")],
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Where a run is, who is awaited, what was refused and what goes wrong; works while the run goes on."""
    file = RunFolder(folder).journal
    if not file.exists():
        raise RunError(f"{folder} holds no run: name the folder that was given as --out")
    journal = Journal.open(file)
    try:
        rows = [_row(journal, record) for record in journal.runs()]
    finally:
        journal.close()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table()
    for name in ("run", "state", "rounds", "accuracy", "train loss", "awaited", "refused"):
        table.add_column(name)
    for row in rows:
        awaited = row["awaited"] if isinstance(row["awaited"], list) else []
        table.add_row(
            str(row["run"]),
            str(row["state"]),
            f"{row['rounds_closed']}/{row['rounds_wanted']}",
            "-" if row["accuracy"] is None else str(row["accuracy"]),
            "-" if row["train_loss"] is None else f"{row['train_loss']:.4g}",
            ", ".join(awaited) or "-",
            str(row["refused_updates"]),
        )
    console = Console()
    console.print(table)
    for row in rows:
        for line in row["troubles"] if isinstance(row["troubles"], list) else ():
            console.print(escape(line), highlight=False, soft_wrap=True)


def _row(journal: Journal, record: RunRecord) -> dict[str, object]:
    rounds = journal.rounds(record.run)
    closed = [r for r in rounds if r.state is RoundState.CLOSED]
    awaited: list[str] = []
    if rounds and rounds[-1].state is RoundState.OPEN and record.ended_seconds is None:
        awaited = sorted(set(rounds[-1].cohort) - journal.accepted_devices(record.run, rounds[-1].server_round))
    losses = [r.figures["train_loss"] for r in closed if "train_loss" in r.figures]
    accuracies = [r.figures["base_accuracy"] for r in closed if "base_accuracy" in r.figures]
    return {
        "run": record.run,
        "state": record.state.value,
        "error": record.error,
        "rounds_closed": len(closed),
        "rounds_wanted": json.loads(record.job_json)["rounds"],
        "accuracy": round(accuracies[-1], 4) if accuracies else None,
        "train_loss": losses[-1] if losses else None,
        "awaited": awaited,
        "troubles": _troubles(journal, record.run),
        "refused_updates": sum(refusal.times for refusal in journal.refusals(record.run)),
    }


def _troubles(journal: Journal, run: str) -> list[str]:
    """The latest complaints of and about devices, and what ended the run, as lines with the time of day."""
    events = [event for event in journal.events(run) if event.kind in TROUBLES]
    return [
        f"{datetime.fromtimestamp(event.noted_seconds).astimezone():%H:%M:%S} {event.kind}: {event.text}"
        for event in events[-MOST_TROUBLES:]
    ]
