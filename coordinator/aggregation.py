"""The weighted mean of a round's sparse updates, one at a time, and the clip that bounds what one device can do."""

import math

import numpy as np

from shared.compression.codec import SparseUpdate
from shared.layout import F32


class WeightedMean:
    """A running weighted mean over flat `[size]` updates; memory is one float64 vector, however many are added.

    Sums are float64 in the order of `add`, so the same updates in the same order give the same bits.
    """

    def __init__(self, size: int) -> None:
        self._sum = np.zeros(size, np.float64)
        self._weight = 0.0
        self.count = 0

    def add(self, update: SparseUpdate, weight: float) -> None:
        """Count `update` with a finite `weight` above zero; `ValueError` for another weight or size."""
        if not (0 < weight < math.inf) or update.size != self._sum.size:
            raise ValueError(f"cannot add {update.size} values of weight {weight} to a mean of {self._sum.size}")
        self._sum[update.indices] += update.values.astype(np.float64) * weight
        self._weight += weight
        self.count += 1

    def mean(self) -> F32:
        """The mean as float32 `[size]`; zeros when nothing was added."""
        if self.count == 0:
            return np.zeros(self._sum.size, np.float32)
        return (self._sum / self._weight).astype(np.float32)


def norm(update: SparseUpdate) -> float:
    """The Euclidean norm of an update, in float64."""
    return float(np.sqrt(np.square(update.values.astype(np.float64)).sum()))
