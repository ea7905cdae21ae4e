"""Runs many cells in worker processes, keeps each finished row, and shows how far it is."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.queues import SimpleQueue

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from coordinator.bench.cell import Cell
from coordinator.bench.cell_run import run_cell
from coordinator.bench.cell_shelf import CellShelf, RowFields

WORKERS = 2
GLANCE_SECONDS = 0.25
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

_rounds: "SimpleQueue[int] | None" = None
"""In a worker: where it says that a round has ended."""


def run_cells(cells: Sequence[Cell], shelf: CellShelf, console: Console, fresh: bool = False) -> list[RowFields]:
    """The rows of all cells, in their order; those on the shelf are not run again unless `fresh`.

    Raises what a cell raises first, and stops the others.
    """
    runs = {cell.key: cell for cell in cells}
    if not fresh:
        runs = {key: cell for key, cell in runs.items() if shelf.get(cell) is None}
    _run_all(list(runs.values()), shelf, console)
    return [row for cell in cells if (row := shelf.get(cell)) is not None]


def _run_all(cells: Sequence[Cell], shelf: CellShelf, console: Console) -> None:
    os.environ.update(ONE_THREAD)  # before the workers load their libraries
    context = multiprocessing.get_context("spawn")
    rounds: SimpleQueue[int] = context.SimpleQueue()
    with _progress(console) as progress, ProcessPoolExecutor(WORKERS, context, _enter, (rounds,)) as pool:
        bar = progress.add_task("", total=sum(cell.recipe.rounds for cell in cells))
        running: dict[Future[RowFields], Cell] = {pool.submit(_run, cell): cell for cell in cells}
        try:
            while running:
                done, _ = wait(running, GLANCE_SECONDS, FIRST_COMPLETED)
                while not rounds.empty():
                    progress.advance(bar, rounds.get())
                for future in done:
                    cell, row = running.pop(future), future.result()
                    shelf.put(cell, row)
                    console.print(f"{len(cells) - len(running):>3} of {len(cells)}  {line_of(row)}", highlight=False)
        except BaseException:
            pool.shutdown(cancel_futures=True, wait=False)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def line_of(row: RowFields) -> str:
    """A finished row in a few words."""
    return f"{row['task']} {row['skew']} {row['codec']} {row['variant']} {row['ratio']}x: {row['accuracy']}"


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rounds"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _enter(rounds: "SimpleQueue[int]") -> None:
    global _rounds
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers itself
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _rounds = rounds


def _end_with_parent() -> None:
    """Leave nothing behind when the parent is killed: a worker would wait for its next cell for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _run(cell: Cell) -> RowFields:
    def announce(server_round: int) -> None:
        if _rounds is not None:
            _rounds.put(1)

    return run_cell(cell, announce)
