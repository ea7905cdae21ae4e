"""Rice parameters of all classes from one number: the plan knows the ratios of their densities, the frame the scale."""

from dataclasses import dataclass

import numpy as np

from shared.compression.axis import Axis
from shared.compression.bits import BitReader, BitWriter
from shared.compression.rice import Gaps, covering_parameter
from shared.layout import I64

SCALE_BITS = 5
SCALE_LENGTH = SCALE_BITS + 1
NUM_SCALES = 1 << SCALE_BITS
LEVELS = np.arange(NUM_SCALES)
CORRECTIONS = np.array([0, 1, -1])[:, np.newaxis, np.newaxis]
CORRECTION_BITS = 1 + np.abs(CORRECTIONS)


@dataclass(frozen=True, slots=True)
class Scale:
    """The level of a frame's densities, 0 (densest) to 31, and for each group a correction of -1, 0 or 1, or none."""

    level: int
    corrections: I64 | None

    @property
    def length(self) -> int:
        """Bits that `write` writes."""
        if self.corrections is None:
            return SCALE_LENGTH
        return SCALE_LENGTH + len(self.corrections) + int(np.count_nonzero(self.corrections))

    def parameters(self, axis: Axis) -> I64:
        """The Rice parameter of every group: int64 `[groups]`."""
        derived: I64 = _derived(LEVELS[self.level : self.level + 1], axis)[0]
        if self.corrections is None:
            return derived
        corrected: I64 = np.minimum(np.maximum(derived + self.corrections, 0), axis.covering)
        return corrected

    def write(self, writer: BitWriter) -> None:
        """Five bits and one, and one or two more for each group where there are corrections."""
        writer.put(self.level, SCALE_BITS)
        writer.put(self.corrections is not None, 1)
        for correction in [] if self.corrections is None else self.corrections.tolist():
            writer.put(0 if correction == 0 else 2 + (correction < 0), 1 + (correction != 0))

    @classmethod
    def read(cls, reader: BitReader, groups: int) -> "Scale":
        """What `write` wrote for that many groups."""
        level = reader.take(SCALE_BITS)
        if not reader.take(1):
            return cls(level, None)
        return cls(level, np.array([(1 - 2 * reader.take(1)) if reader.take(1) else 0 for _ in range(groups)]))

    @classmethod
    def shortest(cls, gaps: Gaps, axis: Axis) -> "Scale":
        """The scale under which it and the positions take the fewest bits, or so few that it hardly matters."""
        if len(axis.classes) == 1:
            density = int(axis.classes[0])
            most = min(int(axis.covering[0]), NUM_SCALES - max(density, 1))
            return cls(max(gaps.shortest_parameter(most)[0] + density - 1, 0), None)
        middle, levels = _promising(gaps.count, axis)
        moved = _moved(levels, axis)
        near = np.minimum(np.maximum(moved, middle - 1), middle + 1)
        lengths = gaps.lengths_near(middle)[near - middle + 1, np.arange(len(middle))]
        if (near != moved).any():
            # Further away than one, where no group would be by itself, a bound does: a bit a value, or all skips.
            extents = axis.bounds[1:] - axis.bounds[:-1]
            lengths += np.maximum((moved - near) * gaps.count, (extents >> moved) - (extents >> near))
        return cls._best(levels, lengths)

    @classmethod
    def _best(cls, levels: I64, lengths: I64) -> "Scale":
        """The best of `levels` int64 `[l]`, by the lengths int64 `[3, l, groups]` under each and its corrections."""
        plain = np.add.reduce(lengths[0], axis=1)
        costs = lengths + CORRECTION_BITS
        corrected = np.add.reduce(np.minimum.reduce(costs), axis=1)
        level, best = int(plain.argmin()), int(corrected.argmin())
        if plain[level] <= corrected[best]:
            return cls(int(levels[level]), None)
        return cls(int(levels[best]), CORRECTIONS[costs[:, best].argmin(axis=0), 0, 0])

    @staticmethod
    def expected_length(counts: I64, axis: Axis) -> float:
        """About the bits of the shortest scale and of so many positions, int64 `[groups]`, scattered in each group."""
        empty = axis.bounds[1:] - axis.bounds[:-1] - counts
        moved = _moved(_promising(counts, axis)[1], axis)
        # Of a gap's share of 2 ** b half a skip is lost by rounding, and a little less where gaps are short.
        skips = np.maximum(np.ldexp(empty + counts * 0.5, -moved) - counts * 0.4375, 0.0)
        bits = skips + counts * (moved + 1)
        corrected = np.add.reduce(np.minimum.reduce(bits + CORRECTION_BITS), axis=1)
        return SCALE_LENGTH + float(min(np.add.reduce(bits[0], axis=1).min(), corrected.min()))


def _promising(counts: I64, axis: Axis) -> tuple[I64, I64]:
    """For each group about the best parameter, int64 `[groups]`; and the levels that can belong to the shortest scale.

    These are int64 and rising.
    """
    first, last, middles = NUM_SCALES - 1, 0, []
    extents = (axis.bounds[1:] - axis.bounds[:-1]).tolist()
    for density, extent, count in zip(axis.classes.tolist(), extents, counts.tolist(), strict=True):
        # From a parameter of log2 of the mean gap, one up or down may be shorter, and two never.
        middle = max(((extent - count) // count).bit_length() - 1, 0) if count else covering_parameter(extent)
        middles.append(middle)
        if density:
            first, last = min(first, middle + density - 3), max(last, middle + density + 1)
    levels = LEVELS[min(max(first, 0), NUM_SCALES - 1) : max(last, 0) + 1] if first <= last else LEVELS[:1]
    return np.array(middles), levels


def _moved(levels: I64, axis: Axis) -> I64:
    """Parameters int64 `[3, levels, groups]`: without correction, one more, one less."""
    moved: I64 = np.minimum(np.maximum(_derived(levels, axis) + CORRECTIONS, 0), axis.covering)
    return moved


def _derived(levels: I64, axis: Axis) -> I64:
    """Parameters int64 `[levels, groups]`: one more an octave, the covering one for dead blocks."""
    derived: I64 = np.minimum(np.maximum(levels[:, np.newaxis] + axis.steps, 0), axis.covering)
    return derived
