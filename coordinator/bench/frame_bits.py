"""Where the bits of partition frames go, against what their symbols would take ideally, and against one-group STC."""

import math
from dataclasses import astuple, dataclass
from typing import Self

import numpy as np

from shared.compression.frame import PARTITION_WIRE_ID, Content
from shared.compression.levels import COUNT_BITS
from shared.compression.magnitudes import BASE_BITS, LEVEL_HEAD_BITS, STEP_BITS
from shared.compression.partition import read_frame
from shared.compression.plan import Plan
from shared.compression.rice import Gaps, covering_parameter
from shared.compression.stc import PARAMETER_BITS
from shared.layout import Layout

STC_HEAD_BITS = 8 + PARAMETER_BITS + BASE_BITS


@dataclass(frozen=True, slots=True)
class FrameBits:
    """Sums over frames, in bits.

    `frame` is whole frames as sent. `ideal` is a lower bound for any code of their symbols that takes the values of one
    class for exchangeable, as the frame's reader does: the logarithm of the number of ways in which so many positions
    can lie in each class, and so many values of each class take each level, and a bit for each sign. How many there are
    of each counts nothing, nor do heads, magnitudes, or classes that travel in a frame: all these are the frame's cost.
    `mask` is all that tells positions and signs, with the head, without levels beyond the first; `positions` the
    position codes alone. `stc_mask` and `stc_positions` are the same of an `stc` frame of the very same positions.
    """

    frame: int = 0
    ideal: float = 0.0
    mask: int = 0
    stc_mask: int = 0
    positions: int = 0
    stc_positions: int = 0

    @classmethod
    def of(cls, frame: bytes, layout: Layout, plan: Plan) -> Self:
        """The bits of one partition frame; nothing for a frame of another kind, or an empty one."""
        content = read_frame(frame, layout, plan) if frame[:1] == bytes([PARTITION_WIRE_ID]) else None
        if content is None:
            return cls()
        axis, sent = content.regions.axis, len(content.positions)
        coded = Gaps.of(content.positions, axis.bounds).length(content.regions.scale.parameters(axis))
        _, alike = Gaps.within(axis.scatter(content.positions)[1], layout.size).shortest_parameter(
            covering_parameter(layout.size)
        )
        return cls(
            frame=8 * len(frame),
            ideal=_ideal(content),
            mask=content.head_bits - _level_head_bits(content) + coded + sent,
            stc_mask=STC_HEAD_BITS + alike + sent,
            positions=coded,
            stc_positions=alike,
        )

    def __add__(self, other: "FrameBits") -> "FrameBits":
        return FrameBits(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))


def _ideal(content: Content) -> float:
    bounds = content.regions.axis.bounds
    of_group = np.searchsorted(bounds, content.positions, side="right") - 1
    sent = np.bincount(of_group, minlength=len(bounds) - 1)
    magnitude = np.unique(np.abs(content.values), return_inverse=True)[1]
    of_level = np.zeros((len(sent), int(magnitude.max(initial=0)) + 1), np.int64)
    np.add.at(of_level, (of_group, magnitude), 1)
    return len(content.positions) + sum(
        _log2_ways([size - count, *levels])
        for size, count, levels in zip(np.diff(bounds).tolist(), sent.tolist(), of_level.tolist(), strict=True)
    )


def _log2_ways(counts: list[int]) -> float:
    """Log2 of the number of orders in which so many symbols of each kind can come."""
    return (math.lgamma(sum(counts) + 1) - math.fsum(math.lgamma(count + 1) for count in counts)) / math.log(2)


def _level_head_bits(content: Content) -> int:
    """Bits of the head that tell of levels, but for the first magnitude."""
    bits = COUNT_BITS + LEVEL_HEAD_BITS * (len(content.regions.key.patterns) - 1)
    if content.regions.sparse is not None:
        bits += COUNT_BITS + STEP_BITS + LEVEL_HEAD_BITS * (len(content.regions.sparse.patterns) - 1)
    return bits
