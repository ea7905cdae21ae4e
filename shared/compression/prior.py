"""Where a frame's partition of blocks into density classes comes from: the plan, or bytes of the frame itself."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from shared.compression.bits import BitReader, BitWriter
from shared.compression.histogram import BIN_SHIFT
from shared.compression.marks import Marks
from shared.compression.plan import DENSEST_CLASS, Classes, Plan, plan_from_densities
from shared.compression.rice import F64, covering_parameter, decode_gaps, expected_length
from shared.errors import DecodeError
from shared.layout import I64, Layout

DIGEST_BYTES = 2
CLASS_BITS = 3
"""A class in a frame: 0 for dead, 1 to 7 for the densities of classes 2 to 8."""

MARK_PARAMETER_BITS = 4

MOST_SPLITS = 64
"""Numbers of key blocks that are weighed against each other."""


class PriorKind(IntEnum):
    """Two bits: one class for all, a class for each tensor, key blocks marked one by one, or the plan's classes."""

    WHOLE = 0
    TENSORS = 1
    BLOCKS = 2
    PUBLIC = 3


KIND_BITS = 2


@dataclass(frozen=True, slots=True)
class Prior:
    """The density class of every block, uint8 `[blocks]`, and how the receiver comes to know it."""

    kind: PriorKind
    classes: Classes

    @classmethod
    def whole(cls, layout: Layout) -> "Prior":
        """All blocks in one class: two bits."""
        return cls(PriorKind.WHOLE, np.full(layout.num_blocks, DENSEST_CLASS, np.uint8))

    @classmethod
    def public(cls, plan: Plan, layout: Layout) -> "Prior":
        """The plan's classes: two bits and two bytes of the plan's digest; raises `DecodeError` if they do not fit."""
        if plan.density_classes is None or len(plan.density_classes) != layout.num_blocks:
            raise DecodeError(f"the plan does not class the {layout.num_blocks} blocks of this layout: fetch it anew")
        return cls(PriorKind.PUBLIC, plan.density_classes)

    @classmethod
    def tensors(cls, sent: I64, layout: Layout) -> "Prior":
        """A class for each tensor, from the number of values that each block sends: int64 `[blocks]`."""
        counts, sizes = (np.add.reduceat(of_block, layout.tensor_blocks) for of_block in (sent, layout.block_sizes))
        classes = plan_from_densities(counts / sizes)
        return cls(PriorKind.TENSORS, _unfold(_fold(classes)).astype(np.uint8)[layout.block_tensor])

    @classmethod
    def blocks(cls, sent: I64, layout: Layout) -> "Prior":
        """Two classes: the blocks that send most are marked as key, where the marks and both codes are shortest.

        Some block must send something.
        """
        used = sent.nonzero()[0]
        sizes, counts = layout.block_sizes[used].astype(np.float64), sent[used].astype(np.float64)
        cell = _density_cells(sizes, counts)
        extent, count, keys = (_from_densest(cell, weights) for weights in (sizes, counts, None))
        # The ends of the cells that are not empty, or of some of them.
        ends = (keys > np.concatenate([[0.0], keys[:-1]])).nonzero()[0]
        ends = ends[:: 1 + len(ends) // MOST_SPLITS]
        extent, count, keys = extent[ends], count[ends], keys[ends]
        rest, others = layout.size - extent, float(np.add.reduce(counts)) - count
        marks = expected_length(np.array([float(len(sent))]), keys)
        best = int((expected_length(extent, count) + expected_length(rest, others) + marks).argmin())
        densities = np.array([count[best] / extent[best], others[best] / max(rest[best], 1.0)])
        classes = np.full(layout.num_blocks, _unfold(_fold(plan_from_densities(densities)))[1], np.uint8)
        classes[used[cell <= ends[best]]] = DENSEST_CLASS
        return cls(PriorKind.BLOCKS, classes)

    def length(self, layout: Layout, plan: Plan) -> int:
        """Bits that `write` writes."""
        if self.kind is PriorKind.BLOCKS:
            return KIND_BITS + CLASS_BITS + MARK_PARAMETER_BITS + self._marks(layout).length
        tensors = CLASS_BITS * len(layout.tensors)
        return KIND_BITS + {PriorKind.PUBLIC: 8 * DIGEST_BYTES, PriorKind.TENSORS: tensors}.get(self.kind, 0)

    def write(self, writer: BitWriter, layout: Layout, plan: Plan) -> None:
        """Write the kind and whatever the receiver lacks."""
        writer.put(self.kind, KIND_BITS)
        if self.kind is PriorKind.PUBLIC:
            writer.put(int.from_bytes(plan.digest[:DIGEST_BYTES], "big"), 8 * DIGEST_BYTES)
        elif self.kind is PriorKind.TENSORS:
            for value in _fold(self.classes[layout.tensor_blocks]).tolist():
                writer.put(value, CLASS_BITS)
        elif self.kind is PriorKind.BLOCKS:
            writer.put(int(_fold(self.classes).min()), CLASS_BITS)
            marks = self._marks(layout)
            writer.put(marks.parameter, MARK_PARAMETER_BITS)
            writer.put_bits(marks.gaps.encode(np.array([marks.parameter])))

    def _marks(self, layout: Layout) -> Marks:
        """Which blocks are key."""
        marked = (self.classes == DENSEST_CLASS).nonzero()[0]
        return Marks.of(marked, layout.num_blocks, _most_mark_parameter(layout))

    @classmethod
    def read(cls, reader: BitReader, layout: Layout, plan: Plan) -> "Prior":
        """What `write` wrote; raises `DecodeError` if the frame was made with another plan."""
        kind = PriorKind(reader.take(KIND_BITS))
        if kind is PriorKind.WHOLE:
            return cls.whole(layout)
        if kind is PriorKind.PUBLIC:
            digest = reader.take(8 * DIGEST_BYTES).to_bytes(DIGEST_BYTES, "big")
            if digest != plan.digest[:DIGEST_BYTES]:
                raise DecodeError(f"frame of plan {digest.hex()}, this is {plan.digest.hex()}: use that round's plan")
            return cls.public(plan, layout)
        if kind is PriorKind.TENSORS:
            folded = np.array([reader.take(CLASS_BITS) for _ in layout.tensors])
            return cls(kind, _unfold(folded).astype(np.uint8)[layout.block_tensor])
        sparse = _unfold(np.array([reader.take(CLASS_BITS)]))[0]
        parameter = np.array([reader.take(MARK_PARAMETER_BITS)])
        classes = np.full(layout.num_blocks, sparse, np.uint8)
        classes[decode_gaps(reader, np.array([0, layout.num_blocks]), parameter)] = DENSEST_CLASS
        return cls(kind, classes)


def expected_lengths(priors: list[Prior], sent: I64, layout: Layout) -> F64:
    """Expected bits of the positions under each prior, `[priors]`, when each block sends int64 `[blocks]` `sent`."""
    weights = layout.block_sizes.astype(np.float64), sent.astype(np.float64)
    sizes, counts = (np.array([_by_class(prior, weight) for prior in priors]) for weight in weights)
    total: F64 = np.add.reduce(np.where(sizes > 0, expected_length(sizes, counts), 0.0), axis=1)
    return total


def _by_class(prior: Prior, of_block: F64) -> F64:
    """The sum of what belongs to the blocks of each class: float64 `[classes]`."""
    if prior.kind is PriorKind.WHOLE:
        whole = np.zeros(DENSEST_CLASS + 1)
        whole[DENSEST_CLASS] = np.add.reduce(of_block)
        return whole
    by_class: F64 = np.bincount(prior.classes, of_block, DENSEST_CLASS + 1).astype(np.float64, copy=False)
    return by_class


def split_lengths(extent: F64, count: F64) -> F64:
    """Expected bits of two regions cut after each of the groups, whose sizes and counts add up to these: `[groups]`."""
    return expected_length(extent, count) + expected_length(extent[-1] - extent, count[-1] - count)


def _density_cells(sizes: F64, counts: F64) -> I64:
    """The cell of each block by its density `counts / sizes` float64 `[b]`, 16 to an octave: 0 for the densest."""
    bins = ((counts / sizes).astype(np.float32).view(np.uint32) >> BIN_SHIFT).astype(np.int64)
    return int(bins.max()) - bins


def _from_densest(cell: I64, weights: F64 | None) -> F64:
    """The sum of what belongs to the densest cells, or the number of them, for each cell: float64 `[cells]`."""
    summed: F64 = np.bincount(cell, weights).astype(np.float64, copy=False)
    return summed.cumsum()


def _fold(classes: Classes) -> I64:
    return np.maximum(classes.astype(np.int64) - 1, 0)


def _unfold(folded: I64) -> I64:
    return np.where(folded > 0, folded + 1, 0)


def _most_mark_parameter(layout: Layout) -> int:
    return min(covering_parameter(layout.num_blocks), (1 << MARK_PARAMETER_BITS) - 1)
