"""A transport over a real MQTT 5 broker: a background thread makes one connection after another."""

import queue
import random
import ssl
import threading
import time
from collections.abc import Callable

from shared.errors import BrokerUnreachable, SettingsError
from shared.paho_link import PahoLink, not_connected
from shared.settings import BrokerSettings, TlsSettings
from shared.tcp_bytes import TcpBytes
from shared.transport import Connected, Disconnected, Publication, Refused, Traffic, Transport, TransportEvent

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 30.0
STABLE_SECONDS = 10.0
"""A connection that lasted this long ends the back-off."""
FLUSH_SECONDS = 2.0
JOIN_SECONDS = 1.0


class PahoTransport:
    """`Transport` through paho-mqtt; raises `SettingsError` when the TLS files cannot be used.

    Messages are acknowledged to the broker when `receive` hands them out, so a slow consumer slows its senders.
    What was in flight when a connection ended is gone without a `Refused` of its own: `Disconnected` speaks for it.
    """

    def __init__(self, settings: BrokerSettings, client_id: str, jitter: random.Random) -> None:
        self.traffic = Traffic()
        self._settings = settings.with_password()
        self._client_id = client_id
        self._jitter = jitter
        self._tls = tls_context(settings.tls) if settings.tls else None
        self._events: queue.SimpleQueue[tuple[TransportEvent, Callable[[], object] | None] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._lock = threading.Lock()  # guards the two fields below
        self._link: PahoLink | None = None
        self._finished_tcp_bytes = TcpBytes(0, 0)
        self._thread: threading.Thread | None = None

    def connect(self, will: Publication | None) -> None:
        """Begin connecting in the background; called once."""
        self._thread = threading.Thread(
            target=self._keep_connected, args=(will,), name=f"mqtt-{self._client_id}", daemon=True
        )
        self._thread.start()

    def publish(self, publication: Publication) -> None:
        """Send one message, at QoS 0 or 1."""
        link = self._link
        if link is None:
            self._deliver(Refused(publication.topic, not_connected(publication.topic, self._settings.address)))
        else:
            link.publish(publication)

    def subscribe(self, *filters: str) -> None:
        """Ask for topics; all filters travel in one packet."""
        link = self._link
        if link is not None and filters:
            link.subscribe(filters)
            return
        for topic in filters:
            self._deliver(Refused(topic, not_connected(topic, self._settings.address)))

    def unsubscribe(self, *filters: str) -> None:
        """Stop asking for topics; without a connection there is nothing to stop."""
        link = self._link
        if link is not None and filters:
            link.unsubscribe(filters)

    def receive(self, timeout_seconds: float) -> TransportEvent | None:
        """The next event, acknowledged to the broker by being taken."""
        try:
            item = self._events.get(timeout=max(0.0, timeout_seconds))
        except queue.Empty:
            return None
        if item is None:
            return None
        event, acknowledge = item
        if acknowledge is not None:
            acknowledge()
        return event

    def wake(self) -> None:
        """Make a blocked `receive` return None."""
        self._events.put(None)

    def close(self) -> None:
        """Disconnect cleanly within three seconds; what was published before is sent first, if the broker takes it."""
        self._closing.set()
        link = self._link
        if link is not None:
            link.leave(FLUSH_SECONDS)
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)

    def tcp_bytes(self) -> TcpBytes | None:
        """Bytes acknowledged by the peer and bytes received, over all connections, where the system tells."""
        with self._lock:
            current = self._link.tcp_bytes() if self._link else TcpBytes(0, 0)
            return _sum(self._finished_tcp_bytes, current) if current else None

    def _keep_connected(self, will: Publication | None) -> None:
        attempt = 0
        while not self._closing.is_set():
            started = time.monotonic()
            reason = self._connect_once(will)
            if self._closing.is_set():
                return
            self._deliver(Disconnected(reason))
            attempt = 0 if time.monotonic() - started >= STABLE_SECONDS else attempt + 1
            self._closing.wait(backoff_seconds(attempt, self._jitter))

    def _connect_once(self, will: Publication | None) -> str:
        link = PahoLink(
            self._settings, self._client_id, self._tls, will, self.traffic, self._deliver, self._events.qsize
        )
        with self._lock:
            self._link = link
        if self._closing.is_set():  # `close` may have come just before there was a link to leave
            return ""
        reason = link.run()
        with self._lock:
            self._link = None
            self._finished_tcp_bytes = _sum(self._finished_tcp_bytes, link.tcp_bytes() or TcpBytes(0, 0))
        return reason

    def _deliver(self, event: TransportEvent, acknowledge: Callable[[], object] | None = None) -> None:
        self._events.put((event, acknowledge))


def backoff_seconds(attempt: int, jitter: random.Random) -> float:
    """How long to wait after `attempt` short connections in a row: doubling, capped, and half of it random."""
    longest: float = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(attempt, 16))
    return longest * jitter.uniform(0.5, 1.0)


def wait_connected(transport: Transport, timeout_seconds: float, describe: str) -> Connected:
    """Take events until `Connected`; raises `BrokerUnreachable` naming the broker as `describe`, and the reason."""
    deadline = time.monotonic() + timeout_seconds
    reason = "no answer yet"
    while (left := deadline - time.monotonic()) > 0:
        match transport.receive(left):
            case Connected() as connected:
                return connected
            case Disconnected(why):
                reason = why
    raise BrokerUnreachable(f"{describe}: no connection within {timeout_seconds:g} s: {reason}")


def _sum(one: TcpBytes, other: TcpBytes) -> TcpBytes:
    return TcpBytes(one.acked_sent + other.acked_sent, one.received + other.received)


class _TidySocket(ssl.SSLSocket):
    """paho forgets a socket whose handshake failed; this one closes itself."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """What a connection to the broker goes by; raises `SettingsError` when a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:
        raise SettingsError(f"broker.tls.ca_file {tls.ca_file}: cannot be used: {error}") from error
    context.sslsocket_class = _TidySocket
    if tls.cert_file is not None and tls.key_file is not None:
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file)
        except OSError as error:
            raise SettingsError(
                f"broker.tls.cert_file {tls.cert_file} with key_file {tls.key_file}: cannot be used: {error}"
            ) from error
    return context
