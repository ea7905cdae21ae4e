"""The sieve: the largest magnitudes of an update, and the number of them whose code fills a budget."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np

from shared.compression.histogram import (
    SIGN_MASK,
    U32,
    check_finite,
    likely_edge,
    lowest_edge,
    reaching,
    signed_bits,
)
from shared.layout import F32, I64, Layout

LEAST_BITS_PER_VALUE = 2
"""A sent value takes at least one bit of position and one of sign, which bounds the number of candidates."""

PLACE_BITS = np.uint64(32)
PLACE_MASK = np.uint64((1 << 32) - 1)

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
    def above(cls, bits: U32, edge: int) -> Self:
        """All of the bit patterns uint32 `[n]` that are at least `edge`."""
        indices = np.flatnonzero(bits >= np.uint32(edge))
        return cls.ranked(indices, bits[indices])

    @classmethod
    def ranked(cls, indices: I64, bits: U32) -> Self:
        """Rising `indices` int64 `[c]` and the `bits` uint32 `[c]` of their magnitudes, with their ranks."""
        places = np.arange(len(bits))
        # Complement and place in one integer: no two are equal, so that any sort gives the same order.
        keys = np.sort((~bits).astype(np.uint64) << PLACE_BITS | places.view(np.uint64))
        rank = np.empty_like(places)
        rank[(keys & PLACE_MASK).view(np.int64)] = places
        return cls(indices, bits, rank)


class Draft(Protocol):
    """A frame not yet written."""

    @property
    def length(self) -> int:
        """Bits."""

    @property
    def count(self) -> int:
        """Values sent."""


D = TypeVar("D", bound=Draft)


def sieve(update: F32, layout: Layout, budget_bytes: int, fill: Callable[[Candidates], D | None]) -> D | None:
    """What `fill` makes of enough candidates, None if there are none or not even one fits `budget_bytes`.

    First about half as many again as a frame without a prior would hold, and only if all of these fit as many as any
    frame could hold. Raises `ValueError` on NaN, infinity or another size than the layout's.
    """
    signed = signed_bits(update, layout)
    likely = likely_count(layout.size, budget_bytes)
    indices = reaching(signed, likely_edge(signed, likely + likely // 2))
    bits = signed[indices] & SIGN_MASK
    check_finite(bits)
    draft = fill(Candidates.ranked(indices, bits)) if len(indices) else None
    if draft is None or draft.count < len(indices):
        return draft
    bits = signed & SIGN_MASK
    return fill(Candidates.above(bits, lowest_edge(bits, 8 * budget_bytes // LEAST_BITS_PER_VALUE)))


def likely_count(size: int, budget_bytes: int) -> int:
    """About how many values of `size` a frame of `budget_bytes` sends when it knows nothing of where they are."""
    mean_gap = 1 + size // budget_bytes
    return 1 + 8 * budget_bytes // (mean_gap.bit_length() + 2)


def fill_budget(
    draft: Callable[[int], D], guess: int, most: int, budget_bits: int, bits_per_value: float | None = None
) -> D | None:
    """The longest draft found within `budget_bits`, or None where not even one value fits.

    `draft(count)` sends the `count` ≤ `most` largest values. The count moves by the missing bits over the last slope,
    inside a shrinking bracket, until less than a byte or 1/512 is missing: a good guess needs two or three drafts.
    The first slope is `bits_per_value`, or the mean of the first draft.
    """
    best: D | None = None
    low, high, count = 0, most + 1, min(max(guess, 1), most)
    last_count, last_length = 0, HEAD_BITS
    drafts, slack = 0, budget_bits >> 9
    while low + 1 < high and (best is None or drafts < MOST_DRAFTS):
        tried = draft(count)
        drafts += 1
        missing = budget_bits - tried.length
        if missing >= 0:
            best, low = tried, count
        else:
            high = count
        if 0 <= missing < max(slack, 8):
            break
        if drafts > 1 or bits_per_value is None:
            bits_per_value = (tried.length - last_length) / (count - last_count)
        last_count, last_length = count, tried.length
        step = math.floor((missing - slack // 2) / max(bits_per_value, LEAST_BITS_PER_VALUE))
        count = min(max(count + step, low + 1), high - 1)
    return best
