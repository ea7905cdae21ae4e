"""The sieve: the largest magnitudes of an update, and the number of them whose code fills a budget."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from shared.compression.bits import U8
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

Flags = npt.NDArray[np.bool_]

LEAST_BITS_PER_VALUE = 2
"""A sent value takes at least one bit of position and one of sign, which bounds the number of candidates."""

UPPER_SHIFT, SIGN_SHIFT = np.uint32(16), np.uint32(31)

PLACE_BITS = np.uint64(32)
PLACE_MASK = np.uint64((1 << 32) - 1)

HEAD_BITS = 60
"""About what a frame takes besides its values."""

MOST_DRAFTS = 8

MOST_MISSING = 12
"""Bits that may be missing, of a budget of 128 times as many, where a value takes more than them."""


@dataclass(frozen=True)
class Candidates:
    """The values that might be sent: rising layout `indices` int64 `[c]`, and their bit patterns `signed` uint32 `[c]`.

    The largest magnitude comes first, and of equal ones the first index.
    """

    indices: I64
    signed: U32

    @classmethod
    def above(cls, signed: U32, edge: int) -> Self:
        """All of the bit patterns uint32 `[n]` whose magnitudes are at least `edge`."""
        indices = np.flatnonzero(signed & SIGN_MASK >= np.uint32(edge))
        return cls(indices, signed[indices])

    @cached_property
    def bits(self) -> U32:
        """The bit patterns of their magnitudes: uint32 `[c]`."""
        return self.signed & SIGN_MASK

    def negative(self, members: I64) -> U8:
        """The sign bits of some of them, numbered by `members` int64 `[k]`: uint8 `[k]`."""
        return (self.signed.take(members) >> SIGN_SHIFT).astype(np.uint8)

    @cached_property
    def rank(self) -> I64:
        """0 for the one that comes first, and so on: int64 `[c]`."""
        places = np.arange(len(self.bits))
        # Complement and place in one integer: no two are equal, so that any sort gives the same order.
        keys = np.sort((~self.bits).astype(np.uint64) << PLACE_BITS | places.view(np.uint64))
        rank = np.empty_like(places)
        rank[(keys & PLACE_MASK).view(np.int64)] = places
        return rank

    def about_first(self, count: int) -> Flags:
        """Which of them are the first, rather more than `count` ≥ 1 where there are so many: bool `[c]`."""
        upper, highest, reached = self._histogram
        return upper >= highest - int(reached.searchsorted(min(count, len(upper))))

    def first(self, count: int) -> Flags:
        """Which of them are the first `count` ≥ 1, at most all: bool `[c]`, found without sorting them all."""
        upper, highest, reached = self._histogram
        below = int(reached.searchsorted(count))
        cell = highest - below
        chosen = upper >= cell
        surplus = int(reached[below]) - count
        if surplus:
            last = (upper == cell).nonzero()[0]
            # Sixteen bits are sorted by counting; the complement puts equal ones in the right order.
            order = (~self.bits[last]).astype(np.uint16).argsort(kind="stable")
            chosen[last[order[len(last) - surplus :]]] = False
        return chosen

    @cached_property
    def _histogram(self) -> tuple[npt.NDArray[np.uint16], int, I64]:
        """The upper halves of the bits, the highest, and how many reach it, the one below, and so on."""
        upper = (self.bits >> UPPER_SHIFT).astype(np.uint16)
        lowest = upper.min()
        counts = np.bincount(upper - lowest)
        return upper, len(counts) - 1 + int(lowest), counts[::-1].cumsum()


class Filled(Protocol):
    """A choice of values to be sent."""

    @property
    def count(self) -> int:
        """Values sent."""


class Draft(Filled, Protocol):
    """A frame not yet written."""

    @property
    def length(self) -> int:
        """Bits."""


F = TypeVar("F", bound=Filled)
D = TypeVar("D", bound=Draft)


def sieve(update: F32, layout: Layout, budget_bytes: int, fill: Callable[[Candidates], F | None]) -> F | None:
    """What `fill` makes of enough candidates, None if there are none or not even one fits `budget_bytes`.

    First about half as many again as a frame without a prior would hold, and only if all of these fit as many as any
    frame could hold. Raises `ValueError` on NaN, infinity or another size than the layout's.
    """
    signed = signed_bits(update, layout)
    likely = likely_count(layout.size, budget_bytes)
    indices = reaching(signed, likely_edge(signed, likely + likely // 2))
    candidates = Candidates(indices, signed.take(indices))
    check_finite(candidates.bits)
    draft = fill(candidates) if len(indices) else None
    if draft is None or draft.count < len(indices):
        return draft
    edge = lowest_edge(signed & SIGN_MASK, 8 * budget_bytes // LEAST_BITS_PER_VALUE)
    return fill(Candidates.above(signed, edge))


def likely_count(size: int, budget_bytes: int) -> int:
    """About how many values of `size` a frame of `budget_bytes` sends when it knows nothing of where they are."""
    mean_gap = 1 + size // budget_bytes
    return 1 + 8 * budget_bytes // (mean_gap.bit_length() + 2)


def fill_budget(
    draft: Callable[[int], D], guess: int, most: int, budget_bits: int, bits_per_value: float | None = None
) -> D | None:
    """The longest draft found within `budget_bits`, or None where not even one value fits.

    `draft(count)` sends the `count` ≤ `most` largest values. The count moves by the missing bits over the last slope,
    inside a shrinking bracket, until less than a byte, 1/512 or a value is missing, or 1/256 after two drafts. The
    first slope is `bits_per_value`, or the mean of the first draft.
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
        if 0 <= missing < max(slack << (drafts > 2), 8, min(bits_per_value or 0, budget_bits >> 7, MOST_MISSING)):
            break
        if drafts > 1 or bits_per_value is None:
            bits_per_value = (tried.length - last_length) / (count - last_count)
        else:
            # Where values take more bits than predicted, the last ones do too.
            bits_per_value *= tried.length / budget_bits
        last_count, last_length = count, tried.length
        step = math.floor((missing - slack // 2) / max(bits_per_value, LEAST_BITS_PER_VALUE))
        count = min(max(count + step, low + 1), high - 1)
    return best
