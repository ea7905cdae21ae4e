"""Rice coding of the gaps between positions, group after group, without counts.

A group is a run of values with one parameter b. A zero bit skips 2 ** b values; a one bit and b more bits name the
next position inside the coming 2 ** b. A group ends where its values end, so no count is sent, and a group without
positions costs a single bit when 2 ** b covers it. S. W. Golomb, Run-Length Encodings, 1966; R. F. Rice, 1979.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.compression.bits import ONE, U8, BitReader, laid
from shared.errors import DecodeError
from shared.layout import I64

F64 = npt.NDArray[np.float64]

LN_2 = 0.6931471805599453

GAP_SHIFT = 52 - 7
FIRST_GAP, LAST_GAP = 1023 << 7, (32 << 7) - 1
"""Cells of mean gaps from 1 to 2 ** 32, by the upper bits of a float64."""

NEAR = np.array([[-1], [0], [1]])

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
        first = positions.searchsorted(bounds)
        gap = steps_between(positions)
        reached = bounds[:-1].copy()
        used = (first[1:] > first[:-1]).nonzero()[0]
        begin = first[used]
        gap[begin] = positions[begin] - bounds[used]
        reached[used] = positions[first[used + 1] - 1] + 1
        return cls(gap, first, bounds[1:] - reached)

    @classmethod
    def within(cls, positions: I64, extent: int) -> "Gaps":
        """The gaps of one or more rising `positions` int64 `[k]` in a single group of `extent` values."""
        return cls(steps_between(positions), np.array([0, len(positions)]), np.array([extent - 1 - int(positions[-1])]))

    @classmethod
    def joined(cls, parts: list["Gaps"]) -> "Gaps":
        """The groups of all parts, one part after another."""
        first = np.zeros(sum(len(part.tail) for part in parts) + 1, np.int64)
        np.concatenate([part.count for part in parts]).cumsum(out=first[1:])
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
        skips = int(np.add.reduce(self.gap >> self._each(parameters)))
        return skips + int(np.add.reduce(self.count * (parameters + 1) + self._stops(parameters)))

    def lengths_near(self, parameters: I64) -> I64:
        """Bits of every group under one less than its parameter ≥ 0, this, and one more: int64 `[3, groups]`."""
        near = np.maximum(parameters + NEAR, 0)
        lengths: I64 = self.count * (near + 1) - (-self.tail >> near)
        used = self.count.nonzero()[0]
        if len(used):
            each = near if len(parameters) == 1 else near.repeat(self.count, axis=1)
            lengths[:, used] += np.add.reduceat(self.gap >> each, self.first[used], axis=1)
        return lengths

    def shortest_parameter(self, most_parameter: int) -> tuple[int, int]:
        """The parameter up to `most_parameter` under which a single group takes the fewest bits, and these bits."""
        return shortest_code(self.gap, int(self.tail[0]), int(np.add.reduce(self.gap)), most_parameter)

    def encode(self, parameters: I64) -> U8:
        """The bits, group after group: uint8 zeros and ones, `length(parameters)` of them."""
        count, stops = self.count, self._stops(parameters)
        width, low = self._each(parameters + 1), self._each((1 << parameters) - 1)
        lengths = (self.gap >> self._each(parameters)) + width
        # What ends a group stands before the first position of the next that has one.
        ended = stops.cumsum()
        used = count.nonzero()[0]
        before = ended[used] - stops[used]
        lengths[self.first[used[1:]]] += before[1:] - before[:-1]
        if len(used):
            lengths[0] += before[0]
        ends = lengths.cumsum()
        total = int(ends[-1] + ended[-1] - before[-1]) if len(used) else int(ended[-1])
        return laid((self.gap & low) + low + 1, ends, width, total)

    def _each(self, of_group: I64) -> I64:
        """What belongs to the group of each gap: int64 `[k]`, or `[1]` of a single group."""
        return of_group if len(of_group) == 1 else of_group.repeat(self.count)

    def _skips(self, parameter: I64) -> I64:
        skips = np.zeros((len(parameter), len(self.tail)), np.int64)
        used = np.flatnonzero(self.count)
        if len(used):
            for row, shift in enumerate(parameter[:, 0].tolist()):
                skips[row, used] = np.add.reduceat(self.gap >> shift, self.first[used])
        return skips

    def _stops(self, parameter: I64) -> I64:
        return -(-self.tail >> parameter)


def steps_between(positions: I64) -> I64:
    """What lies between each of the rising positions and the one before it, or before the first: int64 `[k]`."""
    gap = positions.copy()
    gap[1:] -= positions[:-1]
    gap[1:] -= 1
    return gap


def shortest_code(gap: I64, tail: int, between: int, most_parameter: int) -> tuple[int, int]:
    """The best parameter, at most `most_parameter`, of one group whose gaps add up to `between`; and its bits."""
    count = len(gap)
    # Skips under b lie within a bit a gap of mean gap / 2 ** b, so that only four parameters can be the best.
    middle = ((between + tail) // max(count, 1)).bit_length() - 1
    length, parameter = between + count + tail, 0
    for near in (middle, middle - 1, middle + 1, middle + 2):
        tried = min(near, most_parameter)
        least = max(between - (count << max(tried, 0)) >> max(tried, 0), 0) + count * (tried + 1)
        if tried > 0 and least <= length:
            length, parameter = min((length, parameter), (_length(gap, count, tail, tried), tried))
    return parameter, length


def _length(gap: I64, count: int, tail: int, parameter: int) -> int:
    """Bits of one group."""
    return int(np.add.reduce(gap >> parameter)) + count * (parameter + 1) - (-tail >> parameter)


def covering_parameter(extent: int) -> int:
    """The smallest parameter with which one zero bit skips `extent` values."""
    return max(extent - 1, 0).bit_length()


def decode_gaps(reader: BitReader, bounds: I64, parameters: I64) -> I64:
    """The rising positions that `Gaps.encode` wrote; raises `DecodeError` where they leave their group."""
    found = _Found()
    for start, end, parameter in zip(bounds[:-1].tolist(), bounds[1:].tolist(), parameters.tolist(), strict=True):
        begun, after, count = reader.at, *_decode_few(reader, start, end, parameter, found)
        while count == FEW:
            # Not many more bits at once than the group has left, judged by those so far.
            window = min(FEW + (end - after) * (reader.at - begun) // (after - start), WINDOW)
            batch = _decode_many(reader, after, end, parameter, window)
            after, count = found.add(batch, after), min(len(batch), FEW)
            if count < FEW:
                after, count = _decode_few(reader, after, end, parameter, found)
        if after > end:
            raise DecodeError(f"position {after - 1} lies beyond its group's end {end}: not a frame of this layout")
        reader.skip(-(-(end - after) >> parameter))
    return found.positions()


class _Found:
    """What follows each position found so far: in a list one by one, in arrays what was found at once."""

    def __init__(self) -> None:
        self._parts = list[I64]()
        self.few = list[int]()

    def add(self, batch: I64, after: int) -> int:
        """Take in many, which follow `after`; returns what follows the last."""
        self._parts += [np.array(self.few, np.int64), batch]
        self.few.clear()
        return int(batch[-1]) if len(batch) else after

    def positions(self) -> I64:
        """All positions: int64."""
        few = np.array(self.few, np.int64)
        return (np.concatenate([*self._parts, few]) if self._parts else few) - 1


def _decode_few(reader: BitReader, after: int, end: int, parameter: int, found: _Found) -> tuple[int, int]:
    """Find the next positions of one group, at most `FEW`, one after another; none past its end.

    Returns what follows the last, and how many they are: fewer than `FEW` are all that the group has.
    """
    digits, at = reader.digits, reader.at
    find, append = digits.find, found.few.append
    width, marker_value = parameter + 1, (1 << parameter) - 1
    # All bits that so many positions of this group can take: zeros behind it are not searched once for every group.
    last = at + (end - after >> parameter) + FEW * width
    before = len(found.few)
    for _ in range(FEW):
        marker = find(ONE, at, last)
        reach = after + ((marker - at) << parameter)
        if marker < 0 or reach >= end:
            break
        at = marker + width
        after = reach + int(digits[marker:at], 2) - marker_value
        append(after)
    reader.skip(at - reader.at)
    return after, len(found.few) - before


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

    Looked up by the mean gap, in steps of 1/128 octave.
    """
    mean = np.maximum(extent / np.maximum(count, 1.0), 1.0)
    cell = np.minimum((mean.view(np.int64) >> GAP_SHIFT) - FIRST_GAP, LAST_GAP)
    bits: F64 = count * BITS_BY_GAP[cell] + 1.0
    return bits


def _bits_by_gap() -> F64:
    """Expected bits of a position, zero bits and all, by the mean gap: float64 `[cells]`.

    The zero bits of a gap are a geometric variable; 1/(eˣ - 1) ≈ 1/x - 1/2 + x/12 with x = 2 ** b / mean gap keeps
    this to operations that every CPU rounds alike.
    """
    cells = np.arange(FIRST_GAP, FIRST_GAP + LAST_GAP + 1)
    mean = ((cells << GAP_SHIFT) + (1 << GAP_SHIFT - 1)).view(np.float64)
    parameter = np.maximum(np.frexp(LN_2 * mean)[1] - 1, 0)
    skips = np.ldexp(mean, -parameter)
    curve = 1.0 / (12.0 * skips)
    bits: F64 = np.minimum(parameter + 0.5 + np.minimum(skips + curve, skips / 2.0 + 1.0 + 2.0 * curve), mean)
    return bits


BITS_BY_GAP = _bits_by_gap()
