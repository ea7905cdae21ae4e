import math
from itertools import pairwise

import numpy as np
import pytest

from shared.compression.codec import SparseUpdate
from shared.compression.dgc import DgcCodec, MomentumCorrection, dgc_warmup_budget, warm_up_density
from shared.compression.plan import Plan
from shared.compression.topk import TopKCodec
from shared.layout import F32, Layout

CODEC = DgcCodec()


def test_every_tensor_sends_the_same_share_of_its_values_its_largest(watch_layout: Layout) -> None:
    update = np.random.default_rng(0).standard_normal(watch_layout.size).astype(np.float32)
    update[watch_layout.offsets[2] :] *= 100
    delivered = CODEC.encode(update, watch_layout, Plan(1_000)).delivered
    share = (len(delivered.indices) - len(watch_layout.tensors)) / watch_layout.size
    for start, end in pairwise(watch_layout.offsets):
        sent = delivered.indices[(start <= delivered.indices) & (delivered.indices < end)]
        assert max(1, share * (end - start)) <= len(sent) <= share * (end - start) + 3
        assert set(sent) == set(start + np.argsort(-np.abs(update[start:end]))[: len(sent)])


@pytest.mark.parametrize("budget_bytes", [300, 3_000])
def test_the_budget_is_filled(watch_layout: Layout, budget_bytes: int) -> None:
    update = np.random.default_rng(0).standard_t(4, watch_layout.size).astype(np.float32)
    length = len(CODEC.encode(update, watch_layout, Plan(budget_bytes)).frame)
    assert budget_bytes - 40 <= length <= budget_bytes


def deliver(vector: F32, indices: list[int]) -> SparseUpdate:
    return SparseUpdate(len(vector), np.array(indices, np.int64), vector[indices])


def test_what_is_held_back_is_sent_with_the_momentum_it_missed() -> None:
    """The paper's equations 4 and 5: u = m u + g, v = v + u; three rounds unsent give g (3 + 2 m + m²)."""
    memory = MomentumCorrection(np.zeros(2, np.float32), np.zeros(2, np.float32), momentum=0.5)
    for _ in range(3):
        compensated = memory.compensate(np.ones(2, np.float32))
        memory = memory.after(compensated, deliver(compensated, []))
    np.testing.assert_allclose(compensated, 3 + 2 * 0.5 + 0.25)


def test_momentum_stops_where_a_value_was_sent_and_nowhere_else() -> None:
    memory = MomentumCorrection(np.zeros(3, np.float32), np.zeros(3, np.float32), momentum=0.5)
    compensated = memory.compensate(np.array([1, 2, 4], np.float32))
    memory = memory.after(compensated, deliver(compensated, [2]))
    np.testing.assert_allclose(memory.accumulated, [1, 2, 0])
    np.testing.assert_allclose(memory.velocity, [1, 2, 0])
    np.testing.assert_allclose(memory.compensate(np.zeros(3, np.float32)), [1.5, 3, 0])


def test_a_long_update_is_clipped_before_it_meets_the_momentum() -> None:
    memory = MomentumCorrection(np.ones(2, np.float32), np.zeros(2, np.float32), clip_norm=2.5)
    np.testing.assert_allclose(memory.compensate(np.array([3, 4], np.float32)), [2.5, 3])
    np.testing.assert_allclose(memory.compensate(np.array([0.3, 0.4], np.float32)), [1.3, 1.4])


def test_warm_up_follows_the_paper_from_75_to_99_9_percent_sparsity() -> None:
    densities = [warm_up_density(server_round, 4, 0.001) for server_round in range(1, 7)]
    np.testing.assert_allclose(densities, [0.25, 0.0625, 0.0156, 0.004, 0.001, 0.001], rtol=0.03)


def test_a_dense_end_needs_no_warm_up() -> None:
    assert warm_up_density(1, 4, 0.5) == 0.5


def test_warm_up_budgets_hold_these_densities_and_end_at_the_budget(watch_layout: Layout) -> None:
    update = np.random.default_rng(0).standard_normal(watch_layout.size).astype(np.float32)
    final = dgc_warmup_budget(5, 4, watch_layout.size, 400)
    assert final == 400
    final_density = len(TopKCodec().encode(update, watch_layout, Plan(400)).delivered.indices) / watch_layout.size
    for server_round in range(1, 5):
        plan = Plan(dgc_warmup_budget(server_round, 4, watch_layout.size, 400))
        density = len(TopKCodec().encode(update, watch_layout, plan).delivered.indices) / watch_layout.size
        wanted = 0.25 * (final_density / 0.25) ** ((server_round - 1) / 4)
        assert math.isclose(density, wanted, rel_tol=0.05)
