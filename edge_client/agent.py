"""The resident half of a device: it feeds the session with what happens and performs what the session asks for."""

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edge_client.actions import (
    Action,
    CheckBundle,
    DropBundle,
    ForgetRun,
    KeepUploadDays,
    Note,
    SendHeartbeat,
    Settle,
    SubmitOrder,
    Subscribe,
    Unsubscribe,
)
from edge_client.checks import Checks
from edge_client.consent import Consent
from edge_client.gate import Reading, decide
from edge_client.memory import peak_rss_bytes
from edge_client.orders import Answer, Failed, Order, Trained, failed
from edge_client.pending import PendingUpdate
from edge_client.policy import Policy
from edge_client.presence import Identity
from edge_client.session import Limits, Session
from edge_client.settings import EdgeSettings
from edge_client.state_keeper import StateKeeper
from edge_client.supervisor import Supervisor, Unsupervised
from edge_client.trainer import Trainer
from shared.errors import BrokerUnreachable, BundleError, SignatureError
from shared.messages import LONGEST_REASON, MOST_REASONS, Heartbeat, dump
from shared.tcp_bytes import TcpBytes
from shared.topics import Topics
from shared.transport import Connected, Disconnected, Publication, Transport, TransportEvent

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 1.0
READING_SECONDS = 10.0
"""Time between two looks at the board's sensors."""


@cache
def agent_version() -> str:
    """The program's name and version, as a birth states them."""
    try:
        return f"gradsieve-edge {version('gradsieve')}"
    except PackageNotFoundError:
        return "gradsieve-edge"


class Agent:
    """One device: transport, trainer and state directory around a `Session`.

    `run` serves until it is stopped. A caller with its own loop uses `start`, `step` and `leave`.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        outbox: StateKeeper,
        transport: Transport,
        trainer: Trainer,
        *,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        policy: Policy = Policy(),  # noqa: B008  frozen
        read_board: Callable[[], Reading] = Reading,
        tcp_bytes: Callable[[], TcpBytes | None] = lambda: None,
        supervisor: Supervisor | None = None,
        checks: Checks = Checks(),  # noqa: B008  frozen
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._transport = transport
        self._trainer = trainer
        self._clock = clock
        self._tcp_bytes = tcp_bytes
        self._supervisor = supervisor or Unsupervised()
        self._checks = checks
        self._read_board, self._next_reading = read_board, -math.inf
        self._trusted = settings.signer_keys()
        self._identity = Identity(settings.name, Topics(settings.topic_root), outbox.next_connection(), agent_version())
        limits = Limits(settings.broker.max_chunk_bytes, settings.largest_bundle_bytes, settings.heartbeat_seconds)
        consent = Consent(policy, outbox.upload_days(), wall_clock, settings.gate.hottest_celsius)
        recovered = outbox.recover(private=consent.is_private)
        self._session = Session(
            self._identity, self._trusted, outbox.paths, recovered, limits, jitter, consent, checks.open_round
        )

    @property
    def phase(self) -> str:
        """What the device is doing or waiting for."""
        return self._session.phase

    def next_wake(self) -> float:
        """When `step` has something to do though nothing happens; infinity for never."""
        return self._session.next_wake()

    def run(self, stop: threading.Event, connect_seconds: float | None = None) -> None:
        """Serve until `stop` is set, then leave cleanly.

        Raises `BrokerUnreachable` when there was no connection within `connect_seconds`; None waits for ever.
        """
        self.start()
        try:
            if connect_seconds is not None:
                self._wait_connected(stop, connect_seconds)
            while not stop.is_set():
                self._turn(LONGEST_WAIT_SECONDS)
        finally:
            self.leave()

    def start(self) -> None:
        """Begin to connect."""
        log.info("%s: connecting as start %d", self._identity.device, self._identity.connection)
        self._transport.connect(self._identity.will())

    def step(self, longest_wait_seconds: float) -> TransportEvent | None:
        """Wait for one event, at most so long, and do all that is due; returns the event."""
        self._look_at_the_board()
        wait_seconds = longest_wait_seconds
        if wait_seconds > 0:
            wait_seconds = max(0.0, min(wait_seconds, self._session.next_wake() - self._clock()))
        event = self._transport.receive(wait_seconds)
        if event is not None:
            self._perform(self._session.on_event(event, self._clock()))
        for answer in self._trainer.poll():
            self._perform(self._session.on_answer(answer, self._unsettled(answer), self._clock()))
        if self._session.next_wake() <= self._clock():
            self._perform(self._session.tick(self._clock()))
        return event

    def _look_at_the_board(self) -> None:
        now = self._clock()
        if now >= self._next_reading:
            self._next_reading = now + READING_SECONDS
            condition = decide(self._read_board(), self._settings.gate, self._session.condition)
            self._perform(self._session.on_condition(condition, now))

    def leave(self) -> None:
        """Say goodbye, end the trainer and close the connection."""
        log.info("%s: leaving", self._identity.device)
        self._supervisor.stopping()
        self._transport.publish(self._identity.will())
        self._transport.close()
        self._trainer.close()

    def _turn(self, longest_wait_seconds: float) -> TransportEvent | None:
        """One step of our own loop, which the supervisor hears of once it is done."""
        event = self.step(longest_wait_seconds)
        self._supervisor.turned(self._session.status, self._clock())
        return event

    def _wait_connected(self, stop: threading.Event, connect_seconds: float) -> None:
        deadline, reason = self._clock() + connect_seconds, "no answer yet"
        while not stop.is_set():
            left_seconds = deadline - self._clock()
            if left_seconds <= 0:
                address = self._settings.broker.address
                raise BrokerUnreachable(f"no broker at {address} within {connect_seconds:g} s: {reason}")
            event = self._turn(min(left_seconds, LONGEST_WAIT_SECONDS))
            if isinstance(event, Connected):
                return
            if isinstance(event, Disconnected):
                reason = event.reason

    def _perform(self, actions: Iterable[Action]) -> None:
        todo = deque(actions)
        while todo:
            action = todo.popleft()
            try:
                todo.extend(self._perform_one(action))
            except OSError as error:  # of a heartbeat or of what is only tidied up; the session hears of the others
                log.error("%s: %s: %s", self._identity.device, type(action).__name__, error)

    def _perform_one(self, action: Action) -> Iterable[Action]:
        """Do one thing; returns what the session wants done because of it."""
        match action:
            case Publication():
                self._transport.publish(action)
            case Subscribe(filters):
                self._transport.subscribe(*filters)
            case Unsubscribe(filters):
                self._transport.unsubscribe(*filters)
            case CheckBundle(digest, archive):
                return self._session.on_bundle(digest, self._check_bundle(digest, archive), self._clock())
            case DropBundle(digest):
                self._outbox.drop_bundle(digest)
            case SubmitOrder(order, files):
                return self._submit(order, files)
            case Settle():
                recorded = self._settle(action)
                return self._session.on_settled(action.run, action.server_round, recorded, self._clock())
            case KeepUploadDays(days):
                self._outbox.keep_upload_days(days)
            case ForgetRun(run):
                self._outbox.forget(run)
            case SendHeartbeat(phase):
                self._transport.publish(self._heartbeat(phase))
            case Note(text):
                log.info("%s: %s", self._identity.device, text)
        return ()

    def _check_bundle(self, digest: str, archive: bytes) -> str | None:
        """Keep a good bundle; returns why a bad one is refused."""
        try:
            self._checks.bundle(archive, self._trusted, self._settings, self._trainer.resident_bytes())
            self._outbox.keep_bundle(digest, archive)
        except (BundleError, SignatureError) as error:
            return str(error)
        except OSError as error:
            return f"the bundle cannot be stored: {error}"
        return None

    def _submit(self, order: Order, files: Mapping[Path, bytes]) -> Iterable[Action]:
        """Hand over an order with all its files; with one missing the trainer would take that of the round before."""
        try:
            for path, content in files.items():
                self._outbox.keep(path, content)
        except OSError as error:
            answer = failed(order, "trainer_failed", self._storage_fault(error))
            return self._session.on_answer(answer, None, self._clock())
        self._outbox.use_bundle(Path(order.bundle))
        self._trainer.submit(order)
        return ()

    def _settle(self, settle: Settle) -> bool:
        """Record a verdict; returns whether it is on disk."""
        try:
            self._outbox.settle(settle.run, settle.server_round, settle.accepted)
        except OSError as error:
            self._storage_fault(error)
            return False
        return True

    def _unsettled(self, answer: Answer) -> PendingUpdate | None:
        """What was trained, or what a trainer that failed left behind."""
        if not isinstance(answer, Trained | Failed):
            return None
        try:
            return self._outbox.pending(answer.run)
        except OSError as error:
            self._storage_fault(error)
            return None

    def _storage_fault(self, error: OSError) -> str:
        """Log a fault of the state directory; returns what it is called."""
        text = f"state directory: {error}: check space and rights"
        log.error("%s: %s", self._identity.device, text)
        return text

    def _heartbeat(self, phase: str) -> Publication:
        traffic, tcp, condition = self._transport.traffic, self._tcp_bytes(), self._session.condition
        heartbeat = Heartbeat(
            phase=phase,
            sent_bytes=traffic.sent_bytes,
            received_bytes=traffic.received_bytes,
            tcp_sent_bytes=tcp.acked_sent if tcp else None,
            tcp_received_bytes=tcp.received if tcp else None,
            peak_rss_bytes=peak_rss_bytes(),
            trainer_peak_rss_bytes=self._trainer.peak_rss_bytes(),
            readiness=condition.readiness.value,
            label_counts=self._session.label_counts,
            reasons=tuple(reason[:LONGEST_REASON] for reason in condition.reasons[:MOST_REASONS]),
        )
        return Publication(self._identity.topics.heartbeat(self._identity.device), dump(heartbeat), qos=0)
