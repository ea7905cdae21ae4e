"""The device's state machine: what happened goes in, what to do comes out. It has no sockets, files or clock.

A command becomes an `Assignment`. After every input each assignment is taken as far as what is here allows:

    manifest of its round → bundle (fetched, checked) → plan, deltas or whole model → verdict on the last update
    → trainer → upload

A run has at most one unsettled update, and nothing is trained for it before the final verdict came. Only one order is
with the trainer at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_client.actions import Action, DropBundle, ForgetRun, KeepUploadDays, Note, SendHeartbeat, Settle, SubmitOrder
from edge_client.assignment import Assignment, Stage
from edge_client.consent import Consent
from edge_client.gate import Decision, Readiness
from edge_client.inbox import Inbox, Mail, OpenRound, RoundOpener, opened_round
from edge_client.orders import Answer, Failed, NeedModel, Order, PrivacySpent, Scored, Trained, TroubleCode
from edge_client.outbox import Recovered, StatePaths
from edge_client.pending import PendingUpdate
from edge_client.policy import Objection
from edge_client.presence import Identity, Presence
from edge_client.shelf import Shelf
from edge_client.troubles import Troubles, round_title
from edge_client.uploads import Uploads, Verdicted
from shared.errors import RemoteError
from shared.frame import MOST_OVERHEAD_BYTES
from shared.messages import (
    CancelCommand,
    CoordinatorState,
    DeclineReason,
    EvaluateCommand,
    Evaluated,
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
    publish_packet_bytes,
)
from shared.verdicts import Verdict

MOST_ASSIGNMENTS = 16
COUNTED = (Verdict.DONE, Verdict.DUPLICATE)
"""Verdicts after which this round's work of the device counts, so that nothing of its update is owed any more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a device is ready to carry: one payload, one fetched object, and the time between heartbeats."""

    largest_payload_bytes: int
    largest_object_bytes: int
    heartbeat_seconds: float


@dataclass
class _Errand:
    """The order that the trainer has; `dropped` once its run was cancelled."""

    order: Order
    dropped: bool = False


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
        self._consent = consent
        self._paths = paths
        self._largest_payload_bytes = limits.largest_payload_bytes
        self._payload_bytes = limits.largest_payload_bytes
        self._inbox = Inbox(identity.device, identity.topics, tuple(trusted), open_round)
        self._presence = Presence(identity, limits.heartbeat_seconds)
        self._troubles = Troubles(self._presence, consent.is_private)
        self._shelf = Shelf(identity, recovered.bundles, limits.largest_object_bytes, jitter)
        self._uploads = Uploads(jitter)
        self._settled_rounds = dict(recovered.settled_rounds)
        self._evaluated: dict[str, Evaluated] = {}
        self._assignments: dict[tuple[str, str], Assignment] = {}
        self._errand: _Errand | None = None
        self._link_fault = ""
        self.label_counts: tuple[int, ...] = ()
        self._condition, self._was_hindered = Decision(), False
        self._actions: list[Action] = []
        for update in recovered.unsettled:
            self._uploads.offer(update, 0.0)

    @property
    def condition(self) -> Decision:
        """What hinders the device from working, as it was last told."""
        return self._condition

    @property
    def phase(self) -> str:
        """What the device is doing or waiting for, in at most 40 characters."""
        for assignment in self._assignments.values():
            return assignment.stage.value
        return "uploading" if self._uploads else "idle"

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
        errand = self._errand
        if errand is None or (errand.order.run, errand.order.server_round) != (answer.run, answer.server_round):
            self._note(f"{round_title(answer.run, answer.server_round)}: an answer to no order: {answer.kind}")
            return self._finish(now)
        self._errand = None
        if errand.dropped:
            self._do([ForgetRun(answer.run)])
        else:
            self._answered(errand.order, answer, update, now)
        return self._finish(now)

    def on_condition(self, condition: Decision, now: float) -> list[Action]:
        """The board's sensors were read; what is new is told to the coordinator and to the log."""
        before, self._condition = self._condition, condition
        if condition.names != before.names:
            self._was_hindered = True
            reasons = "; ".join(condition.reasons)
            self._note(f"{condition.readiness}: {reasons}" if reasons else "the board may work again")
            self._do(self._presence.tell_condition(self.phase, now))
        return self._finish(now)

    def on_settled(self, run: str, server_round: int, recorded: bool, now: float) -> list[Action]:
        """The verdict on a run's update was recorded, or could not be: then the coordinator has to repeat it."""
        if self._uploads.round_of(run) == server_round:
            if recorded:
                self._uploads.drop(run)
                self._settled_rounds[run] = server_round
            else:
                self._note(f"{round_title(run, server_round)}: the verdict could not be recorded, asking for it again")
                self._uploads.ask_later(run, now)
        return self._finish(now)

    def tick(self, now: float) -> list[Action]:
        """Time passed."""
        for assignment in list(self._assignments.values()):
            if now >= assignment.deadline:
                self._expire(assignment)
        self._do(self._presence.tick(self.phase, now))
        self._send(self._uploads.tick(now))
        self._do(self._shelf.tick(now))
        return self._finish(now)

    def next_wake(self) -> float:
        """When `tick` has something to do; infinity for never."""
        wake = min(self._presence.next_wake(), self._uploads.next_wake(), self._shelf.next_wake())
        for assignment in self._assignments.values():
            wake = min(wake, assignment.deadline)
        return wake

    def _link_down(self, reason: str) -> None:
        if reason != self._link_fault:  # said once, not at every attempt to reconnect
            self._note(f"no link to the broker, trying again: {reason}")
        self._link_fault = reason
        self._presence.disconnected()
        self._uploads.link_down()
        self._shelf.link_down()

    def _granted(self, filters: tuple[str, ...], now: float) -> None:
        was_ready = self._presence.ready
        self._do(self._presence.granted(filters, now))
        if self._presence.ready and not was_ready:
            self._tell_condition(now)
            self._send(self._uploads.link_up(self._payload_bytes, now))
            self._do(self._shelf.link_up(now))

    def _receive(self, topic: str, payload: bytes, now: float) -> None:
        try:
            if topic == self._identity.topics.download(self._identity.device):
                self._hear_verdict(payload, now)
            elif self._shelf.is_chunk(topic):
                self._do(self._shelf.receive(topic, payload, now))
            elif payload:  # an empty one is how a retained topic is cleared
                self._obey(self._inbox.open(topic, payload), now)
        except RemoteError as error:
            self._do(self._presence.complain(topic, str(error), now))

    def _hear_verdict(self, payload: bytes, now: float) -> None:
        frames, verdicts = self._uploads.receive(payload, now)
        self._send(frames)
        for verdict in verdicts:
            self._settle(verdict)

    def _settle(self, verdict: Verdicted) -> None:
        ruling = verdict.ruling
        self._do([Settle(verdict.run, verdict.server_round, ruling.verdict in COUNTED)])
        word = ruling.verdict.name.lower().replace("_", " ") + (f": {ruling.reason}" if ruling.reason else "")
        self._note(f"{round_title(verdict.run, verdict.server_round)}: update of {verdict.object_bytes} bytes: {word}")

    def _obey(self, mail: Mail, now: float) -> None:
        match mail:
            case TrainCommand() | EvaluateCommand():
                self._assign(mail, now)
            case OpenRound():
                self._open(mail)
            case CancelCommand():
                self._cancel(mail.run)
            case RebirthCommand():
                self._be_reborn(now)
            case CoordinatorState():
                if self._presence.began_anew(mail):
                    self._be_reborn(now)

    def _be_reborn(self, now: float) -> None:
        """The coordinator knows nothing of us: state everything that lives in its memory alone."""
        if self._presence.ready:
            self._do([self._identity.birth()])
            self._tell_condition(now)
            self._send(self._uploads.reopen(now))

    def _open(self, opened: OpenRound) -> None:
        """Keep a manifest; an assignment of an earlier round can no longer be carried out."""
        self._shelf.hold(opened)
        for assignment in list(self._assignments.values()):
            if assignment.run == opened.manifest.run and assignment.server_round < opened.manifest.server_round:
                self._drop(assignment, f"round {opened.manifest.server_round} is open")

    def _assign(self, command: TrainCommand | EvaluateCommand, now: float) -> None:
        current = self._assignments.get((command.run, command.kind))
        if self._is_done(command):
            return
        if current is not None:
            if current.server_round == command.server_round:
                current.extend(command, now)
            if current.server_round >= command.server_round:
                return
            self._drop(current, f"round {command.server_round} is asked for")
        assignment = Assignment(command, now + command.seconds)
        if len(self._assignments) >= MOST_ASSIGNMENTS:
            self._trouble(command.run, command.server_round, "not_eligible", "too many other commands are under way")
            return
        self._assignments[command.run, command.kind] = assignment
        self._note(f"{assignment.title}: {command.kind} within {command.seconds:g} s")

    def _is_done(self, command: TrainCommand | EvaluateCommand) -> bool:
        """A repeated command: an evaluation is reported again; an update is on its way or settled already."""
        if isinstance(command, TrainCommand):
            rounds = (self._uploads.round_of(command.run), self._settled_rounds.get(command.run))
            return any(done is not None and done >= command.server_round for done in rounds)
        result = self._evaluated.get(command.run)
        if result is None or result.server_round != command.server_round:
            return False
        self._do(self._presence.report(result))
        return True

    def _cancel(self, run: str) -> None:
        for assignment in list(self._assignments.values()):
            if assignment.run == run:
                self._drop(assignment, "the run ended")
        if self._errand is not None and self._errand.order.run == run:
            self._errand.dropped = True
        self._uploads.drop(run)
        self._shelf.forget(run)
        self._evaluated.pop(run, None)
        self._settled_rounds.pop(run, None)
        self._note(f"run {run}: ended")
        self._do([ForgetRun(run), SendHeartbeat(self.phase)])

    def _expire(self, assignment: Assignment) -> None:
        self._drop(assignment, "its deadline passed")
        text = f"{assignment.command.seconds:g} s passed while {assignment.stage}"
        if assignment.stage is Stage.CONDITION:
            reasons = "; ".join(self._condition.reasons)
            self._decline(
                assignment.run, assignment.server_round, Objection(DeclineReason.CONDITION, f"{text}: {reasons}")
            )
        else:
            self._trouble(assignment.run, assignment.server_round, "not_eligible", text)

    def _drop(self, assignment: Assignment, reason: str) -> None:
        del self._assignments[assignment.run, assignment.command.kind]
        self._note(f"{assignment.title}: {assignment.command.kind} dropped while {assignment.stage}: {reason}")

    def _advance(self, assignment: Assignment, now: float) -> None:
        """Take an assignment as far as what is here allows."""
        opened = self._shelf.opened(assignment)
        if opened is None:
            self._enter(assignment, Stage.MANIFEST)
            return
        work = opened.manifest.work if assignment.trains else None
        objection = self._consent.objection(assignment.run, opened.signer, work) or self._out_of_condition()
        if objection is not None:
            del self._assignments[assignment.run, assignment.command.kind]
            self._decline(assignment.run, assignment.server_round, objection)
            return
        missing = self._shelf.missing(assignment, opened)
        if refusal := self._shelf.refusal(missing, opened):
            del self._assignments[assignment.run, assignment.command.kind]
            self._trouble(assignment.run, assignment.server_round, "bundle_refused", refusal)
        elif missing:
            self._enter(assignment, missing[0].stage)
            self._do(self._shelf.obtain(missing, opened, now))
        elif assignment.trains and self._uploads.round_of(assignment.run) is not None:
            self._enter(assignment, Stage.VERDICT)
        elif self._errand is not None:
            self._enter(assignment, Stage.QUEUED)
        elif self._condition.readiness is Readiness.WAIT:
            self._enter(assignment, Stage.CONDITION)
        else:
            self._submit(assignment, opened, now)

    def _tell_condition(self, now: float) -> None:
        """After a birth: the coordinator may hold the device for hindered that is so no more, or not know."""
        if self._was_hindered:
            self._do(self._presence.tell_condition(self.phase, now))

    def _out_of_condition(self) -> Objection | None:
        """What stops the board for longer than anybody should wait."""
        if self._condition.readiness is not Readiness.STOP:
            return None
        return Objection(DeclineReason.CONDITION, "; ".join(self._condition.reasons))

    def _submit(self, assignment: Assignment, opened: OpenRound, now: float) -> None:
        files = self._shelf.take(assignment, opened)
        received = {name: self._paths.received(assignment.run, name) for name in files}
        bundle = self._paths.bundle(opened.manifest.bundle.digest)
        order = assignment.order(opened.manifest, received, self._identity.device, bundle, now, self._consent.rules)
        self._errand = _Errand(order)
        self._enter(assignment, Stage.TRAINING if assignment.trains else Stage.EVALUATING)
        self._do([SubmitOrder(order, {received[name]: content for name, content in files.items()})])

    def _enter(self, assignment: Assignment, stage: Stage) -> None:
        if assignment.stage is not stage:
            assignment.stage = stage
            self._note(f"{assignment.title}: {stage}")

    def _answered(self, order: Order, answer: Answer, update: PendingUpdate | None, now: float) -> None:
        if isinstance(answer, Trained | Scored):
            self._shelf.reached(answer.run, answer.model)
        match answer:
            case Trained():
                self._trained(answer, update, now)
            case Scored():
                self._scored(answer)
            case Failed():
                self._failed(order, answer, update, now)
            case NeedModel() if order.model is not None:
                text = "the trainer cannot get to the round's model from the model itself"
                self._trouble(order.run, order.server_round, "trainer_failed", text)
        assignment = self._assignments.get((order.run, order.kind))
        if assignment is None or assignment.server_round != order.server_round:
            return
        if isinstance(answer, NeedModel) and order.model is None:
            opened = self._shelf.opened(assignment)
            self._enter(assignment, assignment.detour(answer.held, opened.manifest) if opened else Stage.MANIFEST)
        else:
            del self._assignments[order.run, order.kind]

    def _trained(self, answer: Trained, update: PendingUpdate | None, now: float) -> None:
        title = round_title(answer.run, answer.server_round)
        if update is None:
            text = "the trained update cannot be read back: check the device's storage"
            self._trouble(answer.run, answer.server_round, "trainer_failed", text)
            return
        early = f" and was ended by {answer.ended_by}" if answer.ended_by else ""
        self._note(f"{title}: trained {answer.steps} steps{early}, uploading {len(update.object)} bytes")
        self.label_counts = answer.label_counts
        self._note_privacy(title, answer.privacy)
        topic = self._identity.topics.upload(self._identity.device)
        packet_bytes = publish_packet_bytes(topic, len(update.object) + MOST_OVERHEAD_BYTES, 1)
        if objection := self._consent.fits(answer.run, packet_bytes):
            self._decline(answer.run, answer.server_round, objection)
        self._send(self._uploads.offer(update, now))

    def _scored(self, answer: Scored) -> None:
        result = Evaluated(
            run=answer.run,
            server_round=answer.server_round,
            loss=answer.loss,
            correct=answer.correct,
            examples=answer.examples,
        )
        self._evaluated[answer.run] = result
        hits = "" if answer.correct is None else f"{answer.correct} correct of "
        self._note(
            f"{round_title(answer.run, answer.server_round)}: {hits}{answer.examples} tested, loss {answer.loss:.4g}"
        )
        self._do(self._presence.report(result))

    def _failed(self, order: Order, answer: Failed, update: PendingUpdate | None, now: float) -> None:
        if answer.code == "bundle_refused":
            digest = Path(order.bundle).stem
            self._shelf.unkeep(digest)
            self._do([DropBundle(digest)])
        self._do(self._troubles.fail(answer))
        if update is not None and self._uploads.round_of(answer.run) is None:
            self._note(f"{round_title(update.run, update.server_round)}: an update was found that nobody has offered")
            self._send(self._uploads.offer(update, now))

    def _decline(self, run: str, server_round: int, objection: Objection) -> None:
        self._do(self._troubles.decline(run, server_round, objection))

    def _trouble(self, run: str, server_round: int, code: TroubleCode, text: str) -> None:
        self._do(self._troubles.tell(run, server_round, code, text))

    def _note_privacy(self, title: str, spent: PrivacySpent | None) -> None:
        terms = self._consent.rules.privacy
        if spent is not None and terms is not None:
            self._note(
                f"{title}: clipped to {terms.clip_norm:g}, noise of sigma {terms.sigma:g}; privacy spent in "
                f"{spent.rounds} rounds: epsilon {spent.epsilon:.3g} at delta {spent.delta:g}"
            )

    def _send(self, frames: list[bytes]) -> None:
        """Send frames of updates, as far as the policy's bytes of the day go; the others count as lost for now."""
        topic = self._identity.topics.upload(self._identity.device)
        sent = [frame for frame in frames if self._consent.take(publish_packet_bytes(topic, len(frame), 1))]
        if sent and (days := self._consent.counts) is not None:
            self._do([KeepUploadDays(days)])
        self._do([Publication(topic, frame) for frame in sent])

    def _finish(self, now: float) -> list[Action]:
        for assignment in list(self._assignments.values()):
            if assignment.stage not in (Stage.TRAINING, Stage.EVALUATING):
                self._advance(assignment, now)
        self._do(self._shelf.retain(self._assignments.values(), now))
        if any(isinstance(action, Publication) for action in self._actions):
            self._presence.spoke(now)
        actions, self._actions = self._actions, []
        return actions

    def _do(self, actions: Sequence[Action]) -> None:
        self._actions += actions

    def _note(self, text: str) -> None:
        self._actions.append(Note(text))
