from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from shared.compression.frame_stats import describe
from shared.compression.partition import PartitionCodec
from shared.compression.plan import Plan, plan_from_densities
from shared.layout import F32, Layout

Make = Callable[[Layout, int], tuple[F32, npt.NDArray[np.float64]]]


def test_regions_of_a_frame_are_counted(watch_layout: Layout, heavy_tailed: Make) -> None:
    update, densities = heavy_tailed(watch_layout, 2)
    plan = Plan(300, plan_from_densities(densities))
    encoded = PartitionCodec().encode(update, watch_layout, plan)
    stats = describe(encoded.frame, watch_layout, plan)
    assert stats.prior == "public"
    assert stats.key_count + stats.sparse_count == len(encoded.delivered.indices)
    assert stats.key_count > 0
    assert stats.sparse_count > 0
    assert stats.key_block_share + stats.sparse_block_share + stats.dead_block_share == pytest.approx(1.0)
    key_density = stats.key_count / stats.key_block_share
    assert key_density > 4 * stats.sparse_count / stats.sparse_block_share
    assert 7 <= stats.header_bytes <= 16
    sent = set(np.abs(encoded.delivered.values).tolist())
    assert sent == {*stats.key_magnitudes, *stats.sparse_magnitudes}


def test_a_frame_that_delivers_nothing_has_no_regions(watch_layout: Layout) -> None:
    plan = Plan(300)
    encoded = PartitionCodec().encode(np.zeros(watch_layout.size, np.float32), watch_layout, plan)
    stats = describe(encoded.frame, watch_layout, plan)
    assert (stats.key_count, stats.sparse_count, stats.header_bytes) == (0, 0, 1)
