"""Bit strings, held as one ASCII digit a bit: the quickest serial access that needs no compiled code."""

import numpy as np
import numpy.typing as npt

from shared.errors import DecodeError
from shared.layout import I64

U8 = npt.NDArray[np.uint8]

ZERO, ONE = np.uint8(ord("0")), ord("1")

MOST_PENDING = 1 << 10
"""Bits that are held as an integer: a longer one would be moved as a whole with each that is appended."""

CHUNK = 1 << 12
"""Bytes or integers that are unpacked at a time: reading holds 8 bytes for each of a frame's and no copy of them."""


class BitWriter:
    """Collects bits, most significant first, and packs them into bytes with zero padding."""

    def __init__(self) -> None:
        self._digits = bytearray()
        self._number, self._width = 0, 0
        """Bits behind the digits, as one integer until there is something else to append: most are a few at a time."""

    @property
    def length(self) -> int:
        """Bits so far."""
        return len(self._digits) + self._width

    def put(self, value: int, width: int) -> None:
        """Append `value` as `width` bits, which must hold it."""
        if self._width > MOST_PENDING:
            self._settle()
        self._number = self._number << width | int(value)
        self._width += width

    def put_bits(self, bits: U8) -> None:
        """Append a uint8 array of zeros and ones."""
        self._settle()
        self._digits += (bits + ZERO).tobytes()

    def to_bytes(self) -> bytes:
        """All bits so far, the last byte filled up with zeros."""
        self._settle()
        return np.packbits(np.frombuffer(self._digits, np.uint8) - ZERO).tobytes()

    def _settle(self) -> None:
        if self._width:
            self._digits += f"{self._number:0{self._width}b}".encode()
            self._number, self._width = 0, 0


class BitReader:
    """Reads bits, most significant first; raises `DecodeError` when they end too early or too late."""

    def __init__(self, data: bytes) -> None:
        self.digits = bytearray(8 * len(data))
        self.at = 0
        self._padded = np.frombuffer(data + bytes(8), np.uint8)
        digits = np.frombuffer(self.digits, np.uint8)
        for start in range(0, len(data), CHUNK):
            bits = np.unpackbits(self._padded[start : min(start + CHUNK, len(data))])
            np.add(bits, ZERO, out=digits[8 * start : 8 * start + len(bits)])

    def take(self, width: int) -> int:
        """The next `width` bits as an unsigned integer."""
        start = self._advance(width)
        return int(self.digits[start : self.at], 2) if width else 0

    def take_bits(self, count: int) -> U8:
        """The next `count` bits: uint8 `[count]` of zeros and ones."""
        return self.peek(self._advance(count), count)

    def take_bytes(self, count: int) -> U8:
        """The next `count` whole bytes, wherever the first begins: uint8 `[count]`."""
        start = self._advance(8 * count)
        window = self._padded[start >> 3 : (start >> 3) + count + 1].astype(np.uint16)
        return (((window[:-1] << 8 | window[1:]) << (start & 7)) >> 8).astype(np.uint8)

    def take_each(self, count: int, width: int) -> I64:
        """The next `count` unsigned integers of `width` ≤ 56 bits each: int64 `[count]`."""
        start, taken = self._advance(width * count), np.empty(count, np.int64)
        for first in range(0, count, CHUNK):
            places = np.arange(first, min(first + CHUNK, count))
            taken[places] = self.peek_each(start + width * places, width)
        return taken

    def peek(self, start: int, most: int) -> U8:
        """The bits from `start`, at most so many and none beyond the end: uint8 of zeros and ones."""
        most = max(min(most, len(self.digits) - start), 0)
        return np.unpackbits(self._padded[start >> 3 : start + most + 7 >> 3])[start & 7 :][:most]

    def peek_each(self, starts: I64, width: int) -> I64:
        """The unsigned integers of `width` ≤ 56 bits at `starts` int64 `[k]`; beyond the end all bits are zero."""
        words = np.ndarray((len(self._padded) - 7,), ">u8", self._padded, strides=(1,))
        eight = words[np.minimum(starts >> 3, len(words) - 1)].astype(np.uint64)
        whole = eight << (starts & 7).astype(np.uint64)
        return (whole >> np.uint64(64 - width)).astype(np.int64) if width else np.zeros_like(starts)

    def skip(self, count: int) -> None:
        """Pass over `count` bits."""
        self._advance(count)

    def finish(self) -> None:
        """Refuse anything after the last symbol but less than a byte of zero padding."""
        left = len(self.digits) - self.at
        if left >= 8 or self.digits.find(b"1", self.at) >= 0:
            raise DecodeError(f"{left} bits follow the last symbol of the frame: not of this layout and plan")

    def _advance(self, width: int) -> int:
        """Pass over `width` bits; returns where they begin."""
        end = self.at + width
        if end > len(self.digits):
            raise DecodeError(f"frame ends at bit {len(self.digits)}, {end} are needed: it is truncated")
        start, self.at = self.at, end
        return start


def laid(numbers: I64, ends: I64, widths: I64, total: int) -> U8:
    """Bits uint8 `[total]`: `numbers` int64 `[k]`, each in its `widths` ≤ 32 bits before rising `ends`, among zeros."""
    starts = ends - widths
    word = starts >> 5
    # A number begins in the upper half of a word of 64 bits; the lower half is added to the next one's upper half.
    parts = numbers.view(np.uint64) << (64 - widths - (starts & 31)).view(np.uint64)
    words = np.zeros((total >> 5) + 2, np.uint64)
    if len(word):
        ends_word = np.ones(len(word), np.bool_)
        np.not_equal(word[1:], word[:-1], out=ends_word[:-1])
        last = ends_word.nonzero()[0]
        # Differences of a running sum, which are right even where it overflows.
        sums = parts.cumsum()[last]
        sums[1:] -= sums[:-1].copy()
        words[word[last]] = sums
    halves = (words >> np.uint64(32)).astype(np.uint32)
    halves[1:] |= words[:-1].astype(np.uint32)
    return np.unpackbits(halves.astype(">u4").view(np.uint8))[:total]
