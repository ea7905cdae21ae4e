"""Separate processes over a real broker: what survives a kill -9, and that the model is the same bit for bit."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from coordinator.broker import DevBroker
from coordinator.client_processes import ClientProcesses
from shared.signing import SigningKey

pytestmark = pytest.mark.broker

NAMES = ["board-a", "board-b", "board-c"]
ROUNDS = 5
JOB = f"""
name = "small"
task = "watch"
rounds = {ROUNDS}
[work]
steps = 40
[server]
momentum = 0.4
[fleet]
minimum_devices = 3
round_seconds = 60
"""


class Bench:
    """A broker, three client processes with made-up recordings, and coordinators that are started and killed."""

    def __init__(self, folder: Path, broker: DevBroker) -> None:
        self.folder = folder
        self.broker = broker
        key = SigningKey.generate()
        key.save(folder / "coordinator.key")
        self.clients = ClientProcesses(folder / "clients", NAMES, broker.settings, key.verify_key.hex)
        for seed, name in enumerate(NAMES):
            make_recordings(self.clients.data_folder(name), seed)
        self.write_job(minimum_updates=1)

    def write_job(self, minimum_updates: int) -> None:
        (self.folder / "job.toml").write_text(f"{JOB}minimum_updates = {minimum_updates}\n")

    def coordinator(self, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "coordinator.main", "run", str(self.folder / "job.toml"), "--json"]
        command += ["--out", str(self.folder / "run"), "--broker", self.broker.settings.address, *options]
        environment = os.environ | {"GRADSIEVE_KEY_FILE": str(self.folder / "coordinator.key")}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)

    def accepted(self, server_round: int) -> int:
        """Updates of a round in the journal; 0 while there is no journal."""
        file = self.folder / "run" / "journal.sqlite"
        if not file.exists():
            return 0
        try:
            with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as reader:
                rows = reader.execute("SELECT count(*) FROM accepted WHERE server_round = ?", (server_round,))
                return int(rows.fetchone()[0])
        except sqlite3.OperationalError:
            return 0

    def wait_accepted(self, server_round: int, count: int, coordinator: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 90
        while self.accepted(server_round) < count:
            assert coordinator.poll() is None, coordinator.communicate()
            assert time.monotonic() < deadline, f"round {server_round} never had {count} updates"
            time.sleep(0.005)


def make_recordings(folder: Path, seed: int) -> None:
    """Seven classes of noisy sines, so that there is something to learn and no data set to fetch."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    steps = np.arange(1200)[:, None]
    for number in range(14):
        label = number % 7
        x = np.sin(steps * (label + 1) / 20 + np.arange(6)) + 0.3 * random.standard_normal((1200, 6))
        np.savez(folder / f"series-{number:03}.npz", x=x.astype(np.float32), y=np.int64(label))


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    with DevBroker() as broker:
        made = Bench(folder, broker)
        with made.clients:
            yield made


def figures_of(coordinator: subprocess.Popen[bytes]) -> dict[str, object]:
    out, errors = coordinator.communicate(timeout=120)
    assert coordinator.returncode == 0, errors.decode()[-3000:]
    figures: dict[str, object] = json.loads(out)
    return figures


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    with bench(tmp_path_factory.mktemp("unbroken")) as made:
        return figures_of(made.coordinator())


def test_run_learns_and_counts_every_update(unbroken: dict[str, object]) -> None:
    assert unbroken["updates"] == len(NAMES) * ROUNDS
    assert unbroken["refused_updates"] == 0
    assert float(str(unbroken["accuracy"])) > 0.3  # chance is 0.14


def test_killed_coordinator_resumes_to_the_same_model_bit_for_bit(tmp_path: Path, unbroken: dict[str, object]) -> None:
    with bench(tmp_path) as made:
        first = made.coordinator()
        made.wait_accepted(3, 1, first)
        first.kill()
        first.communicate()
        figures = figures_of(made.coordinator("--resume"))
    assert figures["model_digest"] == unbroken["model_digest"]
    assert figures["updates"] == unbroken["updates"]
    assert figures["refused_updates"] == 0


def test_killed_client_leaves_the_round_to_the_others(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        coordinator = made.coordinator()
        made.wait_accepted(2, 1, coordinator)
        os.kill(made.clients.pid("board-b"), signal.SIGKILL)
        figures = figures_of(coordinator)
    updates = int(str(figures["updates"]))
    assert 2 * ROUNDS <= updates < 3 * ROUNDS
    assert figures["rounds"] == ROUNDS


def test_killed_broker_that_comes_back_empty_costs_nothing(tmp_path: Path, unbroken: dict[str, object]) -> None:
    with bench(tmp_path) as made:
        coordinator = made.coordinator()
        made.wait_accepted(2, 1, coordinator)
        assert made.broker.pid is not None
        os.kill(made.broker.pid, signal.SIGKILL)
        made.broker.restart()
        figures = figures_of(coordinator)
    assert figures["model_digest"] == unbroken["model_digest"]
    assert figures["updates"] == unbroken["updates"]


def test_killed_client_that_comes_back_goes_on_with_its_residual(tmp_path: Path, unbroken: dict[str, object]) -> None:
    with bench(tmp_path) as made:
        made.write_job(minimum_updates=3)
        coordinator = made.coordinator()
        made.wait_accepted(2, 3, coordinator)
        os.kill(made.clients.pid("board-c"), signal.SIGKILL)
        made.clients.start("board-c")
        figures = figures_of(coordinator)
    assert figures["updates"] == unbroken["updates"]
    assert figures["model_digest"] == unbroken["model_digest"]
