"""`python -m coordinator.bench.compression`: bytes to accuracy of the sieve and its rivals, on emulated federations."""

import argparse
from pathlib import Path

from rich.console import Console

from coordinator.bench.cell_shelf import CellShelf
from coordinator.bench.crew import run_cells
from coordinator.bench.matrix import quick_cells
from coordinator.bench.result import write_result


def main() -> None:
    """Run what is missing, and write the result."""
    parser = argparse.ArgumentParser(prog="scripts/bench compression", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--quick", action="store_true", help="two small tasks, few minutes")
    parser.add_argument("--fresh", action="store_true", help="run again what an earlier benchmark has finished")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/bench-compression"), help="where finished runs are kept"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/compression.json"))
    chosen = parser.parse_args()
    cells = quick_cells(chosen.seeds)
    rows = run_cells(cells, CellShelf(chosen.runs), Console(), chosen.fresh)
    write_result(chosen.out, "compression", "scripts/bench compression", chosen.seeds, rows, [])


if __name__ == "__main__":
    main()
