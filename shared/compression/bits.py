"""Bit strings, held as one ASCII digit a bit: the quickest serial access that needs no compiled code."""

import numpy as np
import numpy.typing as npt

from shared.errors import DecodeError
from shared.layout import I64

U8 = npt.NDArray[np.uint8]

ZERO = np.uint8(ord("0"))


class BitWriter:
    """Collects bits, most significant first, and packs them into bytes with zero padding."""

    def __init__(self) -> None:
        self._digits = bytearray()

    @property
    def length(self) -> int:
        """Bits so far."""
        return len(self._digits)

    def put(self, value: int, width: int) -> None:
        """Append `value` as `width` bits, which must hold it."""
        if width:
            self._digits += f"{value:0{width}b}".encode()

    def put_bits(self, bits: U8) -> None:
        """Append a uint8 array of zeros and ones."""
        self._digits += (bits + ZERO).tobytes()

    def to_bytes(self) -> bytes:
        """All bits so far, the last byte filled up with zeros."""
        return np.packbits(np.frombuffer(self._digits, np.uint8) - ZERO).tobytes()


class BitReader:
    """Reads bits, most significant first; raises `DecodeError` when they end too early or too late."""

    def __init__(self, data: bytes) -> None:
        self.digits = (np.unpackbits(np.frombuffer(data, np.uint8)) + ZERO).tobytes()
        self.at = 0
        self._data = data

    def take(self, width: int) -> int:
        """The next `width` bits as an unsigned integer."""
        return int(self._advance(width), 2) if width else 0

    def take_bits(self, count: int) -> U8:
        """The next `count` bits: uint8 `[count]` of zeros and ones."""
        return np.frombuffer(self._advance(count), np.uint8) - ZERO

    def peek(self, start: int, most: int) -> U8:
        """The bits from `start`, at most so many and none beyond the end: uint8 of zeros and ones."""
        return np.frombuffer(self.digits[start : start + most], np.uint8) - ZERO

    def peek_each(self, starts: I64, width: int) -> I64:
        """The unsigned integers of `width` ≤ 56 bits at `starts` int64 `[k]`; beyond the end all bits are zero."""
        words = np.ndarray((len(self._data) + 1,), ">u8", self._data + bytes(8), strides=(1,))
        eight = words[np.minimum(starts >> 3, len(self._data))].astype(np.uint64)
        whole = eight << (starts & 7).astype(np.uint64)
        return (whole >> np.uint64(64 - width)).astype(np.int64) if width else np.zeros_like(starts)

    def skip(self, count: int) -> None:
        """Pass over `count` bits."""
        self._advance(count)

    def finish(self) -> None:
        """Refuse anything after the last symbol but less than a byte of zero padding."""
        rest = self.digits[self.at :]
        if len(rest) >= 8 or b"1" in rest:
            raise DecodeError(f"{len(rest)} bits follow the last symbol of the frame: not of this layout and plan")

    def _advance(self, width: int) -> bytes:
        end = self.at + width
        if end > len(self.digits):
            raise DecodeError(f"frame ends at bit {len(self.digits)}, {end} are needed: it is truncated")
        taken = self.digits[self.at : end]
        self.at = end
        return taken


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
