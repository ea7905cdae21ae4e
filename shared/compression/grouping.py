"""Blocks gathered by density class: the axis along which positions are coded, the densest class first."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from shared.compression.plan import DENSEST_CLASS, Classes
from shared.compression.rice import covering_parameter
from shared.layout import I64, Layout


@dataclass(frozen=True)
class Grouping:
    """The `layout.size` values of a layout in the order of their blocks' density classes, class 0 last.

    `bounds` int64 `[groups + 1]` cuts the gathered axis into classes, `classes` int64 `[groups]` names them. `starts`
    int64 `[blocks + 1]` and `offsets` int64 `[blocks]` lead from gathered blocks back to the layout, `block_offsets`
    int64 `[blocks]` there.
    """

    bounds: I64
    classes: I64
    starts: I64
    offsets: I64
    block_offsets: I64

    @classmethod
    def of(cls, block_classes: Classes, layout: Layout) -> Self:
        """Gather the blocks of `layout` by their class, uint8 `[blocks]`; equal classes keep the layout's order."""
        order = np.argsort(DENSEST_CLASS - block_classes, kind="stable")
        sizes = np.diff(layout.block_starts)[order]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        offsets = layout.block_starts[order] - starts[:-1]
        block_offsets = np.empty_like(offsets)
        block_offsets[order] = offsets
        ordered = block_classes[order].astype(np.int64)
        cuts = np.flatnonzero(np.diff(ordered)) + 1
        bounds = np.concatenate([starts[:1], starts[cuts], starts[-1:]])
        classes = ordered[np.concatenate([np.zeros(1, np.int64), cuts])]
        return cls(bounds, classes, starts, offsets, block_offsets)

    @cached_property
    def covering(self) -> I64:
        """The parameter with which one zero bit ends a group that sends nothing: int64 `[groups]`."""
        return np.array([covering_parameter(extent) for extent in np.diff(self.bounds).tolist()])

    def gather(self, indices: I64, blocks: I64) -> I64:
        """Gathered positions of layout indices, in the same order; `blocks` int64 `[k]` are those that hold them."""
        return indices - self.block_offsets[blocks]

    def scatter(self, positions: I64) -> I64:
        """Layout indices of gathered positions, in the same order."""
        if len(self.classes) == 1:
            return positions
        return positions + self.offsets[np.searchsorted(self.starts, positions, side="right") - 1]
