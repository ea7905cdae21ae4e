"""`python -m coordinator.bench.emulate`: an emulated fleet against a bare torch loop and Flower's simulation engine.

One workload for all: the task `crowd`, two steps of plain SGD on 32 of a client's 64 images. Each engine is a process
of its own, in turns; what counts is the processor time of the whole process tree a client-round, after the first round.
Ours trains by the boards' own code, sieves both ways, signs, carries and journals; the others do not compress.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from coordinator.bench.emulated_crowd import PROGRAM, write_data
from coordinator.bench.load import load_before
from coordinator.bench.markdown import claims_table, rows_table
from coordinator.bench.result import Claim, Row, write_result
from coordinator.bench.round_marks import STARTED
from coordinator.tasks.crowd import crowd

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
CALL = "import sys; from coordinator.bench.{module} import main; main(*sys.argv[1:])"
"""By name and not as the main module, or Flower's actors would load the data anew with every message."""
LONGEST_SECONDS = 1500.0
LOOP, LOOPS, FLOWER = "bare loop", "bare loop, two processes", "Flower simulation"
OURS, OURS_ALONE, OURS_TORCH = "gradsieve, onnx", "gradsieve, onnx, one worker", "gradsieve, torch"
PAIRS = ((100, 20), (100, 100))
"""Clients in all and clients asked in a round."""
LIVE, LIVE_CLIENTS = "gradsieve, on mosquitto", 1_000
"""All connections are paho's, in one process, and time is real."""
LARGE_IMAGES = 8
"""Images a client of the largest fleet, all in one batch."""


@dataclass(frozen=True)
class Contender:
    """One engine under one number of clients: its program, and the arguments behind clients, asked and rounds."""

    engine: str
    program: str
    clients: int
    asked: int
    rounds: int
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def run(self) -> dict[str, Any]:
        """What its process prints; where it cannot run, the last line that it said."""
        counts = map(str, (self.clients, self.asked, self.rounds))
        command = [sys.executable, "-c", self.program, *self.before, *counts, *self.after]
        done = subprocess.run(  # noqa: S603  our own programs
            command,
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
            env=os.environ | ONE_THREAD | {STARTED: str(time.time()), "FLWR_TELEMETRY_ENABLED": "0"},
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not lines:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            return {"not_run": said[-200:]}
        found: dict[str, Any] = json.loads(lines[-1])
        return found


def row_of(contender: Contender, runs: Sequence[dict[str, Any]]) -> Row:
    """The figures of all runs of one engine; of rounds the first, which loads what others find loaded, is left out."""
    head = {"engine": contender.engine, "clients": contender.clients, "asked": contender.asked}
    good = [run for run in runs if "not_run" not in run]
    if not good:
        return head | {"not_run": runs[0]["not_run"]}
    cpu = [value for run in good for value in run["cpu_ms"][1:] or run["cpu_ms"]]
    wall = [value for run in good for value in run["wall_ms"][1:] or run["wall_ms"]]
    return head | {
        "runs": len(good),
        "rounds": contender.rounds,
        "cpu_ms": round(median(cpu), 2),
        "cpu_ms_min": round(min(cpu), 2),
        "cpu_ms_max": round(max(cpu), 2),
        "client_rounds_a_second": round(1e3 / median(wall), 1),
        "startup_seconds": round(median(run["startup_seconds"] for run in good), 2),
        "total_seconds": round(median(run["total_seconds"] for run in good), 1),
        "pss_mb": round(max(run["pss_mb"] for run in good), 1),
        "train_loss": round(good[-1]["train_loss"], 3),
        **{key: good[-1][key] for key in ("fewest_updates",) if key in good[-1]},
    }


def measure(data: Path, quick: bool) -> list[Row]:
    """All engines, in turns, then ever larger fleets of ours."""
    turns, rows = (2 if quick else 4), list[Row]()
    small, large = (str(data / "small"),), (str(data / "large"),)
    for (clients, asked), rounds in zip(PAIRS, (8, 4), strict=True):
        ours = [
            Contender(engine, PROGRAM, clients, asked, rounds, small, after)
            for engine, after in ((OURS, ("2", "onnx")), (OURS_ALONE, ("1", "onnx")), (OURS_TORCH, ("2", "torch")))
        ]
        others = [
            Contender(LOOP, CALL.format(module="bare_loop"), clients, asked, rounds),
            Contender(LOOPS, CALL.format(module="bare_loop"), clients, asked, rounds, after=("2",)),
            Contender(FLOWER, CALL.format(module="flower_crowd"), clients, asked, rounds),
        ]
        found: dict[Contender, list[dict[str, Any]]] = {contender: [] for contender in (*others, *ours)}
        for _ in range(turns):
            for contender, runs in found.items():
                runs.append(contender.run())
                print(json.dumps({"engine": contender.engine, "asked": asked} | runs[-1]), flush=True)
        rows += [row_of(contender, runs) for contender, runs in found.items()]
    for clients, rounds in ((1_000, 2 if quick else 5), (10_000, 1 if quick else 5)):
        after = ("2", "onnx", str(LARGE_IMAGES))
        fleet = Contender(OURS, PROGRAM, clients, clients, rounds, large, after)
        rows.append(row_of(fleet, [fleet.run()]))
        print(json.dumps(rows[-1]), flush=True)
    after = ("2", "mosquitto", str(LARGE_IMAGES))
    live = Contender(LIVE, PROGRAM, LIVE_CLIENTS, LIVE_CLIENTS, 2, large, after)
    rows.append(row_of(live, [live.run()]))
    print(json.dumps(rows[-1]), flush=True)
    return rows


def write_crowds(folder: Path) -> None:
    """The data of both workloads: a hundred clients of 64 images, ten thousand of eight."""
    small = crowd()
    write_data(folder / "small", small.x, small.y, small.owner)
    large = crowd(10_000 * LARGE_IMAGES // 64)
    write_data(folder / "large", large.x, large.y, np.repeat(np.arange(10_000, dtype=np.int64), LARGE_IMAGES))


def claims_of(rows: Sequence[Row]) -> list[Claim]:
    """Ratios of medians under either number of clients asked, the worse of both; sizes as they are."""

    def figure(engine: str, clients: int, asked: int, key: str) -> float | None:
        found = [row for row in rows if (row["engine"], row["clients"], row["asked"]) == (engine, clients, asked)]
        value = found[0].get(key) if found else None
        return float(str(value)) if value is not None else None

    def ratios(above: str, below: str) -> list[float]:
        pairs = [(figure(above, *pair, "cpu_ms"), figure(below, *pair, "cpu_ms")) for pair in PAIRS]
        return [round(first / second, 3) for first, second in pairs if first and second]

    claims = [
        Claim(f"CPU a client-round, {name}", max(found), 1.0, 0.7, "lower")
        for name, above, below in (
            ("two workers / bare torch loop alone on the machine", OURS, LOOP),
            ("two workers / bare torch loop of two processes", OURS, LOOPS),
            ("one worker / bare torch loop", OURS_ALONE, LOOP),
        )
        if (found := ratios(above, below))
    ]
    if found := ratios(FLOWER, OURS):
        claims.append(Claim("CPU of Flower's engine / ours", min(found), 2.5, 4.0, "higher"))
    start = figure(OURS, 100, 20, "startup_seconds")
    if start is not None:
        claims.append(Claim("start-up, seconds", start, 3.0, 2.0, "lower"))
    for clients, floor, aim in ((1_000, 700.0, 350.0), (10_000, 2_000.0, 1_000.0)):
        held = figure(OURS, clients, clients, "pss_mb")
        if held is not None:
            claims.append(Claim(f"memory of {clients:,} clients in all, MB", held, floor, aim, "lower"))
    total, rounds = (figure(OURS, 10_000, 10_000, key) for key in ("total_seconds", "rounds"))
    if total is not None and rounds:
        claims.append(Claim("10,000 clients, 5 rounds, seconds", round(total * 5 / rounds, 1), 900.0, 450.0, "lower"))
    counted = figure(LIVE, LIVE_CLIENTS, LIVE_CLIENTS, "fewest_updates")
    if counted is not None:
        text = f"updates of {LIVE_CLIENTS:,} clients through mosquitto, the fewest of a round"
        claims.append(Claim(text, counted, LIVE_CLIENTS, LIVE_CLIENTS, "higher"))
    return claims


COLUMNS = (
    "engine", "clients", "asked", "cpu_ms", "cpu_ms_min", "cpu_ms_max", "client_rounds_a_second", "startup_seconds",
    "total_seconds", "pss_mb", "train_loss",
)  # fmt: skip


def table_of(rows: Sequence[Row], command: str, load: str) -> str:
    """The rows and claims as Markdown."""
    missing = [
        f"- {row['engine']}, {row['asked']} asked: not run: {row['not_run']}" for row in rows if "not_run" in row
    ]
    lines = [
        "# Many clients on one machine",
        "",
        f"Made by `{command}`; all figures and versions in [emulate.json](emulate.json). {load}",
        "",
        "Milliseconds of processor time a client-round, whole process tree, median of all rounds but the first; two",
        "workers or actors unless it says otherwise. Ours sieves, signs, carries and journals every update; the loops",
        "and Flower move plain weights. Memory is proportional (PSS), of the whole tree.",
        "",
        "The loop alone leaves one of two cores idle, and a core works faster beside an idle one (shared caches and",
        "memory, or two threads of one core). So ours is compared three times: two workers with that loop, which is",
        "the hardest, two workers with the same loop on both cores, and one worker with the loop alone.",
        "",
        *rows_table([row for row in rows if "not_run" not in row], COLUMNS),
        *missing,
        "",
        *claims_table(claims_of(rows)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all engines, print a line for each run, and write the result."""
    parser = argparse.ArgumentParser(prog="scripts/bench emulate", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer turns, and one round of the largest fleet")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/emulate.json"))
    chosen = parser.parse_args()
    load = load_before()
    with tempfile.TemporaryDirectory(prefix="gradsieve-emulate-") as folder:
        write_crowds(Path(folder))
        rows = measure(Path(folder), chosen.quick)
    command = f"scripts/bench emulate{' --quick' if chosen.quick else ''}"
    write_result(chosen.out, "emulate", command, [1], rows, claims_of(rows), {"load": load})
    chosen.out.with_suffix(".md").write_text(table_of(rows, command, load), encoding="utf-8")


if __name__ == "__main__":
    main()
