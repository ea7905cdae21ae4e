"""A broker and its clients within one process: for tests, and for fleets of thousands of emulated devices."""

import queue
import threading
import zlib
from dataclasses import dataclass

from shared.errors import PayloadTooLarge, PublishRefused, TransportError
from shared.topic_tree import TopicTree
from shared.traffic import count_received, count_sent
from shared.transport import (
    Connected,
    Disconnected,
    Publication,
    Received,
    Refused,
    Subscribed,
    Traffic,
    TransportEvent,
)


@dataclass(frozen=True, slots=True)
class Faults:
    """Probabilities, for each publication, that its sender loses the connection, that it arrives twice or is refused.

    What happens to the n-th publication of a client depends on `seed`, client id and n alone, not on threads.
    """

    disconnect: float = 0.0
    duplicate: float = 0.0
    refuse: float = 0.0
    seed: int = 0

    def draw(self, client_id: str, index: int) -> str | None:
        """The fault that meets this publication: `disconnect`, `duplicate`, `refuse` or none."""
        chance = zlib.crc32(f"{self.seed}/{client_id}/{index}".encode()) / 2**32
        for fault, probability in (("disconnect", self.disconnect), ("duplicate", self.duplicate)):
            if chance < probability:
                return fault
            chance -= probability
        return "refuse" if chance < self.refuse else None


class MemoryBroker:
    """Topics with wildcards, retained messages and wills, as an MQTT 5 broker has them; loses all when stopped.

    A client that leaves more than `queue_limit` events untaken loses further messages, as behind a real broker.
    """

    def __init__(
        self, max_payload_bytes: int = 261_120, queue_limit: int = 10_000, faults: Faults | None = None
    ) -> None:
        self._max_payload_bytes = max_payload_bytes
        self._queue_limit = queue_limit
        self._faults = faults
        self._lock = threading.RLock()
        self._running = True
        self._clients: dict[str, MemoryTransport] = {}
        self._subscribers: TopicTree[dict[str, MemoryTransport]] = TopicTree()
        self._retained: TopicTree[Publication] = TopicTree()

    def disconnect(self, client_id: str) -> None:
        """Cut a client off as a lost link does: its will is published, and it connects again by itself."""
        with self._lock:
            client = self._clients.get(client_id)
            if client is not None and client.connected:
                self._cut(client, "the connection to the broker was lost")

    def stop(self) -> None:
        """End as a killed broker does: everyone is cut off, no will is published, nothing is kept."""
        with self._lock:
            self._running = False
            self._subscribers, self._retained = TopicTree(), TopicTree()
            for client in self._clients.values():
                if client.connected:
                    client.lose("the broker stopped")

    def start(self) -> None:
        """Take clients again; those that were waiting are connected at once."""
        with self._lock:
            self._running = True
            for client in self._clients.values():
                self.readmit(client)

    def admit(self, client: "MemoryTransport") -> None:
        """Connect a client, taking over from another one with the same id."""
        with self._lock:
            other = self._clients.get(client.client_id)
            if other is not None and other is not client:
                del self._clients[client.client_id]
                other.attached = False
                if other.connected:
                    self._cut(other, "another client connected with the same id")
            self._clients[client.client_id] = client
            client.attached = True
            self.readmit(client)
            if not client.connected:
                client.events.put(Disconnected("the broker is stopped"))

    def readmit(self, client: "MemoryTransport") -> None:
        """Connect a client that is waiting for it, if the broker runs."""
        with self._lock:
            if self._running and client.attached and not client.connected:
                client.connected = True
                client.events.put(Connected(self._max_payload_bytes))

    def leave(self, client: "MemoryTransport") -> None:
        """Forget a client without publishing its will."""
        with self._lock:
            client.attached = client.connected = False
            self._forget_subscriptions(client)
            if self._clients.get(client.client_id) is client:
                del self._clients[client.client_id]

    def publish(self, client: "MemoryTransport", publication: Publication) -> TransportError | None:
        """Carry one message to everyone who asked for it; returns why not."""
        size = len(publication.payload)
        with self._lock:
            if not client.connected:
                return TransportError(f"{publication.topic}: not connected to the broker: try again after Connected")
            if size > self._max_payload_bytes:
                return PayloadTooLarge(
                    f"{publication.topic}: {size} bytes are above the {self._max_payload_bytes} that the broker takes: "
                    "send smaller chunks or raise the broker's limit"
                )
            count_sent(client.traffic, publication)
            fault = self._faults.draw(client.client_id, client.traffic.sent_messages) if self._faults else None
            if fault == "disconnect":
                self._cut(client, "the connection to the broker was lost")
                return None
            if fault == "refuse":
                return PublishRefused(f"{publication.topic}: the broker refused it: check its access rules")
            for _ in range(2 if fault == "duplicate" else 1):
                self._route(publication)
        return None

    def subscribe(self, client: "MemoryTransport", filters: tuple[str, ...]) -> bool:
        """Register filters and deliver what is retained under them; false without a connection."""
        with self._lock:
            if not client.connected:
                return False
            client.events.put(Subscribed(filters))
            for name in filters:
                subscribers = self._subscribers.get(name)
                if subscribers is None:
                    self._subscribers.set(name, subscribers := {})
                subscribers[client.client_id] = client
                client.filters.add(name)
                for stored in self._retained.topics_for(name):
                    client.take(Received(stored.topic, stored.payload, retained=True), stored.qos, self._queue_limit)
        return True

    def unsubscribe(self, client: "MemoryTransport", filters: tuple[str, ...]) -> None:
        """Remove filters."""
        with self._lock:
            for name in client.filters.intersection(filters):
                client.filters.remove(name)
                subscribers = self._subscribers.get(name) or {}
                subscribers.pop(client.client_id, None)
                if not subscribers:
                    self._subscribers.remove(name)

    def _route(self, publication: Publication) -> None:
        if publication.retain and publication.payload:
            self._retained.set(publication.topic, publication)
        elif publication.retain:
            self._retained.remove(publication.topic)
        message = Received(publication.topic, publication.payload, retained=False)  # one object for all who get it
        receivers = {
            name: client
            for subscribers in self._subscribers.filters_for(publication.topic)
            for name, client in subscribers.items()
        }
        for client in receivers.values():
            client.take(message, publication.qos, self._queue_limit)

    def _cut(self, client: "MemoryTransport", reason: str) -> None:
        self._forget_subscriptions(client)
        client.lose(reason)
        if client.will is not None:
            self._route(client.will)

    def _forget_subscriptions(self, client: "MemoryTransport") -> None:
        self.unsubscribe(client, tuple(client.filters))


class MemoryTransport:
    """`Transport` to a `MemoryBroker`; after `Disconnected` the next `receive` connects again, without a clock."""

    __slots__ = ("_broker", "attached", "client_id", "connected", "events", "filters", "traffic", "will")

    def __init__(self, broker: MemoryBroker, client_id: str) -> None:
        self.traffic = Traffic()
        self.client_id = client_id
        self.events: queue.SimpleQueue[TransportEvent | None] = queue.SimpleQueue()
        self.filters: set[str] = set()
        self.will: Publication | None = None
        self.attached = False
        self.connected = False
        self._broker = broker

    def connect(self, will: Publication | None) -> None:
        """Connect at once if the broker runs, else when it starts."""
        self.will = will
        self._broker.admit(self)

    def publish(self, publication: Publication) -> None:
        """Hand one message to the broker."""
        error = self._broker.publish(self, publication)
        if error is not None:
            self.events.put(Refused(publication.topic, error))

    def subscribe(self, *filters: str) -> None:
        """Ask for topics."""
        if not self._broker.subscribe(self, filters):
            for name in filters:
                error = TransportError(f"{name}: not connected to the broker: try again after Connected")
                self.events.put(Refused(name, error))

    def unsubscribe(self, *filters: str) -> None:
        """Stop asking for topics."""
        self._broker.unsubscribe(self, filters)

    def receive(self, timeout_seconds: float) -> TransportEvent | None:
        """The next event, or None."""
        if self.attached and not self.connected and self.events.empty():
            self._broker.readmit(self)
        try:
            return self.events.get(timeout=max(0.0, timeout_seconds))
        except queue.Empty:
            return None

    def wake(self) -> None:
        """Make a blocked `receive` return None."""
        self.events.put(None)

    def close(self) -> None:
        """Leave the broker; the will is not published."""
        self._broker.leave(self)

    def take(self, message: Received, qos: int, queue_limit: int) -> None:
        """Called by the broker with a message for this client."""
        if self.events.qsize() < queue_limit:
            count_received(self.traffic, message.topic, len(message.payload), qos)
            self.events.put(message)

    def lose(self, reason: str) -> None:
        """Called by the broker when the connection is gone."""
        self.connected = False
        self.filters.clear()
        self.events.put(Disconnected(reason))
