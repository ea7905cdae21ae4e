"""`gradsieve-edge doctor` against real brokers, good ones and each kind of bad one, with and without a coordinator."""

import json
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator.link import Link
from coordinator.publisher import Publisher
from edge_client.doctor import mqtt, rehearsal
from edge_client.doctor.finding import Finding
from edge_client.main import main
from shared.folder_lock import folder_lock
from shared.messages import Evaluated, Trouble
from shared.paho_transport import PahoTransport
from shared.receiver import Receiver
from shared.settings import BrokerSettings
from shared.signing import SigningKey
from shared.spool import MemorySpool
from shared.topics import Topics
from shared.verdicts import Ruling, Verdict

HOST = "127.0.0.1"
WAIT_SECONDS = 10.0
TRAINING, DATA = rehearsal.training, rehearsal.data
NAME, PASSWORD = "board-1", "secret of board-1"
KEY = SigningKey(bytes(32))
ACL = (Path(__file__).parents[2] / "deploy" / "mosquitto" / "acl").read_text(encoding="utf-8")
FREE = "allow_anonymous true"

Findings = dict[str, tuple[str, str]]
"""Mark, and text with remedy, of the worst finding of each check."""


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(_program("mosquitto") is None, reason="mosquitto is not installed: apt install mosquitto"),
]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come is not waited for as long as on a slow link, and only one test rehearses the training."""
    monkeypatch.setattr(mqtt, "STATE_SECONDS", 1.0)
    monkeypatch.setattr(mqtt, "ANSWER_SECONDS", 2.0)
    for name in ("training", "data"):
        monkeypatch.setattr(rehearsal, name, lambda *_, check=name: [Finding.ok(check, "not rehearsed here")])


@dataclass
class Place:
    """A folder with data for a device, where brokers can be started and the doctor called."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @contextmanager
    def broker(self, *lines: str) -> Iterator[int]:
        """mosquitto with these lines below its listener's; gives the port."""
        port = free_port()
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join([f"listener {port} {HOST}", *lines, "user root", "log_dest none", ""]))
        process = subprocess.Popen([_program("mosquitto") or "", "-c", str(config)])
        try:
            await_listener(port)
            yield port
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)

    def guarded(self, acl: str = ACL) -> tuple[str, ...]:
        """Lines of a broker that asks for passwords and has access rules."""
        if _program("mosquitto_passwd") is None:
            pytest.skip("mosquitto_passwd is not installed: apt install mosquitto")
        passwords = self.folder / "passwords"
        passwords.touch(0o600)
        for user, password in ((NAME, PASSWORD), ("coordinator", "secret of the coordinator")):
            command = [_program("mosquitto_passwd") or "", "-b", str(passwords), user, password]
            subprocess.run(command, check=True, capture_output=True)
        (self.folder / "acl").write_text(acl)
        (self.folder / "acl").chmod(0o600)
        return "allow_anonymous false", f"password_file {passwords}", f"acl_file {self.folder / 'acl'}"

    def examine(self, port: int, code: int, name: str = NAME, **variables: str) -> Findings:
        """What the doctor finds at a broker's port, when it ends with `code`."""
        for key, value in variables.items():
            self.monkeypatch.setenv(f"GRADSIEVE_EDGE_{key}", value)
        arguments = ["doctor", "--json", "--name", name, "--broker", f"{HOST}:{port}", "--trust", KEY.verify_key.hex]
        arguments += ["--data", str(self.folder / "data"), "--state", str(self.state)]
        self.capsys.readouterr()
        ended_with = main(arguments)
        told = json.loads(self.capsys.readouterr().out)
        assert (ended_with, told["ok"]) == (code, code == 0), told
        order = ["fail", "warn", "skip", "ok"]
        found = sorted(told["findings"], key=lambda finding: order.index(finding["mark"]), reverse=True)
        assert all(entry["remedy"] for entry in found if entry["mark"] in ("warn", "fail")), found
        return {entry["check"]: (entry["mark"], f"{entry['text']}: {entry['remedy']}") for entry in found}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Place:
    (tmp_path / "data").mkdir()
    for label in range(2):
        np.savez(tmp_path / "data" / f"{label}.npz", x=np.ones((9, 2), np.float32), y=np.int64(label))
    return Place(tmp_path, monkeypatch, capsys)


def free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def await_listener(port: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return socket.create_connection((HOST, port), 1.0).close()
        except OSError:
            assert time.monotonic() < deadline, "mosquitto did not begin to listen"
            time.sleep(0.02)


class Handler:
    """A coordinator without a run."""

    def on_upload(self, device: str, content: bytes) -> Ruling:
        return Ruling(Verdict.RETRY_AFTER)

    def on_birth(self, device: str) -> None:
        pass

    def on_event(self, device: str, event: Evaluated | Trouble) -> None:
        pass

    def on_complaint(self, text: str) -> None:
        raise AssertionError(f"the doctor made the coordinator complain: {text}")


@contextmanager
def coordinator(port: int, key: SigningKey = KEY, username: str | None = None) -> Iterator[Link]:
    """The coordinator's own link, online."""
    values = {"username": username, "password": "secret of the coordinator"} if username else {}
    settings = BrokerSettings.model_validate({"host": HOST, "port": port, **values})
    transport = PahoTransport(settings, "coordinator", random.Random(0))
    topics = Topics()
    link = Link(
        transport,
        topics,
        Publisher(transport, topics, key, "epoch", chunk_bytes=2048),
        Receiver(1 << 16, 1 << 18, MemorySpool()),
        random.Random(1).random,
    )
    link.start(Handler())
    try:
        assert link.wait_until(lambda: link.connected is not None, WAIT_SECONDS)
        yield link
    finally:
        link.close()


def test_all_is_well_with_access_rules_and_a_coordinator(place: Place) -> None:
    place.monkeypatch.setattr(rehearsal, "training", TRAINING)
    place.monkeypatch.setattr(rehearsal, "data", DATA)
    with place.broker(*place.guarded()) as port, coordinator(port, username="coordinator"):
        found = place.examine(port, 0, BROKER__USERNAME=NAME, BROKER__PASSWORD=PASSWORD)
    for check in ("settings", "keys", "broker", "MQTT", "packet size", "access", "round trip"):
        assert found[check][0] == "ok", found[check]
    assert "signed answer came" in found["round trip"][1]
    assert "2 recordings of 2 classes" in found["data"][1]
    assert "came out right" in found["training"][1]


def test_policy_that_is_no_policy_is_told(place: Place) -> None:
    (place.folder / "policy.toml").write_text("generosity = 3")
    found = place.examine(free_port(), 1, POLICY=str(place.folder / "policy.toml"))
    assert found["policy"][0] == "fail"
    assert "generosity" in found["policy"][1]


def test_broker_without_access_rules_is_warned_of(place: Place) -> None:
    with place.broker(FREE) as port:
        found = place.examine(port, 0)
    assert found["access"][0] == "warn"
    assert "deploy/mosquitto/acl" in found["access"][1]
    assert found["round trip"][0] == "skip", "no coordinator is there to answer"


def test_wrong_port_is_named_and_what_depends_on_it_skipped(place: Place) -> None:
    port = free_port()
    found = place.examine(port, 1)
    assert found["broker"][0] == "fail"
    assert f"{HOST}:{port} refused the connection" in found["broker"][1]
    assert {found[check][0] for check in mqtt.EXAMINED} == {"skip"}
    assert found["training"][0] == "ok", "what does not need the broker is examined all the same"


def test_wrong_password_is_told(place: Place) -> None:
    with place.broker(*place.guarded()) as port:
        found = place.examine(port, 1, BROKER__USERNAME=NAME, BROKER__PASSWORD=PASSWORD[1:])
    assert found["MQTT"][0] == "fail"
    assert "broker.password" in found["MQTT"][1]
    assert PASSWORD not in str(found)


def test_name_that_the_access_rules_do_not_know_may_not_publish(place: Place) -> None:
    with place.broker(*place.guarded()) as port:
        found = place.examine(port, 1, name="board-2", BROKER__USERNAME=NAME, BROKER__PASSWORD=PASSWORD)
    assert found["access"][0] == "fail"
    assert "gs/v1/up/board-2/hb (Not authorized)" in found["access"][1]


@pytest.mark.parametrize(
    ("line", "mark", "topic"),
    [
        ("pattern read gs/v1/down/%u/#", "fail", f"gs/v1/down/{NAME}/cmd"),
        ("pattern read gs/v1/pub/#", "warn", "gs/v1/pub/coord/state"),
    ],
)
def test_right_to_read_that_is_missing_shows_by_what_does_not_come(
    place: Place, line: str, mark: str, topic: str
) -> None:
    assert line in ACL
    lines = place.guarded(ACL.replace(line, ""))
    with place.broker(*lines) as port, coordinator(port, username="coordinator"):
        code = 1 if mark == "fail" else 0
        found = place.examine(port, code, BROKER__USERNAME=NAME, BROKER__PASSWORD=PASSWORD)
    assert found["access"][0] == "ok", "the broker grants the subscription all the same"
    assert found["round trip"][0] == mark
    assert topic in found["round trip"][1]


def test_coordinator_of_another_key_is_not_believed(place: Place) -> None:
    with place.broker(FREE) as port, coordinator(port, SigningKey(b"o" * 32)):
        found = place.examine(port, 1)
    assert found["round trip"][0] == "fail"
    assert "signed by another key" in found["round trip"][1]


@pytest.mark.parametrize(("limit_bytes", "mark"), [(1500, "fail"), (20_000, "warn"), (50_000, "ok"), (262_144, "ok")])
def test_packet_limit_is_compared_with_what_transfers_need(place: Place, limit_bytes: int, mark: str) -> None:
    with place.broker(FREE, f"max_packet_size {limit_bytes}") as port:
        found = place.examine(port, int(mark == "fail"))
    assert found["packet size"][0] == mark
    assert f"{limit_bytes} bytes" in found["packet size"][1]


def test_client_that_runs_is_not_thrown_off_the_broker(place: Place) -> None:
    with place.broker(FREE) as port, folder_lock(place.state):
        running = PahoTransport(BrokerSettings(host=HOST, port=port), NAME, random.Random(0))
        running.connect(None)
        try:
            found = place.examine(port, 0)
            assert "the client runs (process" in found["MQTT"][1]
            assert running.receive(WAIT_SECONDS) is not None
            assert running.receive(0.2) is None, "it was disconnected"
        finally:
            running.close()


def test_examination_leaves_nothing_in_the_state_folder(place: Place) -> None:
    with place.broker(FREE) as port:
        place.examine(port, 0)
    assert not place.state.exists()


@contextmanager
def listener(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """A TCP server that is no broker: it accepts connections, and answers as it will."""
    with socket.create_server((HOST, 0)) as server:
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                held.append(connection)
                answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for connection in held:
                connection.close()


def test_server_that_is_silent_is_not_waited_for_for_ever(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "STEP_SECONDS", 0.5)
    with listener(lambda connection: None) as port:
        found = place.examine(port, 1)
    assert found["MQTT"][0] == "fail"
    assert "is it an MQTT broker?" in found["MQTT"][1]


def test_server_of_another_protocol_is_told_from_a_broker(place: Place) -> None:
    place.monkeypatch.setattr(mqtt, "STEP_SECONDS", 2.0)
    with listener(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        found = place.examine(port, 1)
    assert found["MQTT"][0] == "fail"
    assert f"{HOST}:{port}" in found["MQTT"][1]


class Authority:
    """Issues certificates of any dates, which `openssl ca` does not like to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
        self._issue("ca", self._key, self._name, timedelta(-9), timedelta(900), authority=True)

    def issue(self, name: str, begins: timedelta = timedelta(-2), ends: timedelta = timedelta(90)) -> None:
        """`name.crt` and `name.key`, good between two times from now."""
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._issue(name, ec.generate_private_key(ec.SECP256R1()), subject, begins, ends, authority=False)

    def variables(self, own: str = NAME) -> dict[str, str]:
        files = {"CA_FILE": "ca.crt", "CERT_FILE": f"{own}.crt", "KEY_FILE": f"{own}.key"}
        return {f"BROKER__TLS__{key}": str(self._folder / file) for key, file in files.items()}

    def listener(self) -> tuple[str, ...]:
        """Lines of a broker that asks for a certificate and goes by its common name."""
        files = {"cafile": "ca.crt", "certfile": "broker.crt", "keyfile": "broker.key"}
        lines = [f"{key} {self._folder / file}" for key, file in files.items()]
        return (*lines, "require_certificate true", "use_identity_as_username true", "allow_anonymous false")

    def _issue(
        self,
        file: str,
        key: ec.EllipticCurvePrivateKey,
        subject: x509.Name,
        begins: timedelta,
        ends: timedelta,
        authority: bool,
    ) -> None:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now + begins).not_valid_after(now + ends)
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        host = x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))])
        certificate = builder.add_extension(host, critical=False).sign(self._key, hashes.SHA256())
        (self._folder / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        (self._folder / f"{file}.key").touch(0o600)
        (self._folder / f"{file}.key").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    for name in ("broker", NAME):
        authority.issue(name)
    return authority


def test_certificates_of_both_ends_are_told_with_their_last_day(place: Place, authority: Authority) -> None:
    with place.broker(*authority.listener()) as port:
        found = place.examine(port, 0, **authority.variables())
    day = f"{datetime.now(UTC) + timedelta(90):%Y-%m-%d}"
    assert found["certificate"] == ("ok", f"{place.folder / NAME}.crt is {NAME}'s, until {day}: ")
    assert found["TLS"][0] == "ok"
    assert day in found["TLS"][1]
    assert found["MQTT"][0] == "ok"


@pytest.mark.parametrize(
    ("begins", "ends", "mark", "words"),
    [
        (timedelta(-9), timedelta(-1), "fail", "set the clock, or have the broker's certificate renewed"),
        (timedelta(1), timedelta(9), "fail", "set the clock, or have the broker's certificate renewed"),
        (timedelta(-9), timedelta(9), "warn", "the broker's certificate ends on"),
    ],
)
def test_broker_certificate_out_of_its_dates_is_told(
    place: Place, authority: Authority, begins: timedelta, ends: timedelta, mark: str, words: str
) -> None:
    authority.issue("broker", begins, ends)
    with place.broker(*authority.listener()) as port:
        found = place.examine(port, int(mark == "fail"), **authority.variables())
    assert found["TLS"][0] == mark
    assert words in found["TLS"][1]
    assert found["MQTT"][0] == ("skip" if mark == "fail" else "ok")


def test_broker_of_another_authority_is_not_trusted(place: Place, authority: Authority, tmp_path: Path) -> None:
    with place.broker(*authority.listener()) as port:
        (tmp_path / "elsewhere").mkdir()
        Authority(tmp_path / "elsewhere")
        variables = authority.variables() | {"BROKER__TLS__CA_FILE": str(tmp_path / "elsewhere" / "ca.crt")}
        found = place.examine(port, 1, **variables)
    assert found["TLS"][0] == "fail"
    assert "broker.tls.ca_file" in found["TLS"][1]


@pytest.mark.parametrize(
    ("begins", "ends", "words"),
    [(timedelta(-9), timedelta(-1), "have a new one issued"), (timedelta(1), timedelta(9), "set the clock")],
)
def test_own_certificate_out_of_its_dates_is_told_before_the_broker_is_asked(
    place: Place, authority: Authority, begins: timedelta, ends: timedelta, words: str
) -> None:
    authority.issue(NAME, begins, ends)
    with place.broker(*authority.listener()) as port:
        found = place.examine(port, 1, **authority.variables())
    assert found["certificate"][0] == "fail"
    assert words in found["certificate"][1]
    assert found["MQTT"][0] == "skip"


def test_certificate_of_another_name_is_warned_of(place: Place, authority: Authority) -> None:
    authority.issue("board-2")
    with place.broker(*authority.listener()) as port:
        found = place.examine(port, 0, **authority.variables("board-2"))
    assert found["certificate"][0] == "warn"
    assert f"board-2.crt is for board-2 and this board is {NAME}" in found["certificate"][1]


def test_key_that_everybody_can_read_is_warned_of(place: Place, authority: Authority) -> None:
    (place.folder / f"{NAME}.key").chmod(0o644)
    with place.broker(*authority.listener()) as port:
        found = place.examine(port, 0, **authority.variables())
    assert "chmod o=" in found["certificate"][1]


def test_key_of_another_certificate_is_refused(place: Place, authority: Authority) -> None:
    authority.issue("board-2")
    files = authority.variables() | {"BROKER__TLS__KEY_FILE": str(place.folder / "board-2.key")}
    found = place.examine(free_port(), 1, **files)
    assert found["certificate"][0] == "fail"
    assert "key_file" in found["certificate"][1]


def test_tls_asked_of_a_listener_without_is_told(place: Place, authority: Authority) -> None:
    with place.broker(FREE) as port:
        found = place.examine(port, 1, BROKER__CONNECT_TIMEOUT_SECONDS="2", **authority.variables())
    assert found["TLS"][0] == "fail"
