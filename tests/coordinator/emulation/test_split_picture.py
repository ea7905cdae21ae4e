from xml.etree import ElementTree

import numpy as np
import pytest

from coordinator.emulation.deal import deal
from coordinator.emulation.split_picture import MOST_COLUMNS, SplitFigures, split_svg
from coordinator.job import Split
from coordinator.tasks.examples import Examples
from shared.errors import DataError

LABELS = np.arange(3000, dtype=np.int64) % 10
EXAMPLES = Examples(np.zeros((3000, 1), np.float32), LABELS, LABELS // 2)


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "shards", "quantity"])
def test_every_example_is_dealt_once_and_the_same_way_each_time(kind: str) -> None:
    how = Split.model_validate({"kind": kind})
    parts = deal(EXAMPLES, how, 30, 1)
    assert sorted(np.concatenate(parts).tolist()) == list(range(3000))
    assert [p.tolist() for p in parts] == [p.tolist() for p in deal(EXAMPLES, how, 30, 1)]
    assert [p.tolist() for p in parts] != [p.tolist() for p in deal(EXAMPLES, how, 30, 2)]


def test_a_split_by_owner_keeps_owners_together_and_needs_them() -> None:
    parts = deal(EXAMPLES, Split(kind="natural"), 5, 1)
    assert all(len(set((LABELS[part] // 2).tolist())) == 1 for part in parts)
    with pytest.raises(DataError, match="nobody is known"):
        deal(Examples(EXAMPLES.x, LABELS), Split(kind="natural"), 5, 1)


def test_figures_tell_alike_from_unlike() -> None:
    alike = SplitFigures.of(LABELS, deal(EXAMPLES, Split(kind="iid"), 10, 1))
    unlike = SplitFigures.of(LABELS, [np.flatnonzero(kind == LABELS) for kind in range(10)])
    assert alike.distance < 0.1
    assert unlike.distance == pytest.approx(0.9)
    assert unlike.to_json()["classes_a_client"] == 1
    assert (unlike.sizes == 300).all()


@pytest.mark.parametrize("clients", [3, 2 * MOST_COLUMNS])
def test_the_picture_has_a_path_for_each_class_and_no_more_columns_than_can_be_seen(clients: int) -> None:
    figures = SplitFigures.of(LABELS, deal(EXAMPLES, Split(kind="dirichlet", alpha=0.3), clients, 1))
    root = ElementTree.fromstring(split_svg(figures, "a <title>"))  # noqa: S314  our own picture
    paths = [part.attrib["d"] for part in root if part.tag.endswith("path")]
    assert len(paths) == 10
    assert max(path.count("M") for path in paths) <= min(clients, MOST_COLUMNS)
    assert any((part.text or "") == "a <title>" for part in root)
