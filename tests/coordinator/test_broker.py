import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator import broker as broker_module
from coordinator.broker import BrokerProgram, DevBroker
from shared.errors import BrokerUnreachable, SettingsError
from shared.paho_transport import PahoTransport, wait_connected
from shared.transport import Disconnected, Publication, Received, Subscribed

pytestmark = pytest.mark.broker

JITTER = random.Random(1)
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["mosquitto", "iotcore"])
def program(request: pytest.FixtureRequest) -> BrokerProgram:
    if request.param == "mosquitto":
        if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin") is None:
            pytest.skip("mosquitto is not installed")
        return "mosquitto"
    pytest.importorskip("iotcore")
    return "iotcore"


def listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_messages_pass_and_nothing_survives_a_restart(program: BrokerProgram) -> None:
    with DevBroker(program=program) as broker:
        client = PahoTransport(broker.settings, "a", JITTER)
        client.connect(None)
        wait_connected(client, 10, broker.settings.address)
        client.subscribe("gs/#")
        assert isinstance(client.receive(5), Subscribed)
        client.publish(Publication("gs/kept", bytes(70_000), retain=True))
        assert isinstance(client.receive(5), Received)
        first = broker.pid
        broker.restart()
        assert broker.pid not in (None, first)
        assert isinstance(client.receive(5), Disconnected)
        wait_connected(client, 10, broker.settings.address)
        client.subscribe("gs/#")
        assert isinstance(client.receive(5), Subscribed)
        client.publish(Publication("gs/end", b""))
        assert client.receive(5) == Received("gs/end", b"", retained=False)
        client.close()


def test_alive_tells_when_the_broker_was_killed(program: BrokerProgram) -> None:
    with DevBroker(program=program) as broker:
        assert broker.alive()
        pid = broker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert not broker.alive()
        assert broker.pid is None


def test_nothing_listens_after_the_block(program: BrokerProgram) -> None:
    with DevBroker(program=program) as broker:
        port = broker.settings.port
        assert listening(port)
    assert not listening(port)
    assert not broker.alive()


def test_broker_ends_when_its_owner_is_killed(program: BrokerProgram) -> None:
    code = (
        "import sys; from coordinator.broker import DevBroker; "
        "broker = DevBroker(program=sys.argv[1]); broker.start(); "
        "print(broker.pid, broker.settings.port, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid, port = map(int, owner.stdout.readline().split())
        ended = os.pidfd_open(pid)
        owner.kill()
    try:
        assert select.select([ended], [], [], 5)[0], "the broker still runs"
    finally:
        os.close(ended)
    assert not listening(port)


def test_taken_port_is_named(program: BrokerProgram) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port} on 127.0.0.1 cannot be used"):
            DevBroker(port, program).start()


def test_broker_that_ends_at_once_is_quoted(monkeypatch: pytest.MonkeyPatch, program: BrokerProgram) -> None:
    config = "MOSQUITTO_CONFIG" if program == "mosquitto" else "IOTCORE_CONFIG"
    monkeypatch.setattr(broker_module, config, "nonsense {host} {port} {max_packet_bytes}")
    with pytest.raises(BrokerUnreachable, match=rf"(?s){program} for 127.0.0.1:\d+ ended before it listened; .*broker"):
        DevBroker(program=program).start()


def test_without_any_broker_both_remedies_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Callable[..., None] = lambda *_, **__: None  # noqa: E731
    monkeypatch.setattr("coordinator.broker.shutil.which", nothing)
    monkeypatch.setattr("coordinator.broker.importlib.util.find_spec", nothing)
    with pytest.raises(SettingsError, match=r"apt install mosquitto.*pip install iotcore"):
        DevBroker()
