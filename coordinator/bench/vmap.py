"""`python -m coordinator.bench.vmap`: would an emulator be quicker that trains many clients at once by torch's vmap?

The device's runtime, one client after another, against stacked models of 8 and of 32 clients under `torch.func.vmap`,
in interleaved turns on one thread; a step is its processor time a client, the optimiser's included.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import torch

from coordinator.bench.load import load_before
from coordinator.bench.markdown import rows_table
from coordinator.bench.result import Row, write_result
from coordinator.bench.runtime import BATCH_SIZE, Exported, side_of, take_turns
from coordinator.bench.vmap_steps import KINDS, PROGRAM

CLIENTS = (8, 32)
TURNS, QUICK_TURNS = 8, 3


def measure(name: str, turns: int) -> Row:
    """One family's row."""
    family = KINDS[name]
    with tempfile.TemporaryDirectory(prefix="gradsieve-vmap-") as folder, ExitStack() as stack:
        Exported.of(family).write(Path(folder), family)
        ours = ["-m", "edge_client.step_times", folder, str(BATCH_SIZE)]
        stacked = [["-c", PROGRAM, name, str(BATCH_SIZE), str(clients)] for clients in CLIENTS]
        sides = [stack.enter_context(side_of(command)) for command in (ours, *stacked)]
        take_turns(sides, turns)
    labels = ("ours", *(f"vmap_{clients}" for clients in CLIENTS))
    times = {f"{label}_ms": round(median(side.step_ms), 4) for label, side in zip(labels, sides, strict=True)}
    best = min(median(side.step_ms) for side in sides[1:])
    peaks = {f"{label}_peak_mb": round(side.peak_rss_bytes / 1e6) for label, side in zip(labels, sides, strict=True)}
    ratio = round(best / median(sides[0].step_ms), 3)
    return {"family": name, "batch_size": BATCH_SIZE, **times, "ratio": ratio, **peaks}


COLUMNS = ("family", "ours_ms", "vmap_8_ms", "vmap_32_ms", "ratio", "ours_peak_mb", "vmap_8_peak_mb", "vmap_32_peak_mb")


def table_of(rows: Sequence[Row], command: str, load: str) -> str:
    """The rows as Markdown."""
    lines = [
        "# Many clients at once by vmap, against one after another",
        "",
        f"Made by `{command}`; all figures and versions in [vmap.json](vmap.json). {load}",
        "",
        f"Milliseconds of processor time a client and step on {BATCH_SIZE} examples, one thread; `vmap_8` stacks the",
        "models of 8 clients under `torch.func.vmap`, `vmap_32` of 32; the ratio is the better of both to ours.",
        "",
        *rows_table(rows, COLUMNS),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all families, print a line for each, and write the result."""
    parser = argparse.ArgumentParser(prog="scripts/bench vmap", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--families", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/vmap.json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    load, rows = load_before(), list[Row]()
    for name in chosen.families:
        rows.append(measure(name, QUICK_TURNS if chosen.quick else TURNS))
        print(json.dumps(rows[-1]), flush=True)
    command = f"scripts/bench vmap{' --quick' if chosen.quick else ''}"
    write_result(chosen.out, "vmap", command, [0], rows, [], {"load": load})
    chosen.out.with_suffix(".md").write_text(table_of(rows, command, load), encoding="utf-8")


if __name__ == "__main__":
    main()
