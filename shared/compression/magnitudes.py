"""The magnitudes that stand for the sent values: the best 1 to 4 levels of a histogram, and their 15 or 8 bits each."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shared.compression.bits import U8, BitReader, BitWriter
from shared.compression.histogram import INFINITY_BITS, U32, magnitudes
from shared.compression.rice import F64, expected_length
from shared.errors import DecodeError
from shared.layout import F32, I64

MOST_LEVELS = 4
EXPONENT_SHIFT, EXPONENT_BIAS = 23, 126
SUM_BITS = 53
BASE_SHIFT = 16
BASE_BITS = 15
STEP_SHIFT = 18
STEP_BITS = 8
"""The first magnitude is a bfloat16 without sign; the others are steps of 1/32 octave away from one before."""

MARK_PARAMETER_BITS = 3
LEVEL_HEAD_BITS = STEP_BITS + MARK_PARAMETER_BITS
LARGEST_BASE = (INFINITY_BITS >> BASE_SHIFT) - 1
LARGEST_FLOAT = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class LevelCurves:
    """What the best 1 to 4 levels of one region or more deliver of everything above each bin, and what they cost.

    `energy` float64 `[4, regions, bins]`; `bits` float64 of the same shape, to be expected for saying which value has
    which level; `split` int64 of the same shape, the bin where, of L levels above a bin, the second begins.
    """

    energy: F64
    bits: F64
    split: I64

    def best(self, slope: float, region: int, edge: int) -> tuple[int, float]:
        """The number of levels that is worth most above bin `edge`, and its energy - slope · bits."""
        worth = (self.energy[:, region, edge] - slope * self.bits[:, region, edge]).tolist()
        return worth.index(max(worth)) + 1, max(worth)

    def begins(self, levels: int, region: int, edge: int) -> list[int]:
        """The bins where the second and further of `levels` levels begin, when the first begins at bin `edge`."""
        found = []
        for row in range(levels - 1, 0, -1):
            edge = int(self.split[row, region, edge])
            if edge == self.energy.shape[2]:
                break
            found.append(edge)
        return found


def level_curves(counts: F64, sums: F64) -> LevelCurves:
    """The optimal levels above each bin; `counts` and `sums` float64 `[regions, bins]`: how many and how much is above.

    A level m for values x delivers the energy Σ(2mx - m²), greatest at their mean: (Σx)² / count. The best split into L
    intervals is found exactly by dynamic programming over the bins, where Lloyd's iteration finds a local best.
    """
    regions, bins = counts.shape
    above = np.zeros((2, regions, bins + 1))
    above[0, :, :bins], above[1, :, :bins] = counts, sums
    inside, held = above[:, :, :bins, np.newaxis] - above[:, :, np.newaxis, :]
    interval = held * held / np.maximum(inside, 1.0)
    np.putmask(interval, inside <= 0, -np.inf)
    energy, bits = np.zeros((MOST_LEVELS, regions, bins + 1)), np.zeros((MOST_LEVELS, regions, bins + 1))
    split = np.full((MOST_LEVELS, regions, bins), bins)
    energy[0, :, :bins] = interval[:, :, bins]
    for row in range(1, MOST_LEVELS):
        total = interval + energy[row - 1, :, np.newaxis]
        split[row] = total.argmax(axis=2)
        energy[row, :, :bins] = np.maximum.reduce(total, axis=2)
    region = np.arange(regions)[:, np.newaxis]
    marks = expected_length(counts, above[0, region, split[1:]]) + LEVEL_HEAD_BITS
    for row in range(1, MOST_LEVELS):
        bits[row, :, :bins] = marks[row - 1] + bits[row - 1, region, split[row]]
    return LevelCurves(energy[:, :, :bins], bits[:, :, :bins], split)


def mean_bits(bits: U32) -> int:
    """The bit pattern of the mean magnitude; summed exactly, so the same on every CPU. Some value must be given."""
    return level_means(bits, np.zeros(len(bits), np.uint8), 1)[0]


def level_means(bits: U32, level: U8 | I64, levels: int) -> list[int]:
    """The same for the values of each level; `level` `[k]`, of integers, is each value's, and every level has some."""
    # In whole steps of a small part of the largest, so small that any sum of them is exact.
    highest = int(bits.max()) >> EXPONENT_SHIFT
    steps = 2.0 ** (EXPONENT_BIAS + SUM_BITS - len(bits).bit_length() - highest)
    whole = np.floor(magnitudes(bits) * steps)
    reached = [(float(np.add.reduce(whole)), len(whole))]
    for number in range(1, levels):
        among = (level >= number).nonzero()[0]
        whole, level = whole[among], level[among]
        reached.append((float(np.add.reduce(whole)), len(whole)))
    reached.append((0.0, 0))
    means = [(total - above) / steps / (count - fewer) for (total, count), (above, fewer) in pairwise(reached)]
    patterns: list[int] = np.array(means, np.float32).view(np.uint32).tolist()
    return patterns


def amplified(patterns: list[int], eighths: int) -> list[int]:
    """The bit patterns of so many eighths of magnitudes, none beyond the largest finite one."""
    floats = np.array(patterns, np.uint32).view(np.float32).astype(np.float64) * (eighths / 8)
    finite: list[int] = np.minimum(floats, LARGEST_FLOAT).astype(np.float32).view(np.uint32).tolist()
    return finite


def write_base(writer: BitWriter, pattern: int) -> int:
    """Write a magnitude as 15 bits; returns the pattern that its reader sees."""
    base = min(max((pattern + (1 << BASE_SHIFT - 1)) >> BASE_SHIFT, 1), LARGEST_BASE)
    writer.put(base, BASE_BITS)
    return base << BASE_SHIFT


def read_base(reader: BitReader) -> int:
    """The pattern of a 15-bit magnitude; raises `DecodeError` unless it is positive and finite."""
    return _checked(reader.take(BASE_BITS) << BASE_SHIFT)


def write_step(writer: BitWriter, pattern: int, origin: int, least: int) -> int:
    """Write a magnitude as its steps from the pattern `origin`, at least `least`; returns what its reader sees."""
    nearest = (pattern - origin + (1 << STEP_SHIFT - 1)) >> STEP_SHIFT
    highest = min(least + (1 << STEP_BITS) - 1, (INFINITY_BITS - 1 - origin) >> STEP_SHIFT)
    lowest = max(least, -((origin - 1) >> STEP_SHIFT))
    steps = min(max(nearest, lowest), highest)
    writer.put(steps - least, STEP_BITS)
    return origin + (steps << STEP_SHIFT)


def read_step(reader: BitReader, origin: int, least: int) -> int:
    """The pattern that `write_step` wrote; raises `DecodeError` unless it is positive and finite."""
    return _checked(origin + (reader.take(STEP_BITS) + least << STEP_SHIFT))


def signed_values(patterns: U32, negative: U8) -> F32:
    """The float32 `[k]` of bit patterns uint32 `[k]` and sign bits uint8 `[k]`."""
    return (patterns | negative.astype(np.uint32) << np.uint32(31)).view(np.float32)


def _checked(pattern: int) -> int:
    if not 0 < pattern < INFINITY_BITS:
        raise DecodeError(f"magnitude with bit pattern {pattern:#x} is not positive and finite: refuse the frame")
    return pattern
