"""Unsigned LEB128 numbers, and a bounded cursor that reads them and everything else from untrusted bytes."""

from shared.errors import FrameError


def write_varint(value: int) -> bytes:
    """Shortest unsigned LEB128 of a non-negative `value`: 7 bits a byte, lowest first."""
    if value < 0:
        raise ValueError(f"a varint is never negative: {value}")
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


class Reader:
    """A cursor over `data`; whatever does not fit is a `FrameError` that names `what`, the field and the offset."""

    __slots__ = ("_data", "_offset", "_what")

    def __init__(self, data: bytes, what: str = "frame") -> None:
        self._data = data
        self._offset = 0
        self._what = what

    def take(self, count_bytes: int, field: str = "content") -> bytes:
        """The next `count_bytes` bytes."""
        left_bytes = len(self._data) - self._offset
        if not 0 <= count_bytes <= left_bytes:
            raise self._error(field, f"{count_bytes} bytes due, {left_bytes} left")
        start = self._offset
        self._offset += count_bytes
        return self._data[start : self._offset]

    def u8(self, field: str = "byte") -> int:
        """The next byte as a number."""
        return self.take(1, field)[0]

    def varint(self, limit: int, field: str = "number") -> int:
        """The next varint: at most `limit`, and in its shortest form so that equal numbers are equal bytes."""
        value = shift = 0
        while True:
            byte = self.u8(field)
            value |= (byte & 0x7F) << shift
            if value > limit:
                raise self._error(field, f"above {limit}")
            if byte < 0x80:
                break
            shift += 7
            if shift > limit.bit_length():
                raise self._error(field, "longer than its limit allows")
        if byte == 0 and shift:
            raise self._error(field, "not in its shortest form")
        return value

    @property
    def at_end(self) -> bool:
        """True when nothing is left."""
        return self._offset == len(self._data)

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(len(self._data) - self._offset)

    def done(self) -> None:
        """Nothing may be left."""
        if self._offset != len(self._data):
            raise self._error("end", f"{len(self._data) - self._offset} bytes too many")

    def _error(self, field: str, fault: str) -> FrameError:
        return FrameError(f"{self._what}: {field} at byte {self._offset}: {fault}")
