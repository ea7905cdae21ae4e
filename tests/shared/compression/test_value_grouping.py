import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression.grouping import Grouping
from shared.compression.value_grouping import ValueGrouping
from shared.layout import Layout

LAYOUT = Layout.of([("a.weight", (8, 64), "weight"), ("b.weight", (3, 130), "weight")])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1 << 32), st.integers(0, 60))
def test_gathered_values_lie_in_their_classes_and_scatter_back(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    classes = random.integers(0, 9, LAYOUT.size, np.uint8)
    axis = ValueGrouping.of(classes)
    indices = np.sort(random.choice(LAYOUT.size, count, replace=False))
    order, positions = axis.gather(indices, np.searchsorted(indices, LAYOUT.block_starts))
    assert (np.diff(positions) > 0).all()
    back, again = axis.scatter(positions)
    np.testing.assert_array_equal(again, indices)
    np.testing.assert_array_equal(order[back], np.arange(count))
    group = np.searchsorted(axis.bounds, positions, side="right") - 1
    np.testing.assert_array_equal(axis.classes[group], classes[indices[order]])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1 << 32))
def test_values_with_the_classes_of_their_blocks_lie_as_the_blocks_do(seed: int) -> None:
    random = np.random.default_rng(seed)
    of_block = random.integers(0, 9, LAYOUT.num_blocks, np.uint8)
    blocks, values = Grouping.of(of_block, LAYOUT), ValueGrouping.of(np.repeat(of_block, LAYOUT.block_sizes))
    np.testing.assert_array_equal(blocks.bounds, values.bounds)
    np.testing.assert_array_equal(blocks.classes, values.classes)
    np.testing.assert_array_equal(blocks.covering, values.covering)
    everything = np.arange(LAYOUT.size)
    np.testing.assert_array_equal(blocks.scatter(everything), values.scatter(everything))
    np.testing.assert_array_equal(values.scatter(everything)[1], everything)
