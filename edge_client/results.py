"""What came of a device's orders, until the coordinator has it: updates with their verdicts, and evaluations."""

from collections.abc import Callable
from pathlib import Path

from edge_client.actions import Action, DropBundle, KeepUploadDays, Note, Settle
from edge_client.consent import Consent
from edge_client.orders import Failed, Order, PrivacySpent, Scored, Trained
from edge_client.outbox import Recovered
from edge_client.pending import PendingUpdate
from edge_client.presence import Identity, Presence
from edge_client.troubles import Troubles, round_title
from edge_client.uploads import Uploads, Verdicted
from shared.frame import MOST_OVERHEAD_BYTES
from shared.messages import EvaluateCommand, Evaluated, TrainCommand
from shared.transport import Publication, publish_packet_bytes
from shared.verdicts import Verdict

COUNTED = (Verdict.DONE, Verdict.DUPLICATE)
"""Verdicts after which this round's work of the device counts, so that nothing of its update is owed any more."""


class Results:
    """Offers each update until its final verdict is recorded, and remembers what is done. Methods return what to do."""

    def __init__(
        self,
        identity: Identity,
        presence: Presence,
        troubles: Troubles,
        consent: Consent,
        recovered: Recovered,
        jitter: Callable[[], float],
    ) -> None:
        self._identity, self._presence, self._troubles, self._consent = identity, presence, troubles, consent
        self._uploads = Uploads(jitter)
        self._settled_rounds = dict(recovered.settled_rounds)
        self._evaluated: dict[str, Evaluated] = {}
        self.label_counts: tuple[int, ...] = ()
        for update in recovered.unsettled:
            self._uploads.offer(update, 0.0)

    @property
    def uploading(self) -> bool:
        """Is an update on its way."""
        return bool(self._uploads)

    def owed_round(self, run: str) -> int | None:
        """The round of the run's update that waits for its verdict."""
        return self._uploads.round_of(run)

    def repeated(self, command: TrainCommand | EvaluateCommand) -> list[Action] | None:
        """What a command asks that was carried out already, None for one that was not.

        An evaluation is reported again; an update is on its way or settled.
        """
        if isinstance(command, TrainCommand):
            rounds = (self._uploads.round_of(command.run), self._settled_rounds.get(command.run))
            done = any(each is not None and each >= command.server_round for each in rounds)
            return [] if done else None
        result = self._evaluated.get(command.run)
        if result is None or result.server_round != command.server_round:
            return None
        return self._presence.report(result)

    def trained(self, answer: Trained, update: PendingUpdate | None, now: float) -> list[Action]:
        """The trainer has committed an update, which is None where it cannot be read back: offer it."""
        title = round_title(answer.run, answer.server_round)
        if update is None:
            text = "the trained update cannot be read back: check the device's storage"
            return self._troubles.tell(answer.run, answer.server_round, "trainer_failed", text)
        self.label_counts = answer.label_counts
        early = f" and was ended by {answer.ended_by}" if answer.ended_by else ""
        said: list[Action] = [
            Note(f"{title}: trained {answer.steps} steps{early}, uploading {len(update.object)} bytes"),
            *self._privacy(title, answer.privacy),
        ]
        topic = self._identity.topics.upload(self._identity.device)
        packet_bytes = publish_packet_bytes(topic, len(update.object) + MOST_OVERHEAD_BYTES, 1)
        if objection := self._consent.fits(answer.run, packet_bytes):
            said += self._troubles.decline(answer.run, answer.server_round, objection)
        return said + self._publish(self._uploads.offer(update, now))

    def scored(self, answer: Scored) -> list[Action]:
        """The trainer has scored a model: report it."""
        result = Evaluated(
            run=answer.run,
            server_round=answer.server_round,
            loss=answer.loss,
            correct=answer.correct,
            examples=answer.examples,
        )
        self._evaluated[answer.run] = result
        hits = "" if answer.correct is None else f"{answer.correct} correct of "
        title = round_title(answer.run, answer.server_round)
        note = Note(f"{title}: {hits}{answer.examples} tested, loss {answer.loss:.4g}")
        return [note, *self._presence.report(result)]

    def failed(self, order: Order, answer: Failed, update: PendingUpdate | None, now: float) -> list[Action]:
        """The trainer failed; `update` is one of the run's that was committed all the same."""
        dropped: list[Action] = [DropBundle(Path(order.bundle).stem)] if answer.code == "bundle_refused" else []
        actions = dropped + self._troubles.fail(answer)
        if update is not None and self._uploads.round_of(answer.run) is None:
            title = round_title(update.run, update.server_round)
            actions.append(Note(f"{title}: an update was found that nobody has offered"))
            actions += self._publish(self._uploads.offer(update, now))
        return actions

    def hear(self, payload: bytes, now: float) -> list[Action]:
        """The coordinator answers an upload; raises `RemoteError` for anything else."""
        frames, verdicts = self._uploads.receive(payload, now)
        return self._publish(frames) + [action for verdict in verdicts for action in _settle(verdict)]

    def recorded(self, run: str, server_round: int, now: float, *, ok: bool) -> list[Action]:
        """The verdict on a run's update was recorded, or could not be: then the coordinator has to repeat it."""
        if self._uploads.round_of(run) != server_round:
            return []
        if ok:
            self._uploads.drop(run)
            self._settled_rounds[run] = server_round
            return []
        self._uploads.ask_later(run, now)
        return [Note(f"{round_title(run, server_round)}: the verdict could not be recorded, asking for it again")]

    def forget(self, run: str) -> None:
        """The run has ended."""
        self._uploads.drop(run)
        self._evaluated.pop(run, None)
        self._settled_rounds.pop(run, None)

    def link_up(self, payload_bytes: int, now: float) -> list[Action]:
        """Offer everything over a new link."""
        return self._publish(self._uploads.link_up(payload_bytes, now))

    def link_down(self) -> None:
        """Keep quiet until the next link."""
        self._uploads.link_down()

    def reopen(self, now: float) -> list[Action]:
        """Offer everything anew: the coordinator has forgotten what it had."""
        return self._publish(self._uploads.reopen(now))

    def tick(self, now: float) -> list[Action]:
        """Offer again what was not answered."""
        return self._publish(self._uploads.tick(now))

    def next_wake(self) -> float:
        """When `tick` has something to do; infinity for never."""
        return self._uploads.next_wake()

    def _privacy(self, title: str, spent: PrivacySpent | None) -> list[Action]:
        terms = self._consent.rules.privacy
        if spent is None or terms is None:
            return []
        text = (
            f"{title}: clipped to {terms.clip_norm:g}, noise of sigma {terms.sigma:g}; privacy spent in "
            f"{spent.rounds} rounds: epsilon {spent.epsilon:.3g} at delta {spent.delta:g}"
        )
        return [Note(text)]

    def _publish(self, frames: list[bytes]) -> list[Action]:
        """Send frames of updates, as far as the policy's bytes of the day go; the others count as lost for now."""
        topic = self._identity.topics.upload(self._identity.device)
        sent = [frame for frame in frames if self._consent.take(publish_packet_bytes(topic, len(frame), 1))]
        counted: list[Action] = [KeepUploadDays(days)] if sent and (days := self._consent.counts) is not None else []
        return counted + [Publication(topic, frame) for frame in sent]


def _settle(verdict: Verdicted) -> list[Action]:
    ruling = verdict.ruling
    word = ruling.verdict.name.lower().replace("_", " ") + (f": {ruling.reason}" if ruling.reason else "")
    return [
        Settle(verdict.run, verdict.server_round, ruling.verdict in COUNTED),
        Note(f"{round_title(verdict.run, verdict.server_round)}: update of {verdict.object_bytes} bytes: {word}"),
    ]
