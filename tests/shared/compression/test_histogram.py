import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression.histogram import BIN_SHIFT, NUM_BINS, magnitude_bits, magnitude_histogram
from shared.layout import F32, Layout

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


def layout_of(size: int) -> Layout:
    return Layout.of([("vector", (size,), "bias")])


@settings(deadline=None, max_examples=60)
@given(floats, floats)
def test_bins_rise_with_the_magnitude(one: float, other: float) -> None:
    bits = magnitude_bits(np.array([one, other], np.float32), layout_of(2)).astype(np.int64)
    assert np.sign(bits[0] - bits[1]) == np.sign(abs(np.float32(one)) - abs(np.float32(other)))


def test_every_value_is_counted_once_and_zero_is_in_bin_zero() -> None:
    update = np.array([0.0, -0.0, 1.0, -1.0, 1.01, 3e38], np.float32)
    histogram = magnitude_histogram(magnitude_bits(update, layout_of(6)))
    assert len(histogram) == NUM_BINS
    assert histogram.sum() == 6
    assert histogram[0] == 2
    assert histogram[0x3F80_0000 >> BIN_SHIFT] == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        magnitude_bits(np.array([1.0, bad], np.float32), layout_of(2))


@pytest.mark.parametrize("update", [np.zeros(3, np.float32), np.zeros(2)])
def test_another_size_or_type_is_refused(update: F32) -> None:
    with pytest.raises(ValueError, match="for a layout of 2 float32"):
        magnitude_bits(update, layout_of(2))
