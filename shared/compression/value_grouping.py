"""Single values gathered by density class: the same axis as that of blocks, where columns tell values apart too."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

import numpy as np
import numpy.typing as npt

from shared.compression.axis import Axis
from shared.compression.plan import DENSEST_CLASS, NUM_CLASSES, Classes
from shared.compression.ranked_bits import RankedBits, row_places
from shared.layout import I64


@dataclass(frozen=True)
class ValueGrouping(Axis):
    """The axis of value classes: `value_classes` uint8 `[size]`; equal classes keep the layout's order.

    `members` tells which values are in each group, a row of bits for each: so a value's position is its bit's rank.
    """

    value_classes: Classes
    members: RankedBits

    @classmethod
    def of(cls, value_classes: Classes) -> Self:
        """Gather values by their class."""
        size, last = len(value_classes), int(value_classes.min(initial=DENSEST_CLASS))
        counts = dict[int, int]()

        def rows() -> Iterator[npt.NDArray[np.bool_]]:
            for each in range(DENSEST_CLASS, last - 1, -1):
                flags = value_classes == each
                if found := int(np.count_nonzero(flags)):
                    counts[each] = found
                    yield flags

        members = RankedBits.of_rows(rows(), NUM_CLASSES - last, size)
        return cls(np.array([0, *accumulate(counts.values())]), np.array(list(counts)), value_classes, members)

    def gather(self, indices: I64, runs: I64) -> tuple[I64, I64]:
        """The order in which rising layout `indices` int64 `[k]` are gathered, and their positions in this order.

        `runs` is of no use here.
        """
        row = np.zeros(NUM_CLASSES, np.int64)
        row[self.classes] = np.arange(len(self.classes)) * row_places(len(self.value_classes))
        positions = self.members.rank(row[self.value_classes[indices]] + indices)
        order = positions.argsort()  # no two are equal, so that any sort gives the same order
        return order, positions[order]

    def scatter(self, positions: I64) -> tuple[I64, I64]:
        """The order in which rising gathered `positions` int64 `[k]` lie in the layout, and their indices there."""
        indices = self.members.select(positions) % row_places(len(self.value_classes))
        order = indices.argsort()
        return order, indices[order]
