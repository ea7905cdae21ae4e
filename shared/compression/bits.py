"""Bit strings as numpy arrays of zeros and ones while writing, and as ASCII digits while reading."""

import numpy as np
import numpy.typing as npt

from shared.errors import DecodeError

U8 = npt.NDArray[np.uint8]


class BitWriter:
    """Collects bits, most significant first, and packs them into bytes with zero padding."""

    def __init__(self) -> None:
        self._chunks: list[U8] = []
        self.length = 0

    def put(self, value: int, width: int) -> None:
        """Append the `width` low bits of `value`."""
        self.put_bits(np.array([value >> shift & 1 for shift in range(width - 1, -1, -1)], np.uint8))

    def put_bits(self, bits: U8) -> None:
        """Append a uint8 array of zeros and ones."""
        self._chunks.append(bits)
        self.length += len(bits)

    def to_bytes(self) -> bytes:
        """All bits so far, the last byte filled up with zeros."""
        return np.packbits(np.concatenate([np.zeros(0, np.uint8), *self._chunks])).tobytes()


class BitReader:
    """Reads bits, most significant first; raises `DecodeError` when they end too early or too late."""

    def __init__(self, data: bytes) -> None:
        # One ASCII digit a bit: bytes.find and int(digits, 2) make the quickest serial reader without compiled code.
        self.digits = (np.unpackbits(np.frombuffer(data, np.uint8)) + np.uint8(ord("0"))).tobytes()
        self.at = 0

    def take(self, width: int) -> int:
        """The next `width` bits as an unsigned integer."""
        return int(self._advance(width), 2) if width else 0

    def take_bits(self, count: int) -> U8:
        """The next `count` bits: uint8 `[count]` of zeros and ones."""
        return np.frombuffer(self._advance(count), np.uint8) - np.uint8(ord("0"))

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
