"""A real client process in 128 MB of memory, counted with its trainer, over a real broker."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.bench.control_group import limited, why_missing
from coordinator.broker import DevBroker
from coordinator.client_processes import ClientProcesses
from coordinator.tasks.drill import clients
from coordinator.tasks.task import export_folder
from shared.errors import DeadlineExceeded
from shared.signing import SigningKey

MISSING = why_missing() or (None if shutil.which("mosquitto") else "mosquitto is not installed")

pytestmark = [pytest.mark.broker, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

MEGABYTE = 1 << 20
NAME = "board"
ROUNDS = 10
JOB = f"""
name = "small-board"
task = "drill"
rounds = {ROUNDS}
[work]
steps = 20
learning_rate = 0.005
final_learning_rate = 0.05
[sieve]
budget_bytes = 4000
[fleet]
round_seconds = 120
"""


class Board:
    """One client in a control group, told to serve a coordinator's job; what became of it."""

    def __init__(self, folder: Path, memory_bytes: int) -> None:
        key = SigningKey.generate()
        key.save(folder / "coordinator.key")
        (folder / "job.toml").write_text(JOB)
        with DevBroker(program="mosquitto") as broker, limited(memory_bytes) as group:
            boards = ClientProcesses(folder, [NAME], broker.settings, key.verify_key.hex, group.launcher)
            export_folder(clients(1)[0], boards.data_folder(NAME))
            with boards:
                self.coordinator = coordinate(folder, broker.settings.address)
                self.peak_bytes, self.killed, self.ended = group.peak_bytes(), group.killed(), boards.ended()
            self.log = boards.log_file(NAME).read_text()


def coordinate(folder: Path, address: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "coordinator.main", "run", str(folder / "job.toml"), "--json"]
    command += ["--out", str(folder / "run"), "--broker", address]
    environment = os.environ | {"GRADSIEVE_KEY_FILE": str(folder / "coordinator.key")}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)


def test_board_of_128_megabytes_completes_its_rounds(tmp_path: Path) -> None:
    board = Board(tmp_path, 128 * MEGABYTE)
    assert board.coordinator.returncode == 0, board.coordinator.stderr + board.log
    figures = json.loads(board.coordinator.stdout)
    assert figures["updates"] == ROUNDS
    assert figures["accuracy"] > 0.5  # chance is 0.1
    assert (board.killed, board.ended) == (0, {})
    assert board.peak_bytes is None or board.peak_bytes <= 128 * MEGABYTE


def test_board_that_is_too_small_refuses_the_bundle_with_both_numbers_and_lives(tmp_path: Path) -> None:
    board = Board(tmp_path, 72 * MEGABYTE)
    assert re.search(r"training needs about 1\d{8} bytes of memory, \d{8} are available", board.log), board.log
    assert (board.killed, board.ended) == (0, {})
    assert board.coordinator.returncode == DeadlineExceeded.exit_code
