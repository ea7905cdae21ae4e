import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression.bits import BitReader, BitWriter
from shared.compression.positions import PARAMETER_BITS, Positions, read_positions
from shared.compression.rice import Gaps, covering_parameter

BOUNDS = np.array([0, 1, 40, 400, 5_000])


@settings(deadline=None, max_examples=60)
@given(st.sets(st.integers(0, 4_999), max_size=60))
def test_positions_come_back_in_the_fewest_bits_of_any_parameters(chosen: set[int]) -> None:
    indices = np.array(sorted(chosen), np.int64)
    positions = Positions.of(indices, BOUNDS)
    writer = BitWriter()
    positions.write(writer)
    assert writer.length == positions.length
    shortest = int(Gaps.of(indices, BOUNDS).lengths(covering_parameter(5_000)).min(axis=0).sum())
    assert positions.length == shortest + 4 * PARAMETER_BITS
    reader = BitReader(writer.to_bytes())
    np.testing.assert_array_equal(read_positions(reader, BOUNDS), indices)
    reader.finish()
