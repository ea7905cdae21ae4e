import math

import numpy as np
import pytest

from coordinator.bench.frame_bits import FrameBits, _log2_ways
from shared.compression.partition import PartitionCodec
from shared.compression.plan import Plan
from shared.compression.stc import StcCodec
from shared.layout import Layout

LAYOUT = Layout.of([("near", (40, 200), "weight"), ("far", (30, 100), "weight"), ("far.bias", (30,), "bias")])


def layered(seed: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    random = np.random.default_rng(seed)
    scales = np.repeat(random.lognormal(0, 1, LAYOUT.num_blocks), LAYOUT.block_sizes)
    return (random.standard_t(4, LAYOUT.size) * scales).astype(np.float32)


def test_ways_are_counted_as_binomial_and_multinomial_coefficients() -> None:
    assert _log2_ways([3, 2]) == pytest.approx(math.log2(math.comb(5, 2)))
    assert _log2_ways([2, 1, 1]) == pytest.approx(math.log2(12))
    assert _log2_ways([7, 0]) == pytest.approx(0)


@pytest.mark.parametrize("budget_bytes", [60, 300, 2000])
def test_a_frame_is_longer_than_its_ideal_and_not_by_much(budget_bytes: int) -> None:
    plan = Plan(budget_bytes)
    total = FrameBits()
    for seed in range(8):
        total = total + FrameBits.of(PartitionCodec().encode(layered(seed), LAYOUT, plan).frame, LAYOUT, plan)
    assert total.ideal < total.frame < 1.3 * total.ideal
    assert total.frame >= total.mask


def test_without_a_partition_and_levels_the_mask_is_what_stc_pays_and_a_few_bits_of_head() -> None:
    random = np.random.default_rng(0)
    alike = np.where(random.random(LAYOUT.size) < 0.01, 1.0, 0.0).astype(np.float32)
    plan = Plan(10_000)
    bits = FrameBits.of(PartitionCodec(levels=1, regions=False).encode(alike, LAYOUT, plan).frame, LAYOUT, plan)
    stc = StcCodec().encode(alike, LAYOUT, plan).frame
    assert 0 <= 8 * len(stc) - bits.stc_mask < 8
    assert bits.positions == bits.stc_positions
    assert 0 < bits.mask - bits.stc_mask < 8


def test_frames_of_other_codecs_and_empty_ones_have_no_bits() -> None:
    plan = Plan(100)
    stc = StcCodec().encode(layered(1), LAYOUT, plan).frame
    empty = PartitionCodec().encode(np.zeros(LAYOUT.size, np.float32), LAYOUT, plan).frame
    assert FrameBits.of(stc, LAYOUT, plan) == FrameBits.of(empty, LAYOUT, plan) == FrameBits()
