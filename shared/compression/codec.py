"""The codec seam: a flat update becomes bytes, and bytes become a sparse update, in bounds set by the layout."""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from shared.compression.plan import Plan
from shared.layout import F32, I64, Layout


@dataclass(frozen=True, slots=True)
class SparseUpdate:
    """Values at strictly rising positions of a flat vector: `indices` int64 `[k]`, `values` finite float32 `[k]`."""

    size: int
    indices: I64
    values: F32

    @classmethod
    def nothing(cls, size: int) -> Self:
        """No values at all."""
        return cls(size, np.zeros(0, np.int64), np.zeros(0, np.float32))

    def add_to(self, vector: F32) -> None:
        """Add these values to a float32 `[size]` vector in place, in float32: the same bits on every machine."""
        vector[self.indices] += self.values

    def densify(self) -> F32:
        """The float32 `[size]` vector that holds these values and zeros elsewhere."""
        dense = np.zeros(self.size, np.float32)
        dense[self.indices] = self.values
        return dense


@dataclass(frozen=True, slots=True)
class Encoded:
    """A codec frame, exactly what its receiver will decode from it, and the smallest magnitude that was sent.

    `left` float32 `[size]` is what is still owed where that is not the update less what was delivered: where chance
    chose, it is what chance leaves on average.
    """

    frame: bytes
    delivered: SparseUpdate
    threshold: float = 0.0
    left: F32 | None = None


class Codec(Protocol):
    """Encodes a float32 `[layout.size]` update; decoding needs the frame, the layout and the plan, nothing else.

    `encode` raises `ValueError` on NaN or infinity. `decode` raises `DecodeError` and nothing else, whatever the
    bytes, and allocates no more than the layout allows.
    """

    name: str
    wire_id: int

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        """Sieve and encode `update`; its length follows `plan.budget_bytes` where the codec can obey one."""

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        """What `encode` delivered."""
