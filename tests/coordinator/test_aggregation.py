import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.aggregation import WeightedMean, norm
from shared.compression.codec import SparseUpdate

SIZE = 200


def update(seed: int, count: int = 60, scale: float = 1.0) -> SparseUpdate:
    generator = np.random.default_rng(seed)
    indices = np.sort(generator.choice(SIZE, count, replace=False)).astype(np.int64)
    return SparseUpdate(SIZE, indices, (scale * generator.standard_normal(count)).astype(np.float32))


def mean_of(updates: list[SparseUpdate], weights: list[float]) -> np.ndarray:
    mean = WeightedMean(SIZE)
    for one, weight in zip(updates, weights, strict=True):
        mean.add(one, weight)
    return mean.mean()


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=8))
def test_mean_equals_the_dense_weighted_mean(weights: list[float]) -> None:
    updates = [update(seed) for seed in range(len(weights))]
    dense = np.stack([one.densify() for one in updates]).astype(np.float64)
    expected = np.average(dense, axis=0, weights=weights)
    np.testing.assert_allclose(mean_of(updates, weights), expected, rtol=1e-6, atol=1e-12)


def test_mean_is_the_float64_sum_in_the_order_given_bit_for_bit() -> None:
    updates, weights = [update(seed, scale=10.0**seed) for seed in range(9)], [1.0 + seed / 3 for seed in range(9)]
    total = np.zeros(SIZE)
    for one, weight in zip(updates, weights, strict=True):
        total += one.densify().astype(np.float64) * weight
    assert mean_of(updates, weights).tobytes() == (total / sum(weights)).astype(np.float32).tobytes()


def test_small_values_survive_beside_large_ones() -> None:
    large, small = (SparseUpdate(1, np.array([0]), np.array([value], np.float32)) for value in (1.0, 1e-8))
    mean = WeightedMean(1)
    for one in (large, *[small] * 1000):
        mean.add(one, 1.0)
    assert float(mean.mean()[0]) * 1001 == pytest.approx(1.00001, rel=1e-7)


def test_mean_of_nothing_is_zero() -> None:
    assert WeightedMean(3).mean().tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_weight_that_is_not_positive_is_an_error(weight: float) -> None:
    with pytest.raises(ValueError, match="cannot add"):
        WeightedMean(SIZE).add(update(1), weight)


def test_update_of_another_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot add"):
        WeightedMean(SIZE + 1).add(update(1), 1.0)


def test_norm_of_the_largest_floats_is_finite() -> None:
    extreme = SparseUpdate(2, np.array([0, 1]), np.full(2, np.finfo(np.float32).max, np.float32))
    assert norm(extreme) == pytest.approx(math.sqrt(2) * float(np.finfo(np.float32).max))
