"""The server's half of sieved rounds, without messages: it plans the sieve, adds up what came, and steps the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from coordinator.aggregation import WeightedMean
from coordinator.column_history import ColumnHistory
from coordinator.decoded_updates import DecodedUpdates
from coordinator.density_forecast import Trust, forecast_for, plans_have_classes
from coordinator.interval import Agreement, Interval
from coordinator.job import Job
from coordinator.send_histories import SendHistories
from coordinator.server_model import ServerModel
from coordinator.sieve_facts import SieveFacts
from shared.compression.codec import SparseUpdate
from shared.compression.history import SendHistory
from shared.compression.partition import history_after
from shared.compression.plan import Plan, plan_from_densities
from shared.compression.registry import codec_by_name, decode_frame
from shared.errors import RunError
from shared.layout import F32, I64, Layout
from shared.update import UpdateObject

Tensors = Mapping[str, npt.NDArray[np.generic]]


@dataclass
class Gathering:
    """What the updates of one round, made under `plan`, add up to; each is forgotten once it is added.

    `history_of` gives a client's sends before the round; `advanced` are the histories after it.
    """

    layout: Layout
    plan: Plan
    by_examples: bool
    history_of: Callable[[str], SendHistory | None]
    decoded: DecodedUpdates
    agreement: Agreement | None = None
    mean: WeightedMean = field(init=False)
    columns: I64 = field(init=False)
    facts: list[SieveFacts] = field(init=False, default_factory=list)
    advanced: dict[str, SendHistory] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.mean = WeightedMean(self.layout.size)
        self.columns = np.zeros(self.layout.num_columns, np.int64)

    def add(self, device: str, update: UpdateObject) -> SparseUpdate:
        """Decode an update and count it; returns what it delivered. Raises `DecodeError`.

        Values of frozen tensors do not count: no honest update has any, and some codecs spread their errors there.
        """
        header, history = update.header, self.history_of(device)
        sparse = self.decoded.of(device, update.frame)
        if sparse is None:
            sparse = decode_frame(update.frame, self.layout, self.plan.knowing(history))
        moved = self._moved(sparse)
        self.mean.add(moved, header.examples if self.by_examples else 1)
        if self.agreement is not None:
            self.agreement.add(moved)
        self.facts.append(SieveFacts.of(sparse, self.layout, header.threshold))
        self.columns += np.bincount(self.layout.columns_of(sparse.indices), minlength=self.layout.num_columns)
        if history is not None:
            self.advanced[device] = history_after(history, update.frame, sparse.indices, self.layout)
        return moved

    def _moved(self, sparse: SparseUpdate) -> SparseUpdate:
        if not self.layout.has_frozen:
            return sparse
        frozen = self.layout.are_frozen(sparse.indices)
        return replace(sparse, indices=sparse.indices[~frozen], values=sparse.values[~frozen])


class SieveServer:
    """Federated averaging of sieved updates with server momentum; the predictor plans each round's sieve.

    What it does in a round follows from its state and the updates alone, whoever carries them.
    """

    def __init__(self, job: Job, layout: Layout, initial: F32, trust: Trust = "better") -> None:
        self._job, self._layout = job, layout
        self.model = ServerModel(layout, initial, job.downlink.history_rounds)
        self.predictor = forecast_for(job, layout, trust)
        self.columns = ColumnHistory(layout)
        self.histories = SendHistories(layout)
        self.decoded = DecodedUpdates()
        self.interval = Interval(job)
        self._downlink = codec_by_name(job.downlink.codec)

    def history_of(self, device: str) -> SendHistory | None:
        """What is known of a device's sends before this round; None where the job's prior does not use that."""
        if self._job.sieve.codec != "partition" or self._job.sieve.prior not in ("client", "both"):
            return None
        return self.histories.of(device)

    def next_plan(self, budget_bytes: int | None = None) -> Plan:
        """What the predictor expects of the coming round, under the job's budget or another.

        Under the prior `client` the plan has no classes: each end knows the client's own sends, and that costs no plan.
        """
        sieve = self._job.sieve
        plain = Plan(
            budget_bytes or sieve.budget_for(self._layout.size),
            gain_eighths=sieve.gain_eighths,
            chance_quarters=sieve.chance_quarters,
        )
        if not plans_have_classes(self._job):
            return plain
        classes = plan_from_densities(self.predictor.densities(plain.budget_bytes))
        return replace(plain, density_classes=classes, column_steps=self.columns.steps() if sieve.columns else None)

    def gather(self, plan: Plan) -> Gathering:
        """A round's sum, with nothing in it yet."""
        by_examples = self._job.server.weighting == "examples"
        agreement = Agreement(self._layout.size) if self.interval.measures else None
        return Gathering(self._layout, plan, by_examples, self.history_of, self.decoded, agreement)

    def step(self, gathered: Gathering) -> None:
        """Move the model by the round's mean update, and teach the predictor what was really sent."""
        server, downlink = self._job.server, self._job.downlink
        update = gathered.mean.mean()
        budget_bytes = downlink.budget_for(self._layout.size)
        self.model.step(update, server.momentum, server.learning_rate, self._downlink, budget_bytes)
        self.predictor.observe(update, gathered.facts, gathered.plan.budget_bytes)
        self.columns.observe(gathered.columns)
        if gathered.agreement is not None:
            self.interval.observe(gathered.agreement)

    def remember(self, gathered: Gathering) -> None:
        """Advance the histories of those whose updates were accepted, whether or not the round's mean counts."""
        self.histories.advance(gathered.advanced)
        self.decoded.clear()

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """All arrays that the next round follows from."""
        state: dict[str, npt.NDArray[np.generic]] = {f"model.{k}": v for k, v in self.model.state().items()}
        state |= {f"predictor.{k}": v for k, v in self.predictor.state().items()}
        state |= {f"columns.{k}": v for k, v in self.columns.state().items()}
        state |= {f"history.{k}": v for k, v in self.histories.state().items()}
        state |= {f"interval.{k}": v for k, v in self.interval.state().items()}
        return state | {"delta": np.frombuffer(self.model.delta, np.uint8)}

    def restore(self, state: Tensors, base: str | None) -> None:
        """Continue from a checkpoint's arrays, bit for bit; `base` is the digest that the delta starts from.

        Raises `RunError` on a checkpoint of an earlier version.
        """
        if missing := self.state().keys() - state.keys():
            raise RunError(f"the checkpoint has no {min(missing)}, an earlier version wrote it: begin a new run")
        self.model.restore(_below("model.", state), base, state["delta"].tobytes())
        self.predictor.restore(_below("predictor.", state))
        self.columns.restore(_below("columns.", state))
        self.histories.restore(_below("history.", state))
        self.interval.restore(_below("interval.", state))


def _below(prefix: str, state: Tensors) -> dict[str, npt.NDArray[np.generic]]:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
