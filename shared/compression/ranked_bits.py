"""Bits that answer quickly how many are set before a place, and where a set bit with a number is: rank and select.

A directory of counts before every word and a search inside one word, as in G. Jacobson, Space-efficient static trees
and graphs, FOCS 1989, and S. Vigna, Broadword implementation of rank/select queries, WEA 2008.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from shared.layout import I64

U64 = npt.NDArray[np.uint64]

WORD_BITS = 64
WORD_SHIFT = 6
ONE = np.uint64(1)


@dataclass(frozen=True, slots=True)
class RankedBits:
    """`words` uint64 `[w]` hold 64 bits each, the lowest first; `before` int64 `[w + 1]` counts the set bits before."""

    words: U64
    before: I64

    @classmethod
    def of(cls, flags: npt.NDArray[np.bool_]) -> Self:
        """The bits of `flags` bool `[n]`; in two bits more than a byte for every eight."""
        packed = np.zeros(-(-len(flags) // WORD_BITS) * WORD_BITS // 8, np.uint8)
        packed[: -(-len(flags) // 8)] = np.packbits(flags, bitorder="little")
        words = packed.view("<u8").astype(np.uint64, copy=False)
        before = np.zeros(len(words) + 1, np.int64)
        np.bitwise_count(words).cumsum(dtype=np.int64, out=before[1:])
        return cls(words, before)

    @property
    def count(self) -> int:
        """How many bits are set."""
        return int(self.before[-1])

    def rank(self, places: I64) -> I64:
        """How many bits are set before each of `places` int64 `[k]`, all below n: int64 `[k]`."""
        word = places >> WORD_SHIFT
        below = (ONE << (places & WORD_BITS - 1).astype(np.uint64)) - ONE
        ranks: I64 = self.before[word] + np.bitwise_count(self.words[word] & below)
        return ranks

    def select(self, ranks: I64) -> I64:
        """The places of the set bits with the numbers `ranks` int64 `[k]`, all below `count`: int64 `[k]`."""
        word = self.before.searchsorted(ranks, side="right") - 1
        return (word << WORD_SHIFT) + _inside(self.words[word], ranks - self.before[word])


def _inside(words: U64, ranks: I64) -> I64:
    """The place in each of `words` uint64 `[k]` of its set bit with that number: the right half is chosen six times."""
    places, ranks = np.zeros(len(words), np.int64), ranks.copy()
    for shift in range(WORD_SHIFT - 1, -1, -1):
        width = 1 << shift
        low = np.bitwise_count(words & np.uint64((1 << width) - 1))
        upper = ranks >= low
        ranks -= low * upper
        words = words >> (upper * np.uint64(width))
        places += upper.astype(np.int64) << shift
    return places
