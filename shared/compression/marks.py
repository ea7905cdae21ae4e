"""Marks: which of a row of values are singled out, as one group of Rice-coded gaps under its best parameter."""

from dataclasses import dataclass

from shared.compression.rice import Gaps, shortest_code, steps_between
from shared.layout import I64


@dataclass(frozen=True, slots=True)
class Marks:
    """Which of a row of `extent` values are marked: rising `positions` int64 `[k]`, and how they are best coded.

    `parameter` is that of their gaps, which then take `length` bits.
    """

    positions: I64
    extent: int
    parameter: int
    length: int

    @classmethod
    def of(cls, positions: I64, extent: int, most_parameter: int) -> "Marks":
        """One or more rising `positions` int64 `[k]` of `extent` values, under a parameter of at most that."""
        last = int(positions[-1])
        found = shortest_code(steps_between(positions), extent - 1 - last, last + 1 - len(positions), most_parameter)
        return cls(positions, extent, *found)

    @property
    def gaps(self) -> Gaps:
        """Their gaps, in one group."""
        return Gaps.within(self.positions, self.extent)
