import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression.history import SendHistory
from shared.compression.plan import (
    DENSEST_CLASS,
    LARGEST_STEP,
    MOST_BUDGET_BYTES,
    MOST_GAIN_EIGHTHS,
    PLAIN_GAIN_EIGHTHS,
    SMALLEST_DENSITY,
    Plan,
    Steps,
    plan_from_densities,
)
from shared.errors import DecodeError
from shared.layout import Layout

LAYOUT = Layout.of([("a.weight", (64, 64), "weight"), ("a.bias", (64,), "bias"), ("b.weight", (10, 64), "weight")])
BLOCKS = LAYOUT.num_blocks

COLUMNS = LAYOUT.num_columns

classes = st.lists(st.integers(0, DENSEST_CLASS), min_size=BLOCKS, max_size=BLOCKS)
steps = st.lists(st.integers(-LARGEST_STEP, LARGEST_STEP), min_size=COLUMNS, max_size=COLUMNS)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, MOST_BUDGET_BYTES), st.none() | classes)
def test_a_plan_comes_back(budget_bytes: int, levels: list[int] | None) -> None:
    check_round_trip(Plan(budget_bytes, None if levels is None else np.array(levels, np.uint8)))


@settings(deadline=None, max_examples=60)
@given(classes, steps, st.integers(PLAIN_GAIN_EIGHTHS, MOST_GAIN_EIGHTHS))
def test_a_plan_with_columns_and_a_gain_comes_back(levels: list[int], octaves: list[int], gain_eighths: int) -> None:
    plan = Plan(300, np.array(levels, np.uint8), np.array(octaves, np.int8), gain_eighths, gain_eighths % 7 + 4)
    check_round_trip(plan)


def check_round_trip(plan: Plan) -> None:
    again = Plan.from_bytes(plan.to_bytes(), LAYOUT)
    assert again == plan
    assert again.digest == plan.digest
    assert (again.gain_eighths, again.chance_quarters) == (plan.gain_eighths, plan.chance_quarters)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1 << 32))
def test_120_blocks_take_at_most_60_bytes_whatever_their_classes(seed: int) -> None:
    levels = np.random.default_rng(seed).integers(0, DENSEST_CLASS + 1, 120, np.uint8)
    assert len(Plan(300, levels).to_bytes()) <= 60


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=80))
def test_any_bytes_are_a_plan_in_its_canonical_form_or_refused(data: bytes) -> None:
    try:
        plan = Plan.from_bytes(data, LAYOUT)
    except DecodeError:
        return
    assert plan.to_bytes() == data


@settings(deadline=None, max_examples=60)
@given(classes, st.data())
def test_a_truncated_or_longer_plan_is_refused(levels: list[int], data: st.DataObject) -> None:
    whole = Plan(300, np.array(levels, np.uint8)).to_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    for broken in (whole[:cut], whole + b"\x00"):
        with pytest.raises(DecodeError):
            Plan.from_bytes(broken, LAYOUT)


def test_the_longest_plan_comes_back_and_a_longer_one_is_refused_unread() -> None:
    levels = np.random.default_rng(0).integers(0, DENSEST_CLASS + 1, BLOCKS, np.uint8)
    longest = Plan(MOST_BUDGET_BYTES, levels, np.full(LAYOUT.num_columns, LARGEST_STEP, np.int8)).to_bytes()
    assert Plan.from_bytes(longest, LAYOUT).budget_bytes == MOST_BUDGET_BYTES
    for more in (1, 1_000_000):
        with pytest.raises(DecodeError, match=f"{len(longest) + more} bytes are no plan"):
            Plan.from_bytes(longest + bytes(more), LAYOUT)


@pytest.mark.parametrize("budget_bytes", [0, -1, MOST_BUDGET_BYTES + 1])
def test_a_budget_out_of_range_is_refused(budget_bytes: int) -> None:
    with pytest.raises(DecodeError, match="budget"):
        Plan(budget_bytes)


def test_a_class_above_the_densest_is_refused() -> None:
    with pytest.raises(DecodeError, match="density classes"):
        Plan(300, np.full(BLOCKS, DENSEST_CLASS + 1, np.uint8))


def test_other_classes_or_steps_make_another_digest_and_another_budget_or_gain_does_not() -> None:
    ones, steps = np.ones(BLOCKS, np.uint8), np.ones(COLUMNS, np.int8)
    plan = Plan(300, ones)
    assert len({plan.digest, Plan(300, ones, steps).digest, Plan(300, ones * 2).digest, Plan(300).digest}) == 4
    assert plan.digest == plan.within(301).digest == Plan(300, ones, None, 12).digest


@pytest.mark.parametrize(
    ("steps", "gain_eighths"),
    [(np.full(COLUMNS, 8, np.int8), 8), (np.ones(COLUMNS, np.int16), 8), (None, 7), (None, 24)],
)
def test_steps_or_a_gain_out_of_range_are_refused(steps: Steps | None, gain_eighths: int) -> None:
    with pytest.raises(DecodeError):
        Plan(300, np.ones(BLOCKS, np.uint8), steps, gain_eighths)


def test_steps_without_classes_are_refused() -> None:
    with pytest.raises(DecodeError, match="beside density classes"):
        Plan(300, None, np.ones(COLUMNS, np.int8))


def test_classes_follow_densities_octave_by_octave() -> None:
    densities = np.array([0.2, 0.1, 0.05, 0.2 / 2**7, 0.2 / 2**12, 0.0])
    np.testing.assert_array_equal(plan_from_densities(densities), [8, 7, 6, 1, 0, 0])


@pytest.mark.parametrize("densities", [[0.0, 0.0], [-1.0, 0.0]])
def test_without_a_positive_density_all_blocks_are_dead(densities: list[float]) -> None:
    np.testing.assert_array_equal(plan_from_densities(np.array(densities)), [0, 0])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0.0, 1.0), min_size=1))
def test_a_denser_block_never_has_a_lower_class(densities: list[float]) -> None:
    ordered = np.sort(np.array(densities))
    levels = plan_from_densities(ordered)
    assert (np.diff(levels.astype(int)) >= 0).all()
    assert levels[-1] == (DENSEST_CLASS if ordered[-1] >= SMALLEST_DENSITY else 0)


def test_a_plan_for_a_client_has_its_history_and_the_digest_of_the_plan_for_all() -> None:
    plan = Plan(100, np.zeros(BLOCKS, np.uint8), np.zeros(COLUMNS, np.int8))
    history = SendHistory.empty(LAYOUT).after(np.arange(9), LAYOUT)
    known = plan.knowing(history)
    assert (known.history, plan.history) == (history, None)
    assert known.digest == plan.digest == Plan(7, plan.density_classes, plan.column_steps).digest
    assert known.knowing(None) == plan


@pytest.mark.parametrize("chance_quarters", [-1, 3, 11])
def test_an_exponent_out_of_range_is_refused(chance_quarters: int) -> None:
    with pytest.raises(DecodeError, match="exponent"):
        Plan(300, chance_quarters=chance_quarters)
