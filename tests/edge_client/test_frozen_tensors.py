"""A round of a model with a frozen layer: what is kept and sent of it."""

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from coordinator.export.step import export_step
from coordinator.export.step_graphs import initial_weights
from edge_client.data import FolderSource
from edge_client.local_round import Carried, carried_over, run_round, self_contained_plan
from edge_client.orders import LocalRules, PrivacyTerms
from edge_client.pending import PendingStore, PendingUpdate
from edge_client.runtime import OnnxRuntime
from edge_client.task import Task, read_archive
from shared.compression.plan import Plan
from shared.compression.registry import decode_frame
from shared.compression.residual import ResidualFeedback
from shared.layout import F32
from shared.update import UpdateObject

if TYPE_CHECKING:
    from tests.edge_client.conftest import Lab

NOISE = PrivacyTerms(clip_norm=0.1, noise_multiplier=1.0, delta=1e-5)
PRIVATE = LocalRules(report_loss=False, report_accuracy=False, report_examples=False, privacy=NOISE)


@pytest.fixture
def tuned(lab: "Lab", tiny_net: nn.Module) -> tuple[Task, F32]:
    """The tiny task with its convolution frozen, and its weights."""
    conv = tiny_net.get_submodule("conv")
    for parameter in conv.parameters():
        parameter.requires_grad_(False)
    graphs = export_step(tiny_net, nn.functional.cross_entropy, torch.zeros(4, 2, 8), torch.zeros(4, dtype=torch.int64))
    task = Task(read_archive(lab.state / "bundles" / f"{lab.task.bundle_digest}.gsb"), FolderSource(lab.data))
    task = task.with_runtime(OnnxRuntime(graphs.train, graphs.evaluate, graphs.layout))
    task.layout = graphs.layout
    return task, initial_weights(tiny_net, graphs.layout)


@pytest.mark.parametrize("rules", [LocalRules(), PRIVATE], ids=["plain", "noised"])
@pytest.mark.parametrize("codec", ["dense", "partition"])
def test_frozen_values_are_neither_moved_nor_noised_nor_kept_as_residual(
    lab: "Lab", tuned: tuple[Task, F32], codec: str, rules: LocalRules
) -> None:
    task, weights = tuned
    order = lab.train_order(rules=rules)
    order = order.model_copy(update={"work": order.work.model_copy(update={"codec": codec})})
    plan = self_contained_plan(task.layout) if codec == "dense" else Plan(budget_bytes=60)
    carried = Carried(ResidualFeedback.zero(task.layout.size))
    result = run_round(order, task, plan, weights, carried, lambda: True, np.random.default_rng(1))
    sent = decode_frame(UpdateObject.unpack(result.object).frame, task.layout, plan).densify()
    frozen = task.layout.are_frozen(np.arange(task.layout.size))
    assert 0 < frozen.sum() < frozen.size
    assert sent.any()
    assert not sent[frozen].any()
    assert result.residual.size == (~frozen).sum()


def test_what_is_left_comes_back_with_nothing_for_the_frozen_layer(lab: "Lab", tuned: tuple[Task, F32]) -> None:
    task, weights = tuned
    order = lab.train_order(server_round=2)
    order = order.model_copy(update={"work": order.work.model_copy(update={"codec": "partition"})})
    carried = Carried(ResidualFeedback.zero(task.layout.size))
    result = run_round(order, task, Plan(budget_bytes=60), weights, carried, lambda: True)
    lab.run.mkdir(parents=True)
    store = PendingStore(lab.run)
    update = PendingUpdate("r", 2, order.target, result.steps, result.object, b"", result.history)
    store.commit(update, result.residual.data)
    store.settle(2, True)
    kept = carried_over(store, task.layout, "partition", 3).memory.state
    assert kept.size == task.layout.size
    np.testing.assert_array_equal(task.layout.without_frozen(kept), result.residual)
    assert not kept[task.layout.are_frozen(np.arange(kept.size))].any()
