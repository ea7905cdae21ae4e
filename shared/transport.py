"""The seam between protocol code and the thing that moves bytes: MQTT, or memory."""

from dataclasses import dataclass, field
from typing import Protocol

from shared.errors import TransportError


@dataclass(frozen=True, slots=True)
class Publication:
    """One message to publish; `qos` is 0 or 1 and never 2."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted us; subscriptions and retained state must be stated anew (clean start always)."""

    max_payload_bytes: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The link is down; the transport reconnects by itself with capped, jittered back-off."""

    reason: str


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker granted these filters."""

    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Received:
    """One message that arrived; `retained` is true for a message stored before we subscribed."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker or the transport would not carry a publication; it is gone, the caller's copy is not."""

    topic: str
    error: TransportError


TransportEvent = Connected | Disconnected | Subscribed | Received | Refused


@dataclass(slots=True)
class Traffic:
    """Bytes of whole MQTT PUBLISH packets (header, topic, packet id, payload), counted where they pass."""

    sent_bytes: int = 0
    received_bytes: int = 0
    sent_messages: int = 0
    received_messages: int = 0
    received_by_topic_bytes: dict[str, int] = field(default_factory=dict)


class Transport(Protocol):
    """Publish and subscribe with QoS 1 and an announced payload limit; one consumer thread calls `receive`.

    `publish`, `subscribe` and `unsubscribe` may be called from any thread, return at once, and never raise for the
    network: what goes wrong comes back as an event. Nothing is queued across a reconnect: after `Connected` both
    ends state themselves again, so whatever was published while disconnected is dropped and reported as `Refused`.
    """

    @property
    def traffic(self) -> Traffic:
        """What has passed so far."""

    def connect(self, will: Publication | None) -> None:
        """Begin connecting in the background, leaving `will` with the broker."""

    def publish(self, publication: Publication) -> None:
        """Send one message; `PayloadTooLarge` and denials come back as `Refused`."""

    def subscribe(self, *filters: str) -> None:
        """Ask for topics; `Subscribed` follows."""

    def unsubscribe(self, *filters: str) -> None:
        """Stop asking for topics."""

    def receive(self, timeout_seconds: float) -> TransportEvent | None:
        """The next event, or None when `timeout_seconds` passed without one."""

    def wake(self) -> None:
        """Make a blocked `receive` return None now; callable from any thread."""

    def close(self) -> None:
        """Disconnect cleanly, at most a few seconds; the will is not published."""


def publish_packet_bytes(topic: str, payload_bytes: int, qos: int) -> int:
    """Length of the MQTT 5 PUBLISH packet that carries this: header, topic, packet id, empty properties, payload."""
    remaining = 2 + len(topic.encode()) + (2 if qos else 0) + 1 + payload_bytes
    length_bytes = 1 + (remaining >= 1 << 7) + (remaining >= 1 << 14) + (remaining >= 1 << 21)
    return 1 + length_bytes + remaining
