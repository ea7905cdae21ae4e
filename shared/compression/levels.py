"""The levels of one region: which magnitude each sent value has, coded as positions within positions."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shared.compression.bits import U8, BitReader, BitWriter
from shared.compression.histogram import U32
from shared.compression.magnitudes import (
    LEVEL_HEAD_BITS,
    MARK_PARAMETER_BITS,
    STEP_BITS,
    amplified,
    level_means,
    read_base,
    read_step,
    write_base,
    write_step,
)
from shared.compression.marks import Marks
from shared.compression.rice import decode_gaps
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
    def write(cls, writer: BitWriter, wanted: "LevelMap", origin: int | None, gain_eighths: int) -> "Levels":
        """Write what `wanted` needs; returns it with the magnitudes as their reader will see them.

        Each is `gain_eighths` eighths of its level's mean. More than the mean delivers in advance what a value that
        keeps its direction will leave undelivered by the next time: the residual is exact, and so takes it back where
        it was too much.
        """
        means = amplified(wanted.means(), gain_eighths)
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


@dataclass(frozen=True)
class LevelMap:
    """The bit patterns `bits` uint32 `[k]` of a region's magnitudes, sorted into levels, and the marks that tell them.

    For each level but the first: the pattern at which it begins, and which values of the level below reach it.
    """

    bits: U32
    begins: tuple[int, ...]
    marks: tuple[Marks, ...]

    @classmethod
    def of(cls, bits: U32, begins: tuple[int, ...]) -> "LevelMap":
        """Levels that begin at `begins`; one that no value reaches, or that leaves none below it, is left out."""
        used, marks = [], []
        members = bits
        for begin in begins:
            reaching = (members >= np.uint32(begin)).nonzero()[0]
            if 0 < len(reaching) < len(members):
                used.append(begin)
                marks.append(Marks.of(reaching, len(members), (1 << MARK_PARAMETER_BITS) - 1))
                members = members.take(reaching)
        return cls(bits, tuple(used), tuple(marks))

    @property
    def parameters(self) -> tuple[int, ...]:
        """The Rice parameter of each row of marks."""
        return tuple(marks.parameter for marks in self.marks)

    @cached_property
    def level(self) -> U8:
        """The level number of each value: uint8 `[k]`."""
        level = np.zeros(len(self.bits), np.uint8)
        for begin in self.begins:
            level += self.bits >= np.uint32(begin)
        return level

    @property
    def length(self) -> int:
        """Bits of the marks, and of the magnitudes if the first is written as a step."""
        return sum(marks.length for marks in self.marks) + COUNT_BITS + STEP_BITS + LEVEL_HEAD_BITS * len(self.marks)

    def means(self) -> list[int]:
        """The bit pattern of each level's mean magnitude."""
        return level_means(self.bits, self.level, len(self.begins) + 1)


def _write_first(writer: BitWriter, mean: int, origin: int | None) -> int:
    return write_base(writer, mean) if origin is None else write_step(writer, mean, origin, BETWEEN_REGIONS)
