"""AdaComp: in every bin the values that this round's gradient could lift above the bin's largest, as ternary values.

C.-Y. Chen, J. Choi, D. Brand, A. Agrawal, W. Zhang, K. Gopalakrishnan, AdaComp: Adaptive Residual Gradient Compression
for Data-Parallel Distributed Training, AAAI 2018.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.histogram import U32, magnitude_bits, signs
from shared.compression.magnitudes import mean_bits
from shared.compression.plan import Plan
from shared.compression.rice import F64
from shared.compression.ternary_frame import TernaryDraft, read_ternary
from shared.layout import F32, I64, Layout, TensorSpec

ADACOMP_WIRE_ID = 8
CONVOLUTION_BIN = 50
OTHER_BIN = 500


@dataclass(frozen=True, eq=False)
class AdaCompCodec:
    """Sends |residual + 2 · latest| ≥ the bin's largest |residual + latest|, as the mean of the tensor's largest.

    `latest` float32 `[layout.size]` is the local update of this round alone; without it the residual is taken to be 0,
    which is so in the first round. Bins are 50 values in convolutions and 500 elsewhere; where the frame is above the
    budget they are doubled, up to one bin a tensor.
    """

    latest: F32 | None = None
    name = "adacomp"
    wire_id = ADACOMP_WIRE_ID

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        """The sum of residual and latest, sieved; the largest bins may still miss the budget.

        Raises `ValueError` on NaN, infinity or another size.
        """
        bits = magnitude_bits(update, layout)
        total = update.reshape(-1)
        latest = total if self.latest is None else self.latest.reshape(-1)
        doublings, largest = 0, max(tensor.size for tensor in layout.tensors)
        draft = _draft(total, latest, bits, bin_starts(layout, 1), layout)
        while draft.length > 8 * plan.budget_bytes and CONVOLUTION_BIN << doublings < largest:
            doublings += 1
            draft = _draft(total, latest, bits, bin_starts(layout, 1 << doublings), layout)
        return draft.finish(ADACOMP_WIRE_ID, layout)

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        """What `encode` delivered; raises `DecodeError` on anything else. The plan is not used."""
        return read_ternary(frame, ADACOMP_WIRE_ID, layout)


def bin_starts(layout: Layout, factor: int) -> I64:
    """Where bins begin: int64 `[bins]`, the paper's sizes times `factor`; no bin reaches into another tensor."""
    starts = [
        start
        for tensor, offset in zip(layout.tensors, layout.offsets, strict=False)
        for start in range(offset, offset + tensor.size, factor * _bin_size(tensor))
    ]
    return np.array(starts)


def selected(total: F64, latest: F64, largest: F64) -> I64:
    """The indices where |total + latest| reaches the bin's `largest` |total|; all float64 `[n]`."""
    return np.flatnonzero((np.abs(total + latest) >= largest) & (total != 0))


def _draft(total: F32, latest: F32, bits: U32, starts: I64, layout: Layout) -> TernaryDraft:
    largest = np.maximum.reduceat(bits, starts)
    in_bin = np.repeat(largest.view(np.float32), np.diff(starts, append=layout.size))
    indices = selected(total.astype(np.float64), latest.astype(np.float64), in_bin.astype(np.float64))
    cuts = np.searchsorted(starts, layout.offsets)
    patterns = [mean_bits(largest[first:end]) for first, end in pairwise(cuts.tolist())]
    return TernaryDraft.of(indices, np.array(patterns, np.uint32), signs(total, indices), layout)


def _bin_size(tensor: TensorSpec) -> int:
    return CONVOLUTION_BIN if len(tensor.shape) > 2 else OTHER_BIN
