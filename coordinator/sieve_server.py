"""The server's half of sieved rounds, without messages: it plans the sieve, adds up what came, and steps the model."""

from dataclasses import dataclass, field

from coordinator.aggregation import WeightedMean
from coordinator.job import Job
from coordinator.predictor import BlockPredictor, SieveFacts, Trust
from coordinator.server_model import ServerModel
from shared.compression.codec import SparseUpdate
from shared.compression.history import SendHistory
from shared.compression.plan import Plan, plan_from_densities
from shared.compression.registry import codec_by_name, decode_frame
from shared.layout import F32, Layout
from shared.update import UpdateObject


@dataclass
class Gathering:
    """What the updates of one round, made under `plan`, add up to; each is forgotten once it is added."""

    layout: Layout
    plan: Plan
    by_examples: bool
    mean: WeightedMean = field(init=False)
    facts: list[SieveFacts] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.mean = WeightedMean(self.layout.size)

    def add(self, update: UpdateObject, history: SendHistory | None = None) -> SparseUpdate:
        """Decode an update of a client whose `history` both ends know, and count it; returns what it delivered.

        Raises `DecodeError`.
        """
        header = update.header
        sparse = decode_frame(update.frame, self.layout, self.plan.knowing(history))
        self.mean.add(sparse, header.examples if self.by_examples else 1)
        self.facts.append(SieveFacts.of(sparse, self.layout, header.threshold))
        return sparse


class SieveServer:
    """Federated averaging of sieved updates with server momentum; the predictor plans each round's sieve.

    What it does in a round follows from its state and the updates alone, whoever carries them.
    """

    def __init__(self, job: Job, layout: Layout, initial: F32, trust: Trust = "better") -> None:
        self._job, self._layout = job, layout
        self.model = ServerModel(layout, initial, job.downlink.history_rounds)
        self.predictor = BlockPredictor(layout, job.seed, trust)
        self._downlink = codec_by_name(job.downlink.codec)

    def next_plan(self, budget_bytes: int | None = None) -> Plan:
        """What the predictor expects of the coming round, under the job's budget or another."""
        budget_bytes = budget_bytes or self._job.sieve.budget_bytes
        if self._job.sieve.codec != "partition" or self._job.sieve.prior == "none":
            return Plan(budget_bytes)
        return Plan(budget_bytes, plan_from_densities(self.predictor.densities(budget_bytes)))

    def gather(self, plan: Plan) -> Gathering:
        """A round's sum, with nothing in it yet."""
        return Gathering(self._layout, plan, self._job.server.weighting == "examples")

    def step(self, gathered: Gathering) -> None:
        """Move the model by the round's mean update, and teach the predictor what was really sent."""
        server, downlink = self._job.server, self._job.downlink
        update = gathered.mean.mean()
        self.model.step(update, server.momentum, server.learning_rate, self._downlink, downlink.budget_bytes)
        self.predictor.observe(update, gathered.facts, gathered.plan.budget_bytes)
