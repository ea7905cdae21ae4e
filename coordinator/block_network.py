"""The predictor's network: from public features of a block to the four quantiles of its values."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from coordinator.block_history import FEATURES, Arrays
from coordinator.survival_curve import LAPLACE_GAPS, SurvivalCurves

HIDDEN = 16
OUTPUTS = 4
DESCENT_STEPS = 8
LEARNING_RATE = 0.02
SLOPE_MEMORY, SQUARE_MEMORY = 0.9, 0.99
LARGEST_STRETCH_OCTAVES = 2.0
LARGEST_SHIFT_OCTAVES = 4.0


class BlockNetwork:
    """About 270 weights in one flat float32 vector, trained by Adam (Kingma, Ba 2015) on one round at a time.

    For each block it stretches the three gaps between Laplace quantiles, and shifts all four.
    """

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        first = torch.randn(FEATURES * HIDDEN, generator=generator) / math.sqrt(FEATURES)
        # outputs of zero: before it has learnt, the network changes nothing
        self._weights = torch.cat([first, torch.zeros(HIDDEN + HIDDEN * OUTPUTS + OUTPUTS)])
        self._slope, self._square = torch.zeros_like(self._weights), torch.zeros_like(self._weights)
        self._steps = 0

    def curves(self, log2_shares: Tensor, features: Tensor) -> SurvivalCurves:
        """The curves of blocks with float32 `[blocks, FEATURES]` features, for which averages say `log2_shares`."""
        parts = torch.split(self._weights, [FEATURES * HIDDEN, HIDDEN, HIDDEN * OUTPUTS, OUTPUTS])
        hidden = torch.tanh(torch.addmm(parts[1], features, parts[0].view(FEATURES, HIDDEN)))
        outputs = torch.tanh(torch.addmm(parts[3], hidden, parts[2].view(HIDDEN, OUTPUTS)))
        gaps = LAPLACE_GAPS * torch.exp2(LARGEST_STRETCH_OCTAVES * outputs[:, :3])
        return SurvivalCurves.through(log2_shares, gaps).moved(LARGEST_SHIFT_OCTAVES * outputs[:, 3])

    def train(self, loss_of: Callable[[SurvivalCurves], Tensor], log2_shares: Tensor, features: Tensor) -> None:
        """A few steps down a differentiable loss of the curves."""
        for _ in range(DESCENT_STEPS):
            self._weights.requires_grad_()
            (slope,) = torch.autograd.grad(loss_of(self.curves(log2_shares, features)), self._weights)
            self._weights = self._weights.detach()
            self._descend(slope)

    def state(self) -> Arrays:
        """The arrays that a checkpoint keeps."""
        arrays = {"weights": self._weights, "slope": self._slope, "square": self._square}
        return {"steps": np.array(self._steps), **{name: array.numpy().copy() for name, array in arrays.items()}}

    def restore(self, state: Arrays) -> None:
        """Continue from `state()`, bit for bit."""
        self._steps = int(state["steps"])
        self._weights, self._slope, self._square = (
            torch.from_numpy(state[name].astype(np.float32)) for name in ("weights", "slope", "square")
        )

    def _descend(self, slope: Tensor) -> None:
        self._steps += 1
        self._slope = self._slope.lerp(slope, 1 - SLOPE_MEMORY)
        self._square = self._square.lerp(slope.square(), 1 - SQUARE_MEMORY)
        mean = self._slope / (1 - SLOPE_MEMORY**self._steps)
        square = self._square / (1 - SQUARE_MEMORY**self._steps)
        self._weights = self._weights - LEARNING_RATE * mean / (square.sqrt() + 1e-8)
