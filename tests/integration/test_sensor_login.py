"""A sensor's broker that asks for TLS, a user name and a password: a real one, by the wiring of the agent's program."""

import datetime
import ipaddress
import logging
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge_client.data_settings import DataSourceSettings, SensorSettings
from edge_client.sample_ring import RING_FILE, read_samples, written_so_far
from edge_client.sensor_link import sensor_fed
from edge_client.settings import EdgeSettings
from shared.errors import SettingsError
from shared.paho_transport import PahoTransport
from shared.settings import BrokerSettings, TlsSettings
from shared.signing import SigningKey
from shared.transport import Connected, Publication

HOST, WAIT_SECONDS = "127.0.0.1", 10.0
KEY = SigningKey(bytes(range(32))).verify_key.hex


def program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(
        not (program("mosquitto") and program("mosquitto_passwd")), reason="mosquitto is not installed: apt install it"
    ),
]


def write_certificate(folder: Path) -> None:
    """`cert.pem`, signed by itself for 127.0.0.1, and its `key.pem`."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sensors")])
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))


@dataclass(frozen=True)
class Place:
    """A folder with the files of a guarded broker that listens at `port`."""

    folder: Path
    port: int

    def edge_settings(self, **changes: object) -> EdgeSettings:
        login = {
            "host": HOST,
            "port": self.port,
            "username": "board",
            "password_file": self.folder / "password",
            "tls": TlsSettings(ca_file=self.folder / "cert.pem"),
            "topic": "imu",
            "label_topic": "activity",
            "samples": 16,
        }
        sensor = SensorSettings.model_validate(login | changes)
        source = DataSourceSettings(kind="sensor", columns=("x",), sensor=sensor)
        return EdgeSettings(name="board-1", data=self.folder, data_source=source, trusted_signers=(KEY,))

    def sensor(self) -> PahoTransport:
        """The sensor itself, connected."""
        broker = BrokerSettings.model_validate(
            {
                "port": self.port,
                "username": "board",
                "password": "let me in",
                "tls": {"ca_file": self.folder / "cert.pem"},
            }
        )
        transport = PahoTransport(broker, "imu", random.Random(1))
        transport.connect(None)
        assert isinstance(transport.receive(WAIT_SECONDS), Connected)
        return transport


def wait_for(condition: Callable[[], bool], act: Callable[[], None] = lambda: None) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        act()
        time.sleep(0.02)


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1.0).close()
    except OSError:
        return False
    return True


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
    write_certificate(tmp_path)
    (tmp_path / "password").write_text("let me in\n")
    (tmp_path / "users").touch(0o600)
    command = [program("mosquitto_passwd") or "", "-b", str(tmp_path / "users"), "board", "let me in"]
    subprocess.run(command, check=True, capture_output=True)
    lines = [f"listener {port} {HOST}", "allow_anonymous false", f"password_file {tmp_path / 'users'}"]
    lines += [f"certfile {tmp_path / 'cert.pem'}", f"keyfile {tmp_path / 'key.pem'}", "user root", "log_dest none"]
    (tmp_path / "mosquitto.conf").write_text("\n".join([*lines, ""]))
    process = subprocess.Popen([program("mosquitto") or "", "-c", str(tmp_path / "mosquitto.conf")])
    try:
        wait_for(lambda: listens(port))
        yield Place(tmp_path, port)
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


def test_samples_come_over_tls_with_user_name_and_password_file(place: Place) -> None:
    ring, sensor = place.folder / RING_FILE, place.sensor()
    sensor.publish(Publication("activity", b"1", retain=True))
    with sensor_fed(place.edge_settings()):
        wait_for(lambda: written_so_far(ring) > 0, lambda: sensor.publish(Publication("imu", b"[7]")))
    sensor.close()
    assert {(sample.values, sample.label) for sample in read_samples(ring, 1)} == {((7.0,), 1)}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"username": "stranger"}, "rejected us: Not authorized"),
        ({"password_file": None, "password": "let me out"}, "rejected us: Not authorized"),
        ({"username": None, "password_file": None}, "rejected us: Not authorized"),
        ({"tls": None}, "with or without TLS as we are"),
    ],
)
def test_broker_that_does_not_let_us_in_is_told_with_the_reason(
    place: Place, changes: dict[str, object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), sensor_fed(place.edge_settings(**changes)):
        wait_for(lambda: "no link to the sensor's broker" in caplog.text)
    assert reason in caplog.text
    assert written_so_far(place.folder / RING_FILE) == 0


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"password_file": "absent"}, r"data_source\.sensor: password_file .*absent: cannot be read \(No such file"),
        ({"tls": {"ca_file": "absent"}}, r"data_source\.sensor: broker\.tls\.ca_file absent: cannot be used"),
    ],
)
def test_file_of_the_login_that_cannot_be_used_ends_the_program_and_is_named(
    place: Place, changes: dict[str, object], fault: str
) -> None:
    with pytest.raises(SettingsError, match=fault), sensor_fed(place.edge_settings(**changes)):
        pass
