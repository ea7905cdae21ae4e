"""The device's state machine: what happened goes in, what to do comes out. It has no sockets, files or clock.

What it consists of: `Presence` on the link, the `Inbox` of signed messages, the `Worklist` of commands under way, the
`Shelf` of what they need, and the `Results` on their way to the coordinator.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_client.actions import Action, ForgetRun, Note, SendHeartbeat
from edge_client.consent import Consent
from edge_client.gate import Decision
from edge_client.inbox import Inbox, Mail, OpenRound, RoundOpener, opened_round
from edge_client.orders import Answer
from edge_client.outbox import Recovered, StatePaths
from edge_client.pending import PendingUpdate
from edge_client.presence import Identity, Presence
from edge_client.results import Results
from edge_client.shelf import Shelf
from edge_client.troubles import Troubles
from edge_client.worklist import Worklist
from shared.errors import RemoteError
from shared.messages import (
    CancelCommand,
    CoordinatorState,
    EvaluateCommand,
    RebirthCommand,
    TrainCommand,
)
from shared.signing import VerifyKey
from shared.transport import (
    Connected,
    Disconnected,
    Publication,
    Received,
    Refused,
    Subscribed,
    TransportEvent,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a device is ready to carry: one payload, one fetched object, and the time between heartbeats."""

    largest_payload_bytes: int
    largest_object_bytes: int
    heartbeat_seconds: float


class Session:
    """One device on the air.

    Each `on_…` method and `tick` take one input with monotonic seconds and return the actions to perform, in order.
    """

    def __init__(
        self,
        identity: Identity,
        trusted: Sequence[VerifyKey],
        paths: StatePaths,
        recovered: Recovered,
        limits: Limits,
        jitter: Callable[[], float],
        consent: Consent,
        open_round: RoundOpener = opened_round,
    ) -> None:
        self._identity = identity
        self._largest_payload_bytes = limits.largest_payload_bytes
        self._payload_bytes = limits.largest_payload_bytes
        self._inbox = Inbox(identity.device, identity.topics, tuple(trusted), open_round)
        self._presence = Presence(identity, limits.heartbeat_seconds)
        self._troubles = Troubles(self._presence, consent.is_private)
        self._shelf = Shelf(identity, recovered.bundles, limits.largest_object_bytes, jitter)
        self._results = Results(identity, self._presence, self._troubles, consent, recovered, jitter)
        self._worklist = Worklist(identity.device, paths, consent, self._troubles, self._shelf, self._results)
        self._link_fault = ""
        self._was_hindered = False
        self._actions: list[Action] = []

    @property
    def label_counts(self) -> tuple[int, ...]:
        """Training examples of each class of what was trained last, where the policy tells them."""
        return self._results.label_counts

    @property
    def condition(self) -> Decision:
        """What hinders the device from working, as it was last told."""
        return self._worklist.condition

    @property
    def phase(self) -> str:
        """What the device is doing or waiting for, in at most 40 characters."""
        if self._worklist.stage is not None:
            return self._worklist.stage.value
        return "uploading" if self._results.uploading else "idle"

    @property
    def status(self) -> str:
        """The phase, and what is wrong with the link, for whoever looks at the process from outside."""
        return self.phase if self._presence.ready else f"{self.phase}; no link: {self._link_fault or 'connecting'}"

    def on_event(self, event: TransportEvent, now: float) -> list[Action]:
        """Something happened on the link."""
        match event:
            case Connected(max_payload_bytes):
                self._payload_bytes = min(max_payload_bytes, self._largest_payload_bytes)
                self._link_fault = ""
                self._do(self._presence.connected(now))
            case Disconnected(reason):
                self._link_down(reason)
            case Subscribed(filters):
                self._granted(filters, now)
            case Received(topic, payload):
                self._receive(topic, payload, now)
            case Refused(topic, error):
                self._note(f"not sent on {topic}: {error}")
        return self._finish(now)

    def on_bundle(self, digest: str, refusal: str | None, now: float) -> list[Action]:
        """A bundle was checked and kept, or refused with a reason."""
        self._shelf.checked(digest, refusal)
        return self._finish(now)

    def on_answer(self, answer: Answer, update: PendingUpdate | None, now: float) -> list[Action]:
        """The trainer answered, or could not be asked.

        `update` is the run's unsettled update as it lies on disk after `Trained` or `Failed`.
        """
        self._do(self._worklist.answered(answer, update, now))
        return self._finish(now)

    def on_condition(self, condition: Decision, now: float) -> list[Action]:
        """The board's sensors were read; what is new is told to the coordinator and to the log."""
        before, self._worklist.condition = self._worklist.condition, condition
        if condition.names != before.names:
            self._was_hindered = True
            reasons = "; ".join(condition.reasons)
            self._note(f"{condition.readiness}: {reasons}" if reasons else "the board may work again")
            self._do(self._presence.tell_condition(self.phase, now))
        return self._finish(now)

    def on_settled(self, run: str, server_round: int, recorded: bool, now: float) -> list[Action]:
        """The verdict on a run's update was recorded, or could not be: then the coordinator has to repeat it."""
        self._do(self._results.recorded(run, server_round, now, ok=recorded))
        return self._finish(now)

    def tick(self, now: float) -> list[Action]:
        """Time passed."""
        self._do(self._worklist.expire(now))
        self._do(self._presence.tick(self.phase, now))
        self._do(self._results.tick(now))
        self._do(self._shelf.tick(now))
        return self._finish(now)

    def next_wake(self) -> float:
        """When `tick` has something to do; infinity for never."""
        parts = self._presence, self._results, self._shelf, self._worklist
        return min(part.next_wake() for part in parts)

    def _link_down(self, reason: str) -> None:
        if reason != self._link_fault:  # said once, not at every attempt to reconnect
            self._note(f"no link to the broker, trying again: {reason}")
        self._link_fault = reason
        self._presence.disconnected()
        self._results.link_down()
        self._shelf.link_down()

    def _granted(self, filters: tuple[str, ...], now: float) -> None:
        was_ready = self._presence.ready
        self._do(self._presence.granted(filters, now))
        if self._presence.ready and not was_ready:
            self._tell_condition(now)
            self._do(self._results.link_up(self._payload_bytes, now))
            self._do(self._shelf.link_up(now))

    def _receive(self, topic: str, payload: bytes, now: float) -> None:
        try:
            if topic == self._identity.topics.download(self._identity.device):
                self._do(self._results.hear(payload, now))
            elif self._shelf.is_chunk(topic):
                self._do(self._shelf.receive(topic, payload, now))
            elif payload:  # an empty one is how a retained topic is cleared
                self._obey(self._inbox.open(topic, payload), now)
        except RemoteError as error:
            self._do(self._presence.complain(topic, str(error), now))

    def _obey(self, mail: Mail, now: float) -> None:
        match mail:
            case TrainCommand() | EvaluateCommand():
                self._do(self._worklist.assign(mail, now))
            case OpenRound():
                self._shelf.hold(mail)
                self._do(self._worklist.supersede(mail.manifest.run, mail.manifest.server_round))
            case CancelCommand():
                self._cancel(mail.run)
            case RebirthCommand():
                self._be_reborn(now)
            case CoordinatorState():
                if self._presence.began_anew(mail):
                    self._be_reborn(now)

    def _cancel(self, run: str) -> None:
        self._do(self._worklist.cancel(run))
        self._results.forget(run)
        self._shelf.forget(run)
        self._note(f"run {run}: ended")
        self._do([ForgetRun(run), SendHeartbeat(self.phase)])

    def _be_reborn(self, now: float) -> None:
        """The coordinator knows nothing of us: state everything that lives in its memory alone."""
        if self._presence.ready:
            self._do([self._identity.birth()])
            self._tell_condition(now)
            self._do(self._results.reopen(now))

    def _tell_condition(self, now: float) -> None:
        """After a birth: the coordinator may hold the device for hindered that is so no more, or not know."""
        if self._was_hindered:
            self._do(self._presence.tell_condition(self.phase, now))

    def _finish(self, now: float) -> list[Action]:
        self._do(self._worklist.advance(now))
        if any(isinstance(action, Publication) for action in self._actions):
            self._presence.spoke(now)
        actions, self._actions = self._actions, []
        return actions

    def _do(self, actions: Sequence[Action]) -> None:
        self._actions += actions

    def _note(self, text: str) -> None:
        self._actions.append(Note(text))
