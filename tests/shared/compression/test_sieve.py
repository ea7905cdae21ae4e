import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.compression.histogram import BIN_SHIFT, CHUNK, INFINITY_BITS, SIGN_MASK, U32, likely_edge, reaching
from shared.compression.sieve import Candidates, fill_budget

patterns = hnp.arrays(np.uint32, st.integers(1, 300), elements=st.integers(0, 20) | st.integers(0, (1 << 32) - 1))


class Run:
    """A draft of so many values, of which the first `dear` take ten bits and the others four."""

    def __init__(self, count: int, dear: int) -> None:
        self.count = count
        self.length = 60 + 4 * count + 6 * min(count, dear)


@settings(deadline=None, max_examples=60)
@given(patterns)
def test_the_largest_come_first_and_of_equal_ones_the_first(signed: U32) -> None:
    candidates = Candidates(np.arange(len(signed)), signed)
    order = np.argsort(~(signed & SIGN_MASK), kind="stable")
    np.testing.assert_array_equal(candidates.rank[order], np.arange(len(signed)))
    for count in {1, (len(signed) + 1) // 2, len(signed)}:
        np.testing.assert_array_equal(candidates.first(count), candidates.rank < count)
        assert not (candidates.first(count) & ~candidates.about_first(count)).any()
    np.testing.assert_array_equal(candidates.negative(order), signed[order] >= 1 << 31)


@settings(deadline=None, max_examples=60)
@given(patterns, st.integers(0, INFINITY_BITS))
def test_whatever_reaches_the_edge_is_found(signed: U32, edge: int) -> None:
    np.testing.assert_array_equal(reaching(signed, edge), np.flatnonzero((signed & SIGN_MASK) >= edge))


def test_chunks_are_joined_without_a_gap() -> None:
    signed = np.zeros(2 * CHUNK + 5, np.uint32)
    wanted = np.array([0, CHUNK - 1, CHUNK, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 4])
    signed[wanted] = 0x8000_0007
    np.testing.assert_array_equal(reaching(signed, 7), wanted)


@pytest.mark.parametrize("size", [3_000, 300_000])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1])
def test_the_likely_edge_leaves_rather_more_than_wanted_above_it(size: int, share: float) -> None:
    signed = np.random.default_rng(3).standard_t(3, size).astype(np.float32).view(np.uint32)
    most = int(size * share)
    assert 0.9 * most <= len(reaching(signed, likely_edge(signed, most))) <= 2 * most + 200


@pytest.mark.parametrize(("value", "edge"), [(0.0, 1 << BIN_SHIFT), (1e-45, 1 << BIN_SHIFT), (np.nan, INFINITY_BITS)])
def test_the_likely_edge_stays_between_the_first_bin_and_infinity(value: float, edge: int) -> None:
    assert likely_edge(np.full(100_000, value, np.float32).view(np.uint32), 500) == edge


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5_000), st.integers(0, 5_000), st.integers(1, 50_000), st.none() | st.floats(0.5, 40))
def test_a_budget_is_filled_from_any_first_guess(guess: int, dear: int, budget: int, slope: float | None) -> None:
    filled = fill_budget(lambda count: Run(count, dear), guess, 5_000, budget, slope)
    if filled is None:
        assert budget < Run(1, dear).length
        return
    assert filled.length <= budget
    assert filled.count == 5_000 or Run(filled.count + 1, dear).length > budget - max(12, budget >> 8) - 10


def test_one_enormous_value_does_not_make_a_candidate_of_every_other() -> None:
    signed = np.random.default_rng(3).standard_t(3, 300_000).astype(np.float32).view(np.uint32)
    signed[0] = np.float32(1e12).view(np.uint32)
    assert len(reaching(signed, likely_edge(signed, 3_000))) <= 6_000
