"""What the coordinator learns of a client's values from one sieved update."""

from dataclasses import dataclass
from typing import Self

from shared.compression.codec import SparseUpdate
from shared.layout import I64, Layout


@dataclass(frozen=True, slots=True)
class SieveFacts:
    """What one update tells: `counts` int64 `[blocks]` of sent values, and the threshold that all of them exceed."""

    counts: I64
    threshold: float

    @classmethod
    def of(cls, update: SparseUpdate, layout: Layout, threshold: float) -> Self:
        """The facts of a decoded update; a `threshold` of 0 means that it is not known."""
        first = update.indices.searchsorted(layout.block_starts)
        return cls(first[1:] - first[:-1], threshold)
