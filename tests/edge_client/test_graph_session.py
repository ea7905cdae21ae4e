from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from edge_client.graph_session import GraphSession, check_version
from shared.errors import BundleError, TrainerError

if TYPE_CHECKING:
    from tests.edge_client.conftest import TinyTask


def test_version_is_checked_before_a_graph_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.17.3")
    with pytest.raises(TrainerError, match=r"onnxruntime 1\.17\.3 is too old: install 1\.19"):
        GraphSession("training", b"\xff")


@pytest.mark.parametrize(("version", "oldest"), [("1.19.0", "1.19"), ("1.100.1", "1.19.2"), ("2.0", "1.19")])
def test_newer_version_will_do(version: str, oldest: str) -> None:
    check_version(version, oldest)


@pytest.mark.parametrize("model", [b"", b"\x08\x08", b"\x3a\x00"])
def test_what_is_no_model_is_refused(model: bytes) -> None:
    with pytest.raises(BundleError, match="training graph"):
        GraphSession("training", model)


def test_wrong_input_is_the_trainers_failure(tiny_task: "TinyTask") -> None:
    graph = GraphSession("training", tiny_task.graphs.train)
    with pytest.raises(TrainerError, match="training graph: onnxruntime failed"):
        graph.run({"x": np.zeros((1, 2, 8), np.float32)})
