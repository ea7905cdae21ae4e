from pathlib import Path

import pytest

from coordinator.emulation import graph_shelf
from coordinator.emulation.graph_shelf import graphs_of
from coordinator.tasks.crowd import CROWD, CrowdNet

SHAPE = (1, 28, 28)


def test_kept_graphs_are_those_that_were_exported_and_are_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = graphs_of(CROWD, CrowdNet(), SHAPE, tmp_path)
    monkeypatch.setattr(graph_shelf, "_exported", None)
    assert graphs_of(CROWD, CrowdNet(), SHAPE, tmp_path) == made
    assert [tensor.name for tensor in made.layout.tensors][:2] == ["near.weight", "near.bias"]


def test_another_source_makes_them_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "rule.py"
    source.write_text("one")
    monkeypatch.setattr(graph_shelf, "SOURCES", (source,))
    graphs_of(CROWD, CrowdNet(), SHAPE, tmp_path)
    source.write_text("two")
    graphs_of(CROWD, CrowdNet(), SHAPE, tmp_path)
    assert len(list(tmp_path.glob("graphs-crowd-*.npz"))) == 2
