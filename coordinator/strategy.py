"""The Flower Strategy of sieved rounds: plan the sieve, offer the round, add up what came, step the server model."""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from safetensors.numpy import save_file

from coordinator.cohort import cohort
from coordinator.flower_compat import node_id_of
from coordinator.job import Job
from coordinator.offer_record import offer_to_record
from coordinator.round_offer import RoundOffer
from coordinator.server_model import model_bytes
from coordinator.sieve_server import SieveServer
from shared.compression.plan import Plan
from shared.delta_chain import Step, pack_history
from shared.flower_records import CLIENT, ROUND, UPDATE
from shared.layout import F32, Layout
from shared.messages import BlobRef, LocalWork, RoundManifest
from shared.update import UpdateHeader, UpdateObject

log = logging.getLogger(__name__)

LARGEST_INLINE_BYTES = 24 * 1024


@dataclass
class RoundTally:
    """What the accepted updates of one round say, each a plain sum over devices."""

    updates: int = 0
    examples: int = 0
    train_loss: float = 0.0
    losses: int = 0
    accuracy: float = 0.0
    evaluated: int = 0
    failures: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Means for the journal; accuracy is the mean over devices, of the model that the round began with."""
        figures = {"updates": float(self.updates), "examples": float(self.examples)}
        if self.losses:
            figures["train_loss"] = self.train_loss / self.losses
        if self.evaluated:
            figures["base_accuracy"] = self.accuracy / self.evaluated
        return figures


class SieveStrategy(Strategy):
    """Federated averaging of sieved updates with server momentum; the predictor plans each round's sieve.

    Everything it does in a round follows from its state, which a checkpoint keeps: a resumed round is the same round.
    """

    def __init__(self, job: Job, run: str, layout: Layout, initial: F32, bundle: bytes, grows: bool = False) -> None:
        self.job, self.run, self.layout = job, run, layout
        self.server = SieveServer(job, layout, initial)
        self.model, self.predictor = self.server.model, self.server.predictor
        self.tally = RoundTally()
        self._planned: tuple[int, Plan] | None = None
        self._bundle, self._grows = bundle, grows

    def summary(self) -> None:
        """Log what this strategy is about to do."""
        log.info("%s: %d rounds of %d values, %s sieve at %d bytes an update", self.run, self.job.rounds,
                 self.layout.size, self.job.sieve.codec, self.job.sieve.budget_for(self.layout.size))  # fmt: skip

    def begin_round(self, server_round: int, plan: bytes) -> None:
        """Use this plan in a round: the journal's, which a restart on another machine might not compute again."""
        self._planned = (server_round, Plan.from_bytes(plan, self.layout))

    def plan_of(self, server_round: int) -> Plan:
        """The plan of a round: what `begin_round` was told, else what the predictor says now."""
        if self._planned is None or self._planned[0] != server_round:
            self._planned = (server_round, self.next_plan())
        return self._planned[1]

    def next_plan(self) -> Plan:
        """What the predictor expects of the coming round."""
        return self.server.next_plan()

    def select(self, server_round: int, devices: list[str]) -> list[str]:
        """The devices asked in a round: a share of those online, drawn by seed and round alone."""
        return cohort(self.job, server_round, devices)

    def offer(self, server_round: int) -> RoundOffer:
        """The round as devices see it: the model to start from, how to get there, the plan, and the work."""
        attachment = bytearray()

        def inline(content: bytes) -> BlobRef:
            attachment.extend(content)
            return _ref(content, offset=len(attachment) - len(content))

        model, delta, earlier = model_bytes(self.model.public), self.model.delta, self.model.earlier
        history = pack_history([Step(link.base, _ref(link.frame)) for link in earlier]) if earlier else b""
        small = len(delta) <= LARGEST_INLINE_BYTES
        fetched = [self._bundle, model, history, *(link.frame for link in earlier), b"" if small else delta]
        blobs = {_ref(content).digest: content for content in fetched if content}
        manifest = RoundManifest(
            run=self.run,
            server_round=server_round,
            bundle=_ref(self._bundle),
            model=_ref(model),
            base=self.model.base,
            delta=None if not delta else inline(delta) if small else _ref(delta),
            history=_ref(history) if history else None,
            plan=inline(self.plan_of(server_round).to_bytes()),
            work=self._local_work(server_round),
        )
        return RoundOffer(manifest, bytes(attachment), blobs, self._at_once(manifest))

    def _at_once(self, manifest: RoundManifest) -> tuple[str, ...]:
        """In a run's first round nobody holds anything: all want the bundle, and the model unless they grow it."""
        if manifest.base is not None:
            return ()
        return (manifest.bundle.digest,) if self._grows else (manifest.bundle.digest, manifest.model.digest)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One message a device, all with the same offer: the grid publishes it once."""
        return self._messages(server_round, "train", grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Add each update as it is read, step the server model, and teach the predictor what was really sent."""
        gathered, self.tally = self.server.gather(self.plan_of(server_round)), RoundTally()
        for reply in replies:
            if reply.has_error():
                self.tally.failures.append(reply.error.reason or "")
                continue
            record = cast(ConfigRecord, reply.content[UPDATE])
            update = UpdateObject.unpack(bytes(record["content"]))  # type: ignore[arg-type]  # always bytes: the grid's
            gathered.add(str(record["device"]), update)
            self._count(update.header)
        self.server.remember(gathered)
        if self.tally.updates < self.job.fleet.minimum_updates:
            log.warning("round %d is void: %d updates, at least %d are wanted; the model stays",
                        server_round, self.tally.updates, self.job.fleet.minimum_updates)  # fmt: skip
            return None, MetricRecord({**self.tally.figures()})
        self.server.step(gathered)
        return self.arrays(), MetricRecord({**self.tally.figures()})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Every update reports how the model it began with does, so only the last model needs a question of its own."""
        return self._messages(server_round + 1, "evaluate", grid) if server_round >= self.job.rounds else []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The mean over devices of the loss on their own test windows, and of the accuracy where labels are classes."""
        scores = [plain_figures(next(iter(r.content.metric_records.values()))) for r in replies if not r.has_error()]
        scores = [score for score in scores if score["num-examples"]]
        if not scores:
            return None
        shares = [score["correct"] / score["num-examples"] for score in scores if "correct" in score]
        accuracy = {"accuracy": float(np.mean(shares))} if shares else {}
        loss = float(np.mean([score["loss"] for score in scores]))
        return MetricRecord({**accuracy, "loss": loss, "devices": len(scores)})

    def arrays(self) -> ArrayRecord:
        """The public model by tensor name, as Flower carries models."""
        return ArrayRecord({name: Array(tensor) for name, tensor in self.layout.split(self.model.public).items()})

    def save_model(self, path: Path) -> None:
        """Write the public model by tensor name, as safetensors."""
        save_file({name: np.ascontiguousarray(t) for name, t in self.layout.split(self.model.public).items()}, path)

    def state(self) -> dict[str, np.ndarray]:
        """All arrays that the next round follows from."""
        return self.server.state()

    def restore(self, state: dict[str, np.ndarray], base: str | None) -> None:
        """Continue from a checkpoint's arrays, bit for bit; `base` is the digest that the delta starts from."""
        self.server.restore(state, base)

    def _messages(self, server_round: int, message_type: str, grid: Grid) -> list[Message]:
        offer = offer_to_record(self.offer(server_round))
        names = {node_id_of(device): device for device in self.server.histories}

        def content(node_id: int) -> RecordDict:
            """The offer, and the tag of what is known of the node's sends where that serves the sieve."""
            history = self.server.history_of(names.get(node_id, "")) if message_type == "train" else None
            own = {CLIENT: ConfigRecord({"history": history.tag.hex()})} if history else {}
            return RecordDict({ROUND: offer, **own})

        return [Message(content(node_id), node_id, message_type) for node_id in grid.get_node_ids()]

    def _count(self, header: UpdateHeader) -> None:
        self.tally.updates += 1
        self.tally.examples += header.examples
        if header.loss is not None:
            self.tally.losses += 1
            self.tally.train_loss += header.loss
        if header.tested:
            self.tally.evaluated += 1
            self.tally.accuracy += header.correct / header.tested

    def _local_work(self, server_round: int) -> LocalWork:
        work = self.job.work
        return LocalWork(
            steps=self.server.interval.at(server_round),
            batch_size=work.batch_size,
            learning_rate=work.rate_at(min(server_round, self.job.rounds), self.job.rounds),
            optimizer=work.optimizer,
            momentum=work.momentum if work.optimizer == "sgd" else None,
            nesterov=work.nesterov,
            beta1=work.beta1,
            beta2=work.beta2,
            epsilon=work.epsilon,
            weight_decay=work.weight_decay,
            decoupled_decay=work.decoupled_decay,
            clip_norm=work.clip_norm,
            proximal_mu=work.proximal_mu,
            codec=self.job.sieve.codec,
            seed=self.job.seed,
            evaluate=True,
        )


def _ref(content: bytes, offset: int | None = None) -> BlobRef:
    return BlobRef(digest=hashlib.sha256(content).hexdigest(), size=len(content), offset=offset)


def plain_figures(metrics: MetricRecord | None) -> dict[str, float]:
    """The single numbers of a record; Flower's type allows lists beside them, which no figure of ours is."""
    return {key: float(value) for key, value in (metrics or {}).items() if isinstance(value, int | float)}
