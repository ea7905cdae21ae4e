"""Rice coding of the gaps between positions, group after group, without counts.

A group is a run of values with one parameter b. A zero bit skips 2 ** b values; a one bit and b more bits name the
next position inside the coming 2 ** b. A group ends where its values end, so no count is sent, and a group without
positions costs a single bit when 2 ** b covers it. S. W. Golomb, Run-Length Encodings, 1966; R. F. Rice, 1979.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.compression.bits import U8, BitReader
from shared.errors import DecodeError
from shared.layout import I64

F64 = npt.NDArray[np.float64]

LN_2 = 0.6931471805599453


@dataclass(frozen=True, slots=True)
class Gaps:
    """Rising positions as gaps within groups.

    `gap` and `group` are int64 `[k]`; `first` int64 `[groups + 1]` numbers each group's first gap; `tail` int64
    `[groups]` counts the values after the last position of each group.
    """

    gap: I64
    group: I64
    first: I64
    tail: I64

    @classmethod
    def of(cls, positions: I64, bounds: I64) -> "Gaps":
        """The gaps of rising `positions` int64 `[k]` in groups that begin and end at `bounds` int64 `[groups + 1]`."""
        first = np.searchsorted(positions, bounds)
        count = np.diff(first)
        used = np.flatnonzero(count)
        origin = np.empty_like(positions)
        origin[1:] = positions[:-1] + 1
        origin[first[used]] = bounds[used]
        reached = bounds[:-1].copy()
        reached[used] = positions[first[used + 1] - 1] + 1
        return cls(positions - origin, np.repeat(np.arange(len(count)), count), first, bounds[1:] - reached)

    def lengths(self, most_parameter: int) -> I64:
        """Bits of every group under every parameter: int64 `[most_parameter + 1, groups]`."""
        parameter = np.arange(most_parameter + 1)[:, np.newaxis]
        skips = np.zeros((most_parameter + 1, len(self.gap) + 1), np.int64)
        np.cumsum(self.gap >> parameter, axis=1, out=skips[:, 1:])
        return np.diff(skips[:, self.first], axis=1) + np.diff(self.first) * (parameter + 1) + self._stops(parameter)

    def length(self, parameters: I64) -> int:
        """Bits of all groups, group g under `parameters[g]`."""
        skips = int((self.gap >> parameters[self.group]).sum())
        return skips + int((np.diff(self.first) * (parameters + 1) + self._stops(parameters)).sum())

    def encode(self, parameters: I64) -> U8:
        """The bits, group after group: uint8 zeros and ones, `length(parameters)` of them."""
        parameter = parameters[self.group]
        stops = self._stops(parameters)
        before = np.cumsum(stops) - stops
        marker = np.cumsum((self.gap >> parameter) + parameter + 1) - parameter - 1 + before[self.group]
        bits = np.zeros(self.length(parameters), np.uint8)
        bits[marker] = 1
        for place in range(int(parameter.max(initial=0))):
            reaching = parameter > place
            shift = parameter[reaching] - 1 - place
            bits[marker[reaching] + 1 + place] = self.gap[reaching] >> shift & 1
        return bits

    def _stops(self, parameter: I64) -> I64:
        return -(-self.tail >> parameter)


def covering_parameter(extent: int) -> int:
    """The smallest parameter with which one zero bit skips `extent` values."""
    return max(extent - 1, 0).bit_length()


def decode_gaps(reader: BitReader, bounds: I64, parameters: I64) -> I64:
    """The rising positions that `Gaps.encode` wrote; raises `DecodeError` where they leave their group."""
    after: list[int] = []
    for start, end, parameter in zip(bounds[:-1].tolist(), bounds[1:].tolist(), parameters.tolist(), strict=True):
        _decode_group(reader, start, end, parameter, after)
    return np.array(after, np.int64) - 1


def _decode_group(reader: BitReader, position: int, end: int, parameter: int, after: list[int]) -> None:
    """Append what follows each position of one group; the loop is kept this bare because it is what decoding costs."""
    digits, at = reader.digits, reader.at
    find, append = digits.find, after.append
    width, marker_value = parameter + 1, (1 << parameter) - 1
    while (marker := find(b"1", at)) >= 0:
        reach = position + ((marker - at) << parameter)
        if reach >= end:
            break
        at = marker + width
        position = reach + int(digits[marker:at], 2) - marker_value
        append(position)
    if position > end:
        raise DecodeError(f"position {position - 1} lies beyond its group's end {end}: not a frame of this layout")
    reader.at = at
    reader.skip(-(-(end - position) >> parameter))


def value_parameter(values: I64) -> int:
    """The parameter, 0 to 6, under which `encode_values` is shortest."""
    lengths = [int((values >> parameter).sum()) + len(values) * (parameter + 1) for parameter in range(7)]
    return int(np.argmin(lengths))


def encode_values(values: I64, parameter: int) -> U8:
    """Non-negative integers in the Rice code of one parameter: uint8 zeros and ones."""
    positions = np.cumsum(values + 1) - 1
    gaps = Gaps.of(positions, np.array([0, int(values.sum()) + len(values)]))
    return gaps.encode(np.array([parameter]))


def decode_values(reader: BitReader, count: int, parameter: int) -> I64:
    """The `count` integers that `encode_values` wrote; raises `DecodeError` when the bits end first."""
    values = np.empty(count, np.int64)
    for place in range(count):
        marker = reader.digits.find(b"1", reader.at)
        if marker < 0:
            raise DecodeError(f"the bits end after {place} of {count} values: truncated")
        skips = marker - reader.at
        reader.skip(skips + 1)
        values[place] = (skips << parameter) + reader.take(parameter)
    return values


def expected_length(extent: F64, count: F64) -> F64:
    """Bits that `count` evenly scattered positions among `extent` values will take, each under its best parameter.

    The zero bits of a gap are a geometric variable; 1/(eˣ - 1) ≈ 1/x - 1/2 + x/12 with x = 2 ** b · count / extent
    keeps this to operations that every CPU rounds alike.
    """
    extent, used = np.maximum(extent, 1.0), np.maximum(count, 1.0)
    _, exponent = np.frexp(LN_2 * extent / used)
    lower = np.maximum(exponent - 1, 0)
    skipping = np.minimum(_length_under(extent, used, lower), _length_under(extent, used, lower + 1))
    return np.where(count > 0, np.minimum(skipping, extent), 1.0)


def _length_under(extent: F64, count: F64, parameter: npt.NDArray[np.int32]) -> F64:
    run = np.ldexp(1.0, parameter)
    skips = extent / run - count / 2.0 + count * count * run / (12.0 * extent)
    return count * (parameter + 1) + skips + 1.0
