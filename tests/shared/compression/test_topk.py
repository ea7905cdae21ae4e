import numpy as np
import pytest

from shared.compression.plan import Plan
from shared.compression.topk import TopKCodec
from shared.errors import DecodeError
from shared.layout import Layout

CODEC = TopKCodec()


def test_the_largest_values_are_sent_as_they_are(watch_layout: Layout) -> None:
    update = np.random.default_rng(0).standard_normal(watch_layout.size).astype(np.float32)
    encoded = CODEC.encode(update, watch_layout, Plan(600))
    count = len(encoded.delivered.indices)
    largest = np.sort(np.argsort(-np.abs(update))[:count])
    np.testing.assert_array_equal(encoded.delivered.indices, largest)
    np.testing.assert_array_equal(encoded.delivered.values, update[largest])
    assert encoded.threshold == np.abs(update[largest]).min()


@pytest.mark.parametrize("budget_bytes", [150, 600, 6_000])
def test_the_budget_is_filled_but_for_less_than_a_value(watch_layout: Layout, budget_bytes: int) -> None:
    update = np.random.default_rng(0).standard_t(4, watch_layout.size).astype(np.float32)
    length = len(CODEC.encode(update, watch_layout, Plan(budget_bytes)).frame)
    assert budget_bytes - 8 <= length <= budget_bytes


def test_a_value_that_is_not_finite_is_refused() -> None:
    layout = Layout.of([("bias", (3,), "bias")])
    frame = CODEC.encode(np.array([0.0, 1.0, 0.0], np.float32), layout, Plan(60)).frame
    one = int(np.float32(1.0).view(np.uint32))
    infinity = int(np.float32(np.inf).view(np.uint32))
    bits = f"{int.from_bytes(frame, 'big'):0{8 * len(frame)}b}"
    damaged = int(bits.replace(f"{one:032b}", f"{infinity:032b}"), 2).to_bytes(len(frame), "big")
    assert damaged != frame
    with pytest.raises(DecodeError, match="NaN or infinity"):
        CODEC.decode(damaged, layout, Plan(60))
