from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.compression.dense import DENSE_WIRE_ID
from shared.compression.frame_stats import describe
from shared.compression.histogram import BIN_SHIFT, CHUNK, LONGEST, QUICK_SAMPLE
from shared.compression.history import SendHistory
from shared.compression.partition import PartitionCodec
from shared.compression.plan import Plan, plan_from_densities, steps_from_densities
from shared.compression.residual import ResidualFeedback
from shared.compression.stc import StcCodec
from shared.errors import DecodeError
from shared.layout import F32, Layout

Update = tuple[F32, npt.NDArray[np.float64]]
Make = Callable[[Layout, int], Update]

CODEC = PartitionCodec()
LAYOUT = Layout.of([("a.weight", (8, 64), "weight"), ("a.bias", (8,), "bias"), ("b.weight", (3, 130), "weight")])
SMALLEST_SENT = float(np.array([1 << BIN_SHIFT], np.uint32).view(np.float32)[0])

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
updates = hnp.arrays(np.float32, LAYOUT.size, elements=finite, fill=finite)
plans = st.builds(
    Plan,
    st.integers(1, 1 << 12),
    st.none() | hnp.arrays(np.uint8, LAYOUT.num_blocks, elements=st.integers(0, 8)),
)


def check_round_trip(update: F32, layout: Layout, plan: Plan) -> None:
    """The frame decodes to exactly what was delivered, keeps to its budget and sends the largest values' signs."""
    encoded = CODEC.encode(update, layout, plan)
    decoded = CODEC.decode(encoded.frame, layout, plan)
    delivered = encoded.delivered
    assert len(encoded.frame) <= plan.budget_bytes
    np.testing.assert_array_equal(decoded.indices, delivered.indices)
    np.testing.assert_array_equal(decoded.values.view(np.uint32), delivered.values.view(np.uint32))
    assert decoded.size == delivered.size == layout.size
    assert (np.diff(decoded.indices) > 0).all()
    assert np.isfinite(decoded.values).all()
    sent = np.zeros(layout.size, bool)
    sent[decoded.indices] = True
    flat = update.reshape(-1)
    if sent.any() and not sent.all():
        assert np.abs(flat[sent]).min() == np.float32(encoded.threshold) >= np.abs(flat[~sent]).max()
    np.testing.assert_array_equal(np.signbit(decoded.values), np.signbit(flat[decoded.indices]))


@settings(deadline=None, max_examples=40)
@given(updates, plans)
def test_any_update_under_any_plan_comes_back(update: F32, plan: Plan) -> None:
    check_round_trip(update, LAYOUT, plan)


@pytest.mark.parametrize("budget_bytes", [1, 7, 8, 9, 20, 100, 1_000, 10_000])
@pytest.mark.parametrize(
    "value", [0.0, -0.0, 1.0, -3.4028235e38, 3.4028235e38, 1e-45, SMALLEST_SENT, 1.1754944e-38], ids=str
)
def test_an_update_of_equal_values_comes_back(value: float, budget_bytes: int) -> None:
    check_round_trip(np.full(LAYOUT.size, value, np.float32), LAYOUT, Plan(budget_bytes))


@pytest.mark.parametrize("value", [0.0, -2.5])
@pytest.mark.parametrize("budget_bytes", [1, 4, 5, 7, 100])
def test_a_single_value_comes_back(value: float, budget_bytes: int) -> None:
    layout = Layout.of([("one", (1,), "bias")])
    check_round_trip(np.array([value], np.float32), layout, Plan(budget_bytes))
    check_round_trip(np.array([value], np.float32), layout, Plan(budget_bytes, np.ones(1, np.uint8)))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1 << 32), st.integers(20, 2_900))
def test_the_budget_is_filled_but_never_passed(seed: int, budget_bytes: int) -> None:
    random = np.random.default_rng(seed)
    layout = Layout.of([("weight", (40, 100), "weight")])
    update = (random.standard_t(3, layout.size) * np.exp(random.normal(size=layout.size))).astype(np.float32)
    plan = Plan(budget_bytes, random.integers(0, 9, layout.num_blocks, np.uint8))
    encoded = CODEC.encode(update, layout, plan)
    assert len(encoded.frame) <= budget_bytes
    everything = len(encoded.delivered.indices) == layout.size
    assert everything or len(encoded.frame) >= min(0.97 * budget_bytes, budget_bytes - 3)


@pytest.mark.parametrize("budget_bytes", [150, 300, 600])
@pytest.mark.parametrize("seed", range(3))
def test_gradient_like_updates_fill_their_budget(
    watch_layout: Layout, heavy_tailed: Make, seed: int, budget_bytes: int
) -> None:
    update, densities = heavy_tailed(watch_layout, seed)
    for plan in (Plan(budget_bytes), Plan(budget_bytes, plan_from_densities(densities))):
        assert 0.97 * budget_bytes <= len(CODEC.encode(update, watch_layout, plan).frame) <= budget_bytes


def test_an_update_that_is_not_contiguous_comes_back() -> None:
    wide = np.random.default_rng(1).standard_normal((LAYOUT.size, 2)).astype(np.float32)
    strided = wide[:, 1]
    check_round_trip(strided, LAYOUT, Plan(100))
    assert CODEC.encode(strided, LAYOUT, Plan(100)).frame == CODEC.encode(strided.copy(), LAYOUT, Plan(100)).frame


def test_a_budget_of_the_dense_length_makes_a_dense_frame() -> None:
    update = np.random.default_rng(1).standard_normal(LAYOUT.size).astype(np.float32)
    encoded = CODEC.encode(update, LAYOUT, Plan(1 + 4 * LAYOUT.size))
    assert encoded.frame[0] == DENSE_WIRE_ID
    np.testing.assert_array_equal(CODEC.decode(encoded.frame, LAYOUT, Plan(9)).densify(), update)


def test_dead_blocks_cost_one_bit_and_can_be_revived() -> None:
    layout = Layout.of([("weight", (64, 100), "weight")])
    classes = np.repeat(np.array([8, 0], np.uint8), [16, 48])
    plan = Plan(120, classes)
    update = np.zeros(layout.size, np.float32)
    update[:1600:10] = 1.0
    asleep = CODEC.encode(update, layout, plan)
    assert describe(asleep.frame, layout, plan).dead_block_share == 0.75
    without = CODEC.encode(update[:1600], Layout.of([("weight", (16, 100), "weight")]), Plan(120, classes[:16]))
    assert len(asleep.frame) <= len(without.frame) + 1
    update[5_000] = 50.0
    awake = CODEC.encode(update, layout, plan)
    assert 5_000 in awake.delivered.indices
    assert len(awake.frame) <= len(asleep.frame) + 4


def test_a_plan_that_misleads_is_left_aside(watch_layout: Layout, heavy_tailed: Make) -> None:
    update, densities = heavy_tailed(watch_layout, 4)
    upside_down = Plan(300, np.where(plan_from_densities(densities) > 3, 1, 8).astype(np.uint8))
    misled = CODEC.encode(update, watch_layout, upside_down)
    unaided = CODEC.encode(update, watch_layout, Plan(300))
    assert describe(misled.frame, watch_layout, upside_down).prior != "public"
    assert len(misled.delivered.indices) >= 0.97 * len(unaided.delivered.indices)


@pytest.mark.parametrize("seed", range(3))
def test_the_public_prior_beats_ternary_compression_at_identical_values(
    watch_layout: Layout, heavy_tailed: Make, seed: int
) -> None:
    update, densities = heavy_tailed(watch_layout, seed)
    plan = Plan(300, plan_from_densities(densities))
    ours = CODEC.encode(update, watch_layout, plan)
    kept = np.zeros_like(update)
    kept[ours.delivered.indices] = update[ours.delivered.indices]
    ternary = StcCodec().encode(kept, watch_layout, Plan(4_000))
    np.testing.assert_array_equal(ternary.delivered.indices, ours.delivered.indices)
    assert len(ours.frame) < 0.93 * len(ternary.frame)
    left_by_ours = np.square(update - ours.delivered.densify()).sum()
    assert left_by_ours < np.square(update - ternary.delivered.densify()).sum()


@pytest.mark.parametrize("seed", range(3))
def test_a_frame_is_within_five_percent_of_the_entropy_of_its_symbols(
    watch_layout: Layout, heavy_tailed: Make, seed: int
) -> None:
    update, densities = heavy_tailed(watch_layout, seed)
    classes = plan_from_densities(densities)
    plan = Plan(600, classes)
    encoded = CODEC.encode(update, watch_layout, plan)
    assert describe(encoded.frame, watch_layout, plan).prior == "public"
    value_class = np.repeat(classes, np.diff(watch_layout.block_starts))
    sent = np.zeros(watch_layout.size, bool)
    sent[encoded.delivered.indices] = True
    ideal = float(sent.sum())
    for group in np.unique(value_class):
        ideal += entropy_bits(sent[value_class == group])
    magnitudes = np.abs(encoded.delivered.values)
    counts = np.unique(magnitudes, return_counts=True)[1]
    ideal += float(-(counts * np.log2(counts / counts.sum())).sum())
    assert 8 * len(encoded.frame) <= 1.05 * ideal


def entropy_bits(sent: npt.NDArray[np.bool_]) -> float:
    share = float(sent.mean())
    return 0.0 if share in (0.0, 1.0) else -len(sent) * (share * np.log2(share) + (1 - share) * np.log2(1 - share))


def test_another_plan_is_refused(watch_layout: Layout, heavy_tailed: Make) -> None:
    update, densities = heavy_tailed(watch_layout, 1)
    plan = Plan(300, plan_from_densities(densities))
    frame = CODEC.encode(update, watch_layout, plan).frame
    with pytest.raises(DecodeError, match="must be that round's plan"):
        CODEC.decode(frame, watch_layout, Plan(300, plan_from_densities(densities[::-1])))


@pytest.mark.parametrize("prior", ["columns", "history", "both"])
def test_columns_and_history_shorten_frames_that_follow_them(watch_layout: Layout, prior: str) -> None:
    """Updates as strong as their output times their input, with a residual, as in training."""
    random, history, saved = np.random.default_rng(5), SendHistory.empty(watch_layout), []
    residual = ResidualFeedback.zero(watch_layout.size)
    rows, columns = (random.lognormal(0, 1.5, n) for n in (watch_layout.num_blocks, watch_layout.num_columns))
    everything = np.arange(watch_layout.size)
    scale = np.repeat(rows, watch_layout.block_sizes) * columns[watch_layout.columns_of(everything)]
    steps = steps_from_densities(np.clip(columns, 0.1, 10.0)) if prior != "history" else None
    plan = Plan(300, plan_from_densities(rows / rows.max()), steps)
    for _ in range(12):
        update = residual.compensate((random.standard_normal(watch_layout.size) * scale).astype(np.float32))
        known = plan if prior == "columns" else plan.knowing(history)
        encoded = CODEC.encode(update, watch_layout, known)
        decoded = CODEC.decode(encoded.frame, watch_layout, known)
        np.testing.assert_array_equal(decoded.indices, encoded.delivered.indices)
        np.testing.assert_array_equal(decoded.values, encoded.delivered.values)
        alone = CODEC.encode(encoded.delivered.densify(), watch_layout, Plan(4_000, plan.density_classes))
        saved.append(1 - len(encoded.frame) / len(alone.frame))
        history = history.after(encoded.delivered.indices, watch_layout)
        residual = residual.after(update, encoded.delivered)
    assert np.mean(saved[4:]) > 0.08


@pytest.mark.parametrize("gain_eighths", [8, 12, 16])
def test_a_gain_multiplies_what_is_delivered_and_leaves_the_rest_exact(
    watch_layout: Layout, heavy_tailed: Make, gain_eighths: int
) -> None:
    update, densities = heavy_tailed(watch_layout, 2)
    classes = plan_from_densities(densities)
    plain = CODEC.encode(update, watch_layout, Plan(200, classes)).delivered
    more = CODEC.encode(update, watch_layout, Plan(200, classes, None, gain_eighths)).delivered
    shared = np.intersect1d(plain.indices, more.indices)
    assert len(shared) > 0.95 * len(plain.indices)
    ratio = more.densify()[shared] / plain.densify()[shared]
    np.testing.assert_allclose(ratio, gain_eighths / 8, rtol=0.03)


def test_a_plan_of_another_layout_is_refused(watch_layout: Layout) -> None:
    with pytest.raises(DecodeError, match="does not class the 150 blocks"):
        CODEC.encode(np.ones(watch_layout.size, np.float32), watch_layout, Plan(300, np.ones(3, np.uint8)))


def test_an_update_with_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        CODEC.encode(np.full(LAYOUT.size, np.nan, np.float32), LAYOUT, Plan(100))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 77_777, CHUNK, LONGEST + 4, LONGEST + 9])
def test_a_value_that_is_not_finite_is_refused_wherever_it_hides(place: int, value: float) -> None:
    layout = Layout.of([("weight", (LONGEST // 10 + 1, 10), "weight")])
    update = np.random.default_rng(0).standard_t(4, layout.size).astype(np.float32)
    update[min(place, layout.size - 1)] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        CODEC.encode(update, layout, Plan(300))


def test_values_in_an_order_that_misleads_the_sample_fill_the_budget() -> None:
    layout = Layout.of([("weight", (1_000, 300), "weight")])
    update = np.full(layout.size, 1e-3, np.float32)
    update[:: layout.size // QUICK_SAMPLE + 1] = 1e-6
    for budget_bytes in (300, 3_000):
        check_round_trip(update, layout, Plan(budget_bytes))
        assert len(CODEC.encode(update, layout, Plan(budget_bytes)).frame) >= 0.97 * budget_bytes
