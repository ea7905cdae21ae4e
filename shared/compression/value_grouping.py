"""Single values gathered by density class: the same axis as that of blocks, where columns tell values apart too."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from shared.compression.axis import Axis
from shared.compression.plan import DENSEST_CLASS, NUM_CLASSES, Classes
from shared.layout import I64


@dataclass(frozen=True)
class ValueGrouping(Axis):
    """The axis of value classes: `value_classes` uint8 `[size]`; equal classes keep the layout's order."""

    value_classes: Classes

    @classmethod
    def of(cls, value_classes: Classes) -> Self:
        """Gather values by their class."""
        # Comparing bytes is many times quicker than counting them as integers.
        counts = np.array([np.count_nonzero(value_classes == c) for c in range(NUM_CLASSES)])[::-1]
        used = np.flatnonzero(counts)
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[used])])
        return cls(bounds, DENSEST_CLASS - used, value_classes)

    def gather(self, indices: I64, runs: I64) -> tuple[I64, I64]:
        """The order in which rising layout `indices` int64 `[k]` are gathered, and their positions in this order.

        A class's positions are numbered in one pass over its values; `runs` is of no use here.
        """
        classes = self.value_classes[indices]
        order = np.argsort(DENSEST_CLASS - classes, kind="stable")
        positions = np.empty(len(indices), np.int64)
        for density, start in zip(self.classes.tolist(), self.bounds.tolist(), strict=False):
            members = np.flatnonzero(classes == density)
            if len(members):
                inside = np.flatnonzero(self.value_classes == density)
                positions[members] = start + np.searchsorted(inside, indices[members])
        return order, positions[order]

    def scatter(self, positions: I64) -> tuple[I64, I64]:
        """The order in which rising gathered `positions` int64 `[k]` lie in the layout, and their indices there."""
        found = np.empty(len(positions), np.int64)
        cuts = np.searchsorted(positions, self.bounds)
        for group, density in enumerate(self.classes.tolist()):
            part = slice(cuts[group], cuts[group + 1])
            if cuts[group] < cuts[group + 1]:
                found[part] = np.flatnonzero(self.value_classes == density)[positions[part] - self.bounds[group]]
        order = np.argsort(found)
        return order, found[order]
