"""The partition frame: what stands in it, in which order, and how it is read back.

- wire id, 8 bits; a frame of this byte alone delivers nothing
- prior, 2 bits and what it needs: see `Prior`
- scale, 5 bits and 1, and corrections: see `Scale`
- number of groups in the key region, as many bits as the number of groups has; only where there are several
- whether the sparse region has levels of its own, 1 bit, if there is a sparse region; then the levels: see `Levels`
- positions, group after group: see `Gaps`
- marks of the levels, the key region's first: see `LevelMap`
- signs, one bit a value in the order of the positions; then zeros up to a whole byte
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shared.compression.axis import Axis
from shared.compression.bits import U8, BitReader, BitWriter
from shared.compression.histogram import U32, magnitudes
from shared.compression.levels import LevelMap, Levels
from shared.compression.magnitudes import BASE_BITS, STEP_BITS, signed_values
from shared.compression.plan import Plan
from shared.compression.prior import Prior
from shared.compression.rice import Gaps, decode_gaps
from shared.compression.scale import Scale
from shared.errors import DecodeError
from shared.layout import F32, I64, Layout

PARTITION_WIRE_ID = 1


@dataclass(frozen=True, slots=True)
class Regions:
    """The head of a frame: its partition into regions and the magnitudes of each."""

    prior: Prior
    axis: Axis
    scale: Scale
    key_groups: int
    key: Levels
    sparse: Levels | None

    @property
    def split(self) -> int:
        """Where the sparse region begins on the gathered axis."""
        return int(self.axis.bounds[self.key_groups])


@dataclass(frozen=True, slots=True)
class Content:
    """A frame as read: `positions` int64 `[k]`, rising on the gathered axis, and `values` float32 `[k]`."""

    regions: Regions
    positions: I64
    values: F32
    head_bits: int

    @property
    def key_count(self) -> int:
        """Values of the key region."""
        return int(np.searchsorted(self.positions, self.regions.split))


@dataclass(frozen=True)
class Draft:
    """What a frame is to say of chosen candidates, of which `members` int64 `[k]` has the numbers, as gathered.

    `maps` holds one level map for both regions, or one for each.
    """

    prior: Prior
    axis: Axis
    key_groups: int
    members: I64
    gaps: Gaps
    scale: Scale
    maps: tuple[LevelMap, ...]
    prior_bits: int

    @property
    def count(self) -> int:
        """Values that are sent."""
        return len(self.members)

    @cached_property
    def parameters(self) -> I64:
        """The Rice parameter of every group: int64 `[groups]`."""
        return self.scale.parameters(self.axis)

    @cached_property
    def length(self) -> int:
        """Bits of the frame, padding apart."""
        groups = len(self.axis.classes)
        regions = groups.bit_length() * (groups > 1) + (self.key_groups < groups)
        head = 8 + self.prior_bits + self.scale.length + regions + BASE_BITS - STEP_BITS
        positions = self.gaps.length(self.parameters)
        return head + positions + sum(level_map.length for level_map in self.maps) + self.count

    @property
    def threshold(self) -> float:
        """The smallest magnitude that is sent."""
        least = min(int(level_map.bits.min()) for level_map in self.maps)
        return float(magnitudes(np.array([least], np.uint32))[0])

    def write(self, negative: U8, layout: Layout, plan: Plan) -> tuple[bytes, F32]:
        """The frame, and the values that its reader will see; `negative` uint8 `[k]` holds the signs."""
        writer = BitWriter()
        writer.put(PARTITION_WIRE_ID, 8)
        levels = self._write_head(writer, layout, plan)
        gaps = Gaps.joined([self.gaps, *(marks.gaps for level_map in self.maps for marks in level_map.marks)])
        parameters = [parameter for level_map in self.maps for parameter in level_map.parameters]
        writer.put_bits(gaps.encode(np.concatenate([self.parameters, np.array(parameters, np.int64)])))
        writer.put_bits(negative)
        patterns = [np.array(own.patterns, np.uint32).take(m.level) for own, m in zip(levels, self.maps, strict=True)]
        return writer.to_bytes(), signed_values(np.concatenate(patterns), negative)

    def _write_head(self, writer: BitWriter, layout: Layout, plan: Plan) -> list[Levels]:
        groups = len(self.axis.classes)
        self.prior.write(writer, layout, plan)
        self.scale.write(writer)
        if groups > 1:
            writer.put(self.key_groups, groups.bit_length())
        if self.key_groups < groups:
            writer.put(len(self.maps) - 1, 1)
        levels: list[Levels] = []
        for level_map in self.maps:
            origin = levels[0].patterns[0] if levels else None
            levels.append(Levels.write(writer, level_map, origin, plan.gain_eighths))
        return levels


def read_content(reader: BitReader, layout: Layout, plan: Plan) -> Content:
    """Read all that follows the wire id; raises `DecodeError` unless it fits the layout and plan to the last bit."""
    regions = _read_regions(reader, layout, plan)
    head_bits = 8 + reader.at
    axis = regions.axis
    positions = decode_gaps(reader, axis.bounds, regions.scale.parameters(axis))
    key_count = int(np.searchsorted(positions, regions.split))
    patterns = [_read_patterns(reader, regions.key, len(positions) if regions.sparse is None else key_count)]
    if regions.sparse is not None:
        patterns.append(_read_patterns(reader, regions.sparse, len(positions) - key_count))
    negative = reader.take_bits(len(positions))
    reader.finish()
    return Content(regions, positions, signed_values(np.concatenate(patterns), negative), head_bits)


def _read_regions(reader: BitReader, layout: Layout, plan: Plan) -> Regions:
    prior = Prior.read(reader, layout, plan)
    axis = prior.axis(layout)
    groups = len(axis.classes)
    scale = Scale.read(reader, groups)
    key_groups = reader.take(groups.bit_length()) if groups > 1 else 1
    if not 1 <= key_groups <= groups:
        raise DecodeError(f"{key_groups} of {groups} groups in the key region: not a frame of this layout and plan")
    own = reader.take(1) if key_groups < groups else 0
    key = Levels.read(reader, None)
    return Regions(prior, axis, scale, key_groups, key, Levels.read(reader, key.patterns[0]) if own else None)


def _read_patterns(reader: BitReader, levels: Levels, count: int) -> U32:
    return np.array(levels.patterns, np.uint32)[levels.read_marks(reader, count)]
