"""The gathered axis: the values of a layout in the order of their density classes, along which positions are coded."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shared.compression.rice import covering_parameter
from shared.layout import I64, MOST_VALUES


@dataclass(frozen=True)
class Axis(ABC):
    """All values, the densest class first: `bounds` int64 `[groups + 1]` cuts the axis into one group a class.

    `classes` int64 `[groups]` names them; within a class the layout's order is kept.
    """

    bounds: I64
    classes: I64

    @cached_property
    def covering(self) -> I64:
        """The parameter with which one zero bit ends a group that sends nothing: int64 `[groups]`."""
        return np.array([covering_parameter(extent) for extent in (self.bounds[1:] - self.bounds[:-1]).tolist()])

    @cached_property
    def steps(self) -> I64:
        """What a scale adds to its level for the parameter of each group, too much for class 0: int64 `[groups]`."""
        return np.where(self.classes > 0, 1 - self.classes, MOST_VALUES)

    @abstractmethod
    def gather(self, indices: I64, runs: I64) -> tuple[I64, I64]:
        """The order in which rising layout `indices` int64 `[k]` are gathered, and their positions in this order.

        `runs` int64 `[blocks + 1]` numbers the first index of each block.
        """

    @abstractmethod
    def scatter(self, positions: I64) -> tuple[I64, I64]:
        """The order in which rising gathered `positions` int64 `[k]` lie in the layout, and their indices there."""
