"""Blocks gathered by density class: the axis along which positions are coded, the densest class first."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from shared.compression.axis import Axis
from shared.compression.plan import DENSEST_CLASS, Classes
from shared.layout import I64, Layout


@dataclass(frozen=True)
class Grouping(Axis):
    """The `layout.size` values of a layout in the order of their blocks' density classes, class 0 last.

    `bounds` int64 `[groups + 1]` cuts the gathered axis into classes, `classes` int64 `[groups]` names them. `order`
    int64 `[blocks]` names the gathered blocks, `starts` int64 `[blocks + 1]` is where they lie, and `offsets` int64
    `[blocks]` leads from there back to the layout.
    """

    order: I64
    starts: I64
    offsets: I64

    @classmethod
    def of(cls, block_classes: Classes, layout: Layout) -> Self:
        """Gather the blocks of `layout` by their class, uint8 `[blocks]`; equal classes keep the layout's order."""
        order = (DENSEST_CLASS - block_classes).argsort(kind="stable")
        starts = np.zeros(len(order) + 1, np.int64)
        layout.block_sizes[order].cumsum(out=starts[1:])
        ordered = block_classes[order]
        cuts = [0, *((ordered[1:] != ordered[:-1]).nonzero()[0] + 1).tolist(), len(ordered)]
        classes = ordered[cuts[:-1]].astype(np.int64)
        return cls(starts[cuts], classes, order, starts, layout.block_starts[order] - starts[:-1])

    def gather(self, indices: I64, runs: I64) -> tuple[I64, I64]:
        """The order in which rising layout `indices` int64 `[k]` are gathered, and their positions in this order.

        `runs` int64 `[blocks + 1]` numbers the first index of each block.
        """
        order, counts = _order_of_runs(runs, self.order)
        return order, indices.take(order) - self.offsets.repeat(counts)

    def scatter(self, positions: I64) -> tuple[I64, I64]:
        """The order in which rising gathered `positions` int64 `[k]` lie in the layout, and their indices there."""
        if len(self.classes) == 1:
            return np.arange(len(positions)), positions
        back = np.empty_like(self.order)
        back[self.order] = np.arange(len(back))
        order, counts = _order_of_runs(positions.searchsorted(self.starts), back)
        return order, positions.take(order) + self.offsets[back].repeat(counts)


def _order_of_runs(runs: I64, blocks: I64) -> tuple[I64, I64]:
    """The order that brings runs, which `runs` cuts, into the order of `blocks` int64 `[blocks]`; and their lengths."""
    counts = (runs[1:] - runs[:-1])[blocks]
    ends = counts.cumsum()
    return (runs[blocks] - ends + counts).repeat(counts) + np.arange(int(ends[-1])), counts
