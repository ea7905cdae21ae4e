"""What every codec promises, on any update."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.compression.codec import Encoded
from shared.compression.memory import NoMemory
from shared.compression.plan import MOST_BUDGET_BYTES, Plan
from shared.compression.registry import CODECS, codec_by_name, memory_by_codec
from shared.errors import MessageError
from shared.layout import F32, Layout

LAYOUT = Layout.of([("conv.weight", (4, 3, 5), "weight"), ("weight", (7, 20), "weight"), ("bias", (7,), "bias")])
NAMES = [codec.name for codec in CODECS]
OBEDIENT = {"partition", "stc", "topk", "dgc", "sidco", "eden"}
SPARSE = {"partition", "stc", "topk", "dgc", "sidco"}
SENDS_FLOATS = {"topk", "dgc", "sidco", "dense"}
WITH_A_RESIDUAL = [name for name in NAMES if memory_by_codec(name) is not NoMemory]

LARGEST, SMALLEST = np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal
SINGLES = Layout.of([("matrix", (3, 40), "weight"), *((f"one{number}", (1,), "bias") for number in range(40))])
LAYOUTS = {"layers": LAYOUT, "tensors of one value": SINGLES, "one value": Layout.of([("scale", (), "norm")])}
BUDGETS = {"nothing fits": 1, "few fit": 30, "all fit": 10_000, "the largest": MOST_BUDGET_BYTES}


def normal(size: int) -> F32:
    return np.random.default_rng(size).standard_normal(size).astype(np.float32)


SPECIAL: dict[str, Callable[[int], F32]] = {
    "normal": normal,
    "zeros": lambda size: np.zeros(size, np.float32),
    "negative zeros": lambda size: np.full(size, -0.0, np.float32),
    "all equal": lambda size: np.full(size, -1.5, np.float32),
    "the smallest denormals": lambda size: np.copysign(np.float32(1e-45), normal(size)),
    "denormals": lambda size: normal(size) * np.float32(1e-39),
    "huge": lambda size: np.copysign(LARGEST, normal(size)),
    "huge among tiny": lambda size: np.where(np.arange(size) % 50, normal(size) * np.float32(1e-30), -LARGEST),
}


def check_round_trip(name: str, update: F32, layout: Layout, plan: Plan) -> Encoded:
    """The frame decodes to rising indices and finite values, to the bit what encoding said it delivers."""
    encoded = codec_by_name(name).encode(update, layout, plan)
    decoded = codec_by_name(name).decode(encoded.frame, layout, plan)
    assert decoded.size == layout.size
    assert (np.diff(decoded.indices) > 0).all()
    assert np.isfinite(decoded.values).all()
    np.testing.assert_array_equal(decoded.indices, encoded.delivered.indices)
    np.testing.assert_array_equal(decoded.values.view(np.uint32), encoded.delivered.values.view(np.uint32))
    assert name not in OBEDIENT or len(encoded.frame) <= plan.budget_bytes
    return encoded


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
updates = hnp.arrays(np.float32, LAYOUT.size, elements=finite, fill=finite)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=25)
@given(update=updates, budget_bytes=st.integers(1, 1_200))
def test_any_update_decodes_to_what_encoding_delivers(name: str, update: F32, budget_bytes: int) -> None:
    check_round_trip(name, update, LAYOUT, Plan(budget_bytes))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("budget_bytes", BUDGETS.values(), ids=BUDGETS)
def test_an_update_at_the_edge_of_its_type_comes_back(
    name: str, make: Callable[[int], F32], layout: Layout, budget_bytes: int
) -> None:
    update = make(layout.size)
    assert update.dtype == np.float32
    check_round_trip(name, update, layout, Plan(budget_bytes))


@pytest.mark.parametrize("name", sorted(SPARSE))
def test_a_budget_too_small_for_one_value_delivers_none_and_an_ample_one_all(name: str) -> None:
    update = normal(LAYOUT.size)
    assert not len(check_round_trip(name, update, LAYOUT, Plan(1)).delivered.indices)
    assert len(check_round_trip(name, update, LAYOUT, Plan(10_000)).delivered.indices) == LAYOUT.size


@pytest.mark.parametrize("name", WITH_A_RESIDUAL)
@settings(deadline=None, max_examples=25)
@given(update=updates, budget_bytes=st.integers(1, 1_200))
def test_what_is_left_is_to_the_bit_what_was_not_delivered(name: str, update: F32, budget_bytes: int) -> None:
    memory = memory_by_codec(name).zero(LAYOUT.size)
    compensated = memory.compensate(update)
    delivered = codec_by_name(name).encode(compensated, LAYOUT, Plan(budget_bytes)).delivered
    left = memory.after(compensated, delivered).state[: LAYOUT.size]
    assert left.dtype == np.float32
    np.testing.assert_array_equal(left.view(np.uint32), (compensated - delivered.densify()).view(np.uint32))
    # Where d is u itself nothing is lost; else u - d and the sum are each rounded to the larger one's last bit.
    sent = delivered.densify().astype(np.float64)
    error = np.abs(left + sent - compensated)
    last_bit = 2.0**-23 * np.maximum(np.abs(sent), np.abs(compensated)) + SMALLEST
    assert (error <= (0 if name in SENDS_FLOATS else last_bit)).all()


@pytest.mark.parametrize("name", NAMES)
def test_equal_updates_make_equal_frames_in_any_shape(name: str) -> None:
    update = np.random.default_rng(0).standard_normal(LAYOUT.size).astype(np.float32)
    codec = codec_by_name(name)
    assert codec.encode(update, LAYOUT, Plan(90)).frame == codec.encode(update[np.newaxis], LAYOUT, Plan(90)).frame


@pytest.mark.parametrize("name", NAMES)
def test_an_update_that_is_not_contiguous_makes_the_frame_of_its_copy(name: str) -> None:
    wide = np.random.default_rng(1).standard_normal((2 * LAYOUT.size, 3)).astype(np.float32)
    square = wide[: LAYOUT.size, 0].reshape(-1, 9)
    codec = codec_by_name(name)
    for view in (wide[: LAYOUT.size, 1], wide[::-2, 2], np.asfortranarray(square), square.T):
        assert not view.flags.c_contiguous
        copied = codec.encode(view.copy("C"), LAYOUT, Plan(90))
        assert check_round_trip(name, view, LAYOUT, Plan(90)).frame == copied.frame


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("update", [np.zeros(5, np.float32), np.zeros(LAYOUT.size)], ids=["size", "float64"])
def test_an_update_of_another_size_or_type_is_a_mistake(name: str, update: F32) -> None:
    with pytest.raises(ValueError, match="for a layout of"):
        codec_by_name(name).encode(update, LAYOUT, Plan(90))


@pytest.mark.parametrize("shape", [(0,), (4, 0, 3)])
def test_an_empty_tensor_is_in_no_layout(shape: tuple[int, ...]) -> None:
    with pytest.raises(MessageError, match="every dimension must be positive"):
        Layout.of([("weight", (7, 20), "weight"), ("empty", shape, "bias")])


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
