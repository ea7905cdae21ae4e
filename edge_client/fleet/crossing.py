"""Many MQTT connections through one selector: `PahoTransport` has a thread for each, here one loop serves all."""

import heapq
import random
import selectors
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from shared.paho_link import PahoLink, not_connected
from shared.paho_transport import STABLE_SECONDS, backoff_seconds, tls_context
from shared.settings import BrokerSettings
from shared.transport import Disconnected, Publication, Refused, Traffic, TransportEvent

MISC_SECONDS = 5.0
"""Time between two looks at a silent connection, which may have to be kept alive."""


class Watched(Protocol):
    """What has a socket in the loop."""

    def turn(self, readable: bool, writable: bool) -> None:
        """Serve the socket."""


class Crossing:
    """The loop: it watches all sockets, and begins connections a few at a time."""

    def __init__(self, settings: BrokerSettings) -> None:
        self.settings = settings.with_password()
        self.tls = tls_context(settings.tls) if settings.tls else None
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, CrossedTransport]] = []
        self._count = 0

    def watch(self, owner: Watched, descriptor: int) -> None:
        """Turn the owner of a socket whenever that is ready."""
        self._selector.register(descriptor, selectors.EVENT_READ, owner)

    def rewatch(self, transport: "CrossedTransport", descriptor: int, *, writing: bool) -> None:
        """Wait for room to write too, or no more."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        self._selector.modify(descriptor, events, transport)

    def unwatch(self, descriptor: int) -> None:
        """Forget a socket."""
        self._selector.unregister(descriptor)

    def call_at(self, seconds: float, transport: "CrossedTransport") -> None:
        """Look at a transport at this monotonic time."""
        self._count += 1
        heapq.heappush(self._due, (seconds, self._count, transport))

    def turn(self, longest_seconds: float) -> None:
        """Wait for sockets, at most so long, and serve those that are ready or due."""
        now = time.monotonic()
        wait_seconds = min(longest_seconds, self._due[0][0] - now if self._due else longest_seconds)
        for key, mask in self._selector.select(max(0.0, wait_seconds)):
            key.data.turn(bool(mask & selectors.EVENT_READ), bool(mask & selectors.EVENT_WRITE))
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2].look(now)


class CrossedTransport:
    """`Transport` of one device through a `Crossing`; `awake` is called when an event has come."""

    def __init__(
        self, crossing: Crossing, client_id: str, jitter: random.Random, awake: Callable[[], None] = lambda: None
    ) -> None:
        self.traffic, self.awake = Traffic(), awake
        self._crossing, self._client_id, self._jitter = crossing, client_id, jitter
        self._events: deque[tuple[TransportEvent, Callable[[], object] | None]] = deque()
        self._will: Publication | None = None
        self._link: PahoLink | None = None
        self._descriptor, self._is_writing, self._attempt, self._began = -1, False, 0, 0.0

    @property
    def has_events(self) -> bool:
        """Is there something to receive."""
        return bool(self._events)

    def connect(self, will: Publication | None) -> None:
        """Connect at the loop's next turn."""
        self._will = will
        self._crossing.call_at(time.monotonic(), self)

    def publish(self, publication: Publication) -> None:
        """Send one message, at QoS 0 or 1."""
        if self._link is None:
            self._refuse(publication.topic)
        else:
            self._link.publish(publication)
            self._mind_writing()

    def subscribe(self, *filters: str) -> None:
        """Ask for topics."""
        if self._link is None:
            for topic in filters:
                self._refuse(topic)
        else:
            self._link.subscribe(filters)
            self._mind_writing()

    def unsubscribe(self, *filters: str) -> None:
        """Stop asking for topics."""
        if self._link is not None and filters:
            self._link.unsubscribe(filters)
            self._mind_writing()

    def receive(self, timeout_seconds: float) -> TransportEvent | None:
        """The next event, acknowledged to the broker by being taken, or None: waiting is the loop's part."""
        if not self._events:
            return None
        event, acknowledge = self._events.popleft()
        if acknowledge is not None:
            acknowledge()
            self._mind_writing()
        return event

    def wake(self) -> None:
        """Nobody waits here."""

    def close(self) -> None:
        """Disconnect cleanly."""
        if self._link is not None:
            self._link.leave(0.0)
            self._link.turn(readable=False, writable=True)
            self._forget()

    def turn(self, readable: bool, writable: bool) -> None:
        """Serve the socket."""
        if self._link is not None:
            self._after(self._link.turn(readable, writable))
        if self._events:
            self.awake()

    def look(self, now: float) -> None:
        """Connect where there is no connection, else see whether it has to be kept alive."""
        if self._link is None:
            self._begin(now)
        else:
            self.turn(readable=False, writable=False)
            self._crossing.call_at(now + MISC_SECONDS, self)

    def _begin(self, now: float) -> None:
        self._began = now
        link = PahoLink(
            self._crossing.settings, self._client_id, self._crossing.tls, self._will, self.traffic, self._deliver,
            lambda: len(self._events),
        )  # fmt: skip
        if reason := link.begin():
            self._lost(reason)
            return
        self._link, self._descriptor, self._is_writing = link, link.descriptor(), False
        self._crossing.watch(self, self._descriptor)
        self._mind_writing()
        self._crossing.call_at(now + MISC_SECONDS, self)

    def _after(self, ending: str) -> None:
        if ending:
            self._forget()
            self._lost(ending)
        else:
            self._mind_writing()

    def _lost(self, reason: str) -> None:
        now = time.monotonic()
        self._attempt = 0 if now - self._began >= STABLE_SECONDS else self._attempt + 1
        self._crossing.call_at(now + backoff_seconds(self._attempt, self._jitter), self)
        self._events.append((Disconnected(reason), None))
        self.awake()

    def _forget(self) -> None:
        self._crossing.unwatch(self._descriptor)
        self._link, self._descriptor = None, -1

    def _mind_writing(self) -> None:
        """Tell the loop where there is something to write now and was not, or is not and was."""
        if self._link is not None and (wants := self._link.wants_to_write()) != self._is_writing:
            self._is_writing = wants
            self._crossing.rewatch(self, self._descriptor, writing=wants)

    def _deliver(self, event: TransportEvent, acknowledge: Callable[[], object] | None) -> None:
        self._events.append((event, acknowledge))

    def _refuse(self, topic: str) -> None:
        self._events.append((Refused(topic, not_connected(topic, self._crossing.settings.address)), None))
        self._crossing.call_at(time.monotonic(), self)
