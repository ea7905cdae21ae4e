"""Rows of several blocks as one sequence, each made when it is asked for: a million rows take no room of their own."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeVar, overload

T = TypeVar("T")


class RowView(Sequence[T]):
    """As many rows as `counts` add up to; `make` gives the one at a place, counted from 0, of a block."""

    def __init__(self, counts: Sequence[int], make: Callable[[int, int], T]) -> None:
        self._ends, self._make = list(accumulate(counts)), make

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, number: int) -> T: ...

    @overload
    def __getitem__(self, number: slice) -> list[T]: ...

    def __getitem__(self, number: int | slice) -> T | list[T]:
        if isinstance(number, slice):
            return [self[row] for row in range(*number.indices(len(self)))]
        row = number + len(self) if number < 0 else number
        if not 0 <= row < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        block = bisect_right(self._ends, row)
        return self._make(block, row - (self._ends[block - 1] if block else 0))
