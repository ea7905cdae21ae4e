"""How often the values of each column were sent, over all clients: what a plan says of columns."""

import numpy as np

from coordinator.block_history import F64, Arrays
from shared.compression.plan import Steps, steps_from_densities
from shared.layout import I64, Layout

MEMORY = 0.9
"""What a round weighs in the one after it; columns change more slowly than blocks, and there are more of them."""

PRIOR_COUNT = 0.5


class ColumnHistory:
    """Running counts of sent values by column, float64 `[columns]`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.sent: F64 = np.zeros(layout.num_columns)

    def observe(self, counts: I64) -> None:
        """Add a round: the values sent by column, int64 `[columns]`, in all updates together."""
        self.sent = MEMORY * self.sent + counts

    def steps(self) -> Steps:
        """Octaves by which each column is denser than its tensor: int8 `[columns]`."""
        starts, tensor = self._layout.column_starts, self._layout.column_tensor
        expected = (np.add.reduceat(self.sent, starts[:-1]) / np.diff(starts))[tensor]
        return steps_from_densities((self.sent + PRIOR_COUNT) / (expected + PRIOR_COUNT))

    def state(self) -> Arrays:
        """The arrays that a checkpoint keeps."""
        return {"sent": self.sent.copy()}

    def restore(self, state: Arrays) -> None:
        """Continue from `state()`, bit for bit."""
        self.sent = state["sent"].astype(np.float64)
