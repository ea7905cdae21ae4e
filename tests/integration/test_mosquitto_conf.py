"""The production broker: its shipped configuration is run as it is, with certificates made as its README says."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.errors import BrokerUnreachable, PublishRefused
from shared.paho_link import PACKET_ALLOWANCE_BYTES
from shared.paho_transport import PahoTransport, wait_connected
from shared.settings import BrokerSettings, TlsSettings
from shared.topics import Topics
from shared.transport import Disconnected, Publication, Received, Refused, Subscribed, TransportEvent

DEPLOY = Path(__file__).parents[2] / "deploy" / "mosquitto"
INSTALLED = "/etc/mosquitto/gradsieve"
HOST = "localhost"
TOPICS = Topics()
WAIT_SECONDS = 10.0


def _mosquitto() -> str | None:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(_mosquitto() is None, reason="mosquitto is not installed: apt install mosquitto"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed: apt install openssl"),
]


class Authority:
    """Runs the commands that the README gives, word for word."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ca"
        self._readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
        self._run("certificates", folder, BROKER=HOST)

    def issue(self, name: str) -> None:
        self._run("client", self.folder, NAME=name)

    def revoke(self, name: str) -> None:
        self._run("revoke", self.folder, NAME=name)

    def _run(self, block: str, folder: Path, **variables: str) -> None:
        found = re.search(rf"```sh {block}\n(.*?)```", self._readme, re.DOTALL)
        assert found, f"the README has no commands for {block}"
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", found[1]], cwd=folder, env=os.environ | variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


class Broker:
    """mosquitto with the shipped files; nothing but its paths, port, address and user differ from production."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.authority = authority
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self._installed = folder / "installed"
        self._installed.mkdir()
        for file in (DEPLOY / "acl", *(authority.folder / name for name in ("ca.crt", "broker.crt", "broker.key"))):
            shutil.copy(file, self._installed)
        self.install_revocations()
        text = (DEPLOY / "mosquitto.conf").read_text(encoding="utf-8")
        for shipped, here in (
            (INSTALLED, str(self._installed)),
            ("listener 8883", f"listener {self.port} 127.0.0.1"),
            ("/var/lib/mosquitto/", f"{folder}/"),
        ):
            assert shipped in text
            text = text.replace(shipped, here)
        config = folder / "mosquitto.conf"
        config.write_text(f"{text}\nuser root\n" if os.geteuid() == 0 else text)
        self.log = folder / "mosquitto.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen([_mosquitto() or "", "-c", str(config)], stdout=log, stderr=log)

    def install_revocations(self) -> None:
        shutil.copy(self.authority.folder / "ca.crl", self._installed)

    def reload(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(WAIT_SECONDS)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("broker")
    authority = Authority(folder)
    for name in ("coordinator", "board-1", "board-2", "board-3"):
        authority.issue(name)
    started = Broker(folder, authority)
    try:
        yield started
    finally:
        started.stop()


@contextmanager
def client(
    broker: Broker, certificate: str | None, client_id: str, folder: Path | None = None
) -> Iterator[PahoTransport]:
    """A transport with a certificate of the fleet's authority, or of another folder."""
    own = folder or broker.authority.folder
    tls = TlsSettings(
        ca_file=broker.authority.folder / "ca.crt",
        cert_file=own / f"{certificate}.crt" if certificate else None,
        key_file=own / f"{certificate}.key" if certificate else None,
    )
    settings = BrokerSettings(host=HOST, port=broker.port, tls=tls, connect_timeout_seconds=5.0)
    transport = PahoTransport(settings, client_id, random.Random(0))
    transport.connect(None)
    try:
        yield transport
    finally:
        transport.close()


@contextmanager
def online(broker: Broker, name: str, client_id: str | None = None) -> Iterator[PahoTransport]:
    with client(broker, name, client_id or name) as transport:
        wait_connected(transport, WAIT_SECONDS, name)
        yield transport


def first(transport: PahoTransport, wanted: Callable[[TransportEvent], bool]) -> TransportEvent:
    deadline = time.monotonic() + WAIT_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        event = transport.receive(left)
        if event is not None and wanted(event):
            return event
    raise AssertionError("nothing of that kind came")


def subscribe(transport: PahoTransport, *filters: str) -> None:
    transport.subscribe(*filters)
    first(transport, lambda event: isinstance(event, Subscribed))


def refusal(broker: Broker, certificate: str | None, folder: Path | None = None) -> str:
    """Why a client could not connect; fails if it could."""
    with client(broker, certificate, "stranger", folder) as transport:
        event = first(transport, lambda event: True)
        assert isinstance(event, Disconnected), event
        return event.reason


def test_device_and_coordinator_hear_each_other(broker: Broker) -> None:
    with online(broker, "coordinator", "coordinator-5f2a91c0d3e4") as coordinator, online(broker, "board-1") as board:
        subscribe(coordinator, TOPICS.all_uplinks())
        subscribe(board, TOPICS.command("board-1"), TOPICS.coordinator_state())
        board.publish(Publication(TOPICS.upload("board-1"), b"update"))
        assert first(coordinator, lambda event: True) == Received(TOPICS.upload("board-1"), b"update", False)
        coordinator.publish(Publication(TOPICS.command("board-1"), b"command"))
        coordinator.publish(Publication(TOPICS.coordinator_state(), b"state", retain=True))
        assert first(board, lambda event: True) == Received(TOPICS.command("board-1"), b"command", False)
        assert first(board, lambda event: True) == Received(TOPICS.coordinator_state(), b"state", False)


def test_device_publishes_under_its_own_name_only(broker: Broker) -> None:
    with online(broker, "board-1") as board:
        for topic in (TOPICS.upload("board-2"), TOPICS.command("board-1"), TOPICS.coordinator_state()):
            board.publish(Publication(topic, b"forged", retain=True))
            event = first(board, lambda event: isinstance(event, Refused))
            assert isinstance(event, Refused)
            assert isinstance(event.error, PublishRefused)
            assert event.topic == topic


def test_coordinator_cannot_speak_for_a_device(broker: Broker) -> None:
    with online(broker, "coordinator") as coordinator:
        coordinator.publish(Publication(TOPICS.upload("board-1"), b"forged"))
        event = first(coordinator, lambda event: isinstance(event, Refused))
        assert isinstance(event, Refused)
        assert isinstance(event.error, PublishRefused)


def test_device_reads_its_own_commands_and_no_others(broker: Broker) -> None:
    with online(broker, "coordinator") as coordinator, online(broker, "board-1") as board:
        subscribe(board, TOPICS.command("board-2"), TOPICS.all_uplinks(), TOPICS.command("board-1"))
        for topic in (TOPICS.command("board-2"), TOPICS.command("board-1")):
            coordinator.publish(Publication(topic, b"command"))
        event = first(board, lambda event: isinstance(event, Received))
        assert isinstance(event, Received)
        assert event.topic == TOPICS.command("board-1"), "the broker keeps the order, so the other one was not sent"


def test_foreign_client_id_takes_no_session(broker: Broker) -> None:
    with online(broker, "board-1") as board, online(broker, "board-2", client_id="board-1"):
        subscribe(board, TOPICS.command("board-1"))
        with online(broker, "coordinator") as coordinator:
            coordinator.publish(Publication(TOPICS.command("board-1"), b"command"))
            assert isinstance(first(board, lambda event: True), Received)


def test_second_coordinator_takes_over_whatever_its_epoch(broker: Broker) -> None:
    with online(broker, "coordinator", "coordinator-a") as one, online(broker, "coordinator", "coordinator-b"):
        assert isinstance(first(one, lambda event: True), Disconnected)
    assert b"Client coordinator already connected, closing old connection" in broker.log.read_bytes()


def test_broker_announces_its_packet_limit(broker: Broker) -> None:
    with client(broker, "board-1", "board-1") as board:
        connected = wait_connected(board, WAIT_SECONDS, "board-1")
        assert connected.max_payload_bytes == 262_144 - PACKET_ALLOWANCE_BYTES


def test_client_without_certificate_is_refused(broker: Broker) -> None:
    assert "does it trust our certificate" in refusal(broker, None)


def test_stranger_with_a_device_name_is_refused(broker: Broker, tmp_path: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
    command += ["-subj", "/CN=board-1", "-keyout", str(tmp_path / "board-1.key"), "-out", str(tmp_path / "board-1.crt")]
    subprocess.run(command, check=True, capture_output=True)
    assert refusal(broker, "board-1", tmp_path)


def test_client_without_tls_is_refused(broker: Broker) -> None:
    plain = PahoTransport(BrokerSettings(host=HOST, port=broker.port), "board-1", random.Random(0))
    plain.connect(None)
    try:
        with pytest.raises(BrokerUnreachable):
            wait_connected(plain, 1.0, "plain")
    finally:
        plain.close()


def test_revoked_device_is_refused_after_a_reload(broker: Broker) -> None:
    with online(broker, "board-3"):
        pass
    broker.authority.revoke("board-3")
    broker.install_revocations()
    broker.reload()
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_refused(broker, "board-3"):  # the broker reloads when it comes to it
        assert time.monotonic() < deadline, "a revoked certificate is still accepted"
    with online(broker, "board-1"):
        pass


def is_refused(broker: Broker, name: str) -> bool:
    with client(broker, name, name) as transport:
        return isinstance(first(transport, lambda event: True), Disconnected)
