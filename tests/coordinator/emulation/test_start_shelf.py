import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from coordinator.emulation import array_start, start_shelf
from coordinator.emulation.array_start import made_start
from coordinator.emulation.start_shelf import Maker, Start, start_of
from coordinator.export.step_graphs import StepGraphs

SHAPE = (1, 28, 28)


def maker(seed: int) -> Maker:
    return lambda graphs: made_start("crowd", SHAPE, seed, graphs)


def never(graphs: StepGraphs | None) -> Start | None:
    raise AssertionError("it is kept already")


def test_a_kept_start_is_the_one_that_was_made_and_is_not_made_again(tmp_path: Path) -> None:
    made, made_again = made_start("crowd", SHAPE, 3), start_of("crowd", SHAPE, 3, maker(3), tmp_path)
    kept = start_of("crowd", SHAPE, 3, never, tmp_path)
    assert made is not None
    for found in (made_again, kept):
        assert found is not None
        assert (found.graphs, found.classes, found.module) == (made.graphs, made.classes, made.module)
        np.testing.assert_array_equal(found.initial, made.initial)
    assert made.module is not None
    assert made.module.factory == "coordinator.tasks.crowd:CrowdNet"
    assert [tensor.name for tensor in made.graphs.layout.tensors][:2] == ["near.weight", "near.bias"]


def test_another_seed_draws_other_weights_and_exports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = start_of("crowd", SHAPE, 3, maker(3), tmp_path)
    monkeypatch.setattr(array_start, "_exported", None)
    other = start_of("crowd", SHAPE, 4, maker(4), tmp_path)
    assert one is not None
    assert other is not None
    assert one.graphs == other.graphs
    assert (one.initial != other.initial).any()


def test_another_source_makes_it_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "rule.py"
    source.write_text("one")
    monkeypatch.setattr(start_shelf, "SOURCES", (source,))
    start_of("crowd", SHAPE, 3, maker(3), tmp_path)
    source.write_text("two")
    start_of("crowd", SHAPE, 3, maker(3), tmp_path)
    assert len(list(tmp_path.glob("start-crowd-*.npz"))) == 2


def test_a_name_that_is_no_array_task_has_no_start(tmp_path: Path) -> None:
    assert start_of("drill", SHAPE, 3, lambda graphs: made_start("drill", SHAPE, 3), tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_preparing_loads_neither_torch_nor_flower_by_itself() -> None:
    program = "import sys, coordinator.emulation.population; print(*{'torch', 'flwr'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
