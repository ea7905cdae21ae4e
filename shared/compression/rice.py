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

FEW = 128
"""Positions of a group that are decoded one by one; behind them it pays to decode many at once."""

WINDOW = 1 << 15


@dataclass(frozen=True, slots=True)
class Gaps:
    """Rising positions as gaps within groups.

    `gap` is int64 `[k]`; `first` int64 `[groups + 1]` numbers each group's first gap; `tail` int64 `[groups]` counts
    the values after the last position of each group.
    """

    gap: I64
    first: I64
    tail: I64

    @classmethod
    def of(cls, positions: I64, bounds: I64) -> "Gaps":
        """The gaps of rising `positions` int64 `[k]` in groups that begin and end at `bounds` int64 `[groups + 1]`."""
        first = np.searchsorted(positions, bounds)
        used = np.flatnonzero(first[1:] > first[:-1])
        gap = positions.copy()
        gap[1:] -= positions[:-1] + 1
        gap[first[used]] = positions[first[used]] - bounds[used]
        reached = bounds[:-1].copy()
        reached[used] = positions[first[used + 1] - 1] + 1
        return cls(gap, first, bounds[1:] - reached)

    @classmethod
    def within(cls, positions: I64, extent: int) -> "Gaps":
        """The gaps of one or more rising `positions` int64 `[k]` in a single group of `extent` values."""
        gap = positions.copy()
        gap[1:] -= positions[:-1] + 1
        return cls(gap, np.array([0, len(gap)]), np.array([extent - 1 - int(positions[-1])]))

    @classmethod
    def joined(cls, parts: list["Gaps"]) -> "Gaps":
        """The groups of all parts, one part after another."""
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate([part.count for part in parts]))])
        return cls(np.concatenate([part.gap for part in parts]), first, np.concatenate([part.tail for part in parts]))

    @property
    def count(self) -> I64:
        """Positions in each group: int64 `[groups]`."""
        counted: I64 = self.first[1:] - self.first[:-1]
        return counted

    def lengths(self, most_parameter: int, least_parameter: int = 0) -> I64:
        """Bits of every group under each of these parameters: int64 `[most - least + 1, groups]`."""
        parameter = np.arange(least_parameter, most_parameter + 1)[:, np.newaxis]
        return self._skips(parameter) + self.count * (parameter + 1) + self._stops(parameter)

    def length(self, parameters: I64) -> int:
        """Bits of all groups, group g under `parameters[g]`."""
        skips = int((self.gap >> self._each(parameters)).sum())
        return skips + int((self.count * (parameters + 1) + self._stops(parameters)).sum())

    def shortest_parameter(self, most_parameter: int) -> tuple[int, int]:
        """The parameter up to `most_parameter` under which a single group takes the fewest bits, and these bits."""
        gap, tail, count = self.gap, int(self.tail[0]), len(self.gap)
        # Skips under b lie within a bit a gap of mean gap / 2 ** b, so that only four parameters can be the best.
        middle = ((int(gap.sum()) + tail) // max(count, 1)).bit_length() - 1
        near = range(min(max(middle - 1, 0), most_parameter), min(max(middle + 2, 0), most_parameter) + 1)
        length, parameter = min((int((gap >> b).sum()) + count * (b + 1) - (-tail >> b), b) for b in near)
        return parameter, length

    def encode(self, parameters: I64) -> U8:
        """The bits, group after group: uint8 zeros and ones, `length(parameters)` of them."""
        parameter, stops = self._each(parameters), self._stops(parameters)
        skips = self.gap >> parameter
        ends = np.cumsum(skips + parameter + 1) + self._each(np.cumsum(stops) - stops)
        total = int(skips.sum() + (self.count * (parameters + 1) + stops).sum())
        marker = np.int64(1) << parameter
        return _laid(self.gap & marker - 1 | marker, ends - parameter - 1, parameter + 1, total)

    def _each(self, of_group: I64) -> I64:
        """What belongs to the group of each gap: int64 `[k]`, or `[1]` of a single group."""
        return of_group if len(of_group) == 1 else np.repeat(of_group, self.count)

    def _skips(self, parameter: I64) -> I64:
        skips = np.zeros((len(parameter), len(self.tail)), np.int64)
        used = np.flatnonzero(self.count)
        if len(used):
            for row, shift in enumerate(parameter[:, 0].tolist()):
                skips[row, used] = np.add.reduceat(self.gap >> shift, self.first[used])
        return skips

    def _stops(self, parameter: I64) -> I64:
        return -(-self.tail >> parameter)


def _laid(numbers: I64, starts: I64, widths: I64, total: int) -> U8:
    """Bits uint8 `[total]`: `numbers` int64 `[k]`, each in its `widths` ≤ 63 bits from rising `starts`, among zeros."""
    numbers, word = numbers.view(np.uint64), starts >> 6
    room = 64 - (starts & 63) - widths
    over = np.flatnonzero(room < 0)
    inside = numbers << np.maximum(room, 0).view(np.uint64) >> np.maximum(-room, 0).view(np.uint64)
    words = np.zeros((total >> 6) + 2, np.uint64)
    if len(word):
        first = np.concatenate([[0], np.flatnonzero(word[1:] > word[:-1]) + 1])
        words[word[first]] = np.bitwise_or.reduceat(inside, first)
        words[word[over] + 1] |= numbers[over] << (64 + room[over]).view(np.uint64)
    return np.unpackbits(words.astype(">u8").view(np.uint8))[:total]


def covering_parameter(extent: int) -> int:
    """The smallest parameter with which one zero bit skips `extent` values."""
    return max(extent - 1, 0).bit_length()


def decode_gaps(reader: BitReader, bounds: I64, parameters: I64) -> I64:
    """The rising positions that `Gaps.encode` wrote; raises `DecodeError` where they leave their group."""
    found = [np.zeros(0, np.int64)]
    for start, end, parameter in zip(bounds[:-1].tolist(), bounds[1:].tolist(), parameters.tolist(), strict=True):
        after, begun = start, reader.at
        batch = _decode_few(reader, after, end, parameter)
        while len(batch):
            found.append(batch)
            after = int(batch[-1])
            # Not many more bits at once than the group has left, judged by those so far.
            window = min(FEW + (end - after) * (reader.at - begun) // (after - start), WINDOW)
            batch = _decode_many(reader, after, end, parameter, window) if len(batch) >= FEW else batch[:0]
            if not len(batch):
                batch = _decode_few(reader, after, end, parameter)
        if after > end:
            raise DecodeError(f"position {after - 1} lies beyond its group's end {end}: not a frame of this layout")
        reader.skip(-(-(end - after) >> parameter))
    return np.concatenate(found) - 1


def _decode_few(reader: BitReader, after: int, end: int, parameter: int) -> I64:
    """What follows each of the next positions of one group, at most `FEW`, one after another; none past its end."""
    digits, at = reader.digits, reader.at
    width, marker_value = parameter + 1, (1 << parameter) - 1
    # All bits that so many positions of this group can take: zeros behind it are not searched once for every group.
    last = at + (end - after >> parameter) + FEW * width
    found: list[int] = []
    while len(found) < FEW and (marker := digits.find(b"1", at, last)) >= 0:
        reach = after + ((marker - at) << parameter)
        if reach >= end:
            break
        at = marker + width
        after = reach + int(digits[marker:at], 2) - marker_value
        found.append(after)
    reader.skip(at - reader.at)
    return np.array(found, np.int64)


def _decode_many(reader: BitReader, after: int, end: int, parameter: int, window: int) -> I64:
    """The same for the next `window` bits, all at once."""
    at = reader.at
    bits = reader.peek(at, window)
    ones = np.flatnonzero(bits)
    before = np.cumsum(bits, dtype=np.int64)
    # From every one to the one that would begin the next position, if it began a position itself.
    width = parameter + 1
    following = np.full(len(ones) + 1, len(ones))
    inside = ones[: np.searchsorted(ones, len(bits) - width)] + width
    following[: len(inside)] = before[inside - 1]
    markers = ones[orbit(following)]
    starts = np.append(0, markers + width)[:-1]
    skips = np.minimum(markers - starts, (end >> parameter) + 1)
    rest = reader.peek_each(at + markers + 1, parameter)
    steps = (skips << parameter) + rest + 1
    reached = after + np.cumsum(steps)
    count = int(np.searchsorted(reached - rest - 1, end))
    if count:
        reader.skip(int(markers[count - 1]) + width)
    return reached[:count]


def orbit(following: I64) -> I64:
    """0, `following[0]`, `following[following[0]]` and so on, up to but without the last place, which follows itself.

    By doubling: int64 `[n + 1]` needs log2 of the orbit's length passes and no loop over its places.
    """
    last = len(following) - 1
    path = np.zeros(1, np.int64)
    while path[-1] != last:
        path = np.concatenate([path, following[path]])
        following = following[following]
    return path[: np.searchsorted(path, last)]


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
    parameter = np.maximum(exponent - 1, 0)
    run = np.ldexp(1.0, parameter)
    skips, curve = extent / run, used * used * run / (12.0 * extent)
    shorter = np.minimum(skips + curve, skips / 2.0 + used + 2.0 * curve)
    return np.where(count > 0, np.minimum(used * (parameter + 0.5) + 1.0 + shorter, extent), 1.0)
