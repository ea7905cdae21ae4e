"""`python -m coordinator.bench.compression`: bytes to accuracy of the sieve and its rivals, on emulated federations."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from coordinator.bench.accuracy_chart import accuracy_svg
from coordinator.bench.cell import Cell
from coordinator.bench.cell_run import bytes_to
from coordinator.bench.cell_shelf import CellShelf
from coordinator.bench.compression_claims import claims_of, codec_target, of_all_seeds
from coordinator.bench.compression_table import table_of
from coordinator.bench.crew import WORKERS, run_cells
from coordinator.bench.matrix import FULL, QUICK, core_seconds, full_cells, quick_cells
from coordinator.bench.result import write_result
from coordinator.bench.setting import Row, settings_of, targets_of
from shared.errors import GradsieveError

RUNS = Path("runs/bench-compression")
OUT = Path("docs/benchmarks/compression.json")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, and write the result, its table and its picture."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _parser().parse_args(words)
    cells = wanted(quick_cells(chosen.seeds) if chosen.quick else full_cells(chosen.seeds), chosen.tasks, chosen.only)
    console, shelf = Console(), CellShelf(chosen.runs)
    if chosen.finished:
        cells = [cell for cell in cells if shelf.get(cell) is not None]
    minutes = sum({cell.key: core_seconds(cell) for cell in cells}.values()) / 60 / WORKERS
    console.print(
        f"{len(cells)} runs, about {minutes:.0f} minutes where none is kept in {chosen.runs}", highlight=False
    )
    rows = run_cells(cells, shelf, console, chosen.fresh and not chosen.finished)
    command = " ".join(["scripts/bench compression", *words])
    write(chosen.out, command, chosen.seeds, rows, quick=chosen.quick)


def wanted(cells: Sequence[Cell], tasks: Sequence[str] | None, codecs: Sequence[str] | None) -> list[Cell]:
    """The cells of these tasks and codecs, all where none are named; dense always, as targets come from it."""
    return [
        cell
        for cell in cells
        if (tasks is None or cell.task in tasks)
        and (codecs is None or cell.recipe.codec in codecs or cell.recipe.codec == "dense")
    ]


def write(out: Path, command: str, seeds: Sequence[int], rows: Sequence[Row], quick: bool) -> None:
    """Judge the rows, and write `out` with a table and a picture beside it."""
    headline, settings = QUICK if quick else FULL, settings_of(rows)
    targets = targets_of(settings)
    for setting in settings:
        for row in setting.rows:
            row["bytes_to_target"] = (
                bytes_to(row["curve"], targets[setting.place]) if setting.place in targets else None
            )
    claims = claims_of(rows, headline)
    alone = codec_target(of_all_seeds([setting for setting in settings if setting["study"] == "codec"]))
    more = {f"{headline.task}/{headline.skew}, codec alone": round(alone, 5)} if alone else {}
    write_result(out, "compression", command, seeds, rows, claims, {"targets": targets | more})
    out.with_suffix(".md").write_text(table_of(out.stem, command, claims, settings, targets), encoding="utf-8")
    out.with_suffix(".svg").write_text(accuracy_svg(settings), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench compression", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--quick", action="store_true", help="the same studies on digits, one seed; minutes")
    parser.add_argument("--tasks", nargs="+", help="these tasks only")
    parser.add_argument("--only", nargs="+", metavar="CODEC", help="these codecs only, and dense")
    parser.add_argument("--fresh", action="store_true", help="run again what is kept of earlier benchmarks")
    parser.add_argument("--finished", action="store_true", help="run nothing: the result of what is kept")
    parser.add_argument("--runs", type=Path, default=RUNS, help=f"where finished runs are kept ({RUNS})")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the result file ({OUT}); table and picture beside it")
    return parser


if __name__ == "__main__":
    try:
        main()
    except GradsieveError as error:
        sys.exit(f"scripts/bench: {error}")
    except KeyboardInterrupt:
        sys.exit("scripts/bench: interrupted; finished runs are kept, and the same command goes on from there")
