"""The envelope of everything binary: magic, version and kind, length, body, checksum.

    b"gs" | u8 version << 4 | kind | varint body length | body | CRC-32 of all before, little-endian

The checksum finds accidents of storage and bridges; against intent there are digests and signatures.
"""

import zlib
from dataclasses import dataclass
from enum import IntEnum

from shared.errors import FrameError
from shared.varint import Reader, write_varint

MAGIC = b"gs"
VERSION = 1
MOST_OVERHEAD_BYTES = 12
"""What a frame adds to a body of up to 4 GiB; 8 bytes to a body below 128."""

_CRC_BYTES = 4


class FrameKind(IntEnum):
    """What the body is."""

    OPEN = 1
    """The offer of an object in chunks."""
    CHUNK = 2
    """One chunk of an offered object."""
    WHOLE = 3
    """An object that fits one payload."""
    STATUS = 4
    """What a receiver has of an object, or what became of it."""
    SEALED = 5
    """A signature and what it covers."""


KINDS = frozenset(FrameKind)


@dataclass(frozen=True, slots=True)
class Frame:
    """An unpacked envelope whose checksum held."""

    kind: FrameKind
    body: bytes


def pack_frame(kind: FrameKind, body: bytes) -> bytes:
    """`body` in its envelope."""
    head = MAGIC + bytes((VERSION << 4 | kind,)) + write_varint(len(body))
    checksum = zlib.crc32(body, zlib.crc32(head))
    return b"".join((head, body, checksum.to_bytes(_CRC_BYTES, "little")))


def unpack_frame(data: bytes) -> Frame:
    """The frame that `data` is; raises `FrameError` naming magic, version, kind, length or checksum."""
    if data[:2] != MAGIC:
        raise FrameError(f"frame: magic {data[:2].hex()} instead of {MAGIC.hex()}: not sent by gradsieve")
    reader = Reader(data[2:], "frame")
    version_and_kind = reader.u8("version")
    version, kind = version_and_kind >> 4, version_and_kind & 0xF
    if version != VERSION:
        raise FrameError(f"frame: version {version} is not spoken here, only {VERSION}: update the older end")
    if kind not in KINDS:
        raise FrameError(f"frame: kind {kind} is unknown in version {VERSION}")
    body = reader.take(reader.varint(len(data), "length"), "length")
    checksum = int.from_bytes(reader.take(_CRC_BYTES, "checksum"), "little")
    reader.done()
    if checksum != zlib.crc32(memoryview(data)[:-_CRC_BYTES]):
        raise FrameError("frame: checksum does not hold: the bytes were altered on their way")
    return Frame(FrameKind(kind), body)
