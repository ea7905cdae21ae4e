"""What `scripts/test-aarch64` checks, where its root was made before: making it takes a network."""

from pathlib import Path

import pytest

from tests.aarch64.board import Board
from tests.aarch64.board_root import root_folder, why_not
from tests.aarch64.checks import CHECKS
from tests.aarch64.suite import CACHE


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    root = root_folder(CACHE)
    if not root.is_dir():
        pytest.skip(f"{root} is not there: scripts/test-aarch64 makes it once")
    reason = why_not(CACHE)
    if reason is not None:
        pytest.skip(reason)
    work: Path = tmp_path_factory.mktemp("board")
    return Board(root, work)


@pytest.mark.parametrize("check", CHECKS)
def test_the_emulated_board_agrees_with_this_machine(check: str, board: Board) -> None:
    assert CHECKS[check](board)
