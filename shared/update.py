"""The object that a device uploads: a few packed numbers, then the codec's frame.

    run tag 4 | base tag 4 | varint round | varint examples | varint steps | float16 loss
    | varint correct | varint tested | float16 threshold | codec frame

A loss of minus zero, which no mean loss is, says that the device keeps it to itself.

The tags are the first 4 bytes of digests: enough to notice a mix-up, while the coordinator compares full values that
it knows itself. Typically 21 bytes before the frame.
"""

import hashlib
import math
import struct
from dataclasses import dataclass
from typing import Self

from shared.errors import FrameError
from shared.varint import Reader, write_varint

TAG_BYTES = 4
LARGEST_ROUND = 1_000_000
LARGEST_STEPS = 1_000_000
LARGEST_COUNT = 1 << 40
LARGEST_HALF = 65504.0
UNTOLD = struct.pack("<e", -0.0)


def run_tag(run: str) -> bytes:
    """The 4 bytes that stand for a run in an update."""
    return hashlib.sha256(run.encode()).digest()[:TAG_BYTES]


def base_tag(digest_hex: str) -> bytes:
    """The 4 bytes that stand for the model with this digest, in an update and in a delta chain."""
    return bytes.fromhex(digest_hex)[:TAG_BYTES]


@dataclass(frozen=True, slots=True)
class UpdateHeader:
    """What an update says of itself.

    `correct` of `tested` test windows were right under the model as received (`tested` is 0 when it was not
    evaluated); `threshold` is the sieve's. `loss`, None where it is not told, and `threshold` travel as float16.
    """

    run_tag: bytes
    base_tag: bytes
    server_round: int
    examples: int
    steps: int
    loss: float | None
    correct: int
    tested: int
    threshold: float

    def pack(self) -> bytes:
        """The header's bytes; loss and threshold beyond float16's finite range become its ends, NaN its largest."""
        return b"".join(
            (
                self.run_tag,
                self.base_tag,
                write_varint(self.server_round),
                write_varint(self.examples),
                write_varint(self.steps),
                UNTOLD if self.loss is None else _told(self.loss),
                write_varint(self.correct),
                write_varint(self.tested),
                _half(self.threshold),
            )
        )


@dataclass(frozen=True, slots=True)
class UpdateObject:
    """One device's update for one round: header and codec frame."""

    header: UpdateHeader
    frame: bytes

    def pack(self) -> bytes:
        """The object's bytes, as they are uploaded."""
        return self.header.pack() + self.frame

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """The update in `data`, its codec frame unread; raises `FrameError` naming the field."""
        reader = Reader(data, "update")
        header = UpdateHeader(
            run_tag=reader.take(TAG_BYTES, "run tag"),
            base_tag=reader.take(TAG_BYTES, "base tag"),
            server_round=reader.varint(LARGEST_ROUND, "round"),
            examples=reader.varint(LARGEST_COUNT, "examples"),
            steps=reader.varint(LARGEST_STEPS, "steps"),
            loss=_loss(reader),
            correct=reader.varint(LARGEST_COUNT, "correct"),
            tested=reader.varint(LARGEST_COUNT, "tested"),
            threshold=_finite(reader, "threshold"),
        )
        if header.correct > header.tested:
            raise FrameError(f"update: {header.correct} correct of {header.tested} tested")
        if header.threshold < 0:
            raise FrameError(f"update: threshold {header.threshold} is negative")
        return cls(header, reader.rest())


def _half(value: float) -> bytes:
    finite = LARGEST_HALF if math.isnan(value) else min(LARGEST_HALF, max(-LARGEST_HALF, value))
    return struct.pack("<e", finite)


def _told(loss: float) -> bytes:
    packed = _half(loss)
    return _half(0.0) if packed == UNTOLD else packed


def _loss(reader: Reader) -> float | None:
    loss = _finite(reader, "loss")
    return None if struct.pack("<e", loss) == UNTOLD else loss


def _finite(reader: Reader, field: str) -> float:
    (value,) = struct.unpack("<e", reader.take(2, field))
    if not math.isfinite(value):
        raise FrameError(f"update: {field} is {value}, not a finite number")
    return float(value)
