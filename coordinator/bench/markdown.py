"""A result's rows and claims as Markdown tables."""

from collections.abc import Sequence

from coordinator.bench.result import Claim, Row


def rows_table(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Lines of a table of these columns; what a row lacks is a dash."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows]


def claims_table(claims: Sequence[Claim]) -> list[str]:
    """Lines of a table of claims, each with how far it was met."""
    lines = ["| claim | value | floor | aim | met |", "|---|---|---|---|---|"]
    return lines + [f"| {c.claim} | {c.value:.4g} | {c.floor:g} | {c.aim:g} | {c.met} |" for c in claims]


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"
