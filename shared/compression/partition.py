"""The partition codec: key and sparse regions by predicted density, one threshold, few magnitudes, Rice-coded gaps.

The division of the gradient into a key and a sparse region by its predicted distribution, and an entropy-made threshold
for what is sent of them, are from J. Guo, Z. Liu, L. Zhang, A Partition Based Gradient Compression Algorithm for
Distributed Training in AIoT, Sensors 2021, 21(6), 1943. Everything more exact is our own.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from shared.compression.bits import BitReader
from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.dense import DENSE_WIRE_ID, DenseCodec, dense_bytes
from shared.compression.frame import PARTITION_WIRE_ID, Content, Draft, read_content
from shared.compression.grouping import Grouping
from shared.compression.histogram import U32, signs
from shared.compression.levels import LevelMap
from shared.compression.plan import Plan
from shared.compression.prior import Prior
from shared.compression.rice import Gaps
from shared.compression.scale import SCALE_LENGTH, Scale
from shared.compression.sieve import Candidates, fill_budget, sieve
from shared.compression.threshold import Binned, Cut, choose_cut
from shared.errors import DecodeError
from shared.layout import F32, I64, Layout

EMPTY_FRAME = bytes([PARTITION_WIRE_ID])

FIXED_HEAD_BITS = 50
"""About what scale, regions and first magnitude take besides the prior; only the first guess of a count rests on it."""


class PartitionCodec:
    """Sends the largest values by regions of predicted density; the plan's classes are the prior, if it has any."""

    name = "partition"
    wire_id = PARTITION_WIRE_ID

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        """At most `plan.budget_bytes`; a dense frame where that fits. Raises `ValueError` on NaN or infinity.

        Where the plan's classes serve worse than a partition paid for in the frame, the frame pays. Raises
        `DecodeError` when the plan is one for another layout.
        """
        if dense_bytes(layout) <= plan.budget_bytes:
            return DenseCodec().encode(update, layout, plan)
        draft = sieve(update, layout, plan.budget_bytes, partial(_fill, layout, plan))
        if draft is None:
            return Encoded(EMPTY_FRAME, SparseUpdate.nothing(layout.size))
        indices = draft.grouping.scatter(draft.positions)
        frame, values = draft.write(signs(update, indices), layout, plan)
        return Encoded(frame, _in_order(indices, values, layout), draft.threshold)

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        """The values of a partition frame, or of a dense one; raises `DecodeError` on anything else."""
        if frame[:1] == bytes([DENSE_WIRE_ID]):
            return DenseCodec().decode(frame, layout, plan)
        content = read_frame(frame, layout, plan)
        if content is None:
            return SparseUpdate.nothing(layout.size)
        return _in_order(content.regions.grouping.scatter(content.positions), content.values, layout)


def _fill(layout: Layout, plan: Plan, candidates: Candidates) -> Draft | None:
    """The draft that fills the budget under whichever prior serves best."""
    whole = Prior.whole(layout)
    first = whole if plan.density_classes is None else Prior.public(plan, layout)
    fitting = _Fitting.of(candidates, first, layout, plan)
    better = fitting.shortest_prior(layout, plan)
    if better.kind is not first.kind:
        fitting = _Fitting.of(candidates, better, layout, plan)
    return fitting.fill(plan) or _Fitting.of(candidates, whole, layout, plan).fill(plan)


def read_frame(frame: bytes, layout: Layout, plan: Plan) -> Content | None:
    """The content of a partition frame, None if it delivers nothing; raises `DecodeError`."""
    if frame == EMPTY_FRAME:
        return None
    if frame[:1] != EMPTY_FRAME or len(frame) >= dense_bytes(layout):
        raise DecodeError(f"{len(frame)} bytes are no partition frame of a layout of {layout.size} values")
    return read_content(BitReader(frame[1:]), layout, plan)


@dataclass(frozen=True, slots=True)
class _Fitting:
    """One prior and one cut applied to the candidates, which are sorted along the gathered axis."""

    prior: Prior
    grouping: Grouping
    positions: I64
    bits: U32
    rank: I64
    cut: Cut
    prior_bits: int

    @classmethod
    def of(cls, candidates: Candidates, prior: Prior, layout: Layout, plan: Plan) -> "_Fitting":
        grouping = Grouping.of(prior.classes, layout)
        gathered = grouping.gather(candidates.indices)
        order = np.argsort(gathered) if len(grouping.classes) > 1 else slice(None)
        positions, bits = gathered[order], candidates.bits[order]
        group = np.searchsorted(grouping.bounds, positions, side="right") - 1
        extents = np.diff(grouping.bounds).astype(np.float64)
        binned = Binned.of(bits, group, len(extents))
        prior_bits = prior.length(layout, plan)
        live_groups = int(np.count_nonzero(grouping.classes))
        cut = choose_cut(binned, extents, live_groups, 8.0 * plan.budget_bytes - prior_bits - FIXED_HEAD_BITS)
        return cls(prior, grouping, positions, bits, candidates.rank[order], cut, prior_bits)

    def fill(self, plan: Plan) -> Draft | None:
        """The draft that fills the budget, None where not even one value fits it."""
        return fill_budget(self._draft, self.cut.count, len(self.positions), 8 * plan.budget_bytes)

    def shortest_prior(self, layout: Layout, plan: Plan) -> Prior:
        """The prior under which about these values, and the prior itself, are expected to take the fewest bits."""
        positions = self.positions[self.rank < self.cut.count]
        gaps = Gaps.of(positions, self.grouping.bounds)
        scale = Scale.shortest(gaps, self.grouping)
        blocks = np.searchsorted(layout.block_starts, self.grouping.scatter(positions), side="right") - 1
        sent = np.bincount(blocks, minlength=layout.num_blocks)
        best = self.prior
        best_bits = float(self.prior_bits + scale.length + gaps.length(scale.parameters(self.grouping)))
        for prior in (Prior.whole(layout), Prior.tensors(sent, layout), Prior.blocks(sent, layout)):
            bits = prior.length(layout, plan) + SCALE_LENGTH + prior.expected_length(sent, layout)
            if bits < best_bits:
                best, best_bits = prior, bits
        return best

    def _draft(self, count: int) -> Draft:
        chosen = self.rank < count
        positions, bits = self.positions[chosen], self.bits[chosen]
        gaps = Gaps.of(positions, self.grouping.bounds)
        scale = Scale.shortest(gaps, self.grouping)
        key_groups = self.cut.key_groups
        split = int(np.searchsorted(positions, self.grouping.bounds[key_groups]))
        maps: tuple[LevelMap, ...]
        if self.cut.sparse is not None and 0 < split < count:
            maps = LevelMap.of(bits[:split], self.cut.key), LevelMap.of(bits[split:], self.cut.sparse)
        else:
            maps = (LevelMap.of(bits, self.cut.key),)
        return Draft(self.prior, self.grouping, key_groups, positions, gaps, scale, maps, self.prior_bits)


def _in_order(indices: I64, values: F32, layout: Layout) -> SparseUpdate:
    order = np.argsort(indices)
    return SparseUpdate(layout.size, indices[order], values[order])
