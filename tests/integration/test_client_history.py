"""A client's history of sends, kept at both ends through refusals, losses and restarts; training alone is made up."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from flwr.app import ConfigRecord
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coordinator.admission import Admission, AdmissionLimits, Admitted
from coordinator.checkpoints import CheckpointStore
from coordinator.flower_compat import adopt_identity, node_id_of
from coordinator.job import Fleet, Job, PriorName, Sieve
from coordinator.strategy import SieveStrategy
from edge_client.local_round import carried_over, run_round
from edge_client.orders import TrainOrder
from edge_client.pending import PendingStore, PendingUpdate
from edge_client.runtime import TrainReport
from edge_client.task import Task
from shared.compression.frame_stats import describe
from shared.compression.history import NO_TAG
from shared.compression.plan import Plan
from shared.flower_records import CLIENT
from shared.layout import F32, Layout
from shared.messages import LocalWork
from shared.update import UpdateObject

LAYOUT = Layout.of([("a.weight", (24, 40), "weight"), ("a.bias", (24,), "bias"), ("b.weight", (10, 24), "weight")])
ME = "board-1"
WORK = LocalWork(steps=1, batch_size=1, learning_rate=0.1, momentum=0.0, codec="partition", seed=1)


def job_of(prior: PriorName) -> Job:
    sieve = Sieve(prior=prior, budget_bytes=70)
    return Job(name="history", task="watch", sieve=sieve, fleet=Fleet(minimum_updates=1))


@dataclass
class MadeUpRuntime:
    """Every round moves the weights of a few rows and columns, by values that follow from the round alone."""

    random: np.random.Generator

    def train(self, weights: F32, batches: object, work: LocalWork, has_time: object) -> TrainReport:
        scale = np.ones(LAYOUT.size, np.float32)
        scale[: 24 * 40].reshape(24, 40)[::5, ::7] = 12.0
        weights += (self.random.standard_normal(LAYOUT.size) * scale).astype(np.float32)
        return TrainReport(1, 0.5)


class Ends:
    """A strategy and one device, with their real stores and nothing between them."""

    def __init__(self, folder: Path, prior: PriorName) -> None:
        self.folder, self.prior, self.server_round = folder, prior, 0
        self.checkpoints, self.state = CheckpointStore(folder / "checkpoints"), folder / "device"
        self.state.mkdir()
        self.strategy = self.fresh()
        runtime = MadeUpRuntime(np.random.default_rng(3))
        split = SimpleNamespace(train_x=np.zeros((1, 1), np.float32), train_y=np.zeros(1, np.int64), test_x=[])
        self.task = cast(Task, SimpleNamespace(layout=LAYOUT, runtime=runtime, split=split))
        adopt_identity(1)
        self.saved: str | None = None
        self.priors: list[str] = []

    def fresh(self) -> SieveStrategy:
        return SieveStrategy(job_of(self.prior), "history-1", LAYOUT, np.zeros(LAYOUT.size, np.float32), b"bundle")

    def tag(self) -> str | None:
        """The tag in the command that the strategy's message to the device leads to."""
        grid = cast(Any, SimpleNamespace(get_node_ids=lambda: [node_id_of(ME)]))
        message, *_ = self.strategy.configure_train(self.server_round, self.strategy.arrays(), ConfigRecord(), grid)
        own = message.content.config_records.get(CLIENT)
        return None if own is None else str(own["history"])

    def play(self, accepted: bool = True) -> None:
        """A round; an update that is not accepted is refused to the device and never counted."""
        self.server_round += 1
        plan, store = self.strategy.plan_of(self.server_round), PendingStore(self.state)
        target = self.strategy.model.digest
        order = TrainOrder(
            run="history-1", server_round=self.server_round, bundle="b", target=target, seconds=9.0, device=ME,
            work=WORK, history=self.tag(),
        )  # fmt: skip
        carried = carried_over(store, LAYOUT, "partition", self.server_round)
        result = run_round(order, self.task, plan, self.strategy.model.public, carried, lambda: True)
        update = PendingUpdate(
            "history-1", self.server_round, target, 1, result.object, plan.to_bytes(), result.history
        )
        store.commit(update, result.residual.data)
        before = self.strategy.server.history_of(ME)
        frame = UpdateObject.unpack(result.object).frame
        self.priors.append(describe(frame, LAYOUT, plan.knowing(before)).prior)
        self.count(result.object, plan, accepted)
        store.settle(self.server_round, accepted)

    def count(self, content: bytes, plan: Plan, accepted: bool) -> None:
        admission = Admission(
            LAYOUT, plan, self.server_round, self.strategy.model.digest, AdmissionLimits(largest_norm_ratio=1e9),
            history_of=self.strategy.server.history_of,
        )  # fmt: skip
        assert isinstance(admission.judge(ME, content), Admitted)
        gathered = self.strategy.server.gather(plan)
        if accepted:
            gathered.add(ME, UpdateObject.unpack(content))
            self.strategy.server.remember(gathered)
            self.strategy.server.step(gathered)
        facts = {"base": self.strategy.model.base or ""}
        self.saved = self.checkpoints.save(self.server_round, self.strategy.state(), facts)

    def restart_coordinator(self) -> None:
        if self.saved is not None:
            checkpoint = self.checkpoints.load(self.saved)
            self.strategy = self.fresh()
            self.strategy.restore(checkpoint.tensors, checkpoint.facts["base"] or None)

    def wipe_device(self) -> None:
        shutil.rmtree(self.state)
        self.state.mkdir()

    def agree(self) -> bool:
        """Whether the device's history is the coordinator's."""
        history = carried_over(PendingStore(self.state), LAYOUT, "partition", self.server_round + 1).history
        held = NO_TAG if history is None else history.tag
        known = self.strategy.server.history_of(ME)
        return known is not None and held == known.tag


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    return Ends(tmp_path, "client")


def test_from_the_second_round_on_updates_are_sieved_by_the_history(ends: Ends) -> None:
    for _ in range(6):
        ends.play()
    assert "client" not in ends.priors[:1]
    assert ends.priors[2:] == ["client"] * 4
    assert ends.agree()


def test_a_refused_update_leaves_both_histories_as_they_were(ends: Ends) -> None:
    for accepted in (True, True, False, True, True):
        ends.play(accepted)
        assert ends.agree()
    assert ends.priors[-1] == "client"


def test_a_device_that_lost_its_state_begins_anew_and_so_does_the_coordinator(ends: Ends) -> None:
    for _ in range(4):
        ends.play()
    ends.wipe_device()
    assert not ends.agree()
    ends.play()
    assert ends.priors[-1] != "client"
    assert ends.agree()
    ends.play()
    ends.play()
    assert ends.priors[-1] == "client"


def test_a_coordinator_that_lost_its_histories_asks_for_a_new_beginning(ends: Ends) -> None:
    for _ in range(4):
        ends.play()
    ends.strategy.server.histories.clear()
    ends.play()
    assert ends.priors[-1] != "client"
    assert ends.agree()


def test_a_restarted_coordinator_knows_every_history(ends: Ends) -> None:
    for _ in range(4):
        ends.play()
    ends.restart_coordinator()
    ends.play()
    assert ends.priors[-1] == "client"
    assert ends.agree()


@pytest.mark.parametrize("prior", ["none", "public"])
def test_without_a_history_in_the_job_no_tag_is_sent_and_none_is_kept(tmp_path: Path, prior: PriorName) -> None:
    ends = Ends(tmp_path, prior)
    for _ in range(3):
        ends.play()
    assert ends.tag() is None
    assert not ends.strategy.server.histories
    assert "client" not in ends.priors


class AnyFate(RuleBasedStateMachine):
    """Whatever happens, each accepted update decodes, or `play` fails; and after it both ends agree."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.ends = Ends(Path(self.folder.name), "both")
        self.in_step = True

    @rule(accepted=st.booleans())
    def play(self, accepted: bool) -> None:
        self.ends.play(accepted)
        self.in_step = accepted or self.in_step

    @rule()
    def restart_coordinator(self) -> None:
        self.ends.restart_coordinator()

    @rule()
    def wipe_device(self) -> None:
        self.ends.wipe_device()
        self.in_step = False

    @rule()
    def forget_histories(self) -> None:
        self.ends.strategy.server.histories.clear()
        self.in_step = False

    @invariant()
    def both_ends_agree_after_an_accepted_update(self) -> None:
        assert self.ends.agree() or not self.in_step

    def teardown(self) -> None:
        self.folder.cleanup()


TestAnyFate = AnyFate.TestCase
TestAnyFate.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
