"""The threshold by rate and distortion: which magnitudes to send, in how many levels, for a budget of bits."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from shared.compression.histogram import BIN_SHIFT, U32, magnitudes
from shared.compression.magnitudes import STEP_BITS, level_curves
from shared.compression.prior import split_lengths
from shared.compression.rice import F64, expected_length
from shared.layout import I64

FINE_BINS = 12
COARSE_BINS = 24
"""Edges that are looked at: the lowest, among which the threshold is likely to be, and some of those above them."""

SLOPE_BINS = 4
"""How far on both sides of an edge the bits of a value are averaged; from bin to bin they scatter."""

HALF_BIN = np.uint32(1 << BIN_SHIFT - 1)

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
        cell -= lowest if groups == 1 else (lowest - bins * np.arange(groups)).repeat(first[1:] - first[:-1])
        binned = np.bincount(cell, minlength=groups * bins).reshape(groups, bins)
        used = np.add.reduce(binned).nonzero()[0]
        middles = ((used + lowest << BIN_SHIFT) + HALF_BIN).astype(np.uint32)
        counts = binned[:, used].astype(np.float64)
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

    Distortion is the energy not delivered, rate the code length predicted from each group's own density. For each
    number of levels the threshold is lowered as far as the budget goes; of these cuts the one that delivers most is
    taken. What its last bits deliver is the slope λ of distortion + λ · rate, which decides on further levels.
    """
    counts, sums = np.add.reduce(binned.counts), np.add.reduce(binned.sums)
    curves = level_curves(counts[np.newaxis], sums[np.newaxis])
    rates = curves.bits[:, 0] + (np.add.reduce(expected_length(extents[:, np.newaxis], binned.counts)) + counts)
    filled = [_fill(*row, budget_bits) for row in zip(curves.energy[:, 0], rates, strict=True)]
    best = filled.index(max(filled))
    _, edge, slope = filled[best]
    key_groups = _boundary(binned.counts[:, edge], extents, live_groups)
    levels, worth = curves.best(slope, 0, edge)
    own = _own_levels(binned, key_groups, edge, slope)
    count, bits_per_value = _count(rates[best], counts, edge, budget_bits)
    if own is None or own[0] <= worth:
        begins = tuple(binned.edges[curves.begins(levels, 0, edge)].tolist())
        return Cut(count, bits_per_value, key_groups, begins, None)
    return Cut(count, bits_per_value, key_groups, own[1], own[2])


def _own_levels(
    binned: Binned, key_groups: int, edge: int, slope: float
) -> tuple[float, tuple[int, ...], tuple[int, ...]] | None:
    """The worth of levels of their own for key and sparse region, and where these begin; None if one sends nothing."""
    if key_groups == len(binned.counts):
        return None
    starts = [0, key_groups]
    counts, sums = np.add.reduceat(binned.counts[:, edge:], starts), np.add.reduceat(binned.sums[:, edge:], starts)
    if 0 in counts[:, 0].tolist():
        return None
    curves = level_curves(counts, sums)
    best = [curves.best(slope, region, 0) for region in (0, 1)]
    begins = [curves.begins(levels, region, 0) for region, (levels, _) in enumerate(best)]
    key, sparse = (tuple(binned.edges[edge:][begin].tolist()) for begin in begins)
    return best[0][1] + best[1][1] - slope * SPARSE_HEADER_BITS, key, sparse


def _some(bins: int) -> I64:
    """All of the lowest of more than `FINE_BINS` bins, and some of the others: rising int64."""
    return np.concatenate([np.arange(FINE_BINS), np.arange(FINE_BINS, bins, 1 + bins // COARSE_BINS)])


def _above(columns: F64) -> F64:
    return columns[:, ::-1].cumsum(axis=1)[:, ::-1]


def _fill(energy: F64, rates: F64, budget_bits: float) -> tuple[float, int, float]:
    """What can be delivered within the budget, the lowest edge within, and what the last bit delivers."""
    edge = int((rates <= budget_bits).argmax())
    rate, delivered = float(rates[edge]), float(energy[edge])
    if rate > budget_bits:
        slope = float(energy[-1] / rates[-1])
        return slope * budget_bits, len(rates) - 1, slope
    if edge == 0:
        return delivered, edge, delivered / rate
    slope = (float(energy[edge - 1]) - delivered) / max(float(rates[edge - 1]) - rate, 1.0)
    return delivered + slope * (budget_bits - rate), edge, slope


def _count(rates: F64, counts: F64, edge: int, budget_bits: float) -> tuple[int, float]:
    """The count to try, which is that of the edge and a share of the bin below, and what a value costs there."""
    bits, count = float(rates[edge]), float(counts[edge])
    if bits > budget_bits:
        return max(int(count * budget_bits / bits), 1), bits / count
    if edge == 0:
        return int(count), bits / count
    inside = (budget_bits - bits) / (float(rates[edge - 1]) - bits) * (float(counts[edge - 1]) - count)
    below, above = max(edge - SLOPE_BINS, 0), min(edge + SLOPE_BINS, len(counts) - 1)
    return int(count + inside), float((rates[below] - rates[above]) / (counts[below] - counts[above]))


def _boundary(counts: F64, extents: F64, live_groups: int) -> int:
    """How many groups form the key region: where the two regions' expected code is shortest."""
    if live_groups <= 1:
        return 1
    return int(split_lengths(extents.cumsum(), counts.cumsum())[:live_groups].argmin()) + 1
