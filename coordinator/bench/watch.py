"""`python -m coordinator.bench.watch`: the demo with several seeds, as a result file and a table."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from rich.console import Console

from coordinator.bench.result import Claim, write_result
from coordinator.commands.logs import quiet_logs
from coordinator.demo import Demo, demo_job

COLUMNS = (
    "seed",
    "accuracy",
    "accuracy_pooled",
    "accuracy_alone_mean",
    "uplink_bytes",
    "uplink_ratio",
    "downlink_bytes",
    "downlink_ratio",
    "client_peak_rss_mb_max",
    "wall_seconds",
)


def main() -> None:
    """Run the demo once for each seed, and write the result."""
    parser = argparse.ArgumentParser(prog="scripts/bench watch", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/watch.json"))
    chosen = parser.parse_args()
    seeds = chosen.seeds[:1] if chosen.quick else chosen.seeds
    rows = [_row(seed) for seed in seeds]
    command = f"scripts/bench watch{' --quick' if chosen.quick else ''} --seeds {' '.join(map(str, chosen.seeds))}"
    write_result(chosen.out, "watch", command, seeds, rows, claims_of(rows))
    chosen.out.with_suffix(".md").write_text(table_of(rows, command), encoding="utf-8")


def claims_of(rows: Sequence[dict[str, object]]) -> list[Claim]:
    """What the demo promises, as means over the rows; memory as their largest."""
    gap = mean(_number(row, "accuracy") - _number(row, "accuracy_pooled") for row in rows)
    lead = mean(_number(row, "accuracy") - _number(row, "accuracy_alone_mean") for row in rows)
    return [
        Claim("accuracy against all data in one place", gap, -0.04, -0.02, "higher"),
        Claim("accuracy against each wearer alone", lead, 0.2, 0.2, "higher"),
        Claim("uplink ratio", mean(_number(row, "uplink_ratio") for row in rows), 100, 250, "higher"),
        Claim("downlink ratio", mean(_number(row, "downlink_ratio") for row in rows), 4, 4, "higher"),
        Claim("largest client, MB", max(_number(row, "client_peak_rss_mb_max") for row in rows), 150, 110, "lower"),
        Claim("seconds in all", max(_number(row, "wall_seconds") for row in rows), 240, 240, "lower"),
    ]


def table_of(rows: Sequence[dict[str, object]], command: str) -> str:
    """The rows and claims as Markdown."""
    lines = [
        "# The demo, seed by seed",
        "",
        f"Made by `{command}`; figures and versions in [watch.json](watch.json).",
        "",
    ]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(_cell(row[column]) for column in COLUMNS) + " |" for row in rows]
    lines += ["", "| claim | value | floor | aim | met |", "|---|---|---|---|---|"]
    lines += [f"| {c.claim} | {c.value:.4g} | {c.floor:g} | {c.aim:g} | {c.met} |" for c in claims_of(rows)]
    return "\n".join(lines) + "\n"


def _row(seed: int) -> dict[str, object]:
    folder = Path("runs") / f"bench-watch-{seed}"
    quiet_logs(folder)
    return {"seed": seed} | Demo(folder, demo_job(None, seed), Console()).run()


def _number(row: dict[str, object], key: str) -> float:
    return float(str(row[key]))


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) and value < 1 else f"{value}"


if __name__ == "__main__":
    main()
