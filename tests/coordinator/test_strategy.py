from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict

from coordinator.checkpoints import CheckpointStore
from coordinator.flower_compat import adopt_identity
from coordinator.job import Downlink, Job, Sieve, Work
from coordinator.offer_record import manifest_from_record, offer_from_record, offer_to_record
from coordinator.strategy import SieveStrategy
from shared.compression.plan import Plan
from shared.compression.registry import codec_by_name, decode_frame
from shared.delta_chain import since, unpack_history
from shared.errors import RunError
from shared.flower_records import ROUND
from shared.layout import Layout

LAYOUT = Layout.of([("w", (64, 32), "weight"), ("b", (64,), "bias")])
JOB = Job(name="lag", task="watch", sieve=Sieve(prior="none"), downlink=Downlink(budget_bytes=400, history_rounds=5))


def fresh() -> SieveStrategy:
    return SieveStrategy(JOB, "lag-1", LAYOUT, np.linspace(-1, 1, LAYOUT.size, dtype=np.float32), b"bundle")


def step(strategy: SieveStrategy, rounds: int, seed: int = 7) -> list[str]:
    """Step the model by random updates; the digests of the models on the way, the first one too."""
    random, digests = np.random.default_rng(seed), [strategy.model.digest]
    for _ in range(rounds):
        update = (random.standard_t(4, LAYOUT.size) * 0.01).astype(np.float32)
        strategy.model.step(update, 0.4, 1.0, codec_by_name("partition"), JOB.downlink.budget_bytes)
        digests.append(strategy.model.digest)
    return digests


@pytest.mark.parametrize("rounds", [0, 1, 2, 9])
def test_strategy_restored_from_a_checkpoint_offers_the_same_round_bit_for_bit(rounds: int, tmp_path: Path) -> None:
    first, second, store = fresh(), fresh(), CheckpointStore(tmp_path)
    step(first, rounds)
    loaded = store.load(store.save(rounds, first.state(), {}))
    second.restore(loaded.tensors, first.model.base)
    for strategy in (first, second):
        step(strategy, 1, seed=8)
    assert first.offer(10) == second.offer(10)


def test_history_of_an_offer_leads_from_every_model_it_names_to_the_offered_one() -> None:
    strategy = fresh()
    digests = step(strategy, 9)
    offer = strategy.offer(10)
    history = offer.manifest.history
    assert history is not None
    steps = unpack_history(offer.blobs[history.digest])
    assert len(steps) == JOB.downlink.history_rounds
    assert since(steps, digests[0]) == ()
    for held in range(3, 8):  # digests[8] is the manifest's own base
        earlier = fresh()
        step(earlier, held)
        frames = [offer.blobs[s.delta.digest] for s in since(steps, digests[held])]
        for frame in [*frames, offer.attachment[: len(strategy.model.delta)]]:
            decode_frame(frame, LAYOUT, Plan(len(frame))).add_to(earlier.model.public)
        assert earlier.model.digest == strategy.model.digest


def test_first_rounds_offer_no_history() -> None:
    strategy = fresh()
    assert strategy.offer(1).manifest.history is None
    step(strategy, 1)
    assert strategy.offer(2).manifest.history is None
    step(strategy, 1)
    assert strategy.offer(3).manifest.history is not None


def test_scores_without_a_count_of_hits_give_a_loss_and_no_accuracy() -> None:
    adopt_identity(1)

    def reply(**figures: int | float) -> Message:
        asked = Message(RecordDict(), 1, "evaluate")
        return Message(RecordDict({"metrics": MetricRecord({"num-examples": 4, **figures})}), reply_to=asked)

    counted, uncounted = reply(loss=1.0, correct=3), reply(loss=2.0)
    both = fresh().aggregate_evaluate(1, [counted, uncounted])
    assert dict(both or {}) == {"accuracy": 0.75, "loss": 1.5, "devices": 2}
    assert dict(fresh().aggregate_evaluate(1, [uncounted]) or {}) == {"loss": 2.0, "devices": 1}


def test_offer_survives_flowers_records() -> None:
    strategy = fresh()
    step(strategy, 4)
    offer = strategy.offer(5)
    content = RecordDict({ROUND: offer_to_record(offer)})
    assert offer_from_record(content) == offer
    assert manifest_from_record(content) == offer.manifest


def test_a_message_of_another_strategy_has_neither_offer_nor_manifest() -> None:
    content = RecordDict({ROUND: MetricRecord({"loss": 1.0})})
    assert offer_from_record(content) is None
    assert manifest_from_record(content) is None


@pytest.mark.parametrize("missing", ["columns.sent", "model.public"])
def test_a_checkpoint_of_an_earlier_version_is_refused_with_the_remedy(missing: str) -> None:
    state = {name: array for name, array in fresh().state().items() if name != missing}
    with pytest.raises(RunError, match=f"no {missing}.*begin a new run"):
        fresh().restore(state, None)


def test_optimizer_of_the_job_is_offered_to_devices() -> None:
    work = Work(optimizer="adam", beta2=0.99, weight_decay=0.1, decoupled_decay=True, proximal_mu=0.01)
    job = JOB.model_copy(update={"work": work})
    strategy = SieveStrategy(job, "lag-1", LAYOUT, np.zeros(LAYOUT.size, np.float32), b"bundle")
    offered = strategy.offer(1).manifest.work
    assert (offered.optimizer, offered.momentum, offered.beta2) == ("adam", None, 0.99)
    assert (offered.weight_decay, offered.decoupled_decay, offered.proximal_mu) == (0.1, True, 0.01)
