"""A head's work in a round: the same round with its boards, and their mean in place of training of its own.

Every accepted update of a board is in the head's journal before the board hears of it. From there it reaches the head's
own update exactly once: the round that was under way when the head died is taken up again from the journal; a round
that never became an update of the head is owed, and part of the next one; and an update that the coordinator refused
goes back into the head's residual, as on any device.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coordinator.admission import Admission, AdmissionLimits
from coordinator.aggregation import WeightedMean
from coordinator.intake import Intake
from coordinator.journal import Journal
from coordinator.link import Link
from coordinator.records import RoundRecord, RoundState
from coordinator.round_offer import RoundOffer
from coordinator.send_histories import SendHistories
from edge_client.head.boards import Boards, Question
from edge_client.head.site_state import SiteState
from edge_client.local_round import Carried, LocalResult, RoundFacts, self_contained_plan, sieved
from edge_client.orders import EvaluateOrder, ModelOrder, TrainOrder
from edge_client.pending import PendingStore
from edge_client.runtime import Score
from edge_client.task import Task
from shared.compression.history import SendHistory
from shared.compression.partition import history_after
from shared.compression.plan import Plan
from shared.compression.registry import decode_frame
from shared.delta_chain import since, unpack_chain
from shared.errors import DataError, DeadlineExceeded
from shared.layout import F32, Layout
from shared.messages import BlobRef, CancelCommand, EvaluateCommand, LocalWork, RoundManifest, TrainCommand
from shared.update import UpdateObject

log = logging.getLogger(__name__)

SHARE_OF_ORDER = 0.8
"""Of the order's time, for the boards; the rest is for adding up and sending."""
SHARE_TO_GATHER = 0.2
GLANCE = LocalWork(steps=1, batch_size=1, learning_rate=1e-6, momentum=0.0, codec="dense", seed=0)
"""Of a round that only asks how the model does: nobody trains in it."""
LARGEST_EXAMPLES = 1 << 40


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """Boards to wait for before a round, at most a fifth of its time; and how long one that went away is waited for."""

    boards: int = 1
    grace_seconds: float = 5.0


class SiteRounds:
    """Plays rounds with the boards on `link`; `work` and `score` take the place of a device's own training."""

    def __init__(
        self,
        link: Link,
        journal: Journal,
        state_dir: Path,
        settings: HeadSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link, self._journal, self._state_dir, self._settings = link, journal, state_dir, settings
        self._clock = clock
        self._served: str | None = None
        self.boards = Boards(link, settings.grace_seconds, clock)

    def work(
        self,
        order: TrainOrder,
        task: Task,
        plan: Plan | None,
        model: F32,
        carried: Carried,
        has_time: Callable[[], bool],
        draw: np.random.Generator | None = None,
    ) -> LocalResult:
        """The head's update: the boards' mean weighted by examples, what is owed and what was carried over, sieved.

        Raises `DeadlineExceeded` where no board's update came in time.
        """
        layout, deadline = task.layout, self._clock() + SHARE_OF_ORDER * order.seconds
        state = SiteState(self._folder(order.run), layout)
        record = self._open(order, layout, state, Path(order.plan).read_bytes() if order.plan else b"", deadline)
        site_plan = Plan.from_bytes(record.plan, layout) if record.plan else self_contained_plan(layout)
        _, histories = state.histories()
        knows = order.history is not None
        intake = self._intake(order, layout, site_plan, record, histories if knows else None)
        self._announce(order, model, record.plan, order.work)
        commands = {board: self._train(order, board, histories if knows else None, deadline) for board in record.cohort}
        self.boards.ask(Question(commands, intake), max(0.0, deadline - self._clock()))
        with self._link.changed:
            intake.freeze()
        updates = self._journal.accepted(order.run, order.server_round)
        gathered = Gathered.of(updates, layout, site_plan, histories if knows else None)
        committed = PendingStore(self._folder(order.run)).read()
        owed = state.owed(committed.server_round if committed else 0)
        if gathered.count == 0 and owed is None:
            raise DeadlineExceeded(f"none of {len(record.cohort)} boards sent an update in time: see the site's broker")
        local = gathered.mean.mean()
        if owed is not None:
            local += owed
        log.info("round %d: %d of %d boards", order.server_round, gathered.count, len(record.cohort))
        return sieved(order, layout, plan, local, carried, gathered.facts())

    def score(self, order: EvaluateOrder, task: Task, model: F32) -> Score:
        """How the boards find the model; raises `DataError` where none has test data."""
        self._announce(order, model, b"", GLANCE)
        seconds = SHARE_OF_ORDER * order.seconds
        command = EvaluateCommand(run=order.run, server_round=order.server_round, seconds=round(seconds, 1))
        question = Question(dict.fromkeys(self.boards.ready(), command))
        self.boards.ask(question, seconds)
        scores = [score for score in question.scores.values() if score.examples]
        if not scores:
            raise DataError("no board of this site has test data")
        return merged([Score(score.loss, score.correct, score.examples) for score in scores])

    def end(self, run: str) -> None:
        """The run has ended upstream: tell the boards, and clear what was published for it."""
        with self._link.changed:
            for board in self._link.fleet.online():
                self._link.command(board, CancelCommand(run=run))
            self._link.publisher.withdraw(run)

    def _folder(self, run: str) -> Path:
        return self._state_dir / "runs" / run

    def _open(self, order: TrainOrder, layout: Layout, state: SiteState, plan: bytes, deadline: float) -> RoundRecord:
        """The site's round as the journal has it; one from before is closed first."""
        self._journal.create_run(order.run, f'{{"head": "{order.device}"}}')
        last = self._journal.last_round(order.run)
        if last is not None and last.server_round == order.server_round and last.base == order.target:
            return last
        if last is not None and last.state is not RoundState.CLOSED:
            self._close(order, last, layout, state)
        gather_seconds = min(SHARE_TO_GATHER * order.seconds, max(0.0, deadline - self._clock()))
        self._link.wait_until(lambda: self._link.fleet.online_count >= self._settings.boards, gather_seconds)
        return self._journal.open_round(order.run, order.server_round, order.target, self.boards.ready(), plan)

    def _close(self, order: TrainOrder, last: RoundRecord, layout: Layout, state: SiteState) -> None:
        """End the round before: its histories count, and what of it never became an update of the head is owed."""
        self._journal.freeze_round(order.run, last.server_round)
        plan = Plan.from_bytes(last.plan, layout) if last.plan else self_contained_plan(layout)
        after, histories = state.histories()
        if after < last.server_round:
            knows = histories if order.history is not None else None
            gathered = Gathered.of(self._journal.accepted(order.run, last.server_round), layout, plan, knows)
            committed = PendingStore(self._folder(order.run)).read()
            if gathered.count and (committed is None or committed.server_round < last.server_round):
                log.warning("round %d never became an update of this head: it is part of the next", last.server_round)
                state.owe(last.server_round, gathered.mean.mean())
            histories.advance(gathered.advanced)
            state.keep_histories(last.server_round, histories)
        self._journal.close_round(order.run, last.server_round, order.target, "site", {})

    def _intake(
        self, order: TrainOrder, layout: Layout, plan: Plan, record: RoundRecord, histories: SendHistories | None
    ) -> Intake:
        limits = AdmissionLimits(largest_examples=LARGEST_EXAMPLES)

        def history_of(board: str) -> SendHistory | None:
            return None if histories is None else histories.of(board)

        admission = Admission(layout, plan, order.server_round, order.target, limits, history_of=history_of)
        intake = Intake(self._journal, order.run)
        with self._link.changed:
            intake.open(order.server_round, record.cohort, admission if record.state is RoundState.OPEN else None)
            for board in record.cohort:
                self._link.fleet.expect(board, self._clock())
        return intake

    def _train(self, order: TrainOrder, board: str, histories: SendHistories | None, deadline: float) -> TrainCommand:
        tag = None if histories is None else histories.of(board).tag.hex()
        seconds = max(1.0, round(deadline - self._clock(), 1))
        return TrainCommand(run=order.run, server_round=order.server_round, seconds=seconds, history=tag)

    def _announce(self, order: ModelOrder, model: F32, plan: bytes, work: LocalWork) -> None:
        """Publish the round to the site, with the delta alone where the boards can have the model before."""
        bundle, whole = Path(order.bundle).read_bytes(), np.ascontiguousarray(model, "<f4").tobytes()
        attachment = bytearray()

        def inline(content: bytes) -> BlobRef:
            attachment.extend(content)
            return _ref(content, len(attachment) - len(content))

        base, delta = self._step(order)
        manifest = RoundManifest(
            run=order.run,
            server_round=order.server_round,
            bundle=_ref(bundle),
            model=_ref(whole),
            base=base,
            delta=inline(delta) if delta else None,
            plan=inline(plan) if plan else None,
            work=work,
        )
        blobs = {_ref(content).digest: content for content in (bundle, whole)}
        with self._link.changed:
            self._link.publisher.announce(RoundOffer(manifest, bytes(attachment), blobs))
        self._served = order.target

    def _step(self, order: ModelOrder) -> tuple[str | None, bytes]:
        """The model that the boards were last offered and the one delta from there, if that is all it takes."""
        if order.chain is None or self._served is None:
            return None, b""
        links = since(unpack_chain(Path(order.chain).read_bytes()), self._served)
        return (self._served, links[0].frame) if len(links) == 1 else (None, b"")


def merged(scores: Sequence[Score]) -> Score:
    """One score of all their examples; right answers are unknown where they are of any."""
    examples = sum(score.examples for score in scores)
    loss = sum(score.loss * score.examples for score in scores) / examples
    known = [score.correct for score in scores if score.correct is not None]
    return Score(loss, sum(known) if len(known) == len(scores) else None, examples)


@dataclass(frozen=True, slots=True)
class Gathered:
    """The accepted updates of a site's round, added in order of board name; `advanced` are the histories after it."""

    mean: WeightedMean
    advanced: dict[str, SendHistory]
    headers: list[tuple[int, int, float | None, int, int]]

    @classmethod
    def of(
        cls, updates: Iterator[tuple[str, bytes]], layout: Layout, plan: Plan, histories: SendHistories | None
    ) -> "Gathered":
        """Decode and add them; each was admitted before it was journaled."""
        mean, advanced, headers = WeightedMean(layout.size), dict[str, SendHistory](), []
        for board, content in updates:
            update = UpdateObject.unpack(content)
            history = None if histories is None else histories.of(board)
            sparse = decode_frame(update.frame, layout, plan.knowing(history))
            header = update.header
            mean.add(sparse, header.examples)
            headers.append((header.examples, header.steps, header.loss, header.correct, header.tested))
            if history is not None:
                advanced[board] = history_after(history, update.frame, sparse.indices, layout)
        return cls(mean, advanced, headers)

    @property
    def count(self) -> int:
        """How many updates there are."""
        return len(self.headers)

    def facts(self) -> RoundFacts:
        """What the head says of its update: sums of examples, hits and tests, means by examples of steps and loss."""
        examples = sum(header[0] for header in self.headers)
        steps = sum(header[0] * header[1] for header in self.headers) / max(examples, 1)
        told = [(header[0], header[2]) for header in self.headers if header[2] is not None]
        weight = sum(count for count, _ in told)
        loss = math.fsum(count * loss for count, loss in told) / weight if weight else None
        correct, tested = sum(header[3] for header in self.headers), sum(header[4] for header in self.headers)
        return RoundFacts(max(examples, 1), round(steps), loss, correct, tested)


def _ref(content: bytes, offset: int | None = None) -> BlobRef:
    return BlobRef(digest=hashlib.sha256(content).hexdigest(), size=len(content), offset=offset)
