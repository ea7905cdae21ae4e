"""One MQTT 5 connection through paho-mqtt, from CONNECT to loss; a new connection is a new link.

paho resends on reconnect whatever it still holds. A link never reconnects, so nothing it held can arrive late.
"""

import functools
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MessageState, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.exception import MQTTException
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from shared import paho_reasons as reasons
from shared.errors import PayloadTooLarge, PublishRefused, TransportError
from shared.settings import BrokerSettings
from shared.tcp_bytes import TcpBytes, tcp_bytes
from shared.traffic import count_received, count_sent
from shared.transport import Connected, Publication, Received, Refused, Subscribed, Traffic, TransportEvent

if TYPE_CHECKING:
    from paho.mqtt.client import SocketLike  # exists for type checkers only

RECEIVE_MAXIMUM = 128
"""Most QoS 1 messages that may wait for the consumer; the broker holds back the rest."""
IN_FLIGHT_LIMIT = 20
"""Most QoS 1 messages sent and not acknowledged; what mosquitto takes unless told otherwise."""
OUTGOING_LIMIT = 10_000
PROTOCOL_LIMIT_BYTES = 268_435_455
SMALLEST_PAYLOAD_BYTES = 1024
"""With less, our own messages and chunks would not fit."""
PACKET_ALLOWANCE_BYTES = 1024
"""What header and topic may add to a payload within the broker's packet limit."""
LOOP_SECONDS = 1.0
MALFORMED = (MQTTException, ValueError, LookupError, struct.error)
"""What paho raises on bytes that are not MQTT."""

Deliver = Callable[[TransportEvent, Callable[[], object] | None], None]
"""Takes an event and what to call once the consumer has it."""


class PahoLink:
    """Connects, carries messages until the connection ends, and then says why it ended.

    `run` belongs to one thread and calls `deliver` from it; the other methods may be called from any thread.
    `waiting` tells how many events the consumer has not taken yet.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        tls: ssl.SSLContext | None,
        will: Publication | None,
        traffic: Traffic,
        deliver: Deliver,
        waiting: Callable[[], int],
    ) -> None:
        self.max_payload_bytes = 0
        self._tcp_at_close: TcpBytes | None = None
        self._settings = settings
        self._traffic = traffic
        self._deliver = deliver
        self._waiting = waiting
        self._accepted = False
        self._changed = threading.Condition()  # guards what follows, and the traffic; paho's callbacks may hold a lock
        self._connected = False  # that a publisher waits for, so only `_on_message` takes this one
        self._leaving = False
        self._end = ""
        self._deadline = 0.0
        self._published: dict[int, str] = {}
        self._asked: dict[int, tuple[str, ...]] = {}
        self._answers: deque[tuple[int, list[ReasonCode], bool]] = deque()
        self._client = self._new_client(client_id, tls, will)

    def _new_client(self, client_id: str, tls: ssl.SSLContext | None, will: Publication | None) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True)
        client.connect_timeout = self._settings.connect_timeout_seconds
        client.max_inflight_messages = IN_FLIGHT_LIMIT
        client.max_queued_messages = OUTGOING_LIMIT
        if tls is not None:
            client.tls_set_context(tls)
        if self._settings.username is not None:
            password = self._settings.password
            client.username_pw_set(self._settings.username, password.get_secret_value() if password else None)
        if will is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_socket_open = _send_at_once
        client.on_socket_close = self._count_tcp
        client.on_socket_register_write = _leave_writing_to_the_loop
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        return client

    def run(self) -> str:
        """Connect and serve until the connection ends; returns the reason, readable by an operator."""
        with self._explained():
            self._open()
            if not self._leaving:  # else CONNECT, still unsent, need not be followed by DISCONNECT
                self._serve()
        self._hang_up()
        return self._ending()

    def begin(self) -> str:
        """Connect for `turn`, in place of `run`; returns why that failed, or nothing."""
        with self._explained():
            self._open()
            return ""
        self._hang_up()
        return self._ending()

    def turn(self, readable: bool, writable: bool) -> str:
        """Do what the socket is ready for; returns why the connection ended, or nothing while it goes on."""
        with self._explained():
            if self._turned(readable, writable) and not self._is_overdue():
                return ""
        self._hang_up()
        return self._ending()

    def descriptor(self) -> int:
        """The socket's, for a selector."""
        open_socket = self._client.socket()
        return open_socket.fileno() if isinstance(open_socket, socket.socket) else -1

    def wants_to_write(self) -> bool:
        """Does something wait to be sent."""
        return bool(self._client.want_write())

    def _open(self) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        self._deadline = time.monotonic() + self._settings.connect_timeout_seconds
        self._client.connect(
            self._settings.host,
            self._settings.port,
            self._settings.keepalive_seconds,
            clean_start=True,
            properties=properties,
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what a connection ends by into words for an operator; the block ends there."""
        try:
            yield
        except OSError as error:
            self._end = reasons.unreachable(self._settings, error)
        except UnicodeError:
            self._end = reasons.unnamable(self._settings)
        except MALFORMED as error:
            self._end = reasons.foreign(self._settings, error)

    def _ending(self) -> str:
        return self._end or f"{self._settings.address} closed the connection"

    def _serve(self) -> None:
        while self._client.loop(LOOP_SECONDS) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._progress()
            if self._is_overdue():
                return

    def _turned(self, readable: bool, writable: bool) -> bool:
        codes = [self._client.loop_read()] if readable else []
        codes += [self._client.loop_write()] if writable else []
        if any(code != MQTTErrorCode.MQTT_ERR_SUCCESS for code in [*codes, self._client.loop_misc()]):
            return False
        self._progress()
        return True

    def _progress(self) -> None:
        if self._accepted and not self._connected:
            self._announce()
        self._settle()

    def _is_overdue(self) -> bool:
        if self._connected or time.monotonic() <= self._deadline:
            return False
        self._end = reasons.silent(self._settings)
        return True

    def _announce(self) -> None:
        with self._changed:
            self._connected = True
        self._deliver(Connected(self.max_payload_bytes), None)

    def publish(self, publication: Publication) -> None:
        """Send one message, or deliver its `Refused`."""
        error = self._try_publish(publication)
        if error is not None:
            self._deliver(Refused(publication.topic, error), None)

    def _try_publish(self, publication: Publication) -> TransportError | None:
        with self._changed:
            if not self._connected:
                return not_connected(publication.topic, self._settings.address)
            if len(publication.payload) > self.max_payload_bytes:
                return PayloadTooLarge(
                    f"{publication.topic}: {len(publication.payload)} bytes are above the {self.max_payload_bytes} "
                    f"that {self._settings.address} takes: send smaller chunks or raise the broker's max_packet_size"
                )
            info = self._client.publish(publication.topic, publication.payload, publication.qos, publication.retain)
            if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                return TransportError(
                    f"{publication.topic}: {OUTGOING_LIMIT} messages already wait to be sent: publish more slowly"
                )
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return not_connected(publication.topic, self._settings.address)
            if publication.qos:
                self._published[info.mid] = publication.topic
            count_sent(self._traffic, publication)
        return None

    def subscribe(self, filters: tuple[str, ...]) -> None:
        """Ask for topics; delivers `Subscribed`, and a `Refused` for each filter that is denied."""
        with self._changed:
            if self._connected:
                rc, mid = self._client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in filters])
                if rc == MQTTErrorCode.MQTT_ERR_SUCCESS and mid is not None:
                    self._asked[mid] = filters
                    return
        for topic in filters:
            self._deliver(Refused(topic, not_connected(topic, self._settings.address)), None)

    def unsubscribe(self, filters: tuple[str, ...]) -> None:
        """Stop asking for topics; without a connection there is nothing to stop."""
        with self._changed:
            if self._connected:
                self._client.unsubscribe(list(filters))

    def leave(self, flush_seconds: float) -> None:
        """Disconnect cleanly, after at most `flush_seconds` of waiting for the broker to have what was published."""
        with self._changed:
            self._leaving = True
            self._changed.wait_for(lambda: not (self._connected and self._published), flush_seconds)
        self._client.disconnect()

    def tcp_bytes(self) -> TcpBytes | None:
        """Acknowledged bytes sent, and bytes received, on this connection; None where the system does not tell."""
        open_socket = self._client.socket()
        if isinstance(open_socket, socket.socket):
            return tcp_bytes(open_socket) or self._tcp_at_close
        return self._tcp_at_close

    def _settle(self) -> None:
        """Deal with the broker's answers, outside paho's locks, under which they arrive."""
        while self._answers:
            mid, codes, is_suback = self._answers.popleft()
            with self._changed:
                filters = self._asked.pop(mid, ()) if is_suback else ()
                topic = None if is_suback else self._published.pop(mid, None)
                self._changed.notify_all()
            granted = tuple(name for name, code in zip(filters, codes, strict=False) if not code.is_failure)
            if granted:
                self._deliver(Subscribed(granted), None)
            for name, code in zip(filters if is_suback else (topic,), codes, strict=False):
                if name is not None and code.is_failure:
                    self._deliver(Refused(name, PublishRefused(reasons.denied(name, code, self._settings))), None)

    def _hang_up(self) -> None:
        with self._changed:
            self._connected = False
            for message in self._client.drop_out_messages():
                if message.state == MessageState.MQTT_MS_QUEUED:
                    unsent = Publication(message.topic, bytes(message.payload), message.qos)
                    count_sent(self._traffic, unsent, messages=-1)
            self._changed.notify_all()
        if isinstance(open_socket := self._client.socket(), socket.socket):
            self._tcp_at_close = tcp_bytes(open_socket)
            open_socket.close()
        client = self._client  # without callbacks it is not in a reference cycle, and frees its sockets at once
        client.on_socket_close = client.on_connect = client.on_disconnect = None
        client.on_message = client.on_publish = client.on_subscribe = None

    def _on_connect(
        self, client: Client, _: object, flags: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        if code.is_failure:
            self._end = reasons.rejected(self._settings, code)
            return
        packet_limit: int = getattr(properties, "MaximumPacketSize", PROTOCOL_LIMIT_BYTES)
        self.max_payload_bytes = min(packet_limit, PROTOCOL_LIMIT_BYTES) - PACKET_ALLOWANCE_BYTES
        if self.max_payload_bytes < SMALLEST_PAYLOAD_BYTES:
            self._end = reasons.cramped(self._settings, packet_limit, SMALLEST_PAYLOAD_BYTES + PACKET_ALLOWANCE_BYTES)
            client.disconnect()
            return
        self._accepted = True

    def _on_disconnect(
        self, client: Client, _: object, flags: DisconnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        if not self._end:
            self._end = reasons.lost(self._settings, code, flags.is_disconnect_packet_from_server, self._accepted)

    def _on_message(self, client: Client, _: object, message: MQTTMessage) -> None:
        take = functools.partial(client.ack, message.mid, message.qos)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # the broker should have refused it
        # QoS 0 is outside the receive maximum; a broker that ignores it must not fill our memory either
        if not topic or self._waiting() >= (4 * RECEIVE_MAXIMUM if message.qos else RECEIVE_MAXIMUM):
            take()
            return
        with self._changed:
            count_received(self._traffic, topic, len(message.payload), message.qos)
        self._deliver(Received(topic, bytes(message.payload), message.retain), take)

    def _on_publish(self, client: Client, _: object, mid: int, code: ReasonCode, properties: Properties | None) -> None:
        self._answers.append((mid, [code], False))

    def _on_subscribe(
        self, client: Client, _: object, mid: int, codes: list[ReasonCode], properties: Properties | None
    ) -> None:
        self._answers.append((mid, codes, True))

    def _count_tcp(self, client: Client, _: object, sock: "SocketLike") -> None:
        if isinstance(sock, socket.socket):
            self._tcp_at_close = tcp_bytes(sock)


def not_connected(topic: str, address: str) -> TransportError:
    """What a publication or subscription gets while there is no connection."""
    return TransportError(f"{topic}: not connected to {address}: try again after Connected")


def _send_at_once(client: Client, _: object, sock: "SocketLike") -> None:
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _leave_writing_to_the_loop(client: Client, _: object, sock: "SocketLike") -> None:
    """Having this callback keeps paho from writing in the publisher's thread while the loop's thread writes too."""
