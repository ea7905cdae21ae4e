"""One device's part of a round: train, add what was not delivered before, sieve, and keep the rest."""

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edge_client.batches import batch_order, shuffled
from edge_client.noise import privatize
from edge_client.orders import LocalRules, TrainOrder
from edge_client.pending import PendingUpdate
from edge_client.room import UpdateStore
from edge_client.runtime import Score
from edge_client.task import Task
from shared.compression.history import SendHistory
from shared.compression.memory import ClientMemory, remembered
from shared.compression.partition import history_after
from shared.compression.plan import Plan
from shared.compression.registry import codec_for_update, decode_frame, memory_by_codec
from shared.errors import DeadlineExceeded, Declined, RemoteError
from shared.layout import F32, Layout
from shared.messages import DeclineReason, LocalWork
from shared.update import UpdateHeader, UpdateObject, base_tag, run_tag

log = logging.getLogger(__name__)


MOST_LABELS = 256
"""Classes whose examples are counted: a heartbeat has room for no more."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What the codec keeps from earlier rounds, how many rounds were missed since, and the sends that were accepted.

    `saved` are the bytes that these sends were read from, where they were.
    """

    memory: ClientMemory
    missed_rounds: int = 0
    history: SendHistory | None = None
    saved: bytes = b""

    def history_for(self, order: TrainOrder, layout: Layout) -> SendHistory | None:
        """The history to sieve by: the coordinator's, an empty one where this device has another, None without any."""
        if order.history is None:
            return None
        same = self.history is not None and self.history.tag.hex() == order.history
        return self.history if same else SendHistory.empty(layout)


@dataclass(frozen=True, slots=True)
class LocalResult:
    """The packed update object, the steps behind it, what the codec keeps on the device, float32, and the sends before.

    `residual` is without the values of frozen tensors, which stay nothing. `history` is empty where the update was
    sieved without one, and `after` then None: the sends once it is accepted. `label_counts` are empty where the
    device's rules do not tell how many training examples each class has.
    """

    object: bytes
    steps: int
    residual: F32
    history: bytes
    after: SendHistory | None = None
    label_counts: tuple[int, ...] = ()


def run_round(
    order: TrainOrder,
    task: Task,
    plan: Plan | None,
    model: F32,
    carried: Carried,
    has_time: Callable[[], bool],
    draw: np.random.Generator | None = None,
) -> LocalResult:
    """Train from `model`, and sieve the update by `plan` together with what was `carried` over.

    Where the device's rules ask for noise, `draw` gives it, and the update is noised before anything else is done with
    it. The same arguments give the same bytes. Raises `DeadlineExceeded` when there was no time for a single step, and
    `Declined` for more passes over the data than the rules allow.
    """
    split, work, rules = task.split, order.work, order.rules
    _check_epochs(work, len(split.train_x), rules)
    has_classes = split.train_y.dtype.kind == "i"  # an update has room for hits, and none for a loss on test data
    tested = len(split.test_x) if order.evaluate and rules.report_accuracy and has_classes else 0
    score = task.runtime.evaluate(model, split.test_x, split.test_y) if tested else Score(0.0, None, 0)
    weights = model.copy()
    batches = shuffled(
        split.train_x, split.train_y, work.batch_size, batch_order(work.seed, order.server_round, order.device)
    )
    report = task.runtime.train(weights, batches, work, has_time)
    if report.steps == 0:
        raise DeadlineExceeded(f"the {order.seconds:g} s of the order ended before the first step: give more time")
    weights -= model
    if rules.privacy is not None:
        privatize(weights, rules.privacy, draw or unforeseeable(), task.layout.moving)
    counted = rules.report_label_counts and has_classes
    labels = tuple(np.bincount(split.train_y).tolist()[:MOST_LABELS]) if counted else ()
    told = score if rules.report_examples else score.in_thousandths()
    facts = RoundFacts(
        examples=len(split.train_x) if rules.report_examples else 1,
        steps=report.steps,
        loss=report.loss if rules.report_loss else None,
        correct=told.correct or 0,
        tested=0 if told.correct is None else told.examples,
    )
    return replace(sieved(order, task.layout, plan, weights, carried, facts), label_counts=labels)


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """What an update says of itself besides its values."""

    examples: int
    steps: int
    loss: float | None
    correct: int
    tested: int


def sieved(
    order: TrainOrder, layout: Layout, plan: Plan | None, local: F32, carried: Carried, facts: RoundFacts
) -> LocalResult:
    """The update object of `local`, float32 `[size]`, this round's own part, with what was `carried` over."""
    update = carried.memory.compensate(local, carried.missed_rounds)
    codec = codec_for_update(order.work.codec, local)
    history = carried.history_for(order, layout)
    encoded = codec.encode(update, layout, (plan or self_contained_plan(layout)).knowing(history))
    header = UpdateHeader(
        run_tag=run_tag(order.run),
        base_tag=base_tag(order.target),
        server_round=order.server_round,
        examples=facts.examples,
        steps=facts.steps,
        loss=facts.loss,
        correct=facts.correct,
        tested=facts.tested,
        threshold=encoded.threshold,
    )
    kept = layout.without_frozen(remembered(carried.memory, update, encoded).state)
    if history is carried.history and carried.saved:
        before = carried.saved
    else:
        before = b"" if history is None else history.to_bytes()
    after = None if history is None else history_after(history, encoded.frame, encoded.delivered.indices, layout)
    return LocalResult(UpdateObject(header, encoded.frame).pack(), facts.steps, kept, before, after)


def carried_over(
    store: UpdateStore, layout: Layout, codec: str, server_round: int, *, private: bool = False
) -> Carried:
    """What `codec` kept after the run's last update, with that update owed again if it was refused.

    Nothing where no update was committed, or one under another layout or codec. Where the next update is to be
    `private`, nothing either unless the last one was noised: what it left may hold plain values of earlier ones.
    """
    kind, last = memory_by_codec(codec), store.read()
    if last is None:
        return Carried(kind.zero(layout.size))
    if private and not last.noised:
        log.warning("what run %s kept from before its updates were noised is dropped", last.run)
        return Carried(kind.zero(layout.size))
    try:
        memory = kind.from_state(layout.with_frozen(np.frombuffer(store.read_residual(), "<f4")), layout.size)
    except ValueError as error:
        log.warning("what run %s kept does not fit and is dropped: %s", last.run, error)
        return Carried(kind.zero(layout.size))
    missed_rounds = max(0, server_round - last.server_round - 1)
    try:
        accepted = store.verdict_on(last) is not False
        if accepted and (known := store.history()):
            return Carried(memory, missed_rounds, SendHistory.from_bytes(known, layout), known)
        return _settled(last, memory, missed_rounds, accepted, layout)
    except RemoteError as error:
        log.warning("what run %s sent last cannot be read and is forgotten: %s", last.run, error)
        return Carried(memory, missed_rounds)


def _settled(last: PendingUpdate, memory: ClientMemory, missed_rounds: int, accepted: bool, layout: Layout) -> Carried:
    """What is carried over once the verdict on `last` is known; raises `RemoteError` where its bytes are unreadable."""
    if accepted and not last.history:
        return Carried(memory, missed_rounds)
    plan = Plan.from_bytes(last.plan, layout) if last.plan else self_contained_plan(layout)
    before = SendHistory.from_bytes(last.history, layout) if last.history else None
    frame = UpdateObject.unpack(last.object).frame
    delivered = decode_frame(frame, layout, plan.knowing(before))
    if not accepted:
        return Carried(memory.refused(delivered), missed_rounds, before)
    return Carried(memory, missed_rounds, history_after(before, frame, delivered.indices, layout) if before else None)


def unforeseeable() -> np.random.Generator:
    """A generator that nobody can foresee: its 256-bit seed is from the kernel's cryptographic source."""
    return np.random.default_rng(secrets.randbits(256))


def _check_epochs(work: LocalWork, examples: int, rules: LocalRules) -> None:
    """Raise `Declined` for too many passes; how many they are would tell how much data there is."""
    if rules.most_epochs is None:
        return
    epochs = work.steps * min(work.batch_size, examples) / examples
    if epochs > rules.most_epochs:
        found = f"{epochs:.1f}" if rules.report_examples else "more"
        raise Declined(
            f"{work.steps} steps are {found} passes over the data, above most_epochs = {rules.most_epochs:g}",
            DeclineReason.EPOCHS,
        )


def self_contained_plan(layout: Layout) -> Plan:
    """What to sieve by when the round has no plan: no prior, and room for every value."""
    return Plan(budget_bytes=4 * layout.size)
