"""What a device states about itself: subscriptions, birth and death, heartbeats, reports, complaints."""

import math
from collections import deque
from dataclasses import dataclass, field

from edge_client.actions import Action, Note, SendHeartbeat, Subscribe
from shared.messages import Birth, CoordinatorState, Death, Evaluated, Trouble, Want, dump
from shared.topics import Topics
from shared.transport import Publication

GRANT_SECONDS = 15.0
"""How long the broker may take to grant our topics before they are asked for again."""
COMPLAINT_SECONDS = 60.0
"""Least time between two reports of a wrong message on one topic."""
MOST_COMPLAINTS = 8
"""Most reports of wrong messages within that time, whatever their topics."""
LONGEST_TOPIC = 120
MOST_REPORTS = 32
LONGEST_TEXT = 500

Report = Evaluated | Trouble | Want


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a device is: its name, its topics, the number of this start, and the program's name and version."""

    device: str
    topics: Topics
    connection: int
    agent: str

    def will(self) -> Publication:
        """The death that the broker publishes for us, or we ourselves when we leave."""
        topic = self.topics.device_state(self.device)
        return Publication(topic, dump(Death(connection=self.connection)), retain=True)

    def birth(self) -> Publication:
        """The retained news that this device takes commands."""
        topic = self.topics.device_state(self.device)
        return Publication(topic, dump(Birth(connection=self.connection, agent=self.agent)), retain=True)

    def standing_filters(self) -> tuple[str, ...]:
        """The topics that a device always listens to."""
        topics = self.topics
        return (
            topics.command(self.device),
            topics.download(self.device),
            topics.coordinator_state(),
            topics.all_round_manifests(),
        )


@dataclass
class Presence:
    """Down, then waiting for granted topics, then ready; reports made while not ready are kept for later."""

    identity: Identity
    heartbeat_seconds: float
    ready: bool = False
    _waiting_for: set[str] = field(default_factory=set)
    _reports: deque[Report] = field(default_factory=lambda: deque(maxlen=MOST_REPORTS))
    _epoch: str | None = None
    _grant_due: float = math.inf
    _heartbeat_due: float = math.inf
    _complained: dict[str, float] = field(default_factory=dict)

    def connected(self, now: float) -> list[Action]:
        """A new link: ask for everything again."""
        self.disconnected()
        self._grant_due = now + GRANT_SECONDS
        self._waiting_for = set(self.identity.standing_filters())
        return [Subscribe(self.identity.standing_filters())]

    def disconnected(self) -> None:
        """No link: nothing is stated."""
        self.ready = False
        self._grant_due = self._heartbeat_due = math.inf
        self._waiting_for.clear()

    def granted(self, filters: tuple[str, ...], now: float) -> list[Action]:
        """Topics were granted; with the last of them the device is born and its kept reports go out."""
        if not self._waiting_for:
            return []
        self._waiting_for -= set(filters)
        if self._waiting_for:
            return []
        self.ready = True
        self._grant_due = math.inf
        self._heartbeat_due = now + self.heartbeat_seconds
        kept, self._reports = self._reports, deque(maxlen=MOST_REPORTS)
        return [Note("ready for commands"), self.identity.birth(), *(self._event(report) for report in kept)]

    def began_anew(self, state: CoordinatorState) -> bool:
        """True when the coordinator is online in another epoch than when it was last heard of."""
        before, self._epoch = self._epoch, state.epoch if state.online else self._epoch
        return self._epoch != before and before is not None

    def spoke(self, now: float) -> None:
        """Something else was published: it renews the lease as well as a heartbeat would."""
        if self.ready:
            self._heartbeat_due = now + self.heartbeat_seconds

    def report(self, report: Report) -> list[Action]:
        """Tell the coordinator, now or when the link is ready."""
        if self.ready:
            return [self._event(report)]
        self._reports.append(report)
        return []

    def tell_condition(self, phase: str, now: float) -> list[Action]:
        """A heartbeat out of turn: whether the device may work has changed, or the coordinator may not know."""
        if not self.ready:
            return []
        self._heartbeat_due = now + self.heartbeat_seconds
        return [SendHeartbeat(phase)]

    def complain(self, topic: str, fault: str, now: float) -> list[Action]:
        """Report a wrong message, unless its topic, or too many others, had one reported within the last minute."""
        self._complained = {known: at for known, at in self._complained.items() if now - at < COMPLAINT_SECONDS}
        if topic in self._complained or len(self._complained) >= MOST_COMPLAINTS:
            return []
        self._complained[topic] = now
        trouble = Trouble(code="wrong_message", text=f"{topic[:LONGEST_TOPIC]}: {fault}"[:LONGEST_TEXT])
        return [Note(f"message ignored: {trouble.text}"), *self.report(trouble)]

    def tick(self, phase: str, now: float) -> list[Action]:
        """A heartbeat when one is due; topics that were not granted in time are asked for again."""
        if now >= self._grant_due:
            self._grant_due = now + GRANT_SECONDS
            missing = tuple(sorted(self._waiting_for))
            return [
                Note(f"waited {GRANT_SECONDS:g} s for the broker to grant {', '.join(missing)}"),
                Subscribe(missing),
            ]
        if now >= self._heartbeat_due:
            self._heartbeat_due = now + self.heartbeat_seconds
            return [SendHeartbeat(phase)]
        return []

    def next_wake(self) -> float:
        """When `tick` has something to do; infinity for never."""
        return min(self._grant_due, self._heartbeat_due)

    def _event(self, report: Report) -> Publication:
        return Publication(self.identity.topics.device_event(self.identity.device), dump(report))
