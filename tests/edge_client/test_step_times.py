import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_client.step_times import read_case
from shared.errors import BundleError

if TYPE_CHECKING:
    from tests.edge_client.conftest import TinyTask


def write_case(folder: Path, task: "TinyTask", layout_rows: int | None = None) -> None:
    layout = [(tensor.name, tensor.shape, tensor.role) for tensor in task.layout.tensors][:layout_rows]
    (folder / "case.json").write_text(json.dumps({"layout": layout, "input_shape": [2, 8], "classes": 3}))
    (folder / "train.onnx").write_bytes(task.graphs.train)
    (folder / "eval.onnx").write_bytes(task.graphs.evaluate)


def test_every_step_is_timed_and_trains(tmp_path: Path, tiny_task: "TinyTask") -> None:
    write_case(tmp_path, tiny_task)
    case = read_case(tmp_path, batch_size=4)
    before = case.weights.copy()
    taken = case.measure(3)
    assert len(taken) == 3
    assert min(taken) >= 0
    assert (case.weights != before).any()
    assert len(case.measure(2)) == 2


def test_graph_that_does_not_fit_its_layout_is_refused_when_it_is_loaded(tmp_path: Path, tiny_task: "TinyTask") -> None:
    write_case(tmp_path, tiny_task, layout_rows=2)
    with pytest.raises(BundleError, match="not in the layout"):
        read_case(tmp_path, batch_size=4).runtime.load()
