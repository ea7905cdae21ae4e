from pathlib import Path

import numpy as np

from coordinator.send_histories import SendHistories
from edge_client.head.site_state import SiteState
from shared.compression.history import SendHistory
from shared.layout import Layout

LAYOUT = Layout.of([("w", (8, 16), "weight")])


def test_histories_come_back_with_the_round_that_they_are_after(tmp_path: Path) -> None:
    state = SiteState(tmp_path, LAYOUT)
    assert state.histories()[0] == 0
    histories = SendHistories(LAYOUT)
    histories.advance({"board-1": SendHistory.empty(LAYOUT).after(np.array([3, 9]), LAYOUT)})
    state.keep_histories(7, histories)
    after, found = SiteState(tmp_path, LAYOUT).histories()
    assert after == 7
    assert found.of("board-1").tag == histories.of("board-1").tag


def test_what_is_owed_adds_up_and_is_dropped_once_a_later_update_is_committed(tmp_path: Path) -> None:
    state, mean = SiteState(tmp_path, LAYOUT), np.full(LAYOUT.size, 2.0, np.float32)
    assert state.owed(0) is None
    state.owe(4, mean)
    state.owe(5, mean)
    found = SiteState(tmp_path, LAYOUT).owed(5)
    assert found is not None
    np.testing.assert_array_equal(found, 2 * mean)
    assert SiteState(tmp_path, LAYOUT).owed(6) is None
    assert SiteState(tmp_path, LAYOUT).owed(0) is None, "once delivered it is never owed again"
