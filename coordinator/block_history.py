"""What the coordinator remembers of every block: how often and how strongly it was sent, and when last."""

from typing import get_args

import numpy as np
import numpy.typing as npt

from shared.layout import F32, I64, Layout, TensorRole

F64 = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[np.generic]]

ROLES: tuple[str, ...] = tuple(role for role in get_args(TensorRole) if role != "frozen")
"""The roles of tensors that are sent; a frozen one has no feature of its own, so that older checkpoints still fit."""
FEATURES = len(ROLES) + 7
MEMORY = 0.8
"""What a round weighs in the one after it; of a round ten rounds ago a tenth is left."""
FIRST_RATE = 0.01
PRIOR_COUNT = 0.5
KEPT = ("sent", "expected", "last_magnitude", "mean_magnitude", "since_sent", "rate")


class BlockHistory:
    """Running averages over rounds, each float64 `[blocks]`, and `rate`: the share of values that an update sends.

    `sent` counts values, and `expected` what it would be were all blocks alike; `last_magnitude` and `mean_magnitude`
    are those of the aggregated update; `since_sent` is in rounds.
    """

    def __init__(self, layout: Layout) -> None:
        self.sizes = np.diff(layout.block_starts).astype(np.float64)
        self._starts = layout.block_starts[:-1]
        self._tensor = layout.block_tensor
        roles = np.array([[layout.tensors[i].role == role for role in ROLES] for i in self._tensor.tolist()])
        self._fixed = np.column_stack([roles, np.log2(self.sizes) / 8])
        self.sent, self.expected = np.zeros_like(self.sizes), np.zeros_like(self.sizes)
        self.last_magnitude, self.mean_magnitude = np.zeros_like(self.sizes), np.zeros_like(self.sizes)
        self.since_sent = np.zeros_like(self.sizes)
        self.rate = np.array(FIRST_RATE)

    def observe(self, mean_update: F32, counts: I64, updates: int) -> None:
        """Add a round: the aggregated float32 `[size]` update, and the values sent in `updates` of them by block."""
        magnitude = np.add.reduceat(np.abs(mean_update, dtype=np.float64), self._starts) / self.sizes
        self.rate = np.array(max(counts.sum(), 1) / (updates * self.sizes.sum()))
        self.sent = MEMORY * self.sent + counts
        self.expected = MEMORY * self.expected + updates * self.rate * self.sizes
        self.last_magnitude = magnitude
        self.mean_magnitude = MEMORY * self.mean_magnitude + (1 - MEMORY) * magnitude
        self.since_sent = np.where(counts > 0, 0.0, self.since_sent + 1)

    def relative_rates(self) -> F64:
        """How many times as often as the average value those of each block were sent: float64 `[blocks]`, above 0."""
        return np.asarray((self.sent + PRIOR_COUNT) / (self.expected + PRIOR_COUNT))

    def features(self, budget_bytes: int) -> F32:
        """What predicts the next round, each within a few units of zero: float32 `[blocks, FEATURES]`."""
        sent = np.bincount(self._tensor, self.sent) + PRIOR_COUNT
        expected = np.bincount(self._tensor, self.expected) + PRIOR_COUNT
        columns = [
            self._octaves(self.last_magnitude),
            self._octaves(self.mean_magnitude),
            np.log2(self.relative_rates()),
            np.log2(sent / expected)[self._tensor],
            np.log2(1 + self.since_sent),
            np.full_like(self.sizes, np.log2(8 * budget_bytes / self.sizes.sum())),
        ]
        return np.column_stack([self._fixed, np.column_stack(columns) / 4]).astype(np.float32)

    def state(self) -> Arrays:
        """The arrays that a checkpoint keeps."""
        return {name: getattr(self, name).copy() for name in KEPT}

    def restore(self, state: Arrays) -> None:
        """Continue from `state()`, bit for bit."""
        for name in KEPT:
            setattr(self, name, state[name].astype(np.float64))

    def _octaves(self, magnitude: F64) -> F64:
        """Log2 of each block's magnitude against that of all values, within 8 octaves."""
        typical = float((magnitude * self.sizes).sum() / self.sizes.sum())
        if typical == 0:
            return np.zeros_like(magnitude)
        return np.asarray(np.log2(np.clip(magnitude / typical, 2.0**-8, 2.0**8)))
