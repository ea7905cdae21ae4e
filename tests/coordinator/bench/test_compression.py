import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from coordinator.bench.cell import Cell
from coordinator.bench.cell_run import bytes_to, running_means
from coordinator.bench.cell_shelf import CellShelf
from coordinator.bench.compression import wanted, write
from coordinator.bench.crew import run_cells
from coordinator.bench.matrix import core_seconds, full_cells, quick_cells
from coordinator.bench.recipe import Recipe

CURVE = [(2, 0.5, 10), (4, 0.9, 20), (6, 0.7, 30), (8, 0.8, 40)]
REQUIRED = {
    "task", "skew", "codec", "seed", "rounds", "accuracy", "uplink_bytes", "dense_bytes", "ratio", "bytes_to_target",
    "ideal_bits", "frame_bits", "downlink_bytes", "plan_bytes", "variant", "curve",
}  # fmt: skip


def test_a_target_is_reached_by_three_evaluations_together() -> None:
    assert [round(mean, 3) for _, mean, _ in running_means(CURVE)] == [0.5, 0.7, 0.7, 0.8]
    assert bytes_to(CURVE, 0.7 - 1e-9) == 30
    assert bytes_to(CURVE, 0.75) == 40
    assert bytes_to(CURVE, 0.85) is None


def test_the_matrices_are_within_their_time_on_two_cores() -> None:
    for cells, minutes in ((full_cells([1, 2, 3]), 102), (quick_cells([1, 2, 3]), 3)):
        distinct = {cell.key: cell for cell in cells}
        assert sum(core_seconds(cell) for cell in distinct.values()) / 120 < minutes


def test_what_is_wanted_keeps_dense() -> None:
    cells = quick_cells([1])
    chosen = wanted(cells, ["digits"], ["stc"])
    assert {cell.recipe.codec for cell in chosen} == {"dense", "stc"}
    assert {cell.task for cell in chosen} == {"digits"}
    assert wanted(cells, None, None) == cells


def test_a_micro_benchmark_writes_rows_claims_table_and_picture_and_runs_nothing_twice(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    short = [
        Recipe("dense", rounds=6, steps=20, study="dense"),
        Recipe("partition", ratio=30, prior="client", rounds=6, steps=20, study="codec"),
        Recipe("stc", ratio=30, rounds=6, steps=20, study="codec"),
    ]
    cells = [Cell("digits", "dirichlet-0.5", recipe, clients=2) for recipe in short]
    told = io.StringIO()
    rows = run_cells(cells, CellShelf(tmp_path / "runs"), Console(file=told, width=200))
    assert "3 of 3" in told.getvalue()
    out = tmp_path / "result.json"
    write(out, "scripts/bench compression", [1], rows, quick=True)
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["targets"].keys() == {"digits/dirichlet-0.5", "digits/dirichlet-0.5, codec alone"}
    assert [row["codec"] for row in result["rows"]] == ["dense", "partition", "stc"]
    assert all(row.keys() >= REQUIRED for row in result["rows"])
    assert "| partition (client), 6 rounds" in out.with_suffix(".md").read_text(encoding="utf-8")
    assert ">partition</text>" in out.with_suffix(".svg").read_text(encoding="utf-8")
    silent = io.StringIO()
    assert run_cells(cells, CellShelf(tmp_path / "runs"), Console(file=silent, width=200)) == [
        {key: value for key, value in row.items() if key != "bytes_to_target"} for row in rows
    ]
    assert "of 3" not in silent.getvalue()
