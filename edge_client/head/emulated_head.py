"""A head's part of an emulated round: its boards train one after another, and their mean is its own work.

What is emulated away is the site's broker, and that a head may die. Sieving, decoding and adding up are a real head's.
"""

from collections.abc import Callable

import numpy as np

from coordinator.aggregation import WeightedMean
from edge_client.head.site_rounds import Gathered, merged
from edge_client.inline_trainer import commit, score_locally
from edge_client.local_round import Carried, LocalResult, carried_over, run_round, self_contained_plan, sieved
from edge_client.orders import EvaluateOrder, TrainOrder
from edge_client.room import UpdateStore
from edge_client.runtime import Score
from edge_client.task import Task
from shared.compression.codec import SparseUpdate
from shared.compression.history import SendHistory
from shared.compression.plan import Plan
from shared.compression.registry import decode_frame
from shared.errors import DataError
from shared.fleet_brief import FleetBrief
from shared.layout import F32
from shared.update import UpdateHeader, UpdateObject

BoardOf = Callable[[int], tuple[Task, UpdateStore]]


class EmulatedHeads:
    """`work` and `score` of a trainer that is now a head, now a device without one, as `slot` says.

    `board` gives the data of the device in a slot, and what it keeps between rounds.
    """

    def __init__(self, brief: FleetBrief, slot: Callable[[], int], board: BoardOf) -> None:
        slots = {name: number for number, name in enumerate(brief.slots)}
        self._boards = {
            slots[each.head]: {name: slots[name] for name in sorted(each.boards)} for each in brief.clusters
        }
        self._slot, self._board = slot, board

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
        """A device's own round, or the boards' mean and what was carried over, sieved."""
        boards = self._boards.get(self._slot())
        if boards is None:
            return run_round(order, task, plan, model, carried, has_time, draw)
        site_plan = plan or self_contained_plan(task.layout)
        mean, headers = WeightedMean(task.layout.size), list[UpdateHeader]()
        for name, slot in boards.items():
            sparse, header = self._train(order.model_copy(update={"device": name}), slot, site_plan, model)
            mean.add(sparse, header.examples)
            headers.append(header)
        facts = Gathered(mean, {}, [(h.examples, h.steps, h.loss, h.correct, h.tested) for h in headers]).facts()
        return sieved(order, task.layout, plan, mean.mean(), carried, facts)

    def score(self, order: EvaluateOrder, task: Task, model: F32) -> Score:
        """How a device, or the boards of a head, find the model; raises `DataError` where there is no test data."""
        boards = self._boards.get(self._slot())
        if boards is None:
            return score_locally(order, task, model)
        splits = [self._board(slot)[0].split for slot in boards.values()]
        scores = [task.runtime.evaluate(model, each.test_x, each.test_y) for each in splits if len(each.test_x)]
        if not scores:
            raise DataError("no board of this site has test data")
        return merged(scores)

    def _train(self, order: TrainOrder, slot: int, plan: Plan, model: F32) -> tuple[SparseUpdate, UpdateHeader]:
        """One board's update as its head reads it; it is accepted, so the board keeps what follows from that."""
        task, store = self._board(slot)
        layout = task.layout
        carried = carried_over(store, layout, order.work.codec, order.server_round)
        history = None if order.history is None else carried.history or SendHistory.empty(layout)
        own = order.model_copy(update={"history": None if history is None else history.tag.hex()})
        result = run_round(own, task, plan, model, carried, lambda: True)
        commit(own, result, store, b"")  # no plan: it serves to read an update again that was refused
        sent = UpdateObject.unpack(result.object)
        return decode_frame(sent.frame, layout, plan.knowing(history)), sent.header
