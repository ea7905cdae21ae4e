"""Half precision: every value as IEEE 754 binary16, little-endian, whatever the budget."""

import numpy as np

from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.histogram import magnitude_bits
from shared.compression.plan import Plan
from shared.errors import DecodeError
from shared.layout import F32, Layout

HALF_WIRE_ID = 4
LARGEST_HALF = np.float32(65504)


class HalfCodec:
    """One byte of wire id and `layout.size` float16, those out of range as the largest: 1 + 2 · size bytes."""

    name = "fp16"
    wire_id = HALF_WIRE_ID

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        """The whole update; the plan is not used. Raises `ValueError` on NaN, infinity or another size."""
        magnitude_bits(update, layout)
        halves = np.clip(update.reshape(-1), -LARGEST_HALF, LARGEST_HALF).astype("<f2")
        frame = bytes([HALF_WIRE_ID]) + halves.tobytes()
        return Encoded(frame, self.decode(frame, layout, plan))

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        """Every value at its own position; raises `DecodeError` on another length, wire id, NaN or infinity."""
        if frame[:1] != bytes([HALF_WIRE_ID]) or len(frame) != 1 + 2 * layout.size:
            raise DecodeError(f"half frame of {len(frame)} bytes, this layout needs {1 + 2 * layout.size}")
        values = np.frombuffer(frame, "<f2", offset=1).astype(np.float32)
        if not np.isfinite(values).all():
            raise DecodeError("half frame holds NaN or infinity: refuse the update")
        return SparseUpdate(layout.size, np.arange(layout.size), values)
