"""Writes report.html into a run folder."""

from html import escape
from pathlib import Path

from coordinator.journal import Journal
from coordinator.run_folder import RunFolder


def write_report(folder: RunFolder) -> Path:
    """Write the report of the folder's newest run; returns its path. Raises `RunError` when the journal is damaged."""
    journal = Journal.open(folder.journal)
    try:
        runs = journal.runs()
        name = runs[-1].run if runs else "no run"
    finally:
        journal.close()
    folder.report.write_text(f"<!doctype html><title>{escape(name)}</title><h1>{escape(name)}</h1>\n", encoding="utf-8")
    return folder.report
