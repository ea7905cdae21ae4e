"""Where a frame's partition of blocks into density classes comes from: the plan, or bytes of the frame itself."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from shared.compression.bits import BitReader, BitWriter
from shared.compression.histogram import BIN_SHIFT
from shared.compression.plan import DENSEST_CLASS, Classes, Plan, plan_from_densities
from shared.compression.rice import F64, Marks, covering_parameter, decode_gaps, expected_length
from shared.errors import DecodeError
from shared.layout import I64, Layout

DIGEST_BYTES = 2
CLASS_BITS = 3
"""A class in a frame: 0 for dead, 1 to 7 for the densities of classes 2 to 8."""

MARK_PARAMETER_BITS = 4

LEAST_DENSITY_BIN = (127 - 11 << 23) // (1 << BIN_SHIFT)
"""Below the least density of a block, which has at most 1024 values."""

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
        cell, sizes, counts, blocks = _density_cells(sent, layout)
        extent, count, keys = (of_cell[::-1].cumsum() for of_cell in (sizes, counts, blocks))
        # Without blocks that send nothing, and with all others as key at the most.
        used = (blocks[:0:-1]).nonzero()[0]
        used = used[:: 1 + len(used) // MOST_SPLITS]
        key_extent, key_count = extent[used], count[used]
        marks = expected_length(np.array([float(len(sent))]), keys[used])
        apart = expected_length(extent[-1] - key_extent, count[-1] - key_count)
        best = int((expected_length(key_extent, key_count) + apart + marks).argmin())
        dense = float(key_count[best] / key_extent[best])
        rest = float((count[-1] - key_count[best]) / max(extent[-1] - key_extent[best], 1.0))
        sparse = _unfold(_fold(plan_from_densities(np.array([dense, rest]))))[1]
        return cls(PriorKind.BLOCKS, np.where(cell >= len(blocks) - 1 - used[best], DENSEST_CLASS, sparse).astype(np.uint8))

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
    sizes, counts = (
        np.array([np.bincount(prior.classes, weight, DENSEST_CLASS + 1) for prior in priors]) for weight in weights
    )
    total: F64 = np.add.reduce(np.where(sizes > 0, expected_length(sizes, counts), 0.0), axis=1)
    return total


def split_lengths(extent: F64, count: F64) -> F64:
    """Expected bits of two regions cut after each of the groups, whose sizes and counts add up to these: `[groups]`."""
    return expected_length(extent, count) + expected_length(extent[-1] - extent, count[-1] - count)


def _density_cells(sent: I64, layout: Layout) -> tuple[I64, F64, F64, F64]:
    """The cell of each block by its density, 16 to an octave and above cell 0 for none: int64 `[blocks]`.

    And of each cell the values, those that are sent, and the blocks: float64 `[cells]`.
    """
    sizes, counts = layout.block_sizes.astype(np.float64), sent.astype(np.float64)
    cell = ((counts / sizes).astype(np.float32).view(np.uint32) >> BIN_SHIFT).astype(np.int64)
    cell = np.maximum(cell - LEAST_DENSITY_BIN, 0)
    blocks = np.bincount(cell).astype(np.float64)
    return cell, np.bincount(cell, sizes), np.bincount(cell, counts), blocks


def _fold(classes: Classes) -> I64:
    return np.maximum(classes.astype(np.int64) - 1, 0)


def _unfold(folded: I64) -> I64:
    return np.where(folded > 0, folded + 1, 0)


def _most_mark_parameter(layout: Layout) -> int:
    return min(covering_parameter(layout.num_blocks), (1 << MARK_PARAMETER_BITS) - 1)
