import math
from collections.abc import Callable

import numpy as np
import pytest

from shared.compression.plan import Plan
from shared.compression.rice import F64
from shared.compression.sidco import (
    Family,
    SidcoCodec,
    exponential_threshold,
    gamma_threshold,
    pareto_threshold,
    staged_thresholds,
)
from shared.compression.topk import TopKCodec
from shared.layout import Layout

RANDOM = np.random.default_rng(4)
EXPONENTIAL = RANDOM.exponential(3.0, 200_000)
GAMMA = RANDOM.gamma(0.6, 2.0, 200_000)
PARETO = 0.5 / 0.2 * (RANDOM.random(200_000) ** -0.2 - 1)
DENSITIES = [0.1, 0.01, 0.001]


def share_above(values: F64, threshold: float) -> float:
    return float(np.mean(values >= threshold))


def test_the_exponential_threshold_is_mean_times_log_of_the_inverse_density() -> None:
    values = np.array([1.0, 2.0, 6.0])
    assert math.isclose(exponential_threshold(values, 0.01), 3.0 * math.log(100))


@pytest.mark.parametrize("fit", [exponential_threshold, gamma_threshold, pareto_threshold])
@pytest.mark.parametrize("density", DENSITIES)
def test_on_exponential_data_every_fit_finds_the_closed_form(
    fit: Callable[[F64, float], float], density: float
) -> None:
    assert math.isclose(fit(EXPONENTIAL, density), 3.0 * math.log(1 / density), rel_tol=0.03)


@pytest.mark.parametrize("density", [0.01, 0.001])
def test_on_pareto_data_its_own_fit_finds_the_quantile_and_the_exponential_does_not(density: float) -> None:
    quantile = 0.5 / 0.2 * (density**-0.2 - 1)
    assert math.isclose(pareto_threshold(PARETO, density), quantile, rel_tol=0.05)
    assert exponential_threshold(PARETO, density) < 0.95 * quantile


@pytest.mark.parametrize("density", [0.01, 0.001])
def test_on_gamma_data_its_own_fit_finds_shape_and_scale(density: float) -> None:
    closed_form = -2.0 * (math.log(density) + math.lgamma(0.6))
    assert math.isclose(gamma_threshold(GAMMA, density), closed_form, rel_tol=0.03)
    assert exponential_threshold(GAMMA, density) < 0.8 * closed_form


def test_stages_keep_a_quarter_each_and_share_the_density_out() -> None:
    thresholds = staged_thresholds(EXPONENTIAL, 0.01, "exponential")
    assert len(thresholds) == 4
    np.testing.assert_allclose(thresholds, 3.0 * math.log(100), rtol=0.06)
    first, rest = exponential_threshold(EXPONENTIAL, 0.25), EXPONENTIAL
    rest = rest[rest > first] - first
    assert math.isclose(thresholds[1], first + exponential_threshold(rest, 0.04))


def test_later_stages_come_closer_on_heavy_tails() -> None:
    values = np.abs(RANDOM.standard_t(3, 200_000))
    errors = [
        abs(math.log(share_above(values, reached) / 0.001))
        for reached in staged_thresholds(values, 0.001, "exponential")
    ]
    assert min(errors[1:]) < 0.3 * errors[0]


@pytest.mark.parametrize("family", ["exponential", "gamma", "pareto"])
@pytest.mark.parametrize("budget_bytes", [300, 3_000])
def test_about_as_many_values_are_sent_as_top_k_sends_with_the_same_bytes(
    watch_layout: Layout, family: Family, budget_bytes: int
) -> None:
    update = np.random.default_rng(1).standard_t(4, watch_layout.size).astype(np.float32)
    wanted = len(TopKCodec().encode(update, watch_layout, Plan(budget_bytes)).delivered.indices)
    delivered = SidcoCodec(family).encode(update, watch_layout, Plan(budget_bytes)).delivered
    count = len(delivered.indices)
    assert 0.75 * wanted <= count <= wanted
    np.testing.assert_array_equal(delivered.indices, np.sort(np.argsort(-np.abs(update))[:count]))


def test_values_that_are_all_alike_are_sent_within_the_budget(small_layout: Layout) -> None:
    encoded = SidcoCodec().encode(np.full(small_layout.size, 0.5, np.float32), small_layout, Plan(100))
    assert len(encoded.delivered.indices) > 0
    assert len(encoded.frame) <= 100


@pytest.mark.parametrize(
    ("family", "first", "later"),
    [
        ("exponential", exponential_threshold, exponential_threshold),
        ("gamma", gamma_threshold, pareto_threshold),
        ("pareto", pareto_threshold, pareto_threshold),
    ],
)
def test_a_family_fits_all_values_and_then_their_exceedances_as_in_the_paper(
    family: Family, first: Callable[[F64, float], float], later: Callable[[F64, float], float]
) -> None:
    values = np.abs(RANDOM.standard_t(4, 10_000))
    one, two, *_ = staged_thresholds(values, 0.01, family)
    assert one == first(values, 0.01)
    reached = first(values, 0.25)
    assert two == reached + later(values[values > reached] - reached, 0.04)
