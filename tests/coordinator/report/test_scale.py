import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.report.scale import MOST_TICKS, Axis, log_ticks, ticks

figures = st.floats(-1e9, 1e9, allow_nan=False).filter(lambda value: value == 0 or abs(value) > 1e-6)
positive = st.floats(1e-6, 1e12)


@given(low=figures, span=st.floats(1e-3, 1e9))
def test_ticks_are_few_rising_evenly_spaced_and_within_the_range(low: float, span: float) -> None:
    high = low + span
    found = ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1.0)
    assert 1 <= len(found) <= MOST_TICKS
    assert all(low - slack <= tick <= high + slack for tick in found)
    steps = [after - before for before, after in pairwise(found)]
    assert all(step > 0 and math.isclose(step, steps[0], rel_tol=1e-3, abs_tol=slack) for step in steps)


def test_ticks_are_round_numbers() -> None:
    assert ticks(0, 60) == [0, 10, 20, 30, 40, 50, 60][::2]
    assert ticks(0.23, 0.98) == [0.4, 0.6, 0.8]
    assert ticks(5, 5) == [5]


@given(low=positive, factor=st.floats(1.01, 1e9))
def test_logarithmic_ticks_are_few_rising_and_within_the_range(low: float, factor: float) -> None:
    found = log_ticks(low, low * factor)
    assert 1 <= len(found) <= MOST_TICKS
    assert found == sorted(set(found))
    assert all(low * 0.999 <= tick <= low * factor * 1.001 for tick in found)


def test_logarithmic_ticks_are_powers_of_ten_and_finer_where_they_are_few() -> None:
    assert log_ticks(100, 1e6) == [100, 1e3, 1e4, 1e5, 1e6]
    assert log_ticks(90, 1100) == [100, 200, 500, 1000]


@given(st.lists(figures, min_size=1))
def test_linear_axis_holds_every_figure(values: list[float]) -> None:
    axis = Axis.linear("y", values, str)
    slack = 1e-6 * (axis.high - axis.low)
    assert all(axis.low - slack <= value <= axis.high + slack for value in values)
    assert all(0 <= axis.share(value) <= 1 for value in values)


@given(st.lists(positive, min_size=1))
def test_logarithmic_axis_holds_every_figure_and_keeps_their_order(values: list[float]) -> None:
    axis = Axis.logarithmic("y", values, str)
    assert all(axis.low * 0.999 <= value <= axis.high for value in values)
    places = [axis.share(value) for value in sorted(values)]
    assert places == sorted(places)


def test_axis_without_figures_still_has_a_range() -> None:
    assert Axis.linear("y", [], str).share(0.5) == 0.5
    assert Axis.logarithmic("y", [], str).low < Axis.logarithmic("y", [], str).high
    assert Axis.rounds(0).high == 1


def test_rounds_are_marked_at_whole_numbers_only() -> None:
    assert Axis.rounds(3).ticks() == [0, 1, 2, 3]
    assert Axis.rounds(1).ticks() == [0, 1]


@pytest.mark.parametrize(("values", "log"), [([1.0, 5.0], False), ([0.0, 500.0], False), ([1.0, 500.0], True)])
def test_axis_is_logarithmic_only_for_positive_figures_of_many_sizes(values: list[float], log: bool) -> None:
    assert Axis.fitting("y", values, str).log is log
