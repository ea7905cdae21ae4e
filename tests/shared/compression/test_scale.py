import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression.bits import BitReader, BitWriter
from shared.compression.grouping import Grouping
from shared.compression.rice import Gaps
from shared.compression.scale import Scale
from shared.layout import I64, Layout

LAYOUT = Layout.of([("weight", (9, 1000), "weight")])
GROUPING = Grouping.of(np.arange(9, dtype=np.uint8), LAYOUT)


def total(scale: Scale, gaps: Gaps) -> int:
    return scale.length + gaps.length(scale.parameters(GROUPING))


def scattered(counts: list[int], seed: int) -> I64:
    random = np.random.default_rng(seed)
    return np.concatenate(
        [np.sort(random.choice(1000, count, replace=False)) + 1000 * group for group, count in enumerate(counts)]
    )


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 31), st.none() | st.lists(st.sampled_from([-1, 0, 1]), min_size=9, max_size=9))
def test_a_scale_comes_back_in_the_announced_length(level: int, corrections: list[int] | None) -> None:
    scale = Scale(level, None if corrections is None else np.array(corrections))
    writer = BitWriter()
    scale.write(writer)
    assert writer.length == scale.length
    again = Scale.read(BitReader(writer.to_bytes()), 9)
    np.testing.assert_array_equal(again.parameters(GROUPING), scale.parameters(GROUPING))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 400), min_size=9, max_size=9), st.integers(0, 99))
def test_no_single_level_is_shorter_than_the_shortest_scale(counts: list[int], seed: int) -> None:
    gaps = Gaps.of(scattered(counts, seed), GROUPING.bounds)
    shortest = total(Scale.shortest(gaps, GROUPING), gaps)
    assert shortest <= min(total(Scale(level, None), gaps) for level in range(32))


def test_densities_as_predicted_need_no_corrections() -> None:
    gaps = Gaps.of(scattered([300, 150, 75, 37, 18, 9, 4, 2, 0], 1), GROUPING.bounds)
    assert Scale.shortest(gaps, GROUPING).corrections is None


def test_one_group_that_is_denser_than_predicted_is_corrected() -> None:
    counts = [100, 50, 25, 25, 6, 3, 1, 0, 0]
    gaps = Gaps.of(scattered([9 * count for count in counts], 2), GROUPING.bounds)
    corrections = Scale.shortest(gaps, GROUPING).corrections
    assert corrections is not None
    assert corrections[3] == -1


@pytest.mark.parametrize("counts", [[300, 150, 75, 37, 18, 9, 4, 2, 0], [5, 40, 300, 20, 0, 1, 100, 30, 9]])
def test_the_expected_length_is_about_that_of_the_shortest_scale(counts: list[int]) -> None:
    lengths = []
    for seed in range(10):
        gaps = Gaps.of(scattered(counts, seed), GROUPING.bounds)
        lengths.append(total(Scale.shortest(gaps, GROUPING), gaps))
    assert Scale.expected_length(np.array(counts), GROUPING) == pytest.approx(np.mean(lengths), rel=0.03)
