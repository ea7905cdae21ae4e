"""Deep gradient compression: momentum-corrected accumulation, layer-wise top-k in full precision, sparsity warm-up.

Y. Lin, S. Han, H. Mao, Y. Wang, W. J. Dally, Deep Gradient Compression: Reducing the Communication Bandwidth for
Distributed Training, ICLR 2018. The paper's gradient is here the local update. Every tensor sends the same share of its
values, as the paper takes its threshold layer by layer.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np

from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.float_frame import VALUE_BITS, FloatDraft, finish, likely_floats, read_floats
from shared.compression.histogram import lowest_edge, magnitude_bits
from shared.compression.plan import Plan
from shared.compression.rice import expected_length
from shared.compression.sieve import Candidates, fill_budget
from shared.layout import F32, Layout

DGC_WIRE_ID = 6
WARM_UP_DENSITY = 0.25


class DgcCodec:
    """The largest magnitudes of every tensor as float32: the same share of each, and at least one value."""

    name = "dgc"
    wire_id = DGC_WIRE_ID

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        """At most `plan.budget_bytes`; of the plan nothing else is used. Raises `ValueError` on NaN or infinity."""
        bits = magnitude_bits(update, layout)
        guess = likely_floats(layout.size, plan.budget_bytes)
        indices, share = [], []
        for start, end in pairwise(layout.offsets):
            most = 1 + 2 * guess * (end - start) // layout.size
            candidates = Candidates.above(bits[start:end], lowest_edge(bits[start:end], most))
            indices.append(candidates.indices + start)
            share.append(candidates.rank * layout.size // (end - start))
        found, reached_by = np.concatenate(indices), np.concatenate(share)

        def draft(count: int) -> FloatDraft:
            return FloatDraft.of(found[reached_by < count], layout)

        most_count = min(2 * guess, layout.size)
        filled = fill_budget(draft, guess, most_count, 8 * plan.budget_bytes) if len(found) else None
        return finish(filled, DGC_WIRE_ID, update, layout)

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        """What `encode` delivered; raises `DecodeError` on anything else. The plan is not used."""
        return read_floats(frame, DGC_WIRE_ID, layout)


@dataclass(frozen=True, slots=True)
class MomentumCorrection:
    """The paper's two vectors, float32 `[n]` and never written to: what is `accumulated`, and its `velocity`.

    Clipping to `clip_norm` comes before both; for N clients the paper divides the usual bound by the root of N. The
    memory does not decay while rounds are missed: the paper knows no missed rounds.
    """

    accumulated: F32
    velocity: F32
    momentum: float = 0.9
    clip_norm: float = math.inf

    @classmethod
    def zero(cls, size: int) -> Self:
        """Nothing accumulated, at rest."""
        return cls(np.zeros(size, np.float32), np.zeros(size, np.float32))

    @classmethod
    def from_state(cls, state: F32, size: int) -> Self:
        """The memory of this state, float32 `[2 · size]`; raises `ValueError` on another size."""
        if state.size != 2 * size:
            raise ValueError(f"a state of {state.size} values, momentum correction needs {2 * size}")
        return cls(state[:size].copy(), state[size:].copy())

    @property
    def state(self) -> F32:
        """What is accumulated, then the velocity: float32 `[2 · n]`."""
        return np.concatenate([self.accumulated, self.velocity])

    def compensate(self, update: F32, missed_rounds: int = 0) -> F32:
        """Give v + m · u + update, the update clipped: the accumulation once the velocity u has taken it in."""
        return self.accumulated + (np.float32(self.momentum) * self.velocity + clip_norm(update, self.clip_norm))

    def after(self, compensated: F32, delivered: SparseUpdate) -> Self:
        """Clear what was delivered from the accumulation, and stop the velocity there: momentum factor masking."""
        velocity = compensated - self.accumulated
        velocity[delivered.indices] = 0
        accumulated = compensated.copy()
        accumulated[delivered.indices] -= delivered.values
        return replace(self, accumulated=accumulated, velocity=velocity)

    def refused(self, delivered: SparseUpdate) -> Self:
        """Accumulate again what never counted; its velocity is gone."""
        accumulated = self.accumulated.copy()
        delivered.add_to(accumulated)
        return replace(self, accumulated=accumulated)


def clip_norm(update: F32, most: float) -> F32:
    """The update, shortened to Euclidean norm `most` where it is longer."""
    if math.isinf(most):
        return update
    norm = math.sqrt(math.fsum(np.square(update, dtype=np.float64).tolist()))
    return update * np.float32(most / norm) if norm > most else update


def warm_up_density(server_round: int, warm_up_rounds: int, final_density: float) -> float:
    """The share of values to send in `server_round`, counted from 1: a quarter, falling geometrically to the final one.

    With 4 warm-up rounds and a final 0.1 % it is about the paper's 25 %, 6.25 %, 1.56 %, 0.4 %, 0.1 %.
    """
    if server_round > warm_up_rounds or final_density >= WARM_UP_DENSITY:
        return final_density
    return float(WARM_UP_DENSITY * (final_density / WARM_UP_DENSITY) ** ((server_round - 1) / warm_up_rounds))


def dgc_warmup_budget(server_round: int, warm_up_rounds: int, size: int, budget_bytes: int) -> int:
    """The budget for `server_round`, in bytes, that ends at `budget_bytes` after the warm-up; see `warm_up_density`."""
    if server_round > warm_up_rounds:
        return budget_bytes
    count = size * warm_up_density(server_round, warm_up_rounds, likely_floats(size, budget_bytes) / size)
    position_bits = float(expected_length(np.array(float(size)), np.array(count)))
    return max(budget_bytes, math.ceil((position_bits + VALUE_BITS * count) / 8))
