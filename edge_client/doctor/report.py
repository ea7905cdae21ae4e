"""Findings as lines for people and as JSON for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from edge_client.doctor.finding import Finding, Mark

COLOURS = {Mark.OK: 32, Mark.WARN: 33, Mark.FAIL: 31, Mark.SKIP: 2}
"""What a terminal is told to change: green, yellow, red, faint."""
CHECK_WIDTH = 14


def line(finding: Finding, colour: bool) -> str:
    """One line: mark, what was looked at, how it is, and the remedy. It holds no control character but our colours."""
    mark = f"{finding.mark:<4}"
    if colour:
        mark = f"\x1b[{COLOURS[finding.mark]}m{mark}\x1b[0m"
    text = f"{finding.text}: {finding.remedy}" if finding.remedy else finding.text
    return f"{mark}  {finding.check:<{CHECK_WIDTH}} {_printable(text)}"


def summary(findings: Sequence[Finding]) -> str:
    """How many findings there are of each kind."""
    counts = [f"{number} {mark}" for mark in Mark if (number := sum(f.mark is mark for f in findings))]
    return f"{len(findings)} findings: {', '.join(counts)}"


def as_json(findings: Sequence[Finding]) -> str:
    """`{"ok": …, "findings": [{"check", "mark", "text", "remedy"}, …]}`."""
    return json.dumps({"ok": is_well(findings), "findings": [asdict(finding) for finding in findings]}, indent=2)


def is_well(findings: Sequence[Finding]) -> bool:
    """True when nothing failed; what was skipped or warned of does not count."""
    return all(finding.mark is not Mark.FAIL for finding in findings)


def _printable(text: str) -> str:
    """A broker's words, say, must not steer the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
