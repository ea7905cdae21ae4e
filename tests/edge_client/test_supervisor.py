"""What systemd hears, on a datagram socket as it makes one."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_client.agent import Agent
from edge_client.orders import Answer, Order
from edge_client.outbox import Outbox
from edge_client.settings import EdgeSettings
from edge_client.supervisor import Supervisor, Systemd, Unsupervised, supervisor
from shared.memory_transport import MemoryBroker, MemoryTransport
from shared.signing import SigningKey
from shared.transport import TransportEvent

WAIT_SECONDS = 20.0
WATCHDOG_SECONDS = 120.0


class Manager:
    """The manager's end of a notification socket: bound to a path, or abstract."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(WAIT_SECONDS)

    def heard(self) -> list[str]:
        """The lines of the next datagram, waited for."""
        return self._socket.recv(4096).decode().split("\n")

    def pending(self) -> list[list[str]]:
        """All datagrams that are there."""
        found = []
        self._socket.setblocking(False)
        try:
            while True:
                found.append(self.heard())
        except BlockingIOError:
            self._socket.settimeout(WAIT_SECONDS)
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    short = Path(os.path.relpath(tmp_path / "notify"))  # a socket's path has at most 107 bytes
    manager = Manager(str(short) if request.param == "path" else f"@gradsieve-test-{os.getpid()}")
    yield manager
    manager.close()


@pytest.fixture
def systemd(manager: Manager) -> Systemd:
    return Systemd(manager.address, WATCHDOG_SECONDS)


def test_first_turn_says_ready_and_what_the_agent_does(manager: Manager, systemd: Systemd) -> None:
    systemd.turned("idle; no link: connecting", 5.0)
    assert manager.heard() == ["READY=1", "STATUS=idle; no link: connecting", "WATCHDOG=1"]


def test_status_is_told_only_when_it_changes(manager: Manager, systemd: Systemd) -> None:
    for second, status in enumerate(["idle", "idle", "training", "training", "idle"]):
        systemd.turned(status, float(second))
    assert manager.pending() == [["READY=1", "STATUS=idle", "WATCHDOG=1"], ["STATUS=training"], ["STATUS=idle"]]


def test_watchdog_is_fed_several_times_within_its_time_and_not_at_every_turn(
    manager: Manager, systemd: Systemd
) -> None:
    for second in range(int(WATCHDOG_SECONDS)):
        systemd.turned("idle", float(second))
    fed = [lines for lines in manager.pending() if "WATCHDOG=1" in lines]
    assert len(fed) == 4


def test_no_watchdog_is_fed_where_there_is_none(manager: Manager) -> None:
    systemd = Systemd(manager.address, None, longest_turn_seconds=1000.0)
    systemd.turned("idle", 0.0)
    systemd.turned("idle", 1000.0)
    assert manager.pending() == [["READY=1", "STATUS=idle"]]


def test_line_break_in_a_status_cannot_forge_another_message(manager: Manager, systemd: Systemd) -> None:
    systemd.turned("no link: nonsense\nSTOPPING=1", 0.0)
    assert "STOPPING=1" not in manager.heard()


def test_trainer_within_the_agent_gets_the_time_of_its_longest_order(manager: Manager) -> None:
    systemd = Systemd(manager.address, WATCHDOG_SECONDS, longest_turn_seconds=3600.0)
    systemd.turned("idle", 0.0)
    assert "WATCHDOG_USEC=3600000000" in manager.heard()


def test_what_was_not_delivered_is_told_by_the_next_turn(
    manager: Manager, systemd: Systemd, caplog: pytest.LogCaptureFixture
) -> None:
    away = Systemd(manager.address + "-away", WATCHDOG_SECONDS)
    with caplog.at_level(logging.WARNING):
        away.turned("idle", 0.0)
        away.turned("idle", 1.0)
    assert len(caplog.records) == 1, "said once, not every second"
    away._address = systemd._address
    away.turned("idle", 2.0)
    assert manager.heard() == ["READY=1", "STATUS=idle", "WATCHDOG=1"]


def watched_by(environment: dict[str, str]) -> Supervisor:
    return supervisor(environment, process=7)


@pytest.mark.parametrize("address", ["", "relative/path", "vsock:2:1234"])
def test_without_a_socket_of_this_machine_nobody_watches(address: str) -> None:
    assert isinstance(watched_by({"NOTIFY_SOCKET": address} if address else {}), Unsupervised)


@pytest.mark.parametrize(
    ("variables", "is_fed"),
    [
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "7"}, True),
        ({"WATCHDOG_USEC": "120000000"}, True),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "8"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({}, False),
    ],
)
def test_watchdog_is_fed_when_the_variables_mean_this_process(
    tmp_path: Path, variables: dict[str, str], is_fed: bool
) -> None:
    manager = Manager(f"@gradsieve-test-variables-{os.getpid()}")
    try:
        watched_by({"NOTIFY_SOCKET": manager.address, **variables}).turned("idle", 0.0)
        assert ("WATCHDOG=1" in manager.heard()) == is_fed
    finally:
        manager.close()


class Recorder:
    """A supervisor that keeps what it hears and ends the agent after some turns."""

    def __init__(self, stop: threading.Event, turns: int) -> None:
        self.statuses: list[str] = []
        self.ended = False
        self._stop, self._turns = stop, turns

    def turned(self, status: str, now: float) -> None:
        self.statuses.append(status)
        if len(self.statuses) >= self._turns:
            self._stop.set()

    def stopping(self) -> None:
        self.ended = True


class IdleTrainer:
    """Has nothing to do."""

    def submit(self, order: Order) -> None:
        raise AssertionError("no order was given")

    def poll(self) -> list[Answer]:
        return []

    def peak_rss_bytes(self) -> int:
        return 0

    def resident_bytes(self) -> int:
        return 0

    def close(self) -> None:
        pass


class WatchedTransport(MemoryTransport):
    """Notes, whenever the loop waits for an event, how many turns its supervisor has heard of."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(MemoryBroker(), "board-1")
        self.heard_turns: list[int] = []
        self._recorder = recorder

    def receive(self, timeout_seconds: float) -> TransportEvent | None:
        self.heard_turns.append(len(self._recorder.statuses))
        return super().receive(0.0)


def test_agent_tells_of_each_turn_once_it_is_done_and_of_its_end(tmp_path: Path) -> None:
    settings = EdgeSettings(
        name="board-1",
        data=tmp_path,
        state_dir=tmp_path / "state",
        trusted_signers=(SigningKey(bytes(32)).verify_key.hex,),
    )
    stop = threading.Event()
    recorder = Recorder(stop, turns=5)
    transport = WatchedTransport(recorder)
    Agent(settings, Outbox(settings.state_dir), transport, IdleTrainer(), supervisor=recorder).run(stop)
    assert transport.heard_turns == [0, 1, 2, 3, 4], "a turn that hangs in its wait is not told of"
    assert recorder.statuses[0] == "idle; no link: connecting"
    assert recorder.statuses[-1] == "idle"
    assert recorder.ended


def test_agent_whose_broker_is_away_is_ready_fed_and_says_why(manager: Manager, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "edge_client.main", "run", "--name", "board-1", "--broker", f"127.0.0.1:{port}"]
    command += ["--data", str(tmp_path / "data"), "--state", str(tmp_path / "state")]
    command += ["--trust", SigningKey(bytes(32)).verify_key.hex]
    address = manager.address if manager.address.startswith("@") else str(Path(manager.address).resolve())
    variables = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1e6))}
    with subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.DEVNULL) as agent:
        first = manager.heard()
        assert {"READY=1", "WATCHDOG=1"} <= set(first)
        status = next(line for line in first if line.startswith("STATUS="))
        while "refused the connection" not in status:
            status = next(line for line in manager.heard() if line.startswith("STATUS="))
        agent.send_signal(signal.SIGTERM)
        assert manager.heard()[0] == "STOPPING=1"
        assert agent.wait(WAIT_SECONDS) == 0
