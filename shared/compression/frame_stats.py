"""What a partition frame says about its update, for a report: its regions, their magnitudes, and where bytes went."""

from dataclasses import dataclass

import numpy as np

from shared.compression.magnitudes import signed_values
from shared.compression.partition import read_frame
from shared.compression.plan import Plan
from shared.layout import Layout


@dataclass(frozen=True, slots=True)
class FrameStats:
    """A frame's key and sparse region.

    Shares are of the blocks and add up to 1; blocks of class 0 are dead. Magnitudes rise; regions that share their
    levels show the same. `header_bytes` is all before the first position, rounded up.
    """

    prior: str
    key_magnitudes: tuple[float, ...]
    sparse_magnitudes: tuple[float, ...]
    key_count: int
    sparse_count: int
    key_block_share: float
    sparse_block_share: float
    dead_block_share: float
    header_bytes: int


def describe(frame: bytes, layout: Layout, plan: Plan) -> FrameStats:
    """Look into a partition frame; raises `DecodeError` where decoding would, and on a dense frame."""
    content = read_frame(frame, layout, plan)
    if content is None:
        return FrameStats("none", (), (), 0, 0, 0.0, 0.0, 1.0, 1)
    regions = content.regions
    least_key_class = int(regions.axis.classes[regions.key_groups - 1])
    key = float(np.mean(regions.prior.classes >= max(least_key_class, 1)))
    dead = float(np.mean(regions.prior.classes == 0))
    return FrameStats(
        prior=regions.prior.kind.name.lower(),
        key_magnitudes=_floats(regions.key.patterns),
        sparse_magnitudes=_floats((regions.sparse or regions.key).patterns),
        key_count=content.key_count,
        sparse_count=len(content.positions) - content.key_count,
        key_block_share=key,
        sparse_block_share=1.0 - key - dead,
        dead_block_share=dead,
        header_bytes=-(-content.head_bits // 8),
    )


def _floats(patterns: tuple[int, ...]) -> tuple[float, ...]:
    values = signed_values(np.array(patterns, np.uint32), np.zeros(len(patterns), np.uint8))
    return tuple(values.astype(float).tolist())
