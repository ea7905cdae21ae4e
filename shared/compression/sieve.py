"""The sieve: the largest magnitudes of an update, and the number of them whose code fills a budget."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np

from shared.compression.histogram import U32, magnitude_bits, magnitude_histogram
from shared.compression.threshold import lowest_edge
from shared.layout import F32, I64, Layout

LEAST_BITS_PER_VALUE = 2
"""A sent value takes at least one bit of position and one of sign, which bounds the number of candidates."""

HEAD_BITS = 60
"""About what a frame takes besides its values."""

MOST_DRAFTS = 8


@dataclass(frozen=True, slots=True)
class Candidates:
    """The values that might be sent: rising layout `indices` int64 `[c]`, `bits` uint32 `[c]` of their magnitudes.

    `rank` int64 `[c]` is 0 for the largest magnitude; of equal ones the first index comes first.
    """

    indices: I64
    bits: U32
    rank: I64

    @classmethod
    def of(cls, update: F32, layout: Layout, budget_bytes: int) -> Self:
        """All that a frame of `budget_bytes` could hold; raises `ValueError` on NaN, infinity or another size."""
        bits = magnitude_bits(update, layout)
        edge = lowest_edge(magnitude_histogram(bits), 8 * budget_bytes // LEAST_BITS_PER_VALUE)
        indices = np.flatnonzero(bits >= edge)
        chosen = bits[indices]
        rank = np.empty(len(indices), np.int64)
        rank[np.argsort(~chosen, kind="stable")] = np.arange(len(indices))
        return cls(indices, chosen, rank)


class Sized(Protocol):
    """Anything whose length in bits is known."""

    @property
    def length(self) -> int:
        """Bits."""


D = TypeVar("D", bound=Sized)


def fill_budget(draft: Callable[[int], D], guess: int, most: int, budget_bits: int) -> D | None:
    """The longest draft found within `budget_bits`, or None where not even one value fits.

    `draft(count)` sends the `count` ≤ `most` largest values. Each step moves the count by the bits that are missing,
    inside a shrinking bracket, so a good guess needs three or four drafts.
    """
    best: D | None = None
    low, high, count = 0, most + 1, min(max(guess, 1), most)
    drafts = 0
    while low + 1 < high and (best is None or drafts < MOST_DRAFTS):
        tried = draft(count)
        drafts += 1
        missing = budget_bits - tried.length
        bits_per_value = max((tried.length - HEAD_BITS) // count, LEAST_BITS_PER_VALUE)
        if missing >= 0:
            best, low = tried, count
        else:
            high = count
        if 0 <= missing < bits_per_value:
            break
        count = min(max(count + missing // bits_per_value, low + 1), high - 1)
    return best
