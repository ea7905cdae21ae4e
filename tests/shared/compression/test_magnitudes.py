import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression.bits import BitReader, BitWriter
from shared.compression.histogram import INFINITY_BITS
from shared.compression.magnitudes import (
    level_curves,
    level_means,
    mean_bits,
    read_base,
    read_step,
    signed_values,
    write_base,
    write_step,
)
from shared.errors import DecodeError

patterns = st.integers(1 << 19, INFINITY_BITS - 1)


def best_by_trial(values: list[float], levels: int) -> float:
    """The most energy that any division of sorted values into at most `levels` runs delivers."""
    best = 0.0
    for cuts in itertools.combinations(range(1, len(values)), min(levels, len(values)) - 1):
        runs = np.split(np.array(values), list(cuts))
        best = max(best, sum(float(run.sum()) ** 2 / len(run) for run in runs))
    return best


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=9), st.integers(1, 4))
def test_levels_are_as_good_as_the_best_of_all_divisions(numbers: list[float], levels: int) -> None:
    values = sorted(numbers)
    counts = np.arange(len(values), 0.0, -1.0)
    sums = np.cumsum(np.array(values)[::-1])[::-1]
    curves = level_curves(np.stack([np.ones(len(values)), counts]), np.stack([np.ones(len(values)), sums]))
    assert curves.energy[levels - 1, 1, 0] == pytest.approx(best_by_trial(values, levels))
    begins = curves.begins(levels, 1, 0)
    assert begins == sorted(set(begins))
    assert len(begins) < levels


@settings(deadline=None, max_examples=60)
@given(patterns)
def test_a_first_magnitude_comes_back_within_half_a_percent(pattern: int) -> None:
    writer = BitWriter()
    seen = write_base(writer, pattern)
    assert writer.length == 15
    assert read_base(BitReader(writer.to_bytes())) == seen
    wanted, got = np.array([pattern, seen], np.uint32).view(np.float32).astype(float)
    assert got == pytest.approx(wanted, rel=0.005)


@settings(deadline=None, max_examples=60)
@given(patterns, patterns, st.sampled_from([0, -128]))
def test_a_further_magnitude_comes_back_as_its_writer_saw_it(pattern: int, origin: int, least: int) -> None:
    writer = BitWriter()
    seen = write_step(writer, pattern, origin, least)
    assert writer.length == 8
    assert read_step(BitReader(writer.to_bytes()), origin, least) == seen
    if least == 0:
        assert seen >= origin


@pytest.mark.parametrize("base", [0, INFINITY_BITS >> 16, 0x7FFF])
def test_a_magnitude_that_is_zero_or_not_finite_is_refused(base: int) -> None:
    writer = BitWriter()
    writer.put(base, 15)
    with pytest.raises(DecodeError, match="not positive and finite"):
        read_base(BitReader(writer.to_bytes()))


def test_a_step_beyond_the_largest_float_is_refused() -> None:
    with pytest.raises(DecodeError, match="not positive and finite"):
        read_step(BitReader(b"\xff"), INFINITY_BITS - 1, 0)


@settings(deadline=None, max_examples=60)
@given(st.permutations([1.0, 1e-7, 3.3e7, 0.1, 2.5e-3, 7.7]))
def test_the_mean_does_not_depend_on_the_order_of_addition(values: list[float]) -> None:
    bits = np.array(values, np.float32).view(np.uint32)
    assert mean_bits(bits) == mean_bits(np.sort(bits))


def test_every_level_has_its_own_mean() -> None:
    bits = np.array([1.0, 8.0, 3.0, 1e-3], np.float32).view(np.uint32)
    means = np.array(level_means(bits, np.array([1, 2, 1, 0]), 3), np.uint32).view(np.float32)
    np.testing.assert_array_equal(means, np.array([1e-3, 2.0, 8.0], np.float32))


def test_signs_are_put_in_front_of_magnitudes() -> None:
    one = np.array([0x3F80_0000] * 2, np.uint32)
    np.testing.assert_array_equal(signed_values(one, np.array([0, 1], np.uint8)), np.array([1.0, -1.0], np.float32))
