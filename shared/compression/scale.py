"""Rice parameters of all classes from one number: the plan knows the ratios of their densities, the frame the scale."""

from dataclasses import dataclass

import numpy as np

from shared.compression.bits import BitReader, BitWriter
from shared.compression.grouping import Grouping
from shared.compression.rice import Gaps
from shared.layout import I64

SCALE_BITS = 5
SCALE_LENGTH = SCALE_BITS + 1
NUM_SCALES = 1 << SCALE_BITS
CORRECTIONS = np.array([0, 1, -1])[:, np.newaxis, np.newaxis]


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

    def parameters(self, grouping: Grouping) -> I64:
        """The Rice parameter of every group: int64 `[groups]`."""
        levels = np.array([self.level])
        derived: I64 = _derived(levels, grouping)[0]
        if self.corrections is None:
            return derived
        corrected: I64 = np.clip(derived + self.corrections, 0, grouping.covering)
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
    def shortest(cls, gaps: Gaps, grouping: Grouping) -> "Scale":
        """The scale under which it and the positions take the fewest bits."""
        covering = grouping.covering
        lengths = gaps.lengths(int(covering.max()))
        groups = np.arange(len(covering))
        derived = _derived(np.arange(NUM_SCALES), grouping)
        plain = lengths[derived, groups].sum(axis=1)
        moved = lengths[np.clip(derived + CORRECTIONS, 0, covering), groups] + 1 + np.abs(CORRECTIONS)
        corrected = moved.min(axis=0).sum(axis=1)
        if plain.min() <= corrected.min():
            return cls(int(plain.argmin()), None)
        level = int(corrected.argmin())
        return cls(level, CORRECTIONS[moved[:, level].argmin(axis=0), 0, 0])


def _derived(levels: I64, grouping: Grouping) -> I64:
    """Parameters int64 `[levels, groups]`: one more an octave, the covering one for dead blocks."""
    covering = grouping.covering
    steps = levels[:, np.newaxis] + 1 - grouping.classes
    return np.where(grouping.classes == 0, covering, np.clip(steps, 0, covering))
