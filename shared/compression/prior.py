"""Where a frame's partition of blocks into density classes comes from: the plan, or bytes of the frame itself."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from shared.compression.bits import BitReader, BitWriter
from shared.compression.plan import DENSEST_CLASS, Classes, Plan, plan_from_densities
from shared.compression.rice import F64, Gaps, covering_parameter, decode_gaps, expected_length
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
        tensors = len(layout.tensors)
        counts = np.bincount(layout.block_tensor, weights=sent, minlength=tensors)
        classes = plan_from_densities(counts / np.diff(layout.offsets))
        return cls(PriorKind.TENSORS, _unfold(_fold(classes)).astype(np.uint8)[layout.block_tensor])

    @classmethod
    def blocks(cls, sent: I64, layout: Layout) -> "Prior":
        """Two classes: the blocks that send most are marked as key, where the marks and both codes are shortest.

        Some block must send something.
        """
        sizes = np.diff(layout.block_starts).astype(np.float64)
        used = np.flatnonzero(sent)
        order = used[np.argsort(-(sent[used] / sizes[used]), kind="stable")]
        keys = np.arange(1, len(order) + 1, 1 + len(order) // MOST_SPLITS)
        extent = np.append(np.cumsum(sizes[order])[keys - 1], float(layout.size))
        count = np.append(np.cumsum(sent[order])[keys - 1], sent.sum()).astype(np.float64)
        extents = np.stack([extent[:-1], extent[-1] - extent[:-1], np.full(len(keys), float(len(sent)))])
        counts = np.stack([count[:-1], count[-1] - count[:-1], keys])
        best = int(expected_length(extents, counts).sum(axis=0).argmin())
        rest = (count[-1] - count[best]) / max(extent[-1] - extent[best], 1.0)
        ratio = plan_from_densities(np.array([count[best] / extent[best], rest]))
        classes = np.full(layout.num_blocks, _unfold(_fold(ratio))[1], np.uint8)
        classes[order[: keys[best]]] = DENSEST_CLASS
        return cls(PriorKind.BLOCKS, classes)

    def length(self, layout: Layout, plan: Plan) -> int:
        """Bits that `write` writes."""
        if self.kind is PriorKind.BLOCKS:
            return KIND_BITS + CLASS_BITS + MARK_PARAMETER_BITS + self._marks(layout)[2]
        tensors = CLASS_BITS * len(layout.tensors)
        return KIND_BITS + {PriorKind.PUBLIC: 8 * DIGEST_BYTES, PriorKind.TENSORS: tensors}.get(self.kind, 0)

    def write(self, writer: BitWriter, layout: Layout, plan: Plan) -> None:
        """Write the kind and whatever the receiver lacks."""
        writer.put(self.kind, KIND_BITS)
        if self.kind is PriorKind.PUBLIC:
            writer.put(int.from_bytes(plan.digest[:DIGEST_BYTES], "big"), 8 * DIGEST_BYTES)
        elif self.kind is PriorKind.TENSORS:
            for value in _fold(self.classes[np.searchsorted(layout.block_starts, layout.offsets[:-1])]).tolist():
                writer.put(value, CLASS_BITS)
        elif self.kind is PriorKind.BLOCKS:
            writer.put(int(_fold(self.classes).min()), CLASS_BITS)
            marks, parameter, _ = self._marks(layout)
            writer.put(parameter, MARK_PARAMETER_BITS)
            writer.put_bits(marks.encode(np.array([parameter])))

    def _marks(self, layout: Layout) -> tuple[Gaps, int, int]:
        """Which blocks are key, the Rice parameter of this, and the bits."""
        marks = Gaps.within(np.flatnonzero(self.classes == DENSEST_CLASS), layout.num_blocks)
        return marks, *marks.shortest_parameter(_most_mark_parameter(layout))

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
    shape = len(priors), DENSEST_CLASS + 1
    cells = np.concatenate([prior.classes + DENSEST_CLASS * row + row for row, prior in enumerate(priors)])
    sizes = np.bincount(cells, np.tile(np.diff(layout.block_starts), len(priors)), shape[0] * shape[1])
    counts = np.bincount(cells, np.tile(sent, len(priors)), shape[0] * shape[1])
    lengths = expected_length(sizes.astype(np.float64), counts.astype(np.float64))
    total: F64 = np.where(sizes > 0, lengths, 0.0).reshape(shape).sum(axis=1)
    return total


def split_lengths(extent: F64, count: F64) -> F64:
    """Expected bits of two regions cut after each of the groups, whose sizes and counts add up to these: `[groups]`."""
    extents, counts = np.stack([extent, extent[-1] - extent]), np.stack([count, count[-1] - count])
    lengths: F64 = expected_length(extents, counts).sum(axis=0)
    return lengths


def _fold(classes: Classes) -> I64:
    return np.maximum(classes.astype(np.int64) - 1, 0)


def _unfold(folded: I64) -> I64:
    return np.where(folded > 0, folded + 1, 0)


def _most_mark_parameter(layout: Layout) -> int:
    return min(covering_parameter(layout.num_blocks), (1 << MARK_PARAMETER_BITS) - 1)
