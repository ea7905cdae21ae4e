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
from shared.compression.plan import DENSEST_CLASS, Plan
from shared.compression.prior import Prior, PriorKind, expected_lengths
from shared.compression.rice import Gaps
from shared.compression.scale import SCALE_LENGTH, Scale
from shared.compression.sieve import Candidates, fill_budget, likely_count, sieve
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
    """The draft that fills the budget under whichever prior is expected to serve best."""
    blocks = np.repeat(np.arange(layout.num_blocks), np.diff(np.searchsorted(candidates.indices, layout.block_starts)))
    likely = candidates.first(min(likely_count(layout.size, plan.budget_bytes), len(candidates.indices)))
    prior = _shortest_prior(np.bincount(blocks[likely], minlength=layout.num_blocks), layout, plan)
    draft = _Fitting.of(candidates, blocks, prior, layout, plan).fill(plan)
    if draft is None and prior.kind is not PriorKind.WHOLE:
        return _Fitting.of(candidates, blocks, Prior.whole(layout), layout, plan).fill(plan)
    return draft


def _shortest_prior(sent: I64, layout: Layout, plan: Plan) -> Prior:
    """The prior under which so many values of each block, int64 `[blocks]`, are expected to take the fewest bits."""
    priors = [Prior.whole(layout), Prior.tensors(sent, layout), Prior.blocks(sent, layout)]
    expected = expected_lengths(priors, sent, layout).tolist()
    lengths = [SCALE_LENGTH + prior.length(layout, plan) + bits for prior, bits in zip(priors, expected, strict=True)]
    if plan.density_classes is not None:
        public = Prior.public(plan, layout)
        grouping = Grouping.of(public.classes, layout)
        counts = np.bincount(public.classes, sent, DENSEST_CLASS + 1).astype(np.int64)[grouping.classes]
        priors.append(public)
        lengths.append(Scale.expected_length(counts, grouping) + public.length(layout, plan))
    return priors[int(np.argmin(lengths))]


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
    def of(cls, candidates: Candidates, blocks: I64, prior: Prior, layout: Layout, plan: Plan) -> "_Fitting":
        """Gather the candidates, which lie in `blocks` int64 `[c]`, and choose the cut."""
        grouping = Grouping.of(prior.classes, layout)
        positions, bits, rank = candidates.indices, candidates.bits, candidates.rank
        if len(grouping.classes) > 1:
            order = np.argsort((DENSEST_CLASS - prior.classes)[blocks], kind="stable")
            positions, bits, rank = grouping.gather(positions, blocks)[order], bits[order], rank[order]
        extents = np.diff(grouping.bounds)
        group = np.repeat(np.arange(len(extents)), np.diff(np.searchsorted(positions, grouping.bounds)))
        binned = Binned.of(bits, group, len(extents))
        prior_bits = prior.length(layout, plan)
        live_groups = int(np.count_nonzero(grouping.classes))
        budget_bits = 8.0 * plan.budget_bytes - prior_bits - FIXED_HEAD_BITS
        cut = choose_cut(binned, extents.astype(np.float64), live_groups, budget_bits)
        return cls(prior, grouping, positions, bits, rank, cut, prior_bits)

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
        chosen = np.flatnonzero(self.rank < count)
        positions, bits = self.positions[chosen], self.bits[chosen]
        gaps = Gaps.of(positions, self.grouping.bounds)
        scale = scale or Scale.shortest(gaps, self.grouping)
        key_groups = self.cut.key_groups
        split = int(gaps.first[key_groups])
        maps: tuple[LevelMap, ...]
        if self.cut.sparse is not None and 0 < split < count:
            maps = LevelMap.of(bits[:split], self.cut.key), LevelMap.of(bits[split:], self.cut.sparse)
        else:
            maps = (LevelMap.of(bits, self.cut.key),)
        return Draft(self.prior, self.grouping, key_groups, positions, gaps, scale, maps, self.prior_bits)


def _in_order(indices: I64, values: F32, layout: Layout) -> SparseUpdate:
    order = np.argsort(indices, kind="stable")
    return SparseUpdate(layout.size, indices[order], values[order])
