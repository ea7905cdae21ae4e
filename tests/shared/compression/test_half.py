import numpy as np
import pytest

from shared.compression.half import HalfCodec
from shared.compression.plan import Plan
from shared.errors import DecodeError
from shared.layout import Layout

CODEC = HalfCodec()
LAYOUT = Layout.of([("bias", (3,), "bias")])
PLAN = Plan(1)


def test_values_are_rounded_to_half_precision_and_kept_in_its_range() -> None:
    encoded = CODEC.encode(np.array([0.1, -1e30, 2049.0], np.float32), LAYOUT, PLAN)
    assert len(encoded.frame) == 7
    assert encoded.delivered.values.tolist() == [0.0999755859375, -65504.0, 2048.0]


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, np.nan], [1.0, 2.0, np.inf]])
def test_another_length_or_a_value_that_is_not_finite_is_refused(values: list[float]) -> None:
    with pytest.raises(DecodeError):
        CODEC.decode(b"\x04" + np.array(values, "<f2").tobytes(), LAYOUT, PLAN)
