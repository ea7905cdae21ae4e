import re
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coordinator.report.chart import spread
from coordinator.report.layers import shares
from coordinator.report.strip import TALL, heat, stacked
from shared.compression.plan import Plan, plan_from_densities
from shared.layout import Layout

BAR = re.compile(r"M(\d+) (\d+)h(\d+)v(\d+)h-\d+z")


def area(svg: str) -> int:
    return sum(int(width) * int(height) for _, _, width, height in BAR.findall(svg))


def test_stacks_rise_from_the_foot_and_equal_neighbours_are_one_bar() -> None:
    svg = stacked([(0.5, 0.5), (0.5, 0.5), (1.0, 0.0)], ("key", "dead"), "words")
    assert BAR.findall(svg) == [("0", "10", "2", "10"), ("2", "0", "1", "20"), ("0", "0", "2", "10")]


@given(st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)), min_size=1, max_size=30))
def test_area_of_stacks_is_the_sum_of_their_shares(stacks: list[tuple[float, float]]) -> None:
    expected = TALL * sum(sum(stack) for stack in stacks)
    assert abs(area(stacked(stacks, ("key", "dead"), "words")) - expected) <= len(stacks)


def test_missing_stack_and_zero_heat_stay_empty() -> None:
    assert area(stacked([()], ("key",), "words")) == 0
    assert area(heat([0.0, 0.4, 1.0], "words")) == 2 * TALL
    assert 'class="heat-8"' in heat([1.0], "words")


@given(st.lists(st.floats(0, 200), max_size=8))
def test_names_keep_apart_and_inside(places: list[float]) -> None:
    moved = spread(sorted(places), 17.0, 0.0, 200.0)
    assert len(moved) == len(places)
    assert all(after - before >= 17.0 - 1e-9 for before, after in pairwise(moved))
    assert all(place <= 200.0 for place in moved)
    if len(moved) <= 200 // 17:
        assert all(place >= 0.0 for place in moved)


LAYOUT = Layout.of([("a", (6, 64), "weight"), ("b", (64,), "bias")])


@given(st.lists(st.floats(0, 0.5), min_size=7, max_size=7), st.floats(1, 400))
def test_shares_of_each_layer_add_up_to_one(densities: list[float], values: float) -> None:
    found = shares(Plan(300, plan_from_densities(np.array(densities))), LAYOUT, values)
    assert found is not None
    assert np.allclose(found.key + found.sparse + found.dead, 1.0)
    assert min(found.key.min(), found.sparse.min(), found.dead.min()) >= 0


def test_dense_blocks_are_key_rare_ones_sparse_and_class_zero_dead() -> None:
    plan = Plan(300, np.array([8, 8, 8, 2, 2, 0, 0], np.uint8))
    found = shares(plan, LAYOUT, 60.0)
    assert found is not None
    assert (found.key * 6).tolist()[0] == 3
    assert (found.sparse * 6).tolist()[0] == 2
    assert found.dead.tolist()[1] == 1.0
    assert shares(Plan(300), LAYOUT, 60.0) is None
