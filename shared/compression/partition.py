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
from shared.compression.fitting import Fitting
from shared.compression.frame import PARTITION_WIRE_ID, Content, Draft, read_content
from shared.compression.grouping import Grouping
from shared.compression.plan import DENSEST_CLASS, Plan
from shared.compression.prior import Prior, PriorKind, expected_lengths
from shared.compression.scale import SCALE_LENGTH, Scale
from shared.compression.sieve import Candidates, likely_count, sieve
from shared.errors import DecodeError
from shared.layout import F32, I64, Layout

ZERO = np.zeros(1, np.int64)
EMPTY_FRAME = bytes([PARTITION_WIRE_ID])


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
        filled = sieve(update, layout, plan.budget_bytes, partial(_fill, layout, plan))
        if filled is None:
            return Encoded(EMPTY_FRAME, SparseUpdate.nothing(layout.size))
        draft, candidates = filled.draft, filled.candidates
        frame, values = draft.write(candidates.negative(draft.members), layout, plan)
        delivered = _delivered(draft.members, values, candidates, layout)
        return Encoded(frame, delivered, draft.threshold)

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        """The values of a partition frame, or of a dense one; raises `DecodeError` on anything else."""
        if frame[:1] == bytes([DENSE_WIRE_ID]):
            return DenseCodec().decode(frame, layout, plan)
        content = read_frame(frame, layout, plan)
        if content is None:
            return SparseUpdate.nothing(layout.size)
        order, indices = content.regions.grouping.scatter(content.positions)
        return SparseUpdate(layout.size, indices, content.values.take(order))


@dataclass(frozen=True, slots=True)
class _Filled:
    """A draft that keeps to the budget, and the candidates that it chose from."""

    draft: Draft
    candidates: Candidates

    @property
    def count(self) -> int:
        return self.draft.count


def _fill(layout: Layout, plan: Plan, candidates: Candidates) -> _Filled | None:
    """The draft that fills the budget under whichever prior is expected to serve best."""
    runs = candidates.indices.searchsorted(layout.block_starts)
    likely = candidates.about_first(likely_count(layout.size, plan.budget_bytes))
    before = np.concatenate([ZERO, likely.cumsum()])[runs]
    prior, grouping = _shortest_prior(before[1:] - before[:-1], layout, plan)
    draft = Fitting.of(candidates, runs, prior, grouping, layout, plan).fill(plan)
    if draft is None and prior.kind is not PriorKind.WHOLE:
        whole = Prior.whole(layout)
        draft = Fitting.of(candidates, runs, whole, Grouping.of(whole.classes, layout), layout, plan).fill(plan)
    return None if draft is None else _Filled(draft, candidates)


def _shortest_prior(sent: I64, layout: Layout, plan: Plan) -> tuple[Prior, Grouping]:
    """The prior under which so many values of each block, int64 `[blocks]`, take the fewest bits, and its grouping."""
    priors = [Prior.whole(layout), Prior.tensors(sent, layout), Prior.blocks(sent, layout)]
    expected = expected_lengths(priors, sent, layout).tolist()
    lengths = [SCALE_LENGTH + prior.length(layout, plan) + bits for prior, bits in zip(priors, expected, strict=True)]
    best = priors[lengths.index(min(lengths))]
    if plan.density_classes is not None:
        public = Prior.public(plan, layout)
        grouping = Grouping.of(public.classes, layout)
        counts = np.bincount(public.classes, sent, DENSEST_CLASS + 1).astype(np.int64)[grouping.classes]
        if Scale.expected_length(counts, grouping) + public.length(layout, plan) < min(lengths):
            return public, grouping
    return best, Grouping.of(best.classes, layout)


def read_frame(frame: bytes, layout: Layout, plan: Plan) -> Content | None:
    """The content of a partition frame, None if it delivers nothing; raises `DecodeError`."""
    if frame == EMPTY_FRAME:
        return None
    if frame[:1] != EMPTY_FRAME or len(frame) >= dense_bytes(layout):
        raise DecodeError(f"{len(frame)} bytes are no partition frame of a layout of {layout.size} values")
    return read_content(BitReader(frame[1:]), layout, plan)


def _delivered(members: I64, values: F32, candidates: Candidates, layout: Layout) -> SparseUpdate:
    """The values float32 `[k]` of the candidates `members` int64 `[k]`, in the order of the layout."""
    sent, value = np.zeros(len(candidates.indices), np.bool_), np.empty(len(candidates.indices), np.float32)
    sent[members], value[members] = True, values
    chosen = sent.nonzero()[0]
    return SparseUpdate(layout.size, candidates.indices.take(chosen), value.take(chosen))
