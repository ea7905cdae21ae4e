"""The bodies of transfer frames: how an object is offered, sent in chunks, and answered.

    WHOLE   the object itself
    OPEN    id 8 | varint size | varint chunk bytes | SHA-256 32
    CHUNK   id 8 | varint index | content
    STATUS  id 8 | u8 verdict | u8 credit | varint retry seconds | varint bitmap length | bitmap | reason, UTF-8

A transfer's id is the first 8 bytes of the object's SHA-256, so the same bytes keep their id across restarts.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Self

from shared.errors import FrameError
from shared.frame import FrameKind, pack_frame
from shared.varint import Reader, write_varint
from shared.verdicts import Verdict

ID_BYTES = 8
DIGEST_BYTES = 32
LARGEST_OBJECT_BYTES = 1 << 31
MOST_CHUNKS = 1 << 16
LONGEST_RETRY_SECONDS = 7 * 24 * 3600
LONGEST_REASON_BYTES = 200


def id_of(content: bytes) -> bytes:
    """The 8 bytes by which both ends call an object."""
    return hashlib.sha256(content).digest()[:ID_BYTES]


@dataclass(frozen=True, slots=True)
class Open:
    """The offer of an object of `size` bytes in chunks of `chunk_bytes`, all but the last full."""

    size: int
    chunk_bytes: int
    digest: bytes

    @classmethod
    def of(cls, content: bytes, chunk_bytes: int) -> Self:
        """The offer of `content`."""
        return cls(len(content), chunk_bytes, hashlib.sha256(content).digest())

    @property
    def transfer_id(self) -> bytes:
        """The first 8 bytes of the digest."""
        return self.digest[:ID_BYTES]

    @property
    def num_chunks(self) -> int:
        """Chunks of the whole object."""
        return -(-self.size // self.chunk_bytes)

    def length_of(self, index: int) -> int:
        """Bytes of one chunk."""
        return min(self.chunk_bytes, self.size - index * self.chunk_bytes)

    def pack(self) -> bytes:
        """The whole OPEN frame."""
        body = self.transfer_id + write_varint(self.size) + write_varint(self.chunk_bytes) + self.digest
        return pack_frame(FrameKind.OPEN, body)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """The offer in an OPEN body; raises `FrameError`."""
        reader = Reader(body, "open")
        called = reader.take(ID_BYTES, "id")
        size = reader.varint(LARGEST_OBJECT_BYTES, "size")
        chunk_bytes = reader.varint(LARGEST_OBJECT_BYTES, "chunk bytes")
        digest = reader.take(DIGEST_BYTES, "digest")
        reader.done()
        if called != digest[:ID_BYTES]:
            raise FrameError("open: the id does not begin the digest")
        if not size or not chunk_bytes or -(-size // chunk_bytes) > MOST_CHUNKS:
            raise FrameError(f"open: {size} bytes in chunks of {chunk_bytes}: 1 to {MOST_CHUNKS} chunks are accepted")
        return cls(size, chunk_bytes, digest)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of an offered object."""

    transfer_id: bytes
    index: int
    content: bytes

    def pack(self) -> bytes:
        """The whole CHUNK frame."""
        return pack_frame(FrameKind.CHUNK, self.transfer_id + write_varint(self.index) + self.content)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """The chunk in a CHUNK body; raises `FrameError`."""
        reader = Reader(body, "chunk")
        return cls(reader.take(ID_BYTES, "id"), reader.varint(MOST_CHUNKS - 1, "index"), reader.rest())


@dataclass(frozen=True, slots=True)
class Status:
    """What a receiver says about a transfer.

    While PENDING, `held` names the chunks it has and `credit` how many others may be under way. `retry_seconds`
    belongs to RETRY_AFTER; 0 leaves the wait to the sender.
    """

    transfer_id: bytes
    verdict: Verdict
    credit: int = 0
    retry_seconds: int = 0
    held: frozenset[int] = field(default_factory=frozenset)
    reason: str = ""

    def pack(self) -> bytes:
        """The whole STATUS frame; a reason above 200 bytes is cut."""
        bitmap = _bitmap(self.held)
        body = b"".join(
            (
                self.transfer_id,
                bytes((self.verdict, self.credit)),
                write_varint(self.retry_seconds),
                write_varint(len(bitmap)),
                bitmap,
                self.reason.encode()[:LONGEST_REASON_BYTES].decode(errors="ignore").encode(),
            )
        )
        return pack_frame(FrameKind.STATUS, body)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """The status in a STATUS body, an unknown verdict as RETRY_AFTER; raises `FrameError`."""
        reader = Reader(body, "status")
        called = reader.take(ID_BYTES, "id")
        number, credit = reader.u8("verdict"), reader.u8("credit")
        retry_seconds = reader.varint(LONGEST_RETRY_SECONDS, "retry seconds")
        bitmap = reader.take(reader.varint(MOST_CHUNKS // 8, "bitmap length"), "bitmap")
        reason = reader.rest()
        if len(reason) > LONGEST_REASON_BYTES:
            raise FrameError(f"status: reason of {len(reason)} bytes: at most {LONGEST_REASON_BYTES}")
        known = number in Verdict.__members__.values()
        verdict = Verdict(number) if known else Verdict.RETRY_AFTER
        return cls(called, verdict, credit, retry_seconds, _indexes(bitmap), reason.decode(errors="replace"))


def _bitmap(held: frozenset[int]) -> bytes:
    """Bit `i % 8` of byte `i // 8` for each held chunk; trailing zero bytes are left out."""
    bits = bytearray(max(held, default=-1) // 8 + 1)
    for index in held:
        bits[index // 8] |= 1 << index % 8
    return bytes(bits)


def _indexes(bitmap: bytes) -> frozenset[int]:
    return frozenset(8 * place + bit for place, byte in enumerate(bitmap) for bit in range(8) if byte >> bit & 1)
