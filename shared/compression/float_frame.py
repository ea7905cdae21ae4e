"""Sparse values in full: wire id, positions in one group, a float32 for each. What top-k, DGC and SIDCo send."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from shared.compression.bits import BitReader, BitWriter
from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.positions import Positions, one_group, read_positions
from shared.errors import DecodeError
from shared.layout import F32, I64, Layout

VALUE_BITS = 32
HEAD_BYTES = 8


@dataclass(frozen=True)
class FloatDraft:
    """A frame not yet written: which values it is to send."""

    positions: Positions

    @classmethod
    def of(cls, indices: I64, layout: Layout) -> Self:
        """Send the values at rising `indices` int64 `[k]`."""
        return cls(Positions.of(indices, one_group(layout)))

    @property
    def count(self) -> int:
        """Values that are sent."""
        return len(self.positions.indices)

    @cached_property
    def length(self) -> int:
        """Bits of the frame, padding apart."""
        return 8 + self.positions.length + VALUE_BITS * self.count

    def finish(self, wire_id: int, update: F32, layout: Layout) -> Encoded:
        """The frame with the values of `update` float32 `[layout.size]`."""
        indices = self.positions.indices
        values = update.reshape(-1)[indices]
        writer = BitWriter()
        writer.put(wire_id, 8)
        self.positions.write(writer)
        writer.put_bits(np.unpackbits(values.astype(">f4").view(np.uint8)))
        delivered = SparseUpdate(layout.size, indices, values)
        return Encoded(writer.to_bytes(), delivered, float(np.abs(values).min()))


def finish(draft: FloatDraft | None, wire_id: int, update: F32, layout: Layout) -> Encoded:
    """The frame of a draft; without one a frame of the wire id alone, which delivers nothing."""
    if draft is None:
        return Encoded(bytes([wire_id]), SparseUpdate.nothing(layout.size))
    return draft.finish(wire_id, update, layout)


def read_floats(frame: bytes, wire_id: int, layout: Layout) -> SparseUpdate:
    """What `finish` delivered; raises `DecodeError` on anything else."""
    if frame == bytes([wire_id]):
        return SparseUpdate.nothing(layout.size)
    if frame[:1] != bytes([wire_id]) or len(frame) > HEAD_BYTES + 5 * layout.size:
        raise DecodeError(f"{len(frame)} bytes are no frame of codec {wire_id} for a layout of {layout.size} values")
    reader = BitReader(frame[1:])
    indices = read_positions(reader, one_group(layout))
    values = reader.take_bytes(VALUE_BITS // 8 * len(indices)).view(">f4").astype(np.float32)
    reader.finish()
    if not np.isfinite(values).all():
        raise DecodeError("the frame holds NaN or infinity: refuse the update")
    return SparseUpdate(layout.size, indices, values)


def likely_floats(size: int, budget_bytes: int) -> int:
    """About how many of `size` values a frame of `budget_bytes` sends in full, at least 1."""
    first = 1 + budget_bytes // 5
    bits_per_value = VALUE_BITS + 1 + (1 + size // first).bit_length()
    return min(max(8 * budget_bytes // bits_per_value, 1), size)
