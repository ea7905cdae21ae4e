"""A whole federation in one process: real frames and the product's own server half, without transport or clock.

Every upload is encoded, packed, read back from its bytes and counted; so are plans and deltas of the model, for each
client that receives them.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from coordinator.bench.cell import Cell
from coordinator.bench.emulated_client import EmulatedClient, LocalUpdate, RoundOrder
from coordinator.bench.flat_model import FlatModel
from coordinator.bench.frame_bits import FrameBits
from coordinator.cohort import cohort
from coordinator.sieve_server import Gathering, SieveServer
from coordinator.tasks.array_task import ArrayTask
from coordinator.tasks.examples import Examples
from shared.compression.codec import SparseUpdate
from shared.compression.dgc import dgc_warmup_budget
from shared.compression.plan import Plan
from shared.errors import DecodeError
from shared.growth import grow, growth_like
from shared.update import UpdateHeader, UpdateObject, base_tag, run_tag

RUN = "bench"


@dataclass
class Traffic:
    """Bytes of a run so far, and what they would have been dense.

    `uplink_bytes` are codec frames, `object_bytes` whole update objects, header and frame. Each client receives the
    plan of every round it takes part in, and the deltas since its last one, or the whole model where that is shorter;
    its first model, or what it grows that from, is `first_model_bytes`. `dense_bytes` is four bytes for each value of
    each upload.
    """

    uploads: int = 0
    uplink_bytes: int = 0
    object_bytes: int = 0
    dense_bytes: int = 0
    plan_bytes: int = 0
    downlink_bytes: int = 0
    first_model_bytes: int = 0
    values_sent: int = 0
    empty_frames: int = 0


@dataclass
class Federation:
    """The server and clients of one cell; the same cell gives the same run, to the bit."""

    cell: Cell
    task: ArrayTask
    train: Examples
    test: Examples
    server_round: int = 0
    traffic: Traffic = field(default_factory=Traffic)
    bits: FrameBits = field(default_factory=FrameBits)

    def __post_init__(self) -> None:
        recipe, seed = self.cell.recipe, self.cell.seed
        self._model = FlatModel.of(self.task.model, seed)
        self.layout = self._model.layout
        self.job = recipe.job(self.cell.task, seed, self.cell.participation, self.layout.size)
        growth = growth_like(self._model.vector(), self.layout, seed) if recipe.grown else None
        first = grow(growth, self.layout) if growth else self._model.vector()
        self._first_model_bytes = len(growth.model_dump_json()) if growth else 4 * self.layout.size
        self.server = SieveServer(self.job, self.layout, first, recipe.trust)
        shares = [self.train.take(indices) for indices in self.cell.split(self.train)]
        clients = [EmulatedClient(n, share, recipe, seed, self.layout) for n, share in enumerate(shares)]
        self._clients = {f"client-{number:05}": client for number, client in enumerate(clients)}
        self._deltas: list[int] = []
        self._held: dict[str, int] = {}

    def play_round(self) -> float:
        """One round of all that are asked; returns their mean training loss."""
        self.server_round += 1
        order = self._order()
        gathered, losses = self.server.gather(order.plan), []
        base = base_tag(self.server.model.digest)
        for name in cohort(self.job, self.server_round, list(self._clients)):
            self._send_down(name, order.plan)
            # A client's history is kept once for both ends, since each frame's check proves that they agree.
            known = replace(order, plan=order.plan.knowing(self.server.history_of(name)))
            update = self._clients[name].train(known, self._model, self.task.loss)
            self._take(name, update, base, gathered, known.plan)
            losses.append(update.loss)
        self.server.remember(gathered)
        self.server.step(gathered)
        self._deltas.append(len(self.server.model.delta))
        return float(np.mean(losses))

    def accuracy(self) -> float:
        """The public model's share of right answers on the task's test examples."""
        self._model.load(self.server.model.public)
        return self.task.accuracy(self._model.module, self.test)

    def _order(self) -> RoundOrder:
        recipe, work, budget_bytes = self.cell.recipe, self.job.work, self.job.sieve.budget_bytes
        if recipe.dgc_warmup_rounds:
            budget_bytes = dgc_warmup_budget(
                self.server_round, recipe.dgc_warmup_rounds, self.layout.size, budget_bytes
            )
        plan = Plan.from_bytes(self.server.next_plan(budget_bytes).to_bytes(), self.layout)
        rate = work.rate_at(self.server_round, self.job.rounds)
        return RoundOrder(
            self.server_round, self.server.model.public, plan, work.model_copy(update={"learning_rate": rate})
        )

    def _send_down(self, name: str, plan: Plan) -> None:
        """Count what brings a client to the round's model and plan."""
        whole, now = 4 * self.layout.size, self.server_round - 1
        if name not in self._held:
            self.traffic.first_model_bytes += self._first_model_bytes
            self._held[name] = 0 if self.cell.recipe.grown else now
        self.traffic.downlink_bytes += min(sum(self._deltas[self._held[name] : now]), whole)
        self._held[name] = now
        self.traffic.plan_bytes += len(plan.to_bytes())

    def _take(self, name: str, update: LocalUpdate, base: bytes, gathered: Gathering, plan: Plan) -> None:
        """Pack an update, read it back from its bytes and count it; raises `DecodeError` where the two differ."""
        content = UpdateObject(self._header(update, base), update.encoded.frame).pack()
        arrived = UpdateObject.unpack(content)
        decoded = gathered.add(name, arrived)
        if not _is_same(decoded, update.encoded.delivered):
            raise DecodeError(f"codec {self.cell.recipe.codec} decodes something else than it delivers: report it")
        self.bits = self.bits + FrameBits.of(arrived.frame, self.layout, plan)
        self.traffic.uploads += 1
        self.traffic.uplink_bytes += len(arrived.frame)
        self.traffic.object_bytes += len(content)
        self.traffic.dense_bytes += 4 * self.layout.size
        self.traffic.values_sent += len(decoded.indices)
        self.traffic.empty_frames += len(decoded.indices) == 0

    def _header(self, update: LocalUpdate, base: bytes) -> UpdateHeader:
        return UpdateHeader(
            run_tag=run_tag(RUN),
            base_tag=base,
            server_round=self.server_round,
            examples=update.examples,
            steps=self.job.work.steps,
            loss=update.loss,
            correct=0,
            tested=0,
            threshold=update.encoded.threshold,
        )


def _is_same(one: SparseUpdate, other: SparseUpdate) -> bool:
    return np.array_equal(one.indices, other.indices) and np.array_equal(one.values, other.values)
