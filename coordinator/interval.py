"""How many local steps lie between two averagings: always as many, by a schedule, or as far as clients agree.

Averaging after several steps is parallel restarted SGD (H. Yu, S. Yang, S. Zhu, *Parallel Restarted SGD with Faster
Convergence and Less Communication*, AAAI 2019): it keeps the linear speed-up in the number of clients while the
interval grows no faster than a root of the number of steps. How far it may grow depends on how much the clients drift
apart, which is measured here by what they send.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from coordinator.job import Job
from shared.compression.codec import SparseUpdate

FASTEST_CHANGE = 1.5
"""What the interval is multiplied or divided by from one round to the next, at most."""
MEMORY = 0.5
"""Share of the drift so far in what counts after another round."""
UNKNOWN = -1.0

Arrays = dict[str, npt.NDArray[np.generic]]


class Agreement:
    """How far the updates of one round point the same way, at values that several clients sent.

    A sieve makes updates differ in where they have values at all, which says nothing of drift; so only values count
    that at least two clients sent. Of each, with c values of sum s and sum of squares q, s² / c q is 1 where all are
    equal and 1 / c on average where they are independent.
    """

    def __init__(self, size: int) -> None:
        self._sums, self._squares = np.zeros(size), np.zeros(size)
        self._counts = np.zeros(size, np.int32)

    def add(self, update: SparseUpdate) -> None:
        """Count one client's update."""
        values = update.values.astype(np.float64)
        self._sums[update.indices] += values
        self._squares[update.indices] += values * values
        self._counts[update.indices] += 1

    def drift(self) -> float | None:
        """0 where all clients sent the same, 1 where they sent what has nothing to do with each other's.

        None where no value came from two clients.
        """
        shared = self._counts > 1
        counts, squares = self._counts[shared], self._squares[shared]
        total = float(squares.sum())
        if not total > 0:
            return None
        agreed = float((self._sums[shared] ** 2 / counts).sum()) / total
        by_chance = float((squares / counts).sum()) / total
        return float(np.clip((1.0 - agreed) / (1.0 - by_chance), 0.0, 1.0))


@dataclass
class Interval:
    """The steps of the coming round; what it follows from is in `state`, so a resumed round has as many."""

    job: Job
    steps: float = field(init=False)
    drift: float = UNKNOWN

    def __post_init__(self) -> None:
        self.steps = float(self.job.work.steps)

    def at(self, server_round: int) -> int:
        """Local steps of this round, counted from 1."""
        work = self.job.work
        if work.interval == "schedule":
            progress = (min(server_round, self.job.rounds) - 1) / max(1, self.job.rounds - 1)
            growth: float = (work.final_steps / work.steps) ** progress
            return round(work.steps * growth)
        return work.steps if work.interval == "fixed" else round(self.steps)

    @property
    def measures(self) -> bool:
        """Does the rule ask how far clients agree."""
        return self.job.work.interval == "adaptive"

    def observe(self, agreement: Agreement) -> None:
        """Learn from a round: fewer steps where clients drifted more than is wanted, more where they drifted less.

        Never so few that a round's communication, `round_cost_steps`, takes longer than its steps.
        """
        found, work = agreement.drift(), self.job.work
        if found is None:
            return
        self.drift = found if self.drift == UNKNOWN else MEMORY * self.drift + (1 - MEMORY) * found
        change = float(np.clip(work.drift / max(self.drift, 1e-6), 1 / FASTEST_CHANGE, FASTEST_CHANGE))
        least = min(max(work.least_steps, work.round_cost_steps), work.most_steps)
        self.steps = float(np.clip(self.steps * change, least, work.most_steps))

    def state(self) -> Arrays:
        """The arrays that a checkpoint keeps."""
        return {"steps": np.array([self.steps, self.drift])} if self.measures else {}

    def restore(self, state: Arrays) -> None:
        """Continue from `state()`."""
        if self.measures:
            self.steps, self.drift = (float(value) for value in state["steps"])
