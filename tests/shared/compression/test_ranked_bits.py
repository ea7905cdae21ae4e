import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression.ranked_bits import RankedBits, row_places


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 1 << 32), st.integers(0, 400), st.sampled_from([0.0, 0.02, 0.5, 1.0]))
def test_rank_counts_the_set_bits_before_and_select_finds_them_again(seed: int, size: int, share: float) -> None:
    flags = np.random.default_rng(seed).random(size) < share
    bits = RankedBits.of(flags)
    places = np.flatnonzero(flags)
    assert bits.count == len(places)
    np.testing.assert_array_equal(bits.rank(np.arange(size)), np.cumsum(flags) - flags)
    np.testing.assert_array_equal(bits.select(np.arange(len(places))), places)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1 << 32), st.integers(1, 200), st.integers(1, 5))
def test_rows_behind_each_other_are_numbered_through(seed: int, size: int, count: int) -> None:
    rows = list(np.random.default_rng(seed).random((count, size)) < 0.3)
    bits = RankedBits.of(*rows)
    places = np.concatenate([row * row_places(size) + np.flatnonzero(flags) for row, flags in enumerate(rows)])
    np.testing.assert_array_equal(bits.select(np.arange(bits.count)), places)
    np.testing.assert_array_equal(bits.rank(places), np.arange(len(places)))


def test_every_pattern_of_a_byte_is_searched_right_in_every_byte_of_a_word() -> None:
    flags = np.unpackbits(np.arange(256, dtype=np.uint8)).astype(np.bool_)
    for shift in range(0, 64, 8):
        moved = np.concatenate([np.zeros(shift, np.bool_), flags])
        bits = RankedBits.of(moved)
        np.testing.assert_array_equal(bits.select(np.arange(bits.count)), np.flatnonzero(moved))


@pytest.mark.parametrize("place", [0, 63, 64, 127, 128])
def test_a_lone_bit_at_the_border_of_a_word_is_found(place: int) -> None:
    flags = np.zeros(129, np.bool_)
    flags[place] = True
    bits = RankedBits.of(flags)
    assert bits.select(np.array([0])).tolist() == [place]
    assert bits.rank(np.array([place, 128])).tolist() == [0, int(place < 128)]


def test_questions_about_nothing_are_answered_with_nothing() -> None:
    bits = RankedBits.of(np.ones(3, np.bool_))
    nothing = np.zeros(0, np.int64)
    assert bits.rank(nothing).tolist() == bits.select(nothing).tolist() == []
