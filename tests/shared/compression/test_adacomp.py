import numpy as np

from shared.compression.adacomp import AdaCompCodec, bin_starts, selected
from shared.compression.plan import Plan
from shared.compression.registry import codec_for_update
from shared.layout import Layout

LAYOUT = Layout.of([("conv.weight", (10, 2, 5), "weight"), ("out.weight", (3, 200), "weight")])
AMPLE = Plan(10_000)


def test_bins_are_50_values_of_a_convolution_and_500_elsewhere() -> None:
    assert bin_starts(LAYOUT, 1).tolist() == [0, 50, 100, 600]
    assert bin_starts(LAYOUT, 2).tolist() == [0, 100]


def test_a_value_is_sent_where_one_more_gradient_lifts_it_to_its_bins_largest() -> None:
    residual, latest = np.zeros((2, LAYOUT.size), np.float32)
    residual[[0, 1, 2, 3]] = [4.0, 2.0, 2.5, 4.0]
    latest[[0, 1, 2, 3]] = [0.0, 1.0, 0.5, -2.0]
    residual[60] = 0.125
    codec = codec_for_update("adacomp", latest)
    delivered = codec.encode(residual + latest, LAYOUT, AMPLE).delivered
    # Totals 4, 3, 3, 2 and the largest 4: |total + latest| is 4, 4, 3.5, 0. The other bin has a largest of its own.
    assert delivered.indices.tolist() == [0, 1, 60]


def test_a_tensors_values_are_sent_as_the_mean_of_its_bins_largest() -> None:
    total = np.zeros(LAYOUT.size, np.float32)
    total[[0, 60, 300, 650]] = [4.0, -2.0, -1.0, 1.0]
    delivered = AdaCompCodec(np.zeros_like(total)).encode(total, LAYOUT, AMPLE).delivered
    assert delivered.indices.tolist() == [0, 60, 300, 650]
    assert delivered.values.tolist() == [3.0, -3.0, -1.0, 1.0]


def test_without_the_latest_update_the_residual_counts_as_zero() -> None:
    total = np.random.default_rng(0).standard_normal(LAYOUT.size).astype(np.float32)
    assert AdaCompCodec().encode(total, LAYOUT, AMPLE).frame == AdaCompCodec(total).encode(total, LAYOUT, AMPLE).frame
    delivered = AdaCompCodec().encode(total, LAYOUT, AMPLE).delivered
    starts = bin_starts(LAYOUT, 1)
    largest = np.repeat(np.maximum.reduceat(np.abs(total), starts), np.diff(starts, append=LAYOUT.size))
    np.testing.assert_array_equal(delivered.indices, np.flatnonzero(2 * np.abs(total) >= largest))


def test_bins_are_doubled_until_the_frame_fits_the_budget(watch_layout: Layout) -> None:
    random = np.random.default_rng(0)
    latest = random.standard_normal(watch_layout.size).astype(np.float32)
    total = latest + 5 * random.standard_normal(watch_layout.size).astype(np.float32)
    codec, by_bins = AdaCompCodec(latest), []
    for factor in (1, 2, 4, 8, 16):
        starts = bin_starts(watch_layout, factor)
        largest = np.repeat(np.maximum.reduceat(np.abs(total), starts), np.diff(starts, append=watch_layout.size))
        by_bins.append(selected(total.astype(np.float64), latest.astype(np.float64), largest.astype(np.float64)))
    budget_bytes = AMPLE.budget_bytes
    for indices in by_bins:
        encoded = codec.encode(total, watch_layout, Plan(budget_bytes))
        assert encoded.delivered.indices.tolist() == indices.tolist()
        assert len(encoded.frame) <= budget_bytes
        budget_bytes = len(encoded.frame) - 1
