"""The threshold by rate and distortion: which magnitudes to send, in how many levels, for a budget of bits."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np

from shared.compression.histogram import BIN_SHIFT, U32, magnitudes
from shared.compression.magnitudes import STEP_BITS, level_curves
from shared.compression.prior import split_lengths
from shared.compression.rice import F64, expected_length
from shared.layout import I64

FINE_BINS = 16
COARSE_BINS = 32
"""Edges that are looked at: the lowest, among which the threshold is likely to be, and some of those above them."""

HALF_BIN = np.uint32(1 << BIN_SHIFT - 1)

SLOPE_STEPS = 12
SPARSE_HEADER_BITS = 2 + STEP_BITS


@dataclass(frozen=True, slots=True)
class Binned:
    """What lies at or above each of the lowest bins that are not empty, and each of some of those above them.

    `edges` uint32 `[bins]` are bit patterns; `counts` and `sums` are float64 `[groups, bins]`.
    """

    edges: U32
    counts: F64
    sums: F64

    @classmethod
    def of(cls, bits: U32, first: I64) -> Self:
        """Bin the magnitudes of the bit patterns `bits` uint32 `[n]`; `first` int64 `[groups + 1]` cuts these.

        Every value is taken for the middle of its bin, which makes the sums quick and the same on every CPU.
        """
        cell, groups = (bits >> BIN_SHIFT).astype(np.int64), len(first) - 1
        lowest = int(cell.min())
        bins = int(cell.max()) - lowest + 1
        cell -= lowest
        for group, (start, end) in enumerate(pairwise(first.tolist())):
            cell[start:end] += group * bins
        counts = np.bincount(cell, minlength=groups * bins).reshape(groups, bins)
        used = np.add.reduce(counts).nonzero()[0]
        middles = ((used + lowest << BIN_SHIFT) + HALF_BIN).astype(np.uint32)
        counts = counts[:, used].astype(np.float64)
        some = slice(None) if len(used) <= FINE_BINS else _some(len(used))
        return cls(middles[some] - HALF_BIN, _above(counts)[:, some], _above(counts * magnitudes(middles))[:, some])


@dataclass(frozen=True, slots=True)
class Cut:
    """A choice of what to send: about the `count` largest magnitudes, the last of which take `bits_per_value` each.

    The first `key_groups` groups are the key region. `key` and `sparse` hold the bit patterns at which the second and
    further levels of the region begin; `sparse` is None where both regions share their levels.
    """

    count: int
    bits_per_value: float
    key_groups: int
    key: tuple[int, ...]
    sparse: tuple[int, ...] | None


def choose_cut(binned: Binned, extents: F64, live_groups: int, budget_bits: float) -> Cut:
    """The cut that delivers most within `budget_bits`, for groups of `extents` float64 `[groups]` values.

    Distortion is the energy not delivered, rate the code length predicted from each group's own density. Their slope λ
    is bisected until the bin edge and number of levels that minimise distortion + λ · rate keep to the budget.
    """
    counts = binned.counts.sum(axis=0)
    curves = level_curves(counts, binned.sums.sum(axis=0))
    rates = curves.bits + expected_length(extents[:, np.newaxis], binned.counts).sum(axis=0) + counts
    slope, levels = _bisect_slope(curves.energy, rates, budget_bits)
    edge, count, bits_per_value = _fill(rates[levels - 1], counts, budget_bits)
    key_groups = _boundary(binned.counts[:, edge], extents, live_groups)
    levels, worth = curves.best(slope, edge)
    own = _own_levels(binned, key_groups, edge, slope)
    if own is None or own[0] <= worth:
        begins = tuple(binned.edges[curves.begins(levels, edge)].tolist())
        return Cut(count, bits_per_value, key_groups, begins, None)
    return Cut(count, bits_per_value, key_groups, own[1], own[2])


def _own_levels(
    binned: Binned, key_groups: int, edge: int, slope: float
) -> tuple[float, tuple[int, ...], tuple[int, ...]] | None:
    """The worth of levels of their own for key and sparse region, and where these begin; None if one sends nothing."""
    if key_groups == len(binned.counts):
        return None
    total, begins = -slope * SPARSE_HEADER_BITS, []
    for region in (slice(key_groups), slice(key_groups, None)):
        counts, sums = binned.counts[region, edge:].sum(axis=0), binned.sums[region, edge:].sum(axis=0)
        if counts[0] == 0:
            return None
        curves = level_curves(counts, sums)
        levels, worth = curves.best(slope, 0)
        total += worth
        begins.append(tuple(binned.edges[edge:][curves.begins(levels, 0)].tolist()))
    return total, begins[0], begins[1]


def _some(bins: int) -> I64:
    """All of the lowest of more than `FINE_BINS` bins, and some of the others: rising int64."""
    return np.concatenate([np.arange(FINE_BINS), np.arange(FINE_BINS, bins, 1 + bins // COARSE_BINS)])


def _above(columns: F64) -> F64:
    return np.cumsum(columns[:, ::-1], axis=1)[:, ::-1]


def _bisect_slope(energy: F64, rates: F64, budget_bits: float) -> tuple[float, int]:
    """The smallest slope whose best cut keeps to the budget, and that cut's number of levels."""
    high = float((energy / rates).max())
    low = high * 2.0**-40
    for _ in range(SLOPE_STEPS):
        slope = math.sqrt(low) * math.sqrt(high)
        best = int((energy - slope * rates).argmax())
        low, high = (slope, high) if rates.flat[best] > budget_bits else (low, slope)
    return high, int((energy - high * rates).argmax()) // energy.shape[1] + 1


def _fill(rates: F64, counts: F64, budget_bits: float) -> tuple[int, int, float]:
    """The lowest edge within the budget, the count to try, and what a value costs there.

    The count is that of the edge and a share of the bin below.
    """
    within = np.flatnonzero(rates <= budget_bits)
    if not len(within):
        return len(rates) - 1, max(int(counts[-1] * budget_bits / rates[-1]), 1), float(rates[-1] / counts[-1])
    edge = int(within[0])
    if edge == 0:
        return 0, int(counts[0]), float(rates[0] / counts[0])
    bits_per_value = float((rates[edge - 1] - rates[edge]) / (counts[edge - 1] - counts[edge]))
    return edge, int(counts[edge] + (budget_bits - rates[edge]) / bits_per_value), bits_per_value


def _boundary(counts: F64, extents: F64, live_groups: int) -> int:
    """How many groups form the key region: where the two regions' expected code is shortest."""
    if live_groups <= 1:
        return 1
    return int(split_lengths(np.cumsum(extents), np.cumsum(counts))[:live_groups].argmin()) + 1
