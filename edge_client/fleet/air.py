"""An emulated broker and the links to it: what is published arrives when its bytes have passed, in virtual time."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edge_client.fleet.world import World
from shared.errors import PayloadTooLarge, TransportError
from shared.topic_tree import TopicTree
from shared.transport import (
    Connected,
    Disconnected,
    Publication,
    Received,
    Refused,
    Subscribed,
    Traffic,
    TransportEvent,
    publish_packet_bytes,
)

LARGEST_PAYLOAD_BYTES = 261_120


@dataclass(slots=True)
class Lane:
    """One direction of a link: packets follow each other at `bytes_per_second` (none: at once) and take `latency`."""

    latency_seconds: float = 0.0
    bytes_per_second: float | None = None
    busy_until: float = 0.0

    def arrival(self, size_bytes: int, now: float) -> float:
        """When a packet handed over now has arrived; it waits for those before it."""
        begin = max(now, self.busy_until)
        self.busy_until = begin + (size_bytes / self.bytes_per_second if self.bytes_per_second else 0.0)
        return self.busy_until + self.latency_seconds


class Air:
    """Topics with wildcards, retained messages and wills, as an MQTT 5 broker has them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._subscribers: TopicTree[dict[str, Port]] = TopicTree()
        self._retained: TopicTree[Publication] = TopicTree()

    def route(self, publication: Publication) -> None:
        """Send a message that has reached the broker to everyone who asked for it."""
        if publication.retain and publication.payload:
            self._retained.set(publication.topic, publication)
        elif publication.retain:
            self._retained.remove(publication.topic)
        size_bytes = publish_packet_bytes(publication.topic, len(publication.payload), publication.qos)
        message = Received(publication.topic, publication.payload, retained=False)  # one object for all who get it
        receivers: dict[str, Port] = {}
        for subscribers in self._subscribers.filters_for(publication.topic):
            receivers |= subscribers
        for port in receivers.values():
            port.carry_down(message, size_bytes)

    def subscribe(self, port: "Port", name: str) -> None:
        """Register a filter and send what is retained under it."""
        subscribers = self._subscribers.get(name)
        if subscribers is None:
            self._subscribers.set(name, subscribers := {})
        subscribers[port.client_id] = port
        for stored in self._retained.topics_for(name):
            size_bytes = publish_packet_bytes(stored.topic, len(stored.payload), stored.qos)
            port.carry_down(Received(stored.topic, stored.payload, retained=True), size_bytes)

    def unsubscribe(self, port: "Port", name: str) -> None:
        """Remove a filter."""
        subscribers = self._subscribers.get(name) or {}
        subscribers.pop(port.client_id, None)
        if not subscribers:
            self._subscribers.remove(name)


class Port:
    """`Transport` of one client of the `Air`; `awake` is called when an event has come."""

    __slots__ = ("_air", "_down", "_events", "_filters", "_up", "_will", "awake", "client_id", "epoch", "traffic")

    def __init__(self, air: Air, client_id: str, up: Lane, down: Lane, awake: Callable[[], None]) -> None:
        self.client_id, self.awake = client_id, awake
        self.traffic = Traffic()
        self.epoch = 0
        """Odd while connected; a packet of another epoch was on a link that is gone."""
        self._air, self._up, self._down = air, up, down
        self._events: deque[TransportEvent] = deque()
        self._filters: set[str] = set()
        self._will: Publication | None = None

    @property
    def connected(self) -> bool:
        """Is the link up."""
        return self.epoch % 2 == 1

    @property
    def has_events(self) -> bool:
        """Is there something to receive."""
        return bool(self._events)

    def connect(self, will: Publication | None) -> None:
        """Connect; the broker answers after a round trip."""
        self._will = will
        self._raise_link()

    def publish(self, publication: Publication) -> None:
        """Send one message to the broker."""
        size = len(publication.payload)
        if not self.connected:
            self._refuse(publication.topic, TransportError(f"{publication.topic}: not connected to the broker"))
        elif size > LARGEST_PAYLOAD_BYTES:
            text = f"{publication.topic}: {size} bytes are above the {LARGEST_PAYLOAD_BYTES} that the broker takes"
            self._refuse(publication.topic, PayloadTooLarge(text))
        else:
            size_bytes = publish_packet_bytes(publication.topic, size, publication.qos)
            self.traffic.sent_bytes += size_bytes
            self.traffic.sent_messages += 1
            world = self._air.world
            world.at(self._up.arrival(size_bytes, world.now), self._reach_broker, self.epoch, publication)

    def subscribe(self, *filters: str) -> None:
        """Ask for topics; they are granted after a round trip."""
        world = self._air.world
        world.at(self._up.arrival(0, world.now) + self._down.latency_seconds, self._grant, self.epoch, filters)

    def unsubscribe(self, *filters: str) -> None:
        """Stop asking for topics."""
        for name in self._filters.intersection(filters):
            self._air.unsubscribe(self, name)
        self._filters.difference_update(filters)

    def receive(self, timeout_seconds: float) -> TransportEvent | None:
        """The next event, or None: time does not pass here."""
        return self._events.popleft() if self._events else None

    def wake(self) -> None:
        """Nobody waits here."""

    def close(self) -> None:
        """Leave the broker; the will is not published."""
        self._down_link()

    def lose(self, reason: str) -> None:
        """Lose the link: the broker publishes the will, and what was under way is lost."""
        if self.connected:
            self.vanish()
            self.arrive(self.epoch, Disconnected(reason))

    def vanish(self) -> None:
        """Lose the link with the device itself: there is nobody to tell."""
        if self.connected:
            self._down_link()
            if self._will is not None:
                self._air.route(self._will)

    def regain(self) -> None:
        """Connect again after the link was lost."""
        if not self.connected:
            self._raise_link()

    def carry_down(self, message: Received, size_bytes: int) -> None:
        """Called by the broker with a message for this client."""
        self.traffic.received_bytes += size_bytes
        self.traffic.received_messages += 1
        world = self._air.world
        world.at(self._down.arrival(size_bytes, world.now), self.arrive, self.epoch, message)

    def arrive(self, epoch: int, event: TransportEvent) -> None:
        """An event is here, unless its link is gone."""
        if epoch == self.epoch:
            self._events.append(event)
            self.awake()

    def _raise_link(self) -> None:
        self.epoch += 1
        world = self._air.world
        round_trip = self._up.latency_seconds + self._down.latency_seconds
        world.at(world.now + round_trip, self.arrive, self.epoch, Connected(LARGEST_PAYLOAD_BYTES))

    def _down_link(self) -> None:
        if self.connected:
            self.epoch += 1
            self.unsubscribe(*self._filters)
            self._events.clear()

    def _reach_broker(self, epoch: int, publication: Publication) -> None:
        if epoch == self.epoch:
            self._air.route(publication)

    def _grant(self, epoch: int, filters: tuple[str, ...]) -> None:
        if epoch == self.epoch:
            self._filters.update(filters)
            self._events.append(Subscribed(filters))
            for name in filters:
                self._air.subscribe(self, name)
            self.awake()

    def _refuse(self, topic: str, error: TransportError) -> None:
        self._events.append(Refused(topic, error))
        self._air.world.at(self._air.world.now, self.awake)
