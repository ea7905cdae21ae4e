"""What only the real client can get wrong, mostly against a scripted broker that misbehaves on purpose."""

import contextlib
import datetime
import ipaddress
import queue
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from coordinator.broker import DevBroker
from shared.errors import BrokerUnreachable, PublishRefused, SettingsError
from shared.paho_link import RECEIVE_MAXIMUM
from shared.paho_transport import LONGEST_DELAY_SECONDS, PahoTransport, backoff_seconds, wait_connected
from shared.settings import BrokerSettings, TlsSettings
from shared.transport import Connected, Disconnected, Publication, Received, Refused, Subscribed

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, DISCONNECT = 0x10, 0x30, 0x40, 0x80, 0xE0
JITTER = random.Random(1)
ACCEPT = bytes([0x20, 3, 0, 0, 0])
Packet = tuple[int, bytes]


class ScriptedBroker:
    """Takes one connection at a time, records packets, and answers with what `answer` returns; None hangs up."""

    def __init__(self, answer: Callable[[Packet], bytes | None], tls: ssl.SSLContext | None = None) -> None:
        self.packets: queue.SimpleQueue[Packet] = queue.SimpleQueue()
        self._answer = answer
        self._tls = tls
        self._link: socket.socket | None = None
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = self._server.accept()
                with contextlib.suppress(OSError), raw:
                    self._link = self._tls.wrap_socket(raw, server_side=True) if self._tls else raw
                    with self._link as link:
                        self._converse(link)

    def _converse(self, link: socket.socket) -> None:
        stream = link.makefile("rb")
        with stream:
            while head := stream.read(1):
                length = shift = 0
                while (byte := stream.read(1)[0]) & 0x80:
                    length |= (byte & 0x7F) << shift
                    shift += 7
                packet = (head[0], stream.read(length | byte << shift))
                self.packets.put(packet)
                answer = self._answer(packet)
                if answer is None:
                    return
                link.sendall(answer)

    def send(self, data: bytes) -> None:
        assert self._link is not None
        self._link.sendall(data)

    def next_packet(self, kind: int) -> bytes:
        """Body of the next packet of this kind; others before it are skipped."""
        while True:
            head, body = self.packets.get(timeout=5)
            if head & 0xF0 == kind:
                return body

    def close(self) -> None:
        for end in (self._server, self._link):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)


Script = Callable[..., tuple[ScriptedBroker, PahoTransport]]


@pytest.fixture
def script() -> Iterator[Script]:
    """Starts a scripted broker and a client that connects to it."""
    started: list[tuple[ScriptedBroker, PahoTransport]] = []

    def start(
        answer: Callable[[Packet], bytes | None], server_tls: ssl.SSLContext | None = None, **settings: object
    ) -> tuple[ScriptedBroker, PahoTransport]:
        broker = ScriptedBroker(answer, server_tls)
        transport = PahoTransport(BrokerSettings.model_validate({"port": broker.port, **settings}), "device", JITTER)
        started.append((broker, transport))
        transport.connect(None)
        return broker, transport

    yield start
    for broker, transport in started:
        transport.close()
        broker.close()


def accept_and_acknowledge(packet: Packet) -> bytes:
    head, body = packet
    if head == CONNECT:
        return ACCEPT
    if head & 0xF6 == PUBLISH | 2:
        topic_bytes = int.from_bytes(body[:2], "big")
        return bytes([PUBACK, 2]) + body[2 + topic_bytes : 4 + topic_bytes]
    return b""


def publish_packet(topic: bytes, packet_id: int | None) -> bytes:
    middle = b"" if packet_id is None else packet_id.to_bytes(2, "big")
    body = len(topic).to_bytes(2, "big") + topic + middle + b"\x00"
    return bytes([PUBLISH | (0 if packet_id is None else 2), len(body)]) + body


def wait_for(condition: Callable[[], bool]) -> None:
    """What happens in the transport's thread leaves no event to wait on."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "did not happen within 5 s"
        time.sleep(0.001)


def reason_of(transport: PahoTransport) -> str:
    event = transport.receive(5)
    assert isinstance(event, Disconnected), event
    return event.reason


def test_nobody_listening_is_reported_with_address_and_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    transport = PahoTransport(BrokerSettings(port=port), "device", JITTER)
    transport.connect(None)
    with pytest.raises(BrokerUnreachable) as caught:
        wait_connected(transport, 0.3, f"127.0.0.1:{port}")
    transport.close()
    assert str(caught.value) == (
        f"127.0.0.1:{port}: no connection within 0.3 s: "
        f"127.0.0.1:{port} refused the connection: is the broker running, and is broker.port right?"
    )


@pytest.mark.parametrize(
    ("connack", "expected"),
    [
        (bytes([0x20, 3, 0, 0x86, 0]), "rejected us: Bad user name or password: check broker.username"),
        (bytes([0x20, 3, 0, 0x87, 0]), "rejected us: Not authorized: check"),
        (bytes([0x20, 3, 0, 0x84, 0]), "rejected us: Unsupported protocol version: use the broker's MQTT 5 listener"),
        (bytes([0x20, 2, 0, 1]), "rejected us: Unsupported protocol version"),  # how MQTT 3.1.1 says the same
        (b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nServer: x\r\n" + bytes(99), "is it an MQTT"),
        (None, "closed the connection without an answer: is it an MQTT 5 listener"),
    ],
)
def test_refusal_to_connect_gives_a_readable_reason(script: Script, connack: bytes | None, expected: str) -> None:
    broker, transport = script(lambda packet: connack)
    reason = reason_of(transport)
    assert expected in reason
    assert f"127.0.0.1:{broker.port}" in reason


def test_silent_broker_is_given_up(script: Script) -> None:
    _, transport = script(lambda packet: b"", connect_timeout_seconds=0.1)
    assert "was silent for 0.1 s: is it an MQTT broker?" in reason_of(transport)


def test_connect_packet_states_clean_start_receive_maximum_and_login(script: Script) -> None:
    broker, transport = script(accept_and_acknowledge, username="me", password=SecretStr("secret"))
    body = broker.next_packet(CONNECT)
    assert body[:7] == b"\x00\x04MQTT\x05"
    assert body[7] == 0b1100_0010  # user name, password, clean start, no will
    assert b"\x21" + RECEIVE_MAXIMUM.to_bytes(2, "big") in body
    assert body.endswith(b"\x00\x02me\x00\x06secret")
    assert transport.receive(5) == Connected(268_435_455 - 1024)


def test_denied_publication_is_refused_and_unheard_one_is_not(script: Script) -> None:
    codes = iter([0x10, 0x87])

    def answer(packet: Packet) -> bytes:
        acknowledgement = accept_and_acknowledge(packet)
        if acknowledgement[:1] != bytes([PUBACK]):
            return acknowledgement
        return bytes([PUBACK, 4, *acknowledgement[2:4], next(codes), 0])

    _, transport = script(answer)
    assert isinstance(transport.receive(5), Connected)
    transport.publish(Publication("gs/unheard", b""))
    transport.publish(Publication("gs/denied", b""))
    event = transport.receive(5)
    assert isinstance(event, Refused)
    assert event.topic == "gs/denied"
    assert isinstance(event.error, PublishRefused)
    assert "Not authorized" in str(event.error)


def test_denied_filter_is_refused_and_the_others_are_granted(script: Script) -> None:
    def answer(packet: Packet) -> bytes:
        head, body = packet
        return bytes([0x90, 5, *body[:2], 0, 1, 0x87]) if head & 0xF0 == SUBSCRIBE else accept_and_acknowledge(packet)

    _, transport = script(answer)
    assert isinstance(transport.receive(5), Connected)
    transport.subscribe("gs/mine", "gs/other")
    assert transport.receive(5) == Subscribed(("gs/mine",))
    refused = transport.receive(5)
    assert isinstance(refused, Refused)
    assert refused.topic == "gs/other"
    assert isinstance(refused.error, PublishRefused)


def test_message_is_acknowledged_only_when_taken(script: Script) -> None:
    broker, transport = script(accept_and_acknowledge)
    assert isinstance(transport.receive(5), Connected)
    broker.send(publish_packet(b"gs/x", packet_id=7))
    wait_for(lambda: transport.traffic.received_messages == 1)
    transport.publish(Publication("gs/mark", b"", qos=0))
    assert broker.next_packet(PUBLISH)[2:9] == b"gs/mark"  # and no acknowledgement went before it
    assert transport.receive(5) == Received("gs/x", b"", retained=False)
    assert broker.next_packet(PUBACK)[:2] == b"\x00\x07"


def test_flood_of_unacknowledged_kind_is_bounded_and_leaves_room_for_qos_1(script: Script) -> None:
    broker, transport = script(accept_and_acknowledge)
    assert isinstance(transport.receive(5), Connected)
    broker.send(publish_packet(b"gs/flood", None) * 1000 + publish_packet(b"gs/wanted", 1))
    wait_for(lambda: "gs/wanted" in transport.traffic.received_by_topic_bytes)
    topics = []
    while isinstance(event := transport.receive(0), Received):
        topics.append(event.topic)
    assert topics == ["gs/flood"] * RECEIVE_MAXIMUM + ["gs/wanted"]


def test_unacknowledged_message_is_not_sent_again_after_reconnect(script: Script) -> None:
    hang_up = iter([ACCEPT, None])
    broker, transport = script(lambda packet: next(hang_up, accept_and_acknowledge(packet)))
    assert isinstance(transport.receive(5), Connected)
    for number in range(50):  # more than the window: paho would keep the rest for later
        transport.publish(Publication(f"gs/stale/{number}", b""))
    while not isinstance(event := transport.receive(5), Connected):
        assert isinstance(event, Disconnected | Refused)
    transport.publish(Publication("gs/fresh", b""))
    broker.next_packet(CONNECT)
    broker.next_packet(CONNECT)
    assert broker.next_packet(PUBLISH)[2:10] == b"gs/fresh"


def test_messages_that_never_left_are_not_counted(script: Script) -> None:
    silent_after_connect = iter([ACCEPT])
    broker, transport = script(lambda packet: next(silent_after_connect, b""))
    assert isinstance(transport.receive(5), Connected)
    for _ in range(50):
        transport.publish(Publication("gs/x", b""))
    broker.next_packet(PUBLISH)
    assert transport.traffic.sent_messages == 50
    broker.send(bytes([DISCONNECT, 2, 0x8B, 0]))
    assert reason_of(transport).endswith("ended the connection: Server shutting down")
    assert transport.traffic.sent_messages == 20


@pytest.mark.parametrize("garbage", [b"\x30\x02\xff\xff", b"\x90\x01\x00", b"\xff\xff\xff\xff\xff\xff", b"\x40\x00"])
def test_malformed_packets_end_the_connection_not_the_transport(script: Script, garbage: bytes) -> None:
    broker, transport = script(accept_and_acknowledge)
    assert isinstance(transport.receive(5), Connected)
    broker.send(garbage)
    assert reason_of(transport)
    assert isinstance(transport.receive(5), Connected)


def test_close_sends_what_was_published_then_a_clean_disconnect(script: Script) -> None:
    broker, transport = script(accept_and_acknowledge)
    assert isinstance(transport.receive(5), Connected)
    for number in range(100):
        transport.publish(Publication("gs/n", bytes([number])))
    transport.close()
    assert [broker.next_packet(PUBLISH)[-1] for _ in range(100)] == list(range(100))
    assert broker.next_packet(DISCONNECT) in (b"", b"\x00", b"\x00\x00")


def test_close_ends_within_three_seconds_when_the_broker_says_nothing(script: Script) -> None:
    answers = iter([ACCEPT])
    _, transport = script(lambda packet: next(answers, b""))
    assert isinstance(transport.receive(5), Connected)
    transport.publish(Publication("gs/x", b""))
    started = time.monotonic()
    transport.close()
    assert time.monotonic() - started < 3
    assert not [thread for thread in threading.enumerate() if thread.name == "mqtt-device"]


def test_close_before_connect_and_while_waiting_to_reconnect_returns() -> None:
    idle = PahoTransport(BrokerSettings(), "idle", JITTER)
    idle.close()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    retrying = PahoTransport(BrokerSettings(port=port), "retrying", JITTER)
    retrying.connect(None)
    assert isinstance(retrying.receive(5), Disconnected)
    retrying.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "mqtt-retrying"]


def test_back_off_doubles_to_a_cap_with_jitter() -> None:
    delays = [[backoff_seconds(attempt, JITTER) for _ in range(50)] for attempt in range(40)]
    assert all(0.1 <= delay <= 0.2 for delay in delays[0])
    assert all(0.4 <= delay <= 0.8 for delay in delays[2])
    assert all(LONGEST_DELAY_SECONDS / 2 <= delay <= LONGEST_DELAY_SECONDS for delay in delays[39])
    assert len(set(delays[39])) == 50


@pytest.fixture
def certificate(tmp_path: Path) -> TlsSettings:
    """A self-signed certificate for 127.0.0.1, used by both ends."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        built.not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return TlsSettings(ca_file=cert_file, cert_file=cert_file, key_file=key_file)


def server_tls(certificate: TlsSettings) -> ssl.SSLContext:
    assert certificate.cert_file is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert_file, certificate.key_file)
    context.load_verify_locations(certificate.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_mutual_tls_connects_and_carries_messages(script: Script, certificate: TlsSettings) -> None:
    broker, transport = script(accept_and_acknowledge, server_tls(certificate), tls=certificate)
    assert isinstance(transport.receive(5), Connected)
    transport.publish(Publication("gs/x", b"over TLS"))
    assert broker.next_packet(PUBLISH).endswith(b"over TLS")
    carried = transport.tcp_bytes()
    assert carried is None or min(carried) > 500  # the handshake counts


def test_missing_client_certificate_is_explained(script: Script, certificate: TlsSettings) -> None:
    _, transport = script(accept_and_acknowledge, server_tls(certificate), tls={"ca_file": certificate.ca_file})
    assert "does it trust our certificate?" in reason_of(transport)


def test_untrusted_broker_certificate_is_explained(script: Script, certificate: TlsSettings) -> None:
    _, transport = script(accept_and_acknowledge, server_tls(certificate), tls=certificate, host="localhost")
    assert "has a certificate we do not trust" in reason_of(transport)


def test_tls_to_a_plain_listener_is_explained(script: Script, certificate: TlsSettings) -> None:
    _, transport = script(lambda packet: b"not TLS at all", tls=certificate)
    assert "failed the TLS handshake" in reason_of(transport)


def test_unusable_certificate_files_are_named(tmp_path: Path, certificate: TlsSettings) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    for tls in (TlsSettings(ca_file=bad), certificate.model_copy(update={"key_file": bad})):
        with pytest.raises(SettingsError, match=r"bad\.pem.*cannot be used"):
            PahoTransport(BrokerSettings(tls=tls), "device", JITTER)


@pytest.mark.broker
def test_tcp_bytes_cover_the_traffic_over_all_connections() -> None:
    try:
        broker = DevBroker()
    except SettingsError as error:
        pytest.skip(str(error))
    with broker:
        transport = PahoTransport(broker.settings, "device", JITTER)
        transport.connect(None)
        wait_connected(transport, 5, broker.settings.address)
        transport.subscribe("gs/#")
        assert isinstance(transport.receive(5), Subscribed)
        transport.publish(Publication("gs/x", bytes(50_000)))
        assert isinstance(transport.receive(5), Received)
        before = transport.tcp_bytes()
        if before is None:
            pytest.skip("this system does not count TCP bytes")
        broker.restart()
        wait_connected(transport, 5, broker.settings.address)
        transport.close()
        after = transport.tcp_bytes()
    assert after is not None
    assert 50_000 < before.acked_sent < 51_000
    assert 50_000 < before.received < 51_000
    assert after.acked_sent > before.acked_sent
    assert after.received > before.received
