"""The dense codec: every value as float32, little-endian, whatever the budget."""

import numpy as np

from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.histogram import magnitude_bits
from shared.compression.plan import Plan
from shared.errors import DecodeError
from shared.layout import F32, Layout

DENSE_WIRE_ID = 3


class DenseCodec:
    """One byte of wire id and `layout.size` float32: 1 + 4 · size bytes."""

    name = "dense"
    wire_id = DENSE_WIRE_ID

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        """The whole update; the plan is not used. Raises `ValueError` on NaN, infinity or another size."""
        magnitude_bits(update, layout)
        frame = bytes([DENSE_WIRE_ID]) + np.asarray(update).astype("<f4").tobytes()
        return Encoded(frame, self.decode(frame, layout, plan))

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        """Every value at its own position; raises `DecodeError` on another length, wire id, NaN or infinity."""
        if frame[:1] != bytes([DENSE_WIRE_ID]) or len(frame) != dense_bytes(layout):
            raise DecodeError(f"dense frame of {len(frame)} bytes, this layout needs {dense_bytes(layout)}")
        values = np.frombuffer(frame, "<f4", offset=1).astype(np.float32)
        if not np.isfinite(values).all():
            raise DecodeError("dense frame holds NaN or infinity: refuse the update")
        return SparseUpdate(layout.size, np.arange(layout.size), values)


def dense_bytes(layout: Layout) -> int:
    """Length of a dense frame."""
    return 1 + 4 * layout.size
