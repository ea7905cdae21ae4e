"""Where a frame's partition into density classes comes from: plan and history, or bytes of the frame itself."""

import hashlib
import math
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np

from shared.compression.axis import Axis
from shared.compression.bits import BitReader, BitWriter
from shared.compression.density import value_classes
from shared.compression.grouping import Grouping
from shared.compression.histogram import BIN_SHIFT
from shared.compression.marks import Marks
from shared.compression.plan import DENSEST_CLASS, NUM_CLASSES, Classes, Plan, plan_from_densities
from shared.compression.rice import F64, LN_2, covering_parameter, decode_gaps, expected_length
from shared.compression.value_grouping import ValueGrouping
from shared.errors import DecodeError
from shared.layout import I64, Layout

CHECK_BITS = 8
"""The update's header tells the round and so the plan, the command the history: this only catches a mix-up."""

CLASS_BITS = 3
"""A class in a frame: 0 for dead, 1 to 7 for the densities of classes 2 to 8."""

LEAST_LIVE_CLASS = 2

MARK_PARAMETER_BITS = 4

MOST_SPLITS = 64
"""Numbers of key blocks that are weighed against each other."""


class PriorKind(IntEnum):
    """One class for all, a class for each tensor, key blocks marked one by one, the plan's classes, or history's too.

    Two bits tell the first four; the last is the fourth with a one bit after it, where the fourth has a zero bit.
    """

    WHOLE = 0
    TENSORS = 1
    BLOCKS = 2
    PUBLIC = 3
    CLIENT = 4


KIND_BITS = 2
SHARED = (PriorKind.PUBLIC, PriorKind.CLIENT)


@dataclass(frozen=True)
class Prior:
    """The density class of every block, uint8 `[blocks]`, and how the receiver comes to know it.

    Where columns tell values apart, `by_value`, it is the class of every value: uint8 `[size]`.
    """

    kind: PriorKind
    classes: Classes
    by_value: bool = False

    def axis(self, layout: Layout) -> Axis:
        """The values of `layout`, gathered by these classes."""
        return self._values if self.by_value else Grouping.of(self.classes, layout)

    @cached_property
    def sizes(self) -> I64:
        """How many values, or blocks where it is not `by_value`, each class has: int64 `[classes]`."""
        if not self.by_value:
            return np.bincount(self.classes, minlength=NUM_CLASSES)
        sizes = np.zeros(NUM_CLASSES, np.int64)
        sizes[self._values.classes] = np.diff(self._values.bounds)
        return sizes

    @cached_property
    def _values(self) -> ValueGrouping:
        return ValueGrouping.of(self.classes)

    def class_counts(self, indices: I64, sent: I64) -> I64:
        """Values of each class among those at `indices` int64 `[k]`, which `sent` int64 `[blocks]` counts by block."""
        if self.by_value:
            return np.bincount(self.classes[indices], minlength=NUM_CLASSES)
        return np.bincount(self.classes, sent, NUM_CLASSES).astype(np.int64)

    @classmethod
    def whole(cls, layout: Layout) -> "Prior":
        """All blocks in one class: two bits."""
        return cls(PriorKind.WHOLE, np.full(layout.num_blocks, DENSEST_CLASS, np.uint8))

    @classmethod
    def shared(cls, plan: Plan, layout: Layout) -> "Prior | None":
        """What both ends know from `plan` and the history in it, None where that is nothing.

        Raises `DecodeError` where the plan is one for another layout.
        """
        history, classes, steps = plan.history, plan.density_classes, plan.column_steps
        if classes is not None and len(classes) != layout.num_blocks:
            raise DecodeError(f"the plan does not class the {layout.num_blocks} blocks of this layout: fetch it anew")
        if steps is not None and len(steps) != layout.num_columns:
            raise DecodeError(f"the plan has no {layout.num_columns} columns as this layout has: fetch it anew")
        if history is not None and not history.is_empty:
            return cls(PriorKind.CLIENT, value_classes(plan, layout), by_value=True)
        if steps is not None:
            return cls(PriorKind.PUBLIC, value_classes(plan, layout), by_value=True)
        return None if classes is None else cls(PriorKind.PUBLIC, classes)

    @classmethod
    def tensors(cls, sent: I64, layout: Layout) -> "Prior":
        """A class for each tensor, from the number of values that each block sends: int64 `[blocks]`."""
        counts, sizes = (np.add.reduceat(of_block, layout.tensor_blocks) for of_block in (sent, layout.block_sizes))
        classes = _revived(plan_from_densities(counts / sizes), sizes, counts)
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
        best = int((_both_lengths(extent, count, rest, others) + marks).argmin())
        sparse = _sparse_class(*(int(of_split[best]) for of_split in (extent, count, rest, others)))
        classes = np.full(layout.num_blocks, sparse, np.uint8)
        classes[used[cell <= ends[best]]] = DENSEST_CLASS
        return cls(PriorKind.BLOCKS, classes)

    def length(self, layout: Layout, plan: Plan) -> int:
        """Bits that `write` writes."""
        if self.kind is PriorKind.BLOCKS:
            return KIND_BITS + CLASS_BITS + MARK_PARAMETER_BITS + self._marks(layout).length
        if self.kind is PriorKind.TENSORS:
            return KIND_BITS + CLASS_BITS * len(layout.tensors)
        return KIND_BITS + (1 + CHECK_BITS if self.kind in SHARED else 0)

    def write(self, writer: BitWriter, layout: Layout, plan: Plan) -> None:
        """Write the kind and whatever the receiver lacks."""
        writer.put(min(self.kind, PriorKind.PUBLIC), KIND_BITS)
        if self.kind in SHARED:
            writer.put(self.kind is PriorKind.CLIENT, 1)
            writer.put(_check(self, plan), CHECK_BITS)
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
            return cls._read_shared(PriorKind.CLIENT if reader.take(1) else kind, reader, layout, plan)
        if kind is PriorKind.TENSORS:
            folded = np.array([reader.take(CLASS_BITS) for _ in layout.tensors])
            return cls(kind, _unfold(folded).astype(np.uint8)[layout.block_tensor])
        sparse = _unfold(np.array([reader.take(CLASS_BITS)]))[0]
        parameter = np.array([reader.take(MARK_PARAMETER_BITS)])
        classes = np.full(layout.num_blocks, sparse, np.uint8)
        classes[decode_gaps(reader, np.array([0, layout.num_blocks]), parameter)] = DENSEST_CLASS
        return cls(kind, classes)

    @classmethod
    def _read_shared(cls, kind: PriorKind, reader: BitReader, layout: Layout, plan: Plan) -> "Prior":
        check = reader.take(CHECK_BITS)
        prior = cls.shared(plan if kind is PriorKind.CLIENT else plan.knowing(None), layout)
        if prior is None or prior.kind is not kind:
            raise DecodeError(f"frame with the prior {kind.name.lower()}, of which the receiver knows nothing")
        if check != _check(prior, plan):
            what = "plan" if kind is PriorKind.PUBLIC else "plan or history of sends"
            raise DecodeError(f"frame of another {what} than the receiver's: it must be that round's plan")
        return prior


def is_of_client(reader: BitReader) -> bool:
    """Whether the prior that comes next is that of the client's history."""
    return reader.take(KIND_BITS) == PriorKind.PUBLIC and reader.take(1) == 1


def _check(prior: Prior, plan: Plan) -> int:
    """What a frame carries so that one made with another plan, history or arithmetic of classes is likely refused."""
    tag = plan.history.tag if prior.kind is PriorKind.CLIENT and plan.history is not None else b""
    return hashlib.sha256(plan.digest + tag + prior.sizes.astype("<i8").tobytes()).digest()[0]


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
    return _both_lengths(extent, count, extent[-1] - extent, count[-1] - count)


def _both_lengths(extent: F64, count: F64, rest: F64, others: F64) -> F64:
    """Expected bits of two regions, `[splits]`: looked up at once, for few splits take no longer than one."""
    both: F64 = expected_length(np.concatenate([extent, rest]), np.concatenate([count, others]))
    return both[: len(extent)] + both[len(extent) :]


def _density_cells(sizes: F64, counts: F64) -> I64:
    """The cell of each block by its density `counts / sizes` float64 `[b]`, 16 to an octave: 0 for the densest."""
    bins = ((counts / sizes).astype(np.float32).view(np.uint32) >> BIN_SHIFT).astype(np.int64)
    return int(bins.max()) - bins


def _from_densest(cell: I64, weights: F64 | None) -> F64:
    """The sum of what belongs to the densest cells, or the number of them, for each cell: float64 `[cells]`."""
    summed: F64 = np.bincount(cell, weights).astype(np.float64, copy=False)
    return summed.cumsum()


def _sparse_class(extent: int, count: int, rest: int, others: int) -> int:
    """The class for blocks of `rest` values that send `others`, when key blocks of `extent` values send `count`.

    It is the one whose Rice parameter, which follows from that of the key blocks, is shortest: dead blocks have one
    that suits no more than a few values.
    """
    covering = covering_parameter(rest)
    key = max(math.frexp(LN_2 * extent / count)[1] - 1, 0)
    lengths = {0: others * (covering + 1) + 1}
    for density in range(LEAST_LIVE_CLASS, DENSEST_CLASS + 1):
        parameter = min(key + DENSEST_CLASS - density, covering)
        lengths[density] = others * (parameter + 1) + (rest >> parameter)
    return min(lengths, key=lengths.__getitem__)


def _revived(classes: Classes, sizes: I64, counts: I64) -> Classes:
    """The classes of tensors, with class 2 for those dead or of class 1 that send enough to be shorter so."""
    faint = classes < LEAST_LIVE_CLASS
    sending = (faint & (counts > 0)).nonzero()[0]
    if not len(sending):
        return classes
    key = max(math.frexp(LN_2 / float((counts / sizes).max()))[1] - 1, 0)
    covering = covering_parameter(int(np.add.reduce(sizes[faint])))
    parameter = min(key + DENSEST_CLASS - LEAST_LIVE_CLASS, covering)
    saved = counts[sending] * (covering - parameter) - (sizes[sending] >> parameter)
    revived = classes.copy()
    revived[sending[saved > 0]] = LEAST_LIVE_CLASS
    return revived


def _fold(classes: Classes) -> I64:
    return np.maximum(classes.astype(np.int64) - 1, 0)


def _unfold(folded: I64) -> I64:
    return np.where(folded > 0, folded + 1, 0)


def _most_mark_parameter(layout: Layout) -> int:
    return min(covering_parameter(layout.num_blocks), (1 << MARK_PARAMETER_BITS) - 1)
