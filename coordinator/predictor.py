"""Predicts, block by block, how the values of the next updates are distributed, and so which of them will be sent.

That a neural network predicts the distribution of the gradient, which is then partitioned and sieved by it, is the idea
of Guo, Liu, Zhang, "A Partition Based Gradient Compression Algorithm for Distributed Training in AIoT", Sensors 2021;
inputs, target and training below are our own design.

The coordinator never sees an update, only the values above its threshold t. But how many these are is exact: of a
block of n values k were sent, so k of n is one known point of the block's distribution, P(|u| > t). That is enough to
learn from: under the predicted quantiles k is binomial, and the network is trained by the bits which that law spends
on the counts really seen. The scale that all blocks share is not learnt but solved for: in training from the round's
total count, in planning from the byte budget.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coordinator.block_history import FEATURES, BlockHistory
from coordinator.round_counts import RoundCounts, SieveFacts
from coordinator.survival_curve import LAPLACE_GAPS, SurvivalCurves, offset_where, spent_bits
from shared.layout import F32, Layout

__all__ = ["BlockPredictor", "SieveFacts"]

Arrays = dict[str, npt.NDArray[np.generic]]

HIDDEN = 16
OUTPUTS = 4
DESCENT_STEPS = 20
LEARNING_RATE = 0.01
SLOPE_MEMORY, SQUARE_MEMORY = 0.9, 0.99
ADVANTAGE_MEMORY = 0.9
FRAME_OVERHEAD_BYTES = 12


class BlockPredictor:
    """A network of 16 hidden units over public facts of each block, which corrects the running averages of its counts.

    Whichever of the two, network or averages alone, has spent fewer bits on the last rounds makes the prediction. One
    thread, float32: the same calls, with or without a restore between them, give the same bits.
    """

    def __init__(self, layout: Layout, seed: int) -> None:
        self._history = BlockHistory(layout)
        self._sizes = torch.from_numpy(self._history.sizes.astype(np.float32))
        generator = torch.Generator().manual_seed(seed)
        hidden = torch.randn(FEATURES * HIDDEN, generator=generator) / math.sqrt(FEATURES)
        # outputs of zero: before it has learnt, the network says what the averages say
        self._weights = torch.cat([hidden, torch.zeros(HIDDEN + HIDDEN * OUTPUTS + OUTPUTS)])
        self._slope, self._square = torch.zeros_like(self._weights), torch.zeros_like(self._weights)
        self._steps = 0
        self._advantage_bits = 0.0

    def densities(self, budget_bytes: int) -> npt.NDArray[np.float64]:
        """The share of each block's values that a frame of `budget_bytes` will hold: float64 `[blocks]`, in 0 to 1."""
        wanted_bits = 8.0 * max(budget_bytes - FRAME_OVERHEAD_BYTES, 1)
        with _one_thread(), torch.no_grad():
            curves = self._curves(budget_bytes)

            def frame_bits(offset: float) -> float:
                log2_shares = curves.log2_shares(offset).clamp(max=-1.0)
                sent = self._sizes * torch.exp2(log2_shares)
                return float(spent_bits(log2_shares, sent, self._sizes) + sent.sum())

            return torch.exp2(curves.log2_shares(offset_where(frame_bits, wanted_bits))).double().numpy()

    def quantiles(self, budget_bytes: int) -> npt.NDArray[np.float64]:
        """Log2 of |u| at survival 50, 10, 1, 0.1 %, against the last threshold: float64 `[blocks, 4]`, rising."""
        with _one_thread(), torch.no_grad():
            return self._curves(budget_bytes).quantiles().double().numpy()

    def observe(self, mean_update: F32, facts: Sequence[SieveFacts], budget_bytes: int) -> None:
        """Learn from a round: the aggregated float32 `[size]` update, and each update's facts under `budget_bytes`."""
        counts = RoundCounts.of(facts, self._sizes) if facts else None
        if counts is None or not counts.sent.any():
            return
        with _one_thread():
            self._learn(counts, torch.from_numpy(self._history.features(budget_bytes)))
        self._history.observe(mean_update, np.sum([fact.counts for fact in facts], axis=0), len(facts))

    def state(self) -> Arrays:
        """The arrays that a checkpoint keeps."""
        return {
            "weights": self._weights.numpy().copy(),
            "slope": self._slope.numpy().copy(),
            "square": self._square.numpy().copy(),
            "steps": np.array(self._steps),
            "advantage_bits": np.array(self._advantage_bits),
            **{f"history.{name}": array for name, array in self._history.state().items()},
        }

    def restore(self, state: Arrays) -> None:
        """Continue from `state()`, bit for bit."""
        self._weights, self._slope, self._square = (
            torch.from_numpy(state[name].astype(np.float32)) for name in ("weights", "slope", "square")
        )
        self._steps, self._advantage_bits = int(state["steps"]), float(state["advantage_bits"])
        history = {name.removeprefix("history."): a for name, a in state.items() if name.startswith("history.")}
        self._history.restore({name: array.astype(np.float64) for name, array in history.items()})

    def _curves(self, budget_bytes: int) -> SurvivalCurves:
        if self._advantage_bits <= 0:
            return self._averaged()
        return self._corrected(self._weights, torch.from_numpy(self._history.features(budget_bytes)))

    def _averaged(self, gaps: Tensor = LAPLACE_GAPS) -> SurvivalCurves:
        shares = np.clip(self._history.relative_rates() * self._history.rate, 2.0**-30, 0.9)
        return SurvivalCurves.through(torch.from_numpy(np.log2(shares).astype(np.float32)), gaps.expand(len(shares), 3))

    def _corrected(self, weights: Tensor, features: Tensor) -> SurvivalCurves:
        parts = torch.split(weights, [FEATURES * HIDDEN, HIDDEN, HIDDEN * OUTPUTS, OUTPUTS])
        hidden = torch.tanh(features @ parts[0].view(FEATURES, HIDDEN) + parts[1])
        outputs = hidden @ parts[2].view(HIDDEN, OUTPUTS) + parts[3]
        gaps = LAPLACE_GAPS * torch.exp2(2 * torch.tanh(outputs[:, :3] / 2))
        return self._averaged(gaps).moved(4 * torch.tanh(outputs[:, 3] / 4))

    def _learn(self, counts: RoundCounts, features: Tensor) -> None:
        """Score both predictions on counts that neither has seen, then descend on those counts."""
        with torch.no_grad():
            averaged, corrected = self._averaged(), self._corrected(self._weights, features)
            offset = _common_offset(corrected, counts)
            gain = _bits(averaged, counts, _common_offset(averaged, counts)) - _bits(corrected, counts, offset)
        self._advantage_bits = ADVANTAGE_MEMORY * self._advantage_bits + float(gain)
        sent = counts.sent.sum()
        for _ in range(DESCENT_STEPS):
            weights = self._weights.requires_grad_()
            loss = _bits(self._corrected(weights, features), counts, offset) / sent
            self._descend(torch.autograd.grad(loss, weights)[0])

    def _descend(self, slope: Tensor) -> None:
        """One step of Adam (Kingma, Ba 2015)."""
        self._steps += 1
        self._slope = self._slope.lerp(slope, 1 - SLOPE_MEMORY)
        self._square = self._square.lerp(slope.square(), 1 - SQUARE_MEMORY)
        slope = self._slope / (1 - SLOPE_MEMORY**self._steps)
        square = self._square / (1 - SQUARE_MEMORY**self._steps)
        self._weights = self._weights.detach() - LEARNING_RATE * slope / (square.sqrt() + 1e-8)


def _common_offset(curves: SurvivalCurves, counts: RoundCounts) -> float:
    """The offset at which the curves expect as many sent values as the round had."""
    return offset_where(
        lambda offset: float((counts.values * torch.exp2(curves.log2_shares(counts.offsets + offset))).sum()),
        float(counts.sent.sum()),
    )


def _bits(curves: SurvivalCurves, counts: RoundCounts, offset: float) -> Tensor:
    return spent_bits(curves.log2_shares(counts.offsets + offset), counts.sent, counts.values)


@contextmanager
def _one_thread() -> Iterator[None]:
    """With several threads the order of sums, and with it the last bit, depends on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
