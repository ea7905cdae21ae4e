import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.compression.plan import Plan
from shared.compression.stc import StcCodec
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
