"""One device's part of a round: train, add what was not delivered before, sieve, and keep the rest."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_client.batches import batch_order, shuffled
from edge_client.orders import TrainOrder
from edge_client.pending import PendingStore
from edge_client.runtime import Score
from edge_client.task import Task
from shared.compression.plan import Plan
from shared.compression.registry import codec_by_name, decode_frame
from shared.compression.residual import ResidualFeedback
from shared.errors import DeadlineExceeded
from shared.layout import F32, Layout
from shared.update import UpdateHeader, UpdateObject, base_tag, run_tag

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Carried:
    """What earlier rounds did not deliver, and how many rounds were missed since."""

    feedback: ResidualFeedback
    missed_rounds: int = 0


@dataclass(frozen=True, slots=True)
class LocalResult:
    """The packed update object, the steps behind it, and the float32 residual that stays on the device."""

    object: bytes
    steps: int
    residual: F32


def run_round(
    order: TrainOrder, task: Task, plan: Plan | None, model: F32, carried: Carried, has_time: Callable[[], bool]
) -> LocalResult:
    """Train from `model`, and sieve the update by `plan` together with what was `carried` over.

    The same arguments give the same bytes. Raises `DeadlineExceeded` when there was no time for a single step.
    """
    split, work = task.split, order.work
    tested = len(split.test_x) if order.evaluate else 0
    score = task.runtime.evaluate(model, split.test_x, split.test_y) if tested else Score(0.0, 0, 0)
    weights = model.copy()
    batches = shuffled(
        split.train_x, split.train_y, work.batch_size, batch_order(work.seed, order.server_round, order.device)
    )
    report = task.runtime.train(weights, batches, work, has_time)
    if report.steps == 0:
        raise DeadlineExceeded(f"the {order.seconds:g} s of the order ended before the first step: give more time")
    weights -= model
    update = carried.feedback.compensate(weights, carried.missed_rounds)
    encoded = codec_by_name(work.codec).encode(update, task.layout, plan or self_contained_plan(task.layout))
    header = UpdateHeader(
        run_tag=run_tag(order.run),
        base_tag=base_tag(order.target),
        server_round=order.server_round,
        examples=len(split.train_x),
        steps=report.steps,
        loss=report.loss,
        correct=score.correct,
        tested=score.examples,
        threshold=encoded.threshold,
    )
    residual = carried.feedback.after(update, encoded.delivered).residual
    return LocalResult(UpdateObject(header, encoded.frame).pack(), report.steps, residual)


def carried_over(store: PendingStore, layout: Layout, server_round: int) -> Carried:
    """What the run's last update left for `server_round`: its residual, with the update itself on top if refused.

    Nothing where no update was committed, or one under another layout.
    """
    last, residual = store.read(), np.frombuffer(store.read_residual(), "<f4")
    if last is None:
        return Carried(ResidualFeedback.zero(layout.size))
    if residual.size != layout.size:
        log.warning("the residual of run %s has %d values, not %d: dropped", last.run, residual.size, layout.size)
        return Carried(ResidualFeedback.zero(layout.size))
    if store.verdict_on(last) is False:
        plan = Plan.from_bytes(last.plan, layout) if last.plan else self_contained_plan(layout)
        decode_frame(UpdateObject.unpack(last.object).frame, layout, plan).add_to(residual)
    return Carried(ResidualFeedback(residual), max(0, server_round - last.server_round - 1))


def self_contained_plan(layout: Layout) -> Plan:
    """What to sieve by when the round has no plan: no prior, and room for every value."""
    return Plan(budget_bytes=4 * layout.size)
