import numpy as np
import pytest

from shared.compression.dense import DenseCodec
from shared.compression.plan import Plan
from shared.errors import DecodeError
from shared.layout import Layout

CODEC = DenseCodec()
LAYOUT = Layout.of([("bias", (3,), "bias")])
PLAN = Plan(1)


def test_every_value_comes_back_whatever_the_budget() -> None:
    update = np.array([1.5, -0.0, 1e-45], np.float32)
    encoded = CODEC.encode(update, LAYOUT, PLAN)
    assert encoded.frame == b"\x03" + update.astype("<f4").tobytes()
    decoded = CODEC.decode(encoded.frame, LAYOUT, PLAN)
    np.testing.assert_array_equal(decoded.densify().view(np.uint32), update.view(np.uint32))
    np.testing.assert_array_equal(encoded.delivered.values, decoded.values)


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, np.nan], [1.0, 2.0, np.inf]])
def test_another_length_or_a_value_that_is_not_finite_is_refused(values: list[float]) -> None:
    with pytest.raises(DecodeError):
        CODEC.decode(b"\x03" + np.array(values, "<f4").tobytes(), LAYOUT, PLAN)
