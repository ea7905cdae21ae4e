import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression.grouping import Grouping
from shared.layout import Layout

LAYOUT = Layout.of([("a.weight", (8, 64), "weight"), ("a.bias", (8,), "bias"), ("b.weight", (3, 130), "weight")])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 8), min_size=LAYOUT.num_blocks, max_size=LAYOUT.num_blocks),
    st.integers(0, LAYOUT.size),
    st.integers(1, 90),
)
def test_gathering_is_undone_by_scattering_and_puts_dense_classes_first(
    classes: list[int], start: int, step: int
) -> None:
    grouping = Grouping.of(np.array(classes, np.uint8), LAYOUT)
    indices = np.arange(start, LAYOUT.size, step)
    order, positions = grouping.gather(indices, np.searchsorted(indices, LAYOUT.block_starts))
    assert (np.diff(positions) > 0).all()
    back, again = grouping.scatter(positions)
    np.testing.assert_array_equal(again, indices)
    np.testing.assert_array_equal(order[back], np.arange(len(indices)))
    group = np.searchsorted(grouping.bounds, positions, side="right") - 1
    value_classes = np.repeat(classes, np.diff(LAYOUT.block_starts))
    np.testing.assert_array_equal(grouping.classes[group], value_classes[indices[order]])
    assert (np.diff(grouping.classes) < 0).all()
