import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.compression.magnitudes import BASE_BITS
from shared.compression.plan import Plan
from shared.compression.stc import PARAMETER_BITS, StcCodec
from shared.layout import F32, Layout

CODEC = StcCodec()
LAYOUT = Layout.of([("weight", (7, 80), "weight"), ("bias", (7,), "bias")])

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.float32, LAYOUT.size, elements=finite, fill=finite), st.integers(1, 4_000))
def test_any_update_comes_back_within_its_budget(update: F32, budget_bytes: int) -> None:
    plan = Plan(budget_bytes)
    encoded = CODEC.encode(update, LAYOUT, plan)
    decoded = CODEC.decode(encoded.frame, LAYOUT, plan)
    assert len(encoded.frame) <= budget_bytes
    np.testing.assert_array_equal(decoded.indices, encoded.delivered.indices)
    np.testing.assert_array_equal(decoded.values, encoded.delivered.values)
    np.testing.assert_array_equal(np.signbit(decoded.values), np.signbit(update[decoded.indices]))


def test_the_largest_values_are_sent_as_their_mean_magnitude() -> None:
    update = np.zeros(LAYOUT.size, np.float32)
    update[[3, 40, 500]] = [1.0, -2.0, 3.0]
    delivered = CODEC.encode(update, LAYOUT, Plan(100)).delivered
    assert delivered.indices.tolist() == [3, 40, 500]
    assert delivered.values.tolist() == [2.0, -2.0, 2.0]


@pytest.mark.parametrize("budget_bytes", [150, 300, 600])
def test_the_budget_is_filled(watch_layout: Layout, budget_bytes: int) -> None:
    update = np.random.default_rng(0).standard_t(4, watch_layout.size).astype(np.float32)
    assert 0.97 * budget_bytes <= len(CODEC.encode(update, watch_layout, Plan(budget_bytes)).frame) <= budget_bytes


@pytest.mark.parametrize("budget_bytes", [60, 250, 1_000])
def test_positions_take_the_golomb_code_of_the_paper(watch_layout: Layout, budget_bytes: int) -> None:
    """Its parameter b* = 1 + ⌊log2(ln(φ - 1) / ln(1 - p))⌋, and b* + 1 / (1 - (1 - p)^(2^b*)) bits a position."""
    update = np.random.default_rng(0).standard_normal(watch_layout.size).astype(np.float32)
    encoded = CODEC.encode(update, watch_layout, Plan(budget_bytes))
    count = len(encoded.delivered.indices)
    share = count / watch_layout.size
    best = 1 + math.floor(math.log2(math.log((math.sqrt(5) - 1) / 2) / math.log(1 - share)))
    assert encoded.frame[1] >> 3 == best
    bits_per_value = 1 + best + 1 / (1 - (1 - share) ** (1 << best))
    bits = 8 + PARAMETER_BITS + BASE_BITS + count * bits_per_value
    assert len(encoded.frame) == pytest.approx(bits / 8, rel=0.02)


def test_the_plan_s_gain_multiplies_the_magnitude_and_nothing_else(watch_layout: Layout) -> None:
    update = np.random.default_rng(0).standard_t(4, watch_layout.size).astype(np.float32)
    plain, more = (CODEC.encode(update, watch_layout, Plan(300, gain_eighths=gain)) for gain in (8, 12))
    np.testing.assert_array_equal(more.delivered.indices, plain.delivered.indices)
    np.testing.assert_allclose(more.delivered.values, 1.5 * plain.delivered.values, rtol=0.01)
