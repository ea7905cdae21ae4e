"""The levels of one region: which magnitude each sent value has, coded as positions within positions."""

from dataclasses import dataclass

import numpy as np

from shared.compression.bits import BitReader, BitWriter
from shared.compression.histogram import U32
from shared.compression.magnitudes import (
    LEVEL_HEAD_BITS,
    MARK_PARAMETER_BITS,
    STEP_BITS,
    mean_bits,
    read_base,
    read_step,
    write_base,
    write_step,
)
from shared.compression.rice import Gaps, decode_gaps
from shared.layout import I64

COUNT_BITS = 2
BETWEEN_REGIONS = -128
"""The sparse region's first magnitude may lie 4 octaves below the key region's."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Rising magnitudes as bit patterns, and for each but the first the Rice parameter of its marks."""

    patterns: tuple[int, ...]
    parameters: tuple[int, ...]

    @classmethod
    def write(cls, writer: BitWriter, wanted: "LevelMap", origin: int | None) -> "Levels":
        """Write what `wanted` needs; returns it with the magnitudes as their reader will see them."""
        means = wanted.means()
        writer.put(len(means) - 1, COUNT_BITS)
        patterns = [_write_first(writer, means[0], origin)]
        for mean, parameter in zip(means[1:], wanted.parameters, strict=True):
            patterns.append(write_step(writer, mean, patterns[-1], 0))
            writer.put(parameter, MARK_PARAMETER_BITS)
        return cls(tuple(patterns), wanted.parameters)

    @classmethod
    def read(cls, reader: BitReader, origin: int | None) -> "Levels":
        """What `write` wrote; raises `DecodeError` where a magnitude is not positive and finite."""
        count = reader.take(COUNT_BITS) + 1
        patterns = [read_base(reader) if origin is None else read_step(reader, origin, BETWEEN_REGIONS)]
        parameters = []
        for _ in range(count - 1):
            patterns.append(read_step(reader, patterns[-1], 0))
            parameters.append(reader.take(MARK_PARAMETER_BITS))
        return cls(tuple(patterns), tuple(parameters))

    def read_marks(self, reader: BitReader, count: int) -> I64:
        """The level number of each of `count` values: int64 `[count]`."""
        level = np.zeros(count, np.int64)
        members = np.arange(count)
        for parameter in self.parameters:
            members = members[decode_gaps(reader, np.array([0, len(members)]), np.array([parameter]))]
            level[members] += 1
        return level


@dataclass(frozen=True, slots=True)
class LevelMap:
    """The level number of each of a region's values, and the marks that tell it.

    `bits` uint32 `[k]`, `level` int64 `[k]`; for each level but the first, which values of the level below reach it and
    the Rice parameter of these marks; and the bits of all marks.
    """

    bits: U32
    level: I64
    marks: tuple[Gaps, ...]
    parameters: tuple[int, ...]
    marks_length: int

    @classmethod
    def of(cls, bits: U32, begins: tuple[int, ...]) -> "LevelMap":
        """Sort the patterns `bits` into levels that begin at `begins`; a level that no value reaches is left out."""
        if not begins:
            return cls(bits, np.zeros(len(bits), np.int64), (), (), 0)
        raw = np.searchsorted(np.array(begins, np.uint32), bits, side="right")
        used = np.bincount(raw, minlength=1) > 0
        level = (np.cumsum(used) - 1)[raw]
        marks, parameters, total = [], [], 0
        members = level
        for number in range(1, int(np.count_nonzero(used))):
            reaching = members >= number
            gaps = Gaps.of(np.flatnonzero(reaching), np.array([0, len(members)]))
            lengths = gaps.lengths((1 << MARK_PARAMETER_BITS) - 1)[:, 0]
            marks.append(gaps)
            parameters.append(int(lengths.argmin()))
            total += int(lengths.min())
            members = members[reaching]
        return cls(bits, level, tuple(marks), tuple(parameters), total)

    @property
    def length(self) -> int:
        """Bits of the marks, and of the magnitudes if the first is written as a step."""
        return self.marks_length + COUNT_BITS + STEP_BITS + LEVEL_HEAD_BITS * len(self.marks)

    def means(self) -> list[int]:
        """The bit pattern of each level's mean magnitude."""
        return [mean_bits(self.bits[self.level == number]) for number in range(int(self.level.max(initial=0)) + 1)]

    def write_marks(self, writer: BitWriter) -> None:
        """Write which values reach the second level, which of these the third, and so on."""
        for gaps, parameter in zip(self.marks, self.parameters, strict=True):
            writer.put_bits(gaps.encode(np.array([parameter])))


def _write_first(writer: BitWriter, mean: int, origin: int | None) -> int:
    return write_base(writer, mean) if origin is None else write_step(writer, mean, origin, BETWEEN_REGIONS)
