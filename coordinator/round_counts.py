"""The sent values of one round, counted by block and by the threshold they exceed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from coordinator.sieve_facts import SieveFacts
from coordinator.survival_curve import SurvivalCurves, offset_where, spent_bits

BINS_PER_OCTAVE = 4
LARGEST_OFFSET_OCTAVES = 4.0


@dataclass(frozen=True, slots=True)
class RoundCounts:
    """A round's updates, those of nearly equal threshold summed: of `values` there were, `sent` are above it.

    `sent` and `values` float32 `[bins, blocks]`; `offsets` float32 `[bins, 1]`, octaves above the median threshold.
    """

    sent: Tensor
    values: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, facts: Sequence[SieveFacts], sizes: Tensor) -> Self:
        """The counts of at least one update of a layout with blocks of `sizes`, float32 `[blocks]`."""
        thresholds = np.array([fact.threshold for fact in facts])
        known = thresholds > 0
        octaves = np.zeros(len(facts))
        if known.any():
            octaves[known] = np.log2(thresholds[known]) - np.median(np.log2(thresholds[known]))
        octaves = octaves.clip(-LARGEST_OFFSET_OCTAVES, LARGEST_OFFSET_OCTAVES)
        steps, bins = np.unique(np.rint(octaves * BINS_PER_OCTAVE), return_inverse=True)
        sent = np.zeros((len(steps), len(sizes)), np.float32)
        for fact, row in zip(facts, bins.tolist(), strict=True):
            sent[row] += fact.counts
        updates = np.bincount(bins).astype(np.float32)[:, np.newaxis]
        offsets = (steps[:, np.newaxis] / BINS_PER_OCTAVE).astype(np.float32)
        return cls(torch.from_numpy(sent), torch.from_numpy(updates) * sizes, torch.from_numpy(offsets))

    def offset_under(self, curves: SurvivalCurves) -> float:
        """The offset of the median threshold at which the curves expect as many sent values as there were."""
        return offset_where(
            lambda offset: float((self.values * torch.exp2(curves.log2_shares(self.offsets + offset))).sum()),
            float(self.sent.sum()),
        )

    def bits(self, curves: SurvivalCurves, offset: float) -> Tensor:
        """What an ideal position code under the curves spends on these counts: a scalar, differentiable."""
        return spent_bits(curves.log2_shares(self.offsets + offset), self.sent, self.values)
