from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from shared.compression.histogram import lowest_edge, magnitude_bits
from shared.compression.threshold import Binned, choose_cut
from shared.layout import F32, Layout

F64 = npt.NDArray[np.float64]
SIZE = 24_103
LAYOUT = Layout.of([("vector", (SIZE,), "norm")])


def gradient(size: int = SIZE) -> F32:
    return np.random.default_rng(5).standard_t(4, size).astype(np.float32)


def kapur_threshold(values: F64, edges: F64) -> float:
    """The threshold of Kapur, Sahoo and Wong (1985): greatest sum of the entropies below and above it."""
    histogram = np.histogram(values, edges)[0] / len(values)
    best, threshold = -np.inf, 0.0
    for place in range(1, len(histogram)):
        parts = [part[part > 0] / part.sum() for part in (histogram[:place], histogram[place:]) if part.sum() > 0]
        entropy = sum(float(-(part * np.log(part)).sum()) for part in parts)
        if len(parts) == 2 and entropy > best:
            best, threshold = entropy, float(edges[place])
    return threshold


def share_kept_by_kapur(size: int, logarithmic: bool) -> float:
    values = np.abs(gradient(size)).astype(np.float64)
    top = float(values.max())
    edges = np.geomspace(top * 2.0**-40, top, 257) if logarithmic else np.linspace(0.0, top, 257)
    return float((values >= kapur_threshold(values, edges)).mean())


def test_maximum_entropy_thresholds_of_images_fail_on_gradients() -> None:
    """Entropy must act as a rate: as a criterion of its own it keeps nearly all, or whatever one outlier makes it."""
    assert share_kept_by_kapur(100_000, logarithmic=True) > 0.5
    few, many = share_kept_by_kapur(2_000, logarithmic=False), share_kept_by_kapur(200_000, logarithmic=False)
    assert few > 4 * many


def share_kept_by_rate(budget_bytes: int) -> float:
    bits = magnitude_bits(gradient(), LAYOUT)
    binned = Binned.of(bits, np.array([0, SIZE]))
    return choose_cut(binned, np.array([float(SIZE)]), 1, 8.0 * budget_bytes).count / SIZE


def test_the_rate_threshold_keeps_what_the_budget_pays_for() -> None:
    shares = [share_kept_by_rate(budget) for budget in (75, 150, 300, 600)]
    assert shares == sorted(shares)
    assert 0.008 < shares[2] < 0.012


def test_one_level_at_high_ratios_and_more_at_low_ones() -> None:
    binned = Binned.of(magnitude_bits(gradient(), LAYOUT), np.array([0, SIZE]))
    cuts = [choose_cut(binned, np.array([float(SIZE)]), 1, 8.0 * budget) for budget in (20, 4_000)]
    assert len(cuts[0].key) == 0
    assert len(cuts[1].key) >= 2


def test_sums_of_bins_are_those_of_the_values_within_three_percent() -> None:
    bits = magnitude_bits(gradient(), LAYOUT)
    first = np.array([0, 9_000, 9_000, SIZE])
    binned = Binned.of(bits, first)
    for group, (start, end) in enumerate(pairwise(first.tolist())):
        values = bits[start:end]
        for edge, count, total in zip(binned.edges, binned.counts[group], binned.sums[group], strict=True):
            assert count == np.count_nonzero(values >= edge)
            assert total == pytest.approx(float(values[values >= edge].view(np.float32).astype(float).sum()), rel=0.03)


@pytest.mark.parametrize("most", [1, 100, SIZE])
def test_the_lowest_edge_leaves_enough_above_it(most: int) -> None:
    bits = magnitude_bits(gradient(), LAYOUT)
    edge = lowest_edge(bits, most)
    assert np.count_nonzero(bits >= edge) >= min(most, int(np.count_nonzero(bits >= 1 << 19)))
    assert np.count_nonzero(bits >= edge + (1 << 19)) < most


def test_regions_of_different_tails_get_levels_of_their_own() -> None:
    update = np.concatenate([np.full(2_000, 100.0), np.full(2_000, 1.0), np.zeros(SIZE - 4_000)]).astype(np.float32)
    bits = magnitude_bits(update, LAYOUT)[:4_000]
    binned = Binned.of(bits, np.array([0, 2_000, 4_000]))
    cut = choose_cut(binned, np.array([2_000.0, SIZE - 2_000.0]), 2, 60_000.0)
    assert cut.key_groups == 1
    assert cut.key == cut.sparse == ()


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_a_regular_pattern_that_misleads_the_sample_does_not_mislead_the_edge(offset: int) -> None:
    layout = Layout.of([("vector", (200_000,), "norm")])
    update = np.full(layout.size, 1e-3, np.float32)
    update[offset::4] = 1.0
    bits = magnitude_bits(update, layout)
    for most in (10, 40_000, 60_000):
        assert np.count_nonzero(bits >= lowest_edge(bits, most)) >= most
