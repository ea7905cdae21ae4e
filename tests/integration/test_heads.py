"""A fleet of three levels as processes: a head is killed in mid-round, and nothing is lost or counted twice."""

from pathlib import Path

import pytest

from coordinator.bench.heads import play

pytestmark = pytest.mark.broker
HEADS, BOARDS, ROUNDS = 2, 3, 2


def test_a_head_that_is_killed_in_mid_round_changes_nothing(tmp_path: Path) -> None:
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
    calm = play(tmp_path / "calm", HEADS, BOARDS, ROUNDS, kill_in=0)
    killed = play(tmp_path / "killed", HEADS, BOARDS, ROUNDS, kill_in=2)
    assert killed["killed_in_round"] == 2
    assert 0 < int(str(killed["counted_when_killed"])) < BOARDS
    for row in (calm, killed):
        assert (row["board_updates"], row["distinct"]) == (HEADS * BOARDS * ROUNDS,) * 2
        assert (row["head_updates"], row["distinct_head_updates"]) == (HEADS * ROUNDS,) * 2
    assert killed["examples_a_round"] == calm["examples_a_round"]
    assert killed["model"] == calm["model"]
