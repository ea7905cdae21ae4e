"""Ternary values: wire id, positions tensor by tensor, 15 bits of magnitude for each tensor that sends, raw signs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from shared.compression.bits import U8, BitReader, BitWriter
from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.histogram import U32, magnitudes
from shared.compression.magnitudes import BASE_BITS, read_base, signed_values, write_base
from shared.compression.positions import Positions, read_positions, tensor_groups
from shared.errors import DecodeError
from shared.layout import I64, Layout

HEAD_BYTES = 8
BYTES_PER_TENSOR = 4


@dataclass(frozen=True)
class TernaryDraft:
    """A frame not yet written: where values are sent, and uint32 `[tensors]` bit patterns of each tensor's magnitude.

    `negative` uint8 `[k]` is 1 where the value sent is below zero.
    """

    positions: Positions
    patterns: U32
    negative: U8

    @classmethod
    def of(cls, indices: I64, patterns: U32, negative: U8, layout: Layout) -> Self:
        """Send plus or minus a tensor's magnitude at rising `indices` int64 `[k]`."""
        return cls(Positions.of(indices, tensor_groups(layout)), patterns, negative)

    @cached_property
    def length(self) -> int:
        """Bits of the frame, padding apart."""
        tensors = int(np.count_nonzero(np.diff(self.positions.gaps.first)))
        return 8 + self.positions.length + BASE_BITS * tensors + len(self.negative)

    def finish(self, wire_id: int, layout: Layout) -> Encoded:
        """The frame; one of the wire id alone if nothing is sent."""
        indices = self.positions.indices
        if not len(indices):
            return Encoded(bytes([wire_id]), SparseUpdate.nothing(layout.size))
        writer = BitWriter()
        writer.put(wire_id, 8)
        self.positions.write(writer)
        counts = np.diff(self.positions.gaps.first)
        used = np.flatnonzero(counts)
        seen = np.array([write_base(writer, pattern) for pattern in self.patterns[used].tolist()], np.uint32)
        writer.put_bits(self.negative)
        values = signed_values(np.repeat(seen, counts[used]), self.negative)
        return Encoded(writer.to_bytes(), SparseUpdate(layout.size, indices, values), float(magnitudes(seen).min()))


def read_ternary(frame: bytes, wire_id: int, layout: Layout) -> SparseUpdate:
    """What `TernaryDraft.finish` delivered; raises `DecodeError` on anything else."""
    if frame == bytes([wire_id]):
        return SparseUpdate.nothing(layout.size)
    most_bytes = HEAD_BYTES + BYTES_PER_TENSOR * len(layout.tensors) + layout.size
    if frame[:1] != bytes([wire_id]) or len(frame) > most_bytes:
        raise DecodeError(f"{len(frame)} bytes are no frame of codec {wire_id} for a layout of {layout.size} values")
    reader = BitReader(frame[1:])
    bounds = tensor_groups(layout)
    indices = read_positions(reader, bounds)
    counts = np.diff(np.searchsorted(indices, bounds))
    used = np.flatnonzero(counts)
    patterns = np.array([read_base(reader) for _ in used], np.uint32)
    negative = reader.take_bits(len(indices))
    reader.finish()
    return SparseUpdate(layout.size, indices, signed_values(np.repeat(patterns, counts[used]), negative))
