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

from coordinator.block_history import Arrays, BlockHistory
from coordinator.block_network import BlockNetwork
from coordinator.density_forecast import Trust
from coordinator.round_counts import RoundCounts
from coordinator.sieve_facts import SieveFacts
from coordinator.survival_curve import SurvivalCurves, offset_where, spent_bits
from shared.layout import F32, Layout

ADVANTAGE_MEMORY = 0.9
FRAME_OVERHEAD_BYTES = 12
SMALLEST_SHARE, LARGEST_SHARE = 2.0**-30, 0.9
COSTLIEST_LOG2_SHARE = math.log2(2 / 3)
"""Positions and signs cost most, 1.585 bits a value, when two of three values are sent; beyond, they cost less."""


class BlockPredictor:
    """A network of 16 hidden units over public facts of each block, which corrects the running averages of its counts.

    Whichever has spent fewer bits on the last rounds makes the prediction: the network, or the averages by themselves;
    with another `trust` always that one. One thread, float32: the same calls, with or without a restore between them,
    give the same bits.
    """

    def __init__(self, layout: Layout, seed: int, trust: Trust = "better") -> None:
        self._trust = trust
        self._history = BlockHistory(layout)
        self._sizes = torch.from_numpy(self._history.sizes.astype(np.float32))
        self._network = BlockNetwork(seed)
        self._advantage_bits = 0.0

    def densities(self, budget_bytes: int) -> npt.NDArray[np.float64]:
        """The share of each block's values that a frame of `budget_bytes` will hold: float64 `[blocks]`, in 0 to 1."""
        wanted_bits = 8.0 * max(budget_bytes - FRAME_OVERHEAD_BYTES, 1)
        with _one_thread(), torch.no_grad():
            curves = self._curves(budget_bytes)

            def frame_bits(offset: float) -> float:
                log2_shares = curves.log2_shares(offset).clamp(max=COSTLIEST_LOG2_SHARE)
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
            "advantage_bits": np.array(self._advantage_bits),
            **{f"history.{name}": array for name, array in self._history.state().items()},
            **{f"network.{name}": array for name, array in self._network.state().items()},
        }

    def restore(self, state: Arrays) -> None:
        """Continue from `state()`, bit for bit."""
        self._advantage_bits = float(state["advantage_bits"])
        self._history.restore(_below("history.", state))
        self._network.restore(_below("network.", state))

    def _curves(self, budget_bytes: int) -> SurvivalCurves:
        if self._trust == "averages" or (self._trust == "better" and not self._advantage_bits > 0):
            return SurvivalCurves.through(self._log2_shares())
        return self._network.curves(self._log2_shares(), torch.from_numpy(self._history.features(budget_bytes)))

    def _log2_shares(self) -> Tensor:
        """What the averages say: log2 of the share of values sent, float32 `[blocks]`."""
        shares = np.clip(self._history.relative_rates() * self._history.rate, SMALLEST_SHARE, LARGEST_SHARE)
        return torch.from_numpy(np.log2(shares).astype(np.float32))

    def _learn(self, counts: RoundCounts, features: Tensor) -> None:
        """Score both predictions on counts that neither has seen, then train the network on those counts."""
        log2_shares = self._log2_shares()
        with torch.no_grad():
            averaged, learnt = SurvivalCurves.through(log2_shares), self._network.curves(log2_shares, features)
            offset = counts.offset_under(learnt)
            gain = counts.bits(averaged, counts.offset_under(averaged)) - counts.bits(learnt, offset)
        self._advantage_bits = ADVANTAGE_MEMORY * self._advantage_bits + float(gain)
        self._network.train(lambda curves: counts.bits(curves, offset) / counts.sent.sum(), log2_shares, features)


def _below(prefix: str, state: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}


@contextmanager
def _one_thread() -> Iterator[None]:
    """With several threads the order of sums, and with it the last bit, depends on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
