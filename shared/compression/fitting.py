"""Fitting candidates into a budget under one prior: the cut is chosen from bins, the count corrected by true drafts."""

from dataclasses import dataclass

import numpy as np

from shared.compression.axis import Axis
from shared.compression.frame import Draft
from shared.compression.histogram import U32
from shared.compression.levels import LevelMap
from shared.compression.plan import Plan
from shared.compression.prior import Prior
from shared.compression.rice import Gaps
from shared.compression.scale import Scale
from shared.compression.sieve import Candidates, fill_budget
from shared.compression.threshold import Binned, Cut, choose_cut
from shared.layout import I64, Layout

FIXED_HEAD_BITS = 50
"""About what scale, regions and first magnitude take besides the prior; only the first guess of a count rests on it."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """One prior and one cut applied to the candidates.

    `order` int64 `[c]` sorts these along the gathered axis, where they have `positions` int64 `[c]` and magnitudes of
    the patterns `bits` uint32 `[c]`; it is None where that is the order they are in.
    """

    candidates: Candidates
    prior: Prior
    axis: Axis
    order: I64 | None
    positions: I64
    bits: U32
    cut: Cut
    prior_bits: int

    @classmethod
    def of(cls, candidates: Candidates, runs: I64, prior: Prior, axis: Axis, layout: Layout, plan: Plan) -> "Fitting":
        """Gather the candidates, of which `runs` int64 `[blocks + 1]` numbers each block's first; choose the cut."""
        order, positions, bits = None, candidates.indices, candidates.bits
        if len(axis.classes) > 1:
            order, positions = axis.gather(candidates.indices, runs)
            bits = bits.take(order)
        binned = Binned.of(bits, positions.searchsorted(axis.bounds))
        prior_bits = prior.length(layout, plan)
        extents = (axis.bounds[1:] - axis.bounds[:-1]).astype(np.float64)
        live_groups = int(np.count_nonzero(axis.classes))
        cut = choose_cut(binned, extents, live_groups, 8.0 * plan.budget_bytes - prior_bits - FIXED_HEAD_BITS)
        return cls(candidates, prior, axis, order, positions, bits, cut, prior_bits)

    def fill(self, plan: Plan) -> Draft | None:
        """The draft that fills the budget, None where not even one value fits it."""
        most = len(self.positions)
        guess = min(max(self.cut.count, 1), most)
        first = self._draft(guess, None)

        def draft(count: int) -> Draft:
            return first if count == guess else self._draft(count, first.scale)

        return fill_budget(draft, guess, most, 8 * plan.budget_bytes, self.cut.bits_per_value)

    def _draft(self, count: int, scale: Scale | None) -> Draft:
        """The draft of the `count` largest values; with the shortest scale, or a given one that suits about as many."""
        flags = self.candidates.first(count)
        chosen = (flags if self.order is None else flags.take(self.order)).nonzero()[0]
        gaps, bits = Gaps.of(self.positions.take(chosen), self.axis.bounds), self.bits.take(chosen)
        scale = scale or Scale.shortest(gaps, self.axis)
        members = chosen if self.order is None else self.order.take(chosen)
        key_groups = self.cut.key_groups
        maps = self._maps(bits, int(gaps.first[key_groups]))
        return Draft(self.prior, self.axis, key_groups, members, gaps, scale, maps, self.prior_bits)

    def _maps(self, bits: U32, split: int) -> tuple[LevelMap, ...]:
        """The levels of values of which the first `split` are in the key region."""
        if self.cut.sparse is not None and 0 < split < len(bits):
            return LevelMap.of(bits[:split], self.cut.key), LevelMap.of(bits[split:], self.cut.sparse)
        return (LevelMap.of(bits, self.cut.key),)
