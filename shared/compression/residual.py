"""Error feedback: what the codec did not deliver is added to the next update instead of being lost.

The residual is that of A. F. Aji, K. Heafield, Sparse Communication for Distributed Gradient Descent, EMNLP 2017.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from shared.compression.codec import SparseUpdate
from shared.layout import F32

DECAY_PER_MISSED_ROUND = 0.9
"""A residual from before missed rounds points at an older model; full strength slows partial participation."""


@dataclass(frozen=True, slots=True)
class ResidualFeedback:
    """What earlier rounds left undelivered: `residual` float32 `[n]`, never written to."""

    residual: F32

    @classmethod
    def zero(cls, size: int) -> Self:
        """Nothing left over, for a vector of `size` values."""
        return cls(np.zeros(size, np.float32))

    @classmethod
    def from_state(cls, state: F32, size: int) -> Self:
        """The residual that is this state; raises `ValueError` on one of another size."""
        if state.size != size:
            raise ValueError(f"a residual of {state.size} values for a vector of {size}")
        return cls(state)

    @property
    def state(self) -> F32:
        """All that is to be saved: the residual."""
        return self.residual

    def compensate(self, update: F32, missed_rounds: int = 0) -> F32:
        """Give u = update + residual, float32 `[n]`, the residual decayed by 0.9 for each missed round."""
        decay = np.float32(DECAY_PER_MISSED_ROUND**missed_rounds)
        return update + self.residual * decay

    def after(self, compensated: F32, delivered: SparseUpdate) -> Self:
        """The next round's state: e = u - delivered, in float32, value by value."""
        left = compensated.copy()
        left[delivered.indices] -= delivered.values
        return type(self)(left)

    def refused(self, delivered: SparseUpdate) -> Self:
        """The state once it turns out that `delivered` never counted: it is owed again."""
        owed = self.residual.copy()
        delivered.add_to(owed)
        return type(self)(owed)
