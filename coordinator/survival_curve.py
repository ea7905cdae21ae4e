"""Four quantiles of log2 |u| for each block as a curve: which share of its values lies above a threshold."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

LOG2_SHARES = (-1.0, -3.321928, -6.643856, -9.965784)
"""The share of values above each quantile, as log2: 50, 10, 1 and 0.1 %."""

LAPLACE_GAPS = torch.tensor([1.732021, 1.0, 0.584963])
"""Octaves between these quantiles if u has a Laplace distribution."""

SEARCH_OCTAVES = 16.0
SEARCH_STEPS = 20
_LEVELS = torch.tensor(LOG2_SHARES[:3])
_DROPS = torch.tensor([low - high for high, low in pairwise(LOG2_SHARES)])
_FARTHEST = torch.tensor([1.0, 1.0, 1e6])  # the last piece goes on; infinity would make slopes NaN
_FARTHEST_DROPS = _DROPS * _FARTHEST
_ZEROS = torch.zeros(3)


@dataclass(frozen=True, slots=True)
class SurvivalCurves:
    """One curve a block: `gaps` float32 `[blocks, 3]`, octaves from one quantile to the next, all above 0.

    `origin` float32 `[blocks]`: octaves from the block's median to the threshold that offset 0 stands for. Below the
    median values are spread evenly; beyond the last quantile the slope before it goes on.
    """

    gaps: Tensor
    origin: Tensor

    @classmethod
    def through(cls, log2_shares: Tensor, gaps: Tensor = LAPLACE_GAPS) -> "SurvivalCurves":
        """The curves that have `log2_shares` (`[blocks]`, below 0) of the values above offset 0."""
        gaps = gaps.expand(len(log2_shares), 3)
        below = torch.log2(-log2_shares.clamp(min=-1.0))
        beyond = torch.clamp(log2_shares[:, None] - _LEVELS, _FARTHEST_DROPS, _ZEROS)
        return cls(gaps, below + (beyond / _DROPS * gaps).sum(1))

    def moved(self, octaves: Tensor) -> "SurvivalCurves":
        """The curves of values `2 ** -octaves` times as large; `octaves` float32 `[blocks]`."""
        return SurvivalCurves(self.gaps, self.origin + octaves)

    def log2_shares(self, offset: Tensor | float) -> Tensor:
        """log2 of the share of values above the threshold at `offset` octaves: float32 `[..., blocks]`, below 0."""
        position = self.origin + offset
        starts = self.gaps.cumsum(1) - self.gaps
        beyond = (position[..., None] - starts).clamp(min=0.0)
        octaves = torch.minimum(beyond, self.gaps * _FARTHEST)
        return -torch.exp2(position.clamp(max=0.0)) + (octaves / self.gaps * _DROPS).sum(-1)

    def quantiles(self) -> Tensor:
        """The offsets at 50, 10, 1 and 0.1 %: float32 `[blocks, 4]`, rising."""
        return torch.cat([torch.zeros(len(self.gaps), 1), self.gaps.cumsum(1)], 1) - self.origin[:, None]


def offset_where(falling: Callable[[float], float], wanted: float) -> float:
    """The offset at which a falling function of it is `wanted`, found by bisection within 16 octaves of 0."""
    low, high = -SEARCH_OCTAVES, SEARCH_OCTAVES
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > wanted else (low, middle)
    return (low + high) / 2


def spent_bits(log2_shares: Tensor, sent: Tensor, values: Tensor) -> Tensor:
    """Bits that an ideal position code with these shares spends on `sent` of `values` values a block: a scalar."""
    log2_rest = torch.log1p(-torch.exp2(log2_shares).clamp(max=1 - 1e-6)) / math.log(2)
    return -(sent * log2_shares + (values - sent) * log2_rest).sum()
