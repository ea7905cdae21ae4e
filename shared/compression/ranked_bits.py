"""Bits that answer quickly how many are set before a place, and where a set bit with a number is: rank and select.

A directory of counts before every word and a search inside one word, as in G. Jacobson, Space-efficient static trees
and graphs, FOCS 1989, and S. Vigna, Broadword implementation of rank/select queries, WEA 2008.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from shared.layout import I64

U64 = npt.NDArray[np.uint64]

WORD_BITS = 64
WORD_SHIFT = 6
ONE = np.uint64(1)
EACH_BYTE = np.uint64(0x0101_0101_0101_0101)


@dataclass(frozen=True, slots=True)
class RankedBits:
    """`words` uint64 `[w]` hold 64 bits each, the lowest first; `before` int64 `[w + 1]` counts the set bits before."""

    words: U64
    before: I64

    @classmethod
    def of(cls, *rows: npt.NDArray[np.bool_]) -> Self:
        """The bits of rows bool `[n]` behind each other, each from a whole word on: in two bits more than one a value.

        The bit of row r with the number i has the place `r * row_places(n) + i`.
        """
        return cls.of_rows(iter(rows), len(rows), len(rows[0]))

    @classmethod
    def of_rows(cls, rows: Iterator[npt.NDArray[np.bool_]], count: int, size: int) -> Self:
        """The same for at most `count` rows of `size` bits, which are made one after another."""
        packed, used = np.zeros((count, row_places(size) // 8), np.uint8), 0
        for used, flags in enumerate(rows, 1):
            packed[used - 1, : -(-size // 8)] = np.packbits(flags, bitorder="little")
        words = packed[:used].reshape(-1).view("<u8").astype(np.uint64, copy=False)
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


def row_places(size: int) -> int:
    """How many places a row of `size` bits takes: whole words."""
    return -(-size // WORD_BITS) * WORD_BITS


def _inside(words: U64, ranks: I64) -> I64:
    """The place in each of `words` uint64 `[k]` of its set bit with that number.

    All sums of the counts of a word's bytes come from one product; the place in the byte is looked up.
    """
    octets = words.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)
    reached = (np.bitwise_count(octets).view("<u8") * EACH_BYTE).view(np.uint8).reshape(-1, 8)
    number = ranks.astype(np.uint8)
    octet = np.add.reduce(reached <= number[:, np.newaxis], axis=1, dtype=np.int64)
    each = np.arange(len(words))
    counted = np.bitwise_count(octets[each, octet])
    number -= reached[each, octet] - counted
    places: I64 = 8 * octet + PLACE_IN_BYTE[octets[each, octet], number]
    return places


def _place_in_byte() -> npt.NDArray[np.int64]:
    """Where in a byte its set bits are, the lowest first, behind them the others: `[256, 8]`."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, np.newaxis], axis=1, bitorder="little")
    return np.argsort(1 - bits, axis=1, kind="stable")


PLACE_IN_BYTE = _place_in_byte()
