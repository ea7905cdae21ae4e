"""The coordinator's end of MQTT: one thread that owns the transport and keeps fleet, uploads and published state."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from coordinator.complaints import Complaints
from coordinator.fleet import LEASE_SECONDS, Fleet
from coordinator.publisher import Publisher
from shared.errors import FrameError, MessageError, RemoteError, RunError
from shared.frame import FrameKind, unpack_frame
from shared.messages import (
    DEVICE_EVENT,
    DEVICE_STATE,
    Birth,
    Evaluated,
    Heartbeat,
    Message,
    RebirthCommand,
    Trouble,
    Want,
    dump,
    parse,
)
from shared.receiver import Completed, Outcome, Receiver
from shared.sender import Sender
from shared.signing import seal
from shared.topics import Topics
from shared.transfer import Status
from shared.transport import (
    Connected,
    Disconnected,
    Publication,
    Received,
    Refused,
    Subscribed,
    Transport,
    publish_packet_bytes,
)
from shared.verdicts import Ruling

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
WANT_SECONDS = 4.0
"""An object is not published again so soon: it is retained, and devices ask after five seconds of silence."""


class LinkHandler(Protocol):
    """Who decides about what devices send; called on the link's thread, with its lock held."""

    def on_upload(self, device: str, content: bytes) -> Ruling:
        """A whole object came: judge it, and return only after what is accepted is on disk."""

    def on_birth(self, device: str) -> None:
        """A device is online, perhaps again: repeat what it still owes."""

    def on_event(self, device: str, event: Evaluated | Trouble) -> None:
        """A device reports a result or a trouble."""

    def on_complaint(self, text: str) -> None:
        """Something an operator should know of; at most one a minute of each device and kind."""


class Link:
    """Devices in, commands and objects out. `changed` is the one lock: hold it to read `fleet` from another thread.

    Every public method may be called from any thread; waits go through `wait_until`, which always has a deadline.
    """

    def __init__(
        self,
        transport: Transport,
        topics: Topics,
        publisher: Publisher,
        receiver: Receiver,
        jitter: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        tick_seconds: float = TICK_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.transport = transport
        self.fleet = Fleet(lease_seconds=lease_seconds)
        self.publisher = publisher
        self.changed = threading.Condition(threading.RLock())
        self.connected: Connected | None = None
        self.last_disconnect = ""
        self._topics = topics
        self._receiver = receiver
        self._jitter = jitter
        self._clock, self._tick_seconds, self._next_tick = clock, tick_seconds, clock()
        self._handler: LinkHandler | None = None
        self._senders: dict[str, list[Sender]] = {}
        self._complaints = Complaints()
        self._wants: dict[str, float] = {}
        self._stopping = threading.Event()
        self._broken = False
        self._thread = threading.Thread(target=self._work, name="link", daemon=True)

    def start(self, handler: LinkHandler) -> None:
        """Connect in the background and begin to serve; `handler` decides about uploads from now on."""
        self._handler = handler
        self.transport.connect(self.publisher.will())
        self._thread.start()

    def close(self) -> None:
        """Say goodbye and end the thread."""
        with self.changed:
            if self.connected:
                self.publisher.leave()
        self._stopping.set()
        self.transport.wake()
        self._thread.join(timeout=5)
        self.transport.close()

    def command(self, device: str, command: Message) -> None:
        """Send one signed command; a device that is away gets it again at its next birth, from the handler."""
        topic = self._topics.command(device)
        self.transport.publish(Publication(topic, seal(self.publisher.key, topic, dump(command))))

    def send_object(self, device: str, content: bytes) -> None:
        """Send an object to one device, resumably."""
        with self.changed:
            sender = Sender(content, self.publisher.piece_bytes, self._jitter)
            self._senders.setdefault(device, []).append(sender)
            self._push(device, sender.start(self._clock()))

    def forget_objects(self, device: str) -> None:
        """Stop sending what a device has not fetched: nobody waits for its answer any more."""
        with self.changed:
            self._senders.pop(device, None)

    def wait_until(self, ready: Callable[[], bool], timeout_seconds: float) -> bool:
        """Wait until `ready()` holds, checked whenever something changed; False when `timeout_seconds` passed first.

        Raises `RunError` when the link's own thread has ended by a fault: nothing would ever change again.
        """
        with self.changed:
            done = self.changed.wait_for(lambda: self._broken or ready(), timeout_seconds)
            if self._broken:
                raise RunError("the coordinator's link failed by a fault of its own: see the log, then --resume")
            return done

    def _work(self) -> None:
        try:
            self._serve()
        finally:
            with self.changed:
                self._broken = not self._stopping.is_set()
                self.changed.notify_all()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            self._step(self._next_tick)

    def _step(self, until: float) -> None:
        """Wait for one event, at most until this time on the clock, and do all that is due."""
        event = self.transport.receive(max(0.0, min(until, self._next_tick) - self._clock()))
        with self.changed:
            if isinstance(event, Received):
                self._on_message(event)
            elif event is not None:
                self._on_transport(event)
            if self._clock() >= self._next_tick:
                self._next_tick = self._clock() + self._tick_seconds
                self._on_tick()
            self.changed.notify_all()

    def _on_transport(self, event: Connected | Disconnected | Subscribed | Refused) -> None:
        match event:
            case Connected():
                self.connected = event
                self.publisher.broker_limit_bytes = event.max_payload_bytes
                self.fleet.renew(self._clock())
                self.transport.subscribe(self._topics.all_uplinks())
            case Subscribed():
                self.publisher.restate()
                for device, senders in self._senders.items():
                    for sender in senders:
                        self._push(device, sender.reopen(self._clock()))
            case Disconnected(reason):
                if self.connected or reason != self.last_disconnect:
                    log.warning("broker away: %s", reason)
                self.connected, self.last_disconnect = None, reason
            case Refused(error=error):
                self._complain(f"refused {type(error).__name__}", f"not published: {error}")

    def _on_message(self, message: Received) -> None:
        if not message.payload:
            return
        sender = "a stranger"
        try:
            source = self._topics.parse_uplink(message.topic)
            sender = source.device
            self._dispatch(source.device, source.channel, message)
        except RemoteError as error:
            self._complain(sender, f"{sender}: refused a message on {message.topic[:120]!r}: {error}")

    def _complain(self, source: str, text: str) -> None:
        held_back = self._complaints.admit(source, self._clock())
        if held_back is None:
            return
        line = text + (f" ({held_back} more since the last such line)" if held_back else "")
        log.warning("%s", line)
        if self._handler:
            self._handler.on_complaint(line)

    def _dispatch(self, device: str, channel: str, message: Received) -> None:
        now = self._clock()
        packet_bytes = 0 if message.retained else publish_packet_bytes(message.topic, len(message.payload), 1)
        if channel == "state":
            self._on_state(device, message.payload, now, packet_bytes)
            return
        if not self.fleet.heard(device, now, packet_bytes):
            self.command(device, RebirthCommand())
        if channel == "x":
            self._on_frame(device, message.payload, now)
        elif channel in ("evt", "hb"):
            self._on_event(device, message.payload)
        else:
            raise MessageError(f"unknown uplink channel {channel[:20]!r}")

    def _on_state(self, device: str, payload: bytes, now: float, packet_bytes: int) -> None:
        state = parse(DEVICE_STATE, payload)
        self.fleet.heard(device, now, packet_bytes)
        if isinstance(state, Birth):
            if self.fleet.born(device, state, now):
                log.info("%s is online (%s)", device, state.agent)
            if self._handler:
                self._handler.on_birth(device)
            for sender in self._senders.get(device, []):
                self._push(device, sender.reopen(now))
        elif self.fleet.died(device, state, now):
            log.info("%s went offline", device)

    def _on_frame(self, device: str, payload: bytes, now: float) -> None:
        frame = unpack_frame(payload)
        if frame.kind is FrameKind.STATUS:
            status = Status.unpack(frame.body)
            for sender in list(self._senders.get(device, [])):
                self._push(device, sender.on_status(status, now))
                if sender.ruling is not None:
                    self._senders[device].remove(sender)
            return
        for outcome in self._receiver.on_frame(device, frame, now):
            self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        """Send a reply; for a complete object, ask the handler first and reply with its ruling."""
        if isinstance(outcome, Completed):
            if self._handler is None:
                raise FrameError(f"an object came from {outcome.peer} before this coordinator serves")
            ruling = self._handler.on_upload(outcome.peer, outcome.content)
            outcome = self._receiver.conclude(outcome.peer, outcome.transfer_id, ruling, ruling.retry_seconds)
        self._push(outcome.peer, [outcome.payload])

    def _on_event(self, device: str, payload: bytes) -> None:
        event = parse(DEVICE_EVENT, payload)
        match event:
            case Heartbeat():
                known = self.fleet.devices[device].heartbeat
                if event.label_counts and (known is None or known.label_counts != event.label_counts):
                    log.info("%s has these examples by class: %s", device, ", ".join(map(str, event.label_counts)))
                if self.fleet.beat(device, event):
                    self._on_condition(device, event)
            case Want():
                self._on_want(device, event.digest)
            case Evaluated() | Trouble():
                if isinstance(event, Trouble):
                    self.fleet.devices[device].last_trouble = str(event)
                    self._complain(f"{device} {event.reason or event.code}", f"{device} {event}")
                if self._handler:
                    self._handler.on_event(device, event)

    def _on_condition(self, device: str, heartbeat: Heartbeat) -> None:
        reasons = "; ".join(heartbeat.reasons)
        if heartbeat.readiness == "go":
            log.info("%s may work again", device)
        elif heartbeat.readiness == "wait":
            self._complain(f"{device} waits", f"{device} waits: {reasons}")
        else:
            self._complain(f"{device} stops", f"{device} stops: {reasons}")

    def _on_want(self, device: str, digest: str) -> None:
        now = self._clock()
        self._wants = {known: since for known, since in self._wants.items() if now - since < WANT_SECONDS}
        if digest in self._wants:
            return
        if self.publisher.want(digest):
            self._wants[digest] = now
        else:
            self._complain(f"{device} want", f"{device} wants {digest[:12]}, which no open round has")

    def _on_tick(self) -> None:
        now = self._clock()
        for device in self.fleet.expire(now) if self.connected else ():
            log.info("%s has not been heard of for its whole lease: counted as gone", device)
        for reply in self._receiver.on_tick(now):
            self._push(reply.peer, [reply.payload])
        self._receiver.expire(now)
        for device, senders in self._senders.items():
            for sender in senders:
                self._push(device, sender.on_tick(now))

    def _push(self, device: str, payloads: list[bytes]) -> None:
        topic = self._topics.download(device)
        for payload in payloads:
            self.transport.publish(Publication(topic, payload))
