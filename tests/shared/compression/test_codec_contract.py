"""What every codec promises, on any update."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.compression.plan import Plan
from shared.compression.registry import CODECS, codec_by_name
from shared.layout import F32, Layout

LAYOUT = Layout.of([("conv.weight", (4, 3, 5), "weight"), ("weight", (7, 20), "weight"), ("bias", (7,), "bias")])
NAMES = [codec.name for codec in CODECS]
OBEDIENT = {"partition", "stc", "topk", "dgc", "sidco", "eden"}

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
updates = hnp.arrays(np.float32, LAYOUT.size, elements=finite, fill=finite)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=25)
@given(update=updates, budget_bytes=st.integers(1, 1_200))
def test_any_update_decodes_to_what_encoding_delivers(name: str, update: F32, budget_bytes: int) -> None:
    codec, plan = codec_by_name(name), Plan(budget_bytes)
    encoded = codec.encode(update, LAYOUT, plan)
    decoded = codec.decode(encoded.frame, LAYOUT, plan)
    assert decoded.size == LAYOUT.size
    assert (np.diff(decoded.indices) > 0).all()
    np.testing.assert_array_equal(decoded.indices, encoded.delivered.indices)
    np.testing.assert_array_equal(decoded.values.view(np.uint32), encoded.delivered.values.view(np.uint32))
    assert name not in OBEDIENT or len(encoded.frame) <= budget_bytes


@pytest.mark.parametrize("name", NAMES)
def test_equal_updates_make_equal_frames_in_any_shape(name: str) -> None:
    update = np.random.default_rng(0).standard_normal(LAYOUT.size).astype(np.float32)
    codec = codec_by_name(name)
    assert codec.encode(update, LAYOUT, Plan(90)).frame == codec.encode(update[np.newaxis], LAYOUT, Plan(90)).frame


@pytest.mark.parametrize("name", NAMES)
def test_a_single_value_comes_back_with_its_sign(name: str) -> None:
    layout, plan = Layout.of([("bias", (1,), "bias")]), Plan(64)
    decoded = codec_by_name(name).encode(np.array([-2.5], np.float32), layout, plan).delivered
    np.testing.assert_allclose(decoded.densify(), [-2.5], rtol=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_an_update_of_zeros_delivers_nothing_else(name: str) -> None:
    encoded = codec_by_name(name).encode(np.zeros(LAYOUT.size, np.float32), LAYOUT, Plan(90))
    assert not encoded.delivered.values.any()
    assert name in {"dense", "fp16"} or len(encoded.frame) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_never_sent(name: str, value: float) -> None:
    update = np.ones(LAYOUT.size, np.float32)
    update[5] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        codec_by_name(name).encode(update, LAYOUT, Plan(90))
