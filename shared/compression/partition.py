"""The partition codec: key and sparse regions by predicted density, one threshold, few magnitudes, Rice-coded gaps.

The division of the gradient into a key and a sparse region by its predicted distribution, and an entropy-made threshold
for what is sent of them, are from J. Guo, Z. Liu, L. Zhang, A Partition Based Gradient Compression Algorithm for
Distributed Training in AIoT, Sensors 2021, 21(6), 1943. Everything more exact is our own.
"""

from dataclasses import dataclass, replace

import numpy as np

from shared.compression.axis import Axis
from shared.compression.bits import BitReader
from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.dense import DENSE_WIRE_ID, DenseCodec, dense_bytes
from shared.compression.fitting import Fitting
from shared.compression.frame import PARTITION_WIRE_ID, Content, Draft, read_content
from shared.compression.history import SendHistory
from shared.compression.magnitudes import MOST_LEVELS
from shared.compression.plan import Plan
from shared.compression.prior import Prior, PriorKind, expected_lengths, is_of_client
from shared.compression.priority import expected_left, heights, priorities
from shared.compression.scale import SCALE_LENGTH, Scale
from shared.compression.sieve import Candidates, likely_count, sieve
from shared.compression.threshold import CutLimits
from shared.errors import DecodeError
from shared.layout import F32, I64, Layout

ZERO = np.zeros(1, np.int64)
EMPTY_FRAME = bytes([PARTITION_WIRE_ID])
HISTORY_FAVOUR = 7 / 8


@dataclass(frozen=True)
class PartitionCodec:
    """Sends the largest values by regions of predicted density; the plan's classes are the prior, if it has any.

    With fewer `levels` of magnitude, 1 at the least, or without `regions` of their own levels it shows what these are
    worth; the receiver need not know.
    """

    levels: int = MOST_LEVELS
    regions: bool = True
    name = "partition"
    wire_id = PARTITION_WIRE_ID

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        """At most `plan.budget_bytes`; a dense frame where that fits. Raises `ValueError` on NaN or infinity.

        Where the plan's classes serve worse than a partition paid for in the frame, the frame pays. Raises
        `DecodeError` when the plan is one for another layout.
        """
        if dense_bytes(layout) <= plan.budget_bytes:
            return DenseCodec().encode(update, layout, plan)
        if plan.chance_exponent is None:
            return self._encode_largest(update, layout, plan)
        return self._encode_by_chance(update, layout, plan, plan.chance_exponent)

    def _encode_by_chance(self, update: F32, layout: Layout, plan: Plan, exponent: float) -> Encoded:
        """Values by priority: first chosen as if priorities were magnitudes, then sent as high as chance asks."""
        chosen = self._encode_largest(priorities(update, layout, exponent), layout, plan)
        if not len(chosen.delivered.indices):
            return replace(chosen, left=update.reshape(-1))
        raised = heights(update, chosen.delivered, chosen.threshold)
        encoded = self._encode_largest(raised, layout, plan)
        return replace(encoded, left=expected_left(update, encoded.delivered, chosen.threshold, exponent))

    def _encode_largest(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        limits = CutLimits(self.levels, self.regions)

        def fill(candidates: Candidates) -> _Filled | None:
            return _fill(layout, plan, limits, candidates)

        filled = sieve(update, layout, plan.budget_bytes, fill)
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
        return decode_regions(frame, layout, plan)[0]


@dataclass(frozen=True, slots=True)
class _Filled:
    """A draft that keeps to the budget, and the candidates that it chose from."""

    draft: Draft
    candidates: Candidates

    @property
    def count(self) -> int:
        return self.draft.count


def _fill(layout: Layout, plan: Plan, limits: CutLimits, candidates: Candidates) -> _Filled | None:
    """The draft that fills the budget under whichever prior is expected to serve best."""
    runs = candidates.indices.searchsorted(layout.block_starts)
    likely = candidates.about_first(likely_count(layout.size, plan.budget_bytes))
    before = np.concatenate([ZERO, likely.cumsum()])[runs]
    prior, axis = _shortest_prior(before[1:] - before[:-1], candidates.indices[likely], layout, plan)
    draft = Fitting.of(candidates, runs, prior, axis, layout, plan, limits).fill(plan)
    if draft is None and prior.kind is not PriorKind.WHOLE:
        whole = Prior.whole(layout)
        draft = Fitting.of(candidates, runs, whole, whole.axis(layout), layout, plan, limits).fill(plan)
    return None if draft is None else _Filled(draft, candidates)


def _shortest_prior(sent: I64, indices: I64, layout: Layout, plan: Plan) -> tuple[Prior, Axis]:
    """The prior under which values at `indices` int64 `[k]` take the fewest bits, and its axis.

    `sent` int64 `[blocks]` counts them by block. A client's history is given up only where it misleads, since it begins
    anew when it is not used.
    """
    priors = [Prior.whole(layout), Prior.tensors(sent, layout), Prior.blocks(sent, layout)]
    expected = expected_lengths(priors, sent, layout).tolist()
    lengths = [SCALE_LENGTH + prior.length(layout, plan) + bits for prior, bits in zip(priors, expected, strict=True)]
    shared = Prior.shared(plan, layout)
    if shared is not None:
        axis = shared.axis(layout)
        counts = shared.class_counts(indices, sent)[axis.classes]
        length = Scale.expected_length(counts, axis) + shared.length(layout, plan)
        if length * (HISTORY_FAVOUR if shared.kind is PriorKind.CLIENT else 1) < min(lengths):
            return shared, axis
    best = priors[lengths.index(min(lengths))]
    return best, best.axis(layout)


def read_frame(frame: bytes, layout: Layout, plan: Plan) -> Content | None:
    """The content of a partition frame, None if it delivers nothing; raises `DecodeError`."""
    if frame == EMPTY_FRAME:
        return None
    if frame[:1] != EMPTY_FRAME or len(frame) >= dense_bytes(layout):
        raise DecodeError(f"{len(frame)} bytes are no partition frame of a layout of {layout.size} values")
    return read_content(BitReader(frame[1:]), layout, plan)


def decode_regions(frame: bytes, layout: Layout, plan: Plan) -> tuple[SparseUpdate, int]:
    """The values of a partition frame, and how many of them are in its key region; raises `DecodeError`."""
    content = read_frame(frame, layout, plan)
    if content is None:
        return SparseUpdate.nothing(layout.size), 0
    order, indices = content.regions.axis.scatter(content.positions)
    return SparseUpdate(layout.size, indices, content.values.take(order)), content.key_count


def history_after(history: SendHistory, frame: bytes, sent: I64, layout: Layout) -> SendHistory:
    """A client's history once a frame that sends values at `sent` int64 `[k]` was accepted.

    It begins anew with a frame that was made without it: so both ends agree again after either has lost it.
    """
    known = frame[:1] == EMPTY_FRAME and len(frame) > 1 and is_of_client(BitReader(frame[1:2]))
    return (history if known else SendHistory.empty(layout)).after(sent, layout)


def _delivered(members: I64, values: F32, candidates: Candidates, layout: Layout) -> SparseUpdate:
    """The values float32 `[k]` of the candidates `members` int64 `[k]`, in the order of the layout."""
    sent, value = np.zeros(len(candidates.indices), np.bool_), np.empty(len(candidates.indices), np.float32)
    sent[members], value[members] = True, values
    chosen = sent.nonzero()[0]
    return SparseUpdate(layout.size, candidates.indices.take(chosen), value.take(chosen))
