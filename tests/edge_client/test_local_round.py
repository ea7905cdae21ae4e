from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_client.data import FolderSource
from edge_client.local_round import Carried, carried_over, run_round, self_contained_plan
from edge_client.noise import privatize
from edge_client.orders import LocalRules, PrivacyTerms
from edge_client.pending import PendingStore, PendingUpdate
from edge_client.runtime import OnnxRuntime, Score
from edge_client.task import Task, read_archive
from shared.compression.history import SendHistory
from shared.compression.plan import Plan
from shared.compression.registry import decode_frame
from shared.compression.residual import ResidualFeedback
from shared.errors import DeadlineExceeded, Declined
from shared.labels import Inputs, Labels
from shared.layout import F32
from shared.update import UpdateObject, base_tag, run_tag

if TYPE_CHECKING:
    from tests.edge_client.conftest import Lab


@pytest.fixture
def task(lab: "Lab") -> Task:
    return Task(read_archive(lab.state / "bundles" / f"{lab.task.bundle_digest}.gsb"), FolderSource(lab.data))


def nothing(task: Task) -> Carried:
    return Carried(ResidualFeedback.zero(task.layout.size))


def delivered(packed: bytes, task: Task, plan: Plan) -> F32:
    return decode_frame(UpdateObject.unpack(packed).frame, task.layout, plan).densify()


def test_header_says_what_was_done(lab: "Lab", task: Task) -> None:
    order = lab.train_order(server_round=4, evaluate=True)
    result = run_round(order, task, None, lab.task.weights, nothing(task), lambda: True)
    header = UpdateObject.unpack(result.object).header
    score = task.runtime.evaluate(lab.task.weights, task.split.test_x, task.split.test_y)
    assert (header.run_tag, header.base_tag) == (run_tag("r"), base_tag(lab.target))
    assert (header.server_round, header.steps, result.steps) == (4, 6, 6)
    assert header.examples == len(task.split.train_x)
    assert (header.correct, header.tested) == (score.correct, len(task.split.test_x))
    assert header.loss is not None
    assert 0 < header.loss < 2


def test_model_is_not_scored_unless_asked_for(lab: "Lab", task: Task) -> None:
    result = run_round(lab.train_order(), task, None, lab.task.weights, nothing(task), lambda: True)
    assert UpdateObject.unpack(result.object).header.tested == 0


def test_labels_that_are_no_classes_leave_the_update_without_an_accuracy(lab: "Lab", task: Task) -> None:
    class Numbers(OnnxRuntime):
        def evaluate(self, weights: F32, x: Inputs, y: Labels) -> Score:
            return Score(0.5, None, len(x))

    files = read_archive(lab.state / "bundles" / f"{lab.task.bundle_digest}.gsb").files
    task.runtime = Numbers(files["train.onnx"], files["eval.onnx"], task.layout)
    result = run_round(lab.train_order(evaluate=True), task, None, lab.task.weights, nothing(task), lambda: True)
    header = UpdateObject.unpack(result.object).header
    assert (header.correct, header.tested) == (0, 0)


@pytest.mark.parametrize("codec", ["dense", "stc", "partition"])
def test_what_is_not_delivered_stays_as_residual(lab: "Lab", task: Task, codec: str) -> None:
    order = lab.train_order()
    sieved = order.model_copy(update={"work": order.work.model_copy(update={"codec": codec})})
    plan = Plan(budget_bytes=60)
    whole = run_round(order, task, None, lab.task.weights, nothing(task), lambda: True)
    part = run_round(sieved, task, plan, lab.task.weights, nothing(task), lambda: True)
    update = delivered(whole.object, task, self_contained_plan(task.layout))
    np.testing.assert_allclose(delivered(part.object, task, plan) + part.residual, update, rtol=0, atol=1e-6)
    assert (part.residual != 0).any() == (codec != "dense")


def test_residual_is_carried_into_the_next_update(lab: "Lab", task: Task) -> None:
    owed = Carried(ResidualFeedback(np.full(task.layout.size, 0.25, np.float32)))
    without = run_round(lab.train_order(), task, None, lab.task.weights, nothing(task), lambda: True)
    with_it = run_round(lab.train_order(), task, None, lab.task.weights, owed, lambda: True)
    plan = self_contained_plan(task.layout)
    difference = delivered(with_it.object, task, plan) - delivered(without.object, task, plan)
    np.testing.assert_allclose(difference, 0.25, atol=1e-6)


def test_no_time_for_a_step_is_no_update(lab: "Lab", task: Task) -> None:
    with pytest.raises(DeadlineExceeded, match="60 s of the order ended before the first step"):
        run_round(lab.train_order(), task, None, lab.task.weights, nothing(task), lambda: False)


def committed(lab: "Lab", task: Task, server_round: int) -> tuple[PendingStore, F32, F32]:
    """A store with one sieved update, and what was delivered and left."""
    order, plan = lab.train_order(server_round), Plan(budget_bytes=60)
    order = order.model_copy(update={"work": order.work.model_copy(update={"codec": "partition"})})
    result = run_round(order, task, plan, lab.task.weights, nothing(task), lambda: True)
    lab.run.mkdir(parents=True)
    store = PendingStore(lab.run)
    update = PendingUpdate("r", server_round, lab.target, result.steps, result.object, plan.to_bytes())
    store.commit(update, result.residual.data)
    return store, delivered(result.object, task, plan), result.residual


def test_first_round_carries_nothing(lab: "Lab", task: Task) -> None:
    carried = carried_over(PendingStore(lab.run), task.layout, "partition", 0)
    assert not carried.memory.state.any()
    assert carried.missed_rounds == 0


def test_accepted_update_leaves_its_residual(lab: "Lab", task: Task) -> None:
    store, _, residual = committed(lab, task, 2)
    store.settle(2, True)
    carried = carried_over(store, task.layout, "partition", 5)
    assert carried.memory.state.tobytes() == residual.tobytes()
    assert carried.missed_rounds == 2


def test_refused_update_comes_back_to_the_last_bit(lab: "Lab", task: Task) -> None:
    store, sent, residual = committed(lab, task, 2)
    assert sent.any()
    assert residual.any()
    store.settle(2, False)
    carried = carried_over(store, task.layout, "partition", 3)
    assert carried.memory.state.tobytes() == (residual + sent).tobytes()


def test_residual_of_another_layout_is_dropped(lab: "Lab", task: Task, caplog: pytest.LogCaptureFixture) -> None:
    lab.run.mkdir(parents=True)
    store = PendingStore(lab.run)
    store.commit(PendingUpdate("r", 1, lab.target, 1, b"?"), bytes(8))
    store.settle(1, False)
    assert not carried_over(store, task.layout, "partition", 2).memory.state.any()
    assert "a residual of 2 values" in caplog.text


@pytest.mark.parametrize("damaged", ["plan", "history", "object"])
@pytest.mark.parametrize("accepted", [True, False])
def test_what_another_version_left_behind_is_forgotten_and_the_device_goes_on(
    lab: "Lab", task: Task, damaged: str, accepted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    store, _, residual = committed(lab, task, 2)
    last, history = store.read(), SendHistory.empty(task.layout).to_bytes()
    assert last is not None
    parts = {"plan": last.plan, "history": history, "object": last.object} | {damaged: b"\xff" * 9}
    left = replace(last, plan=parts["plan"], history=parts["history"], object=parts["object"])
    store.commit(left, residual.data)
    store.settle(2, accepted)
    carried = carried_over(store, task.layout, "partition", 4)
    assert carried.history is None
    assert carried.missed_rounds == 1
    assert "cannot be read and is forgotten" in caplog.text


PRIVATE = LocalRules(
    report_loss=False,
    report_accuracy=False,
    report_examples=False,
    privacy=PrivacyTerms(clip_norm=0.1, noise_multiplier=1.0, delta=1e-5),
)


def seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_figures_that_stay_on_the_device_are_not_in_the_header(lab: "Lab", task: Task) -> None:
    rules = LocalRules(report_loss=False, report_accuracy=False, report_examples=False)
    order = lab.train_order(evaluate=True, rules=rules)
    header = UpdateObject.unpack(
        run_round(order, task, None, lab.task.weights, nothing(task), lambda: True).object
    ).header
    assert (header.loss, header.correct, header.tested, header.examples) == (None, 0, 0, 1)
    assert header.steps == 6


def test_accuracy_without_the_count_of_examples_is_told_in_thousandths(lab: "Lab", task: Task) -> None:
    order = lab.train_order(evaluate=True, rules=LocalRules(report_examples=False))
    header = UpdateObject.unpack(
        run_round(order, task, None, lab.task.weights, nothing(task), lambda: True).object
    ).header
    score = task.runtime.evaluate(lab.task.weights, task.split.test_x, task.split.test_y)
    assert score.correct is not None
    assert (header.correct, header.tested) == (round(1000 * score.correct / score.examples), 1000)


@pytest.mark.parametrize(("told", "text"), [(True, r"steps are \d+\.\d passes"), (False, "steps are more passes")])
def test_more_passes_than_allowed_are_declined_without_telling_how_much_data_there_is(
    lab: "Lab", task: Task, told: bool, text: str
) -> None:
    rules = LocalRules(most_epochs=0.01, report_examples=told)
    with pytest.raises(Declined, match=text) as caught:
        run_round(lab.train_order(rules=rules), task, None, lab.task.weights, nothing(task), lambda: True)
    assert caught.value.reason == "epochs"


def test_noise_comes_before_the_sieve_so_that_all_that_is_sent_and_kept_has_it(lab: "Lab", task: Task) -> None:
    order = lab.train_order(rules=PRIVATE)
    sieved = order.model_copy(update={"work": order.work.model_copy(update={"codec": "partition"})})
    plan = Plan(budget_bytes=60)
    whole = run_round(order, task, None, lab.task.weights, nothing(task), lambda: True, seeded(3))
    part = run_round(sieved, task, plan, lab.task.weights, nothing(task), lambda: True, seeded(3))
    plain = run_round(lab.train_order(), task, None, lab.task.weights, nothing(task), lambda: True)
    expected = delivered(plain.object, task, self_contained_plan(task.layout)).copy()
    privatize(expected, PRIVATE.privacy or PrivacyTerms(clip_norm=1, noise_multiplier=1, delta=0.1), seeded(3))
    np.testing.assert_allclose(delivered(whole.object, task, self_contained_plan(task.layout)), expected, atol=1e-6)
    np.testing.assert_allclose(delivered(part.object, task, plan) + part.residual, expected, atol=1e-6)


@pytest.mark.parametrize("told", [True, False])
def test_label_counts_are_told_only_by_the_rules(lab: "Lab", task: Task, told: bool) -> None:
    order = lab.train_order(rules=LocalRules(report_label_counts=told))
    result = run_round(order, task, None, lab.task.weights, nothing(task), lambda: True)
    assert result.label_counts == (tuple(np.bincount(task.split.train_y).tolist()) if told else ())


def test_unseeded_noise_is_never_the_same(lab: "Lab", task: Task) -> None:
    order = lab.train_order(rules=PRIVATE)
    sent = {run_round(order, task, None, lab.task.weights, nothing(task), lambda: True).object for _ in range(2)}
    assert len(sent) == 2


@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("noised", [True, False])
def test_private_round_carries_over_noised_values_alone(lab: "Lab", task: Task, accepted: bool, noised: bool) -> None:
    store, _, residual = committed(lab, task, 2)
    last = store.read()
    assert last is not None
    store.commit(replace(last, noised=noised), residual.data)
    store.settle(2, accepted)
    carried = carried_over(store, task.layout, "partition", 3, private=True)
    assert carried.memory.state.any() == noised
