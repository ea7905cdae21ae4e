"""Single values gathered by density class: the same axis as that of blocks, where columns tell values apart too."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np

from shared.compression.axis import Axis
from shared.compression.plan import DENSEST_CLASS, NUM_CLASSES, Classes
from shared.compression.ranked_bits import RankedBits
from shared.layout import I64


@dataclass(frozen=True)
class ValueGrouping(Axis):
    """The axis of value classes: `value_classes` uint8 `[size]`; equal classes keep the layout's order.

    `members` tells which values are in each group.
    """

    value_classes: Classes
    members: tuple[RankedBits, ...]

    @classmethod
    def of(cls, value_classes: Classes) -> Self:
        """Gather values by their class."""
        last = int(value_classes.min(initial=DENSEST_CLASS))
        of_class = {c: RankedBits.of(value_classes == c) for c in range(DENSEST_CLASS, last - 1, -1)}
        members = {c: found for c, found in of_class.items() if found.count}
        bounds = np.cumsum([0, *(found.count for found in members.values())])
        return cls(bounds, np.array(list(members)), value_classes, tuple(members.values()))

    def gather(self, indices: I64, runs: I64) -> tuple[I64, I64]:
        """The order in which rising layout `indices` int64 `[k]` are gathered, and their positions in this order.

        `runs` is of no use here.
        """
        classes = DENSEST_CLASS - self.value_classes[indices]
        order = np.argsort(classes, kind="stable")
        positions = indices[order]
        cuts = np.searchsorted(classes[order], [*(DENSEST_CLASS - self.classes), NUM_CLASSES])
        for found, start, (first, last) in zip(self.members, self.bounds.tolist(), pairwise(cuts), strict=False):
            positions[first:last] = start + found.rank(positions[first:last])
        return order, positions

    def scatter(self, positions: I64) -> tuple[I64, I64]:
        """The order in which rising gathered `positions` int64 `[k]` lie in the layout, and their indices there."""
        indices = np.empty(len(positions), np.int64)
        cuts = np.searchsorted(positions, self.bounds)
        for found, start, (first, last) in zip(self.members, self.bounds.tolist(), pairwise(cuts), strict=False):
            indices[first:last] = found.select(positions[first:last] - start)
        order = np.argsort(indices)
        return order, indices[order]
